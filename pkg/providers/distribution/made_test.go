package distribution_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// maker is a process that knows how it was started.
type maker struct {
	*fake
	made   *providers.Made
	launch func() (*distribution.Provider, providers.Made)
	renew  error
	// failing is called when it does not start anew.
	failing func()
	kept    int // how often it was started as it was before
}

func (m *maker) Made(context.Context) (*providers.Made, error) { return m.made, nil }

func (m *maker) Renew(ctx context.Context) error {
	if m.renew != nil {
		if m.failing != nil {
			m.failing()
		}
		return m.renew
	}
	p, made := m.launch()
	l, err := p.Launch(ctx)
	if err != nil {
		return err
	}
	m.made = &made
	return errors.Join(m.Stop(ctx), p.BeforeStart(ctx, l.Face), m.Start(ctx))
}

func TestAnotherProgramOrPortIsAChangeThatApplyMakes(t *testing.T) {
	p, f := running(t)
	r := schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9",
		Run: &schema.Run{Driver: schema.DriverProcess, Binary: "registry", Data: strings.TrimSuffix(f.config, "/config.yml")},
	}
	m := &maker{fake: f}
	anew := func() {
		var err error
		if p, err = distribution.New(r, m, providertest.Secrets{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	m.launch = func() (*distribution.Provider, providers.Made) {
		l, err := p.Launch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p, providers.Wanted(r, l)
	}
	anew()
	_, made := m.launch()
	m.made = &made
	if c, _ := settings(t, p); len(c) != 0 {
		t.Fatalf("as it runs: %+v", c)
	}
	r.Run.Binary, r.Run.Listen = "registry3", "127.0.0.1:5007"
	r.Token = &schema.TokenService{URL: "http://localhost:10"} // where it was
	anew()
	c, v := settings(t, p)
	var paths []string
	for _, f := range c[0].Fields {
		paths = append(paths, strings.TrimPrefix(f.Path, "values."))
	}
	if got := strings.Join(paths, " "); got != "http.addr run.binary run.listen" || v[0].Effect != plan.Restart || v[0].Refused != "" {
		t.Errorf("changed %s, %+v", got, v)
	}
	before := f.took
	m.renew = errors.New("address already in use; it runs again as before")
	if err := write(t, p, c); err == nil || !strings.Contains(err.Error(), "already in use") || !strings.Contains(err.Error(), "nothing was written") {
		t.Errorf("a start that fails: %v", err)
	}
	if b, err := os.ReadFile(f.config); err != nil || string(b) != before {
		t.Errorf("%v; it was written all the same:\n%s", err, b)
	}
	m.renew, f.did = nil, nil
	if err := write(t, p, c); err != nil || m.made.Binary != "registry3" || !strings.Contains(f.took, "5007") {
		t.Errorf("%v; %+v runs with\n%s", err, m.made, f.took)
	}
	if len(f.did) != 2 {
		t.Errorf("it was restarted more than once: %v", f.did)
	}
	if c, _ := settings(t, p); len(c) != 0 {
		t.Errorf("after it: %+v", c)
	}
}

// downed is a process that somebody takes down while it is restarted.
type downed struct{ *fake }

func (d downed) Start(context.Context) error {
	return fmt.Errorf("%w: start it with ocisync up", providers.ErrDown)
}

func TestWhatIsTakenDownMeanwhileStaysDownWithWhatWasWritten(t *testing.T) {
	_, f := running(t)
	p := open(t, strings.TrimSuffix(f.config, "/config.yml"), downed{f})
	changes, _ := settings(t, p, level("debug"))
	if err := write(t, p, changes); err != nil {
		t.Errorf("the registry is down, and has what was written: %v", err)
	}
	if b, err := os.ReadFile(f.config); err != nil || !strings.Contains(string(b), "debug") || f.running {
		t.Errorf("%v, running %t:\n%s", err, f.running, b)
	}
	if changes, _ := settings(t, p, level("debug")); len(changes) != 0 {
		t.Errorf("planned again: %+v", changes)
	}
}
