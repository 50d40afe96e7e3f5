package providers

import (
	"context"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// Issuer is what a provider offers whose robots log in by accounts that come and
// go: their names are the registry's, and no mode says them.
type Issuer interface {
	// Accounts lists the account by which each of the desired robots logs in now:
	// the newest of which the secret is known to be where it belongs. A robot
	// without one is left out. Sorted by key; it changes nothing.
	Accounts(ctx context.Context, desired schema.State) ([]Account, error)
}

// Account is how a robot logs in.
type Account struct {
	Key     schema.Key
	Login   string
	Expires time.Time // zero for never
}
