package distribution

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
			v, err := p.people.prepare(c)
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
		if why := p.refused(c); why != "" {
			verdicts[i] = providers.Verdict{Effect: plan.Live, Refused: why}
			continue
		}
		rest, at = append(rest, c), append(at, i)
	}
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

const elsewhere = "config.yml lies on the registry's host: run `ocisync apply` there"

func (p *Provider) prepareSettings(ctx context.Context, c plan.Change) (providers.Verdict, error) {
	var v providers.Verdict
	values, ok := valuesOf(c)
	if !ok {
		v.Effect, v.Refused = plan.Live, "the registry does not run without settings; leave the table out, and they stay as they are"
		return v, nil
	}
	native := inConfig(c, values)
	v.Effect = plan.Live
	if len(native) > 0 || providers.Renews(c) || providers.Starts(c) {
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
		case running:
			v.Effect = plan.Restart
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
	if err := CheckSettings(p.chosen(c, declared)); err != nil {
		v.Refused = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if odd := p.odd(); len(odd) > 0 && len(native) > 0 && v.Refused == "" {
		v.Refused = "correct these lines first: " + strings.Join(odd, "; ")
	}
	if p.place.Config == "" || !slices.ContainsFunc(native, func(x schema.Value) bool { return strings.HasPrefix(x.Path, "auth."+p.way()+".") }) {
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

// Write implements [providers.Provider].
func (p *Provider) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	var rest, people []plan.Change
	for _, c := range changes {
		if c.Key.Kind == schema.KindSettings {
			report(c.Key, p.writeSettings(ctx, c))
			continue
		}
		if c.Key.Kind == schema.KindUser && p.byFile() {
			people = append(people, c)
			continue
		}
		if row := p.Capabilities().Find(c.Key.Kind, ""); row.Support == schema.Unsupported || p.accounts == nil {
			report(c.Key, &providers.Error{Registry: p.registry.URL, Key: c.Key, Err: providers.ErrUnsupported, Remedy: row.Reason})
			continue
		}
		if why := p.refused(c); why != "" {
			report(c.Key, &providers.Error{Registry: p.registry.URL, Key: c.Key, Err: fmt.Errorf("%w: %s", providers.ErrUnsupported, why)})
			continue
		}
		rest = append(rest, c)
	}
	if len(people) > 0 {
		if err := p.people.write(ctx, people, report); err != nil {
			return err
		}
	}
	if len(rest) == 0 {
		return ctx.Err()
	}
	return p.writeAccounts(ctx, rest, report)
}

// writeAccounts has the token service change. Of a webhook that goes nothing is
// reported before the registry knows of it too.
func (p *Provider) writeAccounts(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	if p.byFile() {
		return p.writeInFile(ctx, changes, report)
	}
	goes := map[schema.Key]bool{}
	for _, c := range changes {
		goes[c.Key] = c.Action == plan.Delete && (c.Key.Kind == schema.KindWebhook || c.Key.Kind == schema.KindNamespace)
	}
	var gone []schema.Key
	if err := p.accounts.Write(ctx, changes, func(k schema.Key, err error) {
		if err == nil && goes[k] {
			gone = append(gone, k)
			return
		}
		report(k, err)
	}); err != nil {
		return err
	}
	if len(gone) == 0 {
		return nil
	}
	var err error
	if p.inboxed() {
		err = p.unnotify(ctx)
	}
	for _, k := range gone {
		report(k, err)
	}
	return nil
}

// writeInFile writes what is kept of rules and robots. A robot is done once its
// account is in the htpasswd file.
func (p *Provider) writeInFile(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	var mu sync.Mutex
	said := map[schema.Key]error{}
	err := p.accounts.Write(ctx, changes, func(k schema.Key, err error) {
		mu.Lock()
		defer mu.Unlock()
		said[k] = err
	})
	if err != nil && len(said) == 0 {
		return err
	}
	projected := p.project(ctx)
	for k, failed := range said {
		if failed == nil && k.Kind == schema.KindRobot {
			failed = projected
		}
		report(k, failed)
	}
	return err
}

// writeSettings writes the accounts' part first: it narrows or widens who may do
// what at once, and the other may take the registry away for a moment.
func (p *Provider) writeSettings(ctx context.Context, c plan.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	values, ok := valuesOf(c)
	if !ok {
		return &providers.Error{Registry: p.registry.URL, Key: c.Key, Err: fmt.Errorf("deleting them: %w", providers.ErrUnsupported), Remedy: "the registry does not run without settings"}
	}
	away, err := p.away(ctx)
	if err != nil {
		return err
	}
	if !away && (len(inConfig(c, values)) > 0 || providers.Renews(c) || providers.Starts(c)) {
		release, err := p.alone(ctx)
		if err != nil {
			return &providers.Error{Registry: p.registry.URL, Key: c.Key, Err: err, Remedy: "apply again when that has ended"}
		}
		defer release()
	}
	if c.Before != nil && !away {
		if err := p.unmoved(ctx, c.Before.Version, values); err != nil {
			return err
		}
	}
	if maker, ok := p.process.(providers.Maker); ok && !away && providers.Renews(c) {
		// before anything is written: if it does not get ready so, it runs on as it did
		if err := maker.Renew(ctx); err != nil {
			return &providers.Error{Registry: p.registry.URL, Key: c.Key, Doing: "starting it as the mode says", Err: err, Remedy: "nothing was written"}
		}
	}
	if i := slices.IndexFunc(values, func(v schema.Value) bool { return v.Path == schema.OutsidePath }); i >= 0 && p.accounts != nil && wants(c, schema.OutsidePath) {
		part := plan.Change{Action: plan.Update, Key: c.Key, After: &schema.Resource{Key: c.Key, Spec: &schema.Settings{Values: values[i : i+1]}}}
		failed := error(nil)
		if err := p.accounts.Write(ctx, []plan.Change{part}, func(_ schema.Key, err error) { failed = err }); err != nil || failed != nil {
			return errors.Join(err, failed)
		}
	}
	ofRun := providers.Renews(c) || providers.Starts(c)
	if len(inConfig(c, values)) == 0 && !ofRun {
		return nil
	}
	if away {
		return &providers.Error{Registry: p.registry.URL, Key: c.Key, Err: fmt.Errorf("%w on another host", providers.ErrPending), Remedy: elsewhere}
	}
	if len(inConfig(c, values)) > 0 {
		if err := p.writeConfig(ctx, c, values); err != nil {
			return err
		}
	}
	maker, ok := p.process.(providers.Maker)
	if !ok || !providers.Starts(c) {
		return nil
	}
	if err := maker.Renew(ctx); err != nil {
		return &providers.Error{Registry: p.registry.URL, Key: c.Key, Doing: "starting it", Err: err, Remedy: "what the mode says is written"}
	}
	return nil
}

// writeConfig writes what a change says of config.yml.
func (p *Provider) writeConfig(ctx context.Context, c plan.Change, values schema.Values) error {
	var declared schema.Values
	for _, x := range values {
		if _, owned := schema.OwnedSetting(schema.TypeDistribution, x.Path); !owned && wants(c, x.Path) {
			declared = append(declared, x)
		}
	}
	if err := CheckSettings(p.chosen(c, declared)); err != nil {
		return &providers.Error{Registry: p.registry.URL, Key: c.Key, Err: fmt.Errorf("%w: %w", providers.ErrInvalid, err)}
	}
	now, err := p.file()
	if errors.Is(err, fs.ErrNotExist) {
		now.doc, err = parseDocument(nil)
	}
	if err != nil {
		return err
	}
	if err := p.lay(ctx, now.doc, values, func(path string) bool { return wants(c, path) }); err != nil {
		return err
	}
	next, err := now.doc.bytes()
	if err != nil {
		return p.configError("writing settings", err)
	}
	return p.takeOver(context.WithoutCancel(ctx), now.bytes, next)
}

// unmoved refuses a change that was planned for another file, unless what it
// wants stands there already.
func (p *Provider) unmoved(ctx context.Context, planned string, values schema.Values) error {
	planned, _, _ = strings.Cut(planned, "+")
	now, err := p.inForce(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if planned == "" || err == nil && version(now.bytes) == planned {
		return nil
	}
	if err == nil {
		have, _, err := p.leaves(now.doc)
		if err == nil && !slices.ContainsFunc(values, func(v schema.Value) bool {
			_, secret := v.Secret()
			return !secret && v.Path != schema.OutsidePath && !slices.Contains(have, v)
		}) {
			return nil
		}
	}
	return &providers.Error{Registry: p.registry.URL, Key: settingsKey(), Err: providers.ErrConflict, Remedy: "plan again"}
}

// takeOver writes config.yml and restarts the registry with it. If it does not
// come up, the content before is put back, and the registry started with that.
func (p *Provider) takeOver(ctx context.Context, before, next []byte) error {
	if err := p.provide(); err != nil {
		return err
	}
	since, running, err := p.running(ctx)
	if err != nil {
		return err
	}
	old := running && p.outdated(since) // a run before this one was cut short, or waits for the operator
	if string(before) == string(next) && !old {
		return nil
	}
	if running && p.process != nil { // it is stopped only for what can start
		doc, err := parseDocument(next)
		if err == nil {
			err = p.startable(doc)
		}
		if err != nil {
			return fmt.Errorf("%w; nothing was written, and it runs as before", err)
		}
	}
	if running && !old {
		if err := replaceConfig(p.former(), before); err != nil {
			return p.configError("writing settings", err)
		}
	}
	if string(before) != string(next) {
		if err := replaceConfig(p.place.Config, next); err != nil {
			return p.configError("writing settings", err)
		}
	}
	if p.process == nil {
		return p.tellOperator(running, next)
	}
	if !running {
		return nil
	}
	if err := p.restart(ctx); err != nil && !errors.Is(err, providers.ErrDown) { // then it reads it when it is started
		return p.putBack(ctx, err)
	}
	return p.forget()
}

func (p *Provider) restart(ctx context.Context) error {
	if err := p.process.Stop(ctx); err != nil {
		return fmt.Errorf("stopping the registry: %w", err)
	}
	return p.process.Start(ctx)
}

func (p *Provider) putBack(ctx context.Context, cause error) error {
	fail := func(what string, more error) error {
		return &providers.Error{
			Registry: p.registry.URL, Key: settingsKey(), Doing: "restarting with the new settings",
			Err: errors.Join(cause, more), Remedy: what,
		}
	}
	before, err := readConfig(p.former())
	if err != nil {
		return fail("look at its log, correct the settings, and apply again", err)
	}
	// its time is that of the start before
	if err := errors.Join(replaceConfig(p.place.Config, before), p.process.Stop(ctx)); err != nil {
		return fail("put "+p.former()+" in the place of "+p.place.Config+" and start the registry", err)
	}
	if err := p.process.Start(ctx); err != nil {
		return fail("the settings before were put back, and it does not start with them either; look at its log", err)
	}
	return fail("the settings before were put back and the registry runs with them; correct the new ones, and apply again", p.forget())
}

func (p *Provider) forget() error {
	if err := os.Remove(p.former()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p.configError("writing settings", err)
	}
	return nil
}

// tellOperator says of a registry that somebody else runs that it must be
// restarted: what was written is not in force. One that does not answer will
// read the file when it starts.
func (p *Provider) tellOperator(running bool, next []byte) error {
	if former, err := readConfig(p.former()); !running || err == nil && string(former) == string(next) {
		return p.forget()
	}
	return &providers.Error{
		Registry: p.registry.URL, Key: settingsKey(), Err: fmt.Errorf("%w: %s is written, and the registry runs with what it read before", providers.ErrPending, p.place.Config),
		Remedy: p.byHand(),
	}
}

// byHand is what the operator does, and how ocisync knows that it is done.
func (p *Provider) byHand() string {
	return fmt.Sprintf("restart the registry; if a plan shows it still, ocisync sees neither its process nor its start in registry.files.log: remove %s to say that it is done", p.former())
}

// provide makes the directories and keys that the configuration speaks of.
func (p *Provider) provide() error {
	if err := p.private(); err != nil {
		return err
	}
	if p.registry.Run == nil && p.place.Service == nil {
		return os.MkdirAll(filepath.Dir(p.former()), 0o700)
	}
	for _, dir := range []string{p.place.Data, filepath.Dir(p.former())} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return p.configError("writing settings", err)
		}
	}
	if p.registry.Run != nil {
		if err := os.MkdirAll(p.storage(), 0o700); err != nil {
			return p.configError("writing settings", err)
		}
	}
	if p.place.Service != nil {
		if _, err := p.keys(); err != nil {
			return &providers.Error{Registry: p.registry.URL, Err: err}
		}
	}
	if p.byFile() && p.registry.Run != nil {
		return p.people.enter()
	}
	return nil
}
