package embedded

import (
	"context"
	"fmt"

	"github.com/ocisync/ocisync/schema"
)

// Blank implements [providers.Blank]: a registry that was never told anything
// has no state.json, and its first change makes revision 1.
func (p *Provider) Blank(ctx context.Context) (string, error) {
	a, err := p.reach(ctx)
	if err != nil {
		return "", err
	}
	defer a.Close()
	live, err := a.State(ctx, []schema.Kind{schema.KindSettings})
	if err != nil {
		return "", p.failure("reading accounts and rules", err)
	}
	if live.Revision > 0 {
		return "", nil
	}
	return fmt.Sprintf("ocisync/state.json in the data directory %s", p.data), nil
}

// Told reports whether the directory's state was ever told anything, without asking
// whoever serves it.
func (p *Provider) Told(ctx context.Context) (bool, error) {
	if p.data == "" {
		return false, nil
	}
	live, err := p.directory.State(ctx, []schema.Kind{schema.KindSettings})
	return live.Revision > 0, err
}
