package distribution

import (
	"context"
	"strings"
	"time"
)

// Alone is alone, for tests that are outside.
func (p *Provider) Alone(ctx context.Context) (release func(), err error) { return p.alone(ctx) }

// Tend is tend, for tests that are outside.
func (p *Provider) Tend(ctx context.Context, quiet time.Duration) error { return p.tend(ctx, quiet) }

// Keys are the settings below a path with what their values must be, for tests
// that are outside.
func Keys(below string) map[string]string {
	out := map[string]string{}
	for _, k := range keys() {
		if strings.HasPrefix(k.path, below+".") {
			out[k.path] = string(k.is)
		}
	}
	return out
}

// StartIt is what errors say that starts the registry.
func (p *Provider) StartIt() string { return p.startIt() }
