package harbor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// Left implements [providers.Leaver]: what Harbor has and no object of a mode says,
// sorted.
func (p *Provider) Left(ctx context.Context, desired schema.State) ([]providers.Leftover, error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	l := &left{site: newSite(p, c), desired: desired}
	l.knows(nil)
	if !c.Admin() {
		l.add("settings", "Harbor shows them to no robot; name an administrator's account in registry.admin, and adopt writes those that are not as Harbor comes")
	}
	for _, look := range []func(context.Context) error{l.metadata, l.accounts, l.ofProjects, l.labels, l.replications, l.denied} {
		if err := look(ctx); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(l.list, func(a, b providers.Leftover) int {
		return cmp.Or(strings.Compare(a.What, b.What), strings.Compare(a.Why, b.Why))
	})
	return l.list, nil
}

// left gathers them.
type left struct {
	*site
	desired schema.State
	list    []providers.Leftover
}

func (l *left) add(what, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, providers.Leftover{What: what, Why: why})
}

// metadata tells of what projects are told that no kind speaks of.
func (l *left) metadata(ctx context.Context) error {
	projects, err := l.allProjects(ctx)
	if err != nil {
		return err
	}
	known := []string{"public", "retention_id", metaSigned, metaNotation, metaScan, metaSBOM, metaBlock, metaFrom, metaShared}
	for _, p := range projects {
		var names []string
		for name, value := range p.Metadata {
			if p.Remote != 0 && slices.Contains(metaProxy(), name) {
				continue
			}
			if !slices.Contains(known, name) && value != "" && value != "false" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		if len(names) > 0 {
			l.add("the metadata of "+p.Name, fmt.Sprintf("no kind speaks of %s; ocisync keeps them as they are", strings.Join(names, ", ")))
		}
	}
	return nil
}

// accounts tells of those that come from elsewhere.
func (l *left) accounts(ctx context.Context) error {
	from, err := l.accountsFrom(ctx)
	if err != nil || from == ownAccounts {
		return err
	}
	users, err := l.allUsers(ctx)
	if len(users) > 0 {
		l.add("users", fmt.Sprintf("Harbor takes accounts from elsewhere (auth_mode is %s), and %d logged in by now; declare groups", from, len(users)))
	}
	return err
}

// ofProjects tells what the lists of each project hold beside objects. What the
// account may not see is told where it is read.
func (l *left) ofProjects(ctx context.Context) error {
	return errors.Join(l.eachOf(ctx, webhookLists(), l.webhooksOf), l.eachOf(ctx, preheatLists(), l.preheatsOf))
}

func (l *left) webhooksOf(ctx context.Context, p api.Project) error {
	list, err := l.c.Webhooks(ctx, p.Name)
	for _, w := range list {
		key := schema.NewKey(schema.KindWebhook, p.Name, w.Name)
		_, declared := l.desired.Get(key)
		switch {
		case !nameable(schema.KindWebhook, w.Name):
			l.add("a webhook of "+p.Name+" called "+strconv.Quote(w.Name), noName)
		case len(w.Targets) > 1 && !declared:
			l.add(key.String(), fmt.Sprintf("it tells %d addresses, and a webhook of a mode tells one; declare one for each, and delete it", len(w.Targets)))
		}
	}
	return err
}

// nameable reports whether a name can be that of an object of a mode.
func nameable(k schema.Kind, name string) bool { return name != "" && k.Keeps(name) }

const noName = `an object of a mode has a name, and one without "%2F"; give it such a name`

func (l *left) preheatsOf(ctx context.Context, p api.Project) error {
	policies, err := l.c.PreheatPolicies(ctx, p.Name)
	for _, x := range policies {
		if names := unspoken(x); len(names) > 0 {
			l.add(schema.NewKey(schema.KindPreheatPolicy, p.Name, x.Name).String(), "no mode says "+strings.Join(names, ", nor "))
		}
	}
	return err
}

func (l *left) labels(ctx context.Context) error {
	tell := func(of string, list []api.Label) {
		for _, x := range list {
			if !nameable(schema.KindLabel, x.Name) {
				l.add("a label of "+of+" called "+strconv.Quote(x.Name), noName)
			}
		}
	}
	list, err := l.c.Labels(ctx, 0)
	if err != nil {
		return err
	}
	tell("the registry", list)
	return l.eachOf(ctx, labelLists(), func(ctx context.Context, p api.Project) error {
		list, err := l.c.Labels(ctx, p.ID)
		tell(p.Name, list)
		return err
	})
}

// replications tells of what rules say beyond a mode's. A change of a rule keeps it.
func (l *left) replications(ctx context.Context) error {
	rules, err := l.allReplications(ctx)
	if errors.Is(err, providers.ErrForbidden) {
		return nil
	}
	for _, r := range rules {
		if matchOf(r.Filters).Type == nil {
			l.add(schema.NewKey(schema.KindReplication, "", r.Name).String(), "no mode says which type of artifact is copied as it does")
		}
	}
	return err
}

// denied tells of rights that somebody denied a robot.
func (l *left) denied(ctx context.Context) error {
	if err := readRobots(ctx, l.site); err != nil && !errors.Is(err, providers.ErrForbidden) {
		return err
	}
	for key, list := range l.site.accounts {
		var names []string
		for _, a := range list {
			for place, accesses := range deniedOf(a.Robot) {
				for _, x := range accesses {
					names = append(names, x.Resource+":"+x.Action+" "+where(strings.TrimPrefix(place, api.OfSystem)))
				}
			}
		}
		slices.Sort(names)
		if len(names) > 0 {
			l.add(key.String(), fmt.Sprintf("it is denied %s, and a mode says only what a robot may do; its permissions are left out, and a change of its rights ends the denial", strings.Join(slices.Compact(names), ", ")))
		}
	}
	return nil
}
