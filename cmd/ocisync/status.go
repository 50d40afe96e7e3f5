package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/schema"
)

func newStatus(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		GroupID: "run",
		Short:   "Show whether the mode's registry runs, and how",
		Long: `Status shows of the registry that ocisync runs on this host whether it runs and
answers, who supervises it, and in what it runs otherwise than the mode has it. It
changes nothing, and exits with 0 whatever it finds; ocisync health tells by its
exit code.
` + exitHelp,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.status(c.Context()) },
	}
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	o.verboseFlag(cmd, "log what is asked")
	return cmd
}

// statusReport is what status prints.
type statusReport struct {
	Mode     string `json:"mode"`
	Registry string `json:"registry"`
	Type     string `json:"type"`
	Driver   string `json:"driver"`
	runtime.Status
	Ready bool `json:"ready"`
	// NotReady says why it does not answer though it runs.
	NotReady    string               `json:"not_ready,omitempty"`
	Differences []runtime.Difference `json:"differences,omitempty"`
	// Tokens says who gives tokens to its clients, or that nobody does; "" where
	// they need none.
	Tokens string `json:"tokens,omitempty"`
	// Withheld are the namespaces in which push is withdrawn, since their quota
	// is used up.
	Withheld []string `json:"withheld,omitempty"`
	// Webhooks says what waits for the webhooks of a registry that posts its events
	// to ocisync, or that nobody receives them; "" where it has none.
	Webhooks string `json:"webhooks,omitempty"`
	// Mirrors are those with a schedule, by which ocisync up runs them.
	Mirrors []scheduledMirror `json:"mirrors,omitempty"`
	// Troubles are what it does not do as it should.
	Troubles []string `json:"troubles,omitempty"`
}

// scheduledMirror is when a mirror runs next while ocisync up does.
type scheduledMirror struct {
	Mirror   string    `json:"mirror"`
	Schedule string    `json:"schedule"`
	Zone     string    `json:"zone"`
	Next     time.Time `json:"next,omitzero"` // not of @every, which counts from when up began
}

func scheduledMirrors(cfg *schema.Config, now time.Time) (out []scheduledMirror) {
	names, due := timedMirrors(cfg, now)
	for _, name := range names {
		m := scheduledMirror{Mirror: name, Schedule: due[name].schedule, Zone: due[name].zone}
		if !strings.HasPrefix(m.Schedule, "@every ") {
			m.Next = due[name].at
		}
		out = append(out, m)
	}
	return out
}

// troubles are those of a registry that ocisync runs, as it runs now or not.
func (o *options) troubles(ctx context.Context, cfg *schema.Config, runs bool) (out []providers.Trouble, err error) {
	if runs {
		out, err = (&beside{o, cfg}).troubles()
	}
	of, failed := o.ownTroubles(ctx, cfg)
	return append(out, of...), errors.Join(err, failed)
}

// ownTroubles are those that its provider knows of.
func (o *options) ownTroubles(ctx context.Context, cfg *schema.Config) ([]providers.Trouble, error) {
	if d := cfg.Registry.Driver(); d != schema.DriverProcess && d != schema.DriverDocker {
		return nil, nil
	}
	p, err := o.openRegistry(cfg)
	if errors.Is(err, providers.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, ok := p.(providers.Troubled)
	if !ok {
		return nil, nil
	}
	list, err := t.Troubles(ctx)
	if err != nil && ctx.Err() == nil { // it runs with what it read when it started
		return []providers.Trouble{{What: "files", Text: err.Error(), Passing: true}}, nil
	}
	return list, err
}

func (o *options) status(ctx context.Context) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	r, err := o.runner(cfg)
	if err != nil {
		return err
	}
	report := statusReport{Mode: cfg.Mode, Registry: cfg.Registry.URL, Type: cfg.Registry.Type, Driver: cfg.Registry.Driver()}
	if report.Status, err = r.Status(ctx); err != nil {
		return err
	}
	if !report.Running && report.Detail != "" && ready(cfg.Registry)(ctx, cfg.Registry.Address()) == nil {
		report.Detail += "; but it answers at " + cfg.Registry.URL + ": somebody else runs it, or it runs on another host"
	}
	if report.Running {
		if err := answers(ctx, cfg.Registry, r); err != nil {
			report.NotReady = err.Error()
		}
		report.Ready = report.NotReady == ""
		if report.Differences, err = r.Differences(ctx); err != nil {
			return err
		}
	}
	troubles, err := o.troubles(ctx, cfg, report.Running)
	if err != nil {
		return err
	}
	for _, t := range troubles {
		report.Troubles = append(report.Troubles, t.What+": "+t.Text)
	}
	if takesTokens(cfg) {
		if report.Tokens, err = (&served{o, cfg}).giving(ctx); err != nil {
			report.Tokens = err.Error()
		}
	}
	if report.Withheld, err = o.withheld(ctx, cfg); err != nil {
		o.logger().Warn("it is not known where push is withdrawn", "error", err)
	}
	if report.Webhooks, err = hears(ctx, cfg); err != nil {
		report.Webhooks = err.Error()
	}
	report.Mirrors = scheduledMirrors(cfg, time.Now())
	if o.json() {
		return writeJSON(o.out, report)
	}
	o.tell("%s", report)
	return nil
}

// answers asks a registry that runs whether it answers, where and how it was started,
// which may not be as the mode has it now.
func answers(ctx context.Context, r schema.Registry, by runner) error {
	if l, ok := by.(launched); ok {
		made, err := l.Made(ctx)
		if err != nil {
			return err
		}
		if made != nil && !made.Stopped && made.Listen != "" && made.Listen != r.Address() {
			return started(r)(ctx, made.Listen)
		}
	}
	return ready(r)(ctx, r.Address())
}

func (o *options) withheld(ctx context.Context, cfg *schema.Config) ([]string, error) {
	p, err := o.openRegistry(cfg)
	if err != nil {
		return nil, err
	}
	w, ok := p.(providers.Withholder)
	if !ok {
		return nil, nil
	}
	return w.Withheld(ctx)
}

// String is the report for people.
func (r statusReport) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, args...)) //nolint:errcheck // to memory
	}
	line("registry", "%s (%s, driver %s)", r.Registry, r.Type, r.Driver)
	state := "stopped"
	switch {
	case r.Ready:
		state = "running, ready"
	case r.Running:
		state = "running, not ready: " + r.NotReady
	}
	line("state", "%s", state)
	if r.Running {
		line("since", "%s (%s)", moment(r.Started), time.Since(r.Started).Round(time.Second))
	}
	if r.PID != 0 {
		line("process", "%d", r.PID)
	}
	if r.Detail != "" {
		line("detail", "%s", r.Detail)
	}
	if r.Supervisor != "" {
		line("supervisor", "%s", r.Supervisor)
	}
	if r.Tokens != "" {
		line("tokens", "%s", r.Tokens)
	}
	if len(r.Withheld) > 0 {
		line("quota", "used up, push withdrawn: %s", strings.Join(r.Withheld, ", "))
	}
	if r.Webhooks != "" {
		line("webhooks", "%s", r.Webhooks)
	}
	for _, m := range r.Mirrors {
		when := "by " + m.Schedule
		if !m.Next.IsZero() {
			when = fmt.Sprintf("next at %s, by %s in %s", moment(m.Next), m.Schedule, m.Zone)
		}
		if !r.Running {
			when = "not while it is stopped, by " + m.Schedule
		}
		line("mirror", "%s: %s", m.Mirror, when)
	}
	if r.Restarts > 0 {
		line("restarts", "%d", r.Restarts)
	}
	if r.Log != "" {
		line("log", "%s", r.Log)
	}
	for _, t := range r.Troubles {
		line("trouble", "%s", t)
	}
	for i, d := range r.Differences {
		what := ""
		if i == 0 {
			what = "differs"
		}
		line(what, "%s", d)
	}
	if len(r.Differences) > 0 {
		line("", "ocisync up makes it as the mode has it")
	}
	w.Flush() //nolint:errcheck // to memory
	return safeLines(b.String())
}

// running says in a few words whether and since when.
func running(driver string, s runtime.Status) string {
	if !s.Running {
		return or(s.Detail, "it does not run")
	}
	what := s.Detail
	if driver != schema.DriverDocker {
		what = fmt.Sprintf("process %d", s.PID)
	}
	return fmt.Sprintf("%s since %s", what, moment(s.Started))
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
