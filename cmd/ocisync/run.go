package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

func newRun(o *options) *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:     "run JOB [NAME...]",
		GroupID: "run",
		Short:   "Run a job of the registry now",
		Long: `Run does now what the registry else does by schedule, and prints what was done.
It works on a registry that is served, beside pushes, and on one that is not.

Jobs of the embedded registry:
  gc         remove content that no manifest needs, as [gc] of the mode was applied
  retention  remove the tags that no rule keeps, as the retention of namespaces
             was applied; ocisync retention preview tells of every tag why
A Distribution that is a program of its own has them too, by schedule while ocisync
up or ocisync auth serve runs: retention deletes tags through it, and gc restarts it
read-only meanwhile, where ocisync runs it. Both are refused from another host than
that of its files, but for ocisync retention preview.

Of every registry:
  robots     renew the robots that are due and deliver their new secrets. Where
             ocisync up or auth serve runs, it does so by itself; of a Harbor
             nobody else does: have a timer run this job there, every hour or
             every day. It has no dry run, because the plan says days ahead
             which are due
  mirror     bring the mirrors that were applied in step with their sources, all or
             those that are named. Of one with prune the tags go that its source has
             no longer, where they are not more than policy.max_deletes lets go. One
             that was not applied yet is told, and the others run; one that is
             paused is left alone

Zot, and a Distribution that is a program of its own, count no bytes:
  quota      measure what the namespaces with a quota use, in the directories of
             this host, and withdraw push from everybody but admin users while that
             is not below the quota; ocisync up and auth serve do so every minute.
             What cannot be measured changes nothing

` + progressHelp + exitHelp,
		Example:   "  ocisync run gc --mode prod\n  ocisync run retention --mode prod --dry-run\n  ocisync run mirror postgres --mode prod",
		ValidArgs: append(embedded.Jobs(), mirrorJob, quotaJob, robotsJob),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 1 && args[0] != mirrorJob {
				return errors.New("name one job, such as: ocisync run gc; ocisync run --help lists them")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == mirrorJob {
				return o.runMirrors(c.Context(), args[1:], dry)
			}
			return o.runJob(c.Context(), args[0], dry)
		},
	}
	o.jobFlags(cmd, &dry)
	o.progressFlags(cmd)
	return cmd
}

// newGC is the job gc under the name that people look for.
func newGC(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "gc",
		GroupID: "run",
		Short:   "Collect garbage",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var dry bool
	run := &cobra.Command{
		Use:     "run",
		Short:   "Remove content that no manifest needs; the same as: ocisync run gc",
		Long:    "Run removes content that no manifest needs. It is ocisync run gc, whose help says where.\n" + exitHelp,
		Example: "  ocisync gc run --mode local --dry-run",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.runJob(c.Context(), embedded.JobGC, dry) },
	}
	o.jobFlags(run, &dry)
	cmd.AddCommand(run)
	return cmd
}

func (o *options) jobFlags(cmd *cobra.Command, dry *bool) {
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	o.verboseFlag(cmd, "log what is done")
	cmd.Flags().BoolVar(dry, "dry-run", false, "say what would be done, and do nothing")
}

func (o *options) runJob(ctx context.Context, job string, dry bool) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	if job == robotsJob {
		if dry {
			return errors.New("the job robots has no dry run; ocisync plan says which robots are due")
		}
		return o.renewRobots(ctx, cfg)
	}
	p, err := o.openRegistry(cfg)
	if err != nil {
		return err
	}
	runner, ok := p.(providers.Runner)
	if !ok {
		return codedError{exitRefused, fmt.Errorf("%s: this version runs no jobs of a registry of type %s", cfg.Registry.URL, cfg.Registry.Type)}
	}
	report, err := runner.Run(ctx, job, dry)
	if errors.Is(err, providers.ErrUnsupported) && slices.Contains(runner.Jobs(), job) { // it has the job, and says why not here
		return codedError{exitRefused, err}
	}
	if errors.Is(err, providers.ErrUnsupported) {
		return codedError{exitRefused, fmt.Errorf("%s: there is no job %s; there is %s", cfg.Registry.URL, job, strings.Join(append(runner.Jobs(), mirrorJob, robotsJob), ", "))}
	}
	if err != nil && len(report.Measured) == 0 {
		return err
	}
	if o.json() {
		return errors.Join(writeJSON(o.out, report), err)
	}
	_, told := fmt.Fprint(o.out, jobText(report))
	return errors.Join(told, err)
}

// quotaJob is a job of registries that do not count themselves.
const quotaJob = "quota"

func measuredText(r providers.JobReport) string {
	if len(r.Measured) == 0 {
		return r.Job + ": no namespace has a quota\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.Job, count(len(r.Measured), "namespace"))
	for _, m := range r.Measured {
		fmt.Fprintf(&b, "  %s: ", m.Namespace)
		if m.Error != "" {
			b.WriteString("not measured")
		} else {
			fmt.Fprintf(&b, "%s of %s used", m.Used.Human(), m.Limit.Human())
		}
		did := map[bool]string{true: "is", false: "would be"}[!r.DryRun]
		switch {
		case m.Full && m.Changed:
			b.WriteString("; push " + did + " withdrawn now")
		case m.Full:
			b.WriteString("; push is withdrawn")
		case m.Changed:
			b.WriteString("; push " + did + " given back")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func jobText(r providers.JobReport) string {
	if r.Retained != nil {
		return retainedText(r)
	}
	if r.Job == quotaJob {
		return measuredText(r)
	}
	c := r.Collected
	if c == nil {
		return r.Job + ": done\n"
	}
	did := "removed"
	if r.DryRun {
		did = "would remove"
	}
	left := ""
	for _, name := range c.Unread {
		left += fmt.Sprintf("  left its repository alone: %s cannot be read, so what it needs cannot be told; push it again, or delete it by that digest\n", name)
	}
	if c.Blobs == 0 && c.Uploads == 0 && c.Manifests == 0 && c.Tags == 0 && len(c.Repositories) == 0 {
		return r.Job + ": nothing to remove\n" + left
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s (%s), %s", r.Job, did, count(c.Blobs, "blob"), schema.Size(c.Bytes).Human(), count(c.Manifests, "manifest"))
	if c.Tags > 0 {
		fmt.Fprintf(&b, ", %s of referrers whose subject was deleted", count(c.Tags, "fallback tag"))
	}
	if c.Uploads > 0 {
		fmt.Fprintf(&b, ", %s that nobody finished", count(c.Uploads, "upload"))
	}
	b.WriteByte('\n')
	for _, name := range c.Repositories {
		fmt.Fprintf(&b, "  %s %s: it is empty\n", did, name)
	}
	return b.String() + left
}

func retainedText(r providers.JobReport) string {
	did := "removed"
	if r.DryRun {
		did = "would remove"
	}
	if len(r.Retained.Gone) == 0 {
		return fmt.Sprintf("%s: nothing to remove; %s kept\n", r.Job, count(r.Retained.Kept, "tag"))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %d, kept %s\n", r.Job, did, len(r.Retained.Gone)-r.Retained.Failed(), count(r.Retained.Kept, "tag"))
	for _, g := range r.Retained.Gone {
		if g.Error != "" {
			fmt.Fprintf(&b, "  failed %s: %s\n", g.Name, g.Error)
			continue
		}
		fmt.Fprintf(&b, "  %s %s: %s\n", did, g.Name, g.Why)
	}
	return b.String()
}
