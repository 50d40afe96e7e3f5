package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestALedgerIsOfOneTarget(t *testing.T) {
	x, y := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("b", 64)}
	name := filepath.Join(t.TempDir(), "ledger")
	l, err := Open(name, "http://a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	l.NoteTag("r", "v1", x)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"in\":\"r\",\"tag\":\"v2\",\"is\":\"sha256:"); err != nil { // killed in the middle
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is added after such a line is whole
		l, err = Open(name, "http://a.example.com")
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := l.Tag("r", "v1"); !ok || d != x {
			t.Error(d, ok)
		}
		l.NoteTag("r", "v3", y)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if l, err = Open(name, "http://a.example.com"); err != nil {
		t.Fatal(err)
	}
	if d, ok := l.Tag("r", "v3"); !ok || d != y {
		t.Error(d, ok)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(name, "http://b.example.com"); !errors.Is(err, ErrOther) || !strings.Contains(err.Error(), "http://a.example.com") {
		t.Error(err)
	}
}

func TestWhatIsNoLedgerIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"text": "my notes\n", "json": "{\"a\":1}\n", "newer": "{\"ledger\":2,\"target\":\"t\"}\n"} {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(name, "t"); err == nil {
			t.Errorf("%q is taken for a ledger", text)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != text {
			t.Errorf("%q became %q, %v", text, b, err)
		}
	}
	if err := os.Symlink("text", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "link"), "t"); err == nil {
		t.Error("a link is followed")
	}
}

func TestATagThatIsForgottenIsAskedForAnew(t *testing.T) {
	x := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	name := filepath.Join(t.TempDir(), "ledger")
	open := func() *File {
		l, err := Open(name, "http://a.example.com")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	l.NoteTag("r", "v1", x)
	l.NoteTag("r", "v2", x)
	l.ForgetTag("r", "v1")
	l.ForgetTag("r", "v9") // which it never knew
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	defer l.Close()
	if d, ok := l.Tag("r", "v1"); ok {
		t.Error("v1 is still", d)
	}
	if d, ok := l.Tag("r", "v2"); !ok || d != x {
		t.Error(d, ok)
	}
}
