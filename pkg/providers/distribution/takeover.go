package distribution

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	yaml "go.yaml.in/yaml/v3"

	"github.com/ocisync/ocisync/pkg/providers"
)

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
			unlined(&doc.root)
			err = errors.Join(p.startable(doc), p.upstream(ctx, doc))
		}
		if err != nil {
			return fmt.Errorf("%w; nothing was written, and it runs as before", err)
		}
	}
	if running && !old {
		if err := replaceConfig(p.former(), p.startedWith(since, before)); err != nil {
			return p.configError("writing settings", err)
		}
	}
	if string(before) != string(next) {
		if err := p.relocate(before, next); err != nil {
			return err
		}
		if err := replaceConfig(p.place.Config, next); err != nil {
			return p.configError("writing settings", err)
		}
	}
	if p.process == nil {
		return p.tellOperator(running, next)
	}
	if !running {
		p.remember()
		return nil
	}
	if err := p.restart(ctx); err != nil && !errors.Is(err, providers.ErrDown) { // then it reads it when it is started
		return p.putBack(ctx, err)
	}
	if err := p.finds(ctx, before, next); err != nil {
		return p.putBack(ctx, err)
	}
	return errors.Join(p.forget(), p.discard(p.aside()))
}

// finds fails where a registry that has another place for its content than before came up
// and cannot read there, as in a bucket that does not exist: it says so to who asks for
// content alone.
func (p *Provider) finds(ctx context.Context, before, next []byte) error {
	if placedAt(before) == placedAt(next) {
		return nil
	}
	if _, err := p.repositories(ctx, nil); errors.Is(err, errAnswers) {
		return fmt.Errorf("it starts, and cannot read its content in %s: %w", placedAt(next), err)
	}
	return nil
}

// placedAt is where a configuration says that content lies, in words; "" where it does not.
func placedAt(text []byte) string {
	doc, err := parseDocument(text)
	if err != nil {
		return ""
	}
	have, _, err := doc.leaves()
	if err != nil {
		return ""
	}
	_, at := store(have)
	return at
}

// again restarts the registry with config.yml as it is, if it would start with that.
func (p *Provider) again(ctx context.Context) error {
	if err := p.Precheck(ctx, ""); err != nil {
		return err
	}
	return p.restart(ctx)
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
	aside := p.setAside(before)
	// its time is that of the start before
	if err := errors.Join(replaceConfig(p.place.Config, before), p.process.Stop(ctx)); err != nil {
		return fail("put "+p.former()+" in the place of "+p.place.Config+" and start the registry", err)
	}
	if err := p.process.Start(ctx); err != nil {
		return fail("the settings before were put back, and it does not start with them either; look at its log", err)
	}
	return fail("the settings before were put back and the registry runs with them"+aside+"; correct the new ones, and apply again", p.forget())
}

// Revert implements [providers.Reverter].
func (p *Provider) Revert(ctx context.Context) (goBack func(why error) error, err error) {
	now, err := readConfig(p.place.Config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, p.configError("reading settings", err)
	}
	since, running, err := p.running(ctx)
	if err != nil || !running || bytes.Equal(now, p.startedWith(since, now)) {
		return nil, err
	}
	return p.keep(ctx)
}

// setAside keeps what config.yml says, which may be what somebody wrote by hand,
// before other content is put there, and says where.
func (p *Provider) setAside(other []byte) string {
	b, err := readConfig(p.place.Config)
	if err == nil && bytes.Equal(b, other) {
		return ""
	}
	if err == nil {
		err = replaceConfig(p.aside(), b)
	}
	if err != nil {
		p.logger.Warn("what the registry does not start with is not kept", "error", err)
		return ""
	}
	return ", and " + p.aside() + " holds what it did not start with"
}

func (p *Provider) aside() string {
	return filepath.Join(p.place.Data, ownDir, "config.refused.yml")
}

func (p *Provider) forget() error { return p.discard(p.former()) }

func (p *Provider) discard(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
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

// unlined has what is not written yet tell of no lines.
func unlined(n *yaml.Node) {
	n.Line = 0
	for _, c := range n.Content {
		unlined(c)
	}
}
