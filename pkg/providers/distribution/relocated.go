package distribution

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// relocation is the file that tells of a move of the content.
type relocation struct {
	From string `json:"from"`
	To   string `json:"to"`
}

func (p *Provider) relocated() string { return filepath.Join(p.place.Data, ownDir, "moved.json") }

// relocate notes that what is written has the registry look for its content elsewhere.
func (p *Provider) relocate(before, next []byte) error {
	r := relocation{placedAt(before), placedAt(next)}
	if r.From == "" || r.To == "" || r.From == r.To {
		return nil
	}
	b, err := json.Marshal(r)
	if err == nil {
		err = replaceConfig(p.relocated(), append(b, '\n'))
	}
	if err != nil {
		return p.configError("writing settings", err)
	}
	return nil
}

// Moves implements [providers.Mover].
func (p *Provider) Moves(ctx context.Context, c plan.Change) (bool, error) {
	values, ok := valuesOf(c)
	if c.Key.Kind != schema.KindSettings || !ok || p.place.Config == "" {
		return false, nil
	}
	why, _, err := p.moves(ctx, p.chosen(c, inConfig(c, values)))
	return why != "", err
}

// Moved implements [providers.Mover].
func (p *Provider) Moved(ctx context.Context) (m providers.Move, err error) {
	if p.place.Config == "" {
		return m, nil
	}
	b, err := readConfig(p.relocated())
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	var r relocation
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return m, p.configError("reading settings", err)
	}
	now, err := p.file()
	if errors.Is(err, fs.ErrNotExist) || err == nil && placedAt(now.bytes) != r.To { // it was taken back
		return m, nil
	}
	if err != nil {
		return m, err
	}
	since, running, err := p.running(ctx)
	return providers.Move{From: r.From, To: r.To, Pending: running && p.outdated(since)}, err
}

// Settle implements [providers.Mover].
func (p *Provider) Settle(context.Context) error { return p.discard(p.relocated()) }

var _ providers.Mover = (*Provider)(nil)
