package load

import (
	"encoding/json"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tomltest "github.com/toml-lang/toml-test/v2"
)

// cases lists the official suite's files for TOML 1.0 below a directory.
func cases(t *testing.T, dir string) (fs.FS, []string) {
	t.Helper()
	suite := tomltest.TestCases()
	list, err := fs.ReadFile(suite, "files-toml-1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range strings.Fields(string(list)) {
		if strings.HasPrefix(name, dir+"/") && strings.HasSuffix(name, ".toml") {
			names = append(names, name)
		}
	}
	if len(names) < 100 {
		t.Fatalf("only %d cases in %s", len(names), dir)
	}
	return suite, names
}

func TestWhatTOMLRefusesIsRefused(t *testing.T) {
	suite, names := cases(t, "invalid")
	for _, name := range names {
		data, err := fs.ReadFile(suite, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(name, data); err == nil {
			t.Errorf("%s passes:\n%s", name, data)
		}
	}
}

func TestWhatTOMLAllowsIsReadAsMeant(t *testing.T) {
	suite, names := cases(t, "valid")
	for _, name := range names {
		data, err := fs.ReadFile(suite, name)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := Parse(name, data)
		if err != nil {
			t.Errorf("%s is refused: %v", name, err)
			continue
		}
		text, err := fs.ReadFile(suite, strings.TrimSuffix(name, ".toml")+".json")
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		compareTagged(t, name, tree.Root, text)
	}
}

// compareTagged compares a node with the suite's tagged JSON.
func compareTagged(t *testing.T, at string, n *Node, text json.RawMessage) {
	t.Helper()
	if n.Kind == Array {
		var items []json.RawMessage
		if err := json.Unmarshal(text, &items); err != nil || len(items) != len(n.Items) {
			t.Errorf("%s: %d items, want %s", at, len(n.Items), text)
			return
		}
		for i, item := range n.Items {
			compareTagged(t, at+"["+strconv.Itoa(i)+"]", item, items[i])
		}
		return
	}
	if n.Kind == Table {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil || len(fields) != len(n.Fields) {
			t.Errorf("%s: %d fields, want %s", at, len(n.Fields), text)
			return
		}
		for _, f := range n.Fields {
			compareTagged(t, at+"."+f.Key, f, fields[f.Key])
		}
		return
	}
	var leaf struct{ Type, Value string }
	if err := json.Unmarshal(text, &leaf); err != nil {
		t.Errorf("%s: a scalar, want %s", at, text)
		return
	}
	kinds := map[string]NodeKind{"string": String, "integer": Integer, "float": Float, "bool": Bool, "date-local": Date,
		"datetime": DateTime, "datetime-local": DateTime, "time-local": DateTime}
	if n.Kind != kinds[leaf.Type] {
		t.Errorf("%s: is %v, want %s", at, n.Kind, leaf.Type)
		return
	}
	have := n.Text
	switch n.Kind {
	case Integer:
		v, _ := integer(have)
		have = strconv.FormatInt(v, 10)
	case Float:
		a, _ := strconv.ParseFloat(strings.ReplaceAll(strings.TrimLeft(have, "+"), "_", ""), 64)
		b, _ := strconv.ParseFloat(leaf.Value, 64)
		if a == b || strings.HasSuffix(have, "nan") && math.IsNaN(b) {
			return
		}
	case DateTime:
		have = strings.ReplaceAll(strings.ToUpper(have), " ", "T")
		a, erra := time.Parse(time.RFC3339Nano, have)
		b, errb := time.Parse(time.RFC3339Nano, leaf.Value)
		if erra == nil && errb == nil && a.Equal(b) {
			return
		}
		have = strings.TrimRight(have, "0")
		leaf.Value = strings.TrimRight(leaf.Value, "0")
	}
	if diff := cmp.Diff(leaf.Value, have); diff != "" {
		t.Errorf("%s: (-want +have)\n%s", at, diff)
	}
}
