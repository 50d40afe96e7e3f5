//go:build !keyless

package keyless

import (
	"fmt"

	"github.com/ocisync/ocisync/schema"
)

// Verifier checks nothing: there is none.
type Verifier struct{}

// New fails with [ErrNotBuilt].
func New([]byte, []schema.Identity) (*Verifier, error) {
	return nil, fmt.Errorf("%w; install one that has it: go install -tags keyless github.com/ocisync/ocisync/cmd/ocisync@latest", ErrNotBuilt)
}

// Bundle fails with [ErrNotBuilt].
func (*Verifier) Bundle([]byte, string, string) error { return ErrNotBuilt }

// Simple fails with [ErrNotBuilt].
func (*Verifier) Simple([]byte, map[string]string, string, string) error { return ErrNotBuilt }
