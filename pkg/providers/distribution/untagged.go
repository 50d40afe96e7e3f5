package distribution

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/providers"
)

// untaggedGrace is how old a manifest without a tag must be to go: the index or
// tag that names it may still be on its way.
const untaggedGrace = time.Hour

// removeLoose removes the manifests of a repository that no tag reaches, through
// the registry, which lists none: they are those of its directory of content. A
// tag that goes in a dry run counts as gone. Nothing keeps a client from naming
// such a manifest in the very moment, other than that it is asked for again
// before.
func (p *Provider) removeLoose(ctx context.Context, c *client, root, name string, dry bool, report *providers.Retained) error {
	store, err := storage.Open(ctx, root, storage.Bucket{})
	if err != nil {
		return err
	}
	fail := func(err error) error {
		return p.jobError(jobRetention, fmt.Errorf("%s: %w", name, err), "run it where content lies, as a user who may read it")
	}
	stay, err := tagged(ctx, store, name)
	if err != nil {
		return fail(err)
	}
	if dry {
		for _, g := range report.Gone {
			if tag, ok := strings.CutPrefix(g.Name, name+":"); ok {
				delete(stay, tag)
			}
		}
	}
	loose, err := store.Loose(ctx, name, stay, func(l storage.Link) bool { return time.Since(l.Made) <= untaggedGrace })
	if err != nil {
		return fail(err)
	}
	for _, d := range loose {
		gone := providers.Gone{Name: name + "@" + d.String(), Why: "no tag"}
		if !dry {
			if err := ctx.Err(); err != nil {
				return err
			}
			again, err := p.wanted(ctx, store, name, d, stay)
			switch {
			case err != nil:
				return fail(err)
			case again:
				continue
			}
			if err := c.remove(ctx, name, d.String()); err != nil {
				gone.Error = err.Error()
				p.logger.Error("retention could not remove a manifest", "repository", name, "digest", d, "error", err)
			} else {
				p.logger.Info("retention removed a manifest", "repository", name, "digest", d, "why", gone.Why)
			}
		}
		report.Gone = append(report.Gone, gone)
	}
	return nil
}

// wanted reports whether a manifest was pushed, or given a tag that it did not
// have before, a moment ago. The tags that it had are those of referrers, and go
// along.
func (p *Provider) wanted(ctx context.Context, store *storage.Storage, name string, d digest.Digest, before map[string]digest.Digest) (bool, error) {
	made, there, err := store.Manifest(ctx, name, d)
	if err != nil || !there || time.Since(made) <= untaggedGrace {
		return true, err
	}
	now, err := tagged(ctx, store, name)
	for tag, other := range now {
		if other == d && before[tag] != d {
			return true, err
		}
	}
	return false, err
}

// tagged is what the tags of a repository name, those of referrers too.
func tagged(ctx context.Context, store *storage.Storage, name string) (map[string]digest.Digest, error) {
	tags, err := store.Tags(ctx, name)
	out := map[string]digest.Digest{}
	for _, tag := range tags {
		if out[tag], err = store.Tag(ctx, name, tag); err != nil {
			return nil, err
		}
	}
	return out, err
}
