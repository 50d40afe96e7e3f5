package harbor

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// eventNames are Harbor's names of events, by ours.
func eventNames() map[string]string {
	return map[string]string{
		"push":           "PUSH_ARTIFACT",
		"pull":           "PULL_ARTIFACT",
		"delete":         "DELETE_ARTIFACT",
		"quota-exceeded": "QUOTA_EXCEED",
		"quota-warning":  "QUOTA_WARNING",
		"scan-failed":    "SCANNING_FAILED",
		"scan-stopped":   "SCANNING_STOPPED",
		"scan-completed": "SCANNING_COMPLETED",
		"replication":    "REPLICATION",
		"retention":      "TAG_RETENTION",
	}
}

// eventOf is our name of an event; one that has none keeps Harbor's.
func eventOf(name string) string {
	for ours, theirs := range eventNames() {
		if theirs == name {
			return ours
		}
	}
	return name
}

func eventsFor(set schema.Set) []string {
	names := eventNames()
	out := []string{}
	for _, e := range set {
		if theirs, ok := names[e]; ok {
			e = theirs
		}
		out = append(out, e)
	}
	return out
}

// readWebhooks reads the policies that have a name to be known by.
func readWebhooks(ctx context.Context, s *site) error {
	return s.eachOf(ctx, webhookLists(), func(ctx context.Context, p api.Project) error {
		list, err := s.c.Webhooks(ctx, p.Name)
		if err != nil {
			return err
		}
		for _, w := range list {
			if !nameable(schema.KindWebhook, w.Name) {
				continue
			}
			key := schema.NewKey(schema.KindWebhook, p.Name, w.Name)
			if want, ok := s.p.desired(key).(*schema.Webhook); ok { // it is shown by the target that is ours
				slices.SortStableFunc(w.Targets, func(a, b api.Target) int {
					ours := func(t api.Target) int { return map[bool]int{true: 0, false: 1}[t.Address == of(want.URL, "")] }
					return ours(a) - ours(b)
				})
			}
			s.mu.Lock()
			s.webhooks[key] = w
			s.mu.Unlock()
			spec, unread := webhookOf(w)
			s.add(key, w.ID, spec, unread...)
		}
		return nil
	})
}

func webhookLists() projectLists {
	return projectLists{kind: schema.KindWebhook, right: "notification-policy:list"}
}

// addresses tells all targets of a webhook as its URL: ours have one, and what
// somebody added is seen.
func addresses(w api.Webhook) string {
	var out []string
	for _, t := range w.Targets {
		out = append(out, t.Address)
	}
	return strings.Join(out, " ")
}

func webhookOf(w api.Webhook) (spec *schema.Webhook, unread []string) {
	url, format, insecure := addresses(w), "default", false
	events := schema.Set{}
	for _, e := range w.Events {
		events = append(events, eventOf(e))
	}
	if len(w.Targets) > 0 {
		t := w.Targets[0]
		insecure = t.Insecure
		switch {
		case t.Type == api.TargetSlack:
			format = "slack"
		case t.Format == api.FormatCloudEvents:
			format = "cloudevents"
		}
	}
	if len(w.Targets) > 0 && w.Targets[0].Auth != "" {
		unread = []string{"auth"}
	}
	return &schema.Webhook{
		URL: &url, Events: sortedSet(events), Format: &format, Description: &w.Description, Insecure: &insecure, Enabled: &w.Enabled,
	}, unread
}

func sortedSet(s schema.Set) schema.Set {
	out := slices.Clone(s)
	slices.Sort(out)
	return slices.Compact(out)
}

func normalWebhook(_ *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Webhook)
	if !ok || spec.Events == nil {
		return r.Spec, nil
	}
	out := *spec
	out.Events = sortedSet(spec.Events)
	return &out, nil
}

// prepareWebhook refuses one that nothing sends.
func prepareWebhook(_ context.Context, _ *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Webhook](c)
	if err != nil {
		return err
	}
	if touches(c, "events") && len(want.Events) == 0 {
		v.Refused = "Harbor has no webhook without events; name one, and write enabled = false where it should send nothing"
	}
	return nil
}

// writeWebhook replaces a whole webhook: what is not managed is as it was read.
func writeWebhook(ctx context.Context, s *site, c plan.Change, live object) error {
	ns, _ := c.Key.Namespace()
	if c.Action == plan.Delete {
		return s.c.DeleteWebhook(ctx, ns.Name, live.id)
	}
	want, err := after[*schema.Webhook](c)
	if err != nil {
		return err
	}
	auth, changes, err := s.secret(ctx, c, "auth")
	if err != nil {
		return err
	}
	next, exists := s.webhooks[live.Key]
	if !exists {
		next = api.Webhook{Enabled: true}
	}
	next.Name = c.Key.Child()
	next.Description, next.Enabled = of(want.Description, next.Description), of(want.Enabled, next.Enabled)
	if want.Events != nil {
		next.Events = eventsFor(want.Events)
	}
	targets := slices.Clone(next.Targets)
	if url := of(want.URL, addresses(next)); url != addresses(next) || len(targets) == 0 {
		one := api.Target{Type: api.TargetHTTP, Format: api.FormatDefault}
		if len(targets) > 0 {
			one = targets[0]
		}
		one.Address = url
		targets = []api.Target{one}
	}
	for i := range targets {
		t := &targets[i]
		t.Insecure = of(want.Insecure, t.Insecure)
		if want.Format != nil {
			t.Type, t.Format = formatFor(*want.Format)
		}
		if changes {
			t.Auth = auth
		}
	}
	next.Targets = targets
	if exists {
		return s.c.UpdateWebhook(ctx, ns.Name, next)
	}
	return s.c.CreateWebhook(ctx, ns.Name, next)
}

// formatFor is a format as Harbor's type of target and of payload.
func formatFor(word string) (target, payload string) {
	switch word {
	case "slack":
		return api.TargetSlack, ""
	case "cloudevents":
		return api.TargetHTTP, api.FormatCloudEvents
	}
	return api.TargetHTTP, api.FormatDefault
}

// authsOf keeps of the headers that were read what they can be compared by, and
// not the headers.
func (s *site) authsOf() map[schema.Key][]byte {
	out := map[schema.Key][]byte{}
	for key := range maps.Keys(s.webhooks) {
		out[key] = s.p.authMark(s.webhooks[key])
	}
	return out
}

// authMark is a keyed hash of the header that a webhook sends to its first target: the
// one that stays where there are others, which its URL tells of. nil for no target.
func (p *Provider) authMark(w api.Webhook) []byte {
	if len(w.Targets) == 0 {
		return nil
	}
	return p.mark(w.Targets[0].Auth)
}

// mark hashes a secret with a key of this process.
func (p *Provider) mark(secret string) []byte {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(secret))
	return mac.Sum(nil)
}

// checkWebhook compares the header with the one that Harbor gives back.
func checkWebhook(ctx context.Context, s *site, key schema.Key, field, secret string) (bool, error) {
	if field != "auth" {
		return false, providers.ErrUnsupported
	}
	have, known := s.p.seenAuth(key)
	if !known {
		ns, _ := key.Namespace()
		s.only = map[string]bool{ns.Name: true}
		if err := readWebhooks(ctx, s); err != nil {
			return false, err
		}
		w, ok := s.webhooks[key]
		if !ok {
			return false, providers.ErrNotFound
		}
		have = s.p.authMark(w)
	}
	return hmac.Equal(have, s.p.mark(secret)), nil
}
