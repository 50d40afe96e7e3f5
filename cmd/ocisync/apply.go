package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

type applyOptions struct {
	*options
	yes     bool
	approve string
	anew    bool
	fresh   bool
	wait    time.Duration
}

func newApply(o *options) *cobra.Command {
	a := &applyOptions{options: o}
	cmd := &cobra.Command{
		Use:     "apply",
		GroupID: "loop",
		Short:   "Make the registry what the mode says",
		Long: `Apply plans as plan does, shows the plan and carries it out; then it reads the
registry again and proves that it took hold. A second apply writes nothing.

On a terminal it asks first (--yes skips that); elsewhere it applies, because
what is dangerous is held: it is shown, not written, until the plan is approved
by its digest with --approve.

A Zot or Distribution is configured by files of its own host. From another one,
apply does what the registry can be asked to do, and what waits for that host is
pending: it exits with 5 and says what to run there. With --wait it waits until
the inventory in the registry shows that it was done there.

Of content that it copies it tells how far it is, by --progress and --metrics-file, as
copy does.
` + exitHelp,
		Example: "  ocisync apply --mode prod\n  ocisync apply --mode prod --approve sha256:4f2a...",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.run(c.Context()) },
	}
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	o.verboseFlag(cmd, "show adopted and forgotten objects, every note, and each of many changes")
	f := cmd.Flags()
	f.BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	f.StringVar(&a.approve, "approve", "", "apply the plan with this `digest` and no other, held changes included, once")
	f.BoolVar(&a.anew, "new-inventory", false, "write a new inventory over one that cannot be trusted; ocisync then owns what the mode declares")
	f.DurationVar(&a.wait, "wait", 0, "wait for what is pending on the registry's own host, for a `time` at most")
	f.Lookup("wait").NoOptDefVal = usualWait.String()
	a.progressFlags(cmd)
	a.newFlag(cmd, &a.fresh)
	return cmd
}

// applyResult is what apply prints with --output json.
type applyResult struct {
	Plan    plan.Printed `json:"plan"`
	Lines   []applyLine  `json:"changes"`
	Proved  bool         `json:"proved"`
	Run     string       `json:"run,omitempty"`
	Message string       `json:"message"`
}

type applyLine struct {
	Action  plan.Action   `json:"action"`
	Archive bool          `json:"archive,omitempty"`
	Key     string        `json:"key"`
	Outcome apply.Outcome `json:"outcome"`
	Error   string        `json:"error,omitempty"`
}

// ended is how an apply went, as far as it came.
type ended struct {
	plan    plan.Plan // for --output json alone
	report  apply.Report
	run     string // the journal's name of it, "" where nothing was begun
	proved  bool
	message string
}

func (a *applyOptions) run(ctx context.Context) (err error) {
	done, err := a.watching("apply", "sent")
	if err != nil {
		return err
	}
	defer done(&err)
	s, err := a.open(ctx, true)
	if err != nil {
		return err
	}
	defer s.close(&err)
	cycle := s.cycle(a.approve)
	cycle.Anew, cycle.New = a.anew, a.fresh
	found, err := a.planned(ctx, &cycle)
	if err != nil {
		return err
	}
	var end ended
	if a.json() {
		end.plan = found.Plan
	}
	ask := a.asks(found.Plan)
	if err := a.showPlan(found.Plan, ask); err != nil {
		return err
	}
	if err := a.permit(found, s.inv.Approved(a.approve)); err != nil {
		return a.finish(end, err)
	}
	if ask {
		if err := a.confirm(ctx, found.Plan); err != nil {
			return a.finish(end, err)
		}
	}
	who, err := s.who(a.approve)
	if err != nil {
		return err
	}
	end.report, err = a.carryOut(ctx, s, cycle, found, who)
	end.run = who.ID
	if waits := pending(end.report); err == nil && waits > 0 && found.Where == providers.Away {
		return a.leave(ctx, s, found, who, end)
	}
	if err == nil || end.report.Count(apply.Interrupted) > 0 {
		whole := err == nil
		err = errors.Join(outcome(end.report), err)
		if whole && err != nil {
			if unproved := a.proveRest(ctx, s, end.report); unproved != nil {
				err = codedError{exitPartly, fmt.Errorf("%w; and %w", err, unproved)}
			}
		}
	} else if done := end.report.Count(apply.Done); done > 0 {
		err = codedError{exitPartly, fmt.Errorf("%s made, but the run did not end well: %w; mend the cause and apply again", count(done, "change"), err)}
	}
	if err != nil {
		return a.finish(end, err)
	}
	return a.conclude(ctx, s, found, end)
}

// asks reports whether somebody is there to be asked, and has something to
// answer.
func (a *applyOptions) asks(p plan.Plan) bool {
	return !a.yes && a.approve == "" && terminal(a.in) && terminal(a.err) && len(p.Refusals) == 0 && len(p.Stages(true)) > 0
}

// showPlan shows what is about to be done; to whom is asked, whatever the form
// of the result.
func (a *applyOptions) showPlan(p plan.Plan, ask bool) error {
	to := a.out
	if a.json() {
		if !ask {
			return nil
		}
		to = a.err
	}
	text := a.textOptions()
	text.Color = a.color(to)
	if len(p.Refusals) == 0 {
		text.Apply = "" // once the rest is done another digest approves what is held; conclude says which
	}
	if err := p.Text(to, text); err != nil {
		return fmt.Errorf("showing the plan: %w; nothing was written", err)
	}
	return nil
}

// permit refuses what must not be carried out. Used says that the approval
// given served before.
func (a *applyOptions) permit(found apply.Found, used bool) error {
	switch {
	case a.approve != "" && a.approve != found.Digest && found.Plan.Pending():
		why := "the plan is not the approved one"
		if used {
			why = "this approval was used before, and one serves once"
		}
		return codedError{exitRefused, fmt.Errorf("%s; look at the plan and approve what it shows now: --approve %s", why, found.Digest)}
	case len(found.Plan.Refusals) > 0:
		return codedError{exitRefused, errors.New("refused; nothing was written")}
	}
	return nil
}

func (a *applyOptions) carryOut(ctx context.Context, s *session, cycle apply.Cycle, found apply.Found, who state.Run) (_ apply.Report, err error) {
	run := apply.Run{Who: who, Save: s.save, Journal: silent{}}
	damage, err := s.machine.CheckJournal(s.identity)
	if err != nil {
		return apply.Report{}, fmt.Errorf("%w; nothing was written", err)
	}
	if damage != "" {
		a.say("warning: %s", damage)
	}
	if len(found.Plan.Stages(true)) > 0 {
		journal, err := state.OpenJournal(s.machine.Journal(s.identity), who)
		if err != nil {
			return apply.Report{}, fmt.Errorf("%w; nothing was written", err)
		}
		defer func() {
			err = errors.Join(err, s.machine.RememberJournal(s.identity, journal.Last()), journal.Close())
		}()
		if damage != "" {
			if err := journal.Note(damage); err != nil {
				return apply.Report{}, fmt.Errorf("%w; nothing was written", err)
			}
		}
		run.Journal = journal
	}
	if !a.json() {
		run.Report = a.lines(changes(found.Plan))
	}
	a.copying(found)
	if err := s.beforeMove(ctx, found.Plan.Changes); err != nil {
		return apply.Report{}, fmt.Errorf("%w; nothing was written", err)
	}
	report, err := cycle.Apply(ctx, found, run)
	if a.approve == found.Digest && slices.ContainsFunc(report.Lines, func(l apply.Line) bool {
		return l.Action == plan.Delete && l.Outcome == apply.Done
	}) {
		err = errors.Join(err, s.machine.Approve(s.identity))
	}
	return report, err
}

// silent is the journal of a run that changes nothing in the registry.
type silent struct{}

func (silent) Begin(...plan.Change) error { return nil }
func (silent) End(...state.Result) error  { return nil }

// outcome is the error that a report stands for.
func outcome(r apply.Report) error {
	done, failed, skipped, stopped := r.Count(apply.Done), r.Count(apply.Failed), r.Count(apply.Skipped), r.Count(apply.Interrupted)
	pending, unanswered, partly := failedSo(r, providers.ErrPending), failedSo(r, providers.ErrUnanswered), failedSo(r, providers.ErrPartly)
	switch {
	case stopped > 0:
		return codedError{exitInterrupted, fmt.Errorf("stopped: %d done, %d failed, %d not begun; the next apply does the rest", done, failed, skipped+stopped)}
	case pending > 0 && pending == failed:
		return codedError{exitPartly, fmt.Errorf("%d done, %d pending, %d left out: what is pending waits for what is said of it above; apply again then", done, pending, skipped)}
	case unanswered > 0 && done+partly == 0:
		return codedError{exitPartly, fmt.Errorf("whether anything was applied is not known: %d failed, %d of them without an answer, %d left out; mend the cause and apply again, which does what is left", failed, unanswered, skipped)}
	case unanswered > 0:
		return codedError{exitPartly, fmt.Errorf("partly applied: %d done, %d failed, %d of them without an answer, so that it is not known of those, %d left out; mend the cause and apply again, which does what is left", done, failed, unanswered, skipped)}
	case partly > 0:
		return codedError{exitPartly, fmt.Errorf("partly applied: %d done, %d failed, %d of them after some of it was done, %d left out; mend the cause and apply again, which does what is left", done, failed, partly, skipped)}
	case failed+skipped > 0 && done > 0:
		return codedError{exitPartly, fmt.Errorf("partly applied: %d done, %d failed, %d left out; mend the cause and apply again", done, failed, skipped)}
	case failed+skipped > 0:
		return codedError{exitFailed, fmt.Errorf("nothing was applied: %d failed, %d left out; mend the cause and apply again", failed, skipped)}
	}
	return nil
}

// failedSo counts the changes that failed with an error of a kind.
func failedSo(r apply.Report, kind error) (n int) {
	for _, l := range r.Lines {
		if l.Outcome == apply.Failed && errors.Is(l.Err, kind) {
			n++
		}
	}
	return n
}

// pending counts the changes that wait for what somebody else does.
func pending(r apply.Report) int { return failedSo(r, providers.ErrPending) }

// proveRest reads back what was done in a run in which not all was, so that one thing
// that fails or waits does not hide another that the registry does not show. A registry
// that could not be reached is not asked again.
func (a *applyOptions) proveRest(ctx context.Context, s *session, report apply.Report) error {
	if report.Count(apply.Done) == 0 || report.Count(apply.Interrupted) > 0 || failedSo(report, providers.ErrUnreachable) > 0 || failedSo(report, providers.ErrUnanswered) > 0 {
		return nil
	}
	_, err := s.cycle("").Verify(ctx, report)
	return err
}

// conclude proves a run in which nothing failed and says how it ended.
func (a *applyOptions) conclude(ctx context.Context, s *session, found apply.Found, end ended) error {
	done, held := end.report.Count(apply.Done), len(found.Plan.Held)
	if done > 0 || held > 0 && end.report.Saved {
		var err error
		if found, err = s.cycle("").Verify(ctx, end.report); err != nil {
			if ctx.Err() != nil {
				err = codedError{exitInterrupted, fmt.Errorf("interrupted: %s made, and not read back; the next plan tells what holds", count(done, "change"))}
			}
			return a.finish(end, err)
		}
	}
	end.proved = true
	switch {
	case done == 1:
		end.message = "applied 1 change and read it back"
	case done > 1:
		end.message = fmt.Sprintf("applied %d changes and read them back", done)
		if found.Sampled > 0 {
			end.message += fmt.Sprintf(", %d of them by others that were made alike", found.Sampled)
		}
	case held > 0:
		end.message = "nothing was written"
	case end.report.Saved:
		end.message = "nothing to write; the inventory was brought in step"
	case found.Where == providers.Away:
		end.message = "nothing to do: the registry is as declared, as far as it is seen from here and recorded"
	default:
		end.message = "nothing to do: the registry is as declared"
	}
	if untold := found.Untold(); len(untold) > 0 {
		end.proved = false
		return a.finish(end, codedError{exitPartly, fmt.Errorf("nothing tells from here of %s of the mode (%s): the files of another host say whether it is as declared, and nothing that this run may trust is recorded of them; run there:\n  %s",
			count(len(untold), "object"), kindsOf(untold), a.command("apply"))})
	}
	if held > 0 {
		return a.finish(end, codedError{exitRefused, fmt.Errorf("%s; %s held; to apply what is held:\n  %s --approve %s",
			end.message, count(held, "change"), a.command("apply"), found.Digest)})
	}
	return a.finish(end, nil)
}

// kindsOf lists the kinds of objects.
func kindsOf(keys []schema.Key) string {
	var kinds []string
	for _, k := range keys {
		if !slices.Contains(kinds, string(k.Kind)) {
			kinds = append(kinds, string(k.Kind))
		}
	}
	return strings.Join(kinds, ", ")
}

// finish prints the result and returns err.
func (a *applyOptions) finish(end ended, err error) error {
	if err != nil {
		end.message = err.Error()
	}
	if a.json() {
		r := applyResult{Plan: end.plan.Printed(), Lines: []applyLine{}, Proved: end.proved, Run: end.run, Message: end.message}
		for _, l := range end.report.Lines {
			line := applyLine{Action: l.Action, Archive: l.Archive, Key: l.Key.String(), Outcome: l.Outcome}
			line.Error = why(l)
			r.Lines = append(r.Lines, line)
		}
		if e := writeJSON(a.out, r); e != nil && err == nil {
			err = untold(end, e)
		}
		return err
	}
	if err == nil {
		if _, e := fmt.Fprintln(a.out, end.message); e != nil {
			err = untold(end, e)
		}
	}
	return err
}

// untold says how a run ended whose result nobody reads.
func untold(end ended, err error) error {
	return fmt.Errorf("%s, but the result could not be written: %w", end.message, err)
}

// changes counts what a plan would have written.
func changes(p plan.Plan) int {
	n := 0
	for _, stage := range p.Stages(true) {
		n += len(stage)
	}
	return n
}

// lines reports each change as it ends. Of many, somebody at a terminal, who
// has just seen them listed, is told the count, and each that was not done.
func (a *applyOptions) lines(total int) func(apply.Line) {
	const few = 20
	if total <= few || a.verbose || !a.color(a.out) {
		return a.line
	}
	ended := 0
	return func(l apply.Line) {
		ended++
		a.tell("\r\x1b[K")
		if l.Outcome != apply.Done {
			a.line(l)
		}
		if ended < total {
			a.tell("%d of %d", ended, total)
		}
	}
}

// line reports one change as it ends.
func (a *applyOptions) line(l apply.Line) {
	action := string(l.Action)
	if l.Archive {
		action = "archive"
	}
	outcome := l.Outcome
	if l.Outcome == apply.Failed && errors.Is(l.Err, providers.ErrPending) {
		outcome = "pending"
	}
	text := fmt.Sprintf("%-11s %-8s %s", outcome, action, l.Key)
	if e := why(l); e != "" {
		text += ": " + strings.ReplaceAll(e, "\n", "; ")
	}
	a.tell("%s\n", load.SafeLine(text))
}

// why is a line's error, without the key that stands before it.
func why(l apply.Line) string {
	switch {
	case l.Err == nil:
		return ""
	case l.Outcome == apply.Interrupted:
		return "not begun"
	}
	return strings.TrimPrefix(l.Err.Error(), l.Key.String()+": ")
}

// confirm asks whether to go on.
func (a *applyOptions) confirm(ctx context.Context, p plan.Plan) error {
	yes, err := a.question(ctx, fmt.Sprintf("Apply %s to %s?", count(changes(p), "change"), p.Registry.URL))
	if err == nil && !yes {
		err = errors.New("not confirmed; nothing was written")
	}
	return err
}

// question asks somebody at a terminal; an interrupt is an answer too.
func (o *options) question(ctx context.Context, text string) (yes bool, err error) {
	if _, err := fmt.Fprintf(o.err, "%s [y/N] ", text); err != nil {
		return false, fmt.Errorf("asking whether to go on: %w; nothing was written", err)
	}
	answer := make(chan string, 1)
	go func() { // by bytes: another question may follow
		var text []byte
		for b := make([]byte, 1); ; {
			n, err := o.in.Read(b)
			if n == 1 && b[0] != '\n' {
				text = append(text, b[0])
			}
			if n == 1 && b[0] == '\n' || err != nil { // no answer is a no
				answer <- string(text)
				return
			}
		}
	}()
	select {
	case <-ctx.Done():
		o.say("")
		return false, codedError{exitInterrupted, errors.New("interrupted; nothing was written")}
	case text := <-answer:
		text = strings.ToLower(strings.TrimSpace(text))
		return text == "y" || text == "yes", nil
	}
}

// planned makes the plan. Of a registry of which nothing is known, somebody at a
// terminal is asked whether it is a new one.
func (o *options) planned(ctx context.Context, c *apply.Cycle) (apply.Found, error) {
	found, err := c.Plan(ctx)
	if !errors.Is(err, apply.ErrNowhere) || !terminal(o.in) || !terminal(o.err) {
		return found, err
	}
	yes, asked := o.question(ctx, c.Config.Registry.URL+" does not answer, and nothing of it is on this host. Is it a new registry?")
	if asked != nil || !yes {
		return found, errors.Join(asked, err)
	}
	c.New = true
	return c.Plan(ctx)
}
