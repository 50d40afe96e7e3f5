package distribution

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// orphanGrace is how long a fallback tag may wait for its subject: some clients
// push what refers to an image before the image.
const orphanGrace = 24 * time.Hour

// orphans deletes the tags that stand for referrers of what was deleted from their
// repository, which would stay there for ever, and keeps what they name. Those whose
// subject was never there, as far as is known, stay: signatures may be kept in a
// repository of their own. Distribution keeps no note of a deletion, but on a disk it
// leaves the directory of what it deletes, and a tag has the time of its push; where
// content lies elsewhere all stay. Its program that collects leaves nothing, so what
// that is about to take of their subjects goes through the registry before. It is the
// registry that is asked and that deletes, so one that does not run keeps them, as
// does a proxy, which has its subjects elsewhere.
func (p *Provider) orphans(ctx context.Context, config *document, untagged, dry bool, report *providers.Collected) error {
	root := p.filesystem()
	_, runs, err := p.running(ctx)
	if err != nil || !runs || root == "" || config.get("proxy.remoteurl") != nil {
		return err
	}
	store, err := storage.Open(ctx, root, storage.Bucket{})
	if err != nil {
		return err
	}
	rt, release, err := p.Transport(ctx)
	if err != nil {
		return err
	}
	defer release()
	if t, ok := rt.(*loggedIn); ok {
		t.deletes = func(string) bool { return true }
	}
	c := &client{base: p.registry.URL, start: p.startIt(), http: &http.Client{Transport: rt}}
	tried := map[subject]bool{}
	for {
		list, err := p.referring(ctx, c, store)
		if err != nil || len(list) == 0 {
			return err
		}
		if readsOnly(config) && !dry { // one before was killed
			if err := p.takePushes(context.WithoutCancel(ctx), true); err != nil {
				return err
			}
		}
		var taken map[subject]bool
		if untagged {
			if taken, err = p.takeSubjects(ctx, c, store, list, tried, dry, report); err != nil {
				return err
			}
		}
		for _, t := range list {
			if err := p.orphan(ctx, c, store, t, dry, taken[t.subject], report); err != nil {
				return err
			}
		}
		if dry || len(taken) == 0 { // what is about their referrers may be left alone now
			return nil
		}
	}
}

// subject is what something in a repository may be about.
type subject struct {
	repository string
	digest     digest.Digest
}

// referring is a tag that stands for the referrers of a subject.
type referring struct {
	subject
	tag string
}

// referring lists the tags that stand for referrers, of the specification's fallback
// scheme or of cosign. One that names what nobody has referrers by is an ordinary tag.
func (p *Provider) referring(ctx context.Context, c *client, store *storage.Storage) ([]referring, error) {
	names, err := c.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	var list []referring
	for _, name := range names {
		if access.In(schema.Reserved, name) {
			continue
		}
		tags, err := c.allTags(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, tag := range tags {
			about, ending := storage.FallbackSubject(tag)
			if about == "" {
				continue
			}
			ordinary, err := plain(ctx, store, name, tag, about, ending)
			if err != nil {
				return nil, p.unseen(name, err)
			}
			if !ordinary {
				list = append(list, referring{subject{name, about}, tag})
			}
		}
	}
	return list, nil
}

// plain reports whether a tag that looks like one of referrers names its own subject,
// or an image where it should be a list.
func plain(ctx context.Context, store *storage.Storage, name, tag string, about digest.Digest, ending string) (bool, error) {
	current, err := store.Tag(ctx, name, tag)
	if err != nil && !errors.Is(err, storage.ErrDamaged) {
		return false, err
	}
	if current == about || ending != "" || current == "" {
		return current == about, nil
	}
	if _, there, err := store.Manifest(ctx, name, current); err != nil || !there {
		return false, err
	}
	m, _, err := store.ReadManifest(ctx, current)
	return !m.Index(), err
}

// takeSubjects removes those subjects that the registry's program is about to remove
// for having no tag, and says which they are. What was tried before in this run is left
// to that.
func (p *Provider) takeSubjects(ctx context.Context, c *client, store *storage.Storage, list []referring, tried map[subject]bool, dry bool, report *providers.Collected) (map[subject]bool, error) {
	loose := map[subject]bool{}
	for _, t := range list {
		_, there, err := store.Manifest(ctx, t.repository, t.digest)
		if err == nil && there {
			there, err = untagged(ctx, store, t.subject)
		}
		if err != nil {
			return nil, p.unseen(t.repository, err)
		}
		if there && !tried[t.subject] {
			loose[t.subject] = true
		}
	}
	taken := map[subject]bool{}
	if len(loose) == 0 {
		return taken, nil
	}
	goes := func(s subject) {
		if loose[s] {
			taken[s] = true
		}
	}
	if err := p.garbage(ctx, true, true, "", &providers.Collected{}, goes); err != nil || dry {
		return taken, err
	}
	for s := range taken {
		tried[s] = true
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch still, err := untagged(ctx, store, s); {
		case err != nil:
			return nil, p.unseen(s.repository, err)
		case !still: // somebody gave it a tag meanwhile
			delete(taken, s)
			continue
		}
		if err := c.remove(ctx, s.repository, s.digest.String()); err != nil {
			return nil, p.jobError(jobGC, fmt.Errorf("%s@%s: %w", s.repository, s.digest, err), "run it again")
		}
		report.Manifests++
		p.logger.Info("collection removed a manifest", "repository", s.repository, "digest", s.digest, "why", "no tag")
	}
	return taken, nil
}

// untagged reports whether no tag names a manifest.
func untagged(ctx context.Context, store *storage.Storage, s subject) (bool, error) {
	tags, err := store.Tags(ctx, s.repository)
	for _, tag := range tags {
		switch d, err := store.Tag(ctx, s.repository, tag); {
		case err != nil && !errors.Is(err, storage.ErrDamaged):
			return false, err
		case d == s.digest:
			return false, nil
		}
	}
	return err == nil, err
}

// orphan deletes a tag of referrers if its subject was deleted after it was pushed;
// taken is of a subject that goes in this run.
func (p *Provider) orphan(ctx context.Context, c *client, store *storage.Storage, t referring, dry, taken bool, report *providers.Collected) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	made, there, err := store.TagMade(ctx, t.repository, t.tag)
	if err != nil {
		return p.unseen(t.repository, err)
	}
	if !there || time.Since(made) < orphanGrace {
		return nil
	}
	if !taken || !dry {
		at, gone, err := store.Unlinked(ctx, t.repository, t.digest)
		if err != nil {
			return p.unseen(t.repository, err)
		}
		if !gone || made.After(at) {
			return nil
		}
		if there, err := c.has(ctx, t.repository, t.digest.String()); err != nil {
			return p.jobError(jobGC, err, "run it again")
		} else if there {
			return nil
		}
	}
	report.Tags++
	if dry {
		return nil
	}
	if again, _, err := store.TagMade(ctx, t.repository, t.tag); err != nil || !again.Equal(made) {
		report.Tags--
		return err
	}
	if err := c.remove(ctx, t.repository, t.tag); err != nil {
		return p.jobError(jobGC, fmt.Errorf("%s:%s: %w", t.repository, t.tag, err), "run it again")
	}
	p.logger.Info("collection removed a tag of referrers", "repository", t.repository, "tag", t.tag, "why", "its subject was deleted")
	return nil
}

func (p *Provider) unseen(repository string, err error) error {
	return p.jobError(jobGC, fmt.Errorf("%s: %w", repository, err), "run it where content lies, as a user who may read it")
}

// has reports whether a repository has a manifest. The registry knows only what
// may be sent: all kinds.
func (c *client) has(ctx context.Context, repository, digest string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, strings.TrimSuffix(c.base, "/")+"/v2/"+repository+"/manifests/"+digest, nil)
	if err != nil {
		return false, err
	}
	for _, kind := range []v1.MediaType{v1.OCIManifestSchema1, v1.OCIImageIndex, v1.DockerManifestSchema2, v1.DockerManifestList} {
		req.Header.Add("Accept", string(kind))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, fmt.Errorf("%w: %w", providers.ErrUnreachable, err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)) //nolint:errcheck // HEAD has none
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, fmt.Errorf("HEAD %s answers %d", req.URL.Path, resp.StatusCode)
}
