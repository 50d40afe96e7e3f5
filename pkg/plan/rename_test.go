package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

func TestWhatUsesWhatIsRenamedIsKept(t *testing.T) {
	w := world{
		desired: []string{"remote/new", `namespace/p {"proxy_of":"new"}`, `replication/r {"to":"new"}`, `replication/s {"from":"new","description":"d"}`, "scanner/new", `scan {"default":"new"}`, `scan/p {"scanner":"new"}`, "group/new", `access/p {"groups":{"new":["pull"],"z":["push"]}}`},
		live:    []string{"remote/old", `namespace/p {"proxy_of":"old"}`, `replication/old {"to":"old"}`, `replication/s {"from":"old"}`, "scanner/old", `scan {"default":"old"}`, `scan/p {"scanner":"old"}`, "group/old", `access/p {"groups":{"old":["pull"],"z":["push"]}}`},
		owned:   []string{"*"}, directives: append(append(append(wasOld("replication/r"), wasOld("remote/new")...), wasOld("scanner/new")...), wasOld("group/new")...),
	}
	p := w.plan(t)
	check(t, p, "rename group/new", "rename remote/new", "rename scanner/new", "rename replication/r", "update replication/s")
	if fields := change(t, p, "replication/r").Fields; len(fields) != 1 || fields[0].Path != "name" {
		t.Errorf("the replication's name is not all that changes: %+v", fields)
	}
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
		"both are there, and nobody knows of a rename": {
			world{desired: []string{"user/new"}, live: []string{"user/new", "user/old"}, directives: wasOld("user/new")},
			[]string{"adopt user/new", "refused: user/new: user/old cannot become it: both are there, and nothing is known of a rename"},
		},
		"both are there, and both were declared": {
			world{desired: []string{"user/new"}, live: []string{"user/new", "user/old"}, owned: []string{"*"}, directives: wasOld("user/new")},
			[]string{"forget user/old", "refused: user/new: user/old cannot become it: both are there, and nothing is known of a rename"},
		},
		"two new names": {
			world{desired: []string{"user/new", "user/newer"}, live: []string{"user/old"}, owned: []string{"*"}, directives: append(wasOld("user/new"), wasOld("user/newer")...)},
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
	w = world{desired: []string{"user/new"}, live: []string{"user/new", "user/old"}, owned: []string{"user/new"}, directives: wasOld("user/new")}
	check(t, w.plan(t)) // done before; the other is another
	w.owned = []string{"*"}
	w.except = []schema.Key{{Kind: schema.KindWebhook, Name: "old/"}}
	w.desired, w.live, w.directives = []string{"namespace/new", "webhook/new/w"}, []string{"namespace/old"}, wasOld("namespace/new")
	p := w.plan(t)
	check(t, p, "rename namespace/new")
	checkNote(t, p, "webhook/new/w: not read, so left alone")
}

// renamed is what a live state says of renames that were cut short, oldest first.
func renamed(pairs ...string) []schema.Renaming {
	var out []schema.Renaming
	for _, p := range pairs {
		from, to, _ := strings.Cut(p, " > ")
		f, err := schema.ParseKey(from)
		t, err2 := schema.ParseKey(to)
		if err := errors.Join(err, err2); err != nil {
			panic(err)
		}
		out = append(out, schema.Renaming{From: f, To: t})
	}
	return out
}

func TestARenameThatWasCutShortIsInEveryPlan(t *testing.T) {
	everything := schema.Policy{Prune: schema.Kinds()}
	for name, c := range map[string]struct {
		w    world
		cut  []schema.Renaming
		want []string
		note string
	}{
		"by the file that began it": {
			world{desired: []string{"namespace/new", "access/new"}, live: []string{"namespace/new", "access/new"}, owned: []string{"namespace/old", "access/old"}, directives: wasOld("namespace/new")},
			renamed("namespace/old > namespace/new"), []string{"rename namespace/new"}, "namespace/new: its rename was cut short; this ends it",
		},
		"written down, and not acknowledged": {
			world{desired: []string{"namespace/new", "access/new"}, live: []string{"namespace/new", "access/new"}, owned: []string{"namespace/new", "access/new"}, directives: wasOld("namespace/new")},
			renamed("namespace/old > namespace/new"), []string{"rename namespace/new"}, "",
		},
		"the file has forgotten the former name": {
			world{desired: []string{"namespace/new"}, live: []string{"namespace/new"}, owned: []string{"namespace/old"}},
			renamed("namespace/old > namespace/new"), []string{"rename namespace/new"}, "",
		},
		"the file went back": {
			world{desired: []string{"namespace/old", "access/old", "webhook/old/w"}, live: []string{"namespace/new", "access/new", "webhook/new/w", "webhook/new/gone", "webhook/new/foreign"},
				owned: []string{"namespace/old", "access/old", "webhook/old/w", "webhook/old/gone"}, policy: everything, pruned: schema.Kinds()},
			renamed("namespace/old > namespace/new"), []string{"rename namespace/old", "delete webhook/old/gone"},
			"namespace/old: its rename to namespace/new was cut short; this takes it back",
		},
		"the file went back and wants more": {
			world{desired: []string{`namespace/old {"description":"d"}`}, live: []string{"namespace/new"}, owned: []string{"namespace/old"}},
			renamed("namespace/old > namespace/new"), []string{"rename namespace/old"}, "",
		},
		"the file goes back by saying so": {
			world{desired: []string{"namespace/new", "namespace/old"}[1:], live: []string{"namespace/new"}, owned: []string{"namespace/old"},
				directives: []schema.Directive{{Key: schema.Key{Kind: schema.KindNamespace, Name: "old"}, Previously: "new"}}},
			renamed("namespace/old > namespace/new"), []string{"rename namespace/old"}, "",
		},
		"taking it back was cut short": {
			world{desired: []string{"namespace/old"}, live: []string{"namespace/old"}, owned: []string{"namespace/old"}},
			renamed("namespace/old > namespace/new", "namespace/new > namespace/old"), []string{"rename namespace/old"}, "this ends it",
		},
		"the file has neither": {
			world{desired: []string{"user/u"}, live: []string{"namespace/new", "user/u"}, owned: []string{"namespace/old", "user/u"}, policy: everything, pruned: schema.Kinds()},
			renamed("namespace/old > namespace/new"), []string{"refused: namespace/new: namespace/old became it in a rename that was cut short, and the file has neither"}, "",
		},
		"the file has neither, and it is another's": {
			world{desired: []string{"namespace/mine"}, live: []string{"namespace/mine", "namespace/new"}, owned: []string{"namespace/mine"}, policy: everything, pruned: schema.Kinds()},
			renamed("namespace/old > namespace/new"), []string{}, "namespace/new: namespace/old became it in a rename that was cut short; whoever declares it",
		},
		"the file has both": {
			world{desired: []string{"namespace/new", "namespace/old"}, live: []string{"namespace/new"}, owned: []string{"namespace/old"}},
			renamed("namespace/old > namespace/new"), []string{
				"refused: namespace/new: namespace/old became namespace/new in a rename that was cut short, and the file has namespace/new and namespace/old",
				"refused: namespace/old: namespace/old became namespace/new in a rename that was cut short, and the file has namespace/new and namespace/old",
			}, "",
		},
		"a chain, by its end": {
			world{desired: []string{"user/c"}, live: []string{"user/c"}, owned: []string{"user/a"}},
			renamed("user/a > user/b", "user/b > user/c"), []string{"rename user/c"}, "",
		},
		"a chain, by its middle": {
			world{desired: []string{"user/b"}, live: []string{"user/c"}, owned: []string{"user/a"}},
			renamed("user/a > user/b", "user/b > user/c"), []string{"rename user/b"}, "",
		},
		"a chain, by its beginning": {
			world{desired: []string{"user/a"}, live: []string{"user/c"}, owned: []string{"user/a"}},
			renamed("user/a > user/b", "user/b > user/c"), []string{"rename user/a"}, "",
		},
		"another name by the name before": {
			world{desired: []string{"user/new"}, live: []string{"user/b"}, owned: []string{"user/old"}, directives: wasOld("user/new")},
			renamed("user/old > user/b"), []string{"rename user/new"}, "user/new: a rename of user/old to user/b was cut short; this goes on from there",
		},
		"a child of a namespace that was renamed too": {
			world{desired: []string{"namespace/old", "webhook/old/w"}, live: []string{"namespace/new", "webhook/new/v"}, owned: []string{"namespace/old", "webhook/old/w"}, policy: everything, pruned: schema.Kinds()},
			renamed("webhook/old/w > webhook/old/v", "namespace/old > namespace/new"), []string{"rename namespace/old", "rename webhook/old/w"}, "",
		},
		"a group": {
			world{desired: []string{"group/old"}, live: []string{"group/new"}, owned: []string{"group/old"}},
			renamed("group/old > group/new"), []string{"rename group/old"}, "",
		},
		"a robot": {
			world{desired: []string{"robot/old"}, live: []string{"robot/new"}, owned: []string{"robot/old"}},
			renamed("robot/old > robot/new"), []string{"rename robot/old"}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.w.cut = c.cut
			p := c.w.plan(t)
			check(t, p, c.want...)
			checkNote(t, p, c.note)
			for _, ch := range p.Changes {
				if ch.Action == Rename && ch.Before.Key == ch.Key {
					t.Errorf("%s becomes itself", ch.Key)
				}
			}
		})
	}
}

func TestAChildIsRenamedTogetherWithItsNamespace(t *testing.T) {
	w := world{
		desired: []string{"namespace/new", "webhook/new/w"}, live: []string{"namespace/old", "webhook/old/v {} unread auth"}, owned: []string{"*"}, policy: schema.Policy{Prune: schema.Kinds()}, pruned: schema.Kinds(),
		directives: append(wasOld("namespace/new"), schema.Directive{Key: schema.Key{Kind: schema.KindWebhook, Name: "new/w"}, Previously: "v"}),
	}
	check(t, w.plan(t), "rename namespace/new", "rename webhook/new/w")
	in := w.input(t)
	if got := Former(in.Desired, in.Live, in.Directives)(schema.Key{Kind: schema.KindWebhook, Name: "new/w"}).String(); got != "webhook/old/v" {
		t.Errorf("it was %s", got)
	}
}

func TestARenameOfWhatIsNotOwnedIsHeld(t *testing.T) {
	w := world{desired: []string{"namespace/new", `access/new {"users":{"bob":["pull"]}}`}, live: []string{"namespace/old", "access/old"}, directives: wasOld("namespace/new")}
	held := []string{
		"held: update access/new: depends on namespace/new, which is held",
		"held: rename namespace/new: namespace/old is not ocisync's, and whoever declares it would miss it; to make it yours first, declare it by that name and apply",
	}
	check(t, w.plan(t), held...)
	w.desired = w.desired[:1]
	check(t, w.plan(t), held[1])
	w.approved = w.plan(t).Approval()
	check(t, w.plan(t), "rename namespace/new")
	w.approved, w.owned = "", []string{"namespace/old"}
	check(t, w.plan(t), "rename namespace/new")
	w = world{desired: []string{"user/new"}, live: []string{"user/old"}, directives: wasOld("user/new")}
	check(t, w.plan(t), held[1][:len("held: rename ")]+"user/new: user/old is not ocisync's, and whoever declares it would miss it; to make it yours first, declare it by that name and apply")
}

func TestAProtectionIsNotLostByARename(t *testing.T) {
	const refused = "is protected (policy.protect %q), and %s would not be"
	base := world{desired: []string{"namespace/new"}, live: []string{"namespace/old", "webhook/old/w"}, owned: []string{"*"}, directives: wasOld("namespace/new")}
	for name, c := range map[string]struct {
		file, kept []string
		cut        []schema.Renaming
		want       string
	}{
		"by the file":            {file: []string{"namespace/old"}, want: "namespace/old " + fmt.Sprintf(refused, "namespace/old", "namespace/new")},
		"by the inventory":       {kept: []string{"namespace/*old"}, want: "namespace/old " + fmt.Sprintf(refused, "namespace/*old", "namespace/new")},
		"the new name is too":    {file: []string{"namespace/old", "namespace/new"}},
		"in the old one's place": {file: []string{"namespace/new"}, kept: []string{"namespace/old"}},
		"by a pattern for both":  {file: []string{"namespace/*"}},
		"of a child":             {file: []string{"webhook/old/*"}, want: "webhook/old/w " + fmt.Sprintf(refused, "webhook/old/*", "webhook/new/w")},
		"through a rename that was cut short": {kept: []string{"namespace/oldest"}, cut: renamed("namespace/oldest > namespace/old"),
			want: "namespace/oldest " + fmt.Sprintf(refused, "namespace/oldest", "namespace/new")},
	} {
		t.Run(name, func(t *testing.T) {
			w := base
			w.policy.Protect, w.protected, w.cut = c.file, c.kept, c.cut
			var got []string
			for _, r := range w.plan(t).Refusals {
				why, _, _ := strings.Cut(r.Why, ";")
				got = append(got, why)
			}
			var want []string
			if c.want != "" {
				want = []string{c.want}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
