package embedded_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// hostile is a registry that holds what must not be lost, and clients that
// send what they should not. dev may do everything in team, where a quota
// counts, and nothing in secret; other may nothing.
type hostile struct {
	*served
	kept map[string]digest.Digest // by path
	used schema.Size
	// of secret/app:
	secret  digest.Digest // its manifest
	layer   digest.Digest
	catalog []string
}

const hostileQuota = 1 << 20

func newHostile(t *testing.T) *hostile {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	h := &hostile{kept: map[string]digest.Digest{}, catalog: []string{"secret/app", "team/app"}}
	t.Run("fill", func(t *testing.T) {
		h.served = quota(t, data, hostileQuota)
		h.change(t, putUser(t, "root", true), putUser(t, "other", false), putNamespace("secret"))
		keep := func(user, repo string) (manifest, layer digest.Digest) {
			config, content := []byte("{}"), []byte("the layer of "+repo)
			h.upload(t, user, repo, config)
			h.upload(t, user, repo, content)
			m := imagespec.Manifest{MediaType: imagespec.MediaTypeImageManifest}
			m.SchemaVersion = 2
			m.Config = imagespec.Descriptor{MediaType: imagespec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
			m.Layers = []imagespec.Descriptor{{MediaType: imagespec.MediaTypeImageLayer, Digest: digest.FromBytes(content), Size: int64(len(content))}}
			manifest, _ = h.put(t, user, repo, "1", imagespec.MediaTypeImageManifest, m)
			layer = digest.FromBytes(content)
			for path, d := range map[string]digest.Digest{
				"/manifests/1": manifest, "/manifests/" + manifest.String(): manifest, "/blobs/" + layer.String(): layer, "/blobs/" + m.Config.Digest.String(): m.Config.Digest,
			} {
				h.kept["/v2/"+repo+path] = d
			}
			return manifest, layer
		}
		keep("dev", "team/app")
		h.secret, h.layer = keep("root", "secret/app")
		h.used = h.usage(t).Used
	})
	age(t, data)
	h.served = serve(t, data)
	return h
}

// intact collects garbage of any age, and wants all that was there before
// there, whole and counted as before.
func (h *hostile) intact(t *testing.T) {
	t.Helper()
	age(t, h.data)
	if _, err := h.Run(t.Context(), embedded.JobGC, false); err != nil {
		t.Error(err)
	}
	for path, want := range h.kept {
		resp, b := h.request(t, "GET", "root", path, "", nil)
		if got := digest.FromBytes(b); resp.StatusCode != http.StatusOK || got != want {
			t.Errorf("lost: GET %s: %d, %s, want %s", path, resp.StatusCode, got, want)
		}
	}
	list := h.catalogue(t, "root", 100)
	if d := cmp.Diff([][]string{h.catalog}, list); d != "" {
		t.Errorf("the catalogue: %s", d)
	}
	if u := h.usage(t); u.Used != h.used {
		t.Errorf("%d bytes used, want %d", u.Used, h.used)
	}
	dir, err := embedded.OpenDirectory(h.data, "test", bucketFor(t, h.data))
	if err != nil {
		t.Fatal(err)
	}
	counted, err := dir.Usage(t.Context(), nil) // anew, from the storage
	if err != nil || len(counted) != 1 || counted[0] != h.usage(t) {
		t.Errorf("usage is %+v, and counted anew %+v, %v", h.usage(t), counted, err)
	}
}

// refused wants an answer with a status and an OCI error code.
func (h *hostile) refused(t *testing.T, what string, resp *http.Response, body []byte, status int, code string) {
	t.Helper()
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	err := json.Unmarshal(body, &answer)
	if resp.StatusCode != status || err != nil || len(answer.Errors) == 0 || answer.Errors[0].Code != code {
		t.Errorf("%s: %d %s (%v), want %d %s", what, resp.StatusCode, body, err, status, code)
	}
	if strings.Contains(string(body), h.data) {
		t.Errorf("%s: the answer names a file of the server: %s", what, body)
	}
}

// begin starts an upload and returns where it goes on.
func (h *hostile) begin(t *testing.T, user, repo string) string {
	t.Helper()
	resp, b := h.request(t, "POST", user, "/v2/"+repo+"/blobs/uploads/", "", nil)
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("beginning an upload: %d %s", resp.StatusCode, b)
	}
	return resp.Header.Get("Location")
}

func TestContentThatIsNotItsDigestIsRefusedAndLosesNothing(t *testing.T) {
	h := newHostile(t)
	const octets = "application/octet-stream"
	wrong := digest.FromString("something else").String()
	for _, chunked := range []bool{false, true} {
		at := h.begin(t, "dev", "team/app")
		body := []byte("this content")
		if chunked {
			resp, b := h.request(t, "PATCH", "dev", at, octets, body)
			if resp.StatusCode != http.StatusAccepted {
				t.Fatalf("%d %s", resp.StatusCode, b)
			}
			at, body = resp.Header.Get("Location"), nil
		}
		resp, b := h.request(t, "PUT", "dev", at+"&digest="+wrong, octets, body)
		h.refused(t, fmt.Sprint("a blob, chunked ", chunked), resp, b, http.StatusBadRequest, "DIGEST_INVALID")
	}
	// the digest of what is there, and nothing or something else sent
	for _, body := range []string{"", "x"} {
		resp, b := h.request(t, "PUT", "dev", h.begin(t, "dev", "team/app")+"&digest="+h.layer.String(), octets, []byte(body))
		h.refused(t, "the digest of a secret blob", resp, b, http.StatusBadRequest, "DIGEST_INVALID")
	}
	for _, d := range []string{"", "sha256:", "sha256:zz", "md5:d41d8cd98f00b204e9800998ecf8427e", "../../etc/passwd"} {
		resp, b := h.request(t, "PUT", "dev", h.begin(t, "dev", "team/app")+"&digest="+d, octets, []byte("x"))
		h.refused(t, fmt.Sprintf("digest %q", d), resp, b, http.StatusBadRequest, "DIGEST_INVALID")
	}
	manifest, err := json.Marshal(list())
	if err != nil {
		t.Fatal(err)
	}
	resp, b := h.request(t, "PUT", "dev", "/v2/team/app/manifests/"+wrong, imagespec.MediaTypeImageIndex, manifest)
	h.refused(t, "a manifest", resp, b, http.StatusBadRequest, "DIGEST_INVALID")
	resp, b = h.request(t, "PUT", "dev", "/v2/team/app/manifests/2", imagespec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,`))
	h.refused(t, "half a manifest", resp, b, http.StatusBadRequest, "MANIFEST_INVALID")
	for _, path := range []string{"/v2/team/app/blobs/" + wrong, "/v2/team/app/manifests/" + wrong, "/v2/team/app/manifests/2", "/v2/team/app/blobs/" + h.layer.String()} {
		if resp, _ := h.request(t, "GET", "dev", path, "", nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, resp.StatusCode)
		}
	}
	h.intact(t)
}

// TestABodyThatIsMalformedIsItsClientsError: nobody who may push has the registry
// answer and log failures of its own.
func TestABodyThatIsMalformedIsItsClientsError(t *testing.T) {
	h := newHostile(t)
	login := base64.StdEncoding.EncodeToString([]byte("dev:pw-dev"))
	for _, r := range [][2]string{
		{"PUT", h.begin(t, "dev", "team/app") + "&digest=" + digest.FromString("hello").String()},
		{"PATCH", h.begin(t, "dev", "team/app")}, {"PUT", "/v2/team/app/manifests/1"},
	} {
		c, err := net.Dial("tcp", h.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n", r[0], r[1], login); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "_INVALID") {
			t.Errorf("%s %s: %d %s %v", r[0], r[1], resp.StatusCode, b, err)
		}
		if err := errors.Join(resp.Body.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	}
	h.intact(t)
}

func TestAnUploadThatStopsHalfwayIsTakenUpOrLeavesNothing(t *testing.T) {
	h := newHostile(t)
	half := func(method, at string) {
		t.Helper()
		c, err := net.Dial("tcp", h.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		login := base64.StdEncoding.EncodeToString([]byte("dev:pw-dev"))
		if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Type: application/octet-stream\r\nContent-Length: 8\r\n\r\nhalf", method, at, login); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			resp.Body.Close()
			if resp.StatusCode < http.StatusBadRequest {
				t.Errorf("half of a %s is answered %d", method, resp.StatusCode)
			}
		}
	}
	whole := digest.FromString("halfhalf")
	at := h.begin(t, "dev", "team/app")
	half("PATCH", at)
	// the client asks how far it came, and goes on there
	resp, b := h.request(t, "GET", "dev", at, "", nil)
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("asking for a stopped upload: %d %s", resp.StatusCode, b)
	}
	rest := "half"
	if resp.Header.Get("Range") == "0-0" { // none of it was kept
		rest = "halfhalf"
	}
	resp, b = h.request(t, "PUT", "dev", resp.Header.Get("Location")+"&digest="+whole.String(), "application/octet-stream", []byte(rest))
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("going on: %d %s (%s)", resp.StatusCode, b, resp.Header)
	}
	if resp, b := h.request(t, "GET", "dev", "/v2/team/app/blobs/"+whole.String(), "", nil); string(b) != "halfhalf" {
		t.Errorf("the blob is %d %q", resp.StatusCode, b)
	}
	if resp, b := h.request(t, "DELETE", "dev", "/v2/team/app/blobs/"+whole.String(), "", nil); resp.StatusCode != http.StatusAccepted {
		t.Errorf("%d %s", resp.StatusCode, b)
	}
	// half of what ends an upload, and half a manifest
	half("PUT", h.begin(t, "dev", "team/app")+"&digest="+digest.FromString("half").String())
	half("PUT", "/v2/team/app/manifests/1")
	if resp, _ := h.request(t, "GET", "dev", "/v2/team/app/blobs/"+digest.FromString("half").String(), "", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("half a blob is there: %d", resp.StatusCode)
	}
	if u := h.usage(t); u.Waiting > schema.Size(len("halfhalf")) {
		t.Errorf("%d bytes wait", u.Waiting)
	}
	// one that its client gave up
	at = h.begin(t, "dev", "team/app")
	if resp, b := h.request(t, "DELETE", "dev", at, "", nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("giving an upload up: %d %s", resp.StatusCode, b)
	}
	resp, b = h.request(t, "PUT", "dev", at+"&digest="+whole.String(), "application/octet-stream", []byte("halfhalf"))
	h.refused(t, "an upload that was given up", resp, b, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
	h.intact(t)
}

// TestNoWayLeadsToContentOneMayNotRead tries, as somebody who may do all in one
// namespace and nothing in another, every way by which a registry could be
// brought to give the one's content to the other.
func TestNoWayLeadsToContentOneMayNotRead(t *testing.T) {
	h := newHostile(t)
	layer, manifest := h.layer.String(), h.secret.String()
	// a mount: refused, or an upload of one's own
	for _, tt := range []struct {
		user, repo, from string
		status           int
		code             string
	}{
		{"dev", "team/app", "secret/app", http.StatusForbidden, "DENIED"},
		{"dev", "team/app", "secret/nothing", http.StatusForbidden, "DENIED"}, // as if it were there
		{"other", "team/app", "secret/app", http.StatusForbidden, "DENIED"},
		{"", "team/app", "secret/app", http.StatusUnauthorized, "UNAUTHORIZED"},
		{"dev", "secret/mine", "secret/app", http.StatusForbidden, "DENIED"},
		{"dev", "team/app", "ocisync/state", http.StatusForbidden, "DENIED"},
		{"dev", "team/app", "secret:5000/app", http.StatusBadRequest, "NAME_INVALID"},
		{"dev", "team/app", "../secret/app", http.StatusBadRequest, "NAME_INVALID"},
	} {
		resp, b := h.request(t, "POST", tt.user, "/v2/"+tt.repo+"/blobs/uploads/?mount="+layer+"&from="+tt.from, "", nil)
		h.refused(t, fmt.Sprintf("%q mounts from %s", tt.user, tt.from), resp, b, tt.status, tt.code)
	}
	for _, query := range []string{"?mount=" + layer, "?mount=" + layer + "&from=team/app", "?mount=" + layer + "&from=team/other"} {
		if resp, b := h.request(t, "POST", "dev", "/v2/team/app/blobs/uploads/"+query, "", nil); resp.StatusCode != http.StatusAccepted {
			t.Errorf("%s: %d %s, want an upload", query, resp.StatusCode, b)
		}
	}
	// manifests: blobs that the repository has not, and children
	foreign := imagespec.Manifest{MediaType: imagespec.MediaTypeImageManifest}
	foreign.SchemaVersion = 2
	foreign.Config = imagespec.Descriptor{MediaType: imagespec.MediaTypeImageConfig, Digest: digest.FromString("{}"), Size: 2}
	foreign.Layers = []imagespec.Descriptor{{MediaType: imagespec.MediaTypeImageLayer, Digest: h.layer, Size: 23}}
	body, err := json.Marshal(foreign)
	if err != nil {
		t.Fatal(err)
	}
	resp, b := h.request(t, "PUT", "dev", "/v2/team/app/manifests/stolen", imagespec.MediaTypeImageManifest, body)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "BLOB_UNKNOWN") {
		t.Errorf("a manifest that names a secret blob: %d %s", resp.StatusCode, b)
	}
	if body, err = json.Marshal(list(described("", h.secret))); err != nil {
		t.Fatal(err)
	}
	resp, b = h.request(t, "PUT", "dev", "/v2/team/app/manifests/index", imagespec.MediaTypeImageIndex, body)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "push that first") {
		t.Errorf("an index that lists a secret manifest: %d %s", resp.StatusCode, b)
	}
	signature, _ := h.put(t, "dev", "team/app", "about", imagespec.MediaTypeImageIndex, func() imagespec.Index {
		x := list()
		x.ArtifactType, x.Subject = "signature", &imagespec.Descriptor{MediaType: imagespec.MediaTypeImageManifest, Digest: h.secret, Size: 2}
		return x
	}())
	// an upload of another repository's, by somebody who knows its address
	path, state, _ := strings.Cut(h.begin(t, "root", "secret/app"), "?")
	stolen := strings.Replace(path, "/secret/app/", "/team/app/", 1) + "?" + state
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		resp, b := h.request(t, method, "dev", stolen, "application/octet-stream", []byte("x"))
		if resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%s of another repository's upload: %d %s", method, resp.StatusCode, b)
		}
	}
	// nothing of all that gives a byte, by any method
	for _, method := range []string{"GET", "HEAD"} {
		for _, of := range []string{"/manifests/" + manifest, "/blobs/" + layer, "/blobs/" + manifest, "/manifests/stolen"} {
			if resp, b := h.request(t, method, "dev", "/v2/team/app"+of, "", nil); resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s team/app%s: %d %s", method, of, resp.StatusCode, b)
			}
		}
	}
	// what is there and what is not are answered alike
	for user, want := range map[string]int{"dev": http.StatusForbidden, "": http.StatusUnauthorized} {
		for _, method := range []string{"GET", "HEAD", "DELETE", "PUT"} {
			answers := map[string]bool{}
			for _, repo := range []string{"secret/app", "secret/not"} {
				for _, of := range []string{"/manifests/1", "/manifests/none", "/blobs/" + layer, "/blobs/" + digest.FromString("none").String()} {
					if method == "PUT" && strings.HasPrefix(of, "/blobs/") {
						continue
					}
					resp, b := h.request(t, method, user, "/v2/"+repo+of, imagespec.MediaTypeImageManifest, nil)
					header := resp.Header.Clone()
					header.Del("Date")
					answers[strings.ReplaceAll(fmt.Sprint(resp.StatusCode, header, string(b)), repo, "REPO")] = true
					if resp.StatusCode != want {
						t.Errorf("%q %s %s%s: %d, want %d", user, method, repo, of, resp.StatusCode, want)
					}
				}
			}
			if len(answers) != 1 {
				t.Errorf("%q %s: %d answers tell what is there: %v", user, method, len(answers), answers)
			}
		}
	}
	// what dev pushed is dev's own, and secret content does not hang on it
	for _, d := range []digest.Digest{signature} {
		if resp, _ := h.request(t, "DELETE", "dev", "/v2/team/app/manifests/"+d.String(), "", nil); resp.StatusCode != http.StatusAccepted {
			t.Errorf("deleting %s: %d", d, resp.StatusCode)
		}
	}
	h.intact(t)
}

// raw sends a request line as it is.
func (h *hostile) raw(t *testing.T, method, path, body string) (*http.Response, []byte) {
	t.Helper()
	c, err := net.Dial("tcp", h.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	login := base64.StdEncoding.EncodeToString([]byte("root:pw-root"))
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		method, path, login, imagespec.MediaTypeImageIndex, len(body), body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

func TestNamesFromAnotherWorldAreRefusedByName(t *testing.T) {
	h := newHostile(t)
	index, err := json.Marshal(list())
	if err != nil {
		t.Fatal(err)
	}
	some := digest.FromString("some").String()
	requests := [][3]string{
		{"PUT", "/manifests/1", string(index)}, {"POST", "/blobs/uploads/", ""}, {"POST", "/blobs/uploads/?mount=" + some + "&from=team/app", ""},
		{"GET", "/tags/list", ""}, {"GET", "/manifests/1", ""}, {"DELETE", "/manifests/1", ""}, {"GET", "/blobs/" + some, ""}, {"DELETE", "/blobs/" + some, ""},
		{"GET", "/referrers/" + some, ""},
	}
	long := strings.Repeat("a", 256)
	for _, name := range []string{
		"team/Upper", "a/B", "host:5000/x", "host:5000", "a/host:5000", "[::1]:5000/x", long, long[1:] + "/x", strings.Repeat("a/", 200) + "a",
		"team%00", "%00", "a%ff%feb", "a%0ab", "a%20b", "%c3%bcber", "a@b", "a%3ab", "_catalog", "_catalog/x", "_x", "team/_layers", "team/_manifests/tags", "_uploads/x",
		"a___b", "-a", "a-", ".a", "a.", "a..b", "a%2f_x", "%2e%2e%2e",
	} {
		for _, q := range requests {
			resp, b := h.raw(t, q[0], "/v2/"+name+q[1], q[2])
			h.refused(t, fmt.Sprintf("%s %.40s%s", q[0], name, q[1]), resp, b, http.StatusBadRequest, "NAME_INVALID")
		}
	}
	// by these nothing can be pushed; what a stock registry has of them can be
	// read and removed
	for _, name := range []string{"Upper/case", "UPPER/x"} {
		for _, q := range requests {
			resp, b := h.raw(t, q[0], "/v2/"+name+q[1], q[2])
			switch q[0] {
			case "PUT", "POST":
				h.refused(t, q[0]+" "+name, resp, b, http.StatusBadRequest, "NAME_INVALID")
			default:
				if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusOK {
					t.Errorf("%s %s%s: %d %s", q[0], name, q[1], resp.StatusCode, b)
				}
			}
		}
	}
	// not a clean path: it is sent to the clean one, and nothing is done
	for _, name := range []string{"..", "team/../secret/app", "team/..", "%2e%2e/x", "team/%2e%2e/secret/app", "team//app", "/team", "team/", "team/./app"} {
		for _, q := range requests {
			resp, b := h.raw(t, q[0], "/v2/"+name+q[1], q[2])
			if resp.StatusCode != http.StatusMovedPermanently && resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s%s: %d %s", q[0], name, q[1], resp.StatusCode, b)
			}
			if to := resp.Header.Get("Location"); strings.Contains(to, "..") || strings.HasPrefix(to, "//") {
				t.Errorf("%s %s%s leads to %s", q[0], name, q[1], to)
			}
		}
	}
	for path, code := range map[string]string{
		"/v2/team/app/manifests/..": "", "/v2/team/app/manifests/-x": "MANIFEST_UNKNOWN", "/v2/team/app/manifests/" + strings.Repeat("t", 129): "MANIFEST_UNKNOWN",
		"/v2/team/app/blobs/latest": "BLOB_UNKNOWN", "/v2/nothing": "NOT_FOUND", "/v2/team/app/else/1": "NOT_FOUND",
	} {
		resp, b := h.raw(t, "GET", path, "")
		if code != "" {
			h.refused(t, path, resp, b, http.StatusNotFound, code)
		}
	}
	resp, b := h.raw(t, "PATCH", "/v2/team/app/manifests/1", "")
	h.refused(t, "PATCH of a manifest", resp, b, http.StatusMethodNotAllowed, "UNSUPPORTED")
	// names that look odd and are none of that
	for _, name := range []string{"a__b", "b-b.c_d/e--f", "localhost/x", "docker.io/x", "tags/list", "a/blobs/uploads", "a/manifests/b", strings.Repeat("a", 255)} {
		if resp, b := h.raw(t, "PUT", "/v2/"+name+"/manifests/1", string(index)); resp.StatusCode != http.StatusCreated {
			t.Errorf("%s: %d %s", name, resp.StatusCode, b)
		}
		h.kept["/v2/"+name+"/manifests/1"] = digest.FromBytes(index)
		h.catalog = append(h.catalog, name)
	}
	slices.Sort(h.catalog)
	h.intact(t)
}

func TestAHundredUploadsOfOneBlobLeaveItOnceAndWhole(t *testing.T) {
	h := newHostile(t)
	blob := bytes.Repeat([]byte("one blob "), 8<<10)
	d := digest.FromBytes(blob)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if got := h.uploadInParts(t, fmt.Sprintf("team/app%d", i%7), blob, i%2 == 0); got != http.StatusCreated {
				t.Errorf("upload %d: %d", i, got)
			}
		})
	}
	all.Wait()
	if u := h.usage(t); u.Waiting != schema.Size(len(blob)) || u.Used != h.used {
		t.Errorf("%+v, want %d bytes to wait", u, len(blob))
	}
	m := artifact("", "names it", "")
	m.Layers[0] = imagespec.Descriptor{MediaType: imagespec.MediaTypeImageLayer, Digest: d, Size: int64(len(blob))}
	m.Config = m.Layers[0]
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		repo := fmt.Sprintf("team/app%d", i)
		h.put(t, "dev", repo, "1", imagespec.MediaTypeImageManifest, m)
		h.kept["/v2/"+repo+"/blobs/"+d.String()] = d
		h.kept["/v2/"+repo+"/manifests/1"] = digest.FromBytes(raw)
		h.catalog = append(h.catalog, repo)
	}
	slices.Sort(h.catalog)
	h.used += schema.Size(len(blob) + len(raw))
	if left, err := filepath.Glob(filepath.Join(h.data, "docker/registry/v2/repositories/team/app*/_uploads/*")); err != nil || len(left) > 0 {
		t.Errorf("uploads are left behind: %v, %v", left, err)
	}
	h.intact(t)
}

// TestAFailureOfTheServerIsForItsLogAlone puts a file where blobs should be.
func TestAFailureOfTheServerIsForItsLogAlone(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	var log bytes.Buffer
	s := serveWith(t, embedded.Options{Data: data, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.change(t, putUser(t, "root", true))
	if err := os.MkdirAll(filepath.Join(data, "docker/registry/v2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "docker/registry/v2/blobs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal(list())
	if err != nil {
		t.Fatal(err)
	}
	resp, b := s.request(t, "PUT", "root", "/v2/a/manifests/1", imagespec.MediaTypeImageIndex, manifest)
	(&hostile{served: s}).refused(t, "a push", resp, b, http.StatusInternalServerError, "UNKNOWN")
	if err := os.WriteFile(filepath.Join(data, "docker/registry/v2/repositories"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	resp, b = s.request(t, "POST", "root", "/v2/a/blobs/uploads/", "", nil) // Distribution answers itself
	(&hostile{served: s}).refused(t, "an upload", resp, b, http.StatusInternalServerError, "UNKNOWN")
	for _, want := range []string{"docker/registry/v2/blobs", "docker/registry/v2/repositories"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say why: %s", &log)
		}
	}
}
