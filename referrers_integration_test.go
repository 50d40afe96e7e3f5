//go:build integration

package ocisync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

const referrersMode = `
[state]
store = "dir"
dir = "../../state"
[user.root]
admin = true
password = { env = "OCISYNC_ROOT" }
[namespace.team]
access = { anonymous = ["pull"], authenticated = [] }
`

// TestIntegrationReferrersOutliveCollectionAlike has the embedded registry and
// Distribution collect the same content: what is about an image that was deleted
// goes from both, and what is kept apart from its image stays in both.
func TestIntegrationReferrersOutliveCollectionAlike(t *testing.T) {
	_, distribution := enginetest.Servers(t, ".")
	runs := map[string]string{"embedded": "driver = \"embedded\"\n", "distribution": fmt.Sprintf("driver = \"process\"\nbinary = %q\n", distribution)}
	for _, untagged := range []bool{true, false} {
		for which, run := range runs {
			t.Run(fmt.Sprintf("%s untagged %v", which, untagged), func(t *testing.T) {
				s := signed(t, run, fmt.Sprintf("[gc]\nuntagged = %v\n", untagged))
				s.fill()
				all := s.left()
				s.must(0, "run", "gc", "--dry-run")
				if diff := cmp.Diff(all, s.left()); diff != "" {
					t.Fatalf("a dry run (-before +after):\n%s", diff)
				}
				want := map[string]bool{}
				for what := range all {
					of, about, _ := strings.Cut(what, " about ")
					goes := about == "deleted" || about == "untagged" || about == "that" || of == "app deleted" || of == "app untagged"
					if which == "distribution" && !untagged { // manifests that no tag names stay
						goes = about == "deleted" && strings.Contains(of, ":") || of == "app deleted"
					}
					want[what] = !goes
				}
				for range 2 {
					s.must(0, "run", "gc")
					if diff := cmp.Diff(want, s.left()); diff != "" {
						t.Errorf("left (-want +got):\n%s", diff)
					}
				}
			})
		}
	}
}

// signatures is a registry with content and what is about it.
type signatures struct {
	*site
	known  map[string]string            // path below /v2/team/ of what was pushed, by what it is
	rights map[string]http.RoundTripper // by what they are
}

func signed(t *testing.T, run, more string) *signatures {
	t.Helper()
	s := &signatures{site: newSite(t, "http://"+porttest.Address(t), ""), known: map[string]string{}, rights: map[string]http.RoundTripper{}}
	tokens := "http://" + porttest.Address(t)
	token := fmt.Sprintf("[registry.token]\nurl = %q\nlisten = %q\n", strings.Replace(tokens, "127.0.0.1", "localhost", 1), strings.TrimPrefix(tokens, "http://"))
	if strings.Contains(run, "embedded") {
		token = ""
	}
	s.write("modes/m/m.toml", fmt.Sprintf("version = 1\n[registry]\ntype = \"distribution\"\nurl = %q\n[registry.run]\n%sdata = %q\n%s", s.url, run, s.data, token)+referrersMode+more)
	s.env = append(s.env, "OCISYNC_ROOT=root's long password")
	s.must(0, "up", "--detach")
	t.Cleanup(func() {
		if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
	})
	s.must(0, "apply")
	return s
}

// as is a transport of somebody to a repository. Who may push and asks whether
// something is there has the embedded registry keep it.
func (s *signatures) as(repository string, who authn.Authenticator, rights string) (http.RoundTripper, name.Repository) {
	s.t.Helper()
	repo, err := name.NewRepository(strings.TrimPrefix(s.url, "http://")+"/team/"+repository, name.Insecure)
	if err != nil {
		s.t.Fatal(err)
	}
	key := repository + " " + rights
	if rt := s.rights[key]; rt != nil {
		return rt, repo
	}
	base := &http.Transport{}
	s.t.Cleanup(base.CloseIdleConnections)
	rt, err := transport.NewWithContext(s.t.Context(), repo.Registry, who, base, []string{repo.Scope(rights)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.rights[key] = rt
	return rt, repo
}

var root = &authn.Basic{Username: "root", Password: "root's long password"}

func (s *signatures) ask(rt http.RoundTripper, method, path, kind string, body []byte) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/v2/team/"+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if method == http.MethodPut {
		req.Header.Set("Content-Type", kind)
	}
	req.Header["Accept"] = []string{imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageIndex}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(text)
}

// put puts a manifest or an index as it is: a library would make lists of
// referrers in the one registry and not in the other.
func (s *signatures) put(repository, reference, what string, manifest any) imagespec.Descriptor {
	s.t.Helper()
	rt, repo := s.as(repository, root, "push,pull")
	kind := imagespec.MediaTypeImageIndex
	if m, ok := manifest.(imagespec.Manifest); ok {
		kind = imagespec.MediaTypeImageManifest
		if err := remote.WriteLayer(repo, static.NewLayer(m.Config.Data, types.MediaType(m.Config.MediaType)), remote.WithTransport(rt)); err != nil {
			s.t.Fatal(err)
		}
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		s.t.Fatal(err)
	}
	d := imagespec.Descriptor{MediaType: kind, Digest: digest.FromBytes(text), Size: int64(len(text))}
	if reference == "" {
		reference = d.Digest.String()
	} else {
		s.known[repository+":"+what] = repository + "/manifests/" + reference
	}
	if resp, said := s.ask(rt, http.MethodPut, repository+"/manifests/"+reference, kind, text); resp.StatusCode != http.StatusCreated {
		s.t.Fatalf("PUT %s of %s answers %d: %s", what, repository, resp.StatusCode, said)
	}
	s.known[repository+" "+what] = repository + "/manifests/" + d.Digest.String()
	return d
}

func image(text string, about *imagespec.Descriptor) imagespec.Manifest {
	empty := imagespec.DescriptorEmptyJSON
	return imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest, ArtifactType: "application/vnd.example",
		Config: empty, Layers: []imagespec.Descriptor{empty}, Subject: about, Annotations: map[string]string{"is": text},
	}
}

// sign puts all that clients make about an image into a repository, and a
// signature of the signature.
func (s *signatures) sign(repository, which string, of imagespec.Descriptor) {
	s.t.Helper()
	tag := func(d imagespec.Descriptor) string { return strings.Replace(d.Digest.String(), ":", "-", 1) }
	list := func(what string, d, of imagespec.Descriptor) {
		s.put(repository, tag(of), what, imagespec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageIndex, Manifests: []imagespec.Descriptor{d}})
	}
	about := " about " + which
	signature := s.put(repository, "", "signature"+about, image("signature"+about, &of))
	list("list"+about, signature, of)
	if which == "deleted" || which == "untagged" {
		about = " about that"
	}
	list("list of "+which+about, s.put(repository, "", "countersignature of "+which+about, image("countersignature of "+which, &signature)), signature)
	for _, ending := range []string{".sig", ".att", ".sbom"} {
		s.put(repository, tag(of)+ending, ending+" about "+which, image(ending+which, nil))
	}
}

// fill pushes and deletes, and makes all of it two days old.
func (s *signatures) fill() {
	s.t.Helper()
	remove := func(path string) {
		s.t.Helper()
		rt, _ := s.as("app", root, "push,pull,delete")
		if resp, said := s.ask(rt, http.MethodDelete, path, "", nil); resp.StatusCode != http.StatusAccepted {
			s.t.Fatalf("DELETE %s answers %d: %s", path, resp.StatusCode, said)
		}
	}
	for _, which := range []string{"kept", "deleted", "untagged", "elsewhere"} {
		tag := "v-" + which
		repository := "app"
		if which == "elsewhere" {
			repository = "source"
		}
		d := s.put(repository, tag, which, image(which, nil))
		delete(s.known, repository+":"+which)
		s.sign("app", which, d)
		switch which {
		case "deleted":
			remove("app/manifests/" + d.Digest.String())
		case "untagged":
			remove("app/manifests/" + tag)
		}
	}
	// no list, and so a tag like others
	s.put("app", "sha256-"+digest.FromString("nothing").Encoded(), "image", image("image", nil))
	then := time.Now().Add(-48 * time.Hour)
	if err := filepath.WalkDir(s.data, func(path string, _ fs.DirEntry, err error) error {
		if base := filepath.Base(path); err == nil && (base == "link" || base == "data") && strings.Contains(path, "/docker/registry/v2/") {
			err = os.Chtimes(path, then, then)
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	s.must(0, "restart") // it remembers what was pushed a moment ago
}

// left says what is there of what was pushed.
func (s *signatures) left() map[string]bool {
	s.t.Helper()
	out := map[string]bool{}
	for what, path := range s.known {
		repository, _, _ := strings.Cut(path, "/")
		rt, _ := s.as(repository, authn.Anonymous, "pull")
		resp, said := s.ask(rt, http.MethodGet, path, "", nil)
		if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound {
			s.t.Fatalf("GET %s answers %d: %s", path, resp.StatusCode, said)
		}
		out[what] = resp.StatusCode == http.StatusOK
	}
	return out
}
