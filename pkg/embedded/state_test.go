package embedded

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

// FuzzStateFile: whatever state.json holds is refused, or taken and written
// back as the same.
func FuzzStateFile(f *testing.F) {
	for _, s := range []string{
		`{"format":1}`, `{"format":2}`, `[]`, `{"format":1,"objects":[null]}`,
		`{"format":1,"revision":3,"objects":[{"key":"access/a","spec":{"anonymous":["pull"],"users":{"u":["push"]}},"version":"2"},{"key":"group/g","spec":{"users":["u"]}},{"key":"namespace/a","spec":null},{"key":"settings","spec":{"values":{"policy.outside":"leave"}}},{"key":"user/u","spec":{"admin":true}}],"passwords":{"u":"` + unknownsHash + `"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := parseDocument(b)
		if err != nil {
			return
		}
		compile(doc, access.Deny, nil).rules.May(access.User("u"), schema.Pull, "a/b")
		doc.live(nil)
		written, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseDocument(written)
		if err != nil {
			t.Fatalf("%s is written as %s and refused: %v", b, written, err)
		}
		if d := cmp.Diff(doc.live(nil).Objects, again.live(nil).Objects); d != "" {
			t.Error(d)
		}
	})
}

func TestAStateFileOfAnotherShapeIsTold(t *testing.T) {
	for text, want := range map[string]string{
		`[]`: "it holds JSON (array), and not what ocisync writes there; restore it from a backup",
		`{`:  "restore it from a backup",
	} {
		if _, err := parseDocument([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "struct") {
			t.Errorf("%s: error %v does not say %q", text, err, want)
		}
	}
}

func TestAStateFileIsNoLink(t *testing.T) {
	data := t.TempDir()
	own := filepath.Join(data, ownDir)
	elsewhere := filepath.Join(t.TempDir(), "state.json")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(elsewhere, []byte(`{"format":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(own, stateFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := loadDocument(data); !errors.Is(err, ErrUnsafe) {
		t.Errorf("error %v, want ErrUnsafe", err)
	}
}
