package harbor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

const (
	hook = `webhook/a/ci {"url":"https://ci.example.com/a","events":["push","scan-failed","retention"],"format":"cloudevents",
		"description":"Builds","auth":{"env":"` + providertest.SecretA + `"},"insecure":true,"enabled":true}`
	// hookBody is the same in Harbor's words.
	hookBody = `{"name":"ci","description":"Builds","enabled":true,"event_types":["PUSH_ARTIFACT","SCANNING_FAILED","TAG_RETENTION"],
		"targets":[{"type":"http","address":"https://ci.example.com/a","auth_header":"SECRET","skip_cert_verify":true,"payload_format":"CloudEvents"}]}`
)

func TestEachChangeOfAWebhookByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 7})
	p := h.open(t)
	want := apply(t, p, "namespace/a", hook)
	body := strings.ReplaceAll(hookBody, "SECRET", h.password(t))
	target := `{"type":"http","address":"https://b.example.com","auth_header":"` + h.password(t) + `","skip_cert_verify":false}`
	for _, c := range []struct{ old, new, line string }{
		{`"enabled":true`, `"enabled":false`, `  enabled: false -> true`},
		{`"enabled":true,`, ``, `  enabled: false -> true`}, // left out of a PUT it is false
		{`"Builds"`, `""`, `  description: "" -> "Builds"`},
		{`"PUSH_ARTIFACT",`, ``, `  events: ["retention","scan-failed"] -> ["push","retention","scan-failed"]`},
		{`"PUSH_ARTIFACT",`, `"PUSH_ARTIFACT","QUOTA_EXCEED",`, `  events: ["push","quota-exceeded","retention","scan-failed"] -> ["push","retention","scan-failed"]`},
		{`example.com/a`, `example.com/b`, `  url: "https://ci.example.com/b" -> "https://ci.example.com/a"`},
		{`"targets":[`, `"targets":[` + target + `,`, `  url: "https://ci.example.com/a https://b.example.com" -> "https://ci.example.com/a"`},
		{`}]}`, `},{"type":"http","address":"https://b.example.com","auth_header":"other"}]}`, `  url: "https://ci.example.com/a https://b.example.com" -> "https://ci.example.com/a"`},
		{`}]}`, `},{"type":"http","address":"https://b.example.com"}]}`, `  url: "https://ci.example.com/a https://b.example.com" -> "https://ci.example.com/a"`},
		{`}]}`, `},` + target + `]}`, `  url: "https://ci.example.com/a https://b.example.com" -> "https://ci.example.com/a"`},
		{`"skip_cert_verify":true`, `"skip_cert_verify":false`, `  insecure: false -> true`},
		{`,"payload_format":"CloudEvents"`, ``, `  format: "default" -> "cloudevents"`},
		{`"type":"http"`, `"type":"slack"`, `  format: "slack" -> "cloudevents"`},
		{h.password(t), "another", `  auth: "(secret)" -> "(secret changed)"`},
	} {
		if !strings.Contains(body, c.old) {
			t.Fatalf("the webhook has no %s", c.old)
		}
		next := strings.Replace(body, c.old, c.new, 1)
		if strings.Contains(next, "slack") {
			next = strings.Replace(next, `,"payload_format":"CloudEvents"`, "", 1)
		}
		h.behind(t, "PUT", "/projects/a/webhook/policies/8", next)
		drifts(t, p, want, "update webhook/a/ci", c.line)
	}
	h.behind(t, "DELETE", "/projects/a/webhook/policies/8", "")
	drifts(t, p, want, "create webhook/a/ci")
}

func TestAWebhookKeepsWhatIsNotManaged(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a")
	h.behind(t, "POST", "/projects/a/webhook/policies", strings.ReplaceAll(hookBody, "SECRET", "kept"))
	apply(t, p, `webhook/a/ci {"url":"https://c.example.com","events":["pull"]}`)
	text := h.behind(t, "GET", "/projects/a/webhook/policies/1", "")
	for _, part := range []string{`"auth_header":"kept"`, `"description":"Builds"`, `"enabled":true`, `"skip_cert_verify":true`, `CloudEvents`, `https://c.example.com`, `PULL_ARTIFACT`} {
		if !strings.Contains(text, part) {
			t.Errorf("the webhook has no %s: %s", part, text)
		}
	}
}

func TestEveryEventHasHarborsName(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", `webhook/a/all {"url":"https://a.example.com","events":["push","pull","delete","scan-completed","scan-stopped","scan-failed","quota-exceeded","quota-warning","replication","retention"],"format":"slack"}`)
	if text := h.behind(t, "GET", "/projects/a/webhook/policies/1", ""); strings.Count(text, `"`+"PULL_ARTIFACT") != 1 || !strings.Contains(text, `"slack"`) {
		t.Errorf("the webhook is %s", text)
	}
}

// A header that Harbor shows is compared, and neither kept nor told.
func TestAHeaderIsComparedByNoRequestOfItsOwn(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", hook)
	st := read(t, p, schema.KindWebhook)
	if text := fmt.Sprintf("%+v", st) + fmt.Sprintf("%+v", p); strings.Contains(text, h.password(t)) {
		t.Error("the header shows")
	}
	h.Forget()
	key := schema.Key{Kind: schema.KindWebhook, Name: "a/ci"}
	for env, want := range map[string]bool{providertest.SecretA: true, providertest.SecretB: false} {
		if same, err := p.Check(t.Context(), key, "auth", schema.SecretRef{Env: env}); err != nil || same != want {
			t.Errorf("%s: %v, %v", env, same, err)
		}
	}
	if n := len(h.Requests()); n != 0 {
		t.Errorf("it takes %d requests", n)
	}
}
