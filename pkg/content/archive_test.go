package content

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func archive(t testing.TB, name string, write bool) *Layout {
	t.Helper()
	l, err := Archive(t.Context(), name, write)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// nothingBeside holds that a directory has these files alone.
func nothingBeside(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("%q are there, want %q", names, want)
	}
}

// TestAnArchiveGivesBackWhatItGot, packed or not; two of the same content are the same
// bytes, and nothing temporary stays.
func TestAnArchiveGivesBackWhatItGot(t *testing.T) {
	from := serve(t)
	items, digests := signed(t, from)
	for _, suffix := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst"} {
		t.Run(suffix, func(t *testing.T) {
			dir, temp := t.TempDir(), t.TempDir()
			t.Setenv("TMPDIR", temp)
			var first []byte
			for _, n := range []string{"a", "b"} {
				name := filepath.Join(dir, n+suffix)
				l := archive(t, name, true)
				c := &Copier{From: from.open(t), To: l, Referrers: true}
				if got := c.tally(t.Context(), items); got.err != nil || got.copied != 3 {
					t.Fatalf("%+v", got)
				}
				if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("it is there before all is: %v", err)
				}
				if err := errors.Join(l.Commit(t.Context()), l.Close()); err != nil {
					t.Fatal(err)
				}
				text, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = text
				} else if !bytes.Equal(text, first) {
					t.Error("two of the same content are not the same")
				}
			}
			nothingBeside(t, dir, "a"+suffix, "b"+suffix)

			l := archive(t, filepath.Join(dir, "a"+suffix), false)
			c := &Copier{From: l, To: serve(t).open(t), Referrers: true}
			if got := c.tally(t.Context(), items); got.err != nil || got.copied != 3 {
				t.Fatalf("%+v", got)
			}
			for _, d := range digests {
				if _, ok, err := c.To.head(t.Context(), Reference{Repository: "team/a", Digest: d}); err != nil || !ok {
					t.Errorf("%s did not come back: %v", d, err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			nothingBeside(t, temp)
		})
	}
}

// TestAnArchiveThatIsNotFinishedIsNotThere.
func TestAnArchiveThatIsNotFinishedIsNotThere(t *testing.T) {
	from := serve(t)
	items, _ := signed(t, from)
	dir := t.TempDir()
	l := archive(t, filepath.Join(dir, "a.tar"), true)
	c := &Copier{From: from.open(t), To: l}
	if got := c.tally(t.Context(), items); got.err != nil {
		t.Fatal(got.err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	nothingBeside(t, dir)
	for name, says := range map[string]string{"a.zip": "let it end with .tar", "there.tar": "it is there already", "no/where/a.tar": "no such file"} {
		if err := os.WriteFile(filepath.Join(dir, "there.tar"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Archive(t.Context(), filepath.Join(dir, name), true); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// file is one of a tar.
type inTar struct {
	tar.Header
	text string
}

func tarOf(t testing.TB, list ...inTar) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range list {
		h := f.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Size == 0 {
			h.Size = int64(len(f.text))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func named(name, text string) inTar { return inTar{tar.Header{Name: name, Mode: 0o600}, text} }

// TestHostileArchivesAreRefused, and nothing of them gets anywhere.
func TestHostileArchivesAreRefused(t *testing.T) {
	marks := []inTar{named("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), named("index.json", `{"manifests":[]}`)}
	with := func(more ...inTar) []byte { return tarOf(t, append(slices.Clone(marks), more...)...) }
	packedUp := func(b []byte) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		if _, err := z.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	digest := strings.Repeat("a", 64)
	for name, tc := range map[string]struct {
		tar  []byte
		says string
	}{
		"a name that leads out":  {with(named("../evil", "x")), "its name leads out of the archive"},
		"one in the middle":      {with(named("blobs/../../evil", "x")), "its name leads out of the archive"},
		"a whole path":           {with(named("/etc/evil", "x")), "its name leads out of the archive"},
		"a link":                 {with(inTar{Header: tar.Header{Name: "blobs/sha256/" + digest, Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}), "it is a link or a device"},
		"a second name":          {with(inTar{Header: tar.Header{Name: "blobs/sha256/" + digest, Typeflag: tar.TypeLink, Linkname: "index.json"}}), "it is a link or a device"},
		"a device":               {with(inTar{Header: tar.Header{Name: "blobs/sha256/" + digest, Typeflag: tar.TypeChar}}), "it is a link or a device"},
		"a name twice":           {with(named("./index.json", "{}")), "it is there twice"},
		"no tar":                 {[]byte(strings.Repeat("x", 2000)), "its tar: "},
		"a broken one":           {with(named("blobs/sha256/"+digest, strings.Repeat("x", 5000)))[:5000], "unexpected EOF"},
		"docker save of old":     {tarOf(t, named("manifest.json", "[]"), inTar{Header: tar.Header{Name: "x/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../y/layer.tar"}}), "before Docker 25; load it into a newer Docker and save it again"},
		"no layout":              {tarOf(t, named("readme", "")), "it has no file oci-layout"},
		"nothing":                {nil, "it has no file oci-layout"},
		"one that grows too big": {packedUp(with(named("blobs/sha256/"+digest, strings.Repeat("\x00", 3<<20)))), "unpacked it has more than"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, temp := t.TempDir(), t.TempDir()
			t.Setenv("TMPDIR", temp)
			file := filepath.Join(dir, "a.tar")
			for _, b := range [][]byte{tc.tar, packedUp(tc.tar)} {
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				var err error
				if strings.HasPrefix(tc.says, "unpacked") {
					z, err2 := gzip.NewReader(bytes.NewReader(tc.tar))
					if err2 != nil {
						t.Fatal(err2)
					}
					_, err = unpack(t.Context(), file, z, 1<<20)
				} else {
					_, err = Archive(t.Context(), file, false)
				}
				if err == nil || !strings.Contains(err.Error(), tc.says) || !errors.Is(err, ErrLayout) {
					t.Errorf("%v", err)
				}
			}
			nothingBeside(t, temp)
			nothingBeside(t, dir, "a.tar")
		})
	}
}

// TestWhatDockerSavesIsRead: a layout with other files beside.
func TestWhatDockerSavesIsRead(t *testing.T) {
	one, blobs := plainImage(t, layer(1, 700))
	list := []inTar{{Header: tar.Header{Name: "blobs/", Typeflag: tar.TypeDir, Mode: 0o700}}}
	for _, b := range blobs {
		list = append(list, named("blobs/sha256/"+digestOf(b).Hex, string(b)))
	}
	list = append(list,
		named("index.json", `{"manifests":[`+described(t, one, `"org.opencontainers.image.ref.name":"v1","io.containerd.image.name":"docker.io/team/app:v1"`)+`]}`),
		named("manifest.json", `[{"Config":"blobs/sha256/x"}]`), named("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), named("repositories", "{}"))
	name := filepath.Join(t.TempDir(), "saved")
	if err := os.WriteFile(name, tarOf(t, list...), 0o600); err != nil {
		t.Fatal(err)
	}
	l := archive(t, name, false)
	c := &Copier{From: l, To: serve(t).open(t)}
	if got := c.tally(t.Context(), []Item{{Source: "team/app", Target: "a"}}); got.err != nil || got.copied != 1 {
		t.Errorf("%+v", got)
	}
}

// FuzzArchive: whatever a tar says, nothing panics, and no name is there that a layout
// has not.
func FuzzArchive(f *testing.F) {
	f.Add(tarOf(f, named("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), named("index.json", `{"manifests":[]}`)))
	f.Add(tarOf(f, named("../x", "y")))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = walk(t.Context(), bytes.NewReader(b), func(name string, _ *tar.Header, r io.Reader) error {
			if !inLayout.MatchString(name) {
				t.Errorf("%q", name)
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // what it says of its length is no promise
			return nil
		})
	})
}

// What a run that was killed collected goes with the next one to the same archive, and
// nothing that somebody writes, or that is another's.
func TestWhatAKilledRunCollectedGoes(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.tar")
	left := func(sub string, locked bool, age time.Duration) string {
		t.Helper()
		at := filepath.Join(dir, sub)
		if err := os.MkdirAll(filepath.Join(at, "blobs"), 0o700); err != nil {
			t.Fatal(err)
		}
		if locked {
			if err := os.WriteFile(filepath.Join(at, busyFile), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(at, when, when); err != nil {
			t.Fatal(err)
		}
		return at
	}
	goes := []string{left(".ocisync-a.tar-1", true, 0), left(".ocisync-a.tar-2", false, 2*old)}
	stays := []string{left(".ocisync-a.tar-3", false, 0), left(".ocisync-a.tar-b.tar-4", true, 2*old), left(".ocisync-b.tar-5", true, 2*old)}
	other := archive(t, name, true) // who goes on
	busy := other.files.(*packed).path
	stays = append(stays, busy)
	l := archive(t, name, true)
	for _, at := range goes {
		if _, err := os.Stat(at); err == nil {
			t.Errorf("%s is there", at)
		}
	}
	for _, at := range stays {
		if _, err := os.Stat(at); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(l.Close(), other.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(busy); err == nil {
		t.Errorf("%s is there", busy)
	}
}

// A mirror that chooses nothing says so in its plan.
func TestAMirrorThatChoosesNothingSaysSo(t *testing.T) {
	from, to := serve(t), serve(t)
	fill{t, from}.image("a", "v1", layer(1, 100))
	m := &Mirror{From: from.open(t), To: to.open(t), Source: "a", Target: "b", Tags: Selection{Glob: "zz*"}}
	o, err := m.Look(t.Context())
	if lines := o.Lines(); err != nil || len(lines) != 1 || !strings.Contains(lines[0], "chooses no tag") {
		t.Errorf("%q, %v", o.Lines(), err)
	}
}
