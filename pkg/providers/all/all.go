// Package all is the one place that knows every provider: from a registry's
// type and driver to its provider, with [Open], and to what it can do, with
// [Table].
package all

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/memory"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

//go:generate go test -run TestTheCapabilitiesPageShowsTheTables -update

// Deps is what providers need of the rest of the program.
type Deps struct {
	Secrets providers.Secrets
	Policy  schema.Policy
	// Permit is asked before a secret goes to the registry's URL; nil permits.
	Permit func(registry string) error
	// Kept is that the registry keeps its inventory itself.
	Kept bool
	// Process is the registry's, where ocisync runs one of its own; nil else.
	Process providers.Process
	// Files is the directory from which paths in objects count.
	Files  fs.FS
	Logger *slog.Logger // may be nil
}

// Open returns the provider for a registry. ErrUnsupported: there is none for its
// type and driver.
func Open(r schema.Registry, deps Deps) (providers.Provider, error) {
	switch r.Type {
	case schema.TypeMemory:
		return memory.New(deps.Secrets, schema.State{})
	case schema.TypeZot:
		options := []zot.Option{zot.Outside(access.Outside(deps.Policy.Outside)), zot.Permit(deps.Permit)}
		if deps.Kept {
			options = append(options, zot.KeepsInventory())
		}
		return zot.New(r, deps.Process, deps.Secrets, deps.Logger, options...)
	case schema.TypeDistribution:
		outside := access.Outside(deps.Policy.Outside)
		if r.Driver() == schema.DriverEmbedded {
			return embedded.New(r, deps.Secrets, deps.Logger, embedded.Outside(outside), embedded.Permit(deps.Permit))
		}
		return distribution.New(r, deps.Process, deps.Secrets, deps.Logger, distribution.Outside(outside), distribution.Permit(deps.Permit))
	case schema.TypeHarbor:
		return harbor.New(r, deps.Secrets, deps.Logger, harbor.Permit(deps.Permit), harbor.Files(deps.Files))
	}
	return nil, unknown(r.Type)
}

// Table returns what can be done with a registry of a type, run by a driver ("" where
// somebody else runs it). ErrUnsupported: nothing is known of that.
func Table(typ, driver string) (schema.Table, error) {
	t, err := own(typ, driver)
	if err != nil || typ == schema.TypeMemory {
		return t, err
	}
	return providers.WithContent(t), nil
}

// own is what the registry itself can do.
func own(typ, driver string) (schema.Table, error) {
	switch typ {
	case schema.TypeMemory:
		return memory.Table(), nil
	case schema.TypeZot:
		return zot.Capabilities(driver), nil
	case schema.TypeHarbor:
		return harbor.Capabilities(), nil
	case schema.TypeDistribution:
		if driver == schema.DriverEmbedded {
			return embedded.Capabilities(), nil
		}
		return distribution.Capabilities(driver, false), nil
	}
	return nil, unknown(typ)
}

// Recorded returns a provider that holds a recorded state of a registry and
// has that registry's table, so that a plan can be made where there is none.
// Writing to it changes the copy.
func Recorded(r schema.Registry, live schema.State) (providers.Provider, error) {
	table, err := Table(r.Type, r.Driver())
	if err != nil {
		return nil, err
	}
	if r.Type == schema.TypeDistribution && r.Driver() != schema.DriverEmbedded && r.Files != nil && r.Files.Htpasswd != "" {
		table = providers.WithContent(distribution.Capabilities(r.Driver(), true))
	}
	m, err := memory.New(nil, live)
	if err != nil {
		return nil, err
	}
	return recorded{m, table, live.Scope}, nil
}

type recorded struct {
	*memory.Provider
	table schema.Table
	scope schema.Scope
}

func (r recorded) Capabilities() schema.Table { return r.table }

// Read speaks only for what was recorded.
func (r recorded) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	kinds := slices.DeleteFunc(slices.Clone(scope.Kinds), func(k schema.Kind) bool { return !slices.Contains(r.scope.Kinds, k) })
	scope.Kinds = kinds
	s, err := r.Provider.Read(ctx, scope)
	s.Scope.Except = r.scope.Except
	return s, err
}

// Named is a table with the name of its registry, as users know it.
type Named struct {
	Name  string
	Table schema.Table
}

// Tables lists the tables of every registry that a file can name, by name.
func Tables() []Named {
	list := []Named{
		{"Distribution", distribution.Capabilities(schema.DriverProcess, false)},
		{"Distribution with htpasswd", distribution.Capabilities(schema.DriverProcess, true)},
		{"Embedded", embedded.Capabilities()},
		{"Harbor", harbor.Capabilities()},
		{"Zot", zot.Capabilities(schema.DriverProcess)},
	}
	for i := range list {
		list[i].Table = providers.WithContent(list[i].Table)
	}
	return list
}

func unknown(typ string) error {
	return fmt.Errorf("registry type %q: %w; use zot, harbor or distribution", typ, providers.ErrUnsupported)
}
