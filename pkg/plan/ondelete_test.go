package plan

import (
	"slices"
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

// A namespace that is archived is told apart from one that is deleted wherever it is
// shown, and by the approval; who reads the plan sees what stays and what goes.
func TestAnArchiveIsShownAndApproved(t *testing.T) {
	archives := schema.Capability{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Emulated, Reason: "locks"}
	w := world{
		live:    []string{"namespace/a", "namespace/c", "access/a", "robot/a/ci", "label/a/base", "repository/a/app", "webhook/a/ci", "webhook/a/theirs", "webhook/c/ci", `preheat_policy/a/all {"instance":"p"}`, `preheat_policy/a/theirs {"instance":"q"}`, "preheat/p", "preheat/q"},
		owned:   []string{"namespace/a", "namespace/c", "access/a", "robot/a/ci", "label/a/base", "repository/a/app", "webhook/a/ci", "webhook/c/ci", "preheat_policy/a/all", "preheat/p"},
		desired: []string{"namespace/c", "webhook/c/ci"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(),
		table: append(nativeTable(), archives), archiving: []string{"namespace/a"},
	}
	p := w.plan(t)
	check(t, p, "held: delete namespace/a: a namespace is archived only with an approval", "held: delete preheat/p: depends on preheat_policy/a/all, which is held",
		"held: delete preheat_policy/a/all: depends on namespace/a, which is held", "held: delete webhook/a/ci: depends on namespace/a, which is held")
	c := p.Held[0].Change
	if !c.Archive || c.Purge || p.Held[1].Change.Archive {
		t.Errorf("it is %+v", c)
	}
	if d := cmp.Diff([]string{"preheat_policy/a/theirs stays as it is", "with it goes robot/a/ci", "webhook/a/theirs stays as it is"}, c.Impact); d != "" {
		t.Errorf("its impact (-want +have):\n%s", d)
	}
	var text, md strings.Builder
	if p.Text(&text, TextOptions{}) != nil || p.Markdown(&md) != nil {
		t.Fatal("it cannot be shown")
	}
	for _, s := range []string{text.String(), md.String()} {
		if strings.Count(s, "archived: it stays with its content, locked") != 1 || strings.Contains(s, "with all its content") {
			t.Errorf("it says\n%s", s)
		}
	}
	deletes := p
	deletes.Held = slices.Clone(p.Held)
	if deletes.Held[0].Change.Archive = false; deletes.Approval() == p.Approval() {
		t.Error("who approves one approves the other")
	}
	if js := asJSON(t, p.Printed()); strings.Count(js, `"archive"`) != 1 {
		t.Errorf("it says\n%s", js)
	}
	w.approved = p.Approval()
	check(t, w.plan(t), "delete namespace/a", "delete preheat_policy/a/all", "delete webhook/a/ci", "delete preheat/p") // locked first, and what is used last
	w.approved, w.protected, w.policy.Protect = "", []string{"namespace/a"}, []string{"namespace/a"}
	if r := w.plan(t).Refusals; len(r) != 1 || !strings.HasPrefix(r[0].Why, "archive of a protected object") {
		t.Errorf("a protected one is refused so: %+v", r)
	}
	w.protected, w.policy.Protect, w.archiving = nil, nil, nil
	if w.plan(t).Held[0].Change.Archive {
		t.Error("it is archived, and nobody said so")
	}
	w.archiving, w.table = []string{"namespace/a"}, nativeTable()
	if w.plan(t).Held[0].Change.Archive {
		t.Error("it is archived where nothing can")
	}
}

// What is made anew loses its content, whatever on_delete says of a namespace that
// leaves the file: an archive never passes for that.
func TestWhatIsToBeArchivedIsNotMadeAnew(t *testing.T) {
	archives := schema.Capability{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Native}
	w := world{
		live: []string{`namespace/b {"proxy_of":"x"}`, "webhook/b/ci"}, owned: []string{"*"}, desired: []string{`namespace/b {"proxy_of":"y"}`, "webhook/b/ci"},
		directives: onDelete("archive", "b"), policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(), table: append(nativeTable(), archives), archiving: []string{"namespace/b"},
	}
	p := w.plan(t)
	for _, c := range p.all() {
		if c.Key.Kind == schema.KindNamespace {
			t.Errorf("the plan has %s %s", c.Action, c.Key)
		}
	}
	if len(p.Refusals) != 1 || p.Refusals[0].Field != "proxy_of" || !strings.Contains(p.Refusals[0].Why, `on_delete = "archive" keeps`) || !strings.Contains(p.Refusals[0].Why, `on_delete = "purge"`) {
		t.Errorf("refused is %+v", p.Refusals)
	}
}

// What is declared to have rights in a namespace would open it again.
func TestANamespaceIsNotArchivedFromUnderWhatNeedsIt(t *testing.T) {
	archives := schema.Capability{Kind: schema.KindNamespace, Field: "on_delete.archive", Support: schema.Native}
	w := world{
		live: []string{"namespace/a", `robot/all {"access":{"a":["pull"]}}`}, owned: []string{"*"}, desired: []string{`robot/all {"access":{"a":["pull"]}}`},
		policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(), table: append(nativeTable(), archives), archiving: []string{"namespace/a"},
	}
	p := w.plan(t)
	check(t, p)
	checkNote(t, p, "namespace/a: not in the file any more, and not deleted: robot/all is declared, and needs it")
}
