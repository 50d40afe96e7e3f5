package providers

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/ocisync/ocisync/schema"
)

// Place is where a registry is, seen from here.
type Place int

// The places.
const (
	Here    Place = iota // its files are here, or what runs it
	Away                 // it answers, and nothing of it is here: on another host
	Nowhere              // neither: a new one, or on another host and stopped
)

// Hosted is what a provider offers whose registry is configured by files of its
// own host.
type Hosted interface {
	// Where says where the registry is. It changes nothing.
	// ErrNotRegistry: something else answers at its URL.
	Where(context.Context) (Place, error)
	// Filed are the kinds that nobody but that host can tell of; sorted.
	Filed() []schema.Kind
}

// Locate says where a registry is whose files are these, and that answers a
// ping or not. The process may be nil.
func Locate(ctx context.Context, process Process, files []string, ping func(context.Context) error) (Place, error) {
	for _, name := range files {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return Here, nil // what cannot be looked at is told of when it is read
		}
	}
	if process != nil { // where that cannot be asked it knows nothing
		if st, err := process.Status(ctx); err == nil && (st.Running || st.ID != "") {
			return Here, nil
		}
	}
	switch err := ping(ctx); {
	case err == nil, errors.Is(err, ErrUnauthorized), errors.Is(err, ErrForbidden):
		return Away, nil
	case errors.Is(err, ErrUnreachable) && ctx.Err() == nil:
		return Nowhere, nil
	default:
		return Nowhere, errors.Join(err, ctx.Err())
	}
}
