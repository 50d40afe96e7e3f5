//go:build integration

package zot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// stand is a real Zot that ocisync runs, with its provider.
type stand struct {
	*zot.Provider
	registry schema.Registry
	server   *server
	config   string
}

func newStand(t *testing.T, options ...zot.Option) *stand {
	t.Helper()
	address := porttest.Address(t)
	s := &stand{registry: schema.Registry{
		Type: schema.TypeZot, URL: "http://" + address,
		Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Join(t.TempDir(), "data"), Binary: binary(t)},
	}}
	s.config = filepath.Join(s.registry.Run.Data, "config.json")
	s.server = newServer(t, address, func() []string { return []string{"serve", s.config} })
	var err error
	s.Provider, err = zot.New(s.registry, s.server, providertest.Secrets{}, nil, append(options, zot.HashCost(bcrypt.MinCost))...)
	if err != nil {
		t.Fatal(err)
	}
	before(t, s.Provider)
	if err := s.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func object(kind schema.Kind, name string, spec schema.Spec) schema.Resource {
	return schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}
}

func state(t *testing.T, objects ...schema.Resource) schema.State {
	t.Helper()
	st := schema.State{Resources: objects}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	st.Scope = schema.ScopeOf(st.Kinds()...)
	return st
}

// apply runs the cycle and returns how many changes were made.
func (s *stand) apply(t *testing.T, objects ...schema.Resource) int {
	t.Helper()
	n, err := providertest.DirectCycle(t.Context(), s.Provider, state(t, objects...))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func secret(name string) *schema.SecretRef { return &schema.SecretRef{Env: name} }

const passwordA, passwordB = "Canary7Bird-" + providertest.SecretA, "Canary7Bird-" + providertest.SecretB

func (s *stand) status(t *testing.T, method, user, password, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.registry.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func (s *stand) catalog(t *testing.T) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.registry.URL+"/v2/_catalog", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("root", passwordA)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var page struct{ Repositories []string }
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.StatusCode, err)
	}
	return page.Repositories
}

func rights(r schema.Rights) *schema.Rights { return &r }

// team is a namespace with an administrator, two users, a group and a robot.
func team() []schema.Resource {
	return []schema.Resource{
		object(schema.KindUser, "root", &schema.User{Admin: new(true), Password: secret(providertest.SecretA)}),
		object(schema.KindUser, "alice", &schema.User{Password: secret(providertest.SecretA)}),
		object(schema.KindUser, "bob", &schema.User{Password: secret(providertest.SecretB)}),
		object(schema.KindGroup, "writers", &schema.Group{Users: schema.NewSet("bob")}),
		object(schema.KindNamespace, "team", &schema.Namespace{}),
		object(schema.KindAccess, "team", &schema.Access{
			Anonymous: rights(schema.Pull), Authenticated: rights(0),
			Users: schema.NewGrants(schema.Grant{Name: "alice", Rights: schema.Push}), Groups: schema.NewGrants(schema.Grant{Name: "writers", Rights: schema.Push | schema.Delete}),
		}),
		object(schema.KindNamespace, "team/inner", &schema.Namespace{}),
		object(schema.KindAccess, "team/inner", &schema.Access{Anonymous: rights(0), Authenticated: rights(0), Users: schema.NewGrants(schema.Grant{Name: "alice", Rights: schema.Pull}), Groups: schema.Grants{}}),
		object(schema.KindNamespace, "fixed", &schema.Namespace{}),
		object(schema.KindAccess, "fixed", &schema.Access{Authenticated: rights(schema.Pull | schema.Push)}),
		object(schema.KindImmutable, "fixed", &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "**"}}}),
		object(schema.KindRobot, "ci", &schema.Robot{Expires: new(schema.Duration(3600)), Secret: &schema.RobotSecret{Value: secret(providertest.SecretB)}, Access: schema.NewGrants(schema.Grant{Name: "*", Rights: schema.Pull})}),
	}
}

// The registry itself answers as pkg/access does, without a restart.
func TestAccessIsWhatTheRulesSayFromOutside(t *testing.T) {
	s := newStand(t, zot.Outside(access.Deny))
	starts := s.server.starts
	objects := team()
	s.apply(t, objects...)
	if s.server.starts != starts {
		t.Errorf("it was restarted %d times", s.server.starts-starts)
	}
	if n := s.apply(t, objects...); n != 0 {
		t.Errorf("the same again makes %d changes", n)
	}
	rules := access.Compile(state(t, objects...), access.Deny)
	digest := "sha256:" + strings.Repeat("ab", 32)
	before := s.catalog(t)
	for _, who := range []struct {
		subject        access.Subject
		user, password string
	}{
		{access.Anonymous(), "", ""},
		{access.User("root"), "root", passwordA},
		{access.User("alice"), "alice", passwordA},
		{access.User("bob"), "bob", passwordB},
		{access.Robot("ci"), "robot$ci", passwordB},
	} {
		for _, repository := range []string{"team/x", "team/inner/x", "fixed/x", "other/x", "ocisync/state"} {
			for _, ask := range []struct {
				right        schema.Rights
				method, path string
			}{
				{schema.Pull, http.MethodGet, "/tags/list"},
				{schema.Push, http.MethodPut, "/blobs/uploads/3f0a4a4e-0000-4000-8000-000000000000?digest=" + digest},
				{schema.Delete, http.MethodDelete, "/manifests/" + digest},
			} {
				code := s.status(t, ask.method, who.user, who.password, "/v2/"+repository+ask.path)
				refused := code == http.StatusUnauthorized || code == http.StatusForbidden
				may := rules.May(who.subject, ask.right, repository)
				if who.subject.Robot != "" { // the table says so
					may = may || rules.May(access.User("nobody"), ask.right, repository)
				}
				if may == refused {
					t.Errorf("%q, %s in %s: the registry answers %d, the rules say %t", who.user, ask.right, repository, code, may)
				}
			}
		}
	}
	if diff := cmp.Diff(before, s.catalog(t)); diff != "" {
		t.Errorf("asking made repositories:\n%s", diff)
	}
}

func TestAnApplyReloadsOnceAndRestartsWhereItMust(t *testing.T) {
	s := newStand(t)
	starts := s.server.starts
	restarts := func() int { n := s.server.starts - starts; starts = s.server.starts; return n }
	s.apply(t, team()...)
	if n := restarts(); n != 0 {
		t.Errorf("rules: %d restarts", n)
	}
	keep := func(n int) schema.Resource {
		return object(schema.KindRetention, "team", &schema.Retention{Keep: []schema.KeepRule{{Newest: n}}})
	}
	for _, step := range []struct {
		name    string
		objects []schema.Resource
		effect  plan.Effect
	}{
		{"the first retention", []schema.Resource{keep(5)}, plan.Restart},
		{"another retention", []schema.Resource{keep(6)}, plan.Reload},
		{"a group", []schema.Resource{object(schema.KindGroup, "writers", &schema.Group{Users: schema.NewSet("alice")})}, plan.Reload},
		{"a password", []schema.Resource{object(schema.KindUser, "bob", &schema.User{Password: secret(providertest.SecretA)})}, plan.Live},
		{"a description", []schema.Resource{object(schema.KindNamespace, "team", &schema.Namespace{Description: new("x")})}, plan.Live},
		{"gc", []schema.Resource{object(schema.KindGC, "", &schema.GC{Schedule: new("@every 3h")})}, plan.Reload},
		{"a setting", []schema.Resource{object(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "http.realm", JSON: `"here"`}}})}, plan.Restart},
		{"audit", []schema.Resource{object(schema.KindAudit, "", &schema.Audit{Log: new(filepath.Join(t.TempDir(), "audit.log"))})}, plan.Restart},
	} {
		st := state(t, step.objects...)
		norm, _, err := s.Normalize(st)
		if err != nil {
			t.Fatal(err)
		}
		live, err := s.Read(t.Context(), schema.ScopeOf(norm.Kinds()...))
		if err != nil {
			t.Fatal(err)
		}
		want, _ := norm.Get(step.objects[0].Key)
		c := plan.Change{Action: plan.Update, Key: want.Key, After: &want}
		if have, ok := live.Get(want.Key); ok {
			c.Before = &have
		} else {
			c.Action = plan.Create
		}
		v, err := s.Prepare(t.Context(), []plan.Change{c})
		if err != nil || v[0].Effect != step.effect || v[0].Refused != "" {
			t.Errorf("%s: Prepare says %+v, %v; want %s", step.name, v, err, step.effect)
		}
		s.apply(t, step.objects...)
		if n := restarts(); (n == 1) != (step.effect == plan.Restart) || n > 1 {
			t.Errorf("%s: %d restarts", step.name, n)
		}
		if n := s.apply(t, step.objects...); n != 0 {
			t.Errorf("%s: the same again makes %d changes", step.name, n)
		}
	}
	if got := s.status(t, http.MethodGet, "bob", passwordA, "/v2/"); got != http.StatusOK {
		t.Errorf("the new password answers %d", got)
	}
}

// write writes and returns what became of each key.
func (s *stand) write(t *testing.T, changes ...plan.Change) map[string]error {
	t.Helper()
	out := map[string]error{}
	if err := s.Write(t.Context(), changes, func(k schema.Key, err error) { out[k.String()] = err }); err != nil {
		t.Fatal(err)
	}
	return out
}

func create(r schema.Resource) plan.Change {
	return plan.Change{Action: plan.Create, Key: r.Key, After: &r}
}

func TestAFileRenamedOverTheConfigurationIsNotInForce(t *testing.T) {
	s := newStand(t)
	objects := team()
	s.apply(t, objects...)
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	open := strings.Replace(string(text), `"team/inner/**"`, `"team/renamed/**"`, 1)
	if open == string(text) {
		t.Fatal("the rule was not found")
	}
	replace := func(content string) {
		t.Helper()
		if err := os.WriteFile(s.config+".theirs", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.config+".theirs", s.config); err != nil {
			t.Fatal(err)
		}
	}
	replace(open)
	if n := s.apply(t, objects...); n == 0 {
		t.Error("a plan does not show that the file says something else")
	}
	if n := s.apply(t, objects...); n != 0 {
		t.Errorf("the same again makes %d changes", n)
	}
	if got := s.status(t, http.MethodGet, "bob", passwordB, "/v2/team/inner/x/tags/list"); got != http.StatusForbidden {
		t.Errorf("after the apply the registry answers %d", got)
	}
	// What is wanted stands in a file that Zot does not see: it is not in force.
	wanted, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	less := slices.DeleteFunc(team(), func(r schema.Resource) bool { return r.Key.Kind == schema.KindAccess && r.Key.Name == "team" })
	less = append(less, object(schema.KindAccess, "team", &schema.Access{Anonymous: rights(0), Authenticated: rights(0), Users: schema.Grants{}, Groups: schema.Grants{}}))
	s.apply(t, less...)
	replace(string(wanted))
	if n := s.apply(t, objects...); n == 0 {
		t.Error("a plan takes a file for in force that Zot does not see")
	}
	if got := s.status(t, http.MethodGet, "", "", "/v2/team/x/tags/list"); got != http.StatusNotFound {
		t.Errorf("after the apply the registry answers %d to a client that may pull", got)
	}
	if n := s.apply(t, objects...); n != 0 {
		t.Errorf("the same again makes %d changes", n)
	}
}

// replaced puts a file with the same content in the place of one, as editors do.
func replaced(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name+".theirs", b, 0o600)
	}
	if err == nil {
		err = os.Rename(name+".theirs", name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAccountsInAFileThatWasReplacedComeIntoForce(t *testing.T) {
	s := newStand(t)
	s.apply(t, team()...)
	replaced(t, filepath.Join(s.registry.Run.Data, "htpasswd"))
	starts := s.server.starts
	if n := s.apply(t, team()...); n != 0 || s.server.starts != starts {
		t.Errorf("the same content makes %d changes and %d starts", n, s.server.starts-starts)
	}
	objects := slices.DeleteFunc(team(), func(r schema.Resource) bool { return r.Key.Name == "bob" && r.Key.Kind == schema.KindUser })
	objects = append(objects, object(schema.KindUser, "bob", &schema.User{Password: secret(providertest.SecretA)}))
	s.apply(t, objects...)
	if got := s.status(t, http.MethodGet, "bob", passwordB, "/v2/"); got != http.StatusUnauthorized {
		t.Errorf("the former password gets %d", got)
	}
	if got := s.status(t, http.MethodGet, "bob", passwordA, "/v2/"); got != http.StatusOK {
		t.Errorf("the new password gets %d", got)
	}
}

// Of somebody else's Zot without a log that can be read nothing tells but its
// process.
func TestWhatIsWrittenToAFileThatWasReplacedIsPending(t *testing.T) {
	for _, name := range []string{"configuration", "accounts"} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.apply(t, team()...)
			r := s.registry
			r.Run, r.Files = nil, &schema.FilePaths{Config: s.config, Htpasswd: filepath.Join(s.registry.Run.Data, "htpasswd")}
			p, err := zot.New(r, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
			if err != nil {
				t.Fatal(err)
			}
			other := &stand{Provider: p, registry: r, server: s.server, config: s.config}
			file, change := r.Files.Config, create(object(schema.KindGroup, "readers", &schema.Group{Users: schema.NewSet("alice")}))
			if name == "accounts" {
				file, change = r.Files.Htpasswd, create(object(schema.KindUser, "carol", &schema.User{Password: secret(providertest.SecretA)}))
			}
			replaced(t, file)
			if name == "accounts" && s.follows(t, file) { // later than 2.1.20
				if err := other.write(t, change)[change.Key.String()]; err != nil {
					t.Error(err)
				}
				return
			}
			verdicts, err := p.Prepare(t.Context(), []plan.Change{change})
			if err != nil || verdicts[0].Effect != plan.ByHand || !strings.Contains(strings.Join(verdicts[0].Notes, " "), "another file") {
				t.Errorf("Prepare says %+v, %v", verdicts, err)
			}
			if err := other.write(t, change)[change.Key.String()]; !errors.Is(err, providers.ErrPending) {
				t.Errorf("error %v", err)
			}
			if err := errors.Join(s.server.Stop(t.Context()), s.server.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			if err := other.write(t, change)[change.Key.String()]; err != nil {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}

// follows reports whether the running Zot is told of another file in the place of one,
// because it watches the directory.
func (s *stand) follows(t *testing.T, file string) bool {
	t.Helper()
	zot, ok := providers.ServedBy(s.config, &url.URL{Host: s.server.address})
	if !ok {
		t.Fatal("no Zot is found")
	}
	return !zot.Misses(file, providers.OrItsDirectory)
}

func TestAConfigurationThatZotDoesNotTakeIsPutBack(t *testing.T) {
	s := newStand(t)
	s.apply(t, team()...)
	before, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	still := func(name string) {
		t.Helper()
		after, err := os.ReadFile(s.config)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimRight(string(before), "\n"), strings.TrimRight(string(after), "\n")); diff != "" {
			t.Errorf("%s: the configuration is not as it was:\n%s", name, diff)
		}
		if got := s.status(t, http.MethodGet, "alice", passwordA, "/v2/"); got != http.StatusOK {
			t.Errorf("%s: the registry answers %d", name, got)
		}
	}
	// 2.1.6 takes no conditions, and a later one none that do not parse.
	access := object(schema.KindAccess, "team", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "alice", Rights: schema.Pull}), Conditions: schema.NewSet("no such thing")})
	if err := s.write(t, plan.Change{Action: plan.Update, Key: access.Key, After: &access, Fields: []plan.Field{{Path: "conditions"}}})["access/team"]; err == nil {
		t.Error("conditions were written")
	} else {
		t.Log(err)
	}
	still("conditions")
	// What only a start finds out.
	settings := object(schema.KindSettings, "", &schema.Settings{Values: schema.Values{{Path: "storage.rootDirectory", JSON: `"/dev/null/storage"`}}})
	err = s.write(t, plan.Change{Action: plan.Update, Key: settings.Key, After: &settings, Fields: []plan.Field{{Path: "values.storage.rootDirectory"}}})["settings"]
	if err == nil || !strings.Contains(err.Error(), "put back") {
		t.Errorf("error %v does not say that the old configuration was put back", err)
	}
	still("a directory that cannot be")
}

func TestWhatSomebodyElseRunsIsReloadedAndNeverRestarted(t *testing.T) {
	s := newStand(t)
	s.apply(t, team()...)
	r := s.registry
	r.Run, r.Files = nil, &schema.FilePaths{Config: s.config, Htpasswd: filepath.Join(s.registry.Run.Data, "htpasswd"), Log: s.server.logName}
	p, err := zot.New(r, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	other := &stand{Provider: p, registry: r, server: s.server, config: s.config}
	reloads := object(schema.KindGroup, "readers", &schema.Group{Users: schema.NewSet("alice")})
	waits := object(schema.KindRetention, "team", &schema.Retention{Keep: []schema.KeepRule{{Newest: 3}}})
	verdicts, err := p.Prepare(t.Context(), []plan.Change{create(reloads), create(waits)})
	if err != nil || verdicts[0].Effect != plan.Reload || verdicts[1].Effect != plan.ByHand || len(verdicts[1].Notes) == 0 {
		t.Errorf("Prepare says %+v, %v", verdicts, err)
	}
	starts := s.server.starts
	got := other.write(t, create(reloads), create(waits))
	if got["group/readers"] != nil {
		t.Error(got["group/readers"])
	}
	if err := got["retention/team"]; !errors.Is(err, providers.ErrPending) || !strings.Contains(err.Error(), "stop Zot") {
		t.Errorf("error %v", err)
	}
	if s.server.starts != starts {
		t.Error("it was restarted")
	}
	st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindRetention, schema.KindGroup))
	if err != nil {
		t.Fatal(err)
	}
	if _, there := st.Get(waits.Key); there {
		t.Error("what is pending shows as done")
	}
	if err := s.server.Stop(t.Context()); err != nil { // the operator does as told
		t.Fatal(err)
	}
	if got := other.write(t, create(waits)); got["retention/team"] != nil {
		t.Error(got["retention/team"])
	}
	if err := s.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := providertest.DirectCycle(t.Context(), p, state(t, waits, reloads)); n != 0 || err != nil {
		t.Errorf("after the start the same makes %d changes, %v", n, err)
	}
}

func TestTheInventoryLiesInTheRegistryBeforeThereIsAnyUser(t *testing.T) {
	s := newStand(t)
	rt, release, err := s.Transport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	client := http.Client{Transport: rt}
	for path, want := range map[string]int{"/v2/ocisync/state/tags/list": http.StatusNotFound, "/v2/team/x/tags/list": http.StatusForbidden} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://elsewhere.example.com"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s answers %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// dying is a registry whose process ends as soon as it was started.
type dying struct{ *server }

func (d dying) Start(context.Context) error { return fmt.Errorf("it ended at once") }

func TestARegistryThatStartsAndDiesIsSaid(t *testing.T) {
	s := newStand(t)
	s.apply(t, team()...)
	p, err := zot.New(s.registry, dying{s.server}, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	other := &stand{Provider: p, registry: s.registry, server: s.server, config: s.config}
	before, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	got := other.write(t, create(object(schema.KindRetention, "team", &schema.Retention{Keep: []schema.KeepRule{{Newest: 3}}})))
	if err := got["retention/team"]; err == nil || !strings.Contains(err.Error(), "does not start") || !strings.Contains(err.Error(), "ended at once") {
		t.Errorf("error %v", err)
	}
	after, err := os.ReadFile(s.config)
	if err != nil || strings.TrimRight(string(after), "\n") != strings.TrimRight(string(before), "\n") {
		t.Errorf("the configuration is not as it was (%v)", err)
	}
}

func TestConditionsDecideBesides(t *testing.T) {
	if !later(t) {
		t.Skip("access.conditions are of versions >2.1.6 (capabilities)")
	}
	s := newStand(t)
	objects := func(conditions ...string) []schema.Resource {
		return []schema.Resource{
			object(schema.KindUser, "root", &schema.User{Admin: new(true), Password: secret(providertest.SecretA)}),
			object(schema.KindUser, "alice", &schema.User{Password: secret(providertest.SecretA)}),
			object(schema.KindNamespace, "team", &schema.Namespace{}),
			object(schema.KindAccess, "team", &schema.Access{
				Users: schema.NewGrants(schema.Grant{Name: "alice", Rights: schema.Pull}), Conditions: schema.NewSet(conditions...),
			}),
		}
	}
	starts := s.server.starts
	for _, c := range []struct {
		condition string
		want      int
	}{
		{`req.repository.startsWith("team/a")`, http.StatusNotFound},
		{`req.repository.startsWith("team/b")`, http.StatusForbidden},
		{`"alice" == req.repository`, http.StatusForbidden},
	} {
		if n := s.apply(t, objects(c.condition)...); n == 0 {
			t.Errorf("%s: no change", c.condition)
		}
		if n := s.apply(t, objects(c.condition)...); n != 0 {
			t.Errorf("%s: the same again makes %d changes", c.condition, n)
		}
		if got := s.status(t, http.MethodGet, "alice", passwordA, "/v2/team/a/tags/list"); got != c.want {
			t.Errorf("%s: %d, want %d", c.condition, got, c.want)
		}
		if got := s.status(t, http.MethodGet, "root", passwordA, "/v2/team/a/tags/list"); got != http.StatusNotFound {
			t.Errorf("%s: an administrator gets %d", c.condition, got)
		}
	}
	if s.server.starts != starts {
		t.Error("it was restarted")
	}
}
