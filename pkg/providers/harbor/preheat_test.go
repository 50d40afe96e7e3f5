package harbor_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

const peers = `preheat/p2p {"vendor":"dragonfly","url":"https://p2p.example.com","description":"d","auth":"basic","user":"u","credential":` + secretA + `,"default":true,"enabled":true,"insecure":true}`

func TestEachChangeOfPreheatingByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 1000})
	p := h.open(t)
	want := apply(t, p, peers)
	whole := map[string]string{
		"id": "1001", "name": `"p2p"`, "vendor": `"dragonfly"`, "endpoint": `"https://p2p.example.com"`, "description": `"d"`,
		"auth_mode": `"BASIC"`, "default": "true", "enabled": "true", "insecure": "true",
	}
	for _, c := range []struct{ field, value, line string }{
		{"endpoint", `"https://other.example.com"`, `url: "https://other.example.com" -> "https://p2p.example.com"`},
		{"description", `"x"`, `description: "x" -> "d"`},
		{"auth_mode", `"NONE"`, `auth: "none" -> "basic"`},
		{"default", "false", `default: false -> true`},
		{"enabled", "false", `enabled: false -> true`},
		{"insecure", "false", `insecure: false -> true`},
	} {
		var fields []string
		for name, value := range whole {
			if name == c.field {
				value = c.value
			}
			fields = append(fields, `"`+name+`":`+value)
		}
		h.behind(t, http.MethodPut, "/p2p/preheat/instances/p2p", "{"+strings.Join(fields, ",")+"}")
		drifts(t, p, want, "update preheat/p2p", "  "+c.line)
	}
}

func TestALoginOfPreheatingIsWrittenWhole(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	apply(t, p, peers)
	key := schema.Key{Kind: schema.KindPreheat, Name: "p2p"}
	live, _ := read(t, p, schema.KindPreheat).Get(key)
	after := objects(t, `preheat/p2p {"vendor":"dragonfly","url":"https://p2p.example.com","auth":"basic","user":"other"}`).Resources[0]
	v, err := p.Prepare(t.Context(), []plan.Change{{Action: plan.Update, Key: key, Before: &live, After: &after, Fields: []plan.Field{{Path: "user", New: `"other"`}}}})
	if err != nil || !strings.Contains(v[0].Refused, "declare credential too") {
		t.Errorf("half a login is refused so: %v, %v", v, err)
	}
	for line, why := range map[string]string{
		`preheat/new {"vendor":"kraken","url":"https://n.example.com","auth":"oauth"}`:                              "declare credential too",
		`preheat/new {"vendor":"kraken","url":"https://n.example.com","auth":"basic","credential":` + secretA + `}`: "declare user too",
	} {
		if v := verdict(t, p, objects(t, line)); !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q", line, v.Refused)
		}
	}
}

// Harbor finds an instance by the number in the body, and changes no vendor.
func TestAnInstanceOfAnotherVendorIsMadeAnew(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, peers)
	kraken := strings.Replace(peers, "dragonfly", "kraken", 1)
	if v := verdict(t, p, objects(t, kraken)); len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "made anew") {
		t.Errorf("another vendor says %v", v)
	}
	apply(t, p, kraken)
	changes := compared(t, p, objects(t, `preheat/new {"vendor":"kraken","url":"https://n.example.com"}`))
	h.behind(t, http.MethodPost, "/p2p/preheat/instances", `{"name":"new","vendor":"kraken","endpoint":"https://other.example.com","enabled":true}`)
	says(t, failed(t, p, changes...), providers.ErrConflict, "preheat/new", "409: instance new already exists")
	h.behind(t, http.MethodPost, "/projects/library/preheat/policies", `{"name":"ph","provider_id":3,"filters":"[]","trigger":"{}","enabled":true}`)
	key := schema.Key{Kind: schema.KindPreheat, Name: "new"}
	live, _ := read(t, p, schema.KindPreheat).Get(key)
	says(t, failed(t, p, plan.Change{Action: plan.Delete, Key: key, Before: &live}), providers.ErrInvalid, "some preheat policies are using it", "delete the projects' preheat policies")
	_, _, err := p.Normalize(objects(t, `preheat/a {"default":true}`, `preheat/b {"default":true}`))
	says(t, err, providers.ErrInvalid, "preheat/b is the default too")
}

// Harbor answers 500, without a word, to a second instance of one address.
func TestASecondInstanceOfOneAddressIsRefused(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	const second = `preheat/second {"vendor":"kraken","url":"https://p2p.example.com"}`
	both := compared(t, p, objects(t, peers, second))
	verdicts, err := p.Prepare(t.Context(), both)
	if err != nil || !strings.Contains(verdicts[1].Refused, "preheat/p2p has it") {
		t.Errorf("two at once are refused so: %v, %v", verdicts, err)
	}
	late := compared(t, p, objects(t, second))
	apply(t, p, peers)
	if v := verdict(t, p, objects(t, second)); !strings.Contains(v.Refused, "preheat/p2p has it") {
		t.Errorf("one beside another is refused so: %q", v.Refused)
	}
	says(t, failed(t, p, late...), providers.ErrConflict, "preheat/second", "preheat/p2p has that address", "500: internal server error")
}

// goneOf is the deletion of an object of a state.
func goneOf(t *testing.T, st schema.State, name string) plan.Change {
	t.Helper()
	k, err := schema.ParseKey(name)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := st.Get(k)
	if !ok {
		t.Fatalf("there is no %s", k)
	}
	return plan.Change{Action: plan.Delete, Key: k, Before: &r}
}

// An instance and its policies come and go in one run, in that order; one that is
// used neither goes, nor is disabled, nor becomes another vendor's.
func TestAnInstanceStaysWhilePoliciesUseIt(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", peers, fetches)
	st := read(t, p, schema.KindPreheat, schema.KindPreheatPolicy)
	gone := func(name string) plan.Change { return goneOf(t, st, name) }
	refused := func(changes ...plan.Change) string {
		verdicts, err := p.Prepare(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		why := ""
		for _, v := range verdicts {
			why += v.Refused
		}
		return why
	}
	const uses = "preheat_policy/a/releases does; delete that first, or give it another instance"
	if why := refused(gone("preheat/p2p")); !strings.Contains(why, "deletes no instance") || !strings.Contains(why, uses) {
		t.Errorf("deleting it is refused so: %q", why)
	}
	for field, line := range map[string]string{"disables": strings.Replace(peers, `"enabled":true`, `"enabled":false`, 1), "changes the vendor of": strings.Replace(peers, "dragonfly", "kraken", 1)} {
		if v := verdict(t, p, objects(t, line)); !strings.Contains(v.Refused, field) || !strings.Contains(v.Refused, uses) {
			t.Errorf("%s: it is refused so: %q", field, v.Refused)
		}
	}
	moves := compared(t, p, objects(t, `preheat/k {"vendor":"kraken","url":"https://k.example.com"}`, `preheat_policy/a/new {"instance":"p2p"}`))
	if why := refused(append([]plan.Change{gone("preheat/p2p"), gone("preheat_policy/a/releases")}, moves...)...); !strings.Contains(why, "preheat_policy/a/new does") {
		t.Errorf("deleting what a new one will use is refused so: %q", why)
	}
	own := plan.Ownership{
		MayPrune: true, Pruned: func(schema.Kind) bool { return true },
		Applied: func(k schema.Key) (schema.Spec, bool) {
			r, ok := st.Get(k)
			return r.Spec, ok
		},
	}
	for _, r := range st.Resources {
		own.Owned = append(own.Owned, r.Key)
	}
	both := plan.Diff(plan.Input{Desired: objects(t, "namespace/a"), Live: st, Table: p.Capabilities(), Policy: schema.Policy{Prune: st.Kinds()}, Ownership: own}).Changes
	both = slices.DeleteFunc(both, func(c plan.Change) bool { return c.Action != plan.Delete })
	if told(both) != "delete preheat_policy/a/releases\ndelete preheat/p2p" {
		t.Fatalf("the plan is %s", told(both))
	}
	if why := refused(both...); why != "" {
		t.Errorf("deleting both is refused so: %q", why)
	}
	for _, stage := range (plan.Plan{Changes: both}).Stages(false) {
		change(t, p, stage...)
	}
	if left := read(t, p, schema.KindPreheat, schema.KindPreheatPolicy); len(left.Resources) > 0 {
		t.Errorf("there are %v", left.Resources)
	}
}
