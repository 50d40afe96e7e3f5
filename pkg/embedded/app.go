package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/distribution/reference"
	"github.com/sirupsen/logrus"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

// pageSize bounds a page of the catalogue and of a repository's tags.
const pageSize = 1000

// silence quiets Distribution's log, which is of the process and names every
// request; failures are logged by the handler in front of it.
var silence = sync.OnceFunc(func() { //nolint:gochecknoglobals // the log is of the process, so is the once
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.PanicLevel)
})

// newApp starts Distribution on a data directory. With purge it removes
// uploads that were left unfinished a week ago; without, it writes nothing of
// its own accord.
func newApp(ctx context.Context, data string, purge bool) (app *handlers.App, err error) {
	silence()
	if err := registerController(); err != nil {
		return nil, fmt.Errorf("starting the embedded registry: %w", err)
	}
	defer func() { // NewApp panics on what it does not like
		if p := recover(); p != nil {
			app, err = nil, fmt.Errorf("starting the embedded registry: %v", p)
		}
	}()
	return handlers.NewApp(ctx, config(data, purge)), nil
}

// config is Distribution's configuration, made by hand: its parser would read
// REGISTRY_* from the environment, and so the defaults it sets are set here.
// There is no blob descriptor cache: with one, collection beside pushes breaks
// images.
func config(data string, purge bool) *configuration.Configuration {
	c := &configuration.Configuration{Version: configuration.CurrentVersion}
	c.Log.AccessLog.Disabled = true
	c.Storage = configuration.Storage{
		"filesystem": configuration.Parameters{"rootdirectory": data},
		"delete":     configuration.Parameters{"enabled": true},
		// Distribution wants this very type
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{
			"enabled": purge, "age": "168h", "interval": "24h", "dryrun": false,
		}},
	}
	c.Auth = configuration.Auth{controllerName: configuration.Parameters{}}
	c.Catalog.MaxEntries = pageSize
	c.Tags.MaxTags = pageSize
	c.HTTP.RelativeURLs = true
	c.Validation.Manifests.Indexes.Platforms = "none"
	// layers that are kept elsewhere: clients fetch them, the registry does not
	c.Validation.Manifests.URLs.Allow = []string{"^https?://"}
	return c
}

func storageDriver(data string) storagedriver.StorageDriver {
	return filesystem.New(filesystem.DriverParameters{RootDirectory: data, MaxThreads: 100})
}

// content opens the same storage without HTTP, for listings. It writes nothing.
func content(ctx context.Context, data string) (distribution.Namespace, error) {
	ns, err := storage.NewRegistry(ctx, storageDriver(data))
	if err != nil {
		return nil, fmt.Errorf("opening the storage in %s: %w", data, err)
	}
	return ns, nil
}

// repositories lists, sorted by name, the repositories that are one of the
// names or lie below one, with their number of tags. "*" stands for all.
func repositories(ctx context.Context, ns distribution.Namespace, names []string) ([]schema.RepositoryInfo, error) {
	list := []schema.RepositoryInfo{}
	err := pages(ctx, ns, "", func(name string) (bool, error) {
		if !selected(names, name) {
			return true, nil
		}
		named, err := reference.WithName(name)
		if err != nil {
			return true, nil //nolint:nilerr // a directory that no client could have made
		}
		repo, err := ns.Repository(ctx, named)
		if err != nil {
			return false, err
		}
		tags, err := repo.Tags(ctx).All(ctx)
		if unknown := (distribution.ErrRepositoryUnknown{}); err != nil && !errors.As(err, &unknown) {
			return false, fmt.Errorf("listing the tags of %s: %w", name, err)
		}
		list = append(list, schema.RepositoryInfo{Name: name, Tags: len(tags)})
		return true, nil
	})
	st := schema.State{Repositories: list}
	return list, errors.Join(err, st.Sort())
}

func selected(names []string, repository string) bool {
	for _, n := range names {
		if n == "*" || access.In(n, repository) {
			return true
		}
	}
	return false
}

// pages calls visit for each repository after the one named last, in the
// storage's order, until visit returns false.
func pages(ctx context.Context, ns distribution.Namespace, last string, visit func(string) (bool, error)) error {
	page := make([]string, pageSize)
	for {
		n, err := ns.Repositories(ctx, page, last)
		absent := storagedriver.PathNotFoundError{}
		end := errors.Is(err, io.EOF) || errors.As(err, &absent)
		if err != nil && !end {
			return fmt.Errorf("listing repositories: %w", err)
		}
		for _, name := range page[:n] {
			if more, err := visit(name); err != nil || !more {
				return err
			}
		}
		if end || n == 0 {
			return nil
		}
		last = page[n-1]
	}
}
