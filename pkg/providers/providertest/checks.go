package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

type checkOf struct {
	name string
	run  func(t testing.TB, h Harness)
}

// checks are what is true of every provider.
func checks() []checkOf {
	return []checkOf{
		{"the capability table is complete and gives reasons", checkTable},
		{"Normalize is pure and idempotent", checkNormalize},
		{"Read stays in its scope and says what it read", checkScope},
		{"Read gives copies", checkCopies},
		{"Prepare answers each change and writes nothing", checkPrepare},
		{"Write takes the same again, and deletes the absent", checkIdempotent},
		{"Write reports each key once, failures too", checkReports},
		{"a done context writes nothing and is reported", checkContext},
		{"reading while writing is safe", checkConcurrent},
		{"no secret comes back", checkSecrets},
		{"a secret is written only where the change names it", checkSecretKept},
		{"a rename keeps an object and what hangs on it, or is refused", checkRename},
		{"what was written lasts", checkReopen},
		{"what somebody else changed is seen and mended", checkChange},
	}
}

// filled is a registry that holds every supported subject.
func filled(t testing.TB, h Harness) (providers.Provider, schema.State) {
	t.Helper()
	p := h.New(t)
	want := h.everything(t, p.Capabilities())
	if _, err := h.Cycle(t.Context(), p, want); err != nil {
		t.Fatalf("filling the registry: %v", err)
	}
	return p, want
}

func readAll(t testing.TB, p providers.Provider) schema.State {
	t.Helper()
	s, err := p.Read(t.Context(), schema.ScopeOf(schema.Kinds()...))
	if err != nil {
		t.Fatalf("reading: %v", err)
	}
	return s
}

func checkScope(t testing.TB, h Harness) {
	p, want := filled(t, h)
	all := readAll(t, p)
	for _, r := range want.Resources {
		if !all.Scope.Covers(r.Key) {
			t.Errorf("a read of everything does not cover %s", r.Key)
		}
		if _, ok := all.Get(r.Key); !ok {
			t.Errorf("a read of everything does not show %s", r.Key)
		}
	}
	inScope(t, schema.ScopeOf(schema.Kinds()...), all)
	for _, k := range schema.Kinds() {
		ask := schema.ScopeOf(k)
		s, err := p.Read(t.Context(), ask)
		if err != nil {
			t.Errorf("reading %s: %v", k, err)
			continue
		}
		inScope(t, ask, s)
		for _, r := range all.Resources {
			if r.Key.Kind != k {
				continue
			}
			if diff := cmp.Diff(marshal(t, r), marshal(t, find(s, r.Key))); diff != "" {
				t.Errorf("%s alone is not as among all (-all +alone):\n%s", r.Key, diff)
			}
			ask := schema.Scope{Kinds: []schema.Kind{k}, Except: []schema.Key{r.Key}}
			s, err := p.Read(t.Context(), ask)
			if err != nil {
				t.Errorf("reading %s without %s: %v", k, r.Key, err)
				continue
			}
			inScope(t, ask, s)
		}
	}
	none, err := p.Read(t.Context(), schema.Scope{})
	if err != nil {
		t.Fatalf("reading nothing: %v", err)
	}
	inScope(t, schema.Scope{}, none)
}

// inScope looks that a state is sorted, holds and claims no more than was
// asked for, and holds nothing that it does not claim.
func inScope(t testing.TB, asked schema.Scope, s schema.State) {
	t.Helper()
	for _, k := range s.Scope.Kinds {
		if !slices.Contains(asked.Kinds, k) {
			t.Errorf("asked for %v, the state claims %s", asked.Kinds, k)
		}
	}
	for _, k := range asked.Except {
		if s.Scope.Covers(k) {
			t.Errorf("asked without %s, the state claims it", k)
		}
	}
	for i, r := range s.Resources {
		if !asked.Covers(r.Key) || !s.Scope.Covers(r.Key) {
			t.Errorf("asked for %v, claimed %v, got %s", asked, s.Scope, r.Key)
		}
		if i > 0 && s.Resources[i-1].Key.Compare(r.Key) >= 0 {
			t.Errorf("%s stands after %s", r.Key, s.Resources[i-1].Key)
		}
	}
}

func checkCopies(t testing.TB, h Harness) {
	p, want := filled(t, h)
	before := marshal(t, readAll(t, p))
	spoiled := readAll(t, p)
	for i := range spoiled.Resources {
		spoil(spoiled.Resources[i].Spec)
	}
	for i := range want.Resources {
		spoil(want.Resources[i].Spec)
	}
	if diff := cmp.Diff(before, marshal(t, readAll(t, p))); diff != "" {
		t.Errorf("the registry shares memory with its callers (-before +after):\n%s", diff)
	}
}

func checkPrepare(t testing.TB, h Harness) {
	p, want := filled(t, h)
	before := readAll(t, p)
	norm, _, err := p.Normalize(want)
	if err != nil {
		t.Fatal(err)
	}
	var changes []plan.Change
	for _, r := range norm.Resources {
		have, _ := before.Get(r.Key)
		changes = append(changes, plan.Change{Action: plan.Update, Key: r.Key, Before: &have, After: &r})
		if !r.Key.Kind.Single() {
			changes = append(changes, plan.Change{Action: plan.Delete, Key: r.Key, Before: &have})
		}
	}
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	if len(verdicts) != len(changes) {
		t.Fatalf("%d verdicts on %d changes", len(verdicts), len(changes))
	}
	for i, v := range verdicts {
		if v.Refused == "" && !slices.Contains([]plan.Effect{plan.Live, plan.Reload, plan.Restart, plan.ByHand}, v.Effect) {
			t.Errorf("%s: effect %q", changes[i].Key, v.Effect)
		}
	}
	if diff := cmp.Diff(marshal(t, before), marshal(t, readAll(t, p))); diff != "" {
		t.Errorf("Prepare changed the registry (-before +after):\n%s", diff)
	}
}

func checkIdempotent(t testing.TB, h Harness) {
	p, want := filled(t, h)
	norm, _, err := p.Normalize(want)
	if err != nil {
		t.Fatal(err)
	}
	before := readAll(t, p)
	for _, r := range norm.Resources {
		have, ok := before.Get(r.Key)
		if !ok {
			continue
		}
		same := plan.Change{Action: plan.Update, Key: r.Key, Before: &have, After: &have}
		if err := write(t.Context(), p, []plan.Change{same}); err != nil {
			t.Errorf("writing %s as it is: %v", r.Key, err)
		}
	}
	if diff := cmp.Diff(marshal(t, before), marshal(t, readAll(t, p))); diff != "" {
		t.Errorf("writing what holds changed the registry (-before +after):\n%s", diff)
	}
	for _, k := range slices.Backward(schema.Kinds()) {
		for _, r := range norm.Resources {
			if r.Key.Kind != k || k.Single() { // leaving out a single object is to forget it
				continue
			}
			have, ok := readAll(t, p).Get(r.Key)
			if !ok {
				t.Errorf("%s is not there to be deleted", r.Key)
				continue
			}
			for _, doing := range []string{"deleting", "deleting the absent"} {
				gone := plan.Change{Action: plan.Delete, Key: r.Key, Before: &have}
				if err := write(t.Context(), p, []plan.Change{gone}); err != nil {
					t.Errorf("%s %s: %v", doing, r.Key, err)
				}
			}
			if _, still := readAll(t, p).Get(r.Key); still {
				t.Errorf("%s is there after it was deleted", r.Key)
			}
		}
	}
}

func checkReports(t testing.TB, h Harness) {
	p := h.New(t)
	changes := people(t, p, SecretA, SecretMissing, SecretB)
	var mu sync.Mutex
	reports, failed := map[schema.Key]int{}, map[schema.Key]error{}
	all := p.Write(t.Context(), changes, func(k schema.Key, err error) {
		mu.Lock()
		defer mu.Unlock()
		reports[k]++
		if err != nil {
			failed[k] = err
		}
	})
	live := readAll(t, p)
	for i, c := range changes {
		n := reports[c.Key]
		if n > 1 || n == 0 && all == nil {
			t.Errorf("%s was reported %d times (Write: %v)", c.Key, n, all)
		}
		_, there := live.Get(c.Key)
		if done := n == 1 && failed[c.Key] == nil; done != there {
			t.Errorf("%s: reported as done %v, there %v", c.Key, done, there)
		}
		if i == 1 && there {
			t.Errorf("%s exists without its secret", c.Key)
		}
		delete(reports, c.Key)
	}
	for k := range reports {
		t.Errorf("%s was reported, and is no change of this call", k)
	}
	if why := failed[changes[1].Key]; why != nil && !strings.Contains(why.Error(), SecretMissing) {
		t.Errorf("the error does not name the reference that could not be resolved: %v", why)
	}
}

// people are changes that create a user for each secret. Every registry type
// has users with passwords.
func people(t testing.TB, p providers.Provider, secrets ...string) []plan.Change {
	t.Helper()
	table := p.Capabilities()
	if table.Find(schema.KindUser, "password").Support == schema.Unsupported {
		t.Fatal("the table gives no users with passwords, and this check needs some")
	}
	var s schema.State
	for i, name := range secrets {
		r, err := subject{key: schema.Key{Kind: schema.KindUser, Name: fmt.Sprintf("person-%d", i+1)}, base: []field{
			{"email", fmt.Sprintf(`"person-%d@example.com"`, i+1)}, {"full_name", `"Person"`},
			{"password", `{"env":"` + name + `"}`},
		}}.object(table, "", "")
		if err != nil {
			t.Fatal(err)
		}
		s.Resources = append(s.Resources, r)
	}
	norm, _, err := p.Normalize(s)
	if err != nil {
		t.Fatal(err)
	}
	var out []plan.Change
	for _, r := range norm.Resources {
		if r.Key.Kind == schema.KindUser { // a provider may have settings of its own to add
			out = append(out, plan.Change{Action: plan.Create, Key: r.Key, After: &r})
		}
	}
	return out
}

func checkContext(t testing.TB, h Harness) {
	p := h.New(t)
	before := marshal(t, readAll(t, p))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Read(done, schema.ScopeOf(schema.Kinds()...)); !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v, want the context's error", err)
	}
	changes := people(t, p, SecretA, SecretB)
	if _, err := p.Prepare(done, changes); !errors.Is(err, context.Canceled) {
		t.Errorf("Prepare: %v, want the context's error", err)
	}
	var mu sync.Mutex
	reports := map[schema.Key]error{}
	all := p.Write(done, changes, func(k schema.Key, err error) {
		mu.Lock()
		defer mu.Unlock()
		reports[k] = err
	})
	for _, c := range changes {
		err, reported := reports[c.Key]
		if !reported {
			err = all
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Write: %s: %v, want the context's error", c.Key, err)
		}
	}
	if diff := cmp.Diff(before, marshal(t, readAll(t, p))); diff != "" {
		t.Errorf("a done context wrote (-before +after):\n%s", diff)
	}
}

func checkConcurrent(t testing.TB, h Harness) {
	p, _ := filled(t, h)
	changes := people(t, p, SecretA, SecretB)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 3 {
				s, err := p.Read(t.Context(), schema.ScopeOf(schema.Kinds()...))
				if err != nil {
					t.Errorf("reading while writing: %v", err)
					return
				}
				for _, r := range s.Resources {
					if _, err := leaves(r.Spec); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for _, c := range changes {
		if err := write(t.Context(), p, []plan.Change{c}); err != nil {
			t.Errorf("writing while reading: %v", err)
		}
	}
	wg.Wait()
}

func marshal[T any](t testing.TB, v T) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func find(s schema.State, k schema.Key) schema.Resource {
	r, ok := s.Get(k)
	if !ok {
		return schema.Resource{Key: k}
	}
	return r
}

func checkRename(t testing.TB, h Harness) {
	p, _ := filled(t, h)
	before := readAll(t, p)
	former := schema.Key{Kind: schema.KindNamespace, Name: "team-a"}
	named := schema.Key{Kind: schema.KindNamespace, Name: "team-renamed"}
	old, ok := before.Get(former)
	if !ok {
		t.Fatalf("there is no %s", former)
	}
	next := old
	next.Key = named
	change := plan.Change{Action: plan.Rename, Key: named, Before: &old, After: &next}
	verdicts, err := p.Prepare(t.Context(), []plan.Change{change})
	if err != nil || len(verdicts) != 1 {
		t.Fatalf("Prepare says %v, %v", verdicts, err)
	}
	if verdicts[0].Refused != "" {
		if err := write(t.Context(), p, []plan.Change{change}); err == nil {
			t.Error("Write does what Prepare refuses")
		}
		if diff := cmp.Diff(before, readAll(t, p)); diff != "" {
			t.Errorf("what was refused changed (-before +after):\n%s", diff)
		}
		return
	}
	for range 2 { // the second finds it done
		if err := write(t.Context(), p, []plan.Change{change}); err != nil {
			t.Fatal(err)
		}
	}
	var want, have []string
	for _, r := range before.Resources {
		k := r.Key
		if ns, child := k.Namespace(); k == former {
			k = named
		} else if child && ns == former {
			k = k.In(named.Name)
		}
		want = append(want, fmt.Sprint(k, r.Unread))
	}
	for _, r := range readAll(t, p).Resources {
		have = append(have, fmt.Sprint(r.Key, r.Unread))
	}
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("objects and what cannot be read of them (-want +have):\n%s", diff)
	}
}
