//go:build integration

package distribution_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	reference "github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
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
func inContainer(t testing.TB, image string, number int32, otherwise ...func(*site)) (site, container) {
	t.Helper()
	address, tokens := porttest.Address(t), porttest.Address(t)
	_, port, _ := strings.Cut(tokens, ":")
	s := site{registry: schema.Registry{
		Type: schema.TypeDistribution, URL: "http://" + address,
		Run:   &schema.Run{Driver: schema.DriverDocker, Image: image, Data: filepath.Join(t.TempDir(), "data"), Listen: address, Network: network},
		Token: &schema.TokenService{URL: "http://localhost:" + port, Listen: tokens},
	}}
	for _, change := range otherwise {
		change(&s)
	}
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

// TestIntegrationCollectionInAContainer: by its own program in there, with the
// same content as a process, and whoever takes it down meanwhile is obeyed.
func TestIntegrationCollectionInAContainer(t *testing.T) {
	_, program := enginetest.Servers(t, "../../..")
	e := enginetest.Start(t)
	const image = "ocisync.test/distribution:gc"
	e.Image(image, program)
	e.Network(network)
	s, c := inContainer(t, image, 1)
	serveTokens(t, s)
	p := openSite(t, s)
	objects, _ := decisions(t)
	gc := schema.Key{Kind: schema.KindGC}
	objects = append(objects, plan.Change{Action: plan.Create, Key: gc, After: &schema.Resource{Key: gc, Spec: &schema.GC{Untagged: new(true)}}})
	if err := write(t, p, objects); err != nil {
		t.Fatal(err)
	}
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	root := remote.WithAuth(&authn.Basic{Username: "root", Password: password})
	push := func(name string) error {
		ref, err := reference.NewTag(strings.TrimPrefix(s.registry.URL, "http://")+"/team/"+name, reference.Insecure)
		if err != nil {
			return err
		}
		image, err := random.Image(10_000, 1)
		if err != nil {
			return err
		}
		return remote.Write(ref, image, root)
	}
	for range 2 { // the first loses its tag
		if err := push("app:1"); err != nil {
			t.Fatal(err)
		}
	}
	before, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false, true} {
		report, err := p.Run(t.Context(), "gc", dry)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("dry %v: %+v", dry, report.Collected)
		switch got := report.Collected; {
		case before.ID == "" && got.Blobs != 0:
			t.Errorf("a second collection would take %+v", got)
		case before.ID != "" && (got.Blobs != 3 || got.Bytes < 10_000 || got.Manifests != 1):
			t.Errorf("dry %v: %+v", dry, got)
		}
		if !dry {
			if after, err := c.Status(t.Context()); err != nil || !after.Running || after.ID == before.ID {
				t.Errorf("%+v, %v: it was not restarted", after, err)
			}
			before.ID = ""
		}
	}
	if err := push("app:2"); err != nil {
		t.Errorf("a push after a collection: %v", err)
	}
	// who takes it down meanwhile: the program ends with its container
	done := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			if err := c.Command(context.Background(), []string{"garbage-collect", filepath.Join(s.registry.Run.Data, "config.yml"), "--dry-run"}, io.Discard, io.Discard); err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(300 * time.Millisecond)
	if err := c.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Logf("what ran in it: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("what ran in it goes on")
	}
	if _, err := p.Run(t.Context(), "gc", false); err == nil || !strings.Contains(err.Error(), "ocisync up") {
		t.Errorf("without a container: %v", err)
	}
	if now, err := c.Status(t.Context()); err != nil || now.ID != "" {
		t.Errorf("%+v, %v: it is there again", now, err)
	}
}

// TestIntegrationAccountsOfAFileHoldInAContainer: it sees the file by the same
// inode, and so each change of it.
func TestIntegrationAccountsOfAFileHoldInAContainer(t *testing.T) {
	_, program := enginetest.Servers(t, "../../..")
	e := enginetest.Start(t)
	const image = "ocisync.test/distribution:file"
	e.Image(image, program)
	e.Network(network)
	s, c := inContainer(t, image, 1, withFile)
	p := openSite(t, s)
	before, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := schema.Key{Kind: schema.KindUser, Name: "dev"}
	lists := func() int {
		t.Helper()
		password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.registry.URL+"/v2/_catalog", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("dev", password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for range 3 {
		if err := write(t, p, []plan.Change{create(schema.KindUser, "dev", &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}})}); err != nil {
			t.Fatal(err)
		}
		if code := lists(); code != http.StatusOK {
			t.Errorf("an account that was made: %d", code)
		}
		if err := write(t, p, []plan.Change{{Action: plan.Delete, Key: key}}); err != nil {
			t.Fatal(err)
		}
		if code := lists(); code != http.StatusUnauthorized {
			t.Errorf("an account that is gone: %d", code)
		}
	}
	if _, err := p.Read(t.Context(), schema.Scope{Repositories: []string{"*"}}); err != nil {
		t.Errorf("ocisync itself: %v", err)
	}
	if changes, _ := settings(t, p); len(changes) != 0 {
		t.Errorf("a plan says %+v", changes)
	}
	if after, err := c.Status(t.Context()); err != nil || after.ID != before.ID {
		t.Errorf("%+v, %v: it was restarted", after, err)
	}
}
