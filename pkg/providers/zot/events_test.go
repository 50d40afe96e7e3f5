package zot

import (
	"context"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

func hookTo(name string) plan.Change {
	return makes(schema.KindWebhook, name, &schema.Webhook{URL: new("https://ci.example.com"), Events: schema.NewSet("push")})
}

func gone(name string) plan.Change {
	return plan.Change{Action: plan.Delete, Key: schema.Key{Kind: schema.KindWebhook, Name: name}}
}

// sinks puts a hand-written events section into the configuration.
func sinks(t *testing.T, a *actor, section string) {
	t.Helper()
	text := strings.Replace(a.text(), `"storage"`, `"extensions": {"events": `+section+`}, "storage"`, 1)
	if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.seen = text
}

func webhooksOf(t *testing.T, p *Provider) (names []string) {
	t.Helper()
	st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindWebhook))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range st.Resources {
		names = append(names, r.Key.Name)
	}
	return names
}

func TestTheFirstWebhookAddsASinkAndTheLastTakesItOut(t *testing.T) {
	const other = `{"type": "http",  "address": "http://10.0.0.1/", "timeout": "5s", "credentials": {"username": "me", "password": "x"}}`
	for name, section := range map[string]string{"alone": "", "beside another": `{"enable": true, "sinks": [` + other + `]}`} {
		t.Run(name, func(t *testing.T) {
			p, a := played(t, nowhere, func(string) string { return recordLoaded })
			if section != "" {
				sinks(t, a, section)
			}
			prepare := func(changes ...plan.Change) string {
				t.Helper()
				v, err := p.Prepare(t.Context(), changes)
				if err != nil {
					t.Fatal(err)
				}
				last := v[len(v)-1]
				return strings.Join(append([]string{string(last.Effect) + last.Refused}, last.Notes...), "; ")
			}
			ns := makes(schema.KindNamespace, "team", &schema.Namespace{})
			if got := prepare(ns, hookTo("team/a")); !strings.HasPrefix(got, string(plan.Restart)+"; is the first one") {
				t.Errorf("the first one: %s", got)
			}
			if err := wrote(t, p, ns, hookTo("team/a")); err != nil {
				t.Fatal(err)
			}
			box, err := webhook.ReadInbox(p.paths.inbox)
			if err != nil || !strings.HasPrefix(box.Listen, "127.0.0.1:") || len(box.Hooks) != 1 || box.Namespaces[0] != "team" {
				t.Fatalf("the inbox is %+v, %v", box, err)
			}
			if text := a.text(); a.over != 1 || !strings.Contains(text, box.Secret) || !strings.Contains(text, "http://"+box.Listen+"/") {
				t.Errorf("%d restarts, with %s", a.over, text)
			}
			if got := prepare(hookTo("team/b")); got != string(plan.Live) {
				t.Errorf("the second one: %s", got)
			}
			if err := wrote(t, p, hookTo("team/b")); err != nil || a.over != 1 {
				t.Fatalf("%d restarts, %v", a.over, err)
			}
			if got := strings.Join(webhooksOf(t, p), " "); got != "team/a team/b" {
				t.Errorf("there are %s", got)
			}
			if got := prepare(gone("team/a")); got != string(plan.Live) {
				t.Errorf("one of two goes: %s", got)
			}
			if got := prepare(gone("team/b"), gone("team/a")); !strings.HasPrefix(got, string(plan.Restart)) {
				t.Errorf("both go: %s", got)
			}
			if err := wrote(t, p, gone("team/a"), gone("team/b")); err != nil || a.over != 2 {
				t.Fatalf("%d restarts, %v", a.over, err)
			}
			text := a.text()
			if strings.Contains(text, box.Secret) || strings.Contains(text, `"sinks"`) != (section != "") || section != "" && !strings.Contains(text, other) {
				t.Errorf("afterwards it says %s", text)
			}
			if _, err := os.Stat(p.paths.inbox); !os.IsNotExist(err) {
				t.Errorf("the inbox is left: %v", err)
			}
		})
	}
}

func TestASinkThatSomebodyTookOutIsPutBack(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	ns := makes(schema.KindNamespace, "team", &schema.Namespace{})
	if err := wrote(t, p, ns, hookTo("team/a")); err != nil {
		t.Fatal(err)
	}
	with := a.text()
	for what, without := range map[string]string{
		"another secret":  strings.Replace(with, `"password": "`, `"password": "x`, 1),
		"another address": strings.Replace(with, "http://127.0.0.1:", "http://127.0.0.2:", 1),
		"switched off":    strings.Replace(with, `"enable": true`, `"enable": false`, 1),
	} {
		if without == with {
			t.Fatalf("%s: nothing was changed in %s", what, with)
		}
		if err := os.WriteFile(a.config, []byte(without), 0o600); err != nil {
			t.Fatal(err)
		}
		a.seen = without
		if got := webhooksOf(t, p); len(got) != 0 {
			t.Errorf("%s: there are %v", what, got)
		}
		if what == "switched off" {
			v, err := p.Prepare(t.Context(), []plan.Change{hookTo("team/a")})
			if err != nil || !strings.Contains(v[0].Refused, "switched off") {
				t.Errorf("%s: %+v, %v", what, v, err)
			}
			continue
		}
		if err := wrote(t, p, hookTo("team/a")); err != nil {
			t.Fatal(err)
		}
		if got := webhooksOf(t, p); len(got) != 1 || strings.Count(a.text(), `"address": "http`) != 1 {
			t.Errorf("%s: there are %v, by %s", what, got, a.text())
		}
	}
}

// neighbour is a Zot in a container, whose network has an address of this host.
type neighbour struct {
	*actor
	host, why string
}

// Host implements [providers.Neighbour].
func (n *neighbour) Host(context.Context) (address, why string, err error) {
	if n.why != "" {
		return "", n.why, nil
	}
	return n.host, "", nil
}

func inContainer(t *testing.T) (*Provider, *neighbour) {
	t.Helper()
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	n := &neighbour{actor: a}
	p.registry.Run.Driver, p.process = schema.DriverDocker, n
	return p, n
}

func TestTheSinkFollowsTheNetworkOfTheContainer(t *testing.T) {
	p, n := inContainer(t)
	box := func(host string, hooks int) webhook.Inbox {
		t.Helper()
		b, err := webhook.ReadInbox(p.paths.inbox)
		if err != nil || b.Host() != host || len(b.Hooks) != 1 || !strings.Contains(n.text(), b.Secret) {
			t.Fatalf("the inbox is %+v, %v; want it at %s; Zot's file: %s", b, err, host, n.text())
		}
		if got := webhooksOf(t, p); len(got) != hooks || hooks > 0 && !strings.Contains(n.text(), `"http://`+b.Listen+`/"`) {
			t.Fatalf("there are %v, want %d; Zot's file: %s", got, hooks, n.text())
		}
		return b
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
	if err := wrote(t, p, makes(schema.KindNamespace, "team", &schema.Namespace{}), hookTo("team/a")); err != nil {
		t.Fatal(err)
	}
	first := box("127.0.0.1", 1) // its network comes with its first start
	n.host = "127.0.0.2"
	box("127.0.0.1", 0)
	start()
	second := box("127.0.0.2", 1)
	if second.Secret != first.Secret {
		t.Error("the secret is another")
	}
	start()
	if again := box("127.0.0.2", 1); again.Listen != second.Listen {
		t.Errorf("it moved from %s to %s for nothing", second.Listen, again.Listen)
	}

	// moved while it runs: a plan shows it, a job of the minute leaves it
	n.host = "127.0.0.3"
	box("127.0.0.2", 0)
	if err := p.withdraw(t.Context(), nil); err != nil {
		t.Errorf("measuring quotas: %v", err)
	}
	box("127.0.0.2", 0)
	v, err := p.Prepare(t.Context(), []plan.Change{hookTo("team/a")})
	if err != nil || v[0].Effect != plan.Restart || v[0].Refused != "" {
		t.Errorf("%+v, %v", v, err)
	}
	if err := wrote(t, p, hookTo("team/a")); err != nil {
		t.Fatal(err)
	}
	box("127.0.0.3", 1)

	// what somebody else wrote there is not put right by a start
	n.host = "127.0.0.4"
	text := strings.Replace(n.text(), `"password": "`, `"password": "x`, 1)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start()
	if n.text() != text || len(webhooksOf(t, p)) != 0 {
		t.Errorf("it says %s", n.text())
	}
}

// TestACopiedDirectoryHasAReceiverOfItsOwn: Zot would tell the webhooks of the
// registry that it was copied from.
func TestACopiedDirectoryHasAReceiverOfItsOwn(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := wrote(t, p, makes(schema.KindNamespace, "team", &schema.Namespace{}), hookTo("team/a")); err != nil {
		t.Fatal(err)
	}
	box := func() webhook.Inbox {
		t.Helper()
		b, err := webhook.ReadInbox(p.paths.inbox)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	start := func() {
		t.Helper()
		a.running = false
		if err := p.BeforeStart(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	was, text := box(), a.text()
	if start(); a.text() != text || box().Secret != was.Secret {
		t.Errorf("of no copy: %s", a.text())
	}
	elsewhere := was
	elsewhere.Place = "/srv/another/ocisync/events.json"
	if err := elsewhere.Save(p.paths.inbox); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", was.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	start()
	now := box()
	if now.Secret == was.Secret || now.Listen == was.Listen || len(now.Hooks) != 1 {
		t.Errorf("the inbox is %+v; it was %+v", now, was)
	}
	if text := a.text(); strings.Contains(text, was.Secret) || !strings.Contains(text, now.Secret) || !strings.Contains(text, `"http://`+now.Listen+`/"`) {
		t.Errorf("Zot's file: %s", text)
	}
	if got := webhooksOf(t, p); len(got) != 1 {
		t.Errorf("there are %v", got)
	}
	if start(); box().Secret != now.Secret {
		t.Error("the next start renews it again")
	}
}

func TestAContainerThatReachesNoAddressForCertainHasNoWebhooks(t *testing.T) {
	p, n := inContainer(t)
	n.host = "127.0.0.2"
	if err := wrote(t, p, makes(schema.KindNamespace, "team", &schema.Namespace{}), hookTo("team/a")); err != nil {
		t.Fatal(err)
	}
	n.why = "its engine is far away"
	if got := webhooksOf(t, p); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
	v, err := p.Prepare(t.Context(), []plan.Change{hookTo("team/a")})
	if err != nil || v[0].Refused != n.why {
		t.Errorf("%+v, %v", v, err)
	}
	before := n.text()
	if err := wrote(t, p, hookTo("team/a")); err == nil || !strings.Contains(err.Error(), n.why) || n.text() != before {
		t.Errorf("%v; it says %s", err, n.text())
	}
	if err := p.BeforeStart(t.Context(), ""); err != nil || n.text() != before {
		t.Errorf("%v; it says %s", err, n.text())
	}
	if v, err = p.Prepare(t.Context(), []plan.Change{gone("team/a")}); err != nil || v[0].Refused != "" {
		t.Errorf("it cannot be taken out: %+v, %v", v, err)
	}
}

func TestAPullIsNoEventOfZots(t *testing.T) {
	p, _ := played(t, nowhere, func(string) string { return recordLoaded })
	for events, want := range map[string]string{"pull": "no pull", "scan-completed": "pushes and deletes", "push": ""} {
		c := makes(schema.KindWebhook, "team/a", &schema.Webhook{URL: new("https://ci"), Events: schema.NewSet("delete", events)})
		v, err := p.Prepare(t.Context(), []plan.Change{c})
		if err != nil || (v[0].Refused == "") != (want == "") || !strings.Contains(v[0].Refused, want) {
			t.Errorf("%s: %+v, %v", events, v, err)
		}
	}
}

func TestAZotBuiltWithoutEventsIsKnown(t *testing.T) {
	for want, info := range map[bool][]debug.BuildInfo{
		true: {{Path: "zotregistry.dev/zot/cmd/zot"}, {Path: "zotregistry.dev/zot/cmd/zot", Settings: []debug.BuildSetting{{Key: "-tags", Value: "sync,eventsource"}}}},
		false: {
			{Path: "example.com/proxy", Settings: []debug.BuildSetting{{Key: "-tags", Value: "sync"}}},
			{Path: "zotregistry.dev/zot/cmd/zot", Settings: []debug.BuildSetting{{Key: "-tags", Value: "sync,events"}}},
		},
	} {
		for _, i := range info {
			if tags, ok := tagsOf(&i); (ok && !slices.Contains(tags, "events")) != want {
				t.Errorf("%+v: %v, %v", i, tags, ok)
			}
		}
	}
}

// What Zot 2.1.20 posts, but for the manifest's text.
const (
	postedUpdate = `{"actor":{"name":"admin"},"digest":"sha256:f38875cc11774dbe2648993916714637f4a3dc4428dc9cc2194076872aba6edc","manifest":"{\"schemaVersion\":2}","mediaType":"application/vnd.oci.image.manifest.v1+json","name":"team/app","reference":"1.0","request":{"addr":"127.0.0.1:47650","method":"PUT","useragent":"crane/v0.22.1"}}`
	postedDelete = `{"digest":"sha256:f38875cc11774dbe2648993916714637f4a3dc4428dc9cc2194076872aba6edc","mediaType":"application/vnd.oci.image.manifest.v1+json","name":"team/app","reference":"sha256:f38875cc11774dbe2648993916714637f4a3dc4428dc9cc2194076872aba6edc"}`
)

func TestWhatZotPostsIsReadAsItsEvents(t *testing.T) {
	header := func(typ string) http.Header {
		return http.Header{"Ce-Type": {typ}, "Ce-Id": {"7eab5dee"}, "Ce-Time": {"2026-11-23T15:06:12.110542635Z"}}
	}
	got, err := posted(header("zotregistry.image.updated"), []byte(postedUpdate), "https://r.example.com")
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	e := got[0]
	if e.Action != "push" || e.Target.Repository != "team/app" || e.Target.Tag != "1.0" || !strings.HasPrefix(e.Target.Digest.String(), "sha256:f388") ||
		e.Actor.Name != "admin" || e.ID != "7eab5dee" || e.Timestamp.Year() != 2026 || e.Target.Size != int64(len(`{"schemaVersion":2}`)) || e.Source.Addr != "r.example.com" {
		t.Errorf("%+v", e)
	}
	if got, err = posted(header("zotregistry.image.deleted"), []byte(postedDelete), ""); err != nil || len(got) != 1 || got[0].Action != "delete" || got[0].Target.Tag != "" || got[0].Target.Digest == "" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, typ := range []string{"zotregistry.repository.created", "zotregistry.image.lint_failed", "zotregistry.image.scanned"} {
		if got, err := posted(header(typ), []byte(`{"name":"team/app"}`), ""); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", typ, got, err)
		}
	}
	for _, bad := range []string{"", "[]", `{"name":"../x","reference":"1"}`, `{"name":"team/app","reference":"a b"}`, `{"name":"team/app"}`, `{"name":"` + strings.Repeat("a", 1<<20) + `","reference":"1"}`} {
		if got, err := posted(header("zotregistry.image.updated"), []byte(bad), ""); err == nil {
			t.Errorf("%.50s: %v", bad, got)
		}
	}
	if _, err := posted(http.Header{}, []byte(postedUpdate), ""); err == nil {
		t.Error("what has no type is taken for an event")
	}
}
