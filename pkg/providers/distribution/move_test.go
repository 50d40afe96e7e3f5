package distribution_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// Keep implements [providers.Keeper]: the files are the provider's to put back.
func (m *maker) Keep(context.Context) (func(context.Context) error, error) {
	then := *m.made
	return func(ctx context.Context) error {
		m.made, m.kept = &then, m.kept+1
		return m.Start(ctx)
	}, nil
}

// TestTokensAreGivenWhereTheRegistrySendsItsClients, or an apply is not done.
func TestTokensAreGivenWhereTheRegistrySendsItsClients(t *testing.T) {
	_, f := running(t)
	r := schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Dir(f.config)},
		Token: &schema.TokenService{URL: "http://localhost:10", Listen: porttest.Address(t)},
	}
	var p *distribution.Provider
	with := func(token schema.TokenService) {
		t.Helper()
		r.Token = &token
		var err error
		if p, err = distribution.New(r, f, providertest.Secrets{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	with(*r.Token)
	// serve gives tokens until it is told to begin anew, and then as the mode has it
	refuse := error(nil)
	again, end := make(chan struct{}, 1), make(chan struct{})
	open := func() *registry.Registry {
		t.Helper()
		s, err := p.TokenService(t.Context(), registry.Options{Anew: func(_ registry.Giving, try bool) error {
			if refuse == nil && !try {
				again <- struct{}{}
			}
			return refuse
		}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	serving, ended := open(), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			ctx, stop := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- serving.Serve(ctx) }()
			last := false
			select {
			case <-again:
			case <-end:
				last = true
			}
			stop()
			if err := errors.Join(<-served, serving.Close()); err != nil {
				t.Error(err)
			}
			if last {
				return
			}
			serving = open()
		}
	}()
	defer func() { close(end); <-ended }()
	if c, _ := settings(t, p); len(c) != 0 || troubles(t, p) != "[]" {
		t.Fatalf("as it is: %+v, %s", c, troubles(t, p))
	}
	with(schema.TokenService{URL: "http://localhost:10", Listen: porttest.Address(t)})
	c, v := settings(t, p)
	if len(c) != 1 || len(c[0].Fields) != 1 || c[0].Fields[0].Path != "values.run.tokens" || v[0].Effect != plan.Live {
		t.Fatalf("another address: %+v %+v", c, v)
	}
	if text := troubles(t, p); !strings.Contains(text, "{realm tokens are given for localhost:9 at http://localhost:10, which is 127.0.0.1:") || !strings.Contains(text, " false}") {
		t.Errorf("it says %s", text)
	}
	if err := write(t, p, c); err != nil || len(f.did) != 0 {
		t.Errorf("%v; it did %q", err, f.did)
	}
	if c, _ := settings(t, p); len(c) != 0 || troubles(t, p) != "[]" {
		t.Errorf("after it: %+v, %s", c, troubles(t, p))
	}
	with(schema.TokenService{URL: "http://localhost:11", Listen: r.Token.Listen})
	refuse = errors.New("address already in use")
	c, v = settings(t, p)
	if len(c) != 1 || len(c[0].Fields) != 2 || v[0].Effect != plan.Restart {
		t.Fatalf("another URL: %+v %+v", c, v)
	}
	before := f.took
	if err := write(t, p, c); err == nil || !strings.Contains(err.Error(), "already in use") || len(f.did) != 0 {
		t.Errorf("nobody gives tokens there: %v, it did %q", err, f.did)
	}
	if b, err := os.ReadFile(f.config); err != nil || string(b) != before {
		t.Errorf("%v; it was written all the same:\n%s", err, b)
	}
	refuse = nil
	if err := write(t, p, c); err != nil || !strings.Contains(f.took, "http://localhost:11/token") {
		t.Errorf("%v; it runs with\n%s", err, f.took)
	}
	if c, _ := settings(t, p); len(c) != 0 || troubles(t, p) != "[]" {
		t.Errorf("at last: %+v, %s", c, troubles(t, p))
	}
}

// TestARegistryGoesBackToTheAddressItHad if it does not take the settings that come
// with another one.
func TestARegistryGoesBackToTheAddressItHad(t *testing.T) {
	p, f := running(t)
	r := schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9",
		Run:   &schema.Run{Driver: schema.DriverProcess, Binary: "registry", Data: filepath.Dir(f.config)},
		Token: &schema.TokenService{URL: "http://localhost:10"},
	}
	m := &maker{fake: f}
	m.launch = func() (*distribution.Provider, providers.Made) {
		l, err := p.Launch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p, providers.Wanted(r, l)
	}
	anew := func() {
		var err error
		if p, err = distribution.New(r, m, providertest.Secrets{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	anew()
	_, made := m.launch()
	m.made = &made
	before, address := f.took, m.made.Listen
	r.Run.Listen = "127.0.0.1:5007"
	anew()
	c, _ := settings(t, p, level("debug"))
	f.refuses = "debug"
	if err := write(t, p, c); err == nil || !strings.Contains(err.Error(), "it died") || strings.Contains(err.Error(), "could not be started again") {
		t.Errorf("a start that fails: %v", err)
	}
	if b, err := os.ReadFile(f.config); err != nil || string(b) != before || f.took != before || !f.running {
		t.Errorf("%v, running %t; the file says\n%s\nand it runs with\n%s", err, f.running, b, f.took)
	}
	if m.kept != 1 || m.made.Listen != address {
		t.Errorf("it was started %d times as it was before, and listens at %s", m.kept, m.made.Listen)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(f.config), "ocisync/config.former.yml")); err == nil {
		t.Error("it counts as running with what it ran with before")
	}
	m.renew = errors.New("neither starts")
	f.running = true
	c, _ = settings(t, p)
	m.failing = func() { f.running = false }
	if err := write(t, p, c); !errors.Is(err, m.renew) || !f.running || m.kept != 2 {
		t.Errorf("%v; running %t", err, f.running)
	}
}

// TestARegistryAndItsTokensDoNotSwapAddressesInAnApply: each is in the way of the
// other, and both are ocisync's. The plan says so, and what to do.
func TestARegistryAndItsTokensDoNotSwapAddressesInAnApply(t *testing.T) {
	_, f := running(t)
	first, second, third := porttest.Address(t), porttest.Address(t), porttest.Address(t)
	var p *distribution.Provider
	m := &maker{fake: f}
	with := func(listen, tokens string) {
		t.Helper()
		var err error
		if p, err = distribution.New(schema.Registry{
			Type: schema.TypeDistribution, URL: "http://localhost:9",
			Run:   &schema.Run{Driver: schema.DriverProcess, Binary: "registry", Data: filepath.Dir(f.config), Listen: listen},
			Token: &schema.TokenService{URL: "http://localhost:10", Listen: tokens},
		}, m, providertest.Secrets{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	m.launch = func() (*distribution.Provider, providers.Made) {
		return p, providers.Made{Binary: "registry", Listen: second}
	}
	m.made = &providers.Made{Binary: "registry", Listen: first}
	with(first, second)
	left := filepath.Join(filepath.Dir(f.config), "ocisync", ".keys.json-123") // of a rotation that was killed
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	serving, err := p.TokenService(t.Context(), registry.Options{Anew: func(registry.Giving, bool) error { return nil }})
	if _, there := os.Lstat(left); there == nil {
		t.Error("a copy of the private keys stays")
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serving.Serve(ctx) }()
	defer func() {
		end()
		if err := errors.Join(<-served, serving.Close()); err != nil {
			t.Error(err)
		}
	}()
	_, port, err := net.SplitHostPort(second)
	if err != nil {
		t.Fatal(err)
	}
	for what, at := range map[string]struct{ listen, tokens, says string }{
		"the registry":           {second, third, "the registry is to listen at " + second + ", where its tokens are given now"},
		"the registry, by name":  {"localhost:" + port, third, "where its tokens are given now"},
		"the registry, anywhere": {"0.0.0.0:" + port, third, "where its tokens are given now"},
		"its tokens":             {third, first, "its tokens are to be given at " + first + ", where the registry listens now"},
		"neither":                {first, third, ""},
	} {
		with(at.listen, at.tokens)
		c, v := settings(t, p)
		if len(c) != 1 || (v[0].Refused == "") != (at.says == "") || !strings.Contains(v[0].Refused, at.says) {
			t.Errorf("%s: %+v, %+v", what, c, v)
			continue
		}
		if at.says == "" {
			continue
		}
		if !strings.Contains(v[0].Refused, "ocisync down") || !strings.Contains(v[0].Refused, "ocisync up") {
			t.Errorf("%s: what to do: %s", what, v[0].Refused)
		}
		if text := troubles(t, p); !strings.Contains(text, at.says) || strings.Contains(text, "apply mends it") {
			t.Errorf("%s: health says %s", what, text)
		}
		f.did = nil
		if err := write(t, p, c); !errors.Is(err, providers.ErrConflict) || !strings.Contains(err.Error(), at.says) || len(f.did) > 0 {
			t.Errorf("%s: written all the same: %v, it did %q", what, err, f.did)
		}
	}
}
