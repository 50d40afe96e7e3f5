//go:build integration

package zot_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// client speaks to a registry as a user; "" is anonymous.
type client struct {
	t              *testing.T
	registry       string
	user, password string
}

func (c client) ref(text string) name.Reference {
	c.t.Helper()
	r, err := name.ParseReference(strings.TrimPrefix(c.registry, "http://")+"/"+text, name.Insecure)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c client) options() []remote.Option {
	auth := remote.WithAuth(authn.Anonymous)
	if c.user != "" {
		auth = remote.WithAuth(&authn.Basic{Username: c.user, Password: c.password})
	}
	return []remote.Option{auth, remote.WithContext(c.t.Context())}
}

func (c client) push(ref string, size int64) error {
	c.t.Helper()
	image, err := random.Image(size, 1)
	if err != nil {
		c.t.Fatal(err)
	}
	image = mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON)
	return remote.Write(c.ref(ref), image, c.options()...)
}

func (c client) pull(ref string) error {
	_, err := remote.Get(c.ref(ref), c.options()...)
	return err
}

// remove deletes the manifest that a tag names, with all its tags.
func (c client) remove(ref string) error {
	d, err := remote.Head(c.ref(ref), c.options()...)
	if err != nil {
		return err
	}
	repository, _, _ := strings.Cut(ref, ":")
	return remote.Delete(c.ref(repository+"@"+d.Digest.String()), c.options()...)
}

// refused reports whether Zot denied it.
func refused(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && (e.StatusCode == http.StatusForbidden || e.StatusCode == http.StatusUnauthorized)
}

func TestARealZotTakesNoPushWhileANamespaceIsFull(t *testing.T) {
	s := newStand(t)
	all := schema.Pull | schema.Push | schema.Delete
	limit, logged := schema.Size(300<<10), schema.Rights(0)
	objects := func() []schema.Resource {
		return []schema.Resource{
			object(schema.KindUser, "root", &schema.User{Admin: new(true), Password: secret(providertest.SecretA)}),
			object(schema.KindUser, "dev", &schema.User{Password: secret(providertest.SecretB)}),
			object(schema.KindNamespace, "team", &schema.Namespace{}),
			object(schema.KindAccess, "team", &schema.Access{Anonymous: rights(schema.Pull), Authenticated: rights(logged), Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: all})}),
			object(schema.KindQuota, "team", &schema.Quota{Limit: new(limit)}),
			object(schema.KindNamespace, "team/inner", &schema.Namespace{}),
			object(schema.KindAccess, "team/inner", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: all})}),
		}
	}
	s.apply(t, objects()...)
	starts := s.server.starts
	dev := client{t, s.registry.URL, "dev", passwordB}
	root := client{t, s.registry.URL, "root", passwordA}
	anybody := client{t, s.registry.URL, "", ""}
	measure := func(full, changed bool) {
		t.Helper()
		r, err := s.Run(t.Context(), "quota", false)
		if err != nil || len(r.Measured) != 1 || r.Measured[0].Full != full || r.Measured[0].Changed != changed {
			t.Errorf("the job says %+v, %v; want full %v, changed %v", r.Measured, err, full, changed)
		}
	}
	still := func() {
		t.Helper()
		if n := s.apply(t, objects()...); n != 0 {
			t.Errorf("an apply of the same makes %d changes", n)
		}
	}
	taken := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	taken("the first push", dev.push("team/app:1", 200<<10))
	measure(false, false)
	taken("the second push, which is too much", dev.push("team/app:2", 200<<10))
	taken("a push to a namespace inside", dev.push("team/inner/app:1", 900<<10))
	before := s.catalog(t)
	measure(true, true)
	still()
	if err := dev.push("team/app:3", 1<<10); !refused(err) {
		t.Errorf("a push to a full namespace: %v", err)
	}
	if err := dev.push("team/new:1", 1<<10); !refused(err) {
		t.Errorf("a push to a new repository of a full namespace: %v", err)
	}
	taken("a pull", dev.pull("team/app:1"))
	taken("a pull by anybody", anybody.pull("team/app:1"))
	taken("a push to a namespace inside", dev.push("team/inner/app:2", 1<<10))
	if diff := cmp.Diff(before, s.catalog(t)); diff != "" {
		t.Errorf("refused pushes made repositories: %s", diff)
	}
	taken("a push by an admin user", root.push("team/app:4", 1<<10))
	measure(true, false)
	// what is applied meanwhile is proved with push withdrawn
	logged = schema.Pull
	if n := s.apply(t, objects()...); n != 1 {
		t.Errorf("%d changes", n)
	}
	if err := dev.push("team/app:3", 1<<10); !refused(err) {
		t.Errorf("a push to a full namespace after an apply: %v", err)
	}
	taken("a deletion", dev.remove("team/app:2"))
	measure(false, true)
	still()
	taken("a push when there is room again", dev.push("team/app:3", 1<<10))
	taken("another", dev.push("team/app:5", 200<<10))
	measure(true, true)
	if err := dev.push("team/app:6", 1<<10); !refused(err) {
		t.Errorf("a push to a full namespace: %v", err)
	}
	limit = 2 << 20
	if n := s.apply(t, objects()...); n != 1 {
		t.Errorf("%d changes", n)
	}
	taken("a push under a raised quota", dev.push("team/app:6", 1<<10))
	measure(false, false)
	if s.server.starts != starts {
		t.Errorf("Zot was started %d times more", s.server.starts-starts)
	}
}

// soon waits for a Zot whose log nobody reads to take a change over.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come about that %s", what)
		}
	}
}

// Of a Zot that says nothing in its log it is not known whether it has taken a
// change over; the job does not restart it to see.
func TestAJobDoesNotRestartAQuietZot(t *testing.T) {
	s := newStand(t)
	limit := schema.Size(10 << 10)
	objects := []schema.Resource{
		object(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "log.level", JSON: `"error"`}}}),
		object(schema.KindUser, "dev", &schema.User{Password: secret(providertest.SecretB)}),
		object(schema.KindNamespace, "team", &schema.Namespace{}),
		object(schema.KindAccess, "team", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push})}),
		object(schema.KindQuota, "team", &schema.Quota{Limit: &limit}),
	}
	s.apply(t, objects...)
	starts := s.server.starts
	dev := client{t, s.registry.URL, "dev", passwordB}
	if err := dev.push("team/app:1", 20<<10); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), "quota", false); err != nil {
		t.Fatal(err)
	}
	soon(t, "push is withdrawn", func() bool { return refused(dev.push("team/app:2", 1<<10)) })
	if s.server.starts != starts {
		t.Errorf("Zot was started %d times more", s.server.starts-starts)
	}
	if n := s.apply(t, objects...); n != 0 {
		t.Errorf("%d changes", n)
	}
}

// A quota alone makes what is needed to withdraw push, in the apply and not in
// the job.
func TestTheFirstQuotaOfAnOpenZotMakesAccessControl(t *testing.T) {
	s := openZot(t)
	limit := schema.Size(10 << 10)
	objects := []schema.Resource{
		object(schema.KindNamespace, "team", &schema.Namespace{}),
		object(schema.KindQuota, "team", &schema.Quota{Limit: &limit}),
	}
	r := objects[1]
	v, err := s.Prepare(t.Context(), []plan.Change{{Action: plan.Create, Key: r.Key, After: &r}})
	if err != nil || v[0].Effect != plan.ByHand {
		t.Errorf("the plan says %+v, %v; want a restart by whoever runs it", v, err)
	}
	if err := s.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.apply(t, objects...)
	if err := s.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	anybody := client{t, s.registry.URL, "", ""}
	for _, ref := range []string{"team/app:1", "other/app:1"} {
		if err := anybody.push(ref, 20<<10); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := s.Run(t.Context(), "quota", false); err != nil {
		t.Fatal(err)
	}
	soon(t, "push is withdrawn", func() bool { return refused(anybody.push("team/app:2", 1<<10)) })
	if err := errors.Join(anybody.pull("team/app:1"), anybody.push("other/app:2", 1<<10), anybody.remove("team/app:1")); err != nil {
		t.Error(err)
	}
	if n := s.apply(t, objects...); n != 0 {
		t.Errorf("%d changes", n)
	}
	if _, err := s.Run(t.Context(), "quota", false); err != nil {
		t.Fatal(err)
	}
	soon(t, "push is given back", func() bool { return anybody.push("team/app:2", 1<<10) == nil })
}

// openZot is one without accounts and rules, which somebody else runs.
func openZot(t *testing.T) *stand {
	t.Helper()
	address, dir := porttest.Address(t), t.TempDir()
	host, port, _ := net.SplitHostPort(address)
	s := &stand{config: filepath.Join(dir, "zot.json")}
	s.registry = schema.Registry{Type: schema.TypeZot, URL: "http://" + address, Files: &schema.FilePaths{Config: s.config}}
	text := fmt.Sprintf(`{"distSpecVersion": "1.1.1", "storage": {"rootDirectory": %q}, "http": {"address": %q, "port": %q}, "log": {"level": "info"}}`,
		filepath.Join(dir, "storage"), host, port)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.server = newServer(t, address, func() []string { return []string{"serve", s.config} })
	var err error
	if s.Provider, err = zot.New(s.registry, nil, providertest.Secrets{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}
