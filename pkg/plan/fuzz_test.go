package plan

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ocisync/ocisync/schema"
)

// FuzzDiff compares two states read from JSON, whatever they say.
func FuzzDiff(f *testing.F) {
	for _, name := range []string{"testdata/rich.txtar", "testdata/hostile.txtar", "testdata/fuzz.txtar"} {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var desired, live []byte
		for _, file := range a.Files {
			switch file.Name {
			case "desired.json":
				desired = file.Data
			case "live.json":
				live = file.Data
			}
		}
		f.Add(desired, live, "old", uint8(255))
		f.Add(live, desired, "", uint8(0))
	}
	f.Fuzz(func(t *testing.T, desired, live []byte, old string, flags uint8) {
		var in Input
		if json.Unmarshal(desired, &in.Desired) != nil || json.Unmarshal(live, &in.Live) != nil {
			return
		}
		if in.Desired.Sort() != nil || in.Live.Sort() != nil {
			return
		}
		in.Table, in.Mode = nativeTable(), "m"
		if flags&1 != 0 {
			in.Policy.Prune = schema.Kinds()
		}
		in.Policy.MaxDeletes = &schema.MaxDeletes{Percent: int(flags)}
		in.Policy.Protect = []string{old}
		in.Policy.Ignore = []schema.Ignore{{Resource: "*", Field: old}}
		in.Ownership.MayPrune = flags&2 != 0
		for i, r := range in.Live.Resources {
			if flags&4 != 0 && i%2 == 0 {
				in.Ownership.Owned = append(in.Ownership.Owned, r.Key)
			}
		}
		in.Ownership.Applied = func(k schema.Key) (schema.Spec, bool) {
			r, ok := in.Live.Get(k)
			return r.Spec, ok && flags&8 != 0
		}
		for i, r := range in.Desired.Resources {
			if flags&16 != 0 && i%3 == 0 {
				in.Directives = append(in.Directives, schema.Directive{Key: r.Key, Previously: old})
			}
		}
		p := Guard(Diff(in), GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live})
		checkScope(t, in, p)
		if !in.Ownership.MayPrune || len(in.Ownership.Owned) == 0 || flags&1 == 0 {
			for _, c := range p.all() {
				if c.Action == Delete {
					t.Fatalf("deletes %s, which nothing makes deletable", c.Key)
				}
			}
		}
		again := Guard(Diff(in), GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live})
		if asJSON(t, p) != asJSON(t, again) {
			t.Fatal("two plans of the same states")
		}
		var text strings.Builder
		if err := p.Text(&text, TextOptions{Verbose: true}); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(text.String(), func(r rune) bool { return r != '\n' && r < ' ' || r == '\u202e' }) {
			t.Fatalf("control characters reach the terminal: %q", text.String())
		}
		if err := p.Markdown(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
