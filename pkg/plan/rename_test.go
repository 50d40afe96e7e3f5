package plan

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// wasOld says that an object was called old before.
func wasOld(key string) []schema.Directive {
	k, err := schema.ParseKey(key)
	if err != nil {
		panic(err)
	}
	return []schema.Directive{{Key: k, Previously: "old"}}
}

func TestARenameMovesTheChildrenAndWhoOwnsThem(t *testing.T) {
	w := world{
		desired:    []string{`namespace/new {"description":"d"}`, `access/new {"users":{"bob":["pull"]}}`, "webhook/new/w", `retention/new {"keep":[{"newest":1}]}`},
		live:       []string{"namespace/old", `access/old {"users":{"bob":["pull"],"eve":["pull"]}}`, "webhook/old/w", "webhook/old/gone", "webhook/old/foreign", `retention/old {"keep":[{"newest":1}]}`},
		applied:    []string{`access/old {"users":{"bob":["pull"]}}`},
		owned:      []string{"namespace/old", "webhook/old/w", "webhook/old/gone", "retention/old"},
		directives: wasOld("namespace/new"), policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(),
	}
	p := w.plan(t)
	check(t, p, "update access/new", "rename namespace/new", "delete webhook/new/gone")
	c := change(t, p, "namespace/new")
	want := []Field{{Path: "description", New: `"d"`}, {Path: "name", Old: `"old"`, New: `"new"`}}
	if d := cmp.Diff(want, c.Fields); d != "" {
		t.Error(d)
	}
	if c.Before.Key.Name != "old" || c.After.Key.Name != "new" {
		t.Errorf("before %s, after %s", c.Before.Key, c.After.Key)
	}
	if got := change(t, p, "access/new").Reason; got != Drifted {
		t.Errorf("eve was let in behind our back; reason %s", got)
	}
}

func TestSecretsOfARenamedObjectAreAskedForByItsFormerName(t *testing.T) {
	w := world{
		desired: []string{"namespace/new", `webhook/new/w {"auth":{"env":"A"}}`, `user/new {"password":{"env":"P"}}`}, live: []string{"namespace/old", "webhook/old/w {} unread auth", "user/old {} unread password"},
		directives: append(wasOld("namespace/new"), wasOld("user/new")...),
	}
	in := w.input(t)
	var asked []string
	in.Ownership.Secret = func(k schema.Key, path, _ string, _ *schema.SecretRef) Match {
		asked = append(asked, k.String()+" "+path)
		return Equal
	}
	Diff(in)
	slices.Sort(asked)
	if d := cmp.Diff([]string{"user/old password", "webhook/old/w auth"}, asked); d != "" {
		t.Error(d)
	}
}

func TestAChildIsRenamedWithinItsNamespace(t *testing.T) {
	w := world{desired: []string{"namespace/a", "webhook/a/new"}, live: []string{"namespace/a", "webhook/a/old"}, owned: []string{"*"}, directives: wasOld("webhook/a/new"), policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds()}
	check(t, w.plan(t), "rename webhook/a/new")
}

func TestARenameThatCannotBeIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		w    world
		want []string
	}{
		"the old name is still declared": {
			world{desired: []string{"user/new", "user/old"}, live: []string{"user/old"}, directives: wasOld("user/new")},
			[]string{"create user/new", "adopt user/old", "refused: user/new: user/old is still declared"},
		},
		"two new names": {
			world{desired: []string{"user/new", "user/newer"}, live: []string{"user/old"}, directives: append(wasOld("user/new"), wasOld("user/newer")...)},
			[]string{"rename user/new", "refused: user/newer: user/old becomes user/new already"},
		},
		"made anew at once": {
			world{desired: []string{`namespace/new {"proxy_of":"s"}`}, live: []string{`namespace/old {"proxy_of":"r"}`}, owned: []string{"*"}, directives: wasOld("namespace/new"), policy: schema.Policy{Prune: schema.Kinds()}},
			[]string{"refused: namespace/new: an object cannot be renamed and made anew at once"},
		},
		"paused": {
			world{desired: []string{"user/new"}, live: []string{"user/old"}, owned: []string{"*"}, policy: schema.Policy{Prune: schema.Kinds()},
				directives: []schema.Directive{{Key: schema.Key{Kind: schema.KindUser, Name: "new"}, Previously: "old", Paused: &schema.Pause{Reason: "r"}}}},
			[]string{"refused: user/new: a paused object cannot be renamed"},
		},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.w.plan(t), c.want...) })
	}
}

func TestARenameIsNotGuessed(t *testing.T) {
	w := world{desired: []string{"user/new"}, live: []string{"user/old"}, owned: []string{"*"}, directives: wasOld("user/new"), except: []schema.Key{{Kind: schema.KindUser, Name: "old"}}}
	check(t, w.plan(t), "create user/new") // what was not read is not moved
	w = world{desired: []string{"user/new"}, live: []string{"user/new", "user/old"}, owned: []string{"*"}, directives: wasOld("user/new")}
	check(t, w.plan(t), "forget user/old") // done before; the other is another
	w.except = []schema.Key{{Kind: schema.KindWebhook, Name: "old/"}}
	w.desired, w.live, w.directives = []string{"namespace/new", "webhook/new/w"}, []string{"namespace/old"}, wasOld("namespace/new")
	p := w.plan(t)
	check(t, p, "rename namespace/new")
	checkNote(t, p, "webhook/new/w: not read, so left alone")
}
