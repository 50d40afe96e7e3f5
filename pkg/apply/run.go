package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// Outcome is how one change of a run ended.
type Outcome string

// The outcomes.
const (
	Done        Outcome = "done"
	Failed      Outcome = "failed"
	Skipped     Outcome = "skipped"     // what it depends on failed
	Interrupted Outcome = "interrupted" // the run was told to stop first
)

// Line is what is reported of one change as soon as it is known.
type Line struct {
	Action  plan.Action
	Archive bool // a delete that locks instead
	Key     schema.Key
	Outcome Outcome
	Err     error
	Took    time.Duration // since its stage began
}

// Report is what a run did, one line per change that reaches the registry, in
// the plan's order.
type Report struct {
	Lines []Line
	// Recorded counts what only the inventory took note of.
	Recorded int
	// Saved reports that the inventory was written.
	Saved bool
}

// Count counts the lines of one outcome.
func (r Report) Count(o Outcome) int {
	n := 0
	for _, l := range r.Lines {
		if l.Outcome == o {
			n++
		}
	}
	return n
}

// Journal is where a run writes what it is about to do and what became of it.
// It is satisfied by state.Journal.
type Journal interface {
	Begin(...plan.Change) error
	End(...state.Result) error
}

// Run says who runs a plan and where it is written down.
type Run struct {
	Who     state.Run
	Journal Journal
	// Save stores the inventory after the run; it is called at most once, and
	// not at all when nothing changed. It must not depend on the run's context.
	Save func(context.Context, state.Inventory) error
	// Report, if set, is called for each change as it ends, one call at a time.
	Report func(Line)
}

// ErrRefused is returned for a plan with refusals; nothing was written.
var ErrRefused = errors.New("the plan is refused")

// Apply carries out the changes of a plan that Cycle.Plan returned, stage
// after stage, and keeps the inventory in step. It goes on after a failure,
// leaves out what depends on a failed change, and deletes nothing once an
// earlier stage has failed. When ctx ends, requests in flight finish and the
// rest is reported as interrupted.
//
// The error is for what concerns the run as a whole (journal, inventory);
// failed changes are in the report only.
func (c Cycle) Apply(ctx context.Context, found Found, run Run) (Report, error) {
	if len(found.Plan.Refusals) > 0 {
		return Report{}, ErrRefused
	}
	x := &execution{cycle: c, run: run, bad: map[schema.Key]bool{}, lines: map[schema.Key]Line{}, left: map[schema.Key]int{}}
	all := found.Plan.Stages(c.Provider.Batch() == providers.BatchAll)
	first, stages, last := x.part(all)
	fatal := x.written(ctx, first, stages)
	report := x.report(all, fatal == nil)
	recordCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	recorded, saved, err := c.record(recordCtx, found, report, run)
	if err == nil {
		err = c.acknowledge(recordCtx, report)
	}
	fatal = errors.Join(fatal, x.close(ctx, last, fatal != nil || err != nil))
	report = x.report(all, false)
	report.Recorded, report.Saved = recorded, saved
	return report, errors.Join(fatal, err)
}

// acknowledge tells the registry that renames are written down here, so that it
// need not remind of them.
func (c Cycle) acknowledge(ctx context.Context, report Report) error {
	var keys []schema.Key
	for _, l := range report.Lines {
		if l.Action == plan.Rename && l.Outcome == Done {
			keys = append(keys, l.Key)
		}
	}
	a, ok := c.Provider.(providers.Acknowledger)
	if !ok || len(keys) == 0 {
		return nil
	}
	if err := a.Acknowledge(ctx, keys); err != nil {
		return fmt.Errorf("what was renamed is done and recorded, and the registry could not be told so: %w; apply again", err)
	}
	return nil
}

type execution struct {
	cycle Cycle
	run   Run
	mu    sync.Mutex
	bad   map[schema.Key]bool // failed, skipped or interrupted
	lines map[schema.Key]Line
	left  map[schema.Key]int // parts of a change that are to be done
}

// stage runs one stage; its error ends the run.
func (x *execution) stage(ctx context.Context, stage []plan.Change) error {
	began := time.Now()
	var todo []plan.Change
	for _, ch := range stage {
		switch why := x.blocked(ch); {
		case ctx.Err() != nil:
			x.end(ch, Interrupted, ctx.Err(), began)
		case why != "":
			x.end(ch, Skipped, errors.New(why), began)
		default:
			todo = append(todo, ch)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if err := x.run.Journal.Begin(todo...); err != nil {
		for _, ch := range todo {
			x.end(ch, Skipped, errors.New("not begun: the journal cannot be written"), began)
		}
		return fmt.Errorf("journal: %w", err)
	}
	byKey := make(map[schema.Key]plan.Change, len(todo))
	for _, ch := range todo {
		byKey[ch.Key] = ch
	}
	var results []state.Result
	report := func(k schema.Key, err error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		ch, ok := byKey[k]
		if !ok {
			return // not asked for, or reported before
		}
		delete(byKey, k)
		results = append(results, state.Result{Change: ch, Err: err})
		x.endLocked(ch, outcome(err), err, began)
	}
	err := x.cycle.whole().Write(ctx, todo, report)
	if err == nil {
		err = errors.New("the provider did not say what became of it")
	}
	for _, ch := range todo {
		report(ch.Key, err)
	}
	if err := x.run.Journal.End(results...); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func outcome(err error) Outcome {
	switch {
	case err == nil:
		return Done
	case errors.Is(err, context.Canceled):
		return Interrupted
	}
	return Failed
}

// blocked says why a change must not be tried now, or "".
func (x *execution) blocked(ch plan.Change) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.bad) == 0 {
		return ""
	}
	if x.bad[ch.Key] {
		return "another part of it was not done"
	}
	if ch.Action == plan.Delete || ch.Action == plan.Replace {
		return "nothing is deleted in a run in which something failed before"
	}
	for _, need := range ch.Needs() {
		if x.bad[need] {
			return fmt.Sprintf("it needs %s, which was not done", need)
		}
	}
	return ""
}

func (x *execution) end(ch plan.Change, o Outcome, err error, began time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.endLocked(ch, o, err, began)
}

func (x *execution) endLocked(ch plan.Change, o Outcome, err error, began time.Time) {
	if _, known := x.lines[ch.Key]; known { // a part of it ended so
		return
	}
	if x.left[ch.Key]--; o == Done && x.left[ch.Key] > 0 {
		return
	}
	l := Line{Action: ch.Action, Archive: ch.Archive, Key: ch.Key, Outcome: o, Err: err, Took: time.Since(began)}
	x.lines[ch.Key] = l
	if o != Done {
		x.bad[ch.Key] = true
	}
	if x.run.Report != nil {
		x.run.Report(l)
	}
}

// report lists what became of each change. Of one whose last part is still to come
// it says, where told to hope, that it is done: that is what the inventory is to say
// before a registry is closed.
func (x *execution) report(stages [][]plan.Change, hope bool) Report {
	var r Report
	for _, ch := range slices.Concat(stages...) {
		l, ok := x.lines[ch.Key]
		if x.left[ch.Key] > 0 && hope && len(x.bad) == 0 {
			l = Line{Action: ch.Action, Archive: ch.Archive, Key: ch.Key, Outcome: Done}
		} else if !ok {
			l = Line{Action: ch.Action, Archive: ch.Archive, Key: ch.Key, Outcome: Skipped, Err: errors.New("not begun")}
		}
		r.Lines = append(r.Lines, l)
	}
	return r
}
