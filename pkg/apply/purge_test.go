package apply_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// emptying is a registry that deletes namespaces with their content, and keeps of
// which it was asked to.
type emptying struct {
	providers.Provider
	emptied []schema.Key
}

func (e *emptying) Capabilities() schema.Table {
	return append(e.Provider.Capabilities(), schema.Capability{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Native})
}

func (e *emptying) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	for _, c := range changes {
		if c.Purge {
			e.emptied = append(e.emptied, c.Key)
		}
	}
	return e.Provider.Write(ctx, changes, report)
}

// When on_delete counts, the block that says it is gone: what it said when it was
// applied last is remembered.
func TestANamespaceIsPurgedAsItsBlockSaidLast(t *testing.T) {
	says := func(w *world, word string) {
		w.cfg.Directives = nil
		if word != "" {
			w.cfg.Directives = []schema.Directive{{Key: key("namespace/a"), OnDelete: word}}
		}
		w.mustApply("")
	}
	for name, c := range map[string]struct {
		words []string
		want  []schema.Key
	}{
		"said":           {[]string{"purge"}, []schema.Key{key("namespace/a")}},
		"said at last":   {[]string{"", "purge"}, []schema.Key{key("namespace/a")}},
		"never said":     {[]string{""}, nil},
		"not said again": {[]string{"purge", ""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, mode(t))
			e := &emptying{Provider: w.provider}
			w.provider = e
			w.cfg.Policy.Prune = []schema.Kind{schema.KindNamespace}
			for _, word := range c.words {
				says(w, word)
			}
			w.without("namespace/a", "access/a", "webhook/a/ci")
			w.cfg.Directives = nil
			found := w.plan()
			if len(found.Plan.Held) != 1 || found.Plan.Held[0].Change.Purge != (c.want != nil) {
				t.Fatalf("held is %+v", found.Plan.Held)
			}
			w.mustApply("") // what is held stays, and is remembered
			w.mustApply(w.plan().Digest)
			if d := cmp.Diff(c.want, e.emptied); d != "" {
				t.Errorf("emptied (-want +have):\n%s", d)
			}
			if len(w.inv.Purging) > 0 {
				t.Errorf("of what is gone it remembers %q", w.inv.Purging)
			}
		})
	}
}

// What a mode declares and this version does not do is said, and never passes for done.
func TestWhatNothingActsOnYetIsSaid(t *testing.T) {
	w := newWorld(t, mode(t))
	says := func(word string) bool {
		return slices.ContainsFunc(w.plan().Plan.Notes, func(n plan.Note) bool { return strings.Contains(n.Text, word) })
	}
	if says("makes no backups") || says("watch.freeze") {
		t.Error("it speaks of what is not declared")
	}
	w.cfg.Backup = &schema.Backup{To: "oci://elsewhere"}
	w.cfg.Watch.Freeze = []schema.Window{{Cron: "0 18 * * FRI", Hours: 62}}
	if !says("makes no backups") || !says("watch.freeze") {
		t.Errorf("notes: %+v", w.plan().Plan.Notes)
	}
}
