package files

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tree writes files, directories (a name with a slash at its end) and links.
func tree(t testing.TB, dir string, list map[string]string) {
	t.Helper()
	for name, text := range list {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o700)
		switch to, link := strings.CutPrefix(text, "->"); {
		case err != nil:
		case link:
			err = os.Symlink(to, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o700)
		default:
			err = os.WriteFile(p, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// look reads a directory as tree writes one.
func look(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			out[name+"/"] = ""
		case fs.ModeSymlink:
			to, err := os.Readlink(p)
			out[name] = "->" + to
			return err
		default:
			b, err := os.ReadFile(p)
			out[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func equal(t *testing.T, got, want map[string]string) {
	t.Helper()
	for k := range want {
		if got[k] != want[k] {
			t.Errorf("%s is %q, want %q", k, got[k], want[k])
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s is there: %q", k, got[k])
		}
	}
}

// TestADirectoryIsTheSameTarWhereverItLies: of other times, owners' modes and order.
func TestADirectoryIsTheSameTarWhereverItLies(t *testing.T) {
	list := map[string]string{"b": "two", "a/x": "one", "a/l": "->x", "empty/": "", "run": "#!"}
	var tars [][]byte
	for i, mode := range []fs.FileMode{0o600, 0o664} {
		dir := t.TempDir()
		tree(t, dir, list)
		err := errors.Join(os.Chmod(filepath.Join(dir, "b"), mode), os.Chmod(filepath.Join(dir, "run"), mode|0o100),
			os.Chtimes(filepath.Join(dir, "b"), time.Unix(int64(i), 7), time.Unix(int64(i*1000), 9)))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Pack(t.Context(), &b, dir, "d"); err != nil {
			t.Fatal(err)
		}
		tars = append(tars, b.Bytes())
	}
	if !bytes.Equal(tars[0], tars[1]) {
		t.Error("the tars are not the same")
	}
	var names []string
	for r := tar.NewReader(bytes.NewReader(tars[0])); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if want := int64(0o755); h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 || h.Name == "d/run" && h.Mode != want {
			t.Errorf("%+v", h)
		}
	}
	if want := []string{"d/", "d/a/", "d/a/l", "d/a/x", "d/b", "d/empty/", "d/run"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}

// TestWhatIsPackedComesBack, however it is packed.
func TestWhatIsPackedComesBack(t *testing.T) {
	list := map[string]string{"b": "two", "a/": "", "a/x": "one", "a/up": "->../b", "empty/": ""}
	from := t.TempDir()
	tree(t, from, list)
	for _, how := range []Compression{Gzip, Zstd, None} {
		t.Run(string(how), func(t *testing.T) {
			var b bytes.Buffer
			z, err := Compress(&b, how)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(Pack(t.Context(), z, from, "d/e"), z.Close()); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(t.TempDir(), "new")
			p := into(t, to, 1<<20)
			if err := errors.Join(p.Unpack("d/e", &b), p.File("f/g", strings.NewReader("file"))); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(p.Commit(false), p.Close()); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"d/": "", "d/e/": "", "f/": "", "f/g": "file"}
			for k, v := range list {
				want["d/e/"+k] = v
			}
			equal(t, look(t, to), want)
		})
	}
}

func into(t testing.TB, dir string, most int64) *Place {
	t.Helper()
	p, err := Into(dir, most)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestALinkThatLeadsOutIsNotPacked.
func TestALinkThatLeadsOutIsNotPacked(t *testing.T) {
	for _, to := range []string{"/etc/passwd", "../x", "nowhere"} {
		dir := t.TempDir()
		tree(t, dir, map[string]string{"l": "->" + to})
		if err := Pack(t.Context(), io.Discard, dir, "d"); err == nil || !strings.Contains(err.Error(), "/l: it is a link that leads nowhere in the directory") {
			t.Errorf("%s: %v", to, err)
		}
	}
}

type header = tar.Header

// TestWhatLeadsOutIsRefused, and nothing of it is written, inside or outside.
func TestWhatLeadsOutIsRefused(t *testing.T) {
	file := func(name string) header { return header{Typeflag: tar.TypeReg, Name: name, Size: 4} }
	link := func(name, to string) header { return header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to} }
	for name, list := range map[string][]header{
		"a name above":                {file("d/../../evil")},
		"a name beside":               {file("evil")},
		"a name that begins like it":  {file("dd/evil")},
		"a whole path":                {file("/evil")},
		"a link to a whole path":      {link("d/l", "/etc/passwd")},
		"a link above":                {link("d/l", "../../evil")},
		"a link to nothing":           {link("d/l", "nowhere")},
		"a file through a link":       {link("d/l", "."), file("d/l/evil")},
		"a link through links":        {link("d/p/q/a", "../.."), link("d/p/q/b", "a/../../..")},
		"a file in place of a link":   {link("d/l", "../evil"), file("d/l")},
		"a directory through a file":  {file("d/f"), file("d/f/evil")},
		"a second name of what's out": {{Typeflag: tar.TypeLink, Name: "d/l", Linkname: "../evil"}},
		"a second name of a link":     {link("d/l", "/etc/passwd"), {Typeflag: tar.TypeLink, Name: "d/m", Linkname: "d/l"}},
		"a device":                    {{Typeflag: tar.TypeChar, Name: "d/null", Devmajor: 1, Devminor: 3}},
		"a pipe":                      {{Typeflag: tar.TypeFifo, Name: "d/p"}},
		"a file twice":                {file("d/f"), file("d/f")},
		"too much":                    {{Typeflag: tar.TypeReg, Name: "d/f", Size: 4}, {Typeflag: tar.TypeReg, Name: "d/g", Size: 4}, file("d/h")},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range list {
				h.Mode = 0o644
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if h.Size > 0 {
					if _, err := io.WriteString(w, "evil"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			outer := t.TempDir()
			tree(t, outer, map[string]string{"evil": "kept", "in/": ""})
			p := into(t, filepath.Join(outer, "in"), 9)
			if err := p.Unpack("d", &b); !errors.Is(err, ErrUnsafe) {
				t.Errorf("%v", err)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			equal(t, look(t, outer), map[string]string{"evil": "kept", "in/": ""})
		})
	}
}

// TestNamesThatLeadOutAreRefused.
func TestNamesThatLeadOutAreRefused(t *testing.T) {
	p := into(t, t.TempDir(), 100)
	defer p.Close()
	for _, name := range []string{"", ".", "..", "../a", "/a", "a/../../b", "a/", "./a", `a\..\b`, "a\x00b"} {
		for _, put := range []func(string, io.Reader) error{p.File, p.Unpack} {
			if err := put(name, strings.NewReader("x")); !errors.Is(err, ErrUnsafe) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if err := p.File("a", strings.NewReader(strings.Repeat("x", 101))); !errors.Is(err, ErrUnsafe) {
		t.Errorf("too much: %v", err)
	}
}

// TestABombIsNotUnpacked: the bound is of what comes out.
func TestABombIsNotUnpacked(t *testing.T) {
	for _, how := range []Compression{Gzip, Zstd} {
		var b bytes.Buffer
		z, err := Compress(&b, how)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(z)
		if err := w.WriteHeader(&header{Typeflag: tar.TypeReg, Name: "d/f", Size: 8 << 20, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 8<<20)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(), z.Close()); err != nil {
			t.Fatal(err)
		}
		p := into(t, t.TempDir(), 1<<20)
		if err := p.Unpack("d", &b); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%v", err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhatIsThereIsKept, all of it, unless it is to be overwritten; and nobody writes
// through a link that lies there.
func TestWhatIsThereIsKept(t *testing.T) {
	outer := t.TempDir()
	in := filepath.Join(outer, "in")
	before := map[string]string{"out/": "", "in/": "", "in/a": "old", "in/d/": "", "in/d/own": "own", "in/d/b": "old", "in/l": "->../out"}
	tree(t, outer, before)
	put := func(overwrite bool, names ...string) error {
		p := into(t, in, 1000)
		var err error
		for _, n := range names {
			err = errors.Join(err, p.File(n, strings.NewReader("new")))
		}
		return errors.Join(err, p.Commit(overwrite), p.Close())
	}
	err := put(false, "a", "d/b", "d/c", "z")
	if err == nil || !strings.Contains(err.Error(), "a is there already") || !strings.Contains(err.Error(), "d/b is there already") {
		t.Errorf("%v", err)
	}
	equal(t, look(t, outer), before)
	for _, names := range [][]string{{"d"}, {"a/x"}, {"l/x"}} {
		if err := put(true, names...); err == nil || !strings.Contains(err.Error(), "is something else; remove it") {
			t.Errorf("%q: %v", names, err)
		}
	}
	equal(t, look(t, outer), before)
	if err := put(true, "a", "d/b", "d/c", "l"); err != nil {
		t.Fatal(err)
	}
	equal(t, look(t, outer), map[string]string{"out/": "", "in/": "", "in/a": "new", "in/d/": "", "in/d/own": "own", "in/d/b": "new", "in/d/c": "new", "in/l": "new"})
}

// FuzzUnpack: whatever comes, nothing gets outside.
func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	dir := f.TempDir()
	tree(f, dir, map[string]string{"a": "x", "l": "->a"})
	if err := Pack(f.Context(), &b, dir, "d"); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		outer := t.TempDir()
		p := into(t, filepath.Join(outer, "in"), 1<<20)
		err := p.Unpack("d", bytes.NewReader(b))
		if err == nil {
			err = p.Commit(false)
		}
		if err2 := p.Close(); err2 != nil {
			t.Fatal(err2)
		}
		for name := range look(t, outer) {
			if name != "in/" && (err != nil || !strings.HasPrefix(name, "in/d/")) {
				t.Errorf("%q is there, %v", name, err)
			}
		}
	})
}
