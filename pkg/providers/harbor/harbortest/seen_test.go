package harbortest_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

// The tables below are of requests that were sent to a Harbor 2.15.2, and of what that
// one answered: to all but those that want a clock, whose end is of its sources.

const (
	ociImage = "application/vnd.oci.image.manifest.v1+json"
	ociIndex = "application/vnd.oci.image.index.v1+json"
	ociConf  = "application/vnd.oci.image.config.v1+json"
	unknownA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	unknownB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// seen is a stand-in with the projects team, other and the public library; user0 is
// the administrator of team, user1 a guest there, and robot pushes and pulls there.
type seen struct {
	client
	*harbortest.Server
	secret string
}

func see(t *testing.T, options harbortest.Options) seen {
	t.Helper()
	s := seen{}
	s.Server, s.client = start(t, options)
	s.users()
	for _, p := range []string{"team", "other"} {
		s.want(201, "POST", "/projects", fmt.Sprintf(`{"project_name":%q}`, p))
	}
	s.want(201, "POST", "/projects/team/members", `{"role_id":1,"member_user":{"username":"user0"}}`)
	s.want(201, "POST", "/projects/team/members", `{"role_id":3,"member_user":{"username":"user1"}}`)
	var robot struct{ Secret string }
	made := s.want(201, "POST", "/robots", `{"name":"ci","level":"system","duration":-1,"permissions":[{"kind":"project","namespace":"team","access":[{"resource":"repository","action":"pull"},{"resource":"repository","action":"push"}]}]}`)
	if err := json.Unmarshal([]byte(made), &robot); err != nil {
		t.Fatal(err)
	}
	s.secret = robot.Secret
	return s
}

// ask sends a request as somebody: a user, robot, wrong for a password that is, the
// text of a header, or nobody.
func (s seen) ask(who, method, path, kind, body string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	switch {
	case who == "robot":
		r.SetBasicAuth("robot$ci", s.secret)
	case who == "wrong":
		r.SetBasicAuth("admin", "wrong")
	case strings.Contains(who, " "):
		r.Header.Set("Authorization", who)
	case who != "":
		r.SetBasicAuth(who, "Harbor12345")
	}
	switch {
	case method == http.MethodPut || method == http.MethodPost:
		r.Header.Set("Content-Type", kind)
	case kind != "":
		r.Header.Set("Accept", kind)
	}
	w, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer w.Body.Close()
	raw, err := io.ReadAll(w.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return w, string(raw)
}

// answers is an answer in short: its status, its errors or else its text, the
// challenge if there is that header, and where the next page is.
func (s seen) answers(who, method, path, kind, body string) string {
	s.t.Helper()
	w, text := s.ask(who, method, path, kind, body)
	var told struct {
		Errors []struct {
			Code, Message string
			Detail        any
		}
	}
	if json.Unmarshal([]byte(text), &told) == nil && told.Errors != nil {
		var all []string
		for _, e := range told.Errors {
			one := e.Code + ": " + e.Message
			if d, is := e.Detail.(string); is {
				one += " " + d
			}
			all = append(all, one)
		}
		text = strings.Join(all, ", ")
	}
	parts := []string{fmt.Sprint(w.StatusCode)}
	if text = strings.TrimSpace(text); text != "" {
		parts = append(parts, text)
	}
	if asks, has := w.Header["Www-Authenticate"]; has {
		parts = append(parts, "challenge "+asks[0])
	}
	if next := w.Header.Get("Link"); next != "" {
		parts = append(parts, "next "+next)
	}
	return strings.TrimSpace(strings.NewReplacer(unknownA, "A", unknownB, "B", strings.TrimPrefix(s.url, "http://"), "HOST").Replace(strings.Join(parts, " | ")))
}

func digestOf(raw string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(raw))) }

// blob pushes one as clients do, and says its digest.
func (s seen) blob(repository, raw string) string {
	s.t.Helper()
	w, text := s.ask("admin", "POST", "/v2/"+repository+"/blobs/uploads/", "", "")
	at, err := url.Parse(w.Header.Get("Location"))
	if err != nil || w.StatusCode != http.StatusAccepted || !at.IsAbs() || at.RawQuery == "" {
		s.t.Fatalf("%d %s %v, at %v", w.StatusCode, text, err, at)
	}
	digest := digestOf(raw)
	if w, text := s.ask("admin", "PUT", at.Path+"?"+at.RawQuery+"&digest="+digest, "application/octet-stream", raw); w.StatusCode != http.StatusCreated {
		s.t.Fatalf("%d %s", w.StatusCode, text)
	}
	return digest
}

// manifest pushes one, and says its digest. A tag may be left out.
func (s seen) manifest(repository, tag, kind, raw string) string {
	s.t.Helper()
	if tag == "" {
		tag = digestOf(raw)
	}
	if w, text := s.ask("admin", "PUT", "/v2/"+repository+"/manifests/"+tag, kind, raw); w.StatusCode != http.StatusCreated {
		s.t.Fatalf("%s: %d %s", raw, w.StatusCode, text)
	}
	return digestOf(raw)
}

// imageOf is a manifest whose config is a blob of two bytes, with more fields.
func imageOf(more string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[]%s}`, ociImage, ociConf, digestOf("{}"), more)
}

func indexOf(more string, parts ...string) string {
	var list []string
	for _, digest := range parts {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":2}`, ociImage, digest))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]%s}`, ociIndex, strings.Join(list, ","), more)
}

func subjectOf(digest string) string {
	return fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":2}`, ociImage, digest)
}

func TestWhoMayNotIsRefusedAsHarborRefuses(t *testing.T) {
	s := see(t, harbortest.Options{})
	const (
		missing = "401 | UNAUTHORIZED: project nope not found: project nope not found | challenge"
		needed  = "UNAUTHORIZED: authorize header needed to send HEAD to repository: authorize header needed to send HEAD to repository"
		basic   = ` | challenge Basic realm="harbor"`
		bearer  = ` | challenge Bearer realm="http://HOST/service/token",service="harbor-registry"`
		refused = "401 | UNAUTHORIZED: unauthorized to access repository: %[1]s, action: %[2]s: unauthorized to access repository: %[1]s, action: %[2]s"
		listing = "401 | UNAUTHORIZED: unauthorized to list catalog: unauthorized to list catalog"
		none    = "401 | UNAUTHORIZED: un-recognized request: %[1]s: un-recognized request: %[1]s | challenge"
		single  = "400 | BAD_REQUEST: bad request: invalid repository name: single"
	)
	no := func(repository, action string) string { return fmt.Sprintf(refused, repository, action) }
	for _, x := range []struct{ who, method, path, want string }{
		// a project that is not there is nobody's, and there is no challenge
		{"admin", "GET", "/v2/nope/x/tags/list", missing},
		{"user0", "GET", "/v2/nope/x/manifests/v1", missing},
		{"robot", "GET", "/v2/nope/x/tags/list", missing},
		{"wrong", "GET", "/v2/nope/x/tags/list", missing},
		{"admin", "HEAD", "/v2/nope/x/manifests/v1", "401 | challenge"},
		{"admin", "POST", "/v2/nope/x/blobs/uploads/", missing},
		{"", "POST", "/v2/nope/x/blobs/uploads/", missing},
		{"admin", "PUT", "/v2/nope/x/manifests/v1", missing},
		{"admin", "DELETE", "/v2/nope/x/manifests/" + unknownA, missing},
		{"", "GET", "/v2/nope/x/tags/list", "401 | " + needed + bearer + `,scope="repository:nope/x:pull"`},
		// nobody, who is told where a token is, and a wrong password
		{"", "GET", "/v2/", "401 | UNAUTHORIZED: unauthorized: unauthorized" + bearer},
		{"", "HEAD", "/v2/", "401" + bearer},
		{"wrong", "GET", "/v2/", "401 | UNAUTHORIZED: unauthorized: unauthorized" + basic},
		{"user1", "GET", "/v2/", "200 | {}"},
		{"robot", "GET", "/v2/", "200 | {}"},
		{"", "HEAD", "/v2/team/x/manifests/v1", "401" + bearer + `,scope="repository:team/x:pull"`},
		{"", "GET", "/v2/team/x/referrers/" + unknownA, "401 | " + needed + bearer + `,scope="repository:team/x:pull"`},
		{"", "GET", "/v2/library/x/tags/list", "401 | " + needed + bearer + `,scope="repository:library/x:pull"`},
		{"", "PUT", "/v2/team/x/manifests/v1", no("team/x", "push") + bearer + `,scope="repository:team/x:pull,push"`},
		{"", "DELETE", "/v2/team/x/manifests/" + unknownA, no("team/x", "delete") + bearer + `,scope="repository:team/x:delete"`},
		{"", "POST", "/v2/team/x/blobs/uploads/?mount=" + unknownA + "&from=other/y", no("team/x", "push") + bearer + `,scope="repository:team/x:pull,push repository:other/y:pull"`},
		{"wrong", "GET", "/v2/team/x/tags/list", no("team/x", "pull") + basic},
		// rights
		{"user1", "GET", "/v2/team/x/tags/list", "404 | NOT_FOUND: repository team/x not found"},
		{"user1", "POST", "/v2/team/x/blobs/uploads/", no("team/x", "push") + basic},
		{"user0", "POST", "/v2/other/x/blobs/uploads/", no("other/x", "push") + basic},
		{"robot", "DELETE", "/v2/team/x/manifests/" + unknownA, no("team/x", "delete") + basic},
		{"user0", "POST", "/v2/team/x/blobs/uploads/?mount=" + unknownA + "&from=other/y", no("other/y", "pull") + basic},
		{"admin", "POST", "/v2/team/x/blobs/uploads/?mount=" + unknownA + "&from=nope/y", missing},
		{"user1", "POST", "/v2/team/x/blobs/uploads/?mount=" + unknownA + "&from=nope/y", no("team/x", "push") + basic},
		// the catalogue takes no token, thus nobody is sent for one
		{"", "GET", "/v2/_catalog", listing + basic},
		{"user0", "GET", "/v2/_catalog", listing + basic},
		{"robot", "GET", "/v2/_catalog", listing + basic},
		{"admin", "GET", "/v2/_catalog", `200 | {"repositories":[]}`},
		// names
		{"admin", "GET", "/v2/single/tags/list", single},
		{"", "POST", "/v2/single/blobs/uploads/", single},
		{"admin", "POST", "/v2/team/x/blobs/uploads/?mount=" + unknownA + "&from=single", single},
		{"admin", "POST", "/v2/team/X/blobs/uploads/", fmt.Sprintf(none, "POST /v2/team/X/blobs/uploads/")},
		{"", "GET", "/v2/team/X/manifests/v1", fmt.Sprintf(none, "GET /v2/team/X/manifests/v1")},
		{"admin", "GET", "/v2/team/x/foo/bar", fmt.Sprintf(none, "GET /v2/team/x/foo/bar")},
		{"admin", "GET", "/v2", fmt.Sprintf(none, "GET /v2")},
		{"admin", "PATCH", "/v2/team/x/manifests/v1", "405 | Method not allowed"},
		{"admin", "HEAD", "/v2/team/x/tags/list", "405"},
	} {
		if have := s.answers(x.who, x.method, x.path, "", ""); have != x.want {
			t.Errorf("%q %s %s:\nhave %s\nwant %s", x.who, x.method, x.path, have, x.want)
		}
	}
}

func TestBlobsAreMountedAsHarborMounts(t *testing.T) {
	s := see(t, harbortest.Options{})
	known := s.blob("team/x", "known")
	s.Inject(harbortest.Fault{Method: "PUT", Path: "/v2/team/x/blobs/uploads/", Cut: true})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.url+"/v2/team/x/blobs/uploads/1?digest="+digestOf("cut off"), strings.NewReader("cut off"))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", "Harbor12345")
	if w, err := s.http.Do(r); err == nil {
		w.Body.Close()
		t.Fatalf("a push that is cut off is answered %s", w.Status)
	}
	s.Heal()
	cut := digestOf("cut off")
	mount := func(to, digest, from string) string {
		return "/v2/" + to + "/blobs/uploads/?mount=" + digest + "&from=" + from
	}
	for _, x := range []struct{ what, method, path, want string }{
		{"of what is nowhere", "POST", mount("team/x", unknownA, "team/y"), "202"},
		{"from where it is not", "POST", mount("team/z", known, "team/never"), "202"},
		{"from nowhere", "POST", "/v2/team/z/blobs/uploads/?mount=" + known, "202"},
		{"in one request", "POST", "/v2/team/z/blobs/uploads/?digest=" + known, "202"},
		{"and is not there yet", "HEAD", "/v2/team/z/blobs/" + known, "404"},
		{"to where it is", "POST", mount("team/x", known, "team/x"), "201"},
		{"to another repository", "POST", mount("team/z", known, "team/x"), "201"},
		{"to another project", "POST", mount("other/z", known, "team/x"), "201"},
		{"and is there", "HEAD", "/v2/other/z/blobs/" + known, "200"},
		{"and is there to read", "GET", "/v2/other/z/blobs/" + known, "200 | known"},
		{"it is nowhere else", "HEAD", "/v2/other/none/blobs/" + known, "404"},
		{"nor to read", "GET", "/v2/other/none/blobs/" + known, "404 | BLOB_UNKNOWN: blob unknown to registry " + known},
		{"what Harbor did not write down is not there", "HEAD", "/v2/team/x/blobs/" + cut, "404"},
		{"but is read", "GET", "/v2/team/x/blobs/" + cut, "200 | cut off"},
		{"it is not found to mount where it is", "POST", mount("team/x", cut, "team/x"), "404 | NOT_FOUND: blob " + cut + " not found"},
		{"nor elsewhere", "POST", mount("team/z", cut, "team/x"), "404 | NOT_FOUND: blob " + cut + " not found"},
		{"though it then is there", "GET", "/v2/team/z/blobs/" + cut, "200 | cut off"},
		{"a digest that is none", "GET", "/v2/team/x/blobs/sha256:zz", "400 | DIGEST_INVALID: provided digest did not match uploaded content"},
		{"a repository of blobs alone", "GET", "/v2/team/x/tags/list", "404 | NOT_FOUND: repository team/x not found"},
		{"deletion", "DELETE", "/v2/team/x/blobs/" + known, "202"},
		{"deletion of what is gone", "DELETE", "/v2/team/x/blobs/" + known, "404 | BLOB_UNKNOWN: blob unknown to registry"},
		{"deletion of what never was", "DELETE", "/v2/team/x/blobs/" + unknownA, "404 | BLOB_UNKNOWN: blob unknown to registry"},
		{"after a deletion", "HEAD", "/v2/team/x/blobs/" + known, "404"},
		{"after a deletion, elsewhere", "HEAD", "/v2/team/z/blobs/" + known, "200"},
	} {
		if have := s.answers("admin", x.method, x.path, "", ""); have != x.want {
			t.Errorf("%s:\nhave %s\nwant %s", x.what, have, x.want)
		}
	}
	if at := s.blob("team/x", "cut off"); s.answers("admin", "HEAD", "/v2/team/x/blobs/"+at, "", "") != "200" {
		t.Error("what was cut off and came again is not there")
	}
}

func TestManifestsAreTakenAsHarborTakes(t *testing.T) {
	s := see(t, harbortest.Options{})
	s.blob("team/x", "{}")
	good := s.manifest("team/x", "v1", ociImage, imageOf(""))
	layer := s.blob("team/x", "layer")
	gone := s.manifest("team/x", "", ociImage, imageOf(`,"annotations":{"is":"gone"}`))
	if have := s.answers("admin", "DELETE", "/v2/team/x/manifests/"+gone, "", ""); have != "202" {
		t.Fatal(have)
	}
	const (
		invalid = "400 | MANIFEST_INVALID: unmarshal manifest failed: "
		blob    = "MANIFEST_BLOB_UNKNOWN: blob unknown to registry "
		oops    = "500 | UNKNOWN: unknown error"
	)
	away := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip","digest":%q,"size":4`, unknownA)
	parts := func(of, with string) string { return strings.Replace(imageOf(""), of, with, 1) }
	long := strings.Repeat("a", 129)
	for _, x := range []struct{ what, ref, kind, body, want string }{
		{"a config that is not there", "bad", ociImage, parts(digestOf("{}"), unknownA), "400 | " + blob + "A"},
		{"a layer and a config that are not there", "bad", ociImage, strings.Replace(parts(digestOf("{}"), unknownA), `[]`, fmt.Sprintf(`[{"digest":%q}]`, unknownB), 1), "400 | " + blob + "A, " + blob + "B"},
		{"Docker's too", "bad", "application/vnd.docker.distribution.manifest.v2+json", strings.ReplaceAll(parts(digestOf("{}"), unknownA), ociImage, "application/vnd.docker.distribution.manifest.v2+json"), "400 | " + blob + "A"},
		{"an index of what is not there", "bad", ociIndex, indexOf("", unknownB), "400 | " + blob + "B"},
		{"an index of a blob", "bad", ociIndex, indexOf("", layer), "404 | NOT_FOUND: artifact team/x@" + layer + " not found"},
		{"an index of what was deleted", "bad", ociIndex, indexOf("", gone), "404 | NOT_FOUND: artifact team/x@" + gone + " not found"},
		{"an index that has a part twice", "bad", ociIndex, indexOf("", good, good), "404 | NOT_FOUND: artifact team/x@" + digestOf(indexOf("", good, good)) + " not found"},
		{"an index of nothing", "empty", ociIndex, indexOf(""), "201"},
		{"a layer that is elsewhere", "away", ociImage, parts(`[]`, "["+away+`,"urls":["https://example.com/x"]}]`), "201"},
		{"a layer that is nowhere", "bad", ociImage, parts(`[]`, "["+away+`}]`), "400 | " + blob + "A"},
		{"no JSON", "bad", ociImage, "{", invalid + "unexpected end of JSON input"},
		{"nothing", "bad", ociImage, "", invalid + "unexpected end of JSON input"},
		{"an empty one", "bad", ociImage, "{}", oops},
		{"an empty one of a wrong tag", "-j", ociImage, "{}", oops},
		{"no config", "bad", ociImage, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"layers":[]}`, ociImage), "400 | DIGEST_INVALID: provided digest did not match uploaded content, MANIFEST_BLOB_UNKNOWN: blob unknown to registry "},
		{"another type within", "bad", ociImage, parts(ociImage, "text/plain"), invalid + "if present, mediaType in manifest should be '" + ociImage + "' not 'text/plain'"},
		{"no type within", "plain", ociImage, parts(fmt.Sprintf(`"mediaType":%q,`, ociImage), ""), "201"},
		{"a type that is none", "bad", "application/json", imageOf(""), invalid + "missing signature key"},
		{"no type", "bad", "", imageOf(""), invalid + "missing signature key"},
		{"an image as an index", "bad", ociIndex, imageOf(""), invalid + "index: expected index but found manifest"},
		{"an index as an image", "bad", ociImage, indexOf(""), invalid + "ocimanifest: expected manifest but found index"},
		{"another digest", unknownA, ociIndex, indexOf(""), "400 | DIGEST_INVALID: provided digest did not match uploaded content"},
		{"a tag that is none", "-j", ociImage, imageOf(""), "400 | BAD_REQUEST: bad request: invalid tag name: -j"},
		{"a tag that begins with a dot", ".j", ociImage, imageOf(""), "400 | BAD_REQUEST: bad request: invalid tag name: .j"},
		{"a tag that is too long", long, ociImage, imageOf(""), "400 | BAD_REQUEST: bad request: invalid tag name: " + long},
		{"half a digest", "sha256:abc", ociImage, imageOf(""), "400 | BAD_REQUEST: bad request: invalid tag name: sha256:abc"},
		{"a tag of no letter", "-", ociImage, imageOf(""), "404 | NOT_FOUND: invalid reference format"},
		{"a good tag", "A_b.c-", ociImage, imageOf(""), "201"},
	} {
		if have := s.answers("admin", "PUT", "/v2/team/x/manifests/"+x.ref, x.kind, x.body); have != strings.TrimSpace(x.want) {
			t.Errorf("%s:\nhave %s\nwant %s", x.what, have, x.want)
		}
	}
	if have := s.answers("admin", "PUT", "/v2/team/w/manifests/v1", ociImage, imageOf("")); have != "400 | "+blob+digestOf("{}") {
		t.Errorf("in another repository: %s", have)
	}
	if have := s.answers("admin", "GET", "/api/v2.0/projects/team/repositories/w", "", ""); have != "404 | NOT_FOUND: repository team/w not found" {
		t.Errorf("what was refused makes a repository: %s", have)
	}
	const unread = "404 | MANIFEST_UNKNOWN: OCI manifest found, but accept header does not support OCI manifests"
	for _, x := range []struct{ what, method, ref, accept, want string }{
		{"who accepts nothing", "GET", "v1", "", unread},
		{"who accepts all", "GET", "v1", "*/*", unread},
		{"who accepts an index", "HEAD", "v1", ociIndex, "404"},
		{"who accepts it", "HEAD", "v1", ociIndex + ", " + ociImage + ";q=0.5", "200"},
		{"an index for who accepts images", "GET", "empty", ociImage, "404 | MANIFEST_UNKNOWN: OCI index found, but accept header does not support OCI indexes"},
		{"a tag that is not there", "GET", "v9", ociImage, "404 | NOT_FOUND: artifact team/x:v9 not found"},
		{"a tag that is none", "GET", "-j", ociImage, "404 | NOT_FOUND: artifact team/x:-j not found"},
		{"a digest that is not there", "GET", unknownA, ociImage, "404 | NOT_FOUND: artifact team/x@A not found"},
	} {
		if have := s.answers("admin", x.method, "/v2/team/x/manifests/"+x.ref, x.accept, ""); have != x.want {
			t.Errorf("%s:\nhave %s\nwant %s", x.what, have, x.want)
		}
	}
	if have := s.answers("admin", "GET", "/v2/team/none/manifests/v1", ociImage, ""); have != "404 | NOT_FOUND: repository team/none not found" {
		t.Error(have)
	}
	if w, _ := s.ask("admin", "HEAD", "/v2/team/x/manifests/v1", ociImage, ""); w.Header.Get("Docker-Content-Digest") != good || w.Header.Get("Etag") != `"`+good+`"` {
		t.Errorf("its headers are %v", w.Header)
	}
}

// family pushes an image with accessories of each kind, and says what they are by name.
func (s seen) family() map[string]string {
	s.t.Helper()
	d := map[string]string{}
	s.blob("team/x", "{}")
	empty := s.blob("team/x", "c")
	signs := func(n string) string {
		return strings.Replace(imageOf(`,"annotations":{"n":"`+n+`"}`), "[]", fmt.Sprintf(`[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":%q,"size":1}]`, empty), 1)
	}
	tag := func(digest, end string) string { return strings.Replace(digest, ":", "-", 1) + end }
	d["image"] = s.manifest("team/x", "v1", ociImage, imageOf(""))
	d["sig"] = s.manifest("team/x", tag(d["image"], ".sig"), ociImage, signs("1"))
	d["att"] = s.manifest("team/x", tag(d["image"], ".att"), ociImage, signs("2"))
	d["no signature"] = s.manifest("team/x", tag(d["att"], ".sig"), ociImage, imageOf(`,"annotations":{"n":"3"}`))
	d["orphan"] = s.manifest("team/x", tag(unknownB, ".sig"), ociImage, signs("4"))
	d["typed"] = s.manifest("team/x", "", ociImage, imageOf(`,"artifactType":"a/b","annotations":{"a":"b"}`+subjectOf(d["image"])))
	d["tagged"] = s.manifest("team/x", "ref", ociImage, strings.Replace(imageOf(subjectOf(d["image"])), ociConf, "application/vnd.x.config", 1))
	d["index"] = s.manifest("team/x", "", ociIndex, indexOf(subjectOf(d["image"])))
	d["notary"] = s.manifest("team/x", "", ociIndex, indexOf(`,"artifactType":"application/vnd.cncf.notary.signature"`+subjectOf(d["image"])))
	d["second"] = s.manifest("team/x", "", ociImage, imageOf(`,"artifactType":"a/c"`+subjectOf(d["typed"])))
	for _, n := range []string{"part1", "part2", "untagged"} {
		d[n] = s.manifest("team/x", "", ociImage, imageOf(`,"annotations":{"part":"`+n+`"}`))
	}
	d["multi"] = s.manifest("team/x", "multi", ociIndex, indexOf("", d["part1"], d["part2"]))
	d["of part"] = s.manifest("team/x", "", ociImage, imageOf(`,"artifactType":"p/r"`+subjectOf(d["part1"])))
	d["list"] = s.manifest("team/x", tag(d["image"], ""), ociIndex, indexOf("", d["typed"]))
	return d
}

func TestReferrersAreListedAsHarborLists(t *testing.T) {
	s := see(t, harbortest.Options{})
	d := s.family()
	all := []string{
		"sig " + ociImage + " " + ociConf + " 1", // annotated itself; its layer's type is not its own
		"typed " + ociImage + " a/b 1", "tagged " + ociImage + " application/vnd.x.config 0", "index " + ociIndex + "  0",
		"notary " + ociIndex + " application/vnd.cncf.notary.signature 0",
	}
	for _, x := range []struct {
		what, path, filters, total string
		want                       []string
	}{
		{"of an image", "team/x/referrers/" + d["image"], "", "5", all},
		{"of one type", "team/x/referrers/" + d["image"] + "?artifactType=a/b", "artifactType", "5", all[1:2]},
		{"of a type that none has", "team/x/referrers/" + d["image"] + "?artifactType=zz", "artifactType", "5", nil},
		{"of a tag that signs nothing", "team/x/referrers/" + d["att"], "", "0", nil},
		{"of what was never there", "team/x/referrers/" + unknownB, "", "1", []string{"orphan " + ociImage + " " + ociConf + " 1"}},
		{"of an accessory", "team/x/referrers/" + d["typed"], "", "1", []string{"second " + ociImage + " a/c 0"}},
		{"of what is not there", "team/x/referrers/" + unknownA, "", "0", nil},
		{"of a repository that is not there", "team/none/referrers/" + d["image"], "", "0", nil},
	} {
		w, text := s.ask("admin", "GET", "/v2/"+x.path, "", "")
		var index struct {
			SchemaVersion int
			MediaType     string
			Manifests     []struct {
				MediaType, Digest, ArtifactType string
				Size                            int64
				Annotations                     map[string]string
			}
		}
		if err := json.Unmarshal([]byte(text), &index); err != nil || index.SchemaVersion != 2 || index.MediaType != ociIndex || index.Manifests == nil {
			t.Errorf("%s: %v %s", x.what, err, text)
		}
		var have []string
		for _, m := range index.Manifests {
			for name, digest := range d {
				if digest == m.Digest {
					have = append(have, fmt.Sprint(name, " ", m.MediaType, " ", m.ArtifactType, " ", len(m.Annotations)))
				}
			}
			raw, _ := s.ask("admin", "HEAD", "/v2/team/x/manifests/"+m.Digest, m.MediaType, "")
			if raw.ContentLength != m.Size {
				t.Errorf("%s: %s has %d bytes, not %d", x.what, m.Digest, raw.ContentLength, m.Size)
			}
		}
		if !slices.Equal(have, x.want) {
			t.Errorf("%s:\nhave %q\nwant %q", x.what, have, x.want)
		}
		filters, total, kind := w.Header.Get("Oci-Filters-Applied"), w.Header.Get("X-Total-Count"), w.Header.Get("Content-Type")
		if w.StatusCode != http.StatusOK || filters != x.filters || total != x.total || kind != ociIndex {
			t.Errorf("%s: %d, filters %q, total %q, %q", x.what, w.StatusCode, filters, total, kind)
		}
	}
	if have := s.answers("admin", "GET", "/v2/team/x/referrers/v1", "", ""); have != "400 | BAD_REQUEST: unsupported digest v1: invalid checksum digest format" {
		t.Error(have)
	}
	w, _ := s.ask("admin", "PUT", "/v2/team/x/manifests/again", ociImage, imageOf(subjectOf(unknownA)))
	if w.Header.Get("Oci-Subject") != unknownA {
		t.Errorf("the headers of what has a subject are %v", w.Header)
	}
}

func TestAccessoriesAreNoneOfTheList(t *testing.T) {
	s := see(t, harbortest.Options{})
	d := s.family()
	type shown struct {
		Digest, Type string
		MediaType    string `json:"media_type"`
		Tags         []struct{ Name string }
		References   []struct {
			Child string `json:"child_digest"`
		}
		Accessories []struct {
			Digest, Type string
			ID           int64  `json:"subject_artifact_id"`
			Repository   string `json:"subject_artifact_repo"`
		}
	}
	list := func(query string) (names []string, all map[string]shown) {
		t.Helper()
		all = map[string]shown{}
		for _, at := range []string{"/projects/team/artifacts", "/projects/team/repositories/x/artifacts"} {
			names = nil
			var rows []shown
			if err := json.Unmarshal([]byte(s.want(200, "GET", at+"?page_size=100&"+query, "")), &rows); err != nil {
				t.Fatal(err)
			}
			for _, a := range rows {
				for name, digest := range d {
					if digest == a.Digest {
						names, all[name] = append(names, name), a
					}
				}
			}
			if len(names) != len(rows) {
				t.Errorf("%s has %d, of which %q are known", at, len(rows), names)
			}
		}
		return names, all
	}
	listed := []string{"list", "multi", "untagged", "no signature", "att", "image"}
	for query, want := range map[string][]string{
		"with_tag=true&with_accessory=true": listed,
		"with_tag=false":                    listed,
		"q=tags%3Dnil":                      {"untagged"},
		"q=tags%3D*":                        {"list", "multi", "no signature", "att", "image"},
		"q=tags%3Dmulti":                    {"multi"},
		"q=base%3D*":                        {"list", "multi", "untagged", "part2", "part1", "no signature", "att", "image"},
	} {
		if have, _ := list(query); !slices.Equal(have, want) {
			t.Errorf("%s:\nhave %q\nwant %q", query, have, want)
		}
	}
	_, all := list("with_accessory=true")
	var have []string
	for _, a := range all["image"].Accessories {
		if a.Repository != "team/x" || a.ID == 0 {
			t.Errorf("its accessory is %+v", a)
		}
		for name, digest := range d {
			if digest == a.Digest {
				have = append(have, name+" "+a.Type)
			}
		}
	}
	if want := []string{"sig signature.cosign", "typed subject.accessory", "tagged subject.accessory", "index subject.accessory", "notary signature.notation"}; !slices.Equal(have, want) {
		t.Errorf("have %q\nwant %q", have, want)
	}
	if multi := all["multi"]; len(multi.References) != 2 || multi.References[0].Child != d["part1"] || multi.Type != "IMAGE" || multi.MediaType != ociIndex || len(multi.Tags) != 1 {
		t.Errorf("the index is %+v", multi)
	}
	if text := s.want(200, "GET", "/projects/team/repositories/x", ""); !strings.Contains(text, `"artifact_count":6`) {
		t.Errorf("the repository is %s", text)
	}
}

func TestADeletionTakesAccessoriesWithIt(t *testing.T) {
	s := see(t, harbortest.Options{})
	d := s.family()
	const referred = "412 | VIOLATE_FOREIGN_KEY_CONSTRAINT: the deleting artifact is referenced by others"
	for _, x := range []struct{ what, ref, want string }{
		{"a tag", "v1", "400 | UNSUPPORTED: unsupported digest v1: invalid checksum digest format"},
		{"a tag that is not there", "v9", "400 | UNSUPPORTED: unsupported digest v9: invalid checksum digest format"},
		{"a digest that is not there", unknownA, "404 | NOT_FOUND: artifact team/x@A not found"},
		{"a part of an index", d["part1"], referred},
		{"the image", d["image"], "202"},
		{"the image again", d["image"], "404 | NOT_FOUND: artifact team/x@" + d["image"] + " not found"},
		{"the index", d["multi"], "202"},
	} {
		if have := s.answers("admin", "DELETE", "/v2/team/x/manifests/"+x.ref, "", ""); have != x.want {
			t.Errorf("%s:\nhave %s\nwant %s", x.what, have, x.want)
		}
	}
	if have := s.answers("admin", "DELETE", "/v2/team/none/manifests/"+unknownA, "", ""); have != "404 | NOT_FOUND: artifact team/none@A not found" {
		t.Error(have)
	}
	var left []string
	for name, digest := range d {
		if s.answers("admin", "HEAD", "/v2/team/x/manifests/"+digest, ociImage+","+ociIndex, "") == "200" {
			left = append(left, name)
		}
	}
	slices.Sort(left)
	// what an index has stays, and what refers to that
	if want := []string{"att", "list", "no signature", "orphan", "second", "typed", "untagged"}; !slices.Equal(left, want) {
		t.Errorf("left are %q\nwant     %q", left, want)
	}
}

func TestListsComeInPagesAsHarborCutsThem(t *testing.T) {
	s := see(t, harbortest.Options{})
	s.blob("team/x", "{}")
	for _, tag := range []string{"v4", "e", "v2", "v3", "v1"} {
		s.manifest("team/x", tag, ociImage, imageOf(`,"annotations":{"tag":"`+tag+`"}`))
	}
	s.blob("team/untagged", "{}")
	s.manifest("team/untagged", "", ociImage, imageOf(""))
	for _, name := range []string{"other/b", "other/a"} {
		if err := s.Push(harbortest.Image{Repository: name, Tags: []string{"v"}, Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	const positive = "400 | BAD_REQUEST: the N must be a positive int type"
	tags := func(list string) string { return `200 | {"name":"team/x","tags":[` + list + `]}` }
	all := func(list string) string { return `200 | {"repositories":[` + list + `]}` }
	for path, want := range map[string]string{
		"team/x/tags/list":              tags(`"e","v1","v2","v3","v4"`),
		"team/x/tags/list?n=1":          tags(`"e"`) + ` | next </v2/team/x/tags/list?last=e&n=1>; rel="next"`,
		"team/x/tags/list?n=2&last=e":   tags(`"v1","v2"`) + ` | next </v2/team/x/tags/list?last=v2&n=2>; rel="next"`,
		"team/x/tags/list?n=2&last=v3":  tags(`"v4"`),
		"team/x/tags/list?n=2&last=v2":  tags(`"v3","v4"`),
		"team/x/tags/list?last=v2":      tags(`"v3","v4"`),
		"team/x/tags/list?n=1&last=zzz": tags(``),
		"team/x/tags/list?n=0":          tags(``),
		"team/x/tags/list?n=100":        tags(`"e","v1","v2","v3","v4"`),
		"team/x/tags/list?n=-1":         positive,
		"team/x/tags/list?n=x":          positive,
		"_catalog":                      all(`"other/a","other/b","team/x"`),
		"_catalog?n=1":                  all(`"other/a"`) + ` | next </v2/_catalog?last=other%2Fa&n=1>; rel="next"`,
		"_catalog?n=1&last=other/a":     all(`"other/b"`) + ` | next </v2/_catalog?last=other%2Fb&n=1>; rel="next"`,
		"_catalog?n=2&last=other/a":     all(`"other/b","team/x"`),
		"_catalog?n=1&last=nope/nope":   "400 | BAD_REQUEST: the last: nope/nope should be a valid repository name.",
		"_catalog?last=nope/nope":       all(`"other/a","other/b","team/x"`),
		"_catalog?n=0":                  all(``),
		"_catalog?n=-1":                 positive,
	} {
		if have := s.answers("admin", "GET", "/v2/"+path, "", ""); have != want {
			t.Errorf("%s:\nhave %s\nwant %s", path, have, want)
		}
	}
}

// token asks for one, and reads it.
func (s seen) token(who, query string) (header, claims string) {
	s.t.Helper()
	w, text := s.ask(who, "GET", "/service/token?"+query, "", "")
	if w.StatusCode != http.StatusOK {
		return "", strings.TrimSpace(fmt.Sprint(w.StatusCode, " ", text))
	}
	var said struct {
		Token  string
		Access *string `json:"access_token"`
		Lives  int64   `json:"expires_in"`
		Issued string  `json:"issued_at"`
	}
	var holds struct {
		Sub, Iss, Aud, Jti string
		Exp, Nbf, Iat      int64
		Access             []struct {
			Type, Name string
			Actions    []string
		}
	}
	err := json.Unmarshal([]byte(text), &said)
	if err == nil {
		var raw []byte
		if parts := strings.Split(said.Token, "."); len(parts) == 3 {
			raw, err = base64.RawURLEncoding.DecodeString(parts[1])
		}
		if err == nil {
			err = json.Unmarshal(raw, &holds)
		}
	}
	issued, bad := time.Parse(time.RFC3339, said.Issued)
	if err != nil || bad != nil || said.Access == nil || *said.Access != "" || holds.Exp-holds.Iat != said.Lives || issued.Unix() != holds.Iat || holds.Nbf != holds.Iat ||
		holds.Iss != "harbor-token-issuer" || holds.Aud != "harbor-registry" || holds.Jti == "" {
		s.t.Errorf("%s %s: %v, %v, %s holds %+v", who, query, err, bad, text, holds)
	}
	var all []string
	for _, a := range holds.Access {
		if a.Actions == nil {
			s.t.Errorf("%s %s: no list of actions", who, query)
		}
		slices.Sort(a.Actions)
		all = append(all, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
	}
	return "Bearer " + said.Token, fmt.Sprintf("%s %d %s", holds.Sub, said.Lives, strings.Join(all, " "))
}

func TestTokensAreGivenAsHarborGives(t *testing.T) {
	s := see(t, harbortest.Options{})
	const of = "service=harbor-registry"
	scope := func(list ...string) string { return of + "&scope=" + strings.Join(list, "&scope=") }
	for _, x := range []struct{ who, query, want string }{
		// all that somebody may is given, whatever of it was asked for
		{"admin", scope("repository:team/x:pull"), "admin 1800 repository:team/x:delete,pull,push"},
		{"user0", scope("repository:team/x:pull"), "user0 1800 repository:team/x:delete,pull,push"},
		{"user1", scope("repository:team/x:pull,push"), "user1 1800 repository:team/x:pull"},
		{"robot", scope("repository:team/x:pull"), "robot$ci 1800 repository:team/x:pull,push"},
		// and nothing is 200 too, for who may not, nobody, and a wrong password
		{"user0", scope("repository:other/x:pull"), "user0 1800 repository:other/x:"},
		{"robot", scope("repository:other/x:pull"), "robot$ci 1800 repository:other/x:"},
		{"admin", scope("repository:nope/x:pull"), "admin 1800 repository:nope/x:"},
		{"", scope("repository:team/x:pull"), " 1800 repository:team/x:"},
		{"wrong", scope("repository:team/x:pull"), " 1800 repository:team/x:"},
		{"", scope("repository:library/x:pull,push"), " 1800 repository:library/x:pull"},
		{"robot", scope("repository:library/x:pull"), "robot$ci 1800 repository:library/x:pull"},
		// several, in either form
		{"user0", scope("repository:team/x:pull", "repository:other/y:pull"), "user0 1800 repository:team/x:delete,pull,push repository:other/y:"},
		{"admin", scope("repository:team/x:pull%20repository:other/y:push"), "admin 1800 repository:team/x:delete,pull,push repository:other/y:delete,pull,push"},
		// the catalogue's is given to administrators, and good for nothing
		{"admin", scope("registry:catalog:*"), "admin 1800 registry:catalog:*"},
		{"user0", scope("registry:catalog:*"), "user0 1800 registry:catalog:"},
		{"admin", scope("registry:x:*"), "admin 1800 registry:x:"},
		// scopes that are none
		{"admin", scope("repository:team/x"), "admin 1800 repository:team/x:delete,pull,push"},
		{"admin", scope("repository"), "admin 1800 repository::"},
		{"admin", scope("repository:single:pull"), "admin 1800 repository:single:"},
		{"admin", scope("foo:bar:baz"), "admin 1800 foo:bar:"},
		{"admin", scope(""), "admin 1800 "},
		// a login alone
		{"admin", of, "admin 1800 "},
		{"robot", of, "robot$ci 1800 "},
		{"", of, "401"},
		{"wrong", of, "401"},
		{"admin", of + "&account=zz&client_id=x&offline_token=true&scope=repository:team/x:pull", "admin 1800 repository:team/x:delete,pull,push"},
		{"admin", "scope=repository:team/x:pull", "400 Unable to handle service:"},
		{"admin", "service=%3Cx%3E", "400 Unable to handle service: &lt;x&gt;"},
	} {
		if _, have := s.token(x.who, x.query); have != x.want {
			t.Errorf("%q %s:\nhave %s\nwant %s", x.who, x.query, have, x.want)
		}
	}
	if have := s.answers("", "POST", "/service/token", "application/x-www-form-urlencoded", of); have != "405 | Method Not Allowed" {
		t.Error(have)
	}
	s.want(200, "PUT", "/configurations", `{"token_expiration":45}`)
	if _, have := s.token("admin", of); have != "admin 2700 " {
		t.Errorf("of 45 minutes: %s", have)
	}
}

func TestATokenIsGoodForItsProjects(t *testing.T) {
	now := time.Date(2026, time.November, 28, 12, 0, 0, 0, time.UTC)
	s := see(t, harbortest.Options{Now: func() time.Time { return now }})
	for _, name := range []string{"team/x", "other/a"} {
		if err := s.Push(harbortest.Image{Repository: name, Tags: []string{"v"}, Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(who string, scopes ...string) string {
		token, _ := s.token(who, "service=harbor-registry&scope="+strings.Join(scopes, "&scope="))
		return token
	}
	const team, other = "repository:team/x:pull", "repository:other/a:pull"
	tokens := map[string]string{
		"admin": get("admin", team), "both": get("admin", team, other), "user0": get("user0", team, other), "user1": get("user1", team), "robot": get("robot", team),
		"nobody": get("", team), "wrong": get("wrong", team), "nothing": get("admin", ""), "catalog": get("admin", "registry:catalog:*"), "none": "Bearer abc", "empty": "Bearer ",
	}
	const (
		refused = `401 | challenge Basic realm="harbor"`
		missing = "401 | challenge"
	)
	asks := []struct{ what, method, path string }{
		{"login", "HEAD", "/v2/"},
		{"its repository", "GET", "/v2/team/x/tags/list?n=0"},
		{"another of the project", "HEAD", "/v2/team/y/manifests/v"},
		{"another project", "GET", "/v2/other/a/tags/list?n=0"},
		{"push", "POST", "/v2/team/x/blobs/uploads/"},
		{"deletion", "DELETE", "/v2/team/x/manifests/" + unknownA},
		{"mount", "POST", "/v2/team/x/blobs/uploads/?mount=" + unknownA + "&from=other/a"},
		{"no project", "HEAD", "/v2/nope/a/manifests/v"},
		{"mount of no project", "POST", "/v2/team/x/blobs/uploads/?mount=" + unknownA + "&from=nope/a"},
		{"catalogue", "GET", "/v2/_catalog"},
		{"API", "GET", "/api/v2.0/projects/team/repositories/zz"},
	}
	may := func(list ...string) map[string]bool {
		m := map[string]bool{}
		for _, what := range list {
			m[what] = true
		}
		return m
	}
	for name, good := range map[string]map[string]bool{
		"admin":   may("login", "its repository", "another of the project", "push", "deletion"),
		"both":    may("login", "its repository", "another of the project", "push", "deletion", "another project", "mount"),
		"user0":   may("login", "its repository", "another of the project", "push", "deletion"),
		"user1":   may("login", "its repository", "another of the project"),
		"robot":   may("login", "its repository", "another of the project", "push"),
		"nobody":  may(), // has a token, and no name
		"wrong":   may(),
		"nothing": may("login"),
		"catalog": may("login"),
		"none":    may(),
		"empty":   may(),
	} {
		for _, x := range asks {
			w, text := s.ask(tokens[name], x.method, x.path, "", "")
			if have := w.StatusCode != http.StatusUnauthorized; have != good[x.what] {
				t.Errorf("the token of %s, %s: %s %s", name, x.what, w.Status, text)
			}
			want := strings.TrimPrefix(refused, "401 | challenge ")
			switch {
			case good[x.what] || x.what == "API":
				continue
			case x.what == "no project":
				want = strings.TrimPrefix(missing, "401 | challenge")
			}
			if have := w.Header.Get("Www-Authenticate"); have != want {
				t.Errorf("the token of %s, %s: challenge %q, want %q", name, x.what, have, want)
			}
		}
	}
	if r := s.Requests(); len(r) == 0 || !slices.ContainsFunc(r, func(r harbortest.Request) bool { return r.Login == "token" && r.Who == "robot$ci" }) {
		t.Error("a token's requests are not known as such")
	}
	login := func(name string) string { return s.answers(tokens[name], "GET", "/v2/team/x/tags/list?n=0", "", "") }
	// the end of a token is of Harbor's sources, the last row was seen
	now = now.Add(30*time.Minute + 59*time.Second)
	if have := login("admin"); !strings.HasPrefix(have, "200") {
		t.Errorf("within a minute after its end: %s", have)
	}
	now = now.Add(2 * time.Second)
	if have := login("admin"); !strings.HasPrefix(have, "401") {
		t.Errorf("after its end: %s", have)
	}
	tokens["old"] = get("admin", team)
	now = now.Add(2 * time.Minute)
	s.want(200, "DELETE", "/projects/team/repositories/x", "")
	s.want(200, "DELETE", "/projects/team", "")
	s.want(201, "POST", "/projects", `{"project_name":"team"}`)
	if have := login("old"); !strings.HasPrefix(have, "401") {
		t.Errorf("of a project that was made anew: %s", have)
	}
}
