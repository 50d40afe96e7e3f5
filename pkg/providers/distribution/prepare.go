package distribution

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Prepare implements [providers.Provider]. Accounts change live; what config.yml
// says is in force after a restart.
func (p *Provider) Prepare(ctx context.Context, changes []plan.Change) (_ []providers.Verdict, err error) {
	verdicts := make([]providers.Verdict, len(changes))
	var rest []plan.Change
	var at []int
	deaf := sync.OnceValues(func() (string, error) { return p.deaf(ctx) })
	for i, c := range changes {
		if c.Key.Kind == schema.KindSettings {
			v, err := p.prepareSettings(ctx, c)
			if err != nil {
				return nil, err
			}
			verdicts[i] = v
			continue
		}
		if c.Key.Kind == schema.KindUser && p.byFile() {
			v, err := p.people.prepare(ctx, c)
			if err != nil {
				return nil, err
			}
			if v.Refused == "" && p.registry.Run == nil && p.place.Config != "" {
				if now, err := p.file(); err == nil && now.doc.get("auth.htpasswd") == nil {
					v.Refused = p.place.Config + " has no auth.htpasswd, so that accounts count for nothing; add it, with the file's path as the registry sees it, and restart the registry"
				}
			}
			verdicts[i] = v
			continue
		}
		if row := p.Capabilities().Find(c.Key.Kind, ""); row.Support == schema.Unsupported || p.accounts == nil {
			verdicts[i] = providers.Verdict{Effect: plan.Live, Refused: row.Reason}
			if row.Support != schema.Unsupported {
				verdicts[i].Refused = "ocisync keeps it in its token service, and this mode has none; name it in registry.token, or the registry's own accounts in registry.files.htpasswd"
			}
			continue
		}
		why := p.refused(c)
		if why == "" && c.Key.Kind == schema.KindWebhook && c.Action != plan.Delete {
			if why, err = deaf(); err != nil {
				return nil, err
			}
		}
		if why != "" {
			verdicts[i] = providers.Verdict{Effect: plan.Live, Refused: why}
			continue
		}
		rest, at = append(rest, c), append(at, i)
	}
	defer func() {
		if err == nil {
			err = p.closing(ctx, changes, verdicts)
		}
	}()
	if len(rest) == 0 {
		return verdicts, ctx.Err()
	}
	defer func() {
		if err == nil {
			err = p.last(ctx, changes, verdicts)
		}
	}()
	found, err := p.accounts.Prepare(ctx, rest)
	if err != nil {
		return nil, err
	}
	for i, v := range found {
		verdicts[at[i]] = v
	}
	return verdicts, nil
}

func (p *Provider) prepareSettings(ctx context.Context, c plan.Change) (v providers.Verdict, err error) {
	values, ok := valuesOf(c)
	if !ok {
		v.Effect, v.Refused = plan.Live, "the registry does not run without settings; leave the table out, and they stay as they are"
		return v, nil
	}
	native := inConfig(c, values)
	v.Effect = plan.Live
	if len(native) > 0 || ofRun(c) {
		away, err := p.away(ctx)
		running := false
		if err == nil && !away { // an engine that is asked is of that host
			_, running, err = p.running(ctx)
		}
		switch {
		case err != nil:
			return v, err
		case away:
			v.Effect = plan.ByHand
			v.Notes = append(v.Notes, elsewhere)
		case p.process == nil:
			v.Effect = plan.ByHand
			v.Notes = append(v.Notes, "Distribution reads "+p.place.Config+" when it starts: after the apply, "+p.byHand())
		case running && (len(native) > 0 || providers.Renews(c) || providers.Starts(c)):
			v.Effect = plan.Restart
		}
	}
	if ofRun(c) {
		if v.Refused, err = p.swaps(ctx); err != nil {
			return v, err
		}
		if v.Refused == "" && p.inboxed() && p.registry.Driver() == schema.DriverProcess {
			box, err := p.inbox(ctx)
			if err != nil {
				return v, err
			}
			v.Refused = box.Takes(p.address())
		}
	}
	if p.place.Config != "" {
		why, gone, err := p.moves(ctx, p.chosen(c, native))
		if err != nil {
			return v, err
		}
		if v.Held = why; gone != "" {
			v.Impact = []string{gone}
		}
	}
	var declared schema.Values
	for _, x := range values {
		if _, owned := schema.OwnedSetting(schema.TypeDistribution, x.Path); !owned && wants(c, x.Path) {
			declared = append(declared, x)
		}
	}
	if err := CheckSettings(p.chosen(c, declared)); err != nil && v.Refused == "" {
		v.Refused = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if wants(c, notifyPath) && v.Refused == "" && slices.ContainsFunc(values, func(x schema.Value) bool { return x.Path == notifyPath }) {
		if v.Refused, err = p.deaf(ctx); err != nil {
			return v, err
		}
	}
	odd := slices.DeleteFunc(p.odd(), func(x problem) bool { return p.mends(x, native) })
	if len(odd) > 0 && len(native) > 0 && v.Refused == "" {
		v.Refused = "correct these lines first: " + strings.Join(p.lines(odd), "; ")
	}
	if p.place.Config == "" || p.way() == "" || !slices.ContainsFunc(native, func(x schema.Value) bool { return strings.HasPrefix(x.Path, "auth.") }) {
		return v, nil
	}
	if live, err := p.file(); err == nil {
		says := "who may log in, and do what, is ocisync's token service's to say"
		if p.byFile() {
			says = "who may log in is said in " + p.place.Htpasswd + ", and whoever does may do everything"
		}
		for _, other := range ways() {
			if other != p.way() && live.doc.get("auth."+other) != nil {
				v.Notes = append(v.Notes, "auth."+other+" goes: "+says)
			}
		}
	}
	return v, nil
}

// chosen leaves out a place of content that another one takes the place of.
func (p *Provider) chosen(c plan.Change, values schema.Values) schema.Values {
	changed := map[string]bool{}
	for _, v := range values {
		if d := placeOf(v.Path); d != "" && wants(c, v.Path) {
			changed[d] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(values), func(v schema.Value) bool {
		d := placeOf(v.Path)
		return d != "" && len(changed) > 0 && !changed[d]
	})
}

// valuesOf are the values of a change but those that say how the registry is run.
func valuesOf(c plan.Change) (schema.Values, bool) {
	if c.Action == plan.Delete || c.After == nil {
		return nil, false
	}
	spec, ok := c.After.Spec.(*schema.Settings)
	if !ok {
		return nil, false
	}
	return slices.DeleteFunc(slices.Clone(spec.Values), func(v schema.Value) bool { return providers.OfRun(v.Path) }), true
}

// wants reports whether a change writes a value: all that it creates with, else
// those it lists.
func wants(c plan.Change, path string) bool {
	return c.Action == plan.Create || c.Action == plan.Replace ||
		slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+path || f.Path == "values" })
}

// inConfig are the values that a change writes into config.yml.
func inConfig(c plan.Change, values schema.Values) schema.Values {
	return slices.DeleteFunc(slices.Clone(values), func(v schema.Value) bool { return v.Path == schema.OutsidePath || !wants(c, v.Path) })
}
