//go:build integration

package zot_test

import (
	"context"
	"debug/buildinfo"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
	"github.com/ocisync/ocisync/schema"
)

// less is a provider whose Zot does less than the table says: it is 2.1.6, for which
// the rows of later versions do not hold, or was built without search, which scans.
type less struct {
	*zot.Provider
	old, scans bool
}

func (l less) Capabilities() schema.Table {
	table := slices.Clone(l.Provider.Capabilities())
	for i, row := range table {
		switch {
		case l.old && row.Versions == ">2.1.6":
			table[i].Support, table[i].Reason = schema.Unsupported, "Zot 2.1.6"
		case !l.scans && row.Kind == schema.KindScan:
			table[i].Support, table[i].Reason = schema.Unsupported, "a Zot that was built without search"
		}
	}
	return table
}

func TestARunningZotPassesTheProviderSuite(t *testing.T) {
	servers := map[string]*server{}
	x := &tester{
		registry: func(t testing.TB) schema.Registry {
			t.Helper()
			return schema.Registry{
				Type: schema.TypeZot, URL: "http://" + porttest.Address(t),
				Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Join(t.TempDir(), "data")},
			}
		},
		process: func(t testing.TB, r schema.Registry) providers.Process {
			t.Helper()
			if s := servers[r.Run.Data]; s != nil {
				return s
			}
			config := filepath.Join(r.Run.Data, "config.json")
			s := newServer(t, r.URL[len("http://"):], func() []string { return []string{"serve", config} })
			servers[r.Run.Data] = s
			return s
		},
		wrap: func(t testing.TB, p *zot.Provider, process providers.Process) providers.Provider {
			t.Helper()
			before(t, p)
			if err := process.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			return asBuilt(t, p)
		},
	}
	providertest.Run(t, x.harness())
}

// asBuilt is the provider with the table of the real Zot.
func asBuilt(t testing.TB, p *zot.Provider) providers.Provider {
	t.Helper()
	info, err := buildinfo.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	scans := slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), "search")
	})
	return less{Provider: p, old: !later(t), scans: scans}
}

// contained is a Zot in a container as its provider sees it.
type contained struct{ *runtime.Container }

func (c contained) Status(ctx context.Context) (providers.ProcessStatus, error) {
	s, err := c.Container.Status(ctx)
	return providers.ProcessStatus{Running: s.Running, ID: s.ID, Started: s.Started, Detail: s.Detail}, err
}

func TestAZotInAContainerPassesTheProviderSuite(t *testing.T) {
	const image = "ocisync.test/zot-suite" // no tag: it tells no version
	const network = "ocisync-zot-suite"    // of all: an engine has few to give away
	e := enginetest.Start(t)
	e.Image(image, binary(t))
	e.Network(network)
	containers := map[string]contained{}
	x := &tester{
		registry: func(t testing.TB) schema.Registry {
			t.Helper()
			return schema.Registry{
				Type: schema.TypeZot, URL: "http://" + porttest.Address(t),
				Run: &schema.Run{Driver: schema.DriverDocker, Image: image, Data: filepath.Join(t.TempDir(), "data"), Network: network},
			}
		},
		wrap: func(t testing.TB, p *zot.Provider, process providers.Process) providers.Provider {
			t.Helper()
			if err := process.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			return asBuilt(t, p)
		},
	}
	x.process = func(t testing.TB, r schema.Registry) providers.Process {
		t.Helper()
		if c, ok := containers[r.Run.Data]; ok {
			return c
		}
		launcher, err := zot.New(r, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
		if err != nil {
			t.Fatal(err)
		}
		c, err := runtime.NewContainer(runtime.Options{
			Mode: "m", Instance: strconv.Itoa(len(containers)), Registry: r,
			Launch: func(ctx context.Context) (runtime.Launch, error) {
				l, err := launcher.Launch(ctx)
				out := runtime.Launch{Args: l.Args, Env: l.Env, Port: l.Port, Face: l.Face, Grace: time.Second}
				for _, m := range l.Mounts {
					out.Mounts = append(out.Mounts, runtime.Mount(m))
				}
				return out, err
			},
			BeforeStart: launcher.BeforeStart,
			Ready: func(ctx context.Context, _ string) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+"/v2/", nil)
				if err != nil {
					return err
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return err
				}
				return resp.Body.Close()
			},
			Patience: runtime.Patience{Probe: 10 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Down(context.Background()); err != nil {
				t.Error(err)
			}
		})
		containers[r.Run.Data] = contained{c}
		return containers[r.Run.Data]
	}
	h := x.harness()
	h.Values["audit/log"] = providertest.Values{Valid: `"/dev/stdout"`, Other: `"/dev/stderr"`} // a container has no other place that all have
	providertest.Run(t, h)
}
