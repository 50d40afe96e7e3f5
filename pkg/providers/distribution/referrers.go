package distribution

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// orphanGrace is how long a fallback tag may wait for its subject: some clients
// push what refers to an image before the image.
const orphanGrace = 24 * time.Hour

// orphans deletes the fallback tags of referrers whose subject is not in their
// repository any more, which would stay there for ever, and keep what they name.
// Where it is not known since when a tag is there, it stays. It is the registry
// that is asked and that deletes, so one that does not run keeps them until the
// next time, as does a proxy, which has its subjects elsewhere.
func (p *Provider) orphans(ctx context.Context, config *document, dry bool, report *providers.Collected) error {
	_, runs, err := p.running(ctx)
	if err != nil || !runs || config.get("proxy.remoteurl") != nil {
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
	names, err := c.catalogue(ctx)
	if err != nil {
		return err
	}
	pushed := p.pushTimes()
	for _, name := range names {
		if access.In(schema.Reserved, name) {
			continue
		}
		tags, err := c.allTags(ctx, name)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if !fallback(tag) {
				continue
			}
			made := pushed(name, tag)
			if made.IsZero() || time.Since(made) < orphanGrace {
				continue
			}
			subject := strings.Replace(tag, "-", ":", 1)
			if there, err := c.has(ctx, name, subject); err != nil || there {
				if err != nil {
					return p.jobError(jobGC, err, "run it again")
				}
				continue
			}
			report.Tags++
			if dry || !pushed(name, tag).Equal(made) {
				continue
			}
			if err := c.remove(ctx, name, tag); err != nil {
				return p.jobError(jobGC, fmt.Errorf("%s:%s: %w", name, tag, err), "run it again")
			}
			p.logger.Info("collection removed a fallback tag", "repository", name, "tag", tag, "why", "its subject is gone")
		}
	}
	return nil
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
