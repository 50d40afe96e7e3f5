package embedded

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/schema"
)

// fixing makes every tag of fixed immutable, and limits team.
func fixing() []Change {
	limit := schema.Size(1 << 20)
	return []Change{
		{Object: schema.Resource{Key: schema.Key{Kind: schema.KindImmutable, Name: "fixed"}, Spec: &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "*"}}}}},
		{Object: schema.Resource{Key: schema.Key{Kind: schema.KindQuota, Name: "team"}, Spec: &schema.Quota{Limit: &limit}}},
	}
}

// wantOCI wants one of the statuses and, with an error, an OCI error.
func wantOCI(t *testing.T, what string, w *httptest.ResponseRecorder, statuses ...int) {
	t.Helper()
	if !slices.Contains(statuses, w.Code) {
		t.Errorf("%s: %d %s, want %v", what, w.Code, w.Body, statuses)
		return
	}
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	if w.Code >= http.StatusBadRequest && (json.Unmarshal(w.Body.Bytes(), &answer) != nil || len(answer.Errors) == 0 || answer.Errors[0].Code == "" || answer.Errors[0].Code == "UNKNOWN") {
		t.Errorf("%s: %d %q is no OCI error", what, w.Code, w.Body)
	}
}

func TestWhatIsNeitherTagNorDigestIsToldSo(t *testing.T) {
	r := openInside(t, fixing()...)
	const index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	for _, namespace := range []string{"fixed", "team"} {
		for _, reference := range []string{
			"v1;x", "ü", "latest\n", "a b", "%", "\x00", "<x>", ".x", "-x", strings.Repeat("a", 129), "sha256:zz", "sha256:", ":", "md5:d41d8cd98f00b204e9800998ecf8427e",
			"sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("a", 65), "sha999:" + strings.Repeat("a", 64), "a\\b", "a?b", "\xff",
		} {
			for _, of := range []string{"manifests", "blobs", "referrers"} {
				for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
					what := method + " " + of + " " + reference
					w := r.ask(method, "dev", "/v2/"+namespace+"/q/"+of+"/"+strings.ReplaceAll(reference, "?", ""), imagespec.MediaTypeImageIndex, strings.NewReader(index))
					switch {
					case of != "manifests" && method == "PUT", of == "referrers" && method == "DELETE":
						wantOCI(t, what, w, http.StatusMethodNotAllowed)
					case of == "referrers", strings.Contains(reference, ":"), of == "manifests" && method == "PUT" && reference != "a?b":
						wantOCI(t, what, w, http.StatusBadRequest)
					case reference != "a?b":
						wantOCI(t, what, w, http.StatusNotFound)
					}
				}
			}
		}
		for _, id := range []string{"ü", "a b", "\x00", strings.Repeat("a", 300), "a;b", "x:y"} {
			for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
				wantOCI(t, method+" upload "+id, r.ask(method, "dev", "/v2/"+namespace+"/q/blobs/uploads/"+id, "", nil), http.StatusNotFound)
			}
		}
		r.ask("PUT", "dev", "/v2/"+namespace+"/q/manifests/1", imagespec.MediaTypeImageIndex, strings.NewReader(index))
		for query, want := range map[string]int{
			"n=1&last=%00": 400, "last=%00": 400, "last=..%2f..": 400, "last=%C3%BC": 400, "last=a%20b": 400, "n=-1": 400, "n=abc": 400,
			"n=100000000": 200, "n=1;x": 200, "last=zzz": 200, "n=1&last=0": 200, "n=99999999999999999999": 400, "last=": 200,
		} {
			wantOCI(t, "tags "+query, r.ask("GET", "dev", "/v2/"+namespace+"/q/tags/list?"+query, "", nil), want)
		}
		for _, query := range []string{"last=%00", "n=0", "artifactType=%00", "last=sha256:zz", "n=x"} {
			some := digest.FromString("some").String()
			wantOCI(t, "referrers "+query, r.ask("GET", "dev", "/v2/"+namespace+"/q/referrers/"+some+"?"+query, "", nil), 200, 400)
			wantOCI(t, "catalogue "+query, r.ask("GET", "dev", "/v2/_catalog?"+query, "", nil), 200, 400)
		}
	}
}

func TestWhatIsNoManifestIsRefused(t *testing.T) {
	r := openInside(t, fixing()...)
	some := digest.FromString("some").String()
	bodies := []string{
		"null", "", "[]", "{}", `""`, "0", "true", "{", `{"schemaVersion":"2"}`, `{"schemaVersion":1,"manifests":[]}`,
		`{"schemaVersion":2,"manifests":[],"MANIFESTS":null}`, `{"schemaVersion":2,"manifests":[],"subject":null,"Subject":{}}`,
		`{"schemaVersion":2,"config":{},"layers":[]}`, `{"schemaVersion":2,"manifests":[null]}`, `{"schemaVersion":2,"manifests":[{}]}`, `{"schemaVersion":2,"layers":[null]}`,
	}
	unknown, tag := "sha999:"+strings.Repeat("a", 64), 0
	bodies = append(bodies, `{"schemaVersion":2,"config":{"digest":"`+unknown+`","size":1},"layers":[]}`)
	for _, d := range []string{"sha256:zz", "", "x", "sha256:" + strings.Repeat("a", 65), "../x", "\u0000"} {
		q, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies,
			`{"schemaVersion":2,"config":{"digest":`+string(q)+`,"size":1},"layers":[]}`,
			`{"schemaVersion":2,"config":{"digest":"`+some+`","size":1},"layers":[{"digest":`+string(q)+`,"size":1}]}`,
			`{"schemaVersion":2,"manifests":[{"digest":`+string(q)+`,"size":1}]}`,
			`{"schemaVersion":2,"manifests":[],"subject":{"digest":`+string(q)+`,"size":1}}`,
		)
	}
	for _, media := range []string{
		imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.docker.distribution.manifest.list.v2+json", "application/json", "text/plain", "", "x/y; charset", ";",
	} {
		for _, body := range bodies {
			for _, namespace := range []string{"team", "fixed"} {
				tag++
				w := r.ask("PUT", "dev", fmt.Sprintf("/v2/%s/app/manifests/%d", namespace, tag), media, strings.NewReader(body))
				wantOCI(t, media+" "+body, w, http.StatusBadRequest)
			}
		}
		// what Distribution takes, some of it for an index without manifests
		for _, body := range []string{
			`{"schemaVersion":2}`, `{"schemaVersion":2,"config":null,"layers":null}`, `{"schemaVersion":2,"manifests":[{"digest":"` + unknown + `","size":1}]}`,
			`{"schemaVersion":2,"manifests":[],"subject":{"digest":"` + unknown + `","size":1}}`,
		} {
			tag++
			wantOCI(t, media+" "+body, r.ask("PUT", "dev", fmt.Sprintf("/v2/team/app/manifests/%d", tag), media, strings.NewReader(body)), http.StatusBadRequest, http.StatusCreated)
		}
	}
}

// FuzzNoRequestIsAFailureOfTheRegistry sends what clients should not.
func FuzzNoRequestIsAFailureOfTheRegistry(f *testing.F) {
	r := openInside(f, fixing()...)
	for _, path := range []string{
		"/v2/team/app/manifests/1", "/v2/fixed/app/manifests/v1;x", "/v2/team/app/blobs/sha256:zz", "/v2/team/app/blobs/uploads/", "/v2/team/app/blobs/uploads/x",
		"/v2/team/app/tags/list", "/v2/team/app/referrers/sha256:", "/v2/_catalog", "/v2/", "/v2//team", "/v2/team/../x", "/ocisync/v1/changes", "/metrics",
	} {
		for _, query := range []string{"", "n=1&last=%00", "digest=sha256:zz&_state=x", "mount=x&from=fixed/app", "artifactType=;"} {
			f.Add("PUT", path, query, "application/json", "null")
			f.Add("GET", path, query, "", "")
		}
	}
	f.Fuzz(func(t *testing.T, method, path, query, media, body string) {
		if method == "" || strings.ContainsFunc(method, func(c rune) bool { return c < 'A' || c > 'Z' }) {
			return // no request that the server reads
		}
		at, err := url.ParseRequestURI((&url.URL{Path: path, RawQuery: query}).RequestURI()) // as the server does
		if err != nil || at.Host != "" {
			return
		}
		q := httptest.NewRequest(http.MethodGet, "http://x/v2/", strings.NewReader(body))
		q.Method, q.URL = method, at
		q.Header.Set("Content-Type", media)
		for _, user := range []string{"", "dev"} {
			if user != "" {
				q.SetBasicAuth(user, "pw-"+user)
			}
			w := httptest.NewRecorder()
			r.ServeHTTP(w, q.Clone(t.Context()))
			if w.Code >= http.StatusInternalServerError {
				t.Errorf("%s %q ?%q as %q with %q: %d %s", method, path, query, user, body, w.Code, w.Body)
			}
		}
	})
}

// RFC 9110: "*/*" is any type, and so is nothing.
func TestWhoTakesAnyTypeGetsTheManifest(t *testing.T) {
	r := openInside(t)
	config := digest.FromString("{}").String()
	at := r.ask("POST", "dev", "/v2/team/app/blobs/uploads/", "", nil).Header().Get("Location")
	if w := r.ask("PUT", "dev", at+"&digest="+config, "", strings.NewReader("{}")); w.Code != http.StatusCreated {
		t.Fatal(w.Code, w.Body)
	}
	for media, body := range map[string]string{
		imagespec.MediaTypeImageManifest:                            `{"schemaVersion":2,"mediaType":"MEDIA","config":{"mediaType":"a/b","digest":"` + config + `","size":2},"layers":[]}`,
		imagespec.MediaTypeImageIndex:                               `{"schemaVersion":2,"mediaType":"MEDIA","manifests":[]}`,
		"application/vnd.docker.distribution.manifest.list.v2+json": `{"schemaVersion":2,"mediaType":"MEDIA","manifests":[]}`,
	} {
		body = strings.ReplaceAll(body, "MEDIA", media)
		if w := r.ask("PUT", "dev", "/v2/team/app/manifests/1", media, strings.NewReader(body)); w.Code != http.StatusCreated {
			t.Fatal(w.Code, w.Body)
		}
		for _, accept := range [][]string{nil, {"Accept", "*/*"}, {"Accept", "text/html, */*;q=0.1"}, {"Accept", "application/*"}, {"Accept", "text/html", "Accept", "*/*"}} {
			for _, method := range []string{"GET", "HEAD"} {
				w := r.ask(method, "dev", "/v2/team/app/manifests/1", "", nil, accept...)
				if w.Code != http.StatusOK || w.Header().Get("Content-Type") != media || method == "GET" && w.Body.String() != body {
					t.Errorf("%s of %s with %q: %d %s", method, media, accept, w.Code, w.Body)
				}
			}
		}
		if media != imagespec.MediaTypeImageManifest {
			continue
		}
		for _, accept := range []string{"text/html", "*/*;q=0", imagespec.MediaTypeImageIndex} {
			if w := r.ask("GET", "dev", "/v2/team/app/manifests/1", "", nil, "Accept", accept); w.Code != http.StatusNotFound {
				t.Errorf("with %q alone: %d %s", accept, w.Code, w.Body)
			}
		}
	}
}
