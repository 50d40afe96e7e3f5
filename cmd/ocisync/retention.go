package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func newRetention(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "retention",
		GroupID: "run",
		Short:   "Show what retention keeps and removes, and why",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var namespaces []string
	preview := &cobra.Command{
		Use:   "preview",
		Short: "Judge every tag by the registry's rules, and remove nothing",
		Long: `Preview says of every tag in the namespaces with retention rules whether the
next run keeps it and by which rule, or why it goes. The rules are those the
registry has; apply the mode first to try others. Nothing is removed. Zot judges
tags itself, and has no preview.
` + exitHelp,
		Example: "  ocisync retention preview --mode local\n  ocisync retention preview --mode local --namespace provisioning-test --output json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			report, err := o.retention(c.Context(), embedded.RetentionOptions{DryRun: true, Namespaces: namespaces})
			if err != nil {
				return err
			}
			return o.showRetention(report)
		},
	}
	o.modeFlags(preview)
	o.outputFlag(preview)
	preview.Flags().StringSliceVar(&namespaces, "namespace", nil, "only this namespace; may stand several times")
	cmd.AddCommand(preview)
	return cmd
}

// retainer is what a provider offers whose registry leaves retention to
// ocisync.
type retainer interface {
	Retention(context.Context, embedded.RetentionOptions) (embedded.RetentionReport, error)
}

// retention runs the job, or with DryRun a preview of it, in the registry of
// the mode.
func (o *options) retention(ctx context.Context, opts embedded.RetentionOptions) (_ embedded.RetentionReport, err error) {
	s, err := o.open(ctx, false)
	if err != nil {
		return embedded.RetentionReport{}, err
	}
	defer s.close(&err)
	r, ok := s.provider.(retainer)
	if !ok {
		return embedded.RetentionReport{}, codedError{exitRefused, fmt.Errorf("mode %s: %s", s.cfg.Mode, unforeseen(s.cfg.Registry.Type))}
	}
	return r.Retention(ctx, opts)
}

// unforeseen says why there is no preview for a type of registry.
func unforeseen(typ string) string {
	if typ == schema.TypeZot {
		return "Zot judges tags itself, by the retention of its configuration, while it collects, and says it in its log and not before: there is nothing to ask for a preview; ocisync plan shows the rules"
	}
	return "retention is the business of the registry, and ocisync knows no preview for type " + typ
}

// showRetention prints a report as a table or JSON.
func (o *options) showRetention(report embedded.RetentionReport) error {
	if o.json() {
		return writeJSON(o.out, report)
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	var failed error
	row := func(cells ...string) {
		if _, err := fmt.Fprintln(w, strings.Join(cells, "\t")); err != nil {
			failed = err
		}
	}
	for _, t := range report.Tags {
		verdict := "keep"
		if !t.Kept {
			verdict = "remove"
		}
		if t.Error != "" {
			verdict, t.Why = "failed", t.Error
		}
		pushed := "push time unknown"
		if !t.Pushed.IsZero() {
			pushed = "pushed " + t.Pushed.Format(time.DateOnly)
		}
		row(verdict, t.Repository+":"+t.Tag, pushed, t.Why)
	}
	for _, m := range report.Untagged {
		why := "has no tag"
		if m.Error != "" {
			why = m.Error
		}
		row("remove", m.Repository+"@"+m.Digest.String(), "", why)
	}
	if err := errors.Join(failed, w.Flush()); err != nil {
		return err
	}
	_, err := fmt.Fprintln(o.out, retentionSummary(report))
	return err
}

func retentionSummary(report embedded.RetentionReport) string {
	gone := "removed"
	if report.DryRun {
		gone = "to remove"
	}
	text := fmt.Sprintf("%d kept, %d %s", report.Kept, report.Gone-report.Failed, gone)
	if n := len(report.Untagged); n > 0 {
		text += fmt.Sprintf(", %d manifests without a tag", n)
	}
	if report.Failed > 0 {
		text += fmt.Sprintf(", %d failed", report.Failed)
	}
	return text
}
