package apply

import (
	"context"
	"errors"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
)

// part takes out of the stages what the provider wants to be written before them
// and after them. A change of which all is taken is in no stage.
func (x *execution) part(stages [][]plan.Change) (first []plan.Change, rest [][]plan.Change, last []plan.Change) {
	p, ok := x.cycle.Provider.(providers.Parted)
	if !ok {
		return nil, stages, nil
	}
	for _, stage := range stages {
		var kept []plan.Change
		for _, ch := range stage {
			begin, then, end := p.Part(ch)
			if begin != nil {
				first = append(first, *begin)
				x.left[ch.Key]++
			}
			if then != nil {
				kept = append(kept, *then)
				x.left[ch.Key]++
			}
			if end != nil {
				last = append(last, *end)
				x.left[ch.Key]++
			}
		}
		if len(kept) > 0 {
			rest = append(rest, kept)
		}
	}
	return first, rest, last
}

// skip ends changes that are not tried.
func (x *execution) skip(changes []plan.Change, why string) {
	for _, ch := range changes {
		x.end(ch, Skipped, errors.New(why), time.Now())
	}
}

// written carries out all but what comes last. Its error ends the run.
func (x *execution) written(ctx context.Context, first []plan.Change, stages [][]plan.Change) error {
	if len(first) > 0 {
		if err := x.stage(ctx, first); err != nil {
			return err
		}
		if len(x.bad) > 0 {
			for _, stage := range stages {
				x.skip(stage, "what had to be done before all else was not")
			}
			return nil
		}
	}
	for _, stage := range stages {
		if err := x.stage(ctx, stage); err != nil {
			return err
		}
	}
	return nil
}

// close writes what comes last, unless something before it went wrong: a registry
// that takes no changes any more cannot be mended.
func (x *execution) close(ctx context.Context, last []plan.Change, failed bool) error {
	if len(last) == 0 {
		return nil
	}
	if failed || len(x.bad) > 0 {
		x.skip(last, "it comes last, and not all before it was done; apply again")
		return nil
	}
	return x.stage(ctx, last)
}
