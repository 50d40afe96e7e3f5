package schema_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

func TestPathsOfKeysAreReadAsTheyAreWritten(t *testing.T) {
	for path, parts := range map[string][]string{
		"log.level":                      {"log", "level"},
		`storage.subPaths."/a.b".gc`:     {"storage", "subPaths", "/a.b", "gc"},
		`groups."say \"hi\" \\ ü".users`: {"groups", `say "hi" \ ü`, "users"},
		`a.""`:                           {"a", ""},
	} {
		if d := cmp.Diff(parts, schema.SplitPath(path)); d != "" {
			t.Errorf("%s: %s", path, d)
		}
		if got := schema.JoinPath(parts...); got != path {
			t.Errorf("%q: %s, want %s", parts, got, path)
		}
	}
}
