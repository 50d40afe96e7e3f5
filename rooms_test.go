// Package ocisync_test holds what is true of the whole tree: which package may
// import which. It reads the source files themselves rather than asking the go
// command, so that files behind build tags count too and the test cache notices
// every change.
package ocisync_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/ocisync/ocisync"

// room is what one package may import.
type room struct {
	// may lists packages of this module, relative to its root.
	may []string
	// tests lists what its tests may import besides, and besides pkg/porttest.
	tests []string
	// modules lists packages of other modules, with all below them, where
	// the room is confined to a few; nil means any that confined leaves.
	// Tests are free.
	modules []string
	// not lists standard packages, with all below them, that the room must
	// do without. Tests are free.
	not []string
}

// pure is what a room without context, clock, log or input and output leaves.
func pure() []string {
	return []string{"context", "io/ioutil", "log", "net", "os", "os/exec", "syscall", "time"}
}

// rooms is the map of the tree: one line per package, and nothing but itself
// and what stands above it may be imported. A new package gets a line here.
func rooms() map[string]room {
	none := []string{}
	globs := []string{"github.com/bmatcuk/doublestar"} // matches names without touching files
	provider := func(more ...string) room {
		return room{
			may: append([]string{"schema", "pkg/regular", "pkg/retention", "pkg/access", "pkg/plan", "pkg/state",
				"pkg/secret", "pkg/token", "pkg/providers", "pkg/providers/oci", "pkg/providers/files", "pkg/providers/htpasswd", "pkg/providers/measure"}, more...),
			tests: []string{"pkg/providers/providertest"},
		}
	}
	// with is a room whose tests hold it against others besides
	with := func(r room, tests ...string) room {
		r.tests = append(r.tests, tests...)
		return r
	}
	// run is a room whose tests run what it configures
	run := func(r room) room {
		r.tests = append(r.tests, "pkg/runtime", "pkg/runtime/enginetest")
		return r
	}
	// inBucket is a room whose tests have an object store
	inBucket := func(r room) room {
		r.tests = append(r.tests, "pkg/embedded/storage/s3test")
		return r
	}
	all := []string{"schema", "pkg/regular", "schema/load", "schema/policy", "pkg/retention", "pkg/access", "pkg/plan",
		"pkg/state", "pkg/secret", "pkg/token", "pkg/webhook", "pkg/embedded", "pkg/providers", "pkg/apply",
		"pkg/providers/oci", "pkg/providers/all", "pkg/runtime", "pkg/content", "pkg/content/files", "pkg/content/sign", "pkg/content/keyless", "pkg/content/ledger", "pkg/content/declared", "pkg/progress", "pkg/watch"}
	return map[string]room{
		".":             {tests: append(slices.Clone(all), "pkg/embedded/storage", "pkg/embedded/storage/s3test", "pkg/runtime/enginetest", "pkg/providers/memory", "pkg/providers/embedded", "pkg/providers/providertest")},
		"docs":          {tests: []string{"schema", "schema/load"}},
		"schema":        {modules: none, not: []string{"context", "log", "net/http", "os", "os/exec", "syscall"}},
		"schema/load":   {may: []string{"schema", "pkg/regular"}},
		"schema/policy": {may: []string{"schema", "schema/load"}},

		"pkg/retention": {may: []string{"schema"}, modules: globs, not: []string{"context", "log", "net", "os", "syscall"}},
		"pkg/access":    {may: []string{"schema"}, modules: globs, not: pure()},
		"pkg/plan":      {may: []string{"schema"}, modules: append(globs, "github.com/sergi/go-diff"), not: pure()},

		"pkg/regular":                 {may: none},
		"pkg/state":                   {may: []string{"schema", "pkg/regular", "pkg/plan"}},
		"pkg/secret":                  {may: []string{"schema", "pkg/regular", "pkg/state"}},
		"pkg/token":                   {may: []string{"schema", "pkg/regular", "pkg/access", "pkg/secret"}},
		"pkg/webhook":                 {may: []string{"schema", "pkg/regular", "pkg/access"}},
		"pkg/embedded/storage":        {may: []string{"schema", "pkg/regular"}},
		"pkg/embedded/storage/s3test": {may: []string{"schema"}},
		"pkg/embedded/quota":          {may: []string{"schema", "pkg/access", "pkg/embedded/storage"}},
		"pkg/embedded": {
			may:   []string{"schema", "pkg/regular", "pkg/retention", "pkg/access", "pkg/state", "pkg/secret", "pkg/token", "pkg/webhook", "pkg/embedded/storage", "pkg/embedded/quota"},
			tests: []string{"pkg/embedded/storage/s3test"},
		},

		"pkg/providers": {
			may:   []string{"schema", "pkg/plan"},
			tests: []string{"pkg/providers/memory", "pkg/providers/providertest"},
		},
		"pkg/apply": {
			may:   []string{"schema", "pkg/retention", "pkg/access", "pkg/plan", "pkg/state", "pkg/secret", "pkg/providers"},
			tests: []string{"pkg/providers/memory", "pkg/providers/providertest"},
		},
		"pkg/providers/files":        {may: []string{"pkg/regular"}, modules: none, tests: []string{"pkg/runtime/enginetest"}},
		"pkg/providers/htpasswd":     {modules: []string{"golang.org/x/crypto"}, not: []string{"log", "net", "os"}},
		"pkg/providers/measure":      {modules: none, not: []string{"log", "net", "os"}, tests: []string{"pkg/access"}},
		"pkg/providers/oci":          {may: []string{"schema", "pkg/regular", "pkg/plan", "pkg/state", "pkg/secret", "pkg/providers"}},
		"pkg/providers/providertest": {may: []string{"schema", "pkg/access", "pkg/plan", "pkg/providers"}, tests: []string{"pkg/providers/memory"}},
		"pkg/providers/memory":       provider(),
		"pkg/providers/embedded":     provider("pkg/embedded"),
		// its accounts and rules are kept and served as the embedded registry's
		"pkg/providers/distribution": with(run(inBucket(provider("pkg/embedded", "pkg/embedded/storage", "pkg/providers/embedded", "pkg/webhook"))), "pkg/providers/zot"),
		"pkg/providers/zot":          run(provider("pkg/providers/zot/config", "pkg/webhook")),
		"pkg/providers/zot/config":   {may: []string{"schema"}, tests: []string{"pkg/runtime/enginetest"}, modules: []string{"github.com/Masterminds/semver"}, not: []string{"log", "net/http", "os"}},
		"pkg/providers/harbor/api":   {may: []string{"schema", "pkg/regular", "pkg/providers", "pkg/providers/oci"}, tests: []string{"pkg/providers/harbor/harbortest"}},
		"pkg/providers/harbor":       with(provider("pkg/providers/harbor/api"), "pkg/providers/harbor/harbortest"),
		// the stand-in knows Harbor and nothing of ours
		"pkg/providers/harbor/harbortest": {may: none},
		"pkg/providers/all": provider("pkg/embedded", "pkg/providers/memory", "pkg/providers/embedded",
			"pkg/providers/distribution", "pkg/providers/zot", "pkg/providers/harbor"),

		"pkg/runtime":            {may: []string{"schema", "pkg/regular"}, tests: []string{"pkg/runtime/enginetest"}},
		"pkg/runtime/enginetest": {may: []string{"schema"}},
		"pkg/porttest":           {may: none}, // tests of all rooms may have it
		"pkg/content":            {may: []string{"schema", "pkg/regular", "pkg/secret", "pkg/providers", "pkg/providers/oci", "pkg/content/files", "pkg/content/sign", "pkg/content/keyless", "pkg/content/ledger"}},
		"pkg/content/ledger":     {may: []string{"pkg/regular"}, modules: []string{"github.com/google/go-containerregistry"}, not: []string{"context", "log", "net"}},
		"pkg/content/sign":       {may: none, modules: none, not: []string{"context", "log", "net", "os", "time"}},
		"pkg/content/keyless": {
			may: []string{"schema", "pkg/content/sign"}, modules: []string{"github.com/sigstore/sigstore-go"},
			not: []string{"context", "log", "net", "os", "time"}, tests: []string{"pkg/content"},
		},
		"pkg/content/files":    {may: none, modules: []string{"github.com/klauspost/compress"}, not: []string{"log", "net"}},
		"pkg/content/declared": {may: []string{"schema", "pkg/plan", "pkg/providers", "pkg/providers/oci", "pkg/content", "pkg/content/files", "pkg/content/sign", "pkg/content/keyless"}},
		"pkg/progress":         {may: []string{"schema", "schema/load", "pkg/content"}, modules: []string{"github.com/prometheus", "github.com/google/go-containerregistry"}, not: []string{"log", "net"}},
		"pkg/watch": {
			may: []string{"schema", "pkg/regular", "schema/load", "schema/policy", "pkg/plan", "pkg/state", "pkg/secret",
				"pkg/providers", "pkg/apply", "pkg/content"},
			tests: []string{"pkg/providers/memory"},
		},
		"cmd/ocisync": {may: append(slices.Clone(all), "pkg/embedded/storage"), tests: []string{"pkg/providers/memory", "pkg/providers/harbor/harbortest"}},
	}
}

// confined says which rooms alone may import a module, tests included. The
// longest prefix decides.
func confined() map[string][]string {
	return map[string][]string{
		"cuelang.org/go":                        {"schema/load", "schema/policy"},
		"github.com/pelletier/go-toml":          {"schema/load"},
		"github.com/sergi/go-diff":              {"pkg/plan"},
		"github.com/distribution/distribution":  {"pkg/webhook", "pkg/embedded", "pkg/embedded/storage", "pkg/providers/oci", "pkg/providers/distribution", "pkg/content"}, // the last three in tests
		"github.com/sigstore":                   {"pkg/content/keyless"},
		"github.com/docker/docker":              {"pkg/runtime", "pkg/runtime/enginetest"},
		"github.com/go-git/go-git":              {"pkg/watch"},
		"github.com/spf13/cobra":                {"cmd/ocisync"},
		"github.com/stretchr/testify":           {},
		"github.com/golang/mock":                {},
		"go.uber.org/mock":                      {},
		"github.com/onsi/ginkgo":                {},
		"github.com/onsi/gomega":                {},
		"github.com/maxbrunsfeld/counterfeiter": {},
	}
}

func TestEveryImportStaysInItsRooms(t *testing.T) {
	files, err := sourceFiles(".")
	if err != nil {
		t.Fatal(err)
	}
	// A walk that finds nothing must not pass: these two are always there.
	for _, room := range []string{"schema", "pkg/plan"} {
		if !slices.ContainsFunc(files, func(f file) bool { return f.room == room && !f.test }) {
			t.Errorf("found no source file of %s", room)
		}
	}
	for _, v := range violations(files) {
		t.Error(v)
	}
}

func TestForbiddenImportsAreFound(t *testing.T) {
	got := violations([]file{
		{name: "schema/key.go", room: "schema", imports: []string{"strings", "golang.org/x/text"}},
		{name: "schema/key_test.go", room: "schema", test: true, imports: []string{"os", "github.com/google/go-cmp/cmp"}},
		{name: "schema/load/load.go", room: "schema/load", imports: []string{"cuelang.org/go/cue", module + "/schema"}},
		{name: "pkg/plan/diff.go", room: "pkg/plan", imports: []string{
			"net/http", "time", "timeless.example", "github.com/sergi/go-diff/diffmatchpatch", module + "/pkg/providers"}},
		{name: "pkg/plan/diff_test.go", room: "pkg/plan", test: true, imports: []string{"cuelang.org/go/cue", "os"}},
		{name: "pkg/providers/zot/zot.go", room: "pkg/providers/zot", imports: []string{
			module + "/pkg/providers/harbor", module + "/pkg/apply", module + "/pkg/providers/providertest"}},
		{name: "pkg/providers/zot/zot_test.go", room: "pkg/providers/zot", test: true, imports: []string{
			module + "/pkg/providers/zot", module + "/pkg/providers/providertest"}},
		{name: "pkg/apply/apply.go", room: "pkg/apply", imports: []string{module + "/pkg/providers/memory"}},
		{name: "pkg/apply/apply_test.go", room: "pkg/apply", test: true, imports: []string{
			module + "/pkg/providers/memory", "github.com/stretchr/testify/assert"}},
		{name: "pkg/watch/watch.go", room: "pkg/watch", imports: []string{module + "/cmd/ocisync"}},
		{name: "pkg/util/util.go", room: "pkg/util"},
	})
	want := []string{
		"pkg/apply/apply.go: pkg/apply may not import pkg/providers/memory",
		"pkg/apply/apply_test.go: github.com/stretchr/testify/assert may be imported nowhere",
		"pkg/plan/diff.go: pkg/plan may not import net/http",
		"pkg/plan/diff.go: pkg/plan may not import pkg/providers",
		"pkg/plan/diff.go: pkg/plan may not import time",
		"pkg/plan/diff.go: pkg/plan may not import timeless.example",
		"pkg/plan/diff_test.go: cuelang.org/go/cue may be imported only by schema/load, schema/policy",
		"pkg/providers/zot/zot.go: pkg/providers/zot may not import pkg/apply",
		"pkg/providers/zot/zot.go: pkg/providers/zot may not import pkg/providers/harbor",
		"pkg/providers/zot/zot.go: pkg/providers/zot may not import pkg/providers/providertest",
		"pkg/util/util.go: pkg/util has no room; give it a line in rooms_test.go that says what it may import",
		"pkg/watch/watch.go: pkg/watch may not import cmd/ocisync",
		"schema/key.go: schema may not import golang.org/x/text",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

func TestRoomsHoldNoCycle(t *testing.T) {
	all := rooms()
	var visit func(name string, below []string)
	visit = func(name string, below []string) {
		if slices.Contains(below, name) {
			t.Fatalf("rooms import each other in a circle: %s", strings.Join(append(below, name), " -> "))
		}
		r, ok := all[name]
		if !ok {
			t.Fatalf("%s is allowed to %s and is no room", name, below[len(below)-1])
		}
		for _, next := range r.may {
			visit(next, append(slices.Clone(below), name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		visit(name, nil)
		for _, test := range all[name].tests {
			if _, ok := all[test]; !ok {
				t.Errorf("%s is allowed to tests of %s and is no room", test, name)
			}
		}
	}
}

// file is one source file and what it imports.
type file struct {
	name    string // slash-separated, relative to the root
	room    string
	test    bool
	imports []string
}

// sourceFiles reads the imports of every Go file of the module below root.
func sourceFiles(root string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return descend(root, name)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		ast, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		f := file{name: rel, room: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go")}
		for _, spec := range ast.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: %w", rel, err)
			}
			f.imports = append(f.imports, imported)
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// descend returns fs.SkipDir for directories that are no part of the module.
func descend(root, name string) error {
	base := filepath.Base(name)
	switch {
	case name == root:
		return nil
	case base == "testdata", strings.HasPrefix(base, "."), strings.HasPrefix(base, "_"):
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
		return fs.SkipDir // a module of its own
	}
	return nil
}

// violations lists the imports that rooms and confined forbid, sorted.
func violations(files []file) []string {
	var out []string
	for _, f := range files {
		r, ok := rooms()[f.room]
		if !ok {
			out = append(out, fmt.Sprintf("%s: %s has no room; give it a line in rooms_test.go that says what it may import", f.name, f.room))
			continue
		}
		for _, imported := range f.imports {
			if why := r.forbids(f, imported); why != "" {
				out = append(out, f.name+": "+why)
			}
		}
	}
	slices.Sort(out)
	return out
}

// forbids says why the file may not import the package, or "".
func (r room) forbids(f file, imported string) string {
	name, ours := strings.CutPrefix(imported, module+"/")
	no := fmt.Sprintf("%s may not import %s", f.room, name)
	if ours {
		if slices.Contains(r.may, name) || f.test && (name == f.room || name == "pkg/porttest" || slices.Contains(r.tests, name)) {
			return ""
		}
		return no
	}
	if only, ok := confinedTo(imported); ok && !slices.Contains(only, f.room) {
		if len(only) == 0 {
			return imported + " may be imported nowhere"
		}
		return fmt.Sprintf("%s may be imported only by %s", imported, strings.Join(only, ", "))
	}
	if f.test {
		return ""
	}
	if under(imported, r.not) != "" {
		return no
	}
	if !standard(imported) && r.modules != nil && under(imported, r.modules) == "" {
		return no
	}
	return ""
}

// confinedTo returns the rooms that alone may import the package.
func confinedTo(imported string) (only []string, ok bool) {
	table := confined()
	prefix := under(imported, slices.Sorted(maps.Keys(table)))
	return table[prefix], prefix != ""
}

// under returns the longest of the packages that is imported or above it, or "".
func under(imported string, packages []string) string {
	var found string
	for _, p := range packages {
		if (imported == p || strings.HasPrefix(imported, p+"/")) && len(p) > len(found) {
			found = p
		}
	}
	return found
}

// standard reports whether the package is of the standard library: alone its
// first part has no dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}
