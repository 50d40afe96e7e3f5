package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

func fourNamespaces() []string {
	var out []string
	for _, n := range []string{"extensions", "kcl", "platform", "test"} {
		out = append(out, "namespace/provisioning-"+n, "access/provisioning-"+n+` {"users":{"developer":["pull"]}}`)
	}
	return append(out, "user/developer")
}

func TestAFileThatLosesAllNamespacesDeletesNone(t *testing.T) {
	w := world{desired: []string{"user/developer"}, live: fourNamespaces(), owned: []string{"*"}, pruned: schema.Kinds()}
	p := w.plan(t)
	for _, c := range p.Changes {
		if !c.Recorded() {
			t.Errorf("without prune: %s %s", c.Action, c.Key)
		}
	}
	if len(p.Changes) != 8 || p.Pending() {
		t.Errorf("all eight objects should be let go of, and nothing else: %v", p.lines())
	}
	checkNote(t, p, `namespace/provisioning-kcl: not in the file any more; it stays`, `add "namespace" to policy.prune`)

	w.policy.Prune = []schema.Kind{schema.KindNamespace, schema.KindAccess}
	p = w.plan(t)
	check(t, p,
		"held: delete namespace/provisioning-extensions: a namespace is deleted only with an approval",
		"held: delete namespace/provisioning-kcl: a namespace is deleted only with an approval",
		"held: delete namespace/provisioning-platform: a namespace is deleted only with an approval",
		"held: delete namespace/provisioning-test: a namespace is deleted only with an approval")
	if d := cmp.Diff([]string{"with it goes access/provisioning-extensions"}, p.Held[0].Change.Impact); d != "" {
		t.Error("a namespace's delete lists its children: " + d)
	}
	if !p.Pending() || !p.Blocked() {
		t.Error("what is held is pending, and blocks")
	}
}

func TestTakingEveryUserOfATableIsHeld(t *testing.T) {
	live := []string{"namespace/a", `access/a {"users":{"bob":["pull"],"eve":["admin"]}}`}
	for _, emptied := range []string{`{"users":{}}`, `{"users":{"bob":[],"eve":[]}}`} {
		w := world{desired: []string{"namespace/a", "access/a " + emptied}, live: live, owned: []string{"*"}}
		check(t, w.plan(t), "held: update access/a: takes away every entry of users")
	}
	w := world{desired: []string{"namespace/a", `access/a {"users":{"bob":["pull"]}}`}, live: live, owned: []string{"*"}}
	check(t, w.plan(t), "update access/a")
}

// What a provider sees and nobody declares is put right, which takes nothing away.
func TestASeenListThatEndsEmptyIsNotHeld(t *testing.T) {
	w := world{
		desired: []string{`mirror/m {"from":"example.com/a","to":"a/b","tags":{"list":["v1"]}}`},
		live:    []string{`mirror/m {"from":"example.com/a","to":"a/b","tags":{"list":["v1","v2"]},"altered":["v1"]}`},
		owned:   []string{"*"},
	}
	check(t, w.plan(t), "update mirror/m")
}

func TestAListManagedForTheFirstTimeTakesNothingUnasked(t *testing.T) {
	for name, c := range map[string]struct{ live, declared, list string }{
		"table":  {`access/a {"users":{"bob":["pull"],"eve":["pull"]}}`, `access/a {"users":{"bob":["pull"]}}`, "users"},
		"right":  {`access/a {"users":{"bob":["pull","push"]}}`, `access/a {"users":{"bob":["pull"]}}`, "users"},
		"scalar": {`access/a {"anonymous":["pull"]}`, `access/a {"anonymous":[]}`, "anonymous"},
		"rules":  {`retention/a {"keep":[{"newest":1},{"newest":2}]}`, `retention/a {"keep":[{"newest":1}]}`, "keep"},
		"set":    {`group/a {"users":["bob","eve"]}`, `group/a {"users":["bob"]}`, "users"},
		"labels": {`replication/a {"match":{"labels":["x"]}}`, `replication/a {"match":{"labels":[]}}`, "match.labels"},
		"pairs":  {`artifact/a {"annotations":{"a":"1"}}`, `artifact/a {"annotations":{}}`, "annotations"},
	} {
		t.Run(name, func(t *testing.T) {
			key, _, _ := strings.Cut(c.live, " ")
			w := world{desired: []string{"namespace/a", c.declared}, live: []string{"namespace/a", c.live}, owned: []string{"namespace/a"}}
			check(t, w.plan(t), "held: update "+key+": "+c.list+" is managed for the first time, and this takes away what it holds")
			w.applied = []string{key + " {}"} // owned, and the list was not in the file
			check(t, w.plan(t), "held: update "+key+": "+c.list+" is managed for the first time, and this takes away what it holds")
			w.applied = []string{c.live}
			if got := w.plan(t); len(got.Held) > 0 && name != "pairs" {
				t.Errorf("managed before, and held: %v", got.lines())
			}
		})
	}
	w := world{desired: []string{`group/a {"users":["bob","eve"]}`}, live: []string{`group/a {"users":["bob"]}`}}
	check(t, w.plan(t), "update group/a")
}

func TestTheFirstPruneOfAKindIsHeld(t *testing.T) {
	w := world{
		live:   []string{"namespace/a", "webhook/a/x", "webhook/a/y", "robot/x", "robot/y"},
		owned:  []string{"namespace/a", "webhook/a/x", "robot/x"},
		policy: schema.Policy{Prune: []schema.Kind{schema.KindRobot, schema.KindWebhook}}, desired: []string{"namespace/a"},
		pruned: []schema.Kind{schema.KindRobot},
	}
	check(t, w.plan(t), "delete robot/x", "held: delete webhook/a/x: the first time that objects of kind webhook are pruned")
	w.pruned = append(w.pruned, schema.KindWebhook)
	check(t, w.plan(t), "delete robot/x", "delete webhook/a/x")
}

func TestTheLastObjectOfAKindIsHeld(t *testing.T) {
	w := world{live: []string{"robot/x"}, owned: []string{"*"}, policy: schema.Policy{Prune: []schema.Kind{schema.KindRobot}}, pruned: schema.Kinds()}
	check(t, w.plan(t), "held: delete robot/x: deletes the last robot")
	w.live = append(w.live, "robot/y")
	check(t, w.plan(t), "held: delete robot/x: deletes the last robot", "held: delete robot/y: deletes the last robot")
	w.owned = []string{"robot/x"}
	check(t, w.plan(t), "delete robot/x")
	w.live, w.desired = w.live[:1], []string{"robot/z"}
	check(t, w.plan(t), "delete robot/x", "create robot/z")
}

func TestAHeldCreateDoesNotStandInForTheLastObject(t *testing.T) {
	w := world{
		live:    []string{"group/g {\"users\":[\"bob\",\"eve\"]}", "namespace/a", "remote/r", "namespace/b {\"proxy_of\":\"r\"}", "replication/x"},
		desired: []string{"group/g {\"users\":[\"bob\"]}", "namespace/a", "remote/r", "namespace/b {\"proxy_of\":\"s\"}", "replication/y {\"namespace\":\"b\"}", "remote/s"},
		owned:   []string{"namespace/a", "namespace/b", "replication/x", "remote/r"}, pruned: schema.Kinds(),
		policy: schema.Policy{Prune: []schema.Kind{schema.KindReplication}},
	}
	p := w.plan(t)
	check(t, p, "create remote/s",
		"held: update group/g: users is managed for the first time, and this takes away what it holds",
		"held: replace namespace/b: a namespace is replaced only with an approval",
		"held: delete replication/x: deletes the last replication",
		"held: create replication/y: depends on namespace/b, which is held")
}

func TestAnInventoryThatIsGoneOrBadDeletesNothing(t *testing.T) {
	w := world{live: append(fourNamespaces(), "webhook/provisioning-kcl/x", "robot/x"), policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
	check(t, w.plan(t)) // absent: nothing is owned

	w.owned, w.mayNot = []string{"*"}, "the inventory is not signed"
	p := w.plan(t)
	for _, c := range p.all() {
		if c.Action != Forget || !c.Key.Kind.Single() {
			t.Errorf("unsigned inventory: %s %s", c.Action, c.Key)
		}
	}
	checkNote(t, p, "robot/x: not in the file any more, and not deleted: the inventory is not signed", "namespace/provisioning-kcl: not in the file any more, and not deleted")
}

func TestWhatOcisyncDoesNotOwnIsNeverTouched(t *testing.T) {
	w := world{live: []string{"namespace/a", "robot/x", "webhook/a/w"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
	check(t, w.plan(t))
}

func TestSingleKindsAreForgottenNeverPruned(t *testing.T) {
	for _, k := range schema.Kinds() {
		if !k.Single() {
			continue
		}
		key := string(k) + "/a"
		if _, ok := (schema.Key{Kind: k, Name: "a"}).Namespace(); !ok {
			key = string(k)
		}
		w := world{desired: []string{"namespace/a"}, live: []string{"namespace/a", key}, owned: []string{"*"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
		p := w.plan(t)
		check(t, p, "forget "+key)
		if p.Pending() {
			t.Errorf("forgetting %s is pending", key)
		}
	}
}

func TestProtectionHolds(t *testing.T) {
	w := world{
		desired: []string{"namespace/keep"}, live: []string{"namespace/keep", "namespace/a", "webhook/a/audit", "robot/x", "robot/y"}, owned: []string{"namespace/a", "webhook/a/audit", "robot/x"},
		policy: schema.Policy{Prune: schema.Kinds(), Protect: []string{"robot/*"}}, pruned: schema.Kinds(),
	}
	held := "held: delete namespace/a: a namespace is deleted only with an approval"
	check(t, w.plan(t), "delete robot/x", "adopt namespace/keep", held, `refused: robot/x: delete of a protected object (policy.protect "robot/*")`)

	w.policy.Protect = []string{"webhook/a/*"}
	check(t, w.plan(t), "delete robot/x", "adopt namespace/keep", held, `refused: namespace/a: delete would take along webhook/a/audit, which is protected (policy.protect "webhook/a/*")`)

	w.policy.Protect = []string{"robot/[x"}
	check(t, w.plan(t), "delete robot/x", "adopt namespace/keep", held, `refused:: policy.protect "robot/[x" is not a pattern, so it protects nothing`)
}

func TestReplacingAProtectedNamespaceIsRefused(t *testing.T) {
	w := world{desired: []string{`namespace/a {"proxy_of":"s"}`}, live: []string{`namespace/a {"proxy_of":"r"}`}, owned: []string{"*"}, policy: schema.Policy{Protect: []string{"namespace/a"}}}
	check(t, w.plan(t), "held: replace namespace/a: a namespace is replaced only with an approval", `refused: namespace/a: replace of a protected object (policy.protect "namespace/a", or on_delete = "refuse")`)
}

func TestNoPlanBothUnprotectsAndDeletes(t *testing.T) {
	w := world{live: []string{"robot/x", "robot/y"}, owned: []string{"robot/x"}, protected: []string{"robot/x", "robot/x"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
	p := w.plan(t)
	check(t, p, "delete robot/x", "unprotect robot/x", `refused: robot/x: delete of a protected object (policy.protect "robot/x")`)
	w.approved = p.Approval()
	check(t, w.plan(t), "delete robot/x", "unprotect robot/x", `refused: robot/x: delete of a protected object (policy.protect "robot/x")`)
	w.approved, w.desired = "", []string{"robot/x"}
	p = w.plan(t)
	check(t, p, "unprotect robot/x")
	if p.Pending() {
		t.Error("taking a protection off reaches no registry")
	}
	w.protected = []string{"*"}
	p = w.plan(t)
	check(t, p)
	checkNote(t, p, `the inventory protects "*", which names no kind`)
}

func TestUnprotectIsNotHeldWithAnObjectOfTheSameKey(t *testing.T) {
	w := world{desired: []string{`group/g {"users":[]}`}, live: []string{`group/g {"users":["bob"]}`}, owned: nil, protected: []string{"group/g"}}
	check(t, w.plan(t), "unprotect group/g", "held: update group/g: users is managed for the first time, and this takes away what it holds")
}

func TestMaxDeletesRefusesMoreThanBoth(t *testing.T) {
	// A group of ten members is eleven elements; n members go.
	plan := func(n int, m schema.MaxDeletes, approved string) Plan {
		all := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
		users := func(u []string) string { return fmt.Sprintf(`group/g {"users":%s}`, asJSON(t, u)) }
		w := world{
			desired: []string{users(all[n:]), "namespace/n"}, live: []string{users(all), "namespace/n", "namespace/o"}, owned: []string{"*"},
			policy: schema.Policy{MaxDeletes: &m}, approved: approved,
		}
		return w.plan(t)
	}
	for _, c := range []struct {
		gone, percent, atLeast int
		refused                bool
	}{
		{1, 10, 0, false}, // 1 of 10 is 10 %, not more
		{2, 10, 0, true},
		{2, 10, 2, false}, // not more than the floor
		{3, 10, 2, true},
		{3, 30, 2, false}, // not more than the share
		{3, 29, 3, false},
		{3, 29, 2, true},
		{9, 100, 0, false},
		{1, 0, 0, true},
	} {
		p := plan(c.gone, schema.MaxDeletes{Percent: c.percent, AtLeast: c.atLeast}, "")
		if got := len(p.Refusals) > 0; got != c.refused {
			t.Errorf("%d of 10, at most %d %% and %d: refused %v, want %v: %v", c.gone, c.percent, c.atLeast, got, c.refused, p.lines())
		}
		if c.refused && !strings.Contains(p.Refusals[0].Why, fmt.Sprintf("%d of 10 managed", c.gone)) {
			t.Errorf("the refusal counts otherwise: %s", p.Refusals[0].Why)
		}
	}
	over := plan(3, schema.MaxDeletes{}, "")
	check(t, plan(3, schema.MaxDeletes{}, over.Approval()), "update group/g", "forget namespace/o")
}

func TestAnApprovalPassesThatPlanAndNoOther(t *testing.T) {
	w := world{desired: []string{`user/bob`}, live: []string{"namespace/a"}, owned: []string{"*"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
	held := []string{"create user/bob", "held: delete namespace/a: a namespace is deleted only with an approval"}
	p := w.plan(t)
	check(t, p, held...)
	w.approved = p.Approval()
	approved := w.plan(t)
	check(t, approved, "create user/bob", "delete namespace/a")
	if approved.Approval() != p.Approval() {
		t.Error("the plan's name changes by being approved")
	}
	w.desired = append(w.desired, "user/eve")
	got := w.plan(t)
	if len(got.Held) != 1 || len(got.Refusals) != 1 || !strings.Contains(got.Refusals[0].Why, got.Approval()) {
		t.Errorf("another plan than the approved one: %v", got.lines())
	}
	w.desired, w.live, w.owned = []string{"user/bob"}, []string{"user/bob"}, []string{"*"}
	check(t, w.plan(t)) // done already: an old approval does no harm
}

func TestWhatDependsOnAHeldChangeIsHeld(t *testing.T) {
	w := world{
		desired: []string{`namespace/b {"proxy_of":"s"}`, "remote/s", "webhook/b/w", `robot/ci {"access":{"b":["pull"],"*":["pull"]}}`, `artifact/x {"to":"b/app:1"}`, `mirror/m {"to":"b/c/d"}`, "user/eve"},
		live:    []string{`namespace/b {"proxy_of":"r"}`, "remote/r"},
		owned:   []string{"*"}, policy: schema.Policy{Prune: []schema.Kind{schema.KindRemote}}, pruned: schema.Kinds(),
	}
	on := "depends on namespace/b, which is held"
	check(t, w.plan(t), "create user/eve", "create remote/s",
		"held: create artifact/x: "+on, "held: create mirror/m: "+on,
		"held: replace namespace/b: a namespace is replaced only with an approval",
		"held: delete remote/r: "+on, // the old namespace still uses it
		"held: create robot/ci: "+on, "held: create webhook/b/w: "+on)
}

func TestAnInstanceWaitsForThePoliciesThatUseIt(t *testing.T) {
	w := world{
		desired: []string{"namespace/a", "preheat/q"}, live: []string{"namespace/a", "preheat/p", "preheat/q", `preheat_policy/a/x {"instance":"p"}`},
		owned: []string{"*"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: []schema.Kind{schema.KindPreheat},
	}
	check(t, w.plan(t), "held: delete preheat/p: depends on preheat_policy/a/x, which is held",
		"held: delete preheat_policy/a/x: the first time that objects of kind preheat_policy are pruned")
	w.pruned = schema.Kinds()
	w.live = append(w.live, `preheat_policy/a/y {"instance":"q"}`)
	w.desired = append(w.desired, `preheat_policy/a/y {"instance":"q"}`)
	check(t, w.plan(t), "delete preheat_policy/a/x", "delete preheat/p")
}

func TestARevocationWaitsForNothing(t *testing.T) {
	w := world{
		live:  []string{"namespace/a", "robot/ci {\"access\":{\"a\":[\"push\"]}}", "robot/other"},
		owned: []string{"namespace/a", "robot/ci"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(),
	}
	check(t, w.plan(t), "delete robot/ci", "held: delete namespace/a: a namespace is deleted only with an approval")
}

func TestANamespaceWithDeclaredObjectsIsNotDeleted(t *testing.T) {
	w := world{desired: []string{"robot/a/ci"}, live: []string{"namespace/a", "robot/a/ci"}, owned: []string{"*"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
	p := w.plan(t)
	check(t, p)
	checkNote(t, p, "namespace/a: not in the file any more, and not deleted: robot/a/ci is declared in it")
}

func TestGuardWritesNothingIntoThePlanItIsGiven(t *testing.T) {
	w := world{live: []string{"robot/x"}, owned: []string{"*"}, policy: schema.Policy{Prune: schema.Kinds(), Protect: []string{"robot/*"}}, desired: []string{"user/a"}}
	in := w.input(t)
	p := Diff(in)
	room := make([]Refusal, 2, 8) // room to append, and out of order
	room[0], room[1] = Refusal{Key: schema.Key{Kind: schema.KindUser, Name: "z"}, Why: "z"}, Refusal{Why: "a"}
	p.Refusals, p.Held = room, make([]Held, 1, 8)
	before := asJSON(t, p)
	Guard(p, GuardInput{Policy: in.Policy, Ownership: in.Ownership, Desired: in.Desired, Live: in.Live})
	if after := asJSON(t, p); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}

// TestWhatAProviderWantsApprovedIsHeld until this plan is approved.
func TestWhatAProviderWantsApprovedIsHeld(t *testing.T) {
	key := schema.Key{Kind: schema.KindSettings}
	p := Plan{Changes: []Change{{Action: Update, Key: key}}}
	in := GuardInput{Held: map[schema.Key]string{key: "its content goes"}}
	held := Guard(p, in)
	if len(held.Changes) != 0 || len(held.Held) != 1 || held.Held[0].Why != "its content goes" {
		t.Fatalf("%+v", held)
	}
	in.Approved = held.Approval()
	if done := Guard(p, in); len(done.Changes) != 1 || len(done.Held) != 0 || len(done.Refusals) != 0 {
		t.Errorf("%+v", done)
	}
}
