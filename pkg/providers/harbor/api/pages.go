package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/providers"
)

// page is the longest that Harbor gives.
const page = 100

// list reads all pages of a list. The first says how many there are, and the
// others are asked for together. Rows may move from one page to another meanwhile:
// what comes twice counts once, by its id, and a list that then has not as many
// rows as Harbor says is read again. One that shows the same again is whole: Harbor
// counts members whom it does not show.
func list[T any, K comparable](ctx context.Context, c *Client, r call, id func(T) K) ([]T, error) {
	const rounds = 3
	var before []K
	for n := 1; ; n++ {
		rows, total, err := round(ctx, c, r, id)
		if err != nil || total < 0 || len(rows) >= total {
			return rows, err
		}
		ids := []K{}
		for _, row := range rows {
			ids = append(ids, id(row))
		}
		if n > 1 && slices.Equal(ids, before) {
			return rows, nil
		}
		before = ids
		if n == rounds {
			return nil, c.fail(r.doing, fmt.Errorf("%w: it says that there are %d and shows %d", providers.ErrConflict, total, len(rows)), "try again when fewer others write")
		}
	}
}

func round[T any, K comparable](ctx context.Context, c *Client, r call, id func(T) K) (rows []T, total int, err error) {
	get := func(ctx context.Context, n int) ([]T, http.Header, error) {
		q := url.Values{}
		for k, v := range r.query {
			q[k] = v
		}
		q.Set("page", strconv.Itoa(n))
		q.Set("page_size", strconv.Itoa(page))
		one := r
		one.query = q
		var rows []T
		header, err := do(ctx, c, one, &rows)
		return rows, header, err
	}
	first, header, err := get(ctx, 1)
	if err != nil {
		return nil, 0, err
	}
	total, err = strconv.Atoi(header.Get("X-Total-Count"))
	if err != nil {
		return first, -1, nil //nolint:nilerr // a list without pages
	}
	pages := make([][]T, max(1, (total+page-1)/page))
	pages[0] = first
	work, ctx := errgroup.WithContext(ctx)
	for i := 1; i < len(pages); i++ {
		work.Go(func() (err error) {
			pages[i], _, err = get(ctx, i+1)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, 0, err
	}
	seen := map[K]bool{}
	for _, p := range pages {
		for _, row := range p {
			if k := id(row); !seen[k] {
				seen[k] = true
				rows = append(rows, row)
			}
		}
	}
	return rows, total, nil
}

// escape puts a name into a path. Behind Harbor's own proxy only a slash that was
// escaped twice arrives as one.
func escape(name string) string { return url.PathEscape(url.PathEscape(name)) }
