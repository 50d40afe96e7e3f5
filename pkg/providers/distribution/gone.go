package distribution

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ocisync/ocisync/pkg/providers"
)

// errLost says that config.yml is gone and nothing tells what it said.
var errLost = errors.New("its config.yml is gone, and nothing here tells what it said")

// lastKnown is what is put in the place of a config.yml that is gone; nil for a registry that
// was never told anything. One that was is not started without: the mode alone does not
// say what somebody wrote by hand, and a bare file has another place for its content.
func (p *Provider) lastKnown(ctx context.Context) ([]byte, error) {
	for _, name := range []string{p.started(), p.former()} {
		b, err := readConfig(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &providers.Error{Registry: p.registry.URL, Key: settingsKey(), Doing: "starting the registry", Err: fmt.Errorf("%w: %w", errLost, err), Remedy: p.anotherOne()}
		}
		if placedAt(b) != "" {
			return b, nil
		}
	}
	if told, err := p.told(ctx); err != nil || !told {
		return nil, err
	}
	return nil, &providers.Error{Registry: p.registry.URL, Key: settingsKey(), Doing: "starting the registry", Err: errLost, Remedy: p.anotherOne()}
}

// anotherOne is how a registry comes by a config.yml again.
func (p *Provider) anotherOne() string {
	return fmt.Sprintf("restore %s from a backup, or write one there that has the version and says in storage where its content lies; how clients log in is put there as it starts, and the rest by `ocisync apply`", p.place.Config)
}

// told reports whether the registry has accounts or rules, as one has that was applied to.
// Those of a file of accounts tell nothing: it may be older than the registry.
func (p *Provider) told(ctx context.Context) (bool, error) {
	if p.accounts == nil {
		return false, nil
	}
	return p.accounts.Told(ctx)
}

// Bereft implements [providers.Bereft]: its accounts are kept beside config.yml.
func (p *Provider) Bereft(ctx context.Context) (what, remedy string, err error) {
	if p.place.Config == "" {
		return "", "", nil
	}
	if _, err := os.Lstat(p.place.Config); !errors.Is(err, fs.ErrNotExist) {
		return "", "", nil // who reads it says so
	}
	if away, err := p.away(ctx); err != nil || away {
		return "", "", err
	}
	remedy = p.anotherOne()
	if p.registry.Run == nil {
		remedy = "restore it from a backup"
	} else if last, err := p.lastKnown(ctx); err == nil && last != nil {
		remedy = "restore it from a backup, or run `ocisync restart`, which puts the last one there that is known"
	}
	return p.place.Config + " is gone", remedy, nil
}
