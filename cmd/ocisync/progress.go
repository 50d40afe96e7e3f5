package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/schema"
)

// progressHelp says how a command tells how far it is.
const progressHelp = `On a terminal a bar shows how far it is, elsewhere a line for each tag that was copied,
and one every 30 seconds. --progress json prints events on standard error, and
--metrics-file figures for Prometheus; docs/content.md has their fields.
`

const autoStyle = "auto"

// progressFlags are those of the verbs that move content.
func (o *options) progressFlags(cmd *cobra.Command) {
	styles := []string{autoStyle, string(progress.Bar), string(progress.Lines), string(progress.JSON), string(progress.None)}
	o.told = autoStyle
	f := cmd.Flags()
	f.Var(&choice{value: &o.told, of: styles}, "progress", "`how` to tell how far it is: auto, bar, lines, json or none")
	complete(cmd, "progress", cobra.FixedCompletions(styles, cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&o.metrics, "metrics-file", "", "write figures for Prometheus's textfile collector to a `file`, every 15 seconds and at the end")
}

// screens are the streams that are written to, so that a bar can stand on a terminal
// below all else.
func screens(s streams) (*progress.Screen, *results) {
	out := &results{of: s.out, w: s.out}
	f, ok := console(s.err)
	if !ok {
		return progress.NewScreen(s.err, nil), out
	}
	screen := progress.NewScreen(s.err, func() (width, height int) {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
		return 80, 24
	})
	if terminal(s.out) {
		out.w = screen.Beside(s.out)
	}
	return screen, out
}

// style is how it is told here.
func (o *options) style() (progress.Style, error) {
	moves := terminal(o.err) && o.env("TERM") != "dumb"
	switch s := progress.Style(o.told); {
	case s == progress.Bar && !moves:
		return "", fmt.Errorf("--progress bar takes a terminal; say --progress %s", progress.Lines)
	case s != autoStyle && s != "":
		return s, nil
	case o.color(o.err):
		return progress.Bar, nil
	case o.json():
		return progress.None, nil
	}
	return progress.Lines, nil
}

// watching has a command be watched, from before it asks anything; did is what it does
// with bytes. The function returned ends that, with what becomes of the command.
func (o *options) watching(what, did string) (end func(*error), err error) {
	if o.shown, err = o.style(); err != nil {
		return nil, err
	}
	o.watch, err = progress.Begin(progress.Options{What: what, Did: did, Style: o.shown, To: o.screen, Metrics: o.metrics})
	if err != nil {
		return nil, err
	}
	return func(err *error) {
		if unwritten := o.watch.End(*err == nil); unwritten != nil {
			o.say("%v", unwritten)
		}
	}, nil
}

// counts is what the copies of the command count; nil is nobody's.
func (o *options) counts() *content.Progress {
	if o.watch == nil {
		return nil
	}
	return o.watch.Content
}

// line tells of a tag that is through.
func (o *options) line(t progress.Tag) {
	if o.watch != nil {
		o.watch.Tag(t)
	}
	quiet := o.shown == progress.JSON || o.shown == progress.None || o.shown == ""
	switch {
	case o.shown == progress.JSON, quiet && o.json():
	case t.Outcome == content.Failed:
		o.say("failed  %s: %s", t.Target, strings.ReplaceAll(t.Error, "\n", "; "))
	case o.verbose, t.Outcome == content.Copied && o.shown == progress.Lines:
		o.say("%-7s %s", t.Outcome, t.Target)
	}
}

// copying says that an apply copies, where it does.
func (a *applyOptions) copying(found apply.Found) {
	n := 0
	for _, stage := range found.Plan.Stages(true) {
		for _, c := range stage {
			if (c.Key.Kind == schema.KindMirror || c.Key.Kind == schema.KindArtifact) && slices.Contains([]plan.Action{plan.Create, plan.Update}, c.Action) {
				n++
			}
		}
	}
	if n > 0 {
		a.watch.Copying(0)
		a.watch.More(n - 1)
	}
}
