package distribution

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
)

// Troubles implements [providers.Troubled].
func (p *Provider) Troubles(ctx context.Context) (out []providers.Trouble, err error) {
	if p.registry.Run == nil || p.process == nil {
		return nil, nil
	}
	_, running, err := p.running(ctx)
	if err != nil || !running {
		return nil, err
	}
	shut, err := p.shut(ctx)
	if err != nil {
		return nil, err
	}
	if free, release, err := p.tryAlone(); err != nil {
		return nil, err
	} else if free {
		release()
		if shut {
			out = append(out, providers.Trouble{What: "pushes", Text: "it is read-only: a collection was killed; ocisync restart has it take pushes, and so does ocisync up that gives tokens, by itself"})
		}
	} else if shut {
		out = append(out, providers.Trouble{What: "pushes", Text: "it is read-only while it is collected", Passing: true})
	}
	return out, nil
}

// shut reports whether the registry takes no pushes.
func (p *Provider) shut(ctx context.Context) (bool, error) {
	live, err := p.inForce(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n := live.doc.get(readOnly)
	return n != nil && n.Value == "true", nil
}

// tend restarts a registry that ocisync runs where only that mends it, unless
// somebody is at it. quiet is for how long no client has asked for a token.
func (p *Provider) tend(ctx context.Context, _ time.Duration) error {
	if p.registry.Run == nil || p.process == nil {
		return nil
	}
	free, release, err := p.tryAlone()
	if err != nil || !free {
		return err
	}
	defer release()
	_, running, err := p.running(ctx)
	if err != nil || !running {
		return err
	}
	shut, err := p.shut(ctx)
	if err != nil {
		return err
	}
	if shut {
		p.logger.Warn("the registry is restarted: a collection that was killed left it read-only")
		return p.takePushes(context.WithoutCancel(ctx), true)
	}
	return nil
}
