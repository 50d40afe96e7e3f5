package zot

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

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/schema"
)

// killedBefore leaves a file as a write does that is killed before it reaches the file.
func killedBefore(t *testing.T, name, next string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, text := range map[string]string{".prev": string(b), ".next": next} {
		if err := os.WriteFile(name+suffix, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func lies(t *testing.T, name string) bool {
	t.Helper()
	_, err := os.Lstat(name + ".next")
	return err == nil
}

// unsettled are the changes of the settings but those that are of ocisync's records alone.
func unsettled(t *testing.T, p *Provider) []plan.Change {
	t.Helper()
	return slices.DeleteFunc(settled(t, p), plan.Change.Recorded)
}

// shows are the settings that a plan would change.
func shows(t *testing.T, p *Provider) []string {
	t.Helper()
	list := unsettled(t, p)
	if len(list) == 0 {
		return nil
	}
	return changed(list[0])
}

// A write of the accounts, or of the configuration, is cut: Zot has what was there before,
// and a plan must say so, whatever the file shall hold.
func TestAWriteThatWasCutIsAChangeThatApplyMakes(t *testing.T) {
	hash, err := htpasswd.Hash("new", 4)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		file, old, new string
		over           int // how often it is restarted
	}{
		"accounts": {"htpasswd", "u:old", "u:" + hash, 0},
		"reloaded": {"config.json", `"u"`, `"v"`, 0},
		"restart":  {"config.json", `"level": "info"`, `"level": "debug"`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := played(t, nowhere, func(string) string { return recordLoaded })
			if err := wrote(t, p, append(unsettled(t, p), makes(schema.KindUser, "u", &schema.User{}), makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")}))...); err != nil {
				t.Fatal(err)
			}
			accounts := filepath.Join(p.paths.data, "htpasswd")
			if err := os.WriteFile(accounts, []byte(content(accounts)+"u:old\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := wrote(t, p, makes(schema.KindGroup, "more", &schema.Group{Users: schema.NewSet("u")})); err != nil {
				t.Fatal(err)
			}
			if list := shows(t, p); list != nil {
				t.Fatalf("before: %v", list)
			}
			was := a.over
			file := filepath.Join(p.paths.data, row.file)
			next := strings.Replace(content(file), row.old, row.new, 1)
			if next == content(file) {
				t.Fatalf("%s holds\n%s", file, next)
			}
			killedBefore(t, file, next)
			list := unsettled(t, p)
			if len(list) != 1 || !slices.Contains(changed(list[0]), "values."+unfinishedPath) {
				t.Fatalf("a plan shows %+v", list)
			}
			v, err := p.Prepare(t.Context(), list)
			want := plan.Restart
			if row.over == 0 {
				want = map[string]plan.Effect{"htpasswd": plan.Live, "config.json": plan.Reload}[row.file]
			}
			if err != nil || v[0].Effect != want || v[0].Refused != "" || !strings.Contains(strings.Join(v[0].Notes, "\n"), "cut short") {
				t.Errorf("%+v, %v", v, err)
			}
			if err := wrote(t, p, list...); err != nil {
				t.Fatal(err)
			}
			a.mu.Lock()
			seen := map[string]string{"htpasswd": a.known, "config.json": a.seen}[row.file]
			a.mu.Unlock()
			if content(file) != next || seen != next || lies(t, file) || a.over-was != row.over {
				t.Errorf("the file holds\n%s\nZot has\n%s\npromised still: %v; restarts: %d", content(file), seen, lies(t, file), a.over-was)
			}
			if list := shows(t, p); list != nil {
				t.Errorf("after: %v", list)
			}
		})
	}
}

// A Zot of somebody else's has what it read; what needs a restart waits for one, and is not
// written below it.
func TestOfSomebodyElsesZotAWriteThatWasCutIsFinishedAsItsContentNeeds(t *testing.T) {
	for name, row := range map[string]struct {
		old, new string
		pending  bool
	}{
		"rules": {`"read"`, `"read","create"`, false},
		"realm": {`"realm":"old"`, `"realm":"new"`, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
			defer s.Close()
			dir := t.TempDir()
			file := filepath.Join(dir, "config.json")
			text := `{"storage":{"rootDirectory":"` + dir + `/root"},"http":{"address":"127.0.0.1","port":"` + s.Listener.Addr().String()[len("127.0.0.1:"):] + `","realm":"old","auth":{"htpasswd":{"path":"` + dir + `/htpasswd"}},"accessControl":{"repositories":{"**":{"defaultPolicy":["read"]}}}}}`
			for name, text := range map[string]string{"config.json": text, "htpasswd": ""} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := New(schema.Registry{Type: schema.TypeZot, URL: s.URL, Files: &schema.FilePaths{Config: file}}, nil, nil, nil, HashCost(4))
			if err != nil {
				t.Fatal(err)
			}
			next := strings.Replace(text, row.old, row.new, 1)
			killedBefore(t, file, next)
			list := unsettled(t, p)
			if len(list) != 1 || !slices.Contains(changed(list[0]), "values."+unfinishedPath) {
				t.Fatalf("a plan shows %+v", list)
			}
			list = append(list, makes(schema.KindUser, "u", &schema.User{}))
			v, err := p.Prepare(t.Context(), list)
			if err != nil || (v[0].Effect == plan.ByHand) != row.pending {
				t.Fatalf("%+v, %v", v, err)
			}
			if said := strings.Join(v[0].Notes, "\n"); row.pending && !strings.Contains(said, byHand) {
				t.Errorf("it says %s", said)
			}
			err = wrote(t, p, list...)
			if errors.Is(err, providers.ErrPending) != row.pending || !row.pending && err != nil || lies(t, file) != row.pending {
				t.Fatalf("%v; promised still: %v", err, lies(t, file))
			}
			if row.pending {
				if said := err.Error(); strings.Contains(said, restartFirst) || !strings.Contains(said, byHand) || content(file) != text+"\n" {
					t.Errorf("%v; the file holds\n%s", err, content(file))
				}
				s.Close()
				if list = unsettled(t, p); !slices.Contains(changed(list[0]), "values."+unfinishedPath) {
					t.Errorf("when it is stopped a plan shows %v", changed(list[0]))
				}
				if err := wrote(t, p, list...); err != nil {
					t.Fatal(err)
				}
			}
			if content(file) != next+"\n" || lies(t, file) {
				t.Errorf("the file holds\n%s", content(file))
			}
			if list := shows(t, p); list != nil {
				t.Errorf("after: %v", list)
			}
		})
	}
}

// What a job may not restart Zot for stays as it is, and accounts that expire go all the same.
func TestAJobFinishesNoWriteThatNeedsARestart(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := wrote(t, p, unsettled(t, p)...); err != nil {
		t.Fatal(err)
	}
	accounts := filepath.Join(p.paths.data, "htpasswd")
	killedBefore(t, a.config, strings.Replace(content(a.config), `"level": "info"`, `"level": "debug"`, 1))
	killedBefore(t, accounts, content(accounts)+"v:x\n")
	was := content(a.config)
	if _, err := p.Renew(t.Context(), schema.State{}, p.now()); err != nil {
		t.Fatal(err)
	}
	if content(a.config) != was || !lies(t, a.config) || lies(t, accounts) || !strings.Contains(content(accounts), "v:x") || a.over != 0 {
		t.Errorf("of the configuration promised still: %v, of the accounts: %v; restarts: %d", lies(t, a.config), lies(t, accounts), a.over)
	}
}

// refusing does not take the configuration that was cut over: what it held before is put back.
func TestAWriteThatWasCutAndIsRefusedIsPutBack(t *testing.T) {
	says := recordLoaded
	p, a := played(t, nowhere, func(string) string { return says })
	if err := wrote(t, p, append(unsettled(t, p), makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")}))...); err != nil {
		t.Fatal(err)
	}
	was := content(a.config)
	killedBefore(t, a.config, strings.Replace(was, `"u"`, `"v"`, 1))
	says = recordFailed
	err := p.Write(context.Background(), unsettled(t, p), func(schema.Key, error) {})
	if !errors.Is(err, errRefused) || content(a.config) != was || lies(t, a.config) {
		t.Errorf("%v; the file holds\n%s", err, content(a.config))
	}
}

// Of a write that fails before it reaches a file, as on a full disk, nothing is known after
// that Zot does not have.
func TestOfAWriteThatFailsNothingIsKept(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	user := makes(schema.KindUser, "old", &schema.User{})
	if err := wrote(t, p, append(unsettled(t, p), user)...); err != nil {
		t.Fatal(err)
	}
	read := func() schema.State {
		t.Helper()
		st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser, schema.KindNamespace, schema.KindGroup, schema.KindSettings))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	before, text := read(), content(a.config)
	changes := []plan.Change{
		makes(schema.KindUser, "u", &schema.User{}), makes(schema.KindNamespace, "n", &schema.Namespace{}),
		makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")}),
		{Action: plan.Delete, Key: user.Key},
	}
	p.process = crowded{a}
	if err := wrote(t, p, changes...); err == nil || content(a.config) != text {
		t.Fatalf("%v; it holds\n%s", err, content(a.config))
	}
	if diff := cmp.Diff(before, read()); diff != "" {
		t.Errorf("after a write that failed (-before +after):\n%s", diff)
	}
	// what cannot be put back is said
	other := p.paths.own
	own, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{p: p, s: &site{text: []byte(text), view: view{htpasswd: p.paths.htpasswd}}, own: p.mustOwn(t)}
	w.s.accounts = []byte(content(p.paths.htpasswd))
	w.s.own = w.own
	p.paths.own = filepath.Join(other, "below a file")
	if err := w.unkept(errSilent); err == nil || !errors.Is(err, errSilent) || !strings.Contains(err.Error(), "could not be put back") {
		t.Errorf("%v", err)
	}
	p.paths.own = other
	if is, err := os.ReadFile(other); err != nil || string(is) != string(own) {
		t.Errorf("it holds %s, %v", is, err)
	}
}

func (p *Provider) mustOwn(t *testing.T) own {
	t.Helper()
	o, err := p.ownFile()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// crowded has no room for a file beside the configuration, once its log is read.
type crowded struct{ *actor }

func (f crowded) Log(ctx context.Context) (io.ReadCloser, error) {
	if err := os.MkdirAll(filepath.Join(f.config+".prev.tmp", "x"), 0o700); err != nil {
		return nil, err
	}
	return f.actor.Log(ctx)
}

// Neither is of the first apply, before which there was no file of ocisync's.
func TestOfAFirstWriteThatFailsNothingIsKept(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	w := &writer{p: p, s: &site{text: []byte(content(a.config)), view: view{htpasswd: p.paths.htpasswd}}, own: own{Robots: map[string][]account{}}}
	w.s.accounts = []byte(content(p.paths.htpasswd))
	if err := w.unkept(errSilent); !errors.Is(err, errSilent) {
		t.Error(err)
	}
	if _, err := os.Lstat(p.paths.own); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what it keeps: %v", err)
	}
}
