package zot_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// allowance is a registry with quotas, and content that is put there by hand.
type allowance struct {
	*zot.Provider
	data string
}

func newAllowance(t *testing.T) *allowance {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	return &allowance{inData(t, data), data}
}

func (a *allowance) apply(t *testing.T, objects ...schema.Resource) int {
	t.Helper()
	st := schema.State{Resources: objects}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	st.Scope = schema.ScopeOf(schema.KindNamespace, schema.KindAccess, schema.KindQuota, schema.KindUser)
	n, err := providertest.DirectCycle(t.Context(), a.Provider, st)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func resource(kind schema.Kind, name string, spec schema.Spec) schema.Resource {
	return schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}
}

func quota(ns string, limit schema.Size) schema.Resource {
	return resource(schema.KindQuota, ns, &schema.Quota{Limit: &limit})
}

// pushers are a namespace where users may do what.
func pushers(ns string) []schema.Resource {
	return []schema.Resource{
		resource(schema.KindNamespace, ns, &schema.Namespace{}),
		resource(schema.KindAccess, ns, &schema.Access{
			Anonymous: new(schema.Pull), Authenticated: new(schema.Pull),
			Users: schema.NewGrants(schema.Grant{Name: "alice", Rights: schema.Pull | schema.Push | schema.Delete}, schema.Grant{Name: "bob", Rights: schema.Admin}),
		}),
	}
}

// pushed puts an image of one blob into a repository's layout, alone there.
func (a *allowance) pushed(t *testing.T, repository string, size int) {
	t.Helper()
	dir := filepath.Join(a.data, "storage", repository)
	blob := func(b []byte) string {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		name := filepath.Join(dir, "blobs/sha256", sum)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return "sha256:" + sum
	}
	layer := blob([]byte(strings.Repeat("x", size)))
	manifest := blob([]byte(`{"layers":[{"digest":"` + layer + `"}]}`))
	a.index(t, repository, `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"`+manifest+`"}]}`)
}

func (a *allowance) index(t *testing.T, repository, text string) {
	t.Helper()
	name := filepath.Join(a.data, "storage", repository, "index.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *allowance) emptied(t *testing.T, repository string) {
	t.Helper()
	a.index(t, repository, `{"manifests":[]}`)
}

func (a *allowance) text(t *testing.T) string {
	t.Helper()
	b, err := files.Read(filepath.Join(a.data, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (a *allowance) measure(t *testing.T) []providers.Measured {
	t.Helper()
	r, err := a.Run(t.Context(), "quota", false)
	if err != nil {
		t.Fatal(err)
	}
	return r.Measured
}

// withheld lists where push is withdrawn, by the configuration itself too.
func (a *allowance) withheld(t *testing.T) string {
	t.Helper()
	list, err := a.Withheld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

func (a *allowance) live(t *testing.T) schema.State {
	t.Helper()
	st, err := a.Read(t.Context(), schema.ScopeOf(schema.KindNamespace, schema.KindAccess, schema.KindQuota, schema.KindUser, schema.KindSettings))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestPushIsWithdrawnWhileANamespaceIsFullAndNothingElseShows(t *testing.T) {
	a := newAllowance(t)
	objects := append(pushers("team"), quota("team", 1000))
	a.apply(t, objects...)
	open, live := a.text(t), a.live(t)
	if !strings.Contains(open, `"update"`) {
		t.Fatal("nobody may push in the first place")
	}
	a.pushed(t, "team/app", 500)
	if got := a.measure(t); len(got) != 1 || got[0].Full || a.text(t) != open {
		t.Fatalf("half of the quota is used, and push was withdrawn: %+v", got)
	}
	a.pushed(t, "team/app", 1200)
	if r, err := a.Run(t.Context(), "quota", true); err != nil || !r.Measured[0].Full || a.text(t) != open || a.withheld(t) != "" {
		t.Fatalf("a dry run says %+v, %v; or wrote", r.Measured, err)
	}
	if got := a.measure(t); !got[0].Full || !got[0].Changed || got[0].Used < 1200 {
		t.Fatalf("too much is used, and the job says %+v", got)
	}
	shut := a.text(t)
	if group := between(t, shut, `"team/**"`); strings.Contains(group, "create") || strings.Contains(group, "update") || !strings.Contains(group, "delete") || !strings.Contains(group, "alice") {
		t.Fatalf("push is to be withdrawn and delete to stay:\n%s", group)
	}
	if diff := cmp.Diff(live, a.live(t)); diff != "" || a.withheld(t) != "team" {
		t.Errorf("withheld in %q; reading shows that push was withdrawn: %s", a.withheld(t), diff)
	}
	if n := a.apply(t, objects...); n != 0 || a.text(t) != shut {
		t.Errorf("an apply of the same makes %d changes, or gives push back", n)
	}
	notes, err := a.Remarks(t.Context(), schema.State{Resources: objects}, time.Now())
	if err != nil || len(notes) != 1 || notes[0].Key.String() != "quota/team" || !strings.Contains(notes[0].Text, "used, push withdrawn since") {
		t.Errorf("the plan says %v, %v", notes, err)
	}
	undeclared := slices.DeleteFunc(slices.Clone(objects), func(r schema.Resource) bool { return r.Key.Kind == schema.KindQuota })
	notes, err = a.Remarks(t.Context(), schema.State{Resources: undeclared}, time.Now())
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, `by a quota that the mode does not declare; declare quota = "unlimited"`) {
		t.Errorf("the plan of a mode without the quota says %v, %v", notes, err)
	}
	if notes, err = a.Remarks(t.Context(), schema.State{}, time.Now()); err != nil || len(notes) != 0 {
		t.Errorf("the plan of a mode that gives nobody push says %v, %v", notes, err)
	}
	if got := a.measure(t); got[0].Changed || a.text(t) != shut {
		t.Errorf("a second measuring of the same changes something: %+v", got)
	}
	// what is applied meanwhile is declared, and withdrawn too
	more := append(pushers("team"), quota("team", 1000))
	more[1].Spec.(*schema.Access).Authenticated = new(schema.Pull | schema.Push)
	if n := a.apply(t, more...); n != 1 || strings.Contains(between(t, a.text(t), `"team/**"`), "create") {
		t.Errorf("%d changes; who got push while the namespace is full has it:\n%s", n, between(t, a.text(t), `"team/**"`))
	}
	a.apply(t, objects...)

	a.emptied(t, "team/app")
	if got := a.measure(t); got[0].Full || !got[0].Changed || a.text(t) != open || a.withheld(t) != "" {
		t.Errorf("there is room again, and the job says %+v; the configuration: %s", got, cmp.Diff(open, a.text(t)))
	}
}

// between is what stands from a text on to the end of that object.
func between(t *testing.T, text, from string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	if !ok {
		t.Fatalf("there is no %s in\n%s", from, text)
	}
	depth := 0
	for i, c := range rest {
		switch c {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return rest[:i]
			}
		}
	}
	return rest
}

func TestAQuotaThatIsRaisedOrGoneGivesPushBackAtOnce(t *testing.T) {
	for name, then := range map[string][]schema.Resource{
		"raised": append(pushers("team"), quota("team", 5000)),
		"gone":   nil,
		"none":   append(pushers("team"), quota("team", schema.Unlimited)),
	} {
		t.Run(name, func(t *testing.T) {
			a := newAllowance(t)
			a.apply(t, append(pushers("team"), quota("team", 1000))...)
			open := a.text(t)
			a.pushed(t, "team/app", 1200)
			a.measure(t)
			if n := a.apply(t, append(pushers("team"), quota("team", 1100))...); n != 1 || a.withheld(t) != "team" {
				t.Errorf("raised, and still too small: %d changes, withheld in %q", n, a.withheld(t))
			}
			n := 1
			if then == nil {
				key := schema.Key{Kind: schema.KindQuota, Name: "team"}
				if err := written(t, a, plan.Change{Action: plan.Delete, Key: key})[key.String()]; err != nil {
					t.Fatal(err)
				}
			} else {
				n = a.apply(t, then...)
			}
			if n != 1 || a.text(t) != open || a.withheld(t) != "" {
				t.Errorf("%d changes, withheld in %q: %s", n, a.withheld(t), cmp.Diff(open, a.text(t)))
			}
		})
	}
}

// Namespaces inside count for themselves, and keep what they may.
func TestNamespacesInsideAFullOneKeepPush(t *testing.T) {
	a := newAllowance(t)
	objects := append(pushers("team"), quota("team", 1000),
		resource(schema.KindNamespace, "team/bare", &schema.Namespace{}),
		resource(schema.KindNamespace, "team/bare/below", &schema.Namespace{}),
		resource(schema.KindNamespace, "team/small", &schema.Namespace{}), quota("team/small", 10))
	objects = append(objects, pushers("team/own")...)
	a.apply(t, objects...)
	open, live := a.text(t), a.live(t)
	a.pushed(t, "team/bare/big", 5000)
	a.pushed(t, "team/own/big", 5000)
	if a.measure(t); a.withheld(t) != "" {
		t.Fatalf("what lies in namespaces inside counts for %q", a.withheld(t))
	}
	a.pushed(t, "team/app", 1200)
	a.pushed(t, "team/small/app", 100)
	a.measure(t)
	shut := a.text(t)
	for ns, may := range map[string]bool{"team": false, "team/bare": true, "team/bare/below": true, "team/small": false, "team/own": true} {
		if got := strings.Contains(between(t, shut, `"`+ns+`/**"`), "create"); got != may {
			t.Errorf("push to %s: %v, want %v", ns, got, may)
		}
	}
	if diff := cmp.Diff(live, a.live(t)); diff != "" {
		t.Errorf("reading shows it: %s", diff)
	}
	a.emptied(t, "team/app")
	a.measure(t)
	if got := a.withheld(t); got != "team/small" || strings.Contains(a.text(t), "team/bare/**") {
		t.Errorf("withheld in %q; patterns that are not needed stay:\n%s", got, a.text(t))
	}
	a.emptied(t, "team/small/app")
	a.measure(t)
	if got := a.text(t); got != open {
		t.Error(cmp.Diff(open, got))
	}
}

func TestWhatCannotBeMeasuredChangesNothing(t *testing.T) {
	a := newAllowance(t)
	objects := append(append(pushers("team"), quota("team", 1000)), append(pushers("other"), quota("other", 1000))...)
	a.apply(t, append(objects, append(pushers("zero"), quota("zero", 0))...)...) // full by whatever is measured
	a.pushed(t, "zero/app", 1)
	a.index(t, "zero/app", "")
	a.pushed(t, "team/app", 1200)
	a.pushed(t, "team/more", 10)
	a.pushed(t, "other/app", 1200)
	a.index(t, "team/more", `{"manifests":[`)
	r, err := a.Run(t.Context(), "quota", false)
	if err == nil || !strings.Contains(err.Error(), "quota/team") || !strings.Contains(err.Error(), "team/more") {
		t.Errorf("the job says %v", err)
	}
	if got := a.withheld(t); got != "other" || len(r.Measured) != 3 || r.Measured[1].Error == "" || r.Measured[2].Error == "" {
		t.Errorf("withheld in %q: %+v", got, r.Measured)
	}
	a.pushed(t, "team/more", 10)
	a.emptied(t, "zero/app")
	a.measure(t)
	shut := a.text(t)
	a.emptied(t, "team/app")
	a.index(t, "team/more", `{"manifests":[`)
	if _, err := a.Run(t.Context(), "quota", false); err == nil || a.text(t) != shut {
		t.Errorf("it cannot be measured (%v), and push was given back", err)
	}
	if err := os.Rename(filepath.Join(a.data, "storage"), filepath.Join(a.data, "gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Run(t.Context(), "quota", false); err == nil || a.text(t) != shut {
		t.Errorf("the storage is away (%v), and push was given back", err)
	}
}

// A namespace that no access is declared for has the pattern that somebody wrote,
// or none, and has it again.
func TestAPatternOfSomebodyElseComesBackAsItWas(t *testing.T) {
	for name, patterns := range map[string]string{
		"none":        `"**": {"defaultPolicy": ["read", "create"]}`,
		"one":         `"**": {"defaultPolicy": []}, "Team/**": {"AnonymousPolicy": ["read", "create"], "policies": [{"actions": ["update", "raed"], "users": "x", "conditions": [{"expression": "a && b"}]}]}`,
		"nothing":     `"**": {"defaultPolicy": ["read"]}`,
		"one without": `"team/**": {"defaultPolicy": ["read"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			config := filepath.Join(dir, "zot.json")
			text := fmt.Sprintf("{\"storage\": {\"rootDirectory\": %q},\n \"http\": {\"address\": \"127.0.0.1\", \"port\": \"9\", \"auth\": {\"ldap\": {\"address\": \"x\"}},\n  \"accessControl\": {\"repositories\": {%s}}}\n}\n", filepath.Join(dir, "storage"), patterns)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: config}}, nil, providertest.Secrets{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			a := &allowance{p, dir}
			now := func() string {
				b, err := files.Read(config)
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			// whatever access there is, is not declared
			objects := []schema.Resource{resource(schema.KindNamespace, "team", &schema.Namespace{}), quota("team", 10)}
			a.apply(t, objects...)
			if now() != text {
				t.Fatalf("a quota changes access: %s", cmp.Diff(text, now()))
			}
			a.pushed(t, "team/app", 100)
			a.measure(t)
			push := strings.Contains(patterns, "create") // to the namespace
			if changed := now() != text; changed != push || push && strings.Contains(between(t, now(), "eam/**"), "create") {
				t.Errorf("withheld in %q, and the configuration is\n%s", a.withheld(t), now())
			}
			if n := a.apply(t, objects...); n != 0 {
				t.Errorf("%d changes", n)
			}
			a.emptied(t, "team/app")
			if a.measure(t); strings.TrimSpace(now()) != strings.TrimSpace(text) {
				t.Errorf("it is not as it was: %s", cmp.Diff(text, now()))
			}
		})
	}
}

func TestTwoJobsAndAnApplyAtOnceAgree(t *testing.T) {
	a := newAllowance(t)
	objects := append(pushers("team"), quota("team", 1000))
	a.apply(t, objects...)
	a.pushed(t, "team/app", 1200)
	var work sync.WaitGroup
	for i := range 6 {
		other := inData(t, a.data)
		work.Go(func() {
			var err error
			if i%3 == 2 {
				n := resource(schema.KindNamespace, fmt.Sprint("n", i), &schema.Namespace{})
				err = other.Write(t.Context(), []plan.Change{made(n.Key.Kind, n.Key.Name, n.Spec)}, func(_ schema.Key, e error) { err = e })
			} else {
				_, err = other.Run(t.Context(), "quota", false)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	live := a.live(t)
	for _, ns := range []string{"n2", "n5"} {
		if _, ok := live.Get(schema.Key{Kind: schema.KindNamespace, Name: ns}); !ok {
			t.Errorf("namespace %s is lost", ns)
		}
	}
	if n := a.apply(t, objects...); n != 0 || a.withheld(t) != "team" || strings.Contains(between(t, a.text(t), `"team/**"`), "create") {
		t.Errorf("%d changes, withheld in %q", n, a.withheld(t))
	}
}

func TestAQuotaOfContentElsewhereIsRefused(t *testing.T) {
	a := newAllowance(t)
	a.apply(t, append(pushers("team"), quota("team", 1000))...)

	c := made(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "storage.storageDriver.name", JSON: `"s3"`}}})
	c.Action = plan.Update
	c.Fields = []plan.Field{{Path: "values.storage.storageDriver.name"}}
	if err := written(t, a, c)["settings"]; err != nil {
		t.Fatal(err)
	}
	v, err := a.Prepare(t.Context(), []plan.Change{made(schema.KindQuota, "team", quota("team", 5).Spec)})
	if err != nil || !strings.Contains(v[0].Refused, "directory of this host") {
		t.Errorf("%q, %v", v[0].Refused, err)
	}
	if _, err := a.Run(t.Context(), "quota", false); err == nil || !strings.Contains(err.Error(), "directory of this host") {
		t.Errorf("the job says %v", err)
	}
}
