package apply

import (
	"context"
	"fmt"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Verify reads the registry again after a run and fails if something that was
// reported done does not hold. What was held, failed or skipped is not its
// concern. Where the registry's provider proves a run by a part of it, so does this.
func (c Cycle) Verify(ctx context.Context, report Report) (Found, error) {
	done := map[schema.Key]bool{}
	for _, l := range report.Lines {
		done[l.Key] = l.Outcome == Done
	}
	c.proof = done
	found, err := c.Plan(ctx)
	if err != nil {
		return found, fmt.Errorf("reading again after the apply: %w", err)
	}
	var wrong []string
	check := func(ch plan.Change) {
		if !ch.Recorded() && done[ch.Key] {
			wrong = append(wrong, fmt.Sprintf("%s (%s %s)", ch.Key, ch.Action, fieldPaths(ch)))
		}
	}
	for _, ch := range found.Plan.Changes {
		check(ch)
	}
	for _, h := range found.Plan.Held {
		check(h.Change)
	}
	if len(wrong) > 0 {
		return found, fmt.Errorf("written and accepted, but the registry does not show it: %s; look for another writer, or for a setting the registry ignores", strings.Join(wrong, ", "))
	}
	return found, nil
}

func fieldPaths(ch plan.Change) string {
	var paths []string
	for _, f := range ch.Fields {
		paths = append(paths, f.Path)
	}
	return strings.Join(paths, ", ")
}
