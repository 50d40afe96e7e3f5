//go:build integration

package distribution_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	reference "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/access"
	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

// binary is Distribution's, which make servers builds.
func binary(t testing.TB) string {
	t.Helper()
	name, err := filepath.Abs("../../../bin/servers/distribution")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Fatalf("%v; make servers builds it", err)
	}
	return name
}

// process is Distribution as a process of the test.
type process struct {
	binary, url string
	launch      providers.Launch

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{}
	started time.Time
	log     bytes.Buffer
}

func (p *process) Status(context.Context) (providers.ProcessStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := providers.ProcessStatus{Running: p.cmd != nil, Started: p.started}
	if s.Running {
		s.ID = fmt.Sprint(p.cmd.Process.Pid)
	}
	return s, nil
}

func (p *process) Start(ctx context.Context) error {
	p.mu.Lock()
	if p.cmd != nil {
		p.mu.Unlock()
		return nil
	}
	cmd := exec.Command(p.binary, p.launch.Args...)
	cmd.Env = p.launch.Env
	p.log.Reset()
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.started, p.ended = cmd, time.Now(), ended
	p.mu.Unlock()
	go func() {
		cmd.Wait() //nolint:errcheck // it was told to end, or its log says why
		p.mu.Lock()
		p.cmd = nil
		p.mu.Unlock()
		close(ended)
	}()
	rt := &http.Transport{DisableKeepAlives: true}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-ended:
			return errors.New("it died: " + p.log.String())
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/v2/", nil)
		if err != nil {
			return err
		}
		if resp, err := rt.RoundTrip(req); err == nil {
			resp.Body.Close()
			return nil
		}
	}
	return errors.New("it did not get ready")
}

func (p *process) Stop(context.Context) error {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-ended
	return nil
}

func (p *process) Log(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(p.log.Bytes())), nil
}

// launched is a running Distribution, launched by its provider; what is said of
// it otherwise comes in as a function.
func launched(t testing.TB, otherwise ...func(*site)) (site, *process) {
	t.Helper()
	address, tokens := porttest.Address(t), porttest.Address(t)
	_, port, _ := net.SplitHostPort(tokens)
	p := &process{binary: binary(t), url: "http://" + address}
	s := site{process: p, registry: schema.Registry{
		Type: schema.TypeDistribution, URL: p.url, Run: &schema.Run{Driver: schema.DriverProcess, Binary: p.binary, Data: filepath.Join(t.TempDir(), "data")},
		Token: &schema.TokenService{URL: "http://localhost:" + port, Listen: tokens},
	}}
	for _, change := range otherwise {
		change(&s)
	}
	provider := openSite(t, s)
	var err error
	if p.launch, err = provider.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := provider.BeforeStart(t.Context(), p.launch.Face); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(context.Background()) }) //nolint:errcheck // the test is over
	return s, p
}

func openSite(t testing.TB, s site) *distribution.Provider {
	t.Helper()
	p, err := distribution.New(s.registry, s.process, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serveTokens runs the site's token service until the test ends.
func serveTokens(t testing.TB, s site) {
	t.Helper()
	r, err := openSite(t, s).TokenService(t.Context(), registry.Options{Command: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, r.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestIntegrationDistributionPassesTheProviderSuiteWhileItRuns(t *testing.T) {
	suite(t, func(t testing.TB) site {
		t.Helper()
		s, _ := launched(t)
		return s
	})
}

// decisions are accounts and rules, and what they must come to: one table for
// every registry that ocisync gives rights to.
func decisions(t testing.TB) (objects []plan.Change, table []decision) {
	t.Helper()
	add := func(kind schema.Kind, name string, spec schema.Spec) {
		key := schema.Key{Kind: kind, Name: name}
		objects = append(objects, plan.Change{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: spec}})
	}
	password := &schema.SecretRef{Env: providertest.SecretA}
	for _, user := range []string{"root", "dev", "lead", "guest"} {
		admin := user == "root"
		add(schema.KindUser, user, &schema.User{Admin: &admin, Password: password})
	}
	add(schema.KindGroup, "leads", &schema.Group{Users: schema.NewSet("lead")})
	rights := func(r schema.Rights) *schema.Rights { return &r }
	for name, rule := range map[string]*schema.Access{
		"open":        {Anonymous: rights(schema.Pull), Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push})},
		"team":        {Authenticated: rights(schema.Pull), Groups: schema.NewGrants(schema.Grant{Name: "leads", Rights: schema.Pull | schema.Push | schema.Delete})},
		"team/secret": {Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull})},
		"closed":      nil,
	} {
		add(schema.KindNamespace, name, &schema.Namespace{})
		if rule != nil {
			add(schema.KindAccess, name, rule)
		}
	}
	for name, grants := range map[string]schema.Grants{
		"ci":          schema.NewGrants(schema.Grant{Name: "open", Rights: schema.Pull | schema.Push}, schema.Grant{Name: "team/secret", Rights: schema.Pull}),
		"team/deploy": schema.NewGrants(schema.Grant{Name: "team", Rights: schema.Pull | schema.Delete}),
	} {
		add(schema.KindRobot, name, &schema.Robot{Secret: &schema.RobotSecret{Value: password}, Access: grants})
	}
	for user, rights := range map[string]map[string]string{
		"":                  {"open": "pull"},
		"guest":             {"open": "pull", "team": "pull"},
		"dev":               {"open": "pull push", "team": "pull", "team/secret": "pull"},
		"lead":              {"open": "pull", "team": "pull push delete"},
		"root":              {"open": "pull push delete", "team": "pull push delete", "team/secret": "pull push delete", "closed": "pull push delete", "nowhere": "pull push delete"},
		"robot$ci":          {"open": "pull push", "team/secret": "pull"},
		"robot$team+deploy": {"open": "pull", "team": "pull delete"},
	} {
		for _, ns := range []string{"open", "team", "team/secret", "closed", "nowhere"} {
			for _, action := range []string{"pull", "push", "delete"} {
				d := decision{user: user, namespace: ns, action: action, allowed: strings.Contains(rights[ns], action)}
				if user == "robot$ci" && ns == "team" && action == "pull" { // what authenticated gives
					d.kind, d.field, d.emulated = schema.KindRobot, "access", true
				}
				table = append(table, d)
			}
		}
	}
	return objects, table
}

// fixed are a namespace of immutable tags, and what that must come to.
func fixed() (objects []plan.Change, table []decision) {
	for kind, spec := range map[schema.Kind]schema.Spec{
		schema.KindNamespace: &schema.Namespace{},
		schema.KindAccess:    &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push | schema.Delete})},
		schema.KindImmutable: &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "**"}}},
	} {
		key := schema.Key{Kind: kind, Name: "fixed"}
		objects = append(objects, plan.Change{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: spec}})
	}
	d := decision{namespace: "fixed", kind: schema.KindImmutable}
	for _, c := range []struct {
		user, action      string
		allowed, emulated bool
	}{
		{"dev", "pull", true, true}, {"dev", "push", true, true}, {"dev", "overwrite", false, false}, {"dev", "delete", false, true},
		{"root", "push", true, true}, {"root", "overwrite", false, true}, {"guest", "pull", false, false}, {"guest", "overwrite", false, false},
	} {
		d.user, d.action, d.allowed, d.emulated = c.user, c.action, c.allowed, c.emulated
		table = append(table, d)
	}
	return objects, table
}

// decision is what one must be told who does something.
type decision struct {
	user, namespace, action string
	allowed                 bool
	// kind and field name a row of the table of capabilities. A registry that
	// emulates what it speaks of decides as emulated says.
	kind     schema.Kind
	field    string
	emulated bool
}

// by is what is to be expected of a registry, and the reason where it has one
// to decide otherwise.
func (d decision) by(table schema.Table) (allowed bool, why string) {
	if row := table.Find(d.kind, d.field); d.kind != "" && row.Field == d.field && row.Support == schema.Emulated && d.emulated != d.allowed {
		return d.emulated, row.Reason
	}
	return d.allowed, ""
}

func TestIntegrationEveryRegistryDecidesAlike(t *testing.T) {
	objects, table := decisions(t)
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	for registryName, start := range map[string]func(*testing.T) (providers.Provider, string){
		"Zot": func(t *testing.T) (providers.Provider, string) {
			t.Helper()
			program, _ := enginetest.Zot(t, "../../..")
			r := schema.Registry{Type: schema.TypeZot, URL: "http://" + porttest.Address(t), Run: &schema.Run{Driver: schema.DriverProcess, Binary: program, Data: filepath.Join(t.TempDir(), "data")}}
			z := &process{binary: program, url: r.URL}
			p, err := zot.New(r, z, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost), zot.Outside(access.Deny))
			if err != nil {
				t.Fatal(err)
			}
			if z.launch, err = p.Launch(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(p.BeforeStart(t.Context(), z.launch.Face), z.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { z.Stop(context.Background()) }) //nolint:errcheck // the test is over
			return p, r.URL
		},
		"Distribution": func(t *testing.T) (providers.Provider, string) {
			t.Helper()
			s, _ := launched(t)
			serveTokens(t, s)
			return openSite(t, s), s.registry.URL
		},
		"embedded": func(t *testing.T) (providers.Provider, string) {
			t.Helper()
			r := schema.Registry{Type: schema.TypeDistribution, URL: "http://" + porttest.Address(t), Run: &schema.Run{Driver: schema.DriverEmbedded, Data: filepath.Join(t.TempDir(), "data")}}
			p, err := embedded.New(r, providertest.Secrets{}, nil, embedded.HashCost(bcrypt.MinCost))
			if err != nil {
				t.Fatal(err)
			}
			served, err := registry.Open(t.Context(), registry.Options{Data: r.Run.Data, Listen: strings.TrimPrefix(r.URL, "http://")})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- served.Serve(ctx) }()
			t.Cleanup(func() {
				stop()
				if err := errors.Join(<-done, served.Close()); err != nil {
					t.Error(err)
				}
			})
			return p, r.URL
		},
	} {
		t.Run(registryName, func(t *testing.T) {
			p, url := start(t)
			objects, table := slices.Clone(objects), slices.Clone(table)
			if row := p.Capabilities().Find(schema.KindImmutable, ""); row.Support == schema.Unsupported {
				t.Logf("nothing is asked of immutable tags: %s", row.Reason)
			} else {
				more, rows := fixed()
				objects, table = append(objects, more...), append(table, rows...)
			}
			if err := p.Write(t.Context(), objects, func(k schema.Key, err error) {
				if err != nil {
					t.Errorf("%s: %v", k, err)
				}
			}); err != nil {
				t.Fatal(err)
			}
			host := strings.TrimPrefix(url, "http://")
			image := ociImage(t)
			as := func(user string) []remote.Option {
				auth := authn.Anonymous
				if user != "" {
					auth = &authn.Basic{Username: user, Password: password}
				}
				return []remote.Option{remote.WithAuth(auth), remote.WithContext(t.Context())}
			}
			for i, d := range table {
				ref, err := reference.NewTag(fmt.Sprintf("%s/%s/app:%s-%d", host, d.namespace, d.action, i), reference.Insecure)
				if err != nil {
					t.Fatal(err)
				}
				if d.action != "push" {
					if err := remote.Write(ref, image, as("root")...); err != nil {
						t.Fatalf("root pushes %s: %v", ref, err)
					}
				}
				switch d.action {
				case "pull":
					var got v1.Image
					if got, err = remote.Image(ref, as(d.user)...); err == nil {
						_, err = got.Digest()
					}
				case "push", "overwrite": // another image, so that it begins with content that is not there
					err = remote.Write(ref, ociImage(t), as(d.user)...)
				case "delete":
					err = remote.Delete(ref, as(d.user)...)
				}
				allowed, why := d.by(p.Capabilities())
				if refused := refusedBy(err); (err == nil) != allowed || err != nil && !refused {
					t.Errorf("%q %s in %s: %v, want allowed %v (%s)", d.user, d.action, d.namespace, err, allowed, why)
				}
			}
		})
	}
}

// ociImage is one of the media types that Zot takes too.
func ociImage(t *testing.T) v1.Image {
	t.Helper()
	image, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	image = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range layers {
		if image, err = mutate.Append(image, mutate.Addendum{Layer: l, MediaType: types.OCILayer}); err != nil {
			t.Fatal(err)
		}
	}
	return image
}

func refusedBy(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden)
}

func TestIntegrationKeysRotateWhileClientsPush(t *testing.T) {
	s, p := launched(t)
	serveTokens(t, s)
	provider := openSite(t, s)
	objects, _ := decisions(t)
	if err := provider.Write(t.Context(), objects, func(k schema.Key, err error) {
		if err != nil {
			t.Fatalf("%s: %v", k, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(s.registry.URL, "http://")
	var clients sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	pushed := make([]int, 8)
	for i := range pushed {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				ref, err := reference.NewTag(fmt.Sprintf("%s/team/app-%d:%d", host, i, n), reference.Insecure)
				if err != nil {
					t.Error(err)
					return
				}
				image, err := random.Image(2000, 2)
				if err == nil {
					err = remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "lead", Password: password}))
				}
				if err != nil {
					t.Errorf("client %d, push %d: %v", i, n, err)
					return
				}
				pushed[i]++
			}
		})
	}
	place, err := distribution.PlaceOf(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	// what one could have signed with the first key, ten minutes ago
	before, err := token.OpenKeys(place.Keys(), place.JWKS(), func() time.Time { return time.Now().Add(-10 * time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	scope := []token.Scope{{Type: "repository", Name: "team/app-0", Actions: []string{"pull"}}}
	old, _, err := before.Token(place.Name, "lead", scope)
	if err != nil {
		t.Fatal(err)
	}
	leaked, err := token.OpenKeys(place.Keys(), place.JWKS(), nil)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := provider.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := provider.Rotate(t.Context()); err == nil || !strings.Contains(err.Error(), "restart it") {
		t.Errorf("a key signs that the registry does not know: %v", err)
	}
	time.Sleep(time.Second)
	stop()
	clients.Wait()
	all := 0
	for _, n := range pushed {
		all += n
	}
	if all < 16 {
		t.Errorf("only %d pushes", all)
	}
	t.Logf("%d pushes by 8 clients, none failed", all)
	if code := tags(t, s.registry.URL, old); code != http.StatusUnauthorized {
		t.Errorf("a token of the former key is taken ten minutes later: %d", code)
	}
	fresh, _, err := leaked.Token(place.Name, "lead", scope)
	if err != nil {
		t.Fatal(err)
	}
	if code := tags(t, s.registry.URL, fresh); code != http.StatusOK {
		t.Errorf("a token of the former key that lives is refused: %d", code)
	}
	// six minutes later the key is forgotten, and a restart ends it
	later, err := token.OpenKeys(place.Keys(), place.JWKS(), func() time.Time { return time.Now().Add(token.Life + 2*token.Leeway) })
	if err == nil {
		err = later.Tidy()
	}
	if err := errors.Join(err, p.Stop(t.Context()), p.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	if code := tags(t, s.registry.URL, fresh); code != http.StatusUnauthorized {
		t.Errorf("the former key is good after a restart: %d", code)
	}
}

// tags asks for the tags of a repository with a token.
func tags(t *testing.T, url, text string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v2/team/app-0/tags/list", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+text)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestIntegrationTheRegistryTakesEverySetting starts Distribution with a value
// for each key that needs nothing else, and sees that it knows them: what it
// does not know it ignores without a word, so that the keys were taken from its
// source, and this is that their types are right.
func TestIntegrationTheRegistryTakesEverySetting(t *testing.T) {
	s, _ := launched(t)
	p := openSite(t, s)
	values := []schema.Value{
		{Path: "log.level", JSON: `"debug"`}, {Path: "log.formatter", JSON: `"json"`}, {Path: "log.fields.service", JSON: `"registry"`},
		{Path: "log.reportcaller", JSON: `true`}, {Path: "log.accesslog.disabled", JSON: `true`},
		{Path: "log.hooks", JSON: `[{"type":"mail","disabled":true,"levels":["panic"],"options":{"from":"a@example.com","smtp":{"addr":"x:25","insecure":true},"to":["b@example.com"]}}]`},
		{Path: "storage.filesystem.maxthreads", JSON: `50`}, {Path: "storage.redirect.disable", JSON: `true`},
		{Path: "storage.cache.blobdescriptor", JSON: `"inmemory"`}, {Path: "storage.cache.blobdescriptorsize", JSON: `5000`}, {Path: "storage.tag.concurrencylimit", JSON: `4`},
		{Path: "storage.maintenance.uploadpurging.enabled", JSON: `true`}, {Path: "storage.maintenance.uploadpurging.age", JSON: `"100h"`},
		{Path: "storage.maintenance.uploadpurging.interval", JSON: `"24h"`}, {Path: "storage.maintenance.uploadpurging.dryrun", JSON: `false`},
		{Path: "http.draintimeout", JSON: `"3s"`}, {Path: "http.headers.X-Content-Type-Options", JSON: `["nosniff"]`}, {Path: "http.relativeurls", JSON: `true`},
		{Path: "http.net", JSON: `"tcp"`}, {Path: "http.debug.addr", JSON: `"127.0.0.1:0"`}, {Path: "http.debug.prometheus.enabled", JSON: `true`},
		{Path: "http.debug.prometheus.path", JSON: `"/metrics"`}, {Path: "http.http2.disabled", JSON: `true`}, {Path: "http.h2c.enabled", JSON: `false`},
		{Path: "health.storagedriver.enabled", JSON: `true`}, {Path: "health.storagedriver.interval", JSON: `"10s"`}, {Path: "health.storagedriver.threshold", JSON: `3`},
		{Path: "health.file", JSON: `[{"file":"/nowhere","interval":"10s","threshold":1}]`}, {Path: "health.tcp", JSON: `[]`},
		{Path: "catalog.maxentries", JSON: `500`}, {Path: "tags.maxtags", JSON: `500`}, {Path: "policy.repository.classes", JSON: `["image"]`},
		{Path: "validation.disabled", JSON: `false`}, {Path: "validation.manifests.urls.allow", JSON: `["^https://"]`}, {Path: "validation.manifests.urls.deny", JSON: `["^http://"]`},
		{Path: "validation.manifests.indexes.platforms", JSON: `"list"`}, {Path: "validation.manifests.indexes.platformlist", JSON: `[{"architecture":"amd64","os":"linux"}]`},
	}
	for i, v := range values {
		var err error
		if values[i].JSON, err = schema.CanonicalJSON([]byte(v.JSON)); err != nil {
			t.Fatal(err)
		}
	}
	changes, verdicts := settings(t, p, values...)
	if len(verdicts) != 1 || verdicts[0].Refused != "" || verdicts[0].Effect != plan.Restart {
		t.Fatalf("%+v", verdicts)
	}
	if err := write(t, p, changes); err != nil {
		t.Fatal(err)
	}
	if changes, _ := settings(t, p, values...); len(changes) != 0 {
		t.Errorf("a second plan says %+v", changes)
	}
}

func TestIntegrationSettingsThatDoNotComeUpArePutBack(t *testing.T) {
	s, running := launched(t)
	p := openSite(t, s)
	before, err := os.ReadFile(running.launch.Args[1])
	if err != nil {
		t.Fatal(err)
	}
	changes, _ := settings(t, p, schema.Value{Path: "storage.s3.region", JSON: `"eu"`}) // and no bucket
	err = write(t, p, changes)
	if err == nil || !strings.Contains(err.Error(), "were put back and the registry runs") {
		t.Errorf("error %v", err)
	}
	if after, err := os.ReadFile(running.launch.Args[1]); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%v: config.yml is another", err)
	}
	if st, err := running.Status(t.Context()); err != nil || !st.Running {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestIntegrationOcisyncReachesItsOwnNamespaceAlone: with its keys on the
// registry's host, and with a login from elsewhere.
func TestIntegrationOcisyncReachesItsOwnNamespaceAlone(t *testing.T) {
	s, _ := launched(t)
	serveTokens(t, s)
	p := openSite(t, s)
	objects, _ := decisions(t)
	if err := p.Write(t.Context(), objects, func(k schema.Key, err error) {
		if err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	away := s
	away.process = nil
	away.registry.Run = nil
	away.registry.Login = &schema.Login{User: new("root"), Password: &schema.SecretRef{Env: providertest.SecretA}}
	for name, s := range map[string]site{"on the host": s, "elsewhere": away} {
		p := openSite(t, s)
		rt, release, err := p.Transport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		store, err := oci.NewStore(oci.Options{URL: s.registry.URL, Transport: rt}, "m")
		if err != nil {
			t.Fatal(err)
		}
		had, err := store.Load(t.Context())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: %v", name, err)
		}
		want := []byte(name)
		if err := store.Save(t.Context(), want, had); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := store.Load(t.Context()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		ref, err := reference.NewTag(strings.TrimPrefix(s.registry.URL, "http://")+"/team/app:1", reference.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		image, err := random.Image(100, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, image, remote.WithTransport(rt)); name == "on the host" && !refusedBy(err) {
			t.Errorf("%s: ocisync itself pushes to a namespace of others: %v", name, err)
		}
		st, err := p.Read(t.Context(), schema.Scope{Repositories: []string{"*"}})
		if err != nil || len(st.Repositories) == 0 || st.Repositories[0] != (schema.RepositoryInfo{Name: "ocisync/state", Tags: 1}) {
			t.Errorf("%s: %+v, %v", name, st.Repositories, err)
		}
		users, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser, schema.KindSettings))
		if err != nil || len(users.Resources) < 4 {
			t.Errorf("%s: %+v, %v", name, users, err)
		}
		release()
	}
}

// TestIntegrationRetentionAndCollection: tags that no rule keeps go through the
// registry, their content by its own program while it takes no pushes, and what
// is tagged can be pulled all the while.
func TestIntegrationRetentionAndCollection(t *testing.T) {
	s, p := launched(t)
	serveTokens(t, s)
	provider := openSite(t, s)
	objects, _ := decisions(t)
	retained := schema.Key{Kind: schema.KindRetention, Name: "team"}
	objects = append(objects,
		plan.Change{Action: plan.Create, Key: retained, After: &schema.Resource{Key: retained, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: 2}}}}},
		plan.Change{Action: plan.Create, Key: schema.Key{Kind: schema.KindGC}, After: &schema.Resource{Key: schema.Key{Kind: schema.KindGC}, Spec: &schema.GC{Untagged: new(true)}}})
	if err := provider.Write(t.Context(), objects, func(k schema.Key, err error) {
		if err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	root := remote.WithAuth(&authn.Basic{Username: "root", Password: password})
	host := strings.TrimPrefix(s.registry.URL, "http://")
	tag := func(repository, tag string) reference.Tag {
		ref, err := reference.NewTag(host+"/"+repository+":"+tag, reference.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	push := func(ref reference.Tag) v1.Image {
		image, err := random.Image(10_000, 1)
		if err == nil {
			err = remote.Write(ref, image, root)
		}
		if err != nil {
			t.Fatal(err)
		}
		return image
	}
	for i := range 4 {
		push(tag("team/app", fmt.Sprint(i)))
		push(tag("team/secret/app", fmt.Sprint(i))) // whose namespace has no rule
		time.Sleep(20 * time.Millisecond)
	}
	subject, err := push(tag("team/app", "3")).Digest() // the newest by far
	if err != nil {
		t.Fatal(err)
	}
	push(tag("team/app", strings.Replace(subject.String(), ":", "-", 1)))
	run := func(job string, dry bool) providers.JobReport {
		t.Helper()
		report, err := provider.Run(t.Context(), job, dry)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	left := func(repository string) string {
		t.Helper()
		list, err := remote.List(tag(repository, "x").Repository, root)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	fallback := strings.Replace(subject.String(), ":", "-", 1)
	for _, dry := range []bool{true, false} {
		report := run("retention", dry)
		if r := report.Retained; r == nil || r.Kept != 2 || len(r.Gone) != 2 || r.Gone[0].Name != "team/app:0" || r.Gone[0].Why == "" {
			t.Errorf("dry %v: %+v", dry, report.Retained)
		}
		if got, want := left("team/app"), map[bool]string{true: "0 1 2 3 " + fallback, false: "2 3 " + fallback}[dry]; got != want {
			t.Errorf("dry %v: tags %q, want %q", dry, got, want)
		}
	}
	if got := left("team/secret/app"); got != "0 1 2 3" {
		t.Errorf("tags of a namespace without rules: %q", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	var puller sync.WaitGroup
	puller.Go(func() { // read-only is not away: but for the moment of a restart
		for ctx.Err() == nil {
			if _, err := remote.Get(tag("team/app", "2"), root); err != nil && refusedBy(err) {
				t.Errorf("a pull is refused meanwhile: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	first := run("gc", true).Collected
	if first.Blobs < 4 || first.Bytes < 20_000 || first.Manifests == 0 {
		t.Errorf("a dry collection would take %+v", first)
	}
	before, err := p.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if second := run("gc", false).Collected; second.Blobs != first.Blobs || second.Bytes != first.Bytes {
		t.Errorf("a collection took %+v, and a dry one said %+v", second, first)
	}
	stop()
	puller.Wait()
	after, err := p.Status(t.Context())
	if err != nil || !after.Running || after.ID == before.ID {
		t.Errorf("%+v, %v: it was not restarted", after, err)
	}
	if again := run("gc", true).Collected; again.Blobs != 0 {
		t.Errorf("a second collection would take %+v", again)
	}
	if image, err := remote.Image(tag("team/app", "2"), root); err != nil {
		t.Error(err)
	} else if err := remote.Write(tag("open/copy", "2"), image, root); err != nil {
		t.Errorf("the registry takes no push after a collection: %v", err)
	}
	if changes, _ := settings(t, provider); len(changes) != 0 {
		t.Errorf("a plan after a collection says %+v", changes)
	}
	// one that was killed leaves it read-only: the plan says so
	if b, err := os.ReadFile(p.launch.Args[1]); err != nil {
		t.Error(err)
	} else if err := os.WriteFile(p.launch.Args[1], bytes.Replace(b, []byte("readonly:\n      enabled: false"), []byte("readonly:\n      enabled: true"), 1), 0o600); err != nil {
		t.Error(err)
	}
	changes, verdicts := settings(t, provider)
	if len(changes) != 1 || changes[0].Fields[0].Path != "values.storage.maintenance.readonly.enabled" || verdicts[0].Effect != plan.Restart {
		t.Errorf("%+v", changes)
	}
}
