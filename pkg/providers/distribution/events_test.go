package distribution_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

const handMadeEndpoint = `notifications:
  endpoints:
    - name: theirs # of the auditors
      url: https://audit.example.com
      headers:
        Authorization: [Bearer theirs]
`

func hooks(t *testing.T, events ...string) schema.State {
	t.Helper()
	st := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindWebhook, Name: "team/ci"}, Spec: &schema.Webhook{
			URL: new("https://ci.example.com"), Events: schema.NewSet(events...), Auth: &schema.SecretRef{Env: providertest.SecretA},
		}},
	}}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	st.Scope = schema.ScopeOf(st.Kinds()...)
	return st
}

func TestTheFirstWebhookAddsAnEndpointAndTheLastTakesItOut(t *testing.T) {
	for name, more := range map[string]string{"alone": "", "beside another": handMadeEndpoint} {
		t.Run(name, func(t *testing.T) {
			p, f := running(t)
			if more != "" {
				b, err := os.ReadFile(f.config)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(f.config, append(b, more...), 0o600); err != nil {
					t.Fatal(err)
				}
				f.running = false
				if err := f.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			before := f.took
			cycle := func(want int, did string, st schema.State) {
				t.Helper()
				f.did = nil
				n, err := providertest.DirectCycle(t.Context(), p, st)
				if err != nil || n != want || strings.Join(f.did, " ") != did {
					t.Fatalf("%d changes, want %d; %v; it did %v, want %q", n, want, err, f.did, did)
				}
			}
			cycle(3, "stop start", hooks(t, "push")) // namespace and webhook, the settings that come with them
			cycle(0, "", hooks(t, "push"))
			box, err := webhook.ReadInbox(webhook.InboxFile(filepath.Dir(f.config)))
			if err != nil || len(box.Hooks) != 0 || !strings.Contains(f.took, "http://"+box.Listen+"/") || !strings.Contains(f.took, "Bearer "+box.Secret) || !strings.Contains(f.took, more) {
				t.Errorf("the inbox is %+v, %v; it took %s", box, err, f.took)
			}
			live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings, schema.KindWebhook))
			if err != nil {
				t.Fatal(err)
			}
			said, err := json.Marshal(live)
			if err != nil || strings.Contains(string(said), box.Secret) || strings.Contains(string(said), "theirs") || strings.Contains(string(said), `"values.notifications.endpoints"`) != (more != "") {
				t.Errorf("what is read: %s, %v", said, err)
			}
			cycle(1, "", hooks(t, "push", "pull"))

			// somebody takes it out
			if err := os.WriteFile(f.config, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			cycle(1, "stop start", hooks(t, "push", "pull"))

			c := plan.Change{Action: plan.Delete, Key: schema.Key{Kind: schema.KindWebhook, Name: "team/ci"}}
			v, err := p.Prepare(t.Context(), []plan.Change{c})
			if err != nil || v[0].Effect != plan.Restart || v[0].Refused != "" {
				t.Errorf("the last one goes: %+v, %v", v, err)
			}
			f.did = nil
			if err := write(t, p, []plan.Change{c}); err != nil || strings.Join(f.did, " ") != "stop start" {
				t.Fatalf("it did %v, %v", f.did, err)
			}
			if strings.Contains(f.took, box.Secret) || strings.Contains(f.took, "notifications") != (more != "") || !strings.Contains(f.took, more) {
				t.Errorf("it took %s", f.took)
			}
			if _, err := os.Stat(webhook.InboxFile(filepath.Dir(f.config))); !os.IsNotExist(err) {
				t.Errorf("the inbox is left: %v", err)
			}
		})
	}
}

func TestARegistryThatCannotReachUsHasNoWebhooks(t *testing.T) {
	st := hooks(t, "push")
	r, _ := st.Get(schema.Key{Kind: schema.KindWebhook, Name: "team/ci"})
	dir := t.TempDir()
	far := &neighbour{fake: &fake{config: filepath.Join(dir, "config.yml")}, why: "its engine is far away"}
	for want, registry := range map[string]schema.Registry{
		far.why:               {Run: &schema.Run{Driver: schema.DriverDocker, Data: dir}},
		"registry.run.driver": {Files: &schema.FilePaths{Config: filepath.Join(dir, "config.yml")}, Token: &schema.TokenService{URL: "http://localhost:10"}},
	} {
		registry.Type, registry.URL = schema.TypeDistribution, "http://localhost:9"
		var process providers.Process
		if registry.Run != nil {
			process = far
		}
		p, err := distribution.New(registry, process, providertest.Secrets{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Prepare(t.Context(), []plan.Change{{Action: plan.Create, Key: r.Key, After: &r}})
		if err != nil || !strings.Contains(v[0].Refused, want) {
			t.Errorf("%s: %+v, %v", want, v, err)
		}
	}
}

// neighbour is a registry in a container, whose network has an address of this host.
type neighbour struct {
	*fake
	host, why string
}

// Host implements [providers.Neighbour].
func (n *neighbour) Host(context.Context) (address, why string, err error) {
	if n.why != "" {
		return "", n.why, nil
	}
	return n.host, "", nil
}

// TestACopiedDirectoryHasAReceiverOfItsOwn: the registry would tell the webhooks of the
// one that it was copied from.
func TestACopiedDirectoryHasAReceiverOfItsOwn(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	f := &fake{config: filepath.Join(data, "config.yml")}
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9", Run: &schema.Run{Driver: schema.DriverProcess, Binary: "x", Data: data},
	}, f, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	start := func() webhook.Inbox {
		t.Helper()
		f.running = false
		if err := p.BeforeStart(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if err := f.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, err := webhook.ReadInbox(webhook.InboxFile(data))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	start()
	if _, err := providertest.DirectCycle(t.Context(), p, hooks(t, "push")); err != nil {
		t.Fatal(err)
	}
	text := f.took
	was := start()
	if f.took != text {
		t.Errorf("of no copy: it took %s", f.took)
	}
	elsewhere := was
	elsewhere.Place = "/srv/another/ocisync/events.json"
	if err := elsewhere.Save(webhook.InboxFile(data)); err != nil {
		t.Fatal(err)
	}
	now := start()
	if now.Secret == was.Secret || strings.Contains(f.took, was.Secret) || !strings.Contains(f.took, "http://"+now.Listen+"/") || !strings.Contains(f.took, "Bearer "+now.Secret) {
		t.Errorf("the inbox is %+v; it took %s", now, f.took)
	}
	if got, err := providertest.DirectCycle(t.Context(), p, hooks(t, "push")); err != nil || got != 0 {
		t.Errorf("%d changes, %v", got, err)
	}
	if start().Secret != now.Secret {
		t.Error("the next start renews it again")
	}
}

func TestTheEndpointFollowsTheNetworkOfTheContainer(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	n := &neighbour{fake: &fake{config: filepath.Join(data, "config.yml")}}
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "http://localhost:9", Run: &schema.Run{Driver: schema.DriverDocker, Image: "x", Data: data},
	}, n, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	start := func() {
		t.Helper()
		n.running = false
		if err := p.BeforeStart(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cycle := func(want int) {
		t.Helper()
		if got, err := providertest.DirectCycle(t.Context(), p, hooks(t, "push")); err != nil || got != want {
			t.Fatalf("%d changes, want %d; %v", got, want, err)
		}
	}
	box := func(host string) webhook.Inbox {
		t.Helper()
		b, err := webhook.ReadInbox(webhook.InboxFile(data))
		if err != nil || b.Host() != host || !strings.Contains(n.took, "http://"+b.Listen+"/") || !strings.Contains(n.took, "Bearer "+b.Secret) {
			t.Fatalf("the inbox is %+v, %v; want it at %s; it took %s", b, err, host, n.took)
		}
		return b
	}
	start()
	cycle(3)
	first := box("127.0.0.1") // its network comes with its first start
	n.host = "127.0.0.2"
	start()
	if second := box("127.0.0.2"); second.Secret != first.Secret {
		t.Error("the secret is another")
	}
	cycle(0)
	n.host = "127.0.0.3" // while it runs
	cycle(1)
	box("127.0.0.3")
	cycle(0)

	// what somebody else wrote there is not put right by a start
	n.host = "127.0.0.4"
	text := strings.Replace(n.took, "Bearer ", "Bearer x", 1)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start()
	if n.took != text {
		t.Errorf("it took %s", n.took)
	}
	cycle(1)
	box("127.0.0.4")

	n.why = "its engine is far away"
	start()
	want, _, err := p.Normalize(hooks(t, "push"))
	if err != nil {
		t.Fatal(err)
	}
	live, err := p.Read(t.Context(), want.Scope)
	if err != nil {
		t.Fatal(err)
	}
	key := schema.Key{Kind: schema.KindSettings}
	changes := plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities(), Ownership: plan.Ownership{Owned: []schema.Key{key}}}).Changes
	changes = slices.DeleteFunc(changes, func(c plan.Change) bool { return c.Key != key })
	v, err := p.Prepare(t.Context(), changes)
	if err != nil || len(v) != 1 || !strings.Contains(v[0].Refused, n.why) {
		t.Errorf("%+v, %+v, %v", changes, v, err)
	}
}
