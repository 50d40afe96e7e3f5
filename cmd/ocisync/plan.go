package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/all"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

type planOptions struct {
	*options
	format   string
	detailed bool
	against  string
	fresh    bool
	whole    bool         // all that nobody manages is listed
	left     bytes.Buffer // what the registry holds beside
	made     plan.Plan
}

func newPlan(o *options) *cobra.Command {
	p := &planOptions{options: o}
	cmd := &cobra.Command{
		Use:     "plan",
		GroupID: "loop",
		Short:   "Show what apply would do, and change nothing",
		Long: `Plan reads the registry, compares it with the mode and shows the difference.
It writes nothing, anywhere.

With --against FILE the live state is read from a file instead, and no registry
is asked; schema/state.schema.json describes the file.
` + exitHelp,
		Example: "  ocisync plan --mode prod\n  ocisync plan --mode prod --format markdown\n  ocisync plan --mode dev --against live.json",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.run(c.Context()) },
	}
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	o.verboseFlag(cmd, "show adopted and forgotten objects, every note, and what of the registry nobody manages")
	f := cmd.Flags()
	formats := []string{"text", "json", "markdown"}
	f.Var(&choice{value: &p.format, of: formats}, "format", "`form` of the plan: text, json or markdown (default: what --output says)")
	complete(cmd, "format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	f.BoolVar(&p.detailed, "detailed-exitcode", false, "exit with 2 when changes are pending")
	f.StringVar(&p.against, "against", "", "plan against a state recorded in a `file`, without a registry")
	f.BoolVar(&p.whole, "unmanaged", false, "read every kind the registry has, and list all that nobody manages")
	p.newFlag(cmd, &p.fresh)
	return cmd
}

func (p *planOptions) run(ctx context.Context) error {
	if p.format == "" {
		p.format = p.output
	}
	var found apply.Found
	var err error
	if p.against != "" {
		found, err = p.planAgainst(ctx)
	} else {
		found, err = p.planLive(ctx)
	}
	if err != nil {
		return err
	}
	p.made = found.Plan
	if err := p.show(found.Plan); err != nil {
		return err
	}
	if _, err := p.left.WriteTo(p.out); err != nil {
		return err
	}
	switch {
	case len(found.Plan.Refusals) > 0:
		return codedError{exitRefused, nil}
	case p.detailed && (found.Plan.Pending() || len(found.Untold()) > 0):
		return codedError{exitPending, nil}
	}
	return nil
}

func (p *planOptions) planLive(ctx context.Context) (_ apply.Found, err error) {
	s, err := p.open(ctx, false)
	if err != nil {
		return apply.Found{}, err
	}
	defer s.close(&err)
	cycle := s.cycle("")
	cycle.New, cycle.Whole = p.fresh, p.whole
	found, err := p.planned(ctx, &cycle)
	if err == nil && p.verbose && p.format == "text" {
		err = leftAsIs(ctx, &p.left, s.provider, s.cfg.Desired)
	}
	return found, err
}

func (p *planOptions) planAgainst(ctx context.Context) (apply.Found, error) {
	cfg, err := p.config()
	if err != nil {
		return apply.Found{}, err
	}
	live, err := readState(p.against)
	if err != nil {
		return apply.Found{}, err
	}
	recorded, err := all.Recorded(cfg.Registry, live)
	if err != nil {
		return apply.Found{}, err
	}
	cycle := apply.Cycle{Config: cfg, Provider: recorded, Trust: state.Trust{Level: state.Absent}, Today: schema.DateOf(time.Now())}
	return cycle.Plan(ctx)
}

// maxRecorded bounds a recorded state, in bytes.
const maxRecorded = 256 << 20

func readState(path string) (schema.State, error) {
	b, err := regular.Read(path, maxRecorded)
	if errors.Is(err, regular.ErrLarge) {
		return schema.State{}, fmt.Errorf("%s is larger than %d MiB, and no recorded state is; name another file", path, maxRecorded>>20)
	} else if err != nil {
		return schema.State{}, load.Unreadable(path, err)
	}
	var s schema.State
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, codedError{exitInvalid, fmt.Errorf("%s is not a recorded state: %w; schema/state.schema.json describes one", path, err)}
	}
	if len(s.Scope.Kinds) == 0 {
		return s, codedError{exitInvalid, errors.New(path + ": scope.kinds is empty, so the state speaks of nothing; list the kinds that were read")}
	}
	return s, s.Sort()
}

func (p *planOptions) show(pl plan.Plan) error {
	switch p.format {
	case "json":
		return writeJSON(p.out, pl.Printed())
	case "markdown":
		return pl.Markdown(p.out)
	}
	text := p.textOptions()
	text.Unmanaged = p.whole
	return pl.Text(p.out, text)
}

func (o *options) textOptions() plan.TextOptions {
	return plan.TextOptions{Color: o.color(o.out), Verbose: o.verbose, Apply: o.command("apply")}
}
