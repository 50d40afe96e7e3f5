package zot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// listQuery is one query for the tags of all repositories that the account may pull,
// and whether something refers to them. Every field is of 2.1.6 already. Zot counts a
// signature not among what refers to an image, and of an index cosign signs the parts
// as well.
const listQuery = `{ImageList(repo:""){Page{TotalCount} Results{RepoName Tag Digest IsSigned Referrers{Digest} Manifests{IsSigned Referrers{Digest}}}}}`

// maxListing bounds the answer, in bytes: some 300000 tags.
const maxListing = 64 << 20

// images is an answer to the query.
type images struct {
	Data struct {
		ImageList *struct {
			Page    struct{ TotalCount int }
			Results []image
		}
	}
	Errors []json.RawMessage
}

type image struct {
	RepoName, Tag, Digest string
	referred
	Manifests []referred
}

// referred is whether something refers to a manifest.
type referred struct {
	IsSigned  *bool
	Referrers []struct{ Digest string }
}

func (r referred) is() bool { return r.IsSigned == nil || *r.IsSigned || len(r.Referrers) > 0 }

// List implements [providers.Lister] by the search extension. That goes by a record of
// its own, in which a repository stays whose files somebody removed: what the catalogue
// does not have is not told.
func (p *Provider) List(ctx context.Context, repositories []string) (map[string]providers.Listed, error) {
	fail := func(err error) error {
		return p.fail(schema.Key{}, "listing its images", err, "")
	}
	client, rt, err := p.client()
	if err != nil {
		return nil, fail(err)
	}
	defer rt.CloseIdleConnections()
	user, password, err := p.login(ctx)
	if err != nil {
		return nil, fail(err)
	}
	var told map[string]providers.Listed
	var unread error
	if err := p.search(ctx, client, user, password, listQuery, func(r io.Reader) { told, unread = readImages(r) }); err != nil {
		return nil, fail(err)
	}
	if unread != nil {
		return nil, fail(unread)
	}
	names, err := p.catalogue(ctx, client, user, password)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, n := range names {
		there[n] = true
	}
	out := map[string]providers.Listed{}
	for _, n := range repositories {
		if is, ok := told[n]; ok && there[n] {
			out[n] = is
		}
	}
	return out, nil
}

// readImages reads an answer, which must be whole.
func readImages(r io.Reader) (map[string]providers.Listed, error) {
	var got images
	if err := json.NewDecoder(io.LimitReader(r, maxListing)).Decode(&got); err != nil {
		return nil, fmt.Errorf("%w: what its search extension answers is not read: %w", providers.ErrUnsupported, err)
	}
	list := got.Data.ImageList
	if len(got.Errors) > 0 || list == nil || list.Page.TotalCount != len(list.Results) {
		return nil, fmt.Errorf("%w: its search extension does not answer whole", providers.ErrUnsupported)
	}
	out := map[string]providers.Listed{}
	for _, i := range list.Results {
		if i.RepoName == "" || i.Tag == "" || i.Digest == "" {
			return nil, fmt.Errorf("%w: its search extension names an image without a tag", providers.ErrUnsupported)
		}
		is, ok := out[i.RepoName]
		if !ok {
			is = providers.Listed{Tags: map[string]string{}, Referred: map[string]bool{}}
			out[i.RepoName] = is
		}
		is.Tags[i.Tag] = i.Digest
		if i.is() || slices.ContainsFunc(i.Manifests, referred.is) {
			is.Referred[i.Digest] = true
		}
	}
	return out, nil
}

var _ providers.Lister = (*Provider)(nil)
