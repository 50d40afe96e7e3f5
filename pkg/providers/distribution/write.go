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

const elsewhere = "config.yml lies on the registry's host: run `ocisync apply` there"

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

// writeSettings has all of a change done, or the registry run on as before.
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
	if !away && (len(inConfig(c, values)) > 0 || ofRun(c)) {
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
	if ofRun(c) && !away {
		if why, err := p.swaps(ctx); err != nil {
			return err
		} else if why != "" {
			return &providers.Error{Registry: p.registry.URL, Key: c.Key, Err: fmt.Errorf("%w: %s", providers.ErrConflict, why), Remedy: "nothing was written"}
		}
	}
	if err := p.movable(ctx, c); err != nil {
		return err
	}
	maker, ok := p.process.(providers.Maker)
	if !ok || away || !providers.Renews(c) {
		return p.writeParts(ctx, c, values, away)
	}
	goBack, err := p.keep(ctx)
	if err != nil {
		return err
	}
	// before anything is written: if it does not get ready so, it runs on as it did
	if err := maker.Renew(ctx); err != nil {
		err = &providers.Error{Registry: p.registry.URL, Key: c.Key, Doing: "starting it as the mode says", Err: err, Remedy: "nothing was written"}
		if _, running, unknown := p.running(ctx); goBack == nil || running || unknown != nil {
			return err
		}
		return goBack(err)
	}
	if err = p.writeParts(ctx, c, values, away); err != nil && goBack != nil {
		return goBack(err)
	}
	return err
}

// ofRun reports whether a change is of how the registry, or what stands beside
// it, runs.
func ofRun(c plan.Change) bool {
	return providers.Renews(c) || providers.Starts(c) || moves(c)
}

// writeParts writes the accounts' part first: it narrows or widens who may do
// what at once, and the other may take the registry away for a moment.
func (p *Provider) writeParts(ctx context.Context, c plan.Change, values schema.Values, away bool) (err error) {
	if p.accounts != nil && wants(c, schema.OutsidePath) {
		if err := p.writeOutside(ctx, c.After); err != nil {
			return err
		}
		defer func() {
			if err != nil && !errors.Is(err, providers.ErrPending) {
				err = errors.Join(err, p.writeOutside(context.WithoutCancel(ctx), c.Before))
			}
		}()
	}
	if len(inConfig(c, values)) == 0 && !ofRun(c) {
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
	if maker, ok := p.process.(providers.Maker); ok && providers.Starts(c) {
		if err := maker.Renew(ctx); err != nil {
			return &providers.Error{Registry: p.registry.URL, Key: c.Key, Doing: "starting it", Err: err, Remedy: "what the mode says is written"}
		}
	}
	return p.move(ctx, c)
}

// writeOutside has the accounts take the policy of some settings, if they say one.
func (p *Provider) writeOutside(ctx context.Context, r *schema.Resource) error {
	if r == nil {
		return nil
	}
	spec, ok := r.Spec.(*schema.Settings)
	if !ok {
		return nil
	}
	i := slices.IndexFunc(spec.Values, func(v schema.Value) bool { return v.Path == schema.OutsidePath })
	if i < 0 {
		return nil
	}
	part := plan.Change{Action: plan.Update, Key: r.Key, After: &schema.Resource{Key: r.Key, Spec: &schema.Settings{Values: spec.Values[i : i+1]}}}
	failed := error(nil)
	err := p.accounts.Write(ctx, []plan.Change{part}, func(_ schema.Key, err error) { failed = err })
	return errors.Join(err, failed)
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
	if planned == "" || err == nil && now.version() == planned {
		return nil
	}
	if err == nil {
		have, _, err := p.leaves(ctx, now.doc)
		if err == nil && !slices.ContainsFunc(values, func(v schema.Value) bool {
			_, secret := v.Secret()
			return !secret && v.Path != schema.OutsidePath && !slices.Contains(have, v)
		}) {
			return nil
		}
	}
	return &providers.Error{Registry: p.registry.URL, Key: settingsKey(), Err: providers.ErrConflict, Remedy: "plan again"}
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
