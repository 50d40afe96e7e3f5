package zot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/schema"
)

// maker is an actor that knows how it was started.
type maker struct {
	*actor
	made    *providers.Made
	wants   func() providers.Made
	renew   error
	renewed int
	kept    int
	failing func() // what a renewal that fails does besides
}

// Keep implements [providers.Keeper]: the files are the provider's to put back.
func (m *maker) Keep(context.Context) (func(context.Context) error, error) {
	then := *m.made
	return func(ctx context.Context) error {
		m.made, m.kept = &then, m.kept+1
		return m.Start(ctx)
	}, nil
}

func (m *maker) Made(context.Context) (*providers.Made, error) { return m.made, nil }

func (m *maker) Renew(ctx context.Context) error {
	m.renewed++
	if m.renew != nil {
		if m.failing != nil {
			m.failing()
		}
		return m.renew
	}
	made := m.wants()
	m.made = &made
	return errors.Join(m.Stop(ctx), m.Start(ctx))
}

// settled are the changes of the settings to what the mode says, as the cycle
// would have them.
func settled(t *testing.T, p *Provider) []plan.Change {
	t.Helper()
	want, _, err := p.Normalize(schema.State{})
	if err != nil {
		t.Fatal(err)
	}
	live, err := p.Read(t.Context(), want.Scope)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes
}

func changed(c plan.Change) (paths []string) {
	for _, f := range c.Fields {
		paths = append(paths, f.Path)
	}
	return paths
}

func TestAnotherImagePortOrMountIsAChangeThatApplyMakes(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	cert, key := pair(t, t.TempDir())
	p.registry.Run.Driver, p.registry.Run.Image, p.registry.Run.Listen = schema.DriverDocker, "zot:2", "127.0.0.1:5001"
	wants := func() providers.Made {
		l, err := p.Launch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return providers.Wanted(p.registry, l)
	}
	m := &maker{actor: a, wants: wants}
	p.process = m
	made := wants()
	m.made = &made
	if err := wrote(t, p, settled(t, p)...); err != nil { // of 0.0.0.0, in a container
		t.Fatal(err)
	}
	if c := settled(t, p); slices.ContainsFunc(c, func(c plan.Change) bool { return !c.Recorded() }) || m.renewed != 0 {
		t.Fatalf("as it runs: %+v", c)
	}
	p.registry.Run.Image, p.registry.Run.Listen = "zot:3", "127.0.0.1:5002"
	p.registry.TLS = &schema.TLS{Cert: &cert, Key: &key}
	c := settled(t, p)
	want := []string{"values.http.port", "values.http.tls.cert", "values.http.tls.key", "values.run.image", "values.run.listen", "values.run.mounts"}
	if len(c) != 1 || !slices.Equal(changed(c[0]), want) {
		t.Fatalf("changed %v, want %v", changed(c[0]), want)
	}
	v, err := p.Prepare(t.Context(), c)
	if err != nil || v[0].Effect != plan.Restart || v[0].Refused != "" {
		t.Errorf("%+v, %v", v, err)
	}
	before := a.text()
	m.renew = errors.New("no such image; it runs again as before")
	if err := wrote(t, p, c...); err == nil || !strings.Contains(err.Error(), "no such image") || !strings.Contains(err.Error(), "nothing was written") || a.text() != before {
		t.Errorf("a start that fails: %v; the file holds\n%s", err, a.text())
	}
	// who answers at the new address may be anybody
	more := append(slices.Clone(c), makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")}))
	if err := wrote(t, p, more...); err == nil || !strings.Contains(err.Error(), "not written, since Zot does not run as the mode says") || a.text() != before {
		t.Errorf("beside a start that fails: %v; the file holds\n%s", err, a.text())
	}
	m.renew = nil
	if err := wrote(t, p, c...); err != nil || m.made.Image != "zot:3" || !strings.Contains(a.text(), "5002") {
		t.Errorf("%v; it was made of %s, and the file holds\n%s", err, m.made.Image, a.text())
	}
	if c := settled(t, p); slices.ContainsFunc(c, func(c plan.Change) bool { return !c.Recorded() }) {
		t.Errorf("after it: %+v", c)
	}
}

// TestAContainerThatSomebodyMadeAnewIsAChangeThatApplyMakes: what it mounts and may
// besides is named.
func TestAContainerThatSomebodyMadeAnewIsAChangeThatApplyMakes(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	p.registry.Run.Driver, p.registry.Run.Image, p.registry.Run.Listen = schema.DriverDocker, "zot:2", "127.0.0.1:5001"
	wants := func() providers.Made {
		l, err := p.Launch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return providers.Wanted(p.registry, l)
	}
	m := &maker{actor: a, wants: wants}
	p.process = m
	made := wants()
	m.made = &made
	if err := wrote(t, p, settled(t, p)...); err != nil {
		t.Fatal(err)
	}
	for path, otherwise := range map[string]func(*providers.Made){
		"values.run.mounts": func(m *providers.Made) { m.Others = []string{"/etc:/hostetc"} },
		"values.run.rights": func(m *providers.Made) { m.Rights = []string{"privileged"} },
		"values.run.listen": func(m *providers.Made) { m.Also = []string{"0.0.0.0:15511"} },
	} {
		otherwise(m.made)
		c := settled(t, p)
		if len(c) != 1 || !slices.Equal(changed(c[0]), []string{path}) || !providers.Renews(c[0]) {
			t.Fatalf("%s: %+v", path, c)
		}
		if shown := c[0].Fields[0].Old; !strings.Contains(shown, "/etc:/hostetc") && !strings.Contains(shown, "privileged") && !strings.Contains(shown, "127.0.0.1:5001, 0.0.0.0:15511") {
			t.Errorf("%s: it is not named: %s", path, shown)
		}
		if v, err := p.Prepare(t.Context(), c); err != nil || v[0].Effect != plan.Restart || v[0].Refused != "" {
			t.Errorf("%s: %+v, %v", path, v, err)
		}
		before := m.renewed
		if err := wrote(t, p, c...); err != nil || m.renewed == before {
			t.Errorf("%s: renewed %d times, %v", path, m.renewed, err)
		}
	}
}

// TestAZotGoesBackToTheAddressItHad if it does not start with what is written once
// it listens at another one.
func TestAZotGoesBackToTheAddressItHad(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	m := &maker{actor: a}
	m.wants = func() providers.Made { // whoever starts it has the file say where it listens
		l, err := p.Launch(t.Context())
		if err == nil {
			err = p.BeforeStart(t.Context(), l.Face)
		}
		if err != nil {
			t.Fatal(err)
		}
		return providers.Wanted(p.registry, l)
	}
	p.process = m
	made := m.wants()
	m.made = &made
	before, address := a.text(), made.Listen
	p.registry.Run.Listen = "127.0.0.1:5007"
	a.starts = func(text string) error {
		if strings.Contains(text, "realm") {
			return errors.New("it died")
		}
		return nil
	}
	want, _, err := p.Normalize(schema.State{Resources: []schema.Resource{{
		Key:  schema.Key{Kind: schema.KindSettings},
		Spec: &schema.Settings{Values: schema.Values{{Path: "http.realm", JSON: `"other"`}}},
	}}, Scope: schema.ScopeOf(schema.KindSettings)})
	if err != nil {
		t.Fatal(err)
	}
	live, err := p.Read(t.Context(), want.Scope)
	if err != nil {
		t.Fatal(err)
	}
	c := plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes
	err = wrote(t, p, c...)
	if err == nil || !strings.Contains(err.Error(), "it died") || !strings.Contains(err.Error(), "runs again as before, at "+address) {
		t.Errorf("a start that fails: %v", err)
	}
	if m.kept != 1 || m.made.Listen != address || !a.running || !files.Equal([]byte(a.text()), []byte(before)) || !files.Equal([]byte(a.seen), []byte(before)) {
		t.Errorf("started %d times as before, made for %s, running %t; it runs with\n%s\nand the file holds\n%s", m.kept, m.made.Listen, a.running, a.seen, a.text())
	}
	a.starts = func(string) error { return nil }
	if err := wrote(t, p, c...); err != nil || m.made.Listen != "127.0.0.1:5007" || !strings.Contains(a.seen, "5007") {
		t.Errorf("mended: %v; it listens at %s with\n%s", err, m.made.Listen, a.seen)
	}
	m.renew, a.running = errors.New("neither starts"), true
	p.registry.Run.Listen = "127.0.0.1:5008"
	c = settled(t, p)
	m.failing = func() { a.running = false }
	if err := wrote(t, p, c...); !errors.Is(err, m.renew) || !a.running || m.kept != 2 {
		t.Errorf("%v; running %t, started %d times as before", err, a.running, m.kept)
	}
}

// What does not run is started as the mode says, whoever starts it.
func TestOfARegistryThatDoesNotRunNothingIsComparedOfHowItRuns(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	p.process = &maker{actor: a}
	for _, c := range settled(t, p) {
		for _, path := range changed(c) {
			if strings.HasPrefix(path, "values.run.") {
				t.Errorf("%s is compared with nothing", path)
			}
		}
	}
	p.process = a // which knows nothing of how it runs
	want, _, err := p.Normalize(schema.State{})
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := want.Resources[0].Spec.(*schema.Settings)
	if slices.ContainsFunc(spec.Values, func(v schema.Value) bool { return providers.OfRun(v.Path) }) {
		t.Errorf("somebody else runs it, and the mode says how: %+v", spec.Values)
	}
}

// downed is an actor that somebody takes down while it is restarted.
type downed struct{ *actor }

func (d downed) Start(context.Context) error {
	return fmt.Errorf("%w: start it with ocisync up", providers.ErrDown)
}

func TestAZotThatIsTakenDownMeanwhileStaysDownWithWhatWasWritten(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	p.process = downed{a}
	if err := wrote(t, p, makes(schema.KindNamespace, "n", &schema.Namespace{}), makes(schema.KindRetention, "n", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}})); err != nil {
		t.Errorf("the registry is down, and has what was written: %v", err)
	}
	if a.running || !strings.Contains(a.text(), "mostRecentlyPushedCount") {
		t.Errorf("running %t; the file holds\n%s", a.running, a.text())
	}
}

// TestAMovedDirectoryIsServedWithItsOwnFiles: the configuration in it names those of
// where it was made.
func TestAMovedDirectoryIsServedWithItsOwnFiles(t *testing.T) {
	run := func(data string) string {
		t.Helper()
		p, err := New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: data}}, nil, nil, nil, HashCost(4))
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Launch(t.Context())
		if err == nil {
			err = p.BeforeStart(t.Context(), l.Face)
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(p.paths.config)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	former, now := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "data")
	text := run(former)
	more := strings.Replace(text, `"level": "info"`, `"level": "info", "output": "/var/log/zot.log", "audit": "`+former+`/audit.log"`, 1)
	more = strings.Replace(more, `"rootDirectory"`, `"subPaths": {"/sub": {"rootDirectory": "`+former+`/./sub/"}}, "rootDirectory"`, 1)
	if err := os.WriteFile(filepath.Join(former, "config.json"), []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(former, now); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.ReplaceAll(strings.ReplaceAll(more, "/./sub/", "/sub"), former, now), strings.TrimRight(run(now), " \n")+"\n"); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := os.Stat(former); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where it was is something again: %v", err)
	}
	// One that names somebody else's accounts was not moved for that.
	elsewhere := filepath.Join(filepath.Dir(former), "theirs")
	theirs := strings.ReplaceAll(run(now), now, elsewhere)
	if err := os.WriteFile(filepath.Join(now, "config.json"), []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(theirs, filepath.Join(elsewhere, "htpasswd"), filepath.Join(now, "htpasswd"), 1)
	if d := cmp.Diff(strings.TrimRight(want, " \n"), strings.TrimRight(run(now), " \n")); d != "" {
		t.Errorf("what was never moved (-want +got):\n%s", d)
	}
}
