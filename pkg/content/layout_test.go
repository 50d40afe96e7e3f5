package content

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/providers"
)

func layout(t testing.TB, dir string, write bool) *Layout {
	t.Helper()
	l, err := openLayout(t, dir, write)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func openLayout(t testing.TB, dir string, write bool) (*Layout, error) {
	t.Helper()
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return OpenLayout(t.Context(), d, write)
}

// signed is two repositories with what refers to an image and to that, and an index.
func signed(t *testing.T, s *served) (items []Item, digests []v1.Hash) {
	t.Helper()
	f := fill{t, s}
	image := f.image("team/a", "v1", layer(1, 3000), layer(2, 2000))
	f.image("team/b", "v1", layer(1, 3000), layer(3, 2000))
	f.manifest("team/a", "multi", v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{image}})
	signs := func(of v1.Descriptor, n uint64) v1.Descriptor {
		m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob("team/a", []byte("{}")), Layers: []v1.Descriptor{f.blob("team/a", layer(n, 50))}, Subject: &of}
		d := f.manifest("team/a", "", m)
		f.manifest("team/a", fallback(of.Digest), v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}})
		return d
	}
	signature := signs(image, 10)
	counter := signs(signature, 11)
	return []Item{{Source: "team/a", Target: "team/a", Tags: []string{"v1", "multi"}}, {Source: "team/b", Target: "team/b"}}, []v1.Hash{image.Digest, signature.Digest, counter.Digest}
}

// TestALayoutGivesBackWhatItGot: tags, indexes and what refers to them, in several
// repositories, with each blob once.
func TestALayoutGivesBackWhatItGot(t *testing.T) {
	from, to := serve(t), serve(t)
	items, digests := signed(t, from)
	dir := filepath.Join(t.TempDir(), "new", "layout")
	l := layout(t, dir, true)
	c := &Copier{From: from.open(t), To: l, Referrers: true}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 3 {
		t.Fatalf("%+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, indexFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the index was written before all was there: %v", err)
	}
	if err := l.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil || len(blobs) != 5+2+2+2+2-1+1 {
		t.Errorf("%d blobs, %v", len(blobs), err)
	}
	for _, b := range blobs {
		text, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", b.Name()))
		if err != nil || digestOf(text).Hex != b.Name() {
			t.Errorf("%s is not what it says, %v", b.Name(), err)
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}

	// again, and nothing is sent
	l = layout(t, dir, true)
	c = &Copier{From: from.open(t), To: l, Referrers: true}
	if got := c.tally(t.Context(), items); got.err != nil || got.same != 3 || got.moved != (Moved{}) {
		t.Errorf("again: %+v", got)
	}
	if err := l.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, indexFile)); err != nil || string(after) != string(before) {
		t.Errorf("the index changed, %v:\n%s\n%s", err, before, after)
	}

	l = layout(t, dir, false)
	c = &Copier{From: l, To: to.open(t), Referrers: true}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 3 {
		t.Fatalf("%+v", got)
	}
	for _, d := range digests {
		if _, ok, err := c.To.head(t.Context(), Reference{Repository: "team/a", Digest: d}); err != nil || !ok {
			t.Errorf("%s did not come back: %v", d, err)
		}
	}
	if tags, _, err := l.Tags(t.Context(), "team/a"); err != nil || !slices.Equal(tags, []string{"multi", "v1"}) {
		t.Errorf("%q, %v", tags, err)
	}
	for _, i := range items {
		for _, tag := range []string{"v1"} {
			x, _, err1 := l.head(t.Context(), Reference{Repository: i.Source, Tag: tag})
			y, ok, err2 := c.To.head(t.Context(), Reference{Repository: i.Target, Tag: tag})
			if x != y || !ok || err1 != nil || err2 != nil {
				t.Errorf("%s: %s and %s, %v, %v", i.Source, x, y, err1, err2)
			}
		}
	}
}

// TestAStoppedCopyLeavesTheLayoutAsItWas, and the next one goes on with what is there.
func TestAStoppedCopyLeavesTheLayoutAsItWas(t *testing.T) {
	from := serve(t)
	f := fill{t, from}
	f.image("a", "v1", layer(1, 1000))
	dir := t.TempDir()
	put := func(commit bool) tally {
		l := layout(t, dir, true)
		c := &Copier{From: from.open(t), To: l}
		got := c.tally(t.Context(), []Item{{Source: "a", Target: "a"}})
		if got.err != nil {
			t.Fatal(got.err)
		}
		if commit {
			if err := l.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	put(true)
	before, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	f.image("a", "v1", layer(2, 1000))
	f.image("a", "v2", layer(3, 1000))
	put(false)
	if after, err := os.ReadFile(filepath.Join(dir, indexFile)); err != nil || string(after) != string(before) {
		t.Fatalf("the index changed, %v:\n%s\n%s", err, before, after)
	}
	l := layout(t, dir, false)
	if m, err := l.manifest(t.Context(), Reference{Repository: "a", Tag: "v1"}); err != nil || !strings.Contains(string(before), m.digest.String()) {
		t.Errorf("%v", err)
	}
	if got := put(true); got.copied != 2 || got.moved.Blobs != 0 {
		t.Errorf("what lay there was sent anew: %+v", got)
	}
	same(t, from.open(t), layout(t, dir, true), []Item{{Source: "a", Target: "a"}})
}

// TestALayoutTakesOnlyWhatIsWhole: a blob of other bytes, or of another length, is not
// there under any name.
func TestALayoutTakesOnlyWhatIsWhole(t *testing.T) {
	body := layer(1, 5000)
	good := v1.Descriptor{Digest: digestOf(body), Size: int64(len(body))}
	for name, tc := range map[string]struct {
		d    v1.Descriptor
		body []byte
	}{
		"other bytes": {good, layer(2, 5000)},
		"fewer":       {good, body[:4000]},
		"none":        {v1.Descriptor{Digest: good.Digest}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from := &held{blobs: map[v1.Hash][]byte{tc.d.Digest: tc.body}}
			c := &Copier{From: from, To: layout(t, dir, true), pools: newPools(1, 1), blobs: &brought{}}
			if err := c.bring(t.Context(), "a", "a", tc.d); !errors.Is(err, ErrDigest) {
				t.Errorf("%v", err)
			}
			err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
				if err == nil && !e.IsDir() && e.Name() != layoutFile {
					t.Errorf("%s is there", p)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// held is a source of blobs alone.
type held struct {
	Source
	blobs map[v1.Hash][]byte
}

func (h *held) blob(_ context.Context, _ string, d v1.Descriptor, from int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(h.blobs[d.Digest][from:]))), nil
}

func (h *held) fail(_ Reference, _ string, err error) error { return err }

// lay writes a layout by hand: blobs by their digests, and an index of entries.
func lay(t testing.TB, entries string, blobs ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, b []byte) {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put(layoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	put(indexFile, []byte(`{"schemaVersion":2,"manifests":[`+entries+`]}`))
	for _, b := range blobs {
		put("blobs/sha256/"+digestOf(b).Hex, b)
	}
	return dir
}

func described(t testing.TB, b []byte, annotations string) string {
	t.Helper()
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{%s}}`, types.OCIManifestSchema1, digestOf(b), len(b), annotations)
}

func plainImage(t testing.TB, layers ...[]byte) (manifest []byte, blobs [][]byte) {
	t.Helper()
	config := []byte(`{}`)
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: digestOf(config), Size: 2}, Layers: []v1.Descriptor{}}
	for _, l := range layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: types.OCILayer, Digest: digestOf(l), Size: int64(len(l))})
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b, append([][]byte{config, b}, layers...)
}

// TestLayoutsOfOtherToolsAreRead: a tag alone, what containerd writes, what nobody named.
func TestLayoutsOfOtherToolsAreRead(t *testing.T) {
	one, blobs := plainImage(t, layer(1, 100))
	two, more := plainImage(t, layer(2, 100))
	dir := lay(t, strings.Join([]string{
		described(t, one, `"org.opencontainers.image.ref.name":"v1"`),
		described(t, one, `"org.opencontainers.image.ref.name":"latest","io.containerd.image.name":"docker.io/library/alpine:latest"`),
		described(t, two, `"org.opencontainers.image.ref.name":"team/app:2"`),
		described(t, two, ``),
	}, ","), append(blobs, more...)...)
	l := layout(t, dir, false)
	for repository, want := range map[string]string{"": "v1", "library/alpine": "latest", "team/app": "2"} {
		if tags, ok, err := l.Tags(t.Context(), repository); err != nil || !ok || !slices.Equal(tags, []string{want}) {
			t.Errorf("%q has %q, %v", repository, tags, err)
		}
	}
	if list, err := l.Repositories(t.Context()); err != nil || !slices.Equal(list, []string{"", "library/alpine", "team/app"}) {
		t.Errorf("%q, %v", list, err)
	}
	to := serve(t)
	c := &Copier{From: l, To: to.open(t)}
	items := []Item{{Source: "", Target: "of/none", One: "v1"}, {Source: "", Target: "of/digest", One: digestOf(two).String()}}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 2 {
		t.Errorf("%+v", got)
	}
	// what is written into it leaves what is there
	l = layout(t, dir, true)
	c = &Copier{From: to.open(t), To: l}
	if got := c.tally(t.Context(), []Item{{Source: "of/none", Target: "ours"}}); got.err != nil {
		t.Fatal(got.err)
	}
	if err := l.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil || !strings.Contains(string(text), `"io.containerd.image.name":"docker.io/library/alpine:latest"`) || !strings.Contains(string(text), `"ours:v1"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestHostileLayoutsAreRefused, what is wrong by the name it has, and the rest goes on.
func TestHostileLayoutsAreRefused(t *testing.T) {
	one, blobs := plainImage(t, layer(1, 100))
	good := described(t, one, `"org.opencontainers.image.ref.name":"a:good"`)
	entry := func(digest string, size int, name string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":%q}}`, types.OCIManifestSchema1, digest, size, name)
	}
	lies, lying := plainImage(t, layer(4, 100))
	lies = []byte(strings.Replace(string(lies), `"size":100`, `"size":90`, 1))
	self := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":10}]}`, types.OCIImageIndex, digestOf([]byte("self")))
	for name, tc := range map[string]struct {
		bad  string
		with func(t *testing.T, dir string)
		says string
	}{
		"a digest that leads out": {bad: entry("sha256:../../../../etc/passwd", 10, "a:bad"), says: "entry 2 of index.json: found non-hex character"},
		"another algorithm":       {bad: entry("md5:"+strings.Repeat("0", 32), 10, "a:bad"), says: `unsupported hash: "md5"`},
		"a name that leads out":   {bad: entry(digestOf(one).String(), len(one), "../../a:bad"), says: `its name "../../a:bad" is no repository:tag`},
		"a size that lies":        {bad: entry(digestOf(one).String(), len(one)-1, "a:bad"), says: "it is not what its digest says"},
		"a size below nothing":    {bad: entry(digestOf(one).String(), -1, "a:bad"), says: "it names nothing"},
		"what is not there":       {bad: entry(digestOf([]byte("x")).String(), 1, "a:bad"), says: "it is not there"},
		"two of one name":         {bad: entry(digestOf([]byte("x")).String(), 1, "a:bad") + "," + entry(digestOf([]byte("y")).String(), 1, "a:bad"), says: "index.json says two times what it is"},
		"no entry":                {bad: `7`, says: "entry 2 of index.json"},
		"other bytes": {bad: entry(digestOf([]byte("other")).String(), len(one), "a:bad"), with: func(t *testing.T, dir string) {
			t.Helper()
			write1(t, dir, digestOf([]byte("other")), one)
		}, says: "what comes has sha256:"},
		"an index in itself": {bad: entry(digestOf([]byte("self")).String(), len(self), "a:bad"), with: func(t *testing.T, dir string) {
			t.Helper()
			write1(t, dir, digestOf([]byte("self")), []byte(self))
		}, says: "it is not what its digest says"},
		"a layer whose size lies": {bad: entry(digestOf(lies).String(), len(lies), "a:bad"), with: func(t *testing.T, dir string) {
			t.Helper()
			for _, b := range append(lying, lies) {
				write1(t, dir, digestOf(b), b)
			}
		}, says: "it has 100 bytes, and should have 90"},
		"a link": {bad: entry(digestOf([]byte("linked")).String(), len(one), "a:bad"), with: func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Symlink(digestOf(one).Hex, filepath.Join(dir, "blobs/sha256", digestOf([]byte("linked")).Hex)); err != nil {
				t.Fatal(err)
			}
		}, says: "it is a link"},
		"a directory": {bad: entry(digestOf([]byte("dir")).String(), len(one), "a:bad"), with: func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Mkdir(filepath.Join(dir, "blobs/sha256", digestOf([]byte("dir")).Hex), 0o700); err != nil {
				t.Fatal(err)
			}
		}, says: "it is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := lay(t, good+","+tc.bad, blobs...)
			if tc.with != nil {
				tc.with(t, dir)
			}
			l := layout(t, dir, false)
			list, err := l.Repositories(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var items []Item
			for _, r := range list {
				items = append(items, Item{Source: r, Target: "to/" + "x" + r})
			}
			c := &Copier{From: l, To: serve(t).open(t), Referrers: true}
			got := c.tally(t.Context(), items)
			if got.copied != 1 || len(got.failed) != 1 {
				t.Fatalf("%+v", got)
			}
			var own *providers.Error
			if err := got.failed[0].Err; !errors.As(err, &own) || own.Registry != dir || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func write1(t *testing.T, dir string, digest v1.Hash, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file(digest)), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsNoLayoutIsSaid.
func TestWhatIsNoLayoutIsSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(dir string) error
		says   string
	}{
		"none": {func(dir string) error { return os.Remove(filepath.Join(dir, layoutFile)) }, "it has no file oci-layout"},
		"another version": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, layoutFile), []byte(`{"imageLayoutVersion":"2.0.0"}`), 0o600)
		}, "of a version 1"},
		"no index": {func(dir string) error { return os.Remove(filepath.Join(dir, indexFile)) }, "it has no file index.json"},
		"no JSON":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, indexFile), []byte(`{`), 0o600) }, "index.json is not JSON"},
		"no list": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, indexFile), []byte(`{"manifests":7}`), 0o600)
		}, "no list"},
		"too long": {func(dir string) error { return os.Truncate(filepath.Join(dir, indexFile), maxIndex+1) }, "more than 67108864 bytes"},
		"a link": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, indexFile)), os.Symlink("/etc/hostname", filepath.Join(dir, indexFile)))
		}, "it is a link"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := lay(t, "")
			if err := tc.change(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := openLayout(t, dir, false); err == nil || !strings.Contains(err.Error(), dir+": reading the layout: ") || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestATagTakenFromALayoutIsGone, and the other tags stay.
func TestATagTakenFromALayoutIsGone(t *testing.T) {
	one, blobs := plainImage(t)
	dir := lay(t, described(t, one, `"org.opencontainers.image.ref.name":"a:1"`)+","+described(t, one, `"org.opencontainers.image.ref.name":"a:2"`), blobs...)
	l := layout(t, dir, true)
	if err := errors.Join(l.untag(t.Context(), Reference{Repository: "a", Tag: "1"}), l.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := l.untag(t.Context(), Reference{Repository: "a", Tag: "1"}); !errors.Is(err, ErrAbsent) {
		t.Errorf("%v", err)
	}
	if tags, _, err := layout(t, dir, false).Tags(t.Context(), "a"); err != nil || !slices.Equal(tags, []string{"2"}) {
		t.Errorf("%q, %v", tags, err)
	}
}

// FuzzLayoutIndex: whatever an index says, nothing panics, and each name can be asked for.
func FuzzLayoutIndex(f *testing.F) {
	one, blobs := plainImage(f)
	f.Add(`{"schemaVersion":2,"manifests":[` + described(f, one, `"org.opencontainers.image.ref.name":"a:1"`) + `]}`)
	f.Add(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":":"}},7,null]}`)
	dir := lay(f, "", blobs...)
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(dir, indexFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openLayout(t, dir, false)
		if err != nil {
			return
		}
		list, err := l.Repositories(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			tags, ok, err := l.Tags(t.Context(), r)
			if err != nil || !ok {
				t.Fatalf("%q has no tags: %v", r, err)
			}
			for _, tag := range tags {
				if !tagName.MatchString(tag) {
					t.Fatalf("%q is a tag", tag)
				}
				_, _ = l.manifest(t.Context(), Reference{Repository: r, Tag: tag})
			}
		}
	})
}
