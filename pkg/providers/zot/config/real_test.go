package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// configurations are the twenty of testdata, written by hand as people do.
func configurations(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != 20 {
		t.Fatalf("%d configurations, %v", len(files), err)
	}
	out := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(b)
	}
	return out
}

// managed are edits as an apply makes them: of all that kinds own, and of a
// few settings.
func managed() []edit {
	return []edit{
		{"http|accessControl|repositories|team/**", `{"policies":[{"users":["a","b"],"actions":["read","create","update","delete"]}],"anonymousPolicy":["read"]}`},
		{"http|accessControl|repositories|forge/**|policies|0|actions", `["read"]`},
		{"http|accessControl|groups|ours", `{"users":["a"]}`},
		{"http|accessControl|adminPolicy", `{"users":["admin"],"actions":["read","create","update","delete"]}`},
		{"http|auth|htpasswd|path", `"/etc/zot/other"`},
		{"storage|gc", `true`},
		{"storage|gcInterval", `"6h"`},
		{"storage|retention|policies", `[{"repositories":["team/**"],"keepTags":[{"patterns":[".*"],"mostRecentlyPushedCount":5}]}]`},
		{"log|audit", `"/var/log/zot/other.log"`},
		{"extensions|sync|registries|0|content|0|tags|regex", `"^v"`},
		{"extensions|sync|downloadDir", `"/var/lib/zot-sync"`},
		{"extensions|scrub", `{"enable":true,"interval":"48h"}`},
		{"http|realm", `"zot"`},
		{"log|level", `"warn"`},
	}
}

// texts lists every value with its path and how it is written, and the tables
// with the order of their keys.
func texts(d *Document) map[string]string {
	out := map[string]string{}
	var walk func(it *item, at string)
	walk = func(it *item, at string) {
		var b bytes.Buffer
		it.value.write(&b)
		out[at] = b.String()
		for i, inner := range it.value.open().items {
			part := strconv.Itoa(i)
			if inner.key != "" {
				part = inner.fold
			}
			walk(inner, at+"|"+part)
		}
	}
	walk(&d.root, "")
	return out
}

func touches(path string, edits []edit) bool {
	for _, e := range edits {
		at := "|" + strings.ToLower(e.path)
		if path == at || strings.HasPrefix(path, at+"|") || strings.HasPrefix(at, path+"|") || path == "" {
			return true
		}
	}
	return false
}

func TestTwentyConfigurationsKeepWhatIsNotManaged(t *testing.T) {
	var kept, edited int
	for name, src := range configurations(t) {
		d := mustParse(t, src)
		if !bytes.Equal(d.Bytes(), []byte(src)) {
			t.Errorf("%s: parsed and written is not the same", name)
		}
		before := texts(d)
		apply(t, d, managed()...)
		again := mustParse(t, string(d.Bytes()))
		after := texts(again)
		for path, text := range before {
			if touches(path, managed()) {
				edited++
				continue
			}
			kept++
			if after[path] != text {
				t.Errorf("%s: %s was\n%s\nand is\n%s", name, path, text, after[path])
			}
		}
		for _, e := range managed() {
			want, err := parseValue(e.value, 1)
			if err != nil {
				t.Fatal(err)
			}
			if it := again.find(parts(e.path)); it == nil || !equal(it.value, want) {
				t.Errorf("%s: %s is not what it was set to", name, e.path)
			}
		}
		// The same once more finds nothing to do.
		apply(t, again, managed()...)
		if !bytes.Equal(again.Bytes(), d.Bytes()) {
			t.Errorf("%s: the second time is not the same:\n%s", name, cmp.Diff(string(d.Bytes()), string(again.Bytes())))
		}
		// What is written fits the file's lines.
		for number, line := range strings.Split(string(d.Bytes()), "\n") {
			if strings.Count(src, "\n") > 1 && len(line) > 220 && !strings.Contains(src, strings.TrimSpace(line)) {
				t.Errorf("%s:%d: a line of %d bytes", name, number+1, len(line))
			}
		}
	}
	if kept < 300 || edited < 50 {
		t.Errorf("%d values kept, %d edited", kept, edited)
	}
	t.Logf("%d values kept as they are written, %d of what is edited", kept, edited)
}

// TestAddedAndTakenAwayLeavesNoTrace adds to each table and list of the twenty
// configurations.
func TestAddedAndTakenAwayLeavesNoTrace(t *testing.T) {
	for name, src := range configurations(t) {
		plain := mustParse(t, src)
		var walk func(it *item, at []string)
		walk = func(it *item, at []string) {
			if len(it.value.open().items) == 0 {
				return
			}
			added := append(append([]string{}, at...), "zz")
			if it.value.kind == '[' {
				added[len(at)] = "-"
			}
			d := mustParse(t, src)
			if err := d.Set([]byte(`{"a":[1,{"b":"c"}]}`), added...); err != nil {
				t.Fatal(err)
			}
			if it.value.kind == '[' {
				added[len(at)] = strconv.Itoa(len(it.value.open().items))
			}
			if !d.Delete(added...) {
				t.Fatalf("%s: %v is not there", name, added)
			}
			if got := string(d.Bytes()); got != src {
				t.Errorf("%s: %v added and deleted:\n%s", name, added, cmp.Diff(src, got))
			}
			for i, inner := range it.value.open().items {
				part := strconv.Itoa(i)
				if inner.key != "" {
					part = unquote(inner.key)
				}
				walk(inner, append(append([]string{}, at...), part))
			}
		}
		walk(&plain.root, nil)
	}
}

// The twenty leave no key of the table out, and have no others.
func TestTwentyConfigurationsUseEveryKey(t *testing.T) {
	used := map[string]bool{}
	var walk func(tr *tree, n *node, at string)
	walk = func(tr *tree, n *node, at string) {
		used[at] = true
		for _, it := range n.open().items {
			switch {
			case it.key == "" && tr.typ == Tables:
				walk(&tree{typ: Table, below: tr.below}, it.value, at+"[]")
			case it.key != "" && tr.child(it.fold) != nil:
				next := tr.child(it.fold)
				walk(next, it.value, strings.TrimPrefix(at+"."+next.part, "."))
			}
		}
	}
	for name, src := range configurations(t) {
		d := mustParse(t, src)
		walk(newTree(), d.root.value, "")
		for _, p := range d.Problems("2.1.21") {
			t.Errorf("%s: %s", name, p)
		}
	}
	for _, k := range Keys() {
		if !used[k.Path] {
			t.Errorf("no configuration has %s", k.Path)
		}
	}
}
