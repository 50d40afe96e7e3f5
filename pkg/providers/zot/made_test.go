package zot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// maker is an actor that knows how it was started.
type maker struct {
	*actor
	made    *providers.Made
	wants   func() providers.Made
	renew   error
	renewed int
}

func (m *maker) Made(context.Context) (*providers.Made, error) { return m.made, nil }

func (m *maker) Renew(ctx context.Context) error {
	m.renewed++
	if m.renew != nil {
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
	m.renew = nil
	if err := wrote(t, p, c...); err != nil || m.made.Image != "zot:3" || !strings.Contains(a.text(), "5002") {
		t.Errorf("%v; it was made of %s, and the file holds\n%s", err, m.made.Image, a.text())
	}
	if c := settled(t, p); slices.ContainsFunc(c, func(c plan.Change) bool { return !c.Recorded() }) {
		t.Errorf("after it: %+v", c)
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
