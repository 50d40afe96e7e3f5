//go:build integration

package distribution_test

import (
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	reference "github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func TestIntegrationARealDistributionTakesNoPushWhileANamespaceIsFull(t *testing.T) {
	s, _ := launched(t)
	serveTokens(t, s)
	p := openSite(t, s)
	objects, _ := decisions(t)
	limit := func(n schema.Size) plan.Change {
		r := schema.Resource{Key: schema.Key{Kind: schema.KindQuota, Name: "team"}, Spec: &schema.Quota{Limit: &n}}
		return plan.Change{Action: plan.Create, Key: r.Key, After: &r}
	}
	if err := p.Write(t.Context(), append(objects, limit(300<<10)), func(k schema.Key, err error) {
		if err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	as := func(user string) []remote.Option {
		return []remote.Option{remote.WithAuth(&authn.Basic{Username: user, Password: password}), remote.WithContext(t.Context())}
	}
	ref := func(text string) reference.Reference {
		r, err := reference.ParseReference(strings.TrimPrefix(s.registry.URL, "http://")+"/"+text, reference.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	push := func(user, name string, size int64) error {
		image, err := random.Image(size, 1)
		if err != nil {
			t.Fatal(err)
		}
		return remote.Write(ref(name), image, as(user)...)
	}
	measure := func(full, changed bool) {
		t.Helper()
		r, err := p.Run(t.Context(), "quota", false)
		if err != nil || len(r.Measured) != 1 || r.Measured[0].Full != full || r.Measured[0].Changed != changed {
			t.Errorf("the job says %+v, %v; want full %v, changed %v", r.Measured, err, full, changed)
		}
	}
	still := func() {
		t.Helper()
		st := schema.State{}
		for _, c := range append(objects, limit(300<<10)) {
			st.Resources = append(st.Resources, *c.After)
		}
		if err := st.Sort(); err != nil {
			t.Fatal(err)
		}
		st.Scope = schema.ScopeOf(st.Kinds()...)
		if n, err := providertest.DirectCycle(t.Context(), p, st); n != 0 || err != nil {
			t.Errorf("an apply of the same makes %d changes, %v", n, err)
		}
	}
	taken := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	taken("the first push", push("lead", "team/app:1", 200<<10))
	measure(false, false)
	taken("the second push, which is too much", push("lead", "team/app:2", 200<<10))
	measure(true, true)
	still()
	if err := push("lead", "team/app:3", 1<<10); !refusedBy(err) {
		t.Errorf("a push to a full namespace: %v", err)
	}
	if err := push("lead", "team/new:3", 1<<10); !refusedBy(err) {
		t.Errorf("a push to a new repository of a full namespace: %v", err)
	}
	_, err = remote.Get(ref("team/app:1"), as("guest")...)
	taken("a pull", err)
	taken("a push elsewhere", push("dev", "open/app:1", 900<<10))
	taken("a push by an admin user", push("root", "team/app:4", 1<<10))
	measure(true, false)
	// of a tag alone nothing is given back, since its manifest stays
	taken("the deletion of a tag", remote.Delete(ref("team/app:4"), as("lead")...))
	measure(true, false)
	d, err := remote.Head(ref("team/app:2"), as("lead")...)
	if err != nil {
		t.Fatal(err)
	}
	taken("the deletion of a manifest", remote.Delete(ref("team/app@"+d.Digest.String()), as("lead")...))
	measure(false, true)
	still()
	taken("a push when there is room again", push("lead", "team/app:3", 1<<10))
	taken("another", push("lead", "team/app:5", 200<<10))
	measure(true, true)
	if err := p.Write(t.Context(), []plan.Change{{Action: plan.Update, Key: limit(0).Key, After: limit(2 << 20).After}}, func(_ schema.Key, err error) { taken("the apply", err) }); err != nil {
		t.Fatal(err)
	}
	taken("a push under a raised quota", push("lead", "team/app:6", 1<<10))
}
