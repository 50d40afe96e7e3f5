package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

func onDelete(word string, names ...string) []schema.Directive {
	var out []schema.Directive
	for _, n := range names {
		out = append(out, schema.Directive{Key: schema.Key{Kind: schema.KindNamespace, Name: n}, OnDelete: word})
	}
	return out
}

func TestNamespacesThatRefuseToBeDeletedAreProtected(t *testing.T) {
	directives := append(onDelete("refuse", "b", "a"), onDelete("purge", "c")...)
	if d := cmp.Diff([]string{"namespace/a", "namespace/b"}, Refusing(directives)); d != "" {
		t.Error(d)
	}
	w := world{live: []string{"namespace/a", "namespace/b", "user/x"}, desired: []string{"user/x"}, owned: []string{"*"}, protected: []string{"namespace/a"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
	check(t, w.plan(t), "unprotect namespace/a", "held: delete namespace/a: a namespace is deleted only with an approval", "held: delete namespace/b: a namespace is deleted only with an approval",
		`refused: namespace/a: delete of a protected object (policy.protect "namespace/a", or on_delete = "refuse")`)
}

// What a mode asks for and nothing does is said from the start, not when the
// namespace is gone.
func TestAnOnDeleteThatNothingDoesIsRefusedOrSaid(t *testing.T) {
	w := world{desired: []string{"namespace/a", "namespace/b", "namespace/c"}, live: []string{"namespace/a", "namespace/b", "namespace/c"}, owned: []string{"*"},
		directives: append(onDelete("archive", "a"), append(onDelete("purge", "b"), onDelete("refuse", "c")...)...),
		table:      append(nativeTable(), schema.Capability{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Unsupported, Reason: "nothing locks"})}
	check(t, w.plan(t), "refused: namespace/a: memory cannot do this: nothing locks", "refused: namespace/b: memory cannot do this: nothing here knows how to purge a namespace")
	w.policy.Unsupported = "note"
	p := w.plan(t)
	check(t, p)
	checkNote(t, p, "namespace/a: on_delete left out: nothing locks", "namespace/b: on_delete left out: nothing here knows how to purge")
	w.policy.Unsupported = ""
	w.table = append(w.table, schema.Capability{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Native})
	check(t, w.plan(t), "refused: namespace/a: memory cannot do this: nothing locks")
}

// A namespace that goes with its content is another plan than one that goes alone,
// and says so.
func TestAPurgeIsShownAndApproved(t *testing.T) {
	purges := schema.Capability{Kind: schema.KindNamespace, Field: "on_delete.purge", Support: schema.Native}
	w := world{
		live: []string{"namespace/a", `namespace/b {"proxy_of":"x"}`, "namespace/c"}, owned: []string{"*"},
		desired: []string{`namespace/b {"proxy_of":"y"}`, "namespace/c"}, directives: onDelete("purge", "b", "c"),
		policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(), table: append(nativeTable(), purges), purging: []string{"namespace/a", "namespace/b"},
	}
	p := w.plan(t)
	check(t, p, "held: delete namespace/a: a namespace is deleted only with an approval", "held: replace namespace/b: a namespace is replaced only with an approval")
	for _, h := range p.Held {
		if !h.Change.Purge {
			t.Errorf("%s goes without its content", h.Change.Key)
		}
	}
	var text, md strings.Builder
	if p.Text(&text, TextOptions{}) != nil || p.Markdown(&md) != nil || strings.Count(text.String(), "with all its content") != 2 || strings.Count(md.String(), "with all its content") != 2 {
		t.Errorf("it says\n%s\n%s", text.String(), md.String())
	}
	w.purging = nil
	alone := w.plan(t)
	if alone.Held[0].Change.Purge || alone.Approval() == p.Approval() {
		t.Error("without the word it is the same plan")
	}
	// where the registry cannot, nothing does
	w.purging, w.table, w.policy.Unsupported = []string{"namespace/a"}, nativeTable(), "note"
	for _, h := range w.plan(t).Held {
		if h.Change.Purge {
			t.Errorf("%s goes with its content where nothing can", h.Change.Key)
		}
	}
}
