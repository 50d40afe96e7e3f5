package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/retention"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

func newValidate(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "validate [mode...]",
		GroupID: "author",
		Short:   "Check modes without asking any registry",
		Long: `Validate loads the modes named (as arguments, else --mode, else all there are) and
prints every problem of all of them. It resolves no secret and asks no registry.
A mirror whose tags the retention of its destination would delete, or keep in part,
is a warning.
` + exitHelp,
		ValidArgsFunction: o.completeModes,
		RunE:              func(_ *cobra.Command, args []string) error { return o.validate(args) },
	}
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	return cmd
}

func (o *options) validate(modes []string) error {
	there, err := o.modeNames()
	switch {
	case err != nil:
		return err
	case len(modes) == 0 && o.mode != "":
		modes = []string{o.mode}
	case len(modes) == 0:
		modes = there
	}
	type result struct {
		Mode     string         `json:"mode"`
		Objects  int            `json:"objects"`
		Problems []load.Problem `json:"problems"`
		Warnings []load.Problem `json:"warnings,omitempty"`
	}
	var all load.Errors
	var results []result
	for _, m := range modes {
		r := result{Mode: m, Problems: []load.Problem{}}
		cfg, err := load.Mode(o.modes, m)
		if err == nil {
			err = unreadKeys(cfg)
		}
		var problems load.Errors
		switch {
		case errors.As(err, &problems):
			r.Problems = problems
			all = append(all, problems...)
		case err != nil:
			return err
		default:
			r.Objects = len(cfg.Desired.Resources)
			r.Warnings = warnings(cfg.Desired)
			if !o.json() {
				for _, w := range r.Warnings {
					o.say("warning: %s", w)
				}
				o.tell("%s: valid, %s\n", load.Safe(m), count(r.Objects, "object"))
			}
		}
		results = append(results, r)
	}
	if o.json() {
		if err := writeJSON(o.out, results); err != nil {
			return err
		}
		if len(all) > 0 {
			return codedError{exitInvalid, nil}
		}
	}
	if len(all) > 0 {
		return all
	}
	return nil
}

// warnings are what a mode says that works against itself.
func warnings(st schema.State) (out []load.Problem) {
	for _, c := range retention.Clashes(st) {
		out = append(out, load.Problem{
			Position: c.Mirror.Source, Key: load.Path(string(schema.KindMirror), c.Mirror.Key.Name),
			What: c.Why, Want: c.Remedy, Also: c.Retention.Source,
		})
	}
	return out
}

// problems prints what is wrong with files: with source lines on a terminal,
// one line each elsewhere.
func (o *options) problems(e load.Errors) {
	if terminal(o.err) {
		o.say("%s", strings.TrimSuffix(e.Render(), "\n"))
	} else {
		o.say("%s", e.Error())
	}
	o.say("%s", count(len(e), "problem"))
}
