package distribution_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// fake is a process that takes its configuration when it starts, as
// Distribution does.
type fake struct {
	config  string
	running bool
	started time.Time
	took    string // what config.yml said then
	refuses string // it dies of a configuration with these words
	die     bool   // who stops it is killed
	did     []string
	// command is the program in its container; who calls it may take that down.
	command  func(args []string, stdout io.Writer) error
	down     bool
	stopping func() // is called when it has stopped
}

// Command implements [providers.Commander].
func (f *fake) Command(_ context.Context, args []string, stdout, _ io.Writer) error {
	f.did = append(f.did, args[0])
	return f.command(args, stdout)
}

func (f *fake) Status(context.Context) (providers.ProcessStatus, error) {
	return providers.ProcessStatus{Running: f.running, Started: f.started, ID: "1"}, nil
}

func (f *fake) Start(context.Context) error {
	if f.down {
		return providers.ErrDown
	}
	f.did = append(f.did, "start")
	if f.running {
		return nil
	}
	b, err := os.ReadFile(f.config)
	if err != nil {
		return err
	}
	if f.refuses != "" && strings.Contains(string(b), f.refuses) {
		return errors.New("it died: configuration error")
	}
	f.running, f.started, f.took = true, time.Now(), string(b)
	return nil
}

var errKilled = errors.New("killed")

func (f *fake) Stop(context.Context) error {
	f.did = append(f.did, "stop")
	if f.die {
		panic(errKilled)
	}
	f.running = false
	if f.stopping != nil {
		f.stopping()
	}
	return nil
}

func (f *fake) Log(context.Context) (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// running is a registry of a fake process that was launched.
func running(t *testing.T) (*distribution.Provider, *fake) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	f := &fake{config: filepath.Join(data, "config.yml")}
	p := open(t, data, f)
	launch, err := p.Launch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(providers.Launch{
		Args: []string{"serve", f.config}, Env: []string{"OTEL_TRACES_EXPORTER=none"},
		Mounts: []providers.Mount{{Path: data, Writable: true}, {Path: filepath.Join(data, "ocisync")}}, Port: 9, Grace: 70 * time.Second,
		Face: `{"http.addr":"localhost:9"}`,
	}, launch); diff != "" {
		t.Errorf("launch (-want +got):\n%s", diff)
	}
	if err := p.BeforeStart(t.Context(), launch.Face); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.did = nil
	return p, f
}

func open(t *testing.T, data string, process providers.Process) *distribution.Provider {
	t.Helper()
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: data},
	}, process, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost), distribution.Outside(access.Deny))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// settings are the changes of the cycle for the given values, and the notes.
func settings(t *testing.T, p *distribution.Provider, values ...schema.Value) ([]plan.Change, []providers.Verdict) {
	t.Helper()
	key := schema.Key{Kind: schema.KindSettings}
	desired := schema.State{Resources: []schema.Resource{{Key: key, Spec: &schema.Settings{Values: values}}}, Scope: schema.ScopeOf(schema.KindSettings)}
	want, _, err := p.Normalize(desired)
	if err != nil {
		t.Fatal(err)
	}
	live, err := p.Read(t.Context(), want.Scope)
	if err != nil {
		t.Fatal(err)
	}
	draft := plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities(), Ownership: plan.Ownership{Owned: []schema.Key{key}}})
	draft.Changes = slices.DeleteFunc(draft.Changes, func(c plan.Change) bool { return c.Action == plan.Adopt })
	verdicts, err := p.Prepare(t.Context(), draft.Changes)
	if err != nil {
		t.Fatal(err)
	}
	return draft.Changes, verdicts
}

func write(t *testing.T, p *distribution.Provider, changes []plan.Change) (failed error) {
	t.Helper()
	if err := p.Write(t.Context(), changes, func(k schema.Key, err error) {
		if err != nil {
			failed = err
		}
	}); err != nil {
		t.Fatal(err)
	}
	return failed
}

func level(l string) schema.Value { return schema.Value{Path: "log.level", JSON: `"` + l + `"`} }

func TestEveryChangeOfTheConfigurationIsAPlannedRestart(t *testing.T) {
	p, f := running(t)
	changes, verdicts := settings(t, p, level("debug"))
	if len(changes) != 1 || verdicts[0].Effect != plan.Restart || verdicts[0].Refused != "" {
		t.Fatalf("%+v %+v", changes, verdicts)
	}
	if err := write(t, p, changes); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"stop", "start"}, f.did); diff != "" || !strings.Contains(f.took, `level: "debug"`) {
		t.Errorf("%s: it runs with:\n%s", diff, f.took)
	}
	for _, words := range []string{"version: 0.1", "jwks.json", "realm: \"http://localhost:10/token\"", "ES256", "delete:", "draintimeout: \"1m0s\"", "secret: \""} {
		if !strings.Contains(f.took, words) {
			t.Errorf("the configuration lacks %q:\n%s", words, f.took)
		}
	}
	if changes, _ := settings(t, p, level("debug")); len(changes) != 0 {
		t.Errorf("a second plan says %+v", changes)
	}
	if err := write(t, p, changes); err != nil || len(f.did) != 2 {
		t.Errorf("what holds was written again: %v %v", f.did, err)
	}
	f.running = false
	changes, verdicts = settings(t, p, level("warn"))
	if verdicts[0].Effect != plan.Live {
		t.Errorf("a registry that does not run is to be restarted: %+v", verdicts)
	}
	if err := write(t, p, changes); err != nil || f.running {
		t.Errorf("%v: a registry that did not run does: %v", err, f.running)
	}
}

func TestAConfigurationThatDoesNotComeUpIsPutBack(t *testing.T) {
	p, f := running(t)
	f.refuses = "debug"
	before := f.took
	changes, _ := settings(t, p, level("debug"))
	err := write(t, p, changes)
	if err == nil || !strings.Contains(err.Error(), "it died") || !strings.Contains(err.Error(), "were put back") {
		t.Errorf("error %v", err)
	}
	if !f.running || f.took != before {
		t.Errorf("it runs %v with:\n%s", f.running, f.took)
	}
	if b, err := os.ReadFile(f.config); err != nil || string(b) != before {
		t.Errorf("%v: the file says:\n%s", err, b)
	}
	if changes, _ := settings(t, p, level("debug")); len(changes) != 1 {
		t.Error("the next plan does not say it again")
	}
}

// TestAnApplyThatIsKilledBeforeTheRestartIsPlannedAgain: the file is new then,
// and the registry runs with the former one.
func TestAnApplyThatIsKilledBeforeTheRestartIsPlannedAgain(t *testing.T) {
	p, f := running(t)
	f.die = true
	changes, _ := settings(t, p, level("debug"))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it lived")
			}
		}()
		write(t, p, changes) //nolint:errcheck // it is killed
	}()
	f.die = false
	if b, err := os.ReadFile(f.config); err != nil || !strings.Contains(string(b), "debug") || strings.Contains(f.took, "debug") {
		t.Fatalf("%v: the file says:\n%s\nit runs with:\n%s", err, b, f.took)
	}
	changes, _ = settings(t, p, level("debug"))
	if len(changes) != 1 {
		t.Fatalf("the plan says %+v", changes)
	}
	if err := write(t, p, changes); err != nil || !strings.Contains(f.took, "debug") {
		t.Errorf("%v: it runs with:\n%s", err, f.took)
	}
}

func TestAFileThatWasChangedByHandIsDriftAndRemarkedUpon(t *testing.T) {
	p, f := running(t)
	changes, _ := settings(t, p, level("debug"))
	if err := write(t, p, changes); err != nil {
		t.Fatal(err)
	}
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	edited := strings.Replace(f.took, "ES256", "RS256", 1) + "# by hand\nproxy:\n  remoteurl: " + elsewhere.URL + "\n"
	later := time.Now().Add(time.Minute)
	if err := errors.Join(os.WriteFile(f.config, []byte(edited), 0o600), os.Chtimes(f.config, later, later)); err != nil {
		t.Fatal(err)
	}
	notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "ocisync apply") {
		t.Errorf("%v, %v", notes, err)
	}
	changes, verdicts := settings(t, p, level("debug"))
	if len(changes) != 1 || len(changes[0].Fields) != 1 || changes[0].Fields[0].Path != "values.auth.token.signingalgorithms" || verdicts[0].Effect != plan.Restart {
		t.Fatalf("%+v %+v", changes, verdicts)
	}
	if err := write(t, p, changes); err != nil || !strings.Contains(f.took, "ES256") || !strings.Contains(f.took, "# by hand") || !strings.Contains(f.took, elsewhere.URL) {
		t.Errorf("%v: it runs with:\n%s", err, f.took)
	}
	stale := changes
	if err := os.WriteFile(f.config, []byte(f.took+"log2: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stale[0].After.Spec = &schema.Settings{Values: schema.Values{level("warn")}}
	stale[0].Fields = []plan.Field{{Path: "values.log.level"}}
	if err := write(t, p, stale); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("a change of another file was made: %v", err)
	}
}

// What the registry was started with is known by its content: clocks do not tell of a
// file that was changed in the moment of the start.
func TestAFileThatWasChangedInTheMomentOfTheStartIsRemarkedUpon(t *testing.T) {
	p, f := running(t)
	for text, told := range map[string]int{f.took + "# by hand\n": 1, f.took: 0} {
		for _, at := range []time.Time{f.started, f.started.Add(time.Hour)} {
			if err := errors.Join(os.WriteFile(f.config, []byte(text), 0o600), os.Chtimes(f.config, at, at)); err != nil {
				t.Fatal(err)
			}
			notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
			if err != nil || len(notes) != told || told == 1 && !strings.Contains(notes[0].Text, "ocisync restart") {
				t.Errorf("changed %s after the start, %d notes wanted: %v, %v", at.Sub(f.started), told, notes, err)
			}
		}
	}
}

// TestABucketThatIsNotThereIsPutBack: the registry starts with it, and tells who asks for
// content alone.
func TestABucketThatIsNotThereIsPutBack(t *testing.T) {
	for answers, refused := range map[int]bool{http.StatusOK: false, http.StatusUnauthorized: false, http.StatusInternalServerError: true} {
		registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/_catalog" {
				w.WriteHeader(answers)
			}
			w.Write([]byte("{}")) //nolint:errcheck // the test would see
		}))
		data := filepath.Join(t.TempDir(), "data")
		f := &fake{config: filepath.Join(data, "config.yml")}
		p, err := distribution.New(schema.Registry{
			Type: schema.TypeDistribution, URL: registry.URL, Run: &schema.Run{Driver: schema.DriverProcess, Data: data},
		}, f, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.BeforeStart(t.Context(), ""), f.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		changes, _ := settings(t, p, schema.Value{Path: "storage.s3.bucket", JSON: `"nowhere"`}, schema.Value{Path: "storage.s3.region", JSON: `"eu"`})
		err = write(t, p, changes)
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), "cannot read its content in s3 nowhere") {
			t.Errorf("%d: %v", answers, err)
		}
		if strings.Contains(f.took, "nowhere") == refused {
			t.Errorf("%d: it runs with:\n%s", answers, f.took)
		}
		registry.Close()
	}
}

func TestTheStoreOfContentIsOne(t *testing.T) {
	p, f := running(t)
	s3 := schema.Values{{Path: "storage.s3.bucket", JSON: `"images"`}, {Path: "storage.s3.region", JSON: `"eu"`}, {Path: "storage.s3.secretkey", JSON: `{"env":"` + providertest.SecretA + `"}`}}
	changes, verdicts := settings(t, p, s3...)
	if verdicts[0].Refused != "" {
		t.Fatalf("%+v", verdicts)
	}
	if err := write(t, p, changes); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(f.took, "filesystem") || !strings.Contains(f.took, "delete:") || !strings.Contains(f.took, "secretkey: \"Canary7Bird") {
		t.Errorf("it runs with:\n%s", f.took)
	}
	equal, err := p.Check(t.Context(), schema.Key{Kind: schema.KindSettings}, "values.storage.s3.secretkey", schema.SecretRef{Env: providertest.SecretA})
	if err != nil || !equal {
		t.Errorf("%v, %v", equal, err)
	}
	both := append(schema.Values{{Path: "storage.filesystem.maxthreads", JSON: "50"}}, s3...)
	desired := schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: both}}}}
	if _, _, err := p.Normalize(desired); err == nil || !strings.Contains(err.Error(), "keep one of filesystem, s3") {
		t.Errorf("error %v", err)
	}
	if _, verdicts := settings(t, p, schema.Value{Path: "storage.s3.accesskey.env", JSON: `"KEY"`}); !strings.Contains(verdicts[0].Refused, "storage.s3.accesskey: write a text, such as \"info\"; nothing stands below it, and a reference") {
		t.Errorf("a reference in the place of a text: %+v", verdicts)
	}
	if _, verdicts := settings(t, p, schema.Value{Path: "log.levle", JSON: `"debug"`}); !strings.Contains(verdicts[0].Refused, "no such setting") {
		t.Errorf("%+v", verdicts)
	}
}

// TestARegistryThatSomebodyElseRuns: its file is written and nothing is
// restarted, and nothing is said to be done while it runs.
func TestARegistryThatSomebodyElseRuns(t *testing.T) {
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		w.Write([]byte("{}")) //nolint:errcheck // the test would see
	}))
	defer answers.Close()
	name := filepath.Join(t.TempDir(), "config.yml")
	hand := "# theirs\nversion: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /srv\nauth:\n  htpasswd:\n    realm: r\n    path: /srv/htpasswd\nhttp:\n  addr: :5000\n"
	if err := os.WriteFile(name, []byte(hand), 0o644); err != nil {
		t.Fatal(err)
	}
	r := schema.Registry{Type: schema.TypeDistribution, URL: answers.URL, Files: &schema.FilePaths{Config: name}}
	p, err := distribution.New(r, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// its accounts lie elsewhere: here there are none, and one that is declared is refused
	live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings, schema.KindUser))
	if err != nil || len(live.Resources) != 1 || len(live.Scope.Kinds) != 2 {
		t.Fatalf("%+v, %v", live, err)
	}
	adopted, ok := live.Resources[0].Spec.(*schema.Settings)
	if !ok {
		t.Fatalf("%+v", live.Resources)
	}
	if changes, _ := settings(t, p, adopted.Values...); len(changes) != 0 {
		t.Errorf("what was adopted is planned: %+v", changes)
	}
	changes, verdicts := settings(t, p, level("debug"))
	if len(verdicts) != 1 || verdicts[0].Effect != plan.ByHand || len(verdicts[0].Notes) == 0 {
		t.Fatalf("%+v %+v", changes, verdicts)
	}
	if err := write(t, p, changes); !errors.Is(err, providers.ErrPending) || !strings.Contains(err.Error(), "restart the registry") {
		t.Errorf("error %v", err)
	}
	b, err := os.ReadFile(name)
	if want := hand + "log:\n  level: \"debug\"\n"; err != nil || string(b) != want {
		t.Errorf("%v: (-want +got)\n%s", err, cmp.Diff(want, string(b)))
	}
	user := plan.Change{Action: plan.Create, Key: schema.Key{Kind: schema.KindUser, Name: "x"}, After: &schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "x"}, Spec: &schema.User{}}}
	verdicts, err = p.Prepare(t.Context(), []plan.Change{user})
	if err != nil || !strings.Contains(verdicts[0].Refused, "registry.token") {
		t.Errorf("%+v, %v", verdicts, err)
	}
	// with a token service the way to log in is another
	r.Token = &schema.TokenService{URL: "http://localhost:5001"}
	if p, err = distribution.New(r, nil, providertest.Secrets{}, nil); err != nil {
		t.Fatal(err)
	}
	changes, verdicts = settings(t, p)
	if len(changes) != 1 || len(verdicts[0].Notes) != 2 || !strings.Contains(verdicts[0].Notes[1], "auth.htpasswd goes") {
		t.Fatalf("%+v %+v", changes, verdicts)
	}
	answers.Close() // it will read the file when it starts
	changes, _ = settings(t, p)
	if err := write(t, p, changes); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(name); err != nil || strings.Contains(string(b), "htpasswd") || !strings.Contains(string(b), "http://localhost:5001/token") {
		t.Errorf("%v: %s", err, b)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(name), "jwks.json")); err != nil {
		t.Error(err)
	}
}

func TestSettingsOfAnotherHostWaitForIt(t *testing.T) {
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "https://registry.example.com", Token: &schema.TokenService{URL: "http://127.0.0.1:9"},
	}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := schema.Key{Kind: schema.KindSettings}
	change := plan.Change{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: &schema.Settings{Values: schema.Values{level("debug")}}}}
	verdicts, err := p.Prepare(t.Context(), []plan.Change{change})
	if err != nil || verdicts[0].Effect != plan.ByHand || !strings.Contains(verdicts[0].Notes[0], "on the registry's host") {
		t.Errorf("%+v, %v", verdicts, err)
	}
	if err := write(t, p, []plan.Change{change}); !errors.Is(err, providers.ErrPending) {
		t.Errorf("error %v", err)
	}
	// whose accounts cannot be asked for is unknown, and not without accounts
	if st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser)); !errors.Is(err, providers.ErrUnreachable) {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestLostAccountsAreNoNewRegistry(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := open(t, data, nil)
	key := schema.Key{Kind: schema.KindUser, Name: "dev"}
	if err := write(t, p, []plan.Change{{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: &schema.User{}}}}); err != nil {
		t.Fatal(err)
	}
	if missing, err := p.Blank(t.Context()); err != nil || missing != "" {
		t.Errorf("%q, %v", missing, err)
	}
	if err := os.Remove(filepath.Join(data, "ocisync", "state.json")); err != nil {
		t.Fatal(err)
	}
	if missing, err := p.Blank(t.Context()); err != nil || !strings.Contains(missing, "state.json") {
		t.Errorf("%q, %v", missing, err)
	}
}

func TestRulesAboutPullsAreRefused(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "data"), nil)
	key := schema.Key{Kind: schema.KindRetention, Name: "team"}
	for rule, refused := range map[schema.KeepRule]bool{
		{Newest: 3}: false, {NewestPulled: 3}: true, {PulledWithin: 3600}: true, {Tags: "v*", Always: true}: false,
		{NewestPulled: 3, Disabled: true}: false, {Newest: 3, TaggedOnly: true}: true,
	} {
		c := plan.Change{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: &schema.Retention{Keep: []schema.KeepRule{rule}}}}
		verdicts, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil || (verdicts[0].Refused != "") != refused {
			t.Errorf("%+v: %+v, %v", rule, verdicts, err)
		}
	}
}

func TestALoginGoesWhereItMayAlone(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s got a login", r.Method, r.URL)
		}
		asked++
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	refusal := errors.New("the host file names others")
	for _, to := range []*schema.TokenService{nil, {URL: server.URL}} {
		p, err := distribution.New(schema.Registry{
			Type: schema.TypeDistribution, URL: server.URL, Token: to, Files: &schema.FilePaths{Config: filepath.Join(t.TempDir(), "config.yml")},
			Login: &schema.Login{User: new("root"), Password: &schema.SecretRef{Env: providertest.SecretA}},
		}, nil, providertest.Secrets{}, nil, distribution.Permit(func(registry string) error {
			if registry != server.URL {
				t.Errorf("asked for %s", registry)
			}
			return refusal
		}))
		if err != nil {
			t.Fatal(err)
		}
		rt, release, err := p.Transport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v2/ocisync/state/manifests/m", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := rt.RoundTrip(req); !errors.Is(err, refusal) {
			t.Errorf("%+v, %v", resp, err)
		}
		release()
	}
	if asked > 0 {
		t.Errorf("%d requests went out", asked)
	}
}

func TestARenameOfAnAccountIsRememberedUntilItIsAcknowledged(t *testing.T) {
	p, _ := running(t)
	user := func(name string) schema.Resource {
		return schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: name}, Spec: &schema.User{}}
	}
	was, is := user("dev"), user("developer")
	for _, c := range []plan.Change{
		{Action: plan.Create, Key: was.Key, After: &was},
		{Action: plan.Rename, Key: is.Key, Before: &was, After: &is},
	} {
		if err := write(t, p, []plan.Change{c}); err != nil {
			t.Fatal(err)
		}
	}
	renamed := func() []schema.Renaming {
		t.Helper()
		st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser))
		if err != nil {
			t.Fatal(err)
		}
		return st.Renamed
	}
	if d := cmp.Diff([]schema.Renaming{{From: was.Key, To: is.Key}}, renamed()); d != "" {
		t.Errorf("before it was acknowledged: %s", d)
	}
	if err := p.Acknowledge(t.Context(), []schema.Key{is.Key}); err != nil {
		t.Fatal(err)
	}
	if r := renamed(); len(r) > 0 {
		t.Errorf("still remembered: %v", r)
	}
}

// TestWhatHasNoTagIsRefusedWhereNobodySeesIt: Distribution lists it nowhere.
func TestWhatHasNoTagIsRefusedWhereNobodySeesIt(t *testing.T) {
	p, _ := running(t)
	rule := func(untagged bool) string {
		t.Helper()
		verdicts, err := p.Prepare(t.Context(), []plan.Change{create(schema.KindRetention, "team", &schema.Retention{Untagged: &untagged})})
		if err != nil {
			t.Fatal(err)
		}
		return verdicts[0].Refused
	}
	if why := rule(true); why != "" {
		t.Errorf("on a disk: %s", why)
	}
	changes, _ := settings(t, p, schema.Value{Path: "storage.s3.bucket", JSON: `"b"`}, schema.Value{Path: "storage.s3.region", JSON: `"eu"`})
	if err := write(t, p, changes); err != nil {
		t.Fatal(err)
	}
	if why := rule(true); !strings.Contains(why, "gc.untagged takes them") {
		t.Errorf("in a bucket: %q", why)
	}
	if why := rule(false); why != "" {
		t.Errorf("that it stays: %s", why)
	}
}

func TestARegistryThatWouldNotStartIsNotStopped(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	f := &fake{config: filepath.Join(data, "config.yml")}
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	r := schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9", Token: &schema.TokenService{URL: "http://localhost:10"},
		Run: &schema.Run{Driver: schema.DriverProcess, Binary: "registry", Data: data},
	}
	anew := func() (*distribution.Provider, string) {
		t.Helper()
		p, err := distribution.New(r, f, providertest.Secrets{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Launch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p, l.Face
	}
	p, face := anew()
	if err := errors.Join(p.Precheck(t.Context(), face), p.BeforeStart(t.Context(), face), f.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	f.did = nil
	refused := func(want string) {
		t.Helper()
		if err := p.Precheck(t.Context(), face); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	keys := filepath.Join(data, "ocisync", "keys.json")
	if err := os.Chmod(keys, 0o644); err != nil {
		t.Fatal(err)
	}
	refused("chmod 600 " + keys)
	if err := os.Chmod(keys, 0o600); err != nil {
		t.Fatal(err)
	}
	r.TLS = &schema.TLS{Cert: &cert, Key: &key}
	p, face = anew()
	refused(cert)
	c, _ := settings(t, p)
	failed := error(nil)
	if err := p.Write(t.Context(), c, func(_ schema.Key, err error) { failed = err }); err != nil || failed == nil || !strings.Contains(failed.Error(), "runs as before") || len(f.did) > 0 {
		t.Errorf("an apply with a certificate that is not there: %v, %v, did %q", err, failed, f.did)
	}
	good, err := os.ReadFile(f.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.config, []byte("version: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(f.config)
	upstream := httptest.NewServer(http.NotFoundHandler())
	defer upstream.Close()
	if err := os.WriteFile(f.config, append(good, "proxy:\n  remoteurl: "+upstream.URL+"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	r.TLS = nil
	p, face = anew()
	if err := p.Precheck(t.Context(), face); err != nil {
		t.Errorf("a cache whose upstream answers: %v", err)
	}
	c, _ = settings(t, p, level("debug"))
	upstream.Close()
	refused(upstream.URL + " does not answer")
	f.did, failed = nil, nil
	if err := p.Write(t.Context(), c, func(_ schema.Key, err error) { failed = err }); err != nil || failed == nil || !strings.Contains(failed.Error(), "runs as before") || len(f.did) > 0 {
		t.Errorf("an apply while the upstream is away: %v, %v, did %q", err, failed, f.did)
	}
	if err := os.WriteFile(f.config, good, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A registry in a container runs as the owner of its data, and may put there
// what it likes in the place of ocisync's own files.
func TestWhatTheRegistryPutsInPlaceOfOurFilesIsRefused(t *testing.T) {
	p, f := running(t)
	dir, elsewhere := filepath.Join(filepath.Dir(f.config), "ocisync"), t.TempDir()
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Symlink(elsewhere, dir)); err != nil {
		t.Fatal(err)
	}
	_, read := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
	for verb, err := range map[string]error{
		"reading": read, "starting": p.BeforeStart(t.Context(), ""), "asking": p.Precheck(t.Context(), ""),
	} {
		if !errors.Is(err, regular.ErrUnsafe) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
		t.Errorf("elsewhere: %v, %v", entries, err)
	}
}
