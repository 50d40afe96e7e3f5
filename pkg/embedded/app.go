package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
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

// driverName names what Distribution stores with in its configuration.
const driverName = "ocisync"

// registerDriver makes Distribution store with the driver it is configured
// with. Its table of drivers is of the process, and holds nothing.
var registerDriver = sync.OnceFunc(func() { factory.Register(driverName, givenDriver{}) }) //nolint:gochecknoglobals // the table is of the process, so is the once

type givenDriver struct{}

// Create implements [factory.StorageDriverFactory].
func (givenDriver) Create(_ context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	if d, ok := parameters["driver"].(storagedriver.StorageDriver); ok {
		return d, nil
	}
	return nil, errors.New("no driver is given")
}

// newApp starts Distribution on a storage. With the key that signs uploads it
// removes those that were left unfinished a week ago, in case that nobody
// collects; without, with "", it writes nothing of its own accord.
func newApp(ctx context.Context, s *storage.Storage, key string) (app *handlers.App, err error) {
	silence()
	registerDriver()
	if err := registerController(); err != nil {
		return nil, fmt.Errorf("starting the embedded registry: %w", err)
	}
	defer func() { // NewApp panics on what it does not like
		if p := recover(); p != nil {
			app, err = nil, fmt.Errorf("starting the embedded registry: %v", p)
		}
	}()
	return handlers.NewApp(ctx, config(s.Driver(), key)), nil
}

// config is Distribution's configuration, made by hand: its parser would read
// REGISTRY_* from the environment, and so the defaults it sets are set here.
// There is no blob descriptor cache: with one, collection beside pushes breaks
// images.
func config(driver storagedriver.StorageDriver, key string) *configuration.Configuration {
	c := &configuration.Configuration{Version: configuration.CurrentVersion}
	c.Log.AccessLog.Disabled = true
	c.Storage = configuration.Storage{
		driverName: configuration.Parameters{"driver": driver},
		"delete":   configuration.Parameters{"enabled": true},
		// a bucket stays behind the registry: who may pull is asked each time,
		// and clients need not reach it
		"redirect": configuration.Parameters{"disable": true},
		// Distribution wants this very type
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{
			"enabled": key != "", "age": "168h", "interval": "24h", "dryrun": false,
		}},
	}
	c.Auth = configuration.Auth{controllerName: configuration.Parameters{}}
	c.Catalog.MaxEntries = pageSize
	c.Tags.MaxTags = pageSize
	c.HTTP.RelativeURLs = true
	c.HTTP.Secret = key
	c.Validation.Manifests.Indexes.Platforms = "none"
	// layers that are kept elsewhere: clients fetch them, the registry does not
	c.Validation.Manifests.URLs.Allow = []string{"^https?://"}
	return c
}

// repositories lists, sorted by name, the repositories that are one of the
// names or lie below one, with their number of tags. "*" stands for all.
func repositories(ctx context.Context, s *storage.Storage, names []string) ([]schema.RepositoryInfo, error) {
	list := []schema.RepositoryInfo{}
	err := s.Catalogue(ctx, "", func(name string) (bool, error) {
		if !selected(names, name) {
			return true, nil
		}
		if _, err := reference.WithName(name); err != nil {
			return true, nil //nolint:nilerr // a directory that no client could have made
		}
		tags, err := s.Tags(ctx, name)
		if err != nil {
			return false, fmt.Errorf("listing the tags of %s: %w", name, err)
		}
		list = append(list, schema.RepositoryInfo{Name: name, Tags: len(tags)})
		return true, nil
	})
	st := schema.State{Repositories: list}
	return list, errors.Join(err, st.Sort())
}

// sizes tells the bytes of the repositories that are selected as for repositories: of the
// blobs and manifests that each links to, each once. In a bucket it would be a request
// for each, and nothing is told.
func sizes(ctx context.Context, s *storage.Storage, names []string) (map[string]int64, error) {
	out, blobs := map[string]int64{}, map[digest.Digest]int64{}
	if s.InBucket() {
		return out, nil
	}
	return out, s.Catalogue(ctx, "", func(name string) (bool, error) {
		if !selected(names, name) {
			return true, nil
		}
		layers, err := s.Layers(ctx, name)
		if err != nil {
			return false, err
		}
		manifests, err := s.Manifests(ctx, name)
		if err != nil {
			return false, err
		}
		out[name] = 0
		for _, d := range storage.Targets(append(layers, manifests...)) {
			if _, known := blobs[d]; !known {
				b, _, err := s.Blob(ctx, d)
				if err != nil {
					return false, err
				}
				blobs[d] = b.Size
			}
			out[name] += blobs[d]
		}
		return true, nil
	})
}

func selected(names []string, repository string) bool {
	for _, n := range names {
		if n == "*" || access.In(n, repository) {
			return true
		}
	}
	return false
}
