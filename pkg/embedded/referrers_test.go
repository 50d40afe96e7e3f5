package embedded_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/schema"
)

// request sends one request as a user, "" for nobody.
func (s *served) request(t *testing.T, method, user, path, media string, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("Accept", imagespec.MediaTypeImageManifest+","+imagespec.MediaTypeImageIndex)
	if user != "" {
		req.SetBasicAuth(user, "pw-"+user)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

func (s *served) upload(t *testing.T, user, repo string, b []byte) {
	t.Helper()
	start, _ := s.request(t, "POST", user, "/v2/"+repo+"/blobs/uploads/", "", nil)
	location := start.Header.Get("Location")
	if resp, text := s.request(t, "PUT", user, location+"&digest="+digest.FromBytes(b).String(), "application/octet-stream", b); resp.StatusCode != http.StatusCreated {
		t.Fatalf("uploading to %s: %d %s", location, resp.StatusCode, text)
	}
}

// put pushes a manifest, by its digest where tag is "".
func (s *served) put(t *testing.T, user, repo, tag, media string, m any) (digest.Digest, *http.Response) {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(b)
	if tag == "" {
		tag = d.String()
	}
	resp, text := s.request(t, "PUT", user, "/v2/"+repo+"/manifests/"+tag, media, b)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("pushing %s:%s: %d %s", repo, tag, resp.StatusCode, text)
	}
	return d, resp
}

// artifact is an image manifest of the empty config with a text of its own.
func artifact(kind, text string, subject digest.Digest) imagespec.Manifest {
	m := imagespec.Manifest{
		MediaType: imagespec.MediaTypeImageManifest, ArtifactType: kind,
		Config:      imagespec.DescriptorEmptyJSON,
		Layers:      []imagespec.Descriptor{imagespec.DescriptorEmptyJSON},
		Annotations: map[string]string{"text": text},
	}
	m.SchemaVersion = 2
	m.Config.Data, m.Layers[0].Data = nil, nil
	if subject != "" {
		m.Subject = &imagespec.Descriptor{MediaType: imagespec.MediaTypeImageManifest, Digest: subject, Size: 2}
	}
	return m
}

func list(manifests ...imagespec.Descriptor) imagespec.Index {
	x := imagespec.Index{MediaType: imagespec.MediaTypeImageIndex, Manifests: manifests}
	x.SchemaVersion = 2
	return x
}

func described(kind string, d digest.Digest) imagespec.Descriptor {
	return imagespec.Descriptor{MediaType: imagespec.MediaTypeImageManifest, ArtifactType: kind, Digest: d, Size: 2}
}

// referrers follows the pages, as dev in a/x, and returns the texts by digest.
func (s *served) referrers(t *testing.T, subject digest.Digest, query string) (texts map[digest.Digest]string, pages int) {
	t.Helper()
	texts = map[digest.Digest]string{}
	for path := "/v2/a/x/referrers/" + subject.String() + query; path != ""; pages++ {
		resp, b := s.request(t, "GET", "dev", path, "", nil)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != imagespec.MediaTypeImageIndex || len(b) > 4<<20 {
			t.Fatalf("%s: %d %s, %d bytes", path, resp.StatusCode, resp.Header.Get("Content-Type"), len(b))
		}
		var x imagespec.Index
		if err := json.Unmarshal(b, &x); err != nil {
			t.Fatal(err)
		}
		for _, d := range x.Manifests {
			if _, twice := texts[d.Digest]; twice {
				t.Errorf("%s is listed twice", d.Digest)
			}
			texts[d.Digest] = d.Annotations["text"]
		}
		path = ""
		if link := resp.Header.Get("Link"); link != "" {
			path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
		}
	}
	return texts, pages
}

// signed serves a repository a/x with a config to make manifests of, for the
// users root, dev (pull and push) and other (nothing).
func signed(t *testing.T) *served {
	t.Helper()
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false), putUser(t, "other", false), putNamespace("a"),
		putAccess("a", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push})}))
	s.upload(t, "dev", "a/x", []byte("{}"))
	return s
}

func TestReferrersNeedTheRightToPull(t *testing.T) {
	s := signed(t)
	subject, resp := s.put(t, "dev", "a/x", "1", imagespec.MediaTypeImageManifest, artifact("image", "subject", ""))
	if got := resp.Header.Get("OCI-Subject"); got != "" {
		t.Errorf("OCI-Subject %q for a manifest without one", got)
	}
	signature, resp := s.put(t, "dev", "a/x", "", imagespec.MediaTypeImageManifest, artifact("signature", "s", subject))
	if got := resp.Header.Get("OCI-Subject"); got != subject.String() {
		t.Errorf("OCI-Subject %q, want %s", got, subject)
	}
	s.put(t, "dev", "a/x", "", imagespec.MediaTypeImageManifest, artifact("sbom", "b", subject))
	path := "/v2/a/x/referrers/" + subject.String()
	for _, tt := range []struct {
		user, path string
		want       int
	}{
		{"dev", path, 200}, {"root", path, 200}, {"other", path, 403}, {"", path, 401},
		{"dev", "/v2/b/x/referrers/" + subject.String(), 403},
		{"dev", "/v2/a/x/referrers/latest", 400},
		{"dev", "/v2/a/x/referrers/sha256:..%2f..", 404},
	} {
		if resp, _ := s.request(t, "GET", tt.user, tt.path, "", nil); resp.StatusCode != tt.want {
			t.Errorf("%q GET %s: %d, want %d", tt.user, tt.path, resp.StatusCode, tt.want)
		}
	}
	resp, _ = s.request(t, "GET", "dev", path+"?artifactType=signature", "", nil)
	if got := resp.Header.Get("OCI-Filters-Applied"); got != "artifactType" {
		t.Errorf("OCI-Filters-Applied: %q", got)
	}
	got, _ := s.referrers(t, subject, "?artifactType=signature")
	if diff := cmp.Diff(map[digest.Digest]string{signature: "s"}, got); diff != "" {
		t.Errorf("filtered (-want +got):\n%s", diff)
	}
	// what is deleted is listed no longer
	if resp, _ := s.request(t, "DELETE", "root", "/v2/a/x/manifests/"+signature.String(), "", nil); resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status)
	}
	if got, _ := s.referrers(t, subject, "?artifactType=signature"); len(got) != 0 {
		t.Errorf("deleted, and listed: %v", got)
	}
}

func TestSignersAtOnceLoseNothing(t *testing.T) {
	s := signed(t)
	subject := digest.FromString("not pushed yet")
	want := map[digest.Digest]string{}
	var mu sync.Mutex
	var signers sync.WaitGroup
	for i := range 12 {
		signers.Go(func() {
			text := fmt.Sprint("signature ", i)
			d, _ := s.put(t, "dev", "a/x", "", imagespec.MediaTypeImageManifest, artifact("signature", text, subject))
			mu.Lock()
			defer mu.Unlock()
			want[d] = text
		})
	}
	signers.Wait()
	got, _ := s.referrers(t, subject, "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestManyReferrersComeInPages(t *testing.T) {
	s := signed(t)
	subject := digest.FromString("subject")
	want := map[digest.Digest]string{}
	for i := range 5 {
		text := strings.Repeat(fmt.Sprint(i), 1<<20)
		d, _ := s.put(t, "dev", "a/x", "", imagespec.MediaTypeImageManifest, artifact("signature", text, subject))
		want[d] = text
	}
	s.put(t, "dev", "a/x", "", imagespec.MediaTypeImageManifest, artifact("other", "", subject))
	got, pages := s.referrers(t, subject, "?artifactType=signature")
	if pages != 2 || !cmp.Equal(want, got) {
		t.Errorf("%d referrers in %d pages, want %d in 2", len(got), pages, len(want))
	}
}

// Data of a stock Distribution, and clients that know no referrers API, list
// referrers under a tag.
func TestFallbackTagsCountAsReferrers(t *testing.T) {
	s := signed(t)
	subject, _ := s.put(t, "dev", "a/x", "1", imagespec.MediaTypeImageManifest, artifact("image", "subject", ""))
	own, _ := s.put(t, "dev", "a/x", "", imagespec.MediaTypeImageManifest, artifact("signature", "own", subject))
	old, _ := s.put(t, "dev", "a/x", "", imagespec.MediaTypeImageManifest, artifact("signature", "old", ""))
	entry := described("signature", old)
	entry.Annotations = map[string]string{"text": "old"}
	gone := described("signature", digest.FromString("never pushed"))
	s.put(t, "dev", "a/x", strings.Replace(subject.String(), ":", "-", 1), imagespec.MediaTypeImageIndex, list(entry, gone, described("signature", own)))
	got, _ := s.referrers(t, subject, "?artifactType=signature")
	if diff := cmp.Diff(map[digest.Digest]string{own: "own", old: "old"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
