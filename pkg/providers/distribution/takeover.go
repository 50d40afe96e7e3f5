package distribution

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

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
