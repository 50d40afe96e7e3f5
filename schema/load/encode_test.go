package load_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// goodFiles are the files that users see.
func goodFiles(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, pattern := range []string{"../../examples/modes/*/*.toml", "../../cmd/ocisync/templates/*.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out[f] = data
		}
	}
	return out
}

func TestWhatIsEncodedLoadsTheSame(t *testing.T) {
	files, err := filepath.Glob("../../testdata/compat/v1/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		root := writeMode(t, "m", map[string][]byte{"m.toml": data})
		first, err := load.Mode(root, "m")
		if err != nil {
			t.Fatal(err)
		}
		text, err := load.Encode(first, filepath.Join(root, "m"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "m", "m.toml"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		second, err := load.Mode(root, "m")
		if err != nil {
			t.Fatalf("%s:\n%v\n%s", file, err, text)
		}
		if diff := cmp.Diff(first, second, cmpopts.IgnoreTypes(schema.Position{})); diff != "" {
			t.Errorf("%s: (-first +second)\n%s\n%s", file, diff, text)
		}
		again, err := load.Encode(second, filepath.Join(root, "m"))
		if err != nil || !bytes.Equal(text, again) {
			t.Errorf("%s: a second writing differs: %v", file, err)
		}
	}
}

func TestWhatIsEncodedShowsWhatIsInIt(t *testing.T) {
	data := "version = 1\n[registry]\ntype = \"zot\"\nurl = \"https://h.example\"\n[namespace.x]\ndescription = \"a\\u202Eb\\U000E0041c\\u0085é\"\n"
	root := writeMode(t, "m", map[string][]byte{"m.toml": []byte(data)})
	cfg, err := load.Mode(root, "m")
	if err != nil {
		t.Fatal(err)
	}
	text, err := load.Encode(cfg, filepath.Join(root, "m"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `"a\u202Eb\U000E0041c\u0085é"`; !bytes.Contains(text, []byte(want)) {
		t.Errorf("no %s in\n%s", want, text)
	}
}
