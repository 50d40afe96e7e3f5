package distribution

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// places are the parameters of a driver that say where content is.
func places() map[string][]string {
	return map[string][]string{
		"filesystem": {"rootdirectory"},
		"s3":         {"bucket", "region", "regionendpoint", "rootdirectory"},
		"gcs":        {"bucket", "rootdirectory"},
		"azure":      {"accountname", "container", "serviceurl", "rootdirectory"},
		"inmemory":   nil,
	}
}

// store is where content is: the driver, and its parameters that say where.
func store(values schema.Values) (driver, where string) {
	for _, d := range drivers() {
		var said []string
		for _, v := range values {
			name, ok := strings.CutPrefix(v.Path, "storage."+d+".")
			if v.Path == "storage."+d || ok {
				driver = d
			}
			if ok && slices.Contains(places()[d], name) && v.JSON != `""` {
				said = append(said, strings.Trim(v.JSON, `"`))
			}
		}
		if driver != "" {
			return driver, strings.TrimSpace(d + " " + strings.Join(said, " "))
		}
	}
	return "", ""
}

// moves says why a change that has the registry look for its content elsewhere
// must wait for an approval, and what goes with it; "" for others, and where
// there is nothing to lose.
func (p *Provider) moves(ctx context.Context, native schema.Values) (why, gone string, err error) {
	live, err := p.inForce(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	have, _, err := live.doc.leaves()
	if err != nil {
		return "", "", p.configError("reading settings", err)
	}
	was, from := store(have)
	if was == "" {
		return "", "", nil
	}
	next := slices.DeleteFunc(slices.Clone(native), func(v schema.Value) bool { return placeOf(v.Path) == "" })
	if len(next) == 0 {
		return "", "", nil
	}
	for _, v := range have { // what is not said stays
		if placeOf(v.Path) == placeOf(next[0].Path) && !slices.ContainsFunc(next, func(n schema.Value) bool { return n.Path == v.Path }) {
			next = append(next, v)
		}
	}
	slices.SortFunc(next, byPath)
	is, to := store(next)
	if from == to {
		return "", "", nil
	}
	held, err := p.holds(ctx)
	if err != nil || held == "" {
		return "", "", err
	}
	gone = fmt.Sprintf("what lies in %s (%s) is served no more, and nothing is copied to %s", from, held, to)
	if was == "inmemory" {
		gone = fmt.Sprintf("what the registry has in memory (%s) is lost", held)
	}
	if is == "inmemory" {
		gone += "; what is pushed there is lost with each restart"
	}
	return "the registry gets another place for its content", gone, nil
}

// holds says what content there is, "" for none.
func (p *Provider) holds(ctx context.Context) (string, error) {
	list, err := p.repositories(ctx, []string{"*"})
	if err == nil {
		tags := 0
		for _, r := range list {
			tags += r.Tags
		}
		if len(list) == 0 {
			return "", ctx.Err()
		}
		return fmt.Sprintf("repositories: %d, tags: %d", len(list), tags), ctx.Err()
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if root := p.filesystem(); root != "" {
		if _, err := os.Stat(filepath.Join(root, contentDir, "repositories")); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
	}
	reason := err
	if errors.Is(err, providers.ErrUnreachable) {
		reason = providers.ErrUnreachable
	}
	return "how much is not known: " + strings.ReplaceAll(reason.Error(), "\n", "; "), nil
}
