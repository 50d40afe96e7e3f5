package apply_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/apply"
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
	if says("makes none by its schedule") || says("watch.freeze") {
		t.Error("it speaks of what is not declared")
	}
	w.cfg.Backup = &schema.Backup{To: "oci://elsewhere"}
	w.cfg.Watch.Freeze = []schema.Window{{Cron: "0 18 * * FRI", Hours: 62}}
	if !says("makes none by its schedule") || !says("watch.freeze") {
		t.Errorf("notes: %+v", w.plan().Plan.Notes)
	}
}

// locking is a registry that archives namespaces, and keeps of which it was asked to.
type locking struct {
	providers.Provider
	locked []schema.Key
	fails  schema.Kind // of which no delete is done
}

func (l *locking) Capabilities() schema.Table {
	return append(l.Provider.Capabilities(), schema.Capability{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Emulated, Reason: "locks"})
}

func (l *locking) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	var rest []plan.Change
	for _, c := range changes {
		switch {
		case c.Archive:
			l.locked = append(l.locked, c.Key)
			report(c.Key, nil)
		case c.Action == plan.Delete && c.Key.Kind == l.fails:
			report(c.Key, providers.ErrForbidden)
		default:
			rest = append(rest, c)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return l.Provider.Write(ctx, rest, report)
}

// archived is a world in which the block of a namespace that is to be archived is gone.
func archived(t *testing.T, words ...string) (*world, *locking) {
	t.Helper()
	w := newWorld(t, mode(t))
	l := &locking{Provider: w.provider}
	w.provider = l
	w.cfg.Policy.Prune = []schema.Kind{schema.KindNamespace, schema.KindWebhook}
	for _, word := range words {
		w.cfg.Directives = []schema.Directive{{Key: key("namespace/a"), OnDelete: word}}
		w.mustApply("")
	}
	w.without("namespace/a", "access/a", "webhook/a/ci")
	w.cfg.Directives = nil
	return w, l
}

// What is archived is there afterwards, nobody's, and no plan speaks of it again.
func TestANamespaceIsArchivedAsItsBlockSaidLast(t *testing.T) {
	w, l := archived(t, "refuse", "archive")
	w.mustApply("") // takes the protection off
	w.mustApply("") // what is held stays, and is remembered
	_, report := w.mustApply(w.plan().Digest)
	if d := cmp.Diff([]schema.Key{key("namespace/a")}, l.locked); d != "" {
		t.Errorf("locked (-want +have):\n%s", d)
	}
	if i := slices.IndexFunc(report.Lines, func(x apply.Line) bool { return x.Archive }); i != 0 {
		t.Errorf("it is not told first, and apart: %+v", report.Lines)
	}
	live := w.live()
	for k, there := range map[string]bool{"namespace/a": true, "access/a": true, "webhook/a/ci": false} {
		if _, ok := live.Get(key(k)); ok != there {
			t.Errorf("%s is there: %t", k, ok)
		}
	}
	if len(w.inv.Archiving) > 0 || w.inv.Managed(key("namespace/a")) || w.inv.Managed(key("access/a")) {
		t.Errorf("it remembers %q of what is archived", w.inv.Archiving)
	}
	if _, err := w.cycle().Verify(t.Context(), report); err != nil {
		t.Error(err)
	}
	if found := w.plan(); found.Plan.Pending() || len(found.Plan.Notes) > 0 {
		t.Errorf("a second plan is not empty: %+v", found.Plan)
	}
	w2, l2 := archived(t, "archive", "refuse", "")
	w2.mustApply("")
	w2.mustApply(w2.plan().Digest)
	if len(l2.locked) > 0 {
		t.Error("it is archived, though its block did not say so last")
	}
}

// What is pruned of an archived namespace and was not done stays ocisync's, until the
// next run.
func TestWhatWasNotPrunedOfAnArchiveIsPrunedNext(t *testing.T) {
	w, l := archived(t, "archive")
	l.fails = schema.KindWebhook
	if _, report, err := w.apply(t.Context(), w.plan().Digest); err != nil || report.Count(apply.Failed) != 1 || len(l.locked) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	l.fails = ""
	found := w.plan()
	found, report := w.mustApply(found.Digest)
	if report.Count(apply.Done) != 1 || report.Lines[0].Key != key("webhook/a/ci") || len(l.locked) != 1 {
		t.Errorf("%+v, %+v", found.Plan, report)
	}
	if w.plan().Plan.Pending() {
		t.Error("a third plan is not empty")
	}
}
