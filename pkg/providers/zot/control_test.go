package zot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// actor plays a Zot process: it says of each configuration in the file what
// its part says.
type actor struct {
	config string
	says   func(text string) string // what it logs of a new configuration, "" for nothing
	starts func(text string) error

	mu          sync.Mutex
	running     bool
	log         strings.Builder
	seen, known string // of the configuration and the accounts
	deaf        bool   // it says nothing of new accounts
	began, over int
}

func (a *actor) text() string { return content(a.config) }

func (a *actor) users() string { return content(filepath.Join(filepath.Dir(a.config), "htpasswd")) }

// content is what a file holds, whatever ocisync says of it.
func content(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\n") + "\n"
}

func (a *actor) Status(context.Context) (providers.ProcessStatus, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return providers.ProcessStatus{Running: a.running, ID: fmt.Sprint(a.began), Started: time.Now().Add(time.Hour)}, nil
}

func (a *actor) Start(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.starts(a.text()); err != nil {
		return err
	}
	a.running, a.seen, a.known = true, a.text(), a.users()
	a.began++
	a.log.Reset()
	return nil
}

func (a *actor) Stop(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look()
	a.running = false
	a.over++
	return nil
}

func (a *actor) Log(context.Context) (io.ReadCloser, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look()
	return io.NopCloser(strings.NewReader(a.log.String())), nil
}

// written is a record as it stands in the log, "" for none.
func (*actor) written(record string) string {
	if record == "" {
		return ""
	}
	return fmt.Sprintf("{\"message\":%q}\n", record)
}

// look takes a new file over, as far as it does. The caller holds mu.
func (a *actor) look() {
	if now := a.text(); a.running && now != a.seen {
		a.seen = now
		a.log.WriteString(a.written(a.says(now)))
	}
	if now := a.users(); a.running && !a.deaf && now != a.known {
		a.known = now
		a.log.WriteString(a.written(recordUsers))
	}
}

// played is a provider of a registry that an actor plays, which runs.
func played(t *testing.T, url string, says func(string) string) (*Provider, *actor) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	a := &actor{config: filepath.Join(data, "config.json"), says: says, starts: func(string) error { return nil }}
	p, err := New(schema.Registry{Type: schema.TypeZot, URL: url, Run: &schema.Run{Driver: schema.DriverProcess, Data: data}}, a, nil, nil, HashCost(4))
	if err != nil {
		t.Fatal(err)
	}
	p.patience = 50 * time.Millisecond
	if err := p.BeforeStart(t.Context(), string(encoded(schema.Values(p.front())))); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p, a
}

func makes(kind schema.Kind, name string, spec schema.Spec) plan.Change {
	r := schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}
	return plan.Change{Action: plan.Create, Key: r.Key, After: &r}
}

func wrote(t *testing.T, p *Provider, changes ...plan.Change) error {
	t.Helper()
	var all []error
	if err := p.Write(t.Context(), changes, func(_ schema.Key, err error) { all = append(all, err) }); err != nil {
		t.Fatal(err)
	}
	return errors.Join(all...)
}

// TestAccountsAreInForceWhenTheLogSaysSo: else it is restarted, or somebody else's is to be.
func TestAccountsAreInForceWhenTheLogSaysSo(t *testing.T) {
	for name, deaf := range map[string]bool{"told": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			p, a := played(t, nowhere, func(string) string { return recordLoaded })
			if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
				t.Fatal(err)
			}
			s, err := p.load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			began := a.began
			a.deaf = deaf
			if err := p.commit(t.Context(), s, texts{accounts: append(s.accounts, "u:$2y$05$x\n"...)}, plan.Live, status{running: true}, false); err != nil {
				t.Fatal(err)
			}
			if restarted := a.began > began; restarted != deaf {
				t.Errorf("restarted: %v", restarted)
			}
		})
	}
}

const nowhere = "http://127.0.0.1:9"

func TestAReloadThatIsToldNeedsNoRestart(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
		t.Fatal(err)
	}
	if a.began != 1 || a.over != 0 {
		t.Errorf("%d starts, %d stops", a.began, a.over)
	}
}

// sluggish is an actor that takes a while to say what it took over.
type sluggish struct {
	*actor
	after time.Time
}

func (s *sluggish) Log(ctx context.Context) (io.ReadCloser, error) {
	if time.Now().Before(s.after) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return s.actor.Log(ctx)
}

// TestASlowReloadOfAZotThatSeesItsFileNeedsNoRestart: it waits for what it does in
// the background first.
func TestASlowReloadOfAZotThatSeesItsFileNeedsNoRestart(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	providertest.Serving(t, a.config, nil)
	p.process, p.patience = &sluggish{a, time.Now().Add(time.Second)}, 500*time.Millisecond
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
		t.Fatal(err)
	}
	if a.began != 1 || a.over != 0 {
		t.Errorf("%d starts, %d stops", a.began, a.over)
	}
}

func TestAReloadThatIsNotToldBecomesARestart(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return "" })
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
		t.Fatal(err)
	}
	if a.began != 2 || a.over != 1 {
		t.Errorf("%d starts, %d stops", a.began, a.over)
	}
}

func TestWhatZotDoesNotTakeOverIsPutBack(t *testing.T) {
	p, a := played(t, nowhere, func(text string) string {
		if strings.Contains(text, `"g"`) {
			return recordFailed
		}
		return recordLoaded
	})
	before := a.text()
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err == nil || !strings.Contains(err.Error(), "did not take") {
		t.Errorf("error %v", err)
	}
	if a.text() != before || a.began != 1 {
		t.Errorf("after %d starts the file holds\n%s", a.began, a.text())
	}
}

func TestWhatZotDoesNotStartWithIsPutBackAndItRuns(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	a.starts = func(text string) error {
		if strings.Contains(text, "mostRecentlyPushedCount") {
			return errors.New("it ended with code 2")
		}
		return nil
	}
	before := a.text()
	err := wrote(t, p, makes(schema.KindNamespace, "n", &schema.Namespace{}), makes(schema.KindRetention, "n", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}}))
	if err == nil || !strings.Contains(err.Error(), "old one was put back and it runs with that") || !strings.Contains(err.Error(), "code 2") {
		t.Errorf("error %v", err)
	}
	if a.text() != before || !a.running {
		t.Errorf("running %t; the file holds\n%s", a.running, a.text())
	}
}

// A process that must be stopped first never sees the new file while it runs.
func TestWhatNeedsARestartIsWrittenWhileZotIsStopped(t *testing.T) {
	p, a := played(t, nowhere, func(text string) string {
		if strings.Contains(text, "mostRecentlyPushedCount") {
			t.Error("the running process saw it")
		}
		return recordLoaded
	})
	if err := wrote(t, p, makes(schema.KindNamespace, "n", &schema.Namespace{}), makes(schema.KindRetention, "n", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}})); err != nil {
		t.Fatal(err)
	}
	if a.began != 2 || !strings.Contains(a.text(), "mostRecentlyPushedCount") {
		t.Errorf("%d starts; the file holds\n%s", a.began, a.text())
	}
}

// A registry that says that it took a rule over and does as before is found
// out, by requests that change nothing.
func TestARuleThatIsNotInForceIsFoundOut(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.Method]++
		switch {
		case r.Method == http.MethodPost, r.Method == http.MethodPatch, r.Method == http.MethodPut && !strings.Contains(r.URL.Path, "/blobs/uploads/"):
			t.Errorf("%s %s was sent, which makes something", r.Method, r.URL)
		case r.Method == http.MethodPut && (r.ContentLength > 0 || r.URL.Query().Get("digest") == ""):
			t.Errorf("%s %s ends an upload", r.Method, r.URL)
		}
		if b, _ := io.ReadAll(r.Body); len(bytes.TrimSpace(b)) > 0 {
			t.Errorf("%s %s has a body", r.Method, r.URL)
		}
		w.WriteHeader(http.StatusNotFound) // anybody may do anything
	}))
	defer front.Close()
	p, _ := played(t, front.URL, func(string) string { return recordLoaded })
	none := schema.Rights(0)
	err := wrote(t, p, makes(schema.KindNamespace, "n", &schema.Namespace{}), makes(schema.KindAccess, "n", &schema.Access{Anonymous: &none}))
	if err == nil || !strings.Contains(err.Error(), "access/n") || !strings.Contains(err.Error(), "against the rule") {
		t.Errorf("error %v", err)
	}
	var many []plan.Change
	all := schema.Pull | schema.Push | schema.Delete
	for i := range 40 {
		name := fmt.Sprintf("open-%d", i)
		many = append(many, makes(schema.KindNamespace, name, &schema.Namespace{}), makes(schema.KindAccess, name, &schema.Access{Anonymous: &all}))
	}
	mu.Lock()
	clear(asked)
	mu.Unlock()
	if err := wrote(t, p, many...); err != nil {
		t.Errorf("rules that are in force: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := asked[http.MethodGet] + asked[http.MethodPut] + asked[http.MethodDelete]; n != maxProbes {
		t.Errorf("%d probes, want %d", n, maxProbes)
	}
}

func TestTheFileIsReadByItsOwnerAlone(t *testing.T) {
	p, _ := played(t, nowhere, func(string) string { return recordLoaded })
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(p.paths.data, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAZotThatTellsNothingIsRestarted(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := files.Write(a.config, []byte(a.text()), []byte(strings.Replace(a.text(), `"info"`, `"error"`, 1))); err != nil {
		t.Fatal(err)
	}
	c := makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})
	v, err := p.Prepare(t.Context(), []plan.Change{c})
	if err != nil || v[0].Effect != plan.Restart {
		t.Errorf("%+v, %v", v, err)
	}
	if err := wrote(t, p, c); err != nil || a.began != 2 {
		t.Errorf("%d starts, %v", a.began, err)
	}
}

func TestAPlanOfManyRulesSaysThatNotAllAreProved(t *testing.T) {
	p, _ := played(t, nowhere, func(string) string { return recordLoaded })
	notes := func(n int) (count int) {
		var changes []plan.Change
		for i := range n {
			changes = append(changes, makes(schema.KindAccess, fmt.Sprintf("n%d", i), &schema.Access{Anonymous: new(schema.Pull)}))
		}
		verdicts, err := p.Prepare(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range verdicts {
			for _, note := range v.Notes {
				if strings.Contains(note, "ocisync test access") {
					count++
				}
			}
		}
		return count
	}
	if few, many := notes(21), notes(22); few != 0 || many != 1 {
		t.Errorf("of 21 rules it is said %d times, of 22 %d times", few, many)
	}
}
