package zot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// searchPath is where a Zot that is built with the search extension, and has it
// on, answers GraphQL.
const searchPath = "/v2/_zot/ext/search"

// searchQuery is one query for everything, as far as the account may pull: all
// repositories that have tags, with their size, and all tags. Every field is of
// 2.1.6 already.
const searchQuery = `{GlobalSearch(query:""){Repos{Name Size}} ImageList(repo:""){Results{RepoName PushTimestamp LastPullTimestamp}}}`

// found is an answer to the query.
type found struct {
	Data struct {
		GlobalSearch *struct{ Repos []foundRepository }
		ImageList    *struct{ Results []foundTag }
	}
	Errors []json.RawMessage
}

type foundRepository struct{ Name, Size string }

type foundTag struct {
	RepoName                         string
	PushTimestamp, LastPullTimestamp time.Time // of 1970 and before: none
}

// searched asks the search extension for all repositories. It is an extra: ok
// is false wherever there is none, it is off, or it answers anything else.
func (p *Provider) searched(ctx context.Context, client *http.Client, user, password string) (list map[string]schema.RepositoryInfo, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := p.search(ctx, client, user, password, searchQuery, func(r io.Reader) { list, ok = readFound(r) })
	return list, ok && err == nil
}

// Sizes implements [providers.Sizer] by the search extension.
func (p *Provider) Sizes(ctx context.Context, repositories []string) (map[string]int64, error) {
	client, rt, err := p.client()
	if err != nil {
		return nil, err
	}
	defer rt.CloseIdleConnections()
	user, password, err := p.login(ctx)
	if err != nil {
		return nil, err
	}
	told, ok := p.searched(ctx, client, user, password)
	if !ok {
		return nil, p.fail(schema.Key{}, "asking how much its repositories hold", fmt.Errorf("%w: it has no search extension, or that is off", providers.ErrUnsupported), "")
	}
	out := map[string]int64{}
	for _, name := range repositories {
		if r, ok := told[name]; ok {
			out[name] = int64(r.Bytes)
		}
	}
	return out, nil
}

var _ providers.Sizer = (*Provider)(nil)

// search asks the search extension, and has its answer read.
func (p *Provider) search(ctx context.Context, client *http.Client, user, password, query string, read func(io.Reader)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.Scheme+"://"+p.url.Host+searchPath+"?query="+url.QueryEscape(query), nil)
	if err != nil {
		return err
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: its search extension answers %d", providers.ErrUnsupported, resp.StatusCode)
	}
	read(resp.Body)
	return nil
}

// readFound reads an answer of at most maxAnswer bytes.
func readFound(r io.Reader) (map[string]schema.RepositoryInfo, bool) {
	var f found
	if err := json.NewDecoder(io.LimitReader(r, maxAnswer)).Decode(&f); err != nil || len(f.Errors) > 0 || f.Data.GlobalSearch == nil || f.Data.ImageList == nil {
		return nil, false
	}
	list := make(map[string]schema.RepositoryInfo, len(f.Data.GlobalSearch.Repos))
	for _, r := range f.Data.GlobalSearch.Repos {
		size, err := strconv.ParseInt(r.Size, 10, 64)
		if err != nil || size < 0 || r.Name == "" {
			return nil, false
		}
		list[r.Name] = schema.RepositoryInfo{Name: r.Name, Bytes: schema.Size(size)}
	}
	for _, t := range f.Data.ImageList.Results {
		r, known := list[t.RepoName]
		if !known {
			return nil, false
		}
		r.Tags++
		r.Pushed, r.Pulled = later(r.Pushed, t.PushTimestamp), later(r.Pulled, t.LastPullTimestamp)
		list[t.RepoName] = r
	}
	return list, true
}

// later is the day of an instant, if there was one and it is later.
func later(day schema.Date, at time.Time) schema.Date {
	if at.Unix() <= 0 || !day.Before(schema.DateOf(at)) {
		return day
	}
	return schema.DateOf(at)
}

// searches reports whether the configuration has the extension on. Whether the
// program has it only its answer tells.
func (c configuration) searches() bool {
	s := c.Extensions.Search
	return s != nil && truth(s.Enable, true)
}

// enriched adds what the search extension knows of repositories that lie on the
// disk. What lies there counts: the extension goes by a record of its own.
func (p *Provider) enriched(ctx context.Context, list []schema.RepositoryInfo) []schema.RepositoryInfo {
	client, rt, err := p.client()
	if err != nil {
		return list
	}
	defer rt.CloseIdleConnections()
	user, password, err := p.login(ctx)
	if err != nil {
		return list
	}
	more, ok := p.searched(ctx, client, user, password)
	if !ok {
		return list
	}
	for i, r := range list {
		if m, ok := more[r.Name]; ok {
			list[i].Bytes, list[i].Pushed, list[i].Pulled = m.Bytes, m.Pushed, m.Pulled
		}
	}
	return list
}
