package providers

import (
	"context"
	"errors"
	"fmt"
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

// ErrDisplaced says that the registry runs on this host, with its data elsewhere than
// the mode says.
var ErrDisplaced = errors.New("it runs on this host with its data elsewhere")

// Locate says where a registry is whose files are these, the first of them what its
// program is started with, and that answers a ping or not. The process may be nil.
// [ErrDisplaced] says that registry.run.data was changed.
func Locate(ctx context.Context, process Process, r schema.Registry, files []string, ping func(context.Context) error) (Place, error) {
	if process != nil {
		st, err := process.Status(ctx)
		switch {
		case errors.Is(err, ErrDisplaced):
			return Nowhere, err
		case err == nil && st.Running:
			return Here, nil
		}
		if pid, config := servesElsewhere(files[0], r.Address()); pid != "" {
			return Nowhere, fmt.Errorf("%s: %w: process %s serves %s, and by the mode it is %s; ocisync moves no data: take registry.run.data back, or, to move it, run ocisync down with that, move the directory, and run ocisync up with the new one", r.URL, ErrDisplaced, pid, config, files[0])
		}
		if err == nil && st.ID != "" {
			return Here, nil
		} // where that cannot be asked it knows nothing
	}
	for _, name := range files {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return Here, nil // what cannot be looked at is told of when it is read
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
