package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

func TestAnEventThatTheRegistryTellsNobodyOfIsRefusedOrLeftOut(t *testing.T) {
	w := world{
		desired: []string{"namespace/a", `webhook/a/ci {"url":"https://ci","events":["delete","pull","push"]}`},
		live:    []string{"namespace/a", `webhook/a/ci {"url":"https://ci","events":["push"]}`}, owned: []string{"*"},
		table: append(nativeTable(), schema.Capability{Kind: schema.KindWebhook, Field: "events.pull", Support: schema.Unsupported, Reason: "it tells of no pull"}),
	}
	check(t, w.plan(t), "update webhook/a/ci", `refused: webhook/a/ci: memory cannot do this: "pull": it tells of no pull`)
	w.policy.Unsupported = "note"
	p := w.plan(t)
	check(t, p, "update webhook/a/ci")
	checkNote(t, p, `webhook/a/ci: events left out: "pull": it tells of no pull`)
	if len(p.Changes) != 1 {
		t.Fatal("no change")
	}
	hook, _ := p.Changes[0].After.Spec.(*schema.Webhook)
	if d := cmp.Diff(schema.NewSet("delete", "push"), hook.Events); d != "" {
		t.Error(d)
	}
	w.live[1] = `webhook/a/ci {"url":"https://ci","events":["delete","push"]}`
	check(t, w.plan(t))
}
