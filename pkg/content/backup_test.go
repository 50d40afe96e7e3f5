package content

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// everything is all but what is ocisync's own.
func everything(repository string) bool { return !strings.HasPrefix(repository, "ocisync/") }

// backed is how a backup went in a test.
type backed struct {
	Backed
	tally
}

// backup makes one, of which the configuration is a text.
func backup(t *testing.T, from Source, to *Layout, in func(string) bool) (backed, error) {
	t.Helper()
	text := "version = 1\n"
	mode := Artifact{Type: ModeType, Layers: []Layer{{
		Descriptor: v1.Descriptor{MediaType: "application/toml", Digest: digestOf([]byte(text)), Size: int64(len(text)), Annotations: map[string]string{TitleAnnotation: "mode.toml"}},
		Open:       func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}}}
	var out backed
	b := Backup{From: from, To: to, In: in, Mode: mode, Name: "m", Report: out.note()}
	var err error
	out.Backed, err = b.Run(t.Context())
	return out, err
}

// kept is what a layout in a directory says that each tag is, after all that its index
// names was read and hashed.
func kept(t *testing.T, dir string) map[string]v1.Hash {
	t.Helper()
	l := layout(t, dir, false)
	_, broken, err := l.Verify(t.Context())
	if err != nil || len(broken) > 0 {
		t.Fatalf("the backup is broken: %v, %v", broken, err)
	}
	all := map[string]v1.Hash{}
	for n, e := range l.now() {
		if n.repository != ModeRepository {
			all[Reference{Repository: n.repository, Tag: n.tag}.String()] = e.d.Digest
		}
	}
	return all
}

// TestABackupHoldsWhatTheRegistryHolds: every tag and what refers to it; a second one
// fetches nothing; what went goes from it, and what is new comes.
func TestABackupHoldsWhatTheRegistryHolds(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	_, digests := signed(t, s)
	got, err := backup(t, s.open(t), layout(t, dir, true), everything)
	if err != nil || got.err != nil || got.copied != 5 {
		t.Fatalf("%+v, %v", got, err)
	}
	first := kept(t, dir)
	if len(first) != 5 || first["team/a:v1"] != digests[0] {
		t.Errorf("%v", first)
	}
	for _, d := range digests[1:] {
		if _, ok, err := layout(t, dir, false).head(t.Context(), Reference{Repository: "team/a", Digest: d}); !ok || err != nil {
			t.Errorf("%s refers to it, and is not there: %v", d, err)
		}
	}
	index, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}

	s.forget()
	got, err = backup(t, s.open(t), layout(t, dir, true), everything)
	if err != nil || got.err != nil || got.same != 5 || got.Blobs != 0 || s.asked["GET blobs"] != 0 {
		t.Errorf("again: %+v, %v, %v", got, err, s.asked)
	}
	if again, err := os.ReadFile(filepath.Join(dir, indexFile)); err != nil || string(again) != string(index) {
		t.Errorf("again, and the index is another one: %v\n%s\n%s", err, index, again)
	}

	f := fill{t, s}
	f.image("team/new", "v1", layer(1, 3000))
	r := s.open(t)
	for _, tag := range []string{"v1"} {
		if err := Untag(t.Context(), r, Reference{Repository: "team/b", Tag: tag}); err != nil {
			t.Fatal(err)
		}
	}
	got, err = backup(t, s.open(t), layout(t, dir, true), everything)
	if err != nil || got.err != nil || got.copied != 1 || got.Blobs != 1 || fmt.Sprint(got.Gone) != "[team/b:v1]" {
		t.Errorf("%+v, %v", got, err)
	}
	if now := kept(t, dir); len(now) != 5 || now["team/new:v1"] == (v1.Hash{}) || now["team/b:v1"] != (v1.Hash{}) {
		t.Errorf("%v", now)
	}
	blobs := count(t, dir)
	pruned, err := layout(t, dir, true).Prune(t.Context())
	if err != nil || pruned.Blobs != 3 || count(t, dir) != blobs-3 { // configuration, layer and manifest of team/b:v1
		t.Errorf("%+v, %v; %d of %d blobs", pruned, err, count(t, dir), blobs)
	}
	kept(t, dir)
}

func count(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestABackupIsOfOneMoment: a tag that moves while it is made is backed up as it was.
func TestABackupIsOfOneMoment(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	f := fill{t, s}
	before := f.image("team/a", "v1", layer(1, 500))
	later := f.image("team/a", "other", layer(2, 500))
	var once sync.Once
	s.between(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && sort(r.URL.Path) == "manifests" {
			once.Do(func() {
				s.between(nil)
				m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob("team/a", []byte(`{"moved":true}`))}
				f.manifest("team/a", "v1", m)
			})
		}
		return false
	})
	if got, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil || got.err != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	want := map[string]v1.Hash{"team/a:v1": before.Digest, "team/a:other": later.Digest}
	if got := kept(t, dir); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// stopping are files of which no more than some are written: what comes then fails, as
// all does in a process that was killed there.
type stopping struct {
	Files
	mu   sync.Mutex
	left int
}

var errKilled = errors.New("killed")

func (s *stopping) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return errKilled
	}
	s.left--
	return s.Files.Put(ctx, name, size, body)
}

// TestABackupKilledAtAnyWriteLeavesTheLastOne: for all n, one that ends at its nth write
// leaves each tag as it was in the last one or as it is now, and whole; and the next one
// goes on.
func TestABackupKilledAtAnyWriteLeavesTheLastOne(t *testing.T) {
	s, last := serve(t), filepath.Join(t.TempDir(), "last")
	f := fill{t, s}
	signed(t, s)
	if got, err := backup(t, s.open(t), layout(t, last, true), everything); err != nil || got.err != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	before := kept(t, last)
	moved := f.image("team/a", "v1", layer(20, 700), layer(21, 300))
	signature := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob("team/a", []byte("{}")), Layers: []v1.Descriptor{f.blob("team/a", layer(22, 50))}, Subject: &moved}
	f.manifest("team/a", fallback(moved.Digest), v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{f.manifest("team/a", "", signature)}})
	f.image("team/c", "v1", layer(23, 100))
	ended := false
	for n := 0; !ended; n++ {
		dir := filepath.Join(t.TempDir(), "b")
		if err := os.CopyFS(dir, os.DirFS(last)); err != nil {
			t.Fatal(err)
		}
		d, err := OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		l, err := OpenLayout(t.Context(), &stopping{Files: d, left: n}, true)
		if err != nil {
			t.Fatal(err)
		}
		got, err := backup(t, s.open(t), l, everything)
		if ended = err == nil && got.err == nil; !ended && !errors.Is(errors.Join(err, got.err), errKilled) {
			t.Fatalf("%d: %v, %v", n, err, got.err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		after := kept(t, dir)
		switch {
		case !ended && !maps.Equal(before, after):
			t.Fatalf("killed at write %d, the last backup is not what it was:\n%v\n%v", n, before, after)
		case ended && (after["team/a:v1"] != moved.Digest || after["team/c:v1"] == v1.Hash{}):
			t.Errorf("after %d writes: %v", n, after)
		}
		if got, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil || got.err != nil {
			t.Fatalf("again after %d: %v, %v", n, err, got.err)
		}
		if again := kept(t, dir); again["team/a:v1"] != moved.Digest || len(again) != 7 {
			t.Errorf("again after %d: %v", n, again)
		}
		if n > 100 {
			t.Fatal("it does not end")
		}
	}
}

// TestABackupKeepsWhatCannotBeReadNow: a tag whose image is damaged, or whose repository
// the account sees no longer, stays as the last backup has it, with what refers to it; the
// rest goes on.
func TestABackupKeepsWhatCannotBeReadNow(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	f := fill{t, s}
	signed(t, s)
	f.image("hidden/app", "v1", layer(33, 100))
	if got, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil || got.err != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	before := kept(t, dir)
	f.image("team/a", "v1", layer(30, 400))
	fresh := f.image("team/b", "v1", layer(31, 400))
	s.between(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, digestOf(layer(30, 400)).Hex) {
			_, _ = w.Write(layer(32, 400))
			return true
		}
		if strings.HasSuffix(r.URL.Path, "/team/a/manifests/multi") {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		if r.URL.Path == "/v2/_catalog" {
			_, _ = io.WriteString(w, `{"repositories":["team/a","team/b"]}`)
			return true
		}
		if r.URL.Path == "/v2/hidden/app/tags/list" {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	got, err := backup(t, s.open(t), layout(t, dir, true), everything)
	s.between(nil)
	if err != nil || len(got.failed) != 3 || !errors.Is(got.err, ErrDigest) || !strings.Contains(got.err.Error(), "team/a:multi: it is not there, although it is listed") {
		t.Fatalf("%+v, %v", got, err)
	}
	want := maps.Clone(before)
	want["team/b:v1"] = fresh.Digest
	after := kept(t, dir)
	for ref, digest := range want {
		if after[ref] != digest {
			t.Errorf("%s is %s, and not %s", ref, after[ref], digest)
		}
	}
	was := before["team/a:v1"]
	if list, err := layout(t, dir, false).referrers(t.Context(), "team/a", was, nil); err != nil || len(list) != 1 {
		t.Errorf("what refers to it: %v, %v", list, err)
	}
}

// TestABackupOfANamespaceLeavesTheRest, and none is taken for an empty registry's.
func TestABackupOfANamespaceLeavesTheRest(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	f := fill{t, s}
	a := f.image("a/x", "v1", layer(1, 100))
	f.image("b/x", "v1", layer(2, 100))
	if _, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil {
		t.Fatal(err)
	}
	f.image("a/x", "v1", layer(3, 100))
	b := f.image("b/x", "v1", layer(4, 100))
	if _, err := backup(t, s.open(t), layout(t, dir, true), func(r string) bool { return strings.HasPrefix(r, "b/") }); err != nil {
		t.Fatal(err)
	}
	if got := kept(t, dir); got["a/x:v1"] != a.Digest || got["b/x:v1"] != b.Digest {
		t.Errorf("%v", got)
	}
	before := kept(t, dir)
	if _, err := backup(t, serve(t).open(t), layout(t, dir, true), everything); !errors.Is(err, ErrEmptied) {
		t.Errorf("of an empty registry: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	l := layout(t, other, true)
	c := &Copier{From: s.open(t), To: l}
	if got := c.tally(t.Context(), []Item{{Source: "a/x", Target: "a/x"}}); got.err != nil {
		t.Fatal(got.err)
	}
	if err := l.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := backup(t, s.open(t), layout(t, other, true), everything); !errors.Is(err, ErrNoBackup) {
		t.Errorf("over other content: %v", err)
	}
	if got := kept(t, dir); !maps.Equal(got, before) {
		t.Errorf("%v", got)
	}
}

// damage has a blob be other bytes of the same length.
func damage(t *testing.T, dir string, digest v1.Hash) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(file(digest)))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestADamagedBackupIsFoundAndMended: a layer and a manifest with other bytes are found by
// Verify, never removed for what they need by Prune, and fetched anew by the next backup.
func TestADamagedBackupIsFoundAndMended(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	f := fill{t, s}
	f.image("a/x", "v1", layer(1, 100))
	two := f.image("a/y", "v1", layer(2, 100))
	f.image("a/z", "v1", layer(3, 100))
	if _, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil {
		t.Fatal(err)
	}
	damage(t, dir, digestOf(layer(1, 100)))
	damage(t, dir, two.Digest)
	if p, err := layout(t, dir, true).Prune(t.Context()); err == nil || p.Blobs > 0 {
		t.Errorf("it removed %+v, %v", p, err)
	}
	_, broken, err := layout(t, dir, true).Verify(t.Context())
	names := []string{}
	for ref := range broken {
		names = append(names, ref.String())
	}
	slices.Sort(names)
	if err != nil || fmt.Sprint(names) != "[a/x:v1 a/y:v1]" {
		t.Fatalf("%v, %v", broken, err)
	}
	got, err := backup(t, s.open(t), layout(t, dir, true), everything)
	if err != nil || got.err != nil || got.copied != 2 || got.Blobs != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	kept(t, dir)
}

// restored is how a restore went in a test.
func restored(t *testing.T, from *Layout, to Target, overwrite bool) (due Due, out tally) {
	t.Helper()
	r := Restore{From: from, To: to, In: everything, Overwrite: overwrite, Report: out.note()}
	due, err := r.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sends, broken, err := r.Weigh(t.Context(), due)
	if err != nil {
		t.Fatal(err)
	}
	if out.moved = r.Run(t.Context(), due); len(broken) == 0 && len(out.failed) == 0 && (out.moved.Blobs != sends.Blobs || out.moved.Bytes != sends.Bytes) {
		t.Errorf("it said that it sends %+v, and sent %+v", sends, out.moved)
	}
	return due, out
}

// TestARestoreGivesBackWhatTheBackupHolds, leaves what differs unless it is told not to,
// and sends nothing twice.
func TestARestoreGivesBackWhatTheBackupHolds(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	signed(t, s)
	if _, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil {
		t.Fatal(err)
	}
	want := kept(t, dir)
	to := serve(t)
	theirs := fill{t, to}.image("team/a", "v1", layer(50, 100))
	due, got := restored(t, layout(t, dir, false), to.open(t), false)
	if got.err != nil || got.copied != 4 || len(due.Left) != 1 || due.Left[0].Was != theirs.Digest {
		t.Fatalf("%+v %+v", due, got)
	}
	if digest, _, err := to.open(t).head(t.Context(), Reference{Repository: "team/a", Tag: "v1"}); digest != theirs.Digest || err != nil {
		t.Errorf("what differs is %s, %v", digest, err)
	}
	due, got = restored(t, layout(t, dir, false), to.open(t), true)
	if got.err != nil || got.copied != 1 || len(due.Left) != 0 {
		t.Fatalf("%+v %+v", due, got)
	}
	for ref, digest := range want {
		repository, tag, _ := strings.Cut(ref, ":")
		if is, _, err := to.open(t).head(t.Context(), Reference{Repository: repository, Tag: tag}); is != digest || err != nil {
			t.Errorf("%s is %s, and not %s: %v", ref, is, digest, err)
		}
	}
	if _, got = restored(t, layout(t, dir, false), to.open(t), true); got.err != nil || got.same != 5 || got.moved.Blobs != 0 {
		t.Errorf("again: %+v", got)
	}
}

// TestARestoreRefusesWhatIsBroken by the name of the reference, and brings the rest.
func TestARestoreRefusesWhatIsBroken(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	f := fill{t, s}
	f.image("a/x", "v1", layer(1, 100))
	f.image("a/y", "v1", layer(2, 100))
	if _, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil {
		t.Fatal(err)
	}
	damage(t, dir, digestOf(layer(1, 100)))
	to := serve(t)
	_, got := restored(t, layout(t, dir, false), to.open(t), false)
	if got.copied != 1 || len(got.failed) != 1 || got.failed[0].Target.String() != "a/x:v1" || !errors.Is(got.err, ErrDigest) {
		t.Fatalf("%+v", got)
	}
	if _, ok, err := to.open(t).head(t.Context(), Reference{Repository: "a/x", Tag: "v1"}); ok || err != nil {
		t.Errorf("it is there: %v", err)
	}
}

// TestAModeIsKeptInTheBackup as an artifact that other tools read.
func TestAModeIsKeptInTheBackup(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	fill{t, s}.image("a/x", "v1", layer(1, 100))
	if _, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil {
		t.Fatal(err)
	}
	l := layout(t, dir, false)
	if got := ModesOf(l); !slices.Equal(got, []string{"m"}) {
		t.Fatalf("%q", got)
	}
	_, text, err := Manifest(t.Context(), l, Reference{Repository: ModeRepository, Tag: "m"})
	var said struct {
		ArtifactType string `json:"artifactType"`
	}
	if err = errors.Join(err, json.Unmarshal(text, &said)); err != nil || said.ArtifactType != ModeType {
		t.Errorf("%s, %v", text, err)
	}
}

// TestARestoreForeseesWhatRefersToPartsOfAnIndex, which no tag names.
func TestARestoreForeseesWhatRefersToPartsOfAnIndex(t *testing.T) {
	s, dir := serve(t), filepath.Join(t.TempDir(), "b")
	f := fill{t, s}
	f.multi("v1", "linux/amd64", "linux/arm64")
	part := f.image("a", "", layer(100, 50), []byte("v1linux/amd64"))
	s.between(lists(map[string][]v1.Descriptor{part.Digest.String(): {f.refers("a", part, 7)}}))
	if _, err := backup(t, s.open(t), layout(t, dir, true), everything); err != nil {
		t.Fatal(err)
	}
	const blobs = 2*2 + 1 + 2 // layers of both parts, their one configuration, and what refers to one
	if _, got := restored(t, layout(t, dir, false), serve(t).open(t), false); got.err != nil || got.moved.Blobs != blobs {
		t.Errorf("%+v, want %d blobs", got, blobs)
	}
}
