package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/content/files"
)

// TestAnArtifactComesBack: what is empty, a file, a directory, and what refers to it,
// where the registry lists that and where its clients do.
func TestAnArtifactComesBack(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a": "text", "none": "", "d/x": "in it"} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	a := Artifact{Type: "application/x.y", Annotations: map[string]string{"k": "v"}}
	for _, name := range []string{"a", "none"} {
		l, err := FileLayer(filepath.Join(dir, name), name, "text/plain")
		if err != nil {
			t.Fatal(err)
		}
		a.Layers = append(a.Layers, l)
	}
	l, remove, err := DirectoryLayer(t.Context(), filepath.Join(dir, "d"), "d", "application/x.tar", files.Zstd)
	if err != nil {
		t.Fatal(err)
	}
	a.Layers = append(a.Layers, l)
	for name, to := range map[string]Target{"a registry": serve(t).open(t), "a layout": layout(t, t.TempDir(), true)} {
		t.Run(name, func(t *testing.T) {
			ref := Reference{Repository: "team/a", Tag: "v1"}
			d, err := Push(t.Context(), to, ref, a, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, layers, err := Layers(t.Context(), to, ref)
			if err != nil || got.Digest != d.Digest || len(layers) != 3 {
				t.Fatalf("%v, %v, %v", got, layers, err)
			}
			if is, err := Describe(t.Context(), to, ref); err != nil || is.Digest != d.Digest || is.Size != d.Size || is.MediaType != types.OCIManifestSchema1 {
				t.Errorf("%v, %v", is, err)
			}
			for i, want := range []string{"text", ""} {
				err := Read(t.Context(), to, "team/a", layers[i], func(r io.Reader) error {
					b, err := io.ReadAll(r)
					if string(b) != want {
						t.Errorf("%q", b)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
			s, err := Push(t.Context(), to, Reference{Repository: "team/a"}, Artifact{Type: "application/of", Subject: &d}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if list, err := to.referrers(t.Context(), "team/a", d.Digest, nil); err != nil || len(list) != 1 || list[0].Digest != s.Digest {
				t.Errorf("%v, %v", list, err)
			}
			if _, b, err := Manifest(t.Context(), to, Reference{Repository: "team/a", Digest: s.Digest}); err != nil || !strings.Contains(string(b), `"layers":[{"mediaType":"application/vnd.oci.empty.v1+json"`) {
				t.Errorf("%s, %v", b, err)
			}
		})
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
}

// TestAFileThatChangesMeanwhileIsNotPushed.
func TestAFileThatChangesMeanwhileIsNotPushed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	write := func(text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before")
	l, err := FileLayer(name, "a", "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	write("behind")
	to := serve(t).open(t)
	_, err = Push(t.Context(), to, Reference{Repository: "r", Tag: "v1"}, Artifact{Type: "x/y", Layers: []Layer{l}}, nil)
	if !errors.Is(err, ErrDigest) || !strings.HasPrefix(err.Error(), "reading a: ") {
		t.Errorf("%v", err)
	}
	if tags, _, err := to.Tags(t.Context(), "r"); err != nil || len(tags) > 0 {
		t.Errorf("%q, %v", tags, err)
	}
}

// TestATagAloneIsDeletedOrNothing: a registry that deletes by digest only is not asked to,
// and the tags that would go along are told.
func TestATagAloneIsDeletedOrNothing(t *testing.T) {
	s := serve(t)
	f := fill{t, s}
	d := f.image("a", "v1", layer(1, 100))
	f.image("a", "other", layer(2, 100))
	r := s.open(t)
	items := []Item{{Source: "a", Target: "a", One: "v1", As: "v2"}}
	c := &Copier{From: r, To: r}
	if got := c.tally(t.Context(), items); got.err != nil {
		t.Fatal(got.err)
	}
	s.between(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, "sha256:") {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return true
		}
		return false
	})
	if err := Untag(t.Context(), r, Reference{Repository: "a", Tag: "v1"}); !errors.Is(err, ErrKept) {
		t.Errorf("%v", err)
	}
	if tags, err := Tagged(t.Context(), r, "a", d.Digest); err != nil || !slices.Equal(tags, []string{"v1", "v2"}) {
		t.Errorf("%q, %v", tags, err)
	}
	s.between(nil)
	if err := Untag(t.Context(), r, Reference{Repository: "a", Tag: "v1"}); err != nil {
		t.Error(err)
	}
	if tags, _, err := r.Tags(t.Context(), "a"); err != nil || !slices.Equal(tags, []string{"other", "v2"}) {
		t.Errorf("%q, %v", tags, err)
	}
	if err := Delete(t.Context(), r, Reference{Repository: "a", Digest: d.Digest}); err != nil {
		t.Error(err)
	}
	if tags, _, err := r.Tags(t.Context(), "a"); err != nil || !slices.Equal(tags, []string{"other"}) {
		t.Errorf("%q, %v", tags, err)
	}
}

// TestAnIndexIsReducedToPlatforms, with their attestations, and stays an index.
func TestAnIndexIsReducedToPlatforms(t *testing.T) {
	s := serve(t)
	f := fill{t, s}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Annotations: map[string]string{"k": "v"}}
	for i, p := range []string{"linux/amd64", "linux/arm64/v8", "windows/amd64"} {
		want, err := ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		d := f.image("a", fmt.Sprintf("part%d", i), layer(uint64(i), 100))
		d.Platform = &want
		index.Manifests = append(index.Manifests, d)
		att := f.image("a", fmt.Sprintf("att%d", i), layer(uint64(100+i), 100))
		att.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
		att.Annotations = map[string]string{attested: d.Digest.String()}
		index.Manifests = append(index.Manifests, att)
	}
	whole := f.manifest("a", "v1", index)
	f.image("a", "plain", layer(50, 100))
	for text, kept := range map[string][]int{"linux/arm64": {2, 3}, "linux/amd64,windows/amd64": {0, 1, 4, 5}, "linux/amd64,linux/arm64,windows/amd64": {0, 1, 2, 3, 4, 5}} {
		t.Run(text, func(t *testing.T) {
			from, err := Platforms(s.open(t), strings.Split(text, ","))
			if err != nil {
				t.Fatal(err)
			}
			c := &Copier{From: from, To: serve(t).open(t)}
			items := []Item{{Source: "a", Target: "b", Tags: []string{"v1", "plain"}}}
			if got := c.tally(t.Context(), items); got.err != nil || got.copied != 2 {
				t.Fatalf("%+v", got)
			}
			d, b, err := Manifest(t.Context(), c.To, Reference{Repository: "b", Tag: "v1"})
			if err != nil || (d.Digest == whole.Digest) != (len(kept) == 6) {
				t.Fatalf("%v, %v", d, err)
			}
			var got v1.IndexManifest
			if err := json.Unmarshal(b, &got); err != nil || len(got.Manifests) != len(kept) || got.Annotations["k"] != "v" {
				t.Fatalf("%s, %v", b, err)
			}
			for i, n := range kept {
				if got.Manifests[i].Digest != index.Manifests[n].Digest {
					t.Errorf("%d is %s", i, got.Manifests[i].Digest)
				}
			}
			if got := c.tally(t.Context(), items); got.err != nil || got.same != 2 {
				t.Errorf("again: %+v", got)
			}
		})
	}
	from, err := Platforms(s.open(t), []string{"plan9/386"})
	if err != nil {
		t.Fatal(err)
	}
	c := &Copier{From: from, To: serve(t).open(t)}
	got := c.tally(t.Context(), []Item{{Source: "a", Target: "b", Tags: []string{"v1", "plain"}}})
	if got.copied != 1 || len(got.failed) != 1 || !strings.Contains(got.err.Error(), "it is not there for plan9/386, but for linux/amd64, linux/arm64/v8, windows/amd64") {
		t.Errorf("%+v", got)
	}
	ref, err := Platform(t.Context(), s.open(t), Reference{Repository: "a", Tag: "v1"}, v1.Platform{OS: "linux", Architecture: "arm64"})
	if err != nil || ref.Digest != index.Manifests[2].Digest {
		t.Errorf("%v, %v", ref, err)
	}
	for _, bad := range []string{"linux", "linux/", "/", "a/b/c/d", ""} {
		if _, err := Platforms(nil, []string{bad}); err == nil {
			t.Errorf("%q is a platform", bad)
		}
	}
}
