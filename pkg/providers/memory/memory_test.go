package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// env resolves references to environment variables from a map.
type env map[string]string

func (e env) Resolve(_ context.Context, ref schema.SecretRef) (string, error) {
	v, ok := e[ref.Env]
	if !ok {
		return "", fmt.Errorf("%s is not set", ref)
	}
	return v, nil
}

func ptr[T any](v T) *T { return &v }

func ns(name, description string) schema.Resource {
	return schema.Resource{
		Key:  schema.Key{Kind: schema.KindNamespace, Name: name},
		Spec: &schema.Namespace{Description: &description},
	}
}

func hook(name, url, secret string) schema.Resource {
	spec := &schema.Webhook{URL: &url}
	if secret != "" {
		spec.Auth = &schema.SecretRef{Env: secret}
	}
	return schema.Resource{Key: schema.Key{Kind: schema.KindWebhook, Name: name}, Spec: spec}
}

func open(t *testing.T, initial ...schema.Resource) *Provider {
	t.Helper()
	p, err := New(env{"A": "canary-a", "B": "canary-b"}, schema.State{Resources: initial})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, p *Provider, c plan.Change) error {
	t.Helper()
	if c.Key == (schema.Key{}) && c.After != nil {
		c.Key = c.After.Key
	}
	var out error
	reports := 0
	if err := p.Write(t.Context(), []plan.Change{c}, func(k schema.Key, err error) {
		reports++
		if k != c.Key {
			t.Errorf("reported %s, want %s", k, c.Key)
		}
		out = err
	}); err != nil {
		t.Fatal(err)
	}
	if reports != 1 {
		t.Fatalf("%d reports, want 1", reports)
	}
	return out
}

func read(t *testing.T, p *Provider) schema.State {
	t.Helper()
	s, err := p.Read(t.Context(), schema.ScopeOf(schema.Kinds()...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, p *Provider, k schema.Key) schema.Resource {
	t.Helper()
	r, ok := read(t, p).Get(k)
	if !ok {
		t.Fatalf("%s is not there", k)
	}
	return r
}

func TestWhatIsReadIsACopy(t *testing.T) {
	p := open(t, ns("a", "one"))
	first := read(t, p)
	*first.Resources[0].Spec.(*schema.Namespace).Description = "spoiled"
	if have := *get(t, p, first.Resources[0].Key).Spec.(*schema.Namespace).Description; have != "one" {
		t.Errorf("description is %q after somebody changed what Read returned", have)
	}
}

func TestSecretsAreUnreadAndCheckable(t *testing.T) {
	p := open(t, ns("a", ""))
	w := hook("a/ci", "https://ci", "A")
	if err := write(t, p, plan.Change{Action: plan.Create, After: &w}); err != nil {
		t.Fatal(err)
	}
	live := get(t, p, w.Key)
	if diff := cmp.Diff([]string{"auth"}, live.Unread); diff != "" {
		t.Errorf("Unread (-want +have):\n%s", diff)
	}
	if live.Spec.(*schema.Webhook).Auth != nil {
		t.Error("the reference came back in the spec")
	}
	for name, want := range map[string]bool{"A": true, "B": false} {
		have, err := p.Check(t.Context(), w.Key, "auth", schema.SecretRef{Env: name})
		if err != nil || have != want {
			t.Errorf("Check(%s) = %v, %v; want %v", name, have, err, want)
		}
	}
	text, err := json.Marshal(read(t, p))
	if err != nil {
		t.Fatal(err)
	}
	if all := string(text) + fmt.Sprintf("%+v", p.objects); strings.Contains(all, "canary") {
		t.Errorf("a secret shows in %s", all)
	}
}

func TestASecretIsWrittenOnlyWhereTheChangeNamesIt(t *testing.T) {
	p := open(t, ns("a", ""))
	w := hook("a/ci", "https://ci", "A")
	if err := write(t, p, plan.Change{Action: plan.Create, After: &w}); err != nil {
		t.Fatal(err)
	}
	w = hook("a/ci", "https://other", "B")
	if err := write(t, p, plan.Change{Action: plan.Update, After: &w, Fields: []plan.Field{{Path: "url"}}}); err != nil {
		t.Fatal(err)
	}
	is := func(name string) bool {
		t.Helper()
		have, err := p.Check(t.Context(), w.Key, "auth", schema.SecretRef{Env: name})
		if err != nil {
			t.Fatal(err)
		}
		return have
	}
	if !is("A") {
		t.Error("an update of the URL changed the secret")
	}
	if err := write(t, p, plan.Change{Action: plan.Update, After: &w, Fields: []plan.Field{{Path: "auth"}}}); err != nil {
		t.Fatal(err)
	}
	if !is("B") {
		t.Error("an update of the secret did not change it")
	}
}

func TestASecretThatCannotBeResolvedWritesNothing(t *testing.T) {
	p := open(t, ns("a", ""))
	w := hook("a/ci", "https://ci", "MISSING")
	err := write(t, p, plan.Change{Action: plan.Create, After: &w})
	if err == nil || !strings.Contains(err.Error(), "webhook/a/ci") || !strings.Contains(err.Error(), "MISSING") {
		t.Errorf("error %v does not name object and reference", err)
	}
	if _, ok := read(t, p).Get(w.Key); ok {
		t.Error("the object was made without its secret")
	}
}

func TestSecretsFromTheStartCannotBeCompared(t *testing.T) {
	r := hook("a/ci", "https://ci", "")
	r.Unread = []string{"auth"}
	p := open(t, ns("a", ""), r)
	if diff := cmp.Diff([]string{"auth"}, get(t, p, r.Key).Unread); diff != "" {
		t.Error(diff)
	}
	if _, err := p.Check(t.Context(), r.Key, "auth", schema.SecretRef{Env: "A"}); !errors.Is(err, providers.ErrUnsupported) {
		t.Errorf("error %v, want ErrUnsupported", err)
	}
}

func TestRenameMovesChildrenAndKeepsWhatTheyAre(t *testing.T) {
	p, err := New(env{"A": "canary-a"}, schema.State{
		Resources: []schema.Resource{ns("old", "d"), ns("old/inner", "d"), hook("old/inner/x", "https://x", "")},
		Repositories: []schema.RepositoryInfo{
			{Name: "old/app", Tags: 3}, {Name: "old/inner/app", Tags: 1}, {Name: "older/app", Tags: 1},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := hook("old/ci", "https://ci", "A")
	if err := write(t, p, plan.Change{Action: plan.Create, After: &w}); err != nil {
		t.Fatal(err)
	}
	before := get(t, p, schema.Key{Kind: schema.KindNamespace, Name: "old"})
	childVersion := get(t, p, w.Key).Version
	after := ns("new", "d")
	rename := plan.Change{Action: plan.Rename, Before: &before, After: &after}
	for range 2 { // the second finds it done
		if err := write(t, p, rename); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for _, r := range read(t, p).Resources {
		keys = append(keys, r.Key.String())
	}
	want := []string{"namespace/new", "namespace/old/inner", "webhook/new/ci", "webhook/old/inner/x"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("objects (-want +have):\n%s", diff)
	}
	moved := schema.Key{Kind: schema.KindWebhook, Name: "new/ci"}
	if equal, err := p.Check(t.Context(), moved, "auth", schema.SecretRef{Env: "A"}); err != nil || !equal {
		t.Errorf("the moved webhook's secret: %v, %v", equal, err)
	}
	if have := get(t, p, moved).Version; have != childVersion {
		t.Errorf("the moved webhook's version is %s, was %s", have, childVersion)
	}
	s, err := p.Read(t.Context(), schema.Scope{Repositories: []string{"new/app", "old/app", "old/inner/app"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]schema.RepositoryInfo{{Name: "new/app", Tags: 3}, {Name: "old/inner/app", Tags: 1}}, s.Repositories); diff != "" {
		t.Errorf("repositories (-want +have):\n%s", diff)
	}
}

func TestAChangeIsRefusedIfTheObjectIsNotThePlannedOne(t *testing.T) {
	stale := ns("a", "one")
	stale.Version = "0"
	other := ns("a", "other")
	taken := ns("b", "")
	gone := ns("gone", "")
	for name, tc := range map[string]struct {
		change plan.Change
		want   error
	}{
		"create what exists and differs": {plan.Change{Action: plan.Create, After: &other}, providers.ErrConflict},
		"update of another version":      {plan.Change{Action: plan.Update, Before: &stale, After: &other}, providers.ErrConflict},
		"replace of another version":     {plan.Change{Action: plan.Replace, Before: &stale, After: &other}, providers.ErrConflict},
		"delete of another version":      {plan.Change{Action: plan.Delete, Key: stale.Key, Before: &stale}, providers.ErrConflict},
		"update of what is gone":         {plan.Change{Action: plan.Update, After: &gone}, providers.ErrNotFound},
		"rename to a taken name":         {plan.Change{Action: plan.Rename, Before: ptr(ns("a", "one")), After: &taken}, providers.ErrConflict},
		"rename of what is gone":         {plan.Change{Action: plan.Rename, Before: &gone, After: ptr(ns("c", ""))}, providers.ErrNotFound},
		"adopt":                          {plan.Change{Action: plan.Adopt, After: &other}, providers.ErrInvalid},
		"child without namespace":        {plan.Change{Action: plan.Create, After: ptr(hook("gone/ci", "https://ci", ""))}, providers.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, ns("a", "one"), ns("b", "b"))
			before := read(t, p)
			if err := write(t, p, tc.change); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			if diff := cmp.Diff(before, read(t, p)); diff != "" {
				t.Errorf("a refused change left (-before +after):\n%s", diff)
			}
		})
	}
}

func TestReplaceAndDeleteOfANamespaceTakeItsChildren(t *testing.T) {
	for _, action := range []plan.Action{plan.Replace, plan.Delete} {
		p := open(t, ns("a", "one"), hook("a/ci", "https://ci", ""), ns("ab", "two"), hook("ab/ci", "https://ci", ""))
		c := plan.Change{Action: action, Key: schema.Key{Kind: schema.KindNamespace, Name: "a"}}
		if action == plan.Replace {
			c.After = ptr(ns("a", "new"))
		}
		if err := write(t, p, c); err != nil {
			t.Fatal(err)
		}
		s := read(t, p)
		_, gone := s.Get(schema.Key{Kind: schema.KindWebhook, Name: "a/ci"})
		_, kept := s.Get(schema.Key{Kind: schema.KindWebhook, Name: "ab/ci"})
		if gone || !kept {
			t.Errorf("%s: child there %v, other namespace's child there %v", action, gone, kept)
		}
	}
}

func TestTheVersionChangesWithTheObjectOnly(t *testing.T) {
	p := open(t, ns("a", "one"))
	key := schema.Key{Kind: schema.KindNamespace, Name: "a"}
	first := get(t, p, key)
	same := first
	if err := write(t, p, plan.Change{Action: plan.Update, Before: &first, After: &same}); err != nil {
		t.Fatal(err)
	}
	if have := get(t, p, key).Version; have != first.Version {
		t.Errorf("writing the same changed the version from %s to %s", first.Version, have)
	}
	other := ns("a", "two")
	if err := write(t, p, plan.Change{Action: plan.Update, Before: &first, After: &other}); err != nil {
		t.Fatal(err)
	}
	if have := get(t, p, key).Version; have == first.Version {
		t.Error("writing another value did not change the version")
	}
}

func TestAnInitialScopeLimitsWhatIsRead(t *testing.T) {
	hidden := schema.Key{Kind: schema.KindNamespace, Name: "b"}
	p, err := New(nil, schema.State{
		Resources: []schema.Resource{ns("a", ""), ns("b", ""), hook("a/ci", "https://ci", "")},
		Scope:     schema.Scope{Kinds: []schema.Kind{schema.KindNamespace}, Except: []schema.Key{hidden}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := read(t, p)
	if len(s.Resources) != 1 || s.Scope.Covers(hidden) || s.Scope.Covers(schema.Key{Kind: schema.KindWebhook, Name: "a/ci"}) {
		t.Errorf("read %v and claims %v", s.Resources, s.Scope)
	}
}

func TestNewRefusesWhatIsNoState(t *testing.T) {
	for name, rs := range map[string][]schema.Resource{
		"twice":   {ns("a", ""), ns("a", "")},
		"no spec": {{Key: schema.Key{Kind: schema.KindUser, Name: "u"}}},
		"another": {{Key: schema.Key{Kind: schema.KindUser, Name: "u"}, Spec: &schema.Group{}}},
	} {
		if _, err := New(nil, schema.State{Resources: rs}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
