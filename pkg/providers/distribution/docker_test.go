//go:build integration

package distribution_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
	"github.com/ocisync/ocisync/schema"
)

// container is Distribution in a container, as its provider sees it.
type container struct{ *runtime.Container }

// Status implements [providers.Process].
func (c container) Status(ctx context.Context) (providers.ProcessStatus, error) {
	s, err := c.Container.Status(ctx)
	return providers.ProcessStatus{Running: s.Running, ID: s.ID, Started: s.Started, Detail: s.Detail}, err
}

// network is that of all containers here: an engine has few to give away.
const network = "ocisync-suite"

// inContainer is a running Distribution in a container of its own.
func inContainer(t testing.TB, image string, number int32) (site, container) {
	t.Helper()
	address, tokens := freeAddress(t), freeAddress(t)
	_, port, _ := strings.Cut(tokens, ":")
	s := site{registry: schema.Registry{
		Type: schema.TypeDistribution, URL: "http://" + address,
		Run:   &schema.Run{Driver: schema.DriverDocker, Image: image, Data: filepath.Join(t.TempDir(), "data"), Listen: address, Network: network},
		Token: &schema.TokenService{URL: "http://localhost:" + port, Listen: tokens},
	}}
	var provider *distribution.Provider
	box, err := runtime.NewContainer(runtime.Options{
		Mode: fmt.Sprintf("suite-%d", number), Registry: s.registry,
		Launch: func(ctx context.Context) (runtime.Launch, error) {
			l, err := provider.Launch(ctx)
			out := runtime.Launch{Args: l.Args, Env: l.Env, Port: l.Port, Grace: l.Grace}
			for _, m := range l.Mounts {
				out.Mounts = append(out.Mounts, runtime.Mount(m))
			}
			return out, err
		},
		BeforeStart: func(ctx context.Context, face string) error { return provider.BeforeStart(ctx, face) },
		Ready: func(ctx context.Context, _ string) error {
			rt, err := oci.Transport(schema.TLS{})
			if err != nil {
				return err
			}
			rt.DisableKeepAlives = true
			if _, err = oci.Ping(ctx, s.registry.URL, rt); errors.Is(err, providers.ErrUnauthorized) {
				return nil
			}
			return err
		},
		Patience: runtime.Patience{Probe: 20 * time.Millisecond, Ready: 20 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := container{box}
	s.process = c
	provider = openSite(t, s)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, c
}

func TestIntegrationDistributionPassesTheProviderSuiteInAContainer(t *testing.T) {
	_, program := enginetest.Servers(t, "../../..")
	e := enginetest.Start(t)
	const image = "ocisync.test/distribution:suite"
	e.Image(image, program)
	e.Network(network)
	var number atomic.Int32
	suite(t, func(t testing.TB) site {
		t.Helper()
		s, _ := inContainer(t, image, number.Add(1))
		return s
	})
	s, c := inContainer(t, image, number.Add(1))
	p := openSite(t, s)
	changes, verdicts := settings(t, p, level("debug"))
	if len(changes) != 1 || verdicts[0].Effect != plan.Restart {
		t.Fatalf("%+v %+v", changes, verdicts)
	}
	before, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := write(t, p, changes); err != nil {
		t.Fatal(err)
	}
	if after, err := c.Status(t.Context()); err != nil || !after.Running || !after.Started.After(before.Started) {
		t.Errorf("%+v, %v: it was not restarted", after, err)
	}
	changes, _ = settings(t, p, schema.Value{Path: "storage.s3.region", JSON: `"eu"`}) // and no bucket
	if err := write(t, p, changes); err == nil || !strings.Contains(err.Error(), "were put back and the registry runs") {
		t.Errorf("error %v", err)
	}
}
