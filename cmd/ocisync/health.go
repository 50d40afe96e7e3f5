package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/schema/load"
)

func newHealth(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "health",
		GroupID: "run",
		Short:   "Tell whether the mode's registry runs and answers",
		Long: `Health asks the registry of a mode whether it answers as one, without a login, and,
where ocisync runs it on this host, whether its process or container runs and, of a
Distribution, whether somebody gives tokens to its clients, where it sends them, and
whether it takes pushes; whether its events are received where it has webhooks; and
whether somebody stands beside a Zot in a container that needs it. It exits with 0 if
all is well, else with 1.
` + exitHelp,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.health(c.Context()) },
	}
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	o.verboseFlag(cmd, "log what is asked")
	return cmd
}

// healthReport is what health prints.
type healthReport struct {
	Mode     string        `json:"mode"`
	Registry string        `json:"registry"`
	Healthy  bool          `json:"healthy"`
	Checks   []healthCheck `json:"checks"`
}

type healthCheck struct {
	Name   string `json:"name"` // runs, answers, tokens, webhooks; in trouble beside, realm, accounts, pushes, certificate, keys, files
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
	// Note is of what is not right, and that nobody notices who uses the registry.
	Note bool `json:"note,omitempty"`
}

func (o *options) health(ctx context.Context) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	report := healthReport{Mode: cfg.Mode, Registry: cfg.Registry.URL, Healthy: true}
	add := func(name string, err error, well string) {
		c := healthCheck{Name: name, OK: err == nil, Detail: well}
		if err != nil {
			c.Detail = err.Error()
			report.Healthy = false
		}
		report.Checks = append(report.Checks, c)
	}
	if driver := cfg.Registry.Driver(); driver != "" {
		r, err := o.runner(cfg)
		if err != nil {
			return err
		}
		s, err := r.Status(ctx)
		if err == nil && !s.Running {
			err = fmt.Errorf("%s; start it with ocisync up", running(driver, s))
		}
		if err == nil && s.Paused {
			err = fmt.Errorf("%s: somebody paused it; let it go on with docker unpause, or start it again with ocisync restart", running(driver, s))
		}
		if err == nil && s.OffNetwork != "" {
			err = fmt.Errorf("%s: somebody took it off; ocisync up makes it anew on it", running(driver, s))
		}
		add("runs", err, running(driver, s))
		add("answers", ready(cfg.Registry)(ctx, cfg.Registry.Address()), "GET /v2/")
		if takesTokens(cfg) {
			who, err := (&served{o, cfg}).giving(ctx)
			add("tokens", err, who)
		}
		if what, err := hears(ctx, cfg); what != "" || err != nil {
			add("webhooks", err, what)
		}
		troubles, err := o.troubles(ctx, cfg, s.Running)
		if err != nil {
			return err
		}
		for _, t := range troubles {
			if t.Passing {
				report.Checks = append(report.Checks, healthCheck{Name: t.What, OK: true, Detail: t.Text, Note: true})
			} else {
				add(t.What, errors.New(t.Text), "")
			}
		}
	} else {
		add("answers", ping(ctx, cfg.Registry, cfg.Registry.URL, ""), "GET /v2/")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if o.json() {
		err = writeJSON(o.out, report)
	} else {
		for _, c := range report.Checks {
			word := "ok"
			switch {
			case !c.OK:
				word = "failed"
			case c.Note:
				word = "note"
			}
			o.tell("%-8s%-12s%s\n", word, c.Name, load.Safe(c.Detail))
		}
	}
	if err == nil && !report.Healthy {
		return codedError{code: exitFailed}
	}
	return err
}
