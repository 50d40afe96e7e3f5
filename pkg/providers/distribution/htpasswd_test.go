package distribution_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// fileValues are the fields of which an htpasswd file takes other values.
func fileValues() map[string]providertest.Values {
	return map[string]providertest.Values{
		"access/authenticated": {Valid: `["pull","push","delete"]`, Other: `["admin"]`, Alike: `["delete","push","pull"]`},
	}
}

func TestDistributionPassesTheProviderSuiteWithAnHtpasswdFile(t *testing.T) {
	suiteWith(t, func(t testing.TB) site {
		t.Helper()
		data := filepath.Join(t.TempDir(), "data")
		return site{registry: schema.Registry{
			Type: schema.TypeDistribution, URL: "http://127.0.0.1:9",
			Run:   &schema.Run{Driver: schema.DriverProcess, Binary: "distribution", Data: data},
			Files: &schema.FilePaths{Htpasswd: filepath.Join(data, "htpasswd")},
		}}
	}, fileValues())
}

// byFile is a registry with an htpasswd file that ocisync runs as a fake process.
func byFile(t *testing.T, secrets providers.Secrets) (p *distribution.Provider, f *fake, file string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	f, file = &fake{config: filepath.Join(data, "config.yml")}, filepath.Join(data, "htpasswd")
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "http://127.0.0.1:9",
		Run:   &schema.Run{Driver: schema.DriverProcess, Binary: "distribution", Data: data},
		Files: &schema.FilePaths{Htpasswd: file},
	}, f, secrets, nil, distribution.HashCost(bcrypt.MinCost), distribution.Outside(access.Deny))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.BeforeStart(t.Context(), ""), f.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	return p, f, file
}

func create(kind schema.Kind, name string, spec schema.Spec) plan.Change {
	key := schema.Key{Kind: kind, Name: name}
	return plan.Change{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: spec}}
}

func accounts(t *testing.T, file string) *htpasswd.File {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return htpasswd.Parse(b)
}

// TestAnHtpasswdFileIsThereBeforeTheRegistryStarts: without one Distribution
// makes an account of its own, which nobody asked for.
func TestAnHtpasswdFileIsThereBeforeTheRegistryStarts(t *testing.T) {
	p, f, file := byFile(t, providertest.Secrets{})
	if got := accounts(t, file).Names(); len(got) != 1 || got[0] != "ocisync$" {
		t.Errorf("accounts %q", got)
	}
	for _, words := range []string{"htpasswd:", `path: "` + file + `"`, `realm: "127.0.0.1:9"`} {
		if !strings.Contains(f.took, words) {
			t.Errorf("it runs without %q:\n%s", words, f.took)
		}
	}
	if strings.Contains(f.took, "token:") {
		t.Errorf("it runs with two ways to log in:\n%s", f.took)
	}
	if changes, _ := settings(t, p); len(changes) != 0 {
		t.Errorf("a plan of nothing says %+v", changes)
	}
	// somebody takes it out, and its account with it
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := p.BeforeStart(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if got := accounts(t, file).Names(); len(got) != 1 || got[0] != "ocisync$" {
		t.Errorf("accounts %q", got)
	}
}

// TestEveryAccountOfAFileMayDoEverythingAndNothingElseIsPromised is what a mode
// cannot have there, with what to do about it.
func TestEveryAccountOfAFileMayDoEverythingAndNothingElseIsPromised(t *testing.T) {
	p, _, _ := byFile(t, providertest.Secrets{})
	some, all, none := schema.Pull|schema.Push, schema.Pull|schema.Push|schema.Delete, schema.Rights(0)
	asks := func(c plan.Change) string {
		t.Helper()
		verdicts, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil {
			t.Fatal(err)
		}
		if err := write(t, p, []plan.Change{c}); (err != nil) != (verdicts[0].Refused != "") {
			t.Errorf("%s: Prepare says %q, Write %v", c.Key, verdicts[0].Refused, err)
		}
		return verdicts[0].Refused
	}
	for rights, refused := range map[schema.Rights]bool{all: false, schema.Admin: false, some: true, none: true} {
		team := fmt.Sprint("team-", int(rights))
		if why := asks(create(schema.KindNamespace, team, &schema.Namespace{})); why != "" {
			t.Error(why)
		}
		why := asks(create(schema.KindAccess, team, &schema.Access{Authenticated: &rights}))
		if (why != "") != refused || refused && !strings.Contains(why, "name it in registry.token") {
			t.Errorf("authenticated = %v: %q", rights, why)
		}
	}
	password := &schema.SecretRef{Env: providertest.SecretA}
	for name, why := range map[string]string{"dev": "", "robot$x": "robots", "ocisync$": "ocisync's own", "a:b": "colon", "#x": "comment"} {
		if got := asks(create(schema.KindUser, name, &schema.User{Password: password})); (got == "") != (why == "") || !strings.Contains(got, why) {
			t.Errorf("%q: %q, want %q", name, got, why)
		}
	}
	if why := asks(create(schema.KindUser, "bare", &schema.User{})); !strings.Contains(why, "password") {
		t.Errorf("an account without a password: %q", why)
	}
	for _, field := range []struct {
		kind schema.Kind
		name string
	}{{schema.KindUser, "admin"}, {schema.KindUser, "email"}, {schema.KindAccess, "users"}, {schema.KindAccess, "anonymous"}, {schema.KindRobot, "access"}, {schema.KindGroup, ""}, {schema.KindGC, "schedule"}} {
		if row := p.Capabilities().Find(field.kind, field.name); row.Support != schema.Unsupported || row.Reason == "" {
			t.Errorf("%s.%s: %+v", field.kind, field.name, row)
		}
	}
	_, notes, err := p.Normalize(schema.State{})
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "policy.outside denies nothing") {
		t.Errorf("%v, %v", notes, err)
	}
}

// long is a secret that bcrypt would cut off.
type long struct{}

func (long) Resolve(context.Context, schema.SecretRef) (string, error) {
	return strings.Repeat("canary-7", 10), nil
}

func TestAPasswordThatBcryptWouldCutOffIsRefusedAndNotShown(t *testing.T) {
	p, _, file := byFile(t, long{})
	err := write(t, p, []plan.Change{create(schema.KindUser, "dev", &schema.User{Password: &schema.SecretRef{Env: "X"}})})
	if err == nil || !strings.Contains(err.Error(), "72 bytes") || strings.Contains(err.Error(), "canary") {
		t.Errorf("error %v", err)
	}
	if _, there := accounts(t, file).Hash("dev"); there {
		t.Error("the account is there")
	}
}

// TestALineThatDistributionStopsAtKeepsAccountsFromChanging: it would go on with
// those it had, and nobody would know.
func TestALineThatDistributionStopsAtKeepsAccountsFromChanging(t *testing.T) {
	p, _, file := byFile(t, providertest.Secrets{})
	own, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	hand := "# people\nold:$apr1$x$yyyyyyyyyyyyyyyyyyyyyy\nnonsense\n" + string(own)
	if err := os.WriteFile(file, []byte(hand), 0o600); err != nil {
		t.Fatal(err)
	}
	c := create(schema.KindUser, "dev", &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}})
	verdicts, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || !strings.Contains(verdicts[0].Refused, file+":3: it is neither NAME:HASH nor a comment") {
		t.Errorf("%+v, %v", verdicts, err)
	}
	if err := p.Write(t.Context(), []plan.Change{c}, func(schema.Key, error) {}); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("error %v", err)
	}
	notes, err := p.Remarks(t.Context(), schema.State{Resources: []schema.Resource{*c.After}}, time.Now())
	if err != nil || len(notes) != 3 || !strings.Contains(notes[0].Text, file+":2: the password of \"old\" is hashed as apr1") {
		t.Errorf("%v, %v", notes, err)
	}
	if equal, err := p.Check(t.Context(), schema.Key{Kind: schema.KindUser, Name: "old"}, "password", schema.SecretRef{Env: providertest.SecretA}); equal || err != nil {
		t.Errorf("%v, %v: a hash that nobody logs in by", equal, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(hand, "nonsense\n", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t, p, []plan.Change{c}); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(file)
	if err != nil || !os.SameFile(before, after) || !after.ModTime().After(before.ModTime()) {
		t.Errorf("%v: %v then %v: another file, or one that the registry takes for the same", err, before.ModTime(), after.ModTime())
	}
	if b, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(b), "# people\nold:$apr1$x$yyyyyyyyyyyyyyyyyyyyyy\nocisync$:") {
		t.Errorf("%v:\n%s", err, b)
	}
}

// TestRobotsOfAFileAreItsAccountsAsLongAsTheyLive: what ocisync keeps of them
// and what the file says are brought together at each write, start and renewal.
func TestRobotsOfAFileAreItsAccountsAsLongAsTheyLive(t *testing.T) {
	p, _, file := byFile(t, providertest.Secrets{})
	secret := &schema.RobotSecret{Value: &schema.SecretRef{Env: providertest.SecretA}}
	month := schema.Duration(30 * 86400)
	if err := write(t, p, []plan.Change{create(schema.KindRobot, "ci", &schema.Robot{Expires: &month, Secret: secret})}); err != nil {
		t.Fatal(err)
	}
	key := schema.Key{Kind: schema.KindRobot, Name: "ci"}
	const login = "robot$ci"
	if _, there := accounts(t, file).Hash(login); !there {
		t.Fatal("no account")
	}
	users, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
	if err != nil || len(users.Resources) != 0 {
		t.Errorf("%+v, %v: accounts of robots and ocisync's own are no users", users.Resources, err)
	}
	unread := func() []string {
		t.Helper()
		st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindRobot))
		if err != nil {
			t.Fatal(err)
		}
		r, _ := st.Get(key)
		return r.Unread
	}
	if got := unread(); len(got) != 1 {
		t.Errorf("unread %q", got)
	}
	// somebody takes it out: it has no secret then, as far as the registry goes
	f := accounts(t, file)
	f.Remove(login)
	if err := os.WriteFile(file, f.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := unread(); len(got) != 0 {
		t.Errorf("unread %q", got)
	}
	if _, err := p.Renew(t.Context(), schema.State{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, there := accounts(t, file).Hash(login); !there {
		t.Error("the job that renews robots does not put it back")
	}
	gone := schema.Resource{Key: key, Spec: &schema.Robot{Enabled: new(false)}}
	if err := write(t, p, []plan.Change{{Action: plan.Update, Key: key, After: &gone, Fields: []plan.Field{{Path: "enabled"}}}}); err != nil {
		t.Fatal(err)
	}
	if _, there := accounts(t, file).Hash(login); there {
		t.Error("a robot that is not enabled can log in")
	}
}

func TestWhereAccountsAreIsSaidOnce(t *testing.T) {
	for _, tt := range []struct {
		r    schema.Registry
		want string
	}{
		{schema.Registry{Token: &schema.TokenService{URL: "http://localhost:5001"}, Files: &schema.FilePaths{Config: "/etc/r/config.yml", Htpasswd: "/etc/r/htpasswd"}}, "take one of the two out"},
		{schema.Registry{Run: &schema.Run{Driver: schema.DriverDocker, Data: "/data"}, Files: &schema.FilePaths{Htpasswd: "/etc/htpasswd"}}, "write /data/htpasswd"},
		{schema.Registry{Run: &schema.Run{Driver: schema.DriverDocker, Data: "/data"}, Files: &schema.FilePaths{Htpasswd: "/data/htpasswd"}}, ""},
		{schema.Registry{Files: &schema.FilePaths{Htpasswd: "/etc/htpasswd"}}, ""},
	} {
		tt.r.URL = "http://localhost:5000"
		p, err := distribution.PlaceOf(tt.r)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want %q", tt.r.Files, err, tt.want)
		}
		if err == nil && (p.Htpasswd == "" || p.Service != nil) {
			t.Errorf("%+v", p)
		}
	}
}

// TestUsersOfAFileNeedNothingOfOcisyncsBesideIt: not even a directory that others
// may not write to, as what it keeps of rules and robots does.
func TestUsersOfAFileNeedNothingOfOcisyncsBesideIt(t *testing.T) {
	p, file := placed(t, handWritten(t)["htpasswd.yml"])
	dir := filepath.Dir(file)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser, schema.KindSettings))
	if err != nil || len(st.Resources) != 3 {
		t.Errorf("%+v, %v", st.Resources, err)
	}
	if err := write(t, p, []plan.Change{create(schema.KindUser, "dev", &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}})}); err != nil {
		t.Fatal(err)
	}
	if names := accounts(t, filepath.Join(dir, "htpasswd")).Names(); strings.Join(names, " ") != "olga piotr dev" {
		t.Errorf("accounts %q", names)
	}
	if _, err := p.Read(t.Context(), schema.ScopeOf(schema.KindNamespace)); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("rules in a directory that others may write to: %v", err)
	}
}

// TestALineThatLocksEverybodyOutIsToldBeforeAStartAndAfter: Distribution that starts
// with it answers 400 to each login, and looks well.
func TestALineThatLocksEverybodyOutIsToldBeforeAStartAndAfter(t *testing.T) {
	p, f, file := byFile(t, providertest.Secrets{})
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	troubles := func() string {
		t.Helper()
		list, err := p.Troubles(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
		if err != nil || len(notes) != len(list) {
			t.Errorf("the plan says %+v, and health %+v (%v)", notes, list, err)
		}
		return fmt.Sprint(list)
	}
	if text := troubles(); text != "[]" || p.Precheck(t.Context(), "") != nil {
		t.Errorf("one that is well: %s, %v", text, p.Precheck(t.Context(), ""))
	}
	for _, line := range []string{"broken line\n", "x:" + strings.Repeat("y", 70_000) + "\n"} {
		if err := os.WriteFile(file, append(good, line...), 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
		err := p.Precheck(t.Context(), "")
		if err == nil || !strings.Contains(err.Error(), file+":2: ") || !strings.Contains(err.Error(), "remove the line") {
			t.Errorf("before a start: %v", err)
		}
		f.did = nil
		changes, _ := settings(t, p, level("debug"))
		if err := write(t, p, changes); err == nil || len(f.did) > 0 {
			t.Errorf("an apply that restarts it: %v, it did %q", err, f.did)
		}
		if text := troubles(); !strings.Contains(text, "accounts "+file+":2: ") || strings.Contains(text, "it was started so") {
			t.Errorf("with a line from after its start: %s", text)
		}
		before := f.started.Add(-time.Minute)
		if err := os.Chtimes(file, before, before); err != nil {
			t.Fatal(err)
		}
		if text := troubles(); !strings.Contains(text, "nobody can log in; it was started so: remove the line") {
			t.Errorf("started with it: %s", text)
		}
	}
}

// TestAPasswordThatBcryptWouldCutIsRefusedInThePlan where it is at hand, and nothing
// is run or decrypted for that.
func TestAPasswordThatBcryptWouldCutIsRefusedInThePlan(t *testing.T) {
	lengths := lengths{t}
	p, _, _ := byFile(t, lengths)
	for name, c := range map[string]struct {
		ref     schema.SecretRef
		refused bool
	}{
		"long":     {schema.SecretRef{Env: "LONG"}, true},
		"a file":   {schema.SecretRef{File: "/run/secrets/long"}, true},
		"short":    {schema.SecretRef{Env: "SHORT"}, false},
		"not here": {schema.SecretRef{Env: "NONE"}, false},
		"command":  {schema.SecretRef{Command: "pass"}, false},
		"age":      {schema.SecretRef{Age: "secret.age"}, false},
	} {
		made := create(schema.KindUser, "dev", &schema.User{Password: &c.ref})
		changed := made
		changed.Action, changed.Before, changed.Fields = plan.Update, made.After, []plan.Field{{Path: "password", Sensitive: true}}
		verdicts, err := p.Prepare(t.Context(), []plan.Change{made, changed})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range verdicts {
			if (v.Refused != "") != c.refused || c.refused && !strings.Contains(v.Refused, "72 bytes") {
				t.Errorf("%s: %q", name, v.Refused)
			}
		}
	}
}

// lengths resolves secrets at hand, one of them too long.
type lengths struct{ t *testing.T }

func (l lengths) Resolve(_ context.Context, ref schema.SecretRef) (string, error) {
	switch {
	case ref.Env == "LONG", ref.File != "":
		return strings.Repeat("x", 73), nil
	case ref.Env == "SHORT":
		return strings.Repeat("x", 72), nil
	case ref.Env == "":
		l.t.Errorf("a plan asks for %s", ref)
	}
	return "", errors.New("not at hand")
}

// TestAnAccountThatNoModeCanNameIsLeftOut, said by its file, and stays in it.
func TestAnAccountThatNoModeCanNameIsLeftOut(t *testing.T) {
	data := t.TempDir()
	file := filepath.Join(data, "htpasswd")
	hash, err := htpasswd.Hash("a password", bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	text := "caf\xe9:" + hash + "\nwell:" + hash + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Htpasswd: file},
	}, nil, providertest.Secrets{}, slog.New(slog.NewTextHandler(&log, nil)), distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
	if err != nil || len(st.Resources) != 1 || st.Resources[0].Key.Name != "well" {
		t.Errorf("%+v, %v", st.Resources, err)
	}
	if said := log.String(); !strings.Contains(said, file) || !strings.Contains(said, `caf\\xe9`) || !strings.Contains(said, "UTF-8") {
		t.Errorf("it says %s", said)
	}
	if err := write(t, p, []plan.Change{create(schema.KindUser, "new", &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}})}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(b), text) {
		t.Errorf("%q, %v", b, err)
	}
}
