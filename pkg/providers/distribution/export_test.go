package distribution

import "context"

// Alone is alone, for tests that are outside.
func (p *Provider) Alone(ctx context.Context) (release func(), err error) { return p.alone(ctx) }
