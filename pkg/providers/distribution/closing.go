package distribution

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

const (
	// closingMost is how many repositories are looked at, and closingWait how long that may
	// take: it is for a note.
	closingMost = 10 * providers.MostListed
	closingWait = 20 * time.Second
)

// closing says of changes that have a registry ask for logins, which asks for none, what
// they take from whoever has no account.
func (p *Provider) closing(ctx context.Context, changes []plan.Change, verdicts []providers.Verdict) error {
	at, way := -1, ""
	for i, c := range changes {
		values, ok := valuesOf(c)
		if c.Key.Kind != schema.KindSettings || !ok || verdicts[i].Refused != "" {
			continue
		}
		for _, v := range inConfig(c, values) {
			if parts := schema.SplitPath(v.Path); len(parts) > 2 && parts[0] == "auth" && (parts[1] == "token" || parts[1] == "htpasswd") {
				at, way = i, parts[1]
			}
		}
	}
	if at < 0 || p.place.Config == "" {
		return nil
	}
	open, err := p.asksNobody(ctx)
	if err != nil || !open {
		return err
	}
	note := "switches logins on, where anybody could do everything: whoever has no account may do nothing any more but what a rule gives anonymous clients"
	if way == "htpasswd" {
		note = "switches logins on, where anybody could do everything: whoever has no account may do nothing any more, and whoever has one everything"
	}
	say := func(i int, text string) { verdicts[i].Notes = append(verdicts[i].Notes, text) }
	list, whole, err := p.seen(ctx)
	if err != nil {
		say(at, note+"; which repositories that closes to them cannot be listed here")
		return ctx.Err()
	}
	rules := map[string]int{}
	for i, c := range changes {
		if c.Key.Kind == schema.KindAccess && c.Action != plan.Delete && verdicts[i].Refused == "" {
			rules[c.Key.Name] = i
		}
	}
	by := map[int][]string{}
	var rest []string
	for _, name := range list {
		if access.In(schema.Reserved, name) {
			continue
		}
		if ns, ruled := providers.Innermost(rules, name); ruled {
			by[rules[ns]] = append(by[rules[ns]], name)
		} else {
			rest = append(rest, name)
		}
	}
	for i, names := range by {
		say(i, "closes to all that it does not name: "+providers.ListNames(names))
	}
	switch {
	case len(rest) > 0 && len(by) > 0:
		note += "; of what no rule of this plan is about, this closes to them: " + providers.ListNames(rest)
	case len(rest) > 0:
		note += "; this closes to them: " + providers.ListNames(rest)
	}
	if !whole {
		note += "; there are more repositories, which were not looked at"
	}
	say(at, note)
	return nil
}

// asksNobody reports whether the registry lets in whoever comes, by what it runs with and, where
// it answers, by its word.
func (p *Provider) asksNobody(ctx context.Context) (bool, error) {
	live, err := p.inForce(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if live.doc.get("auth.token") != nil || live.doc.get("auth.htpasswd") != nil {
		return false, nil
	}
	if live.doc.get("auth.silly") != nil {
		return true, nil
	}
	rt, err := p.connection()
	if err != nil {
		return false, err
	}
	_, err = oci.Ping(ctx, p.registry.URL, rt)
	return !errors.Is(err, providers.ErrUnauthorized), nil
}

// seen lists repositories as somebody without an account sees them.
func (p *Provider) seen(ctx context.Context) (list []string, whole bool, err error) {
	rt, err := p.connection()
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, closingWait)
	defer cancel()
	c := &client{base: p.registry.URL, start: p.startIt(), http: &http.Client{Transport: rt}}
	return c.catalogued(ctx, closingMost)
}
