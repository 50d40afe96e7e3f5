package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

const (
	formatJSON   = "json"
	formatDotenv = "dotenv"
)

func newOutput(o *options) *cobra.Command {
	format := formatJSON
	cmd := &cobra.Command{
		Use:     "output",
		GroupID: "loop",
		Short:   "Give other tools what only the registry knows: its URL, the logins of robots",
		Long: `Output prints for other tools where the mode's registry is and by which account
each of its robots logs in now: the name that the registry gave it and when it
expires, as of the newest account whose secret has arrived. It changes nothing, and
no secret is in it: those go where secret.deliver says.

As dotenv the names are OCISYNC_REGISTRY_URL, OCISYNC_REGISTRY_HOST and, of
[robot."team-a/ci"], OCISYNC_ROBOT_TEAM_A_CI_LOGIN and OCISYNC_ROBOT_TEAM_A_CI_EXPIRES,
which is empty for never.
` + exitHelp,
		Example: "  ocisync output --mode prod\n  ocisync output --mode prod --format dotenv >robots.env",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if format != formatJSON && format != formatDotenv {
				return fmt.Errorf("--format %q is not known; write %s or %s", format, formatJSON, formatDotenv)
			}
			out, err := o.collect(c.Context())
			if err != nil {
				return err
			}
			if format == formatJSON {
				return writeJSON(o.out, out)
			}
			return out.dotenv(o.out)
		},
	}
	o.modeFlags(cmd)
	o.verboseFlag(cmd, "log what is asked")
	cmd.Flags().StringVar(&format, "format", format, formatJSON+" or "+formatDotenv)
	return cmd
}

// outputs is what output prints.
type outputs struct {
	Mode     string        `json:"mode"`
	Type     string        `json:"type"`
	Registry string        `json:"registry"` // URL
	Robots   []robotOutput `json:"robots"`   // by name
}

type robotOutput struct {
	Name    string    `json:"name"`
	Login   string    `json:"login"`
	Expires time.Time `json:"expires,omitzero"` // never, where it is left out
}

func (o *options) collect(ctx context.Context) (*outputs, error) {
	cfg, err := o.config()
	if err != nil {
		return nil, err
	}
	out := &outputs{Mode: cfg.Mode, Type: cfg.Registry.Type, Registry: cfg.Registry.URL, Robots: []robotOutput{}}
	robots := 0
	for _, r := range cfg.Desired.Resources {
		if r.Key.Kind == schema.KindRobot {
			robots++
		}
	}
	if robots == 0 {
		return out, nil
	}
	p, err := o.openRegistry(cfg)
	if err != nil {
		return nil, err
	}
	issuer, ok := p.(providers.Issuer)
	if !ok {
		return nil, codedError{exitRefused, fmt.Errorf("%s: this version knows no robots of a registry of type %s", cfg.Registry.URL, cfg.Registry.Type)}
	}
	accounts, err := issuer.Accounts(ctx, cfg.Desired)
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		out.Robots = append(out.Robots, robotOutput{a.Key.Name, a.Login, a.Expires.UTC()})
	}
	if missing := robots - len(accounts); missing > 0 {
		o.logger().Warn("robots have no account yet and are left out; apply makes them", "robots", missing)
	}
	return out, nil
}

// plainValue needs no quotes in any reader of such files.
var plainValue = regexp.MustCompile(`^[A-Za-z0-9_./:@%+-]*$`)

// dotenv writes NAME=VALUE lines. Two robots of one name are refused, and so is a
// value that no quotes hold.
func (out *outputs) dotenv(w io.Writer) error {
	var b strings.Builder
	var problems []error
	put := func(name, value string) {
		switch {
		case plainValue.MatchString(value):
		case strings.ContainsAny(value, "'\n\r"):
			problems = append(problems, fmt.Errorf("%s: %q cannot be written in a dotenv file; use --format json", name, value))
		default: // readers put variables into what has no quotes, and robot$ci is none
			value = "'" + value + "'"
		}
		fmt.Fprintf(&b, "%s=%s\n", name, value)
	}
	put("OCISYNC_REGISTRY_URL", out.Registry)
	_, host, _ := strings.Cut(out.Registry, "://")
	put("OCISYNC_REGISTRY_HOST", strings.TrimSuffix(host, "/"))
	of := map[string]string{}
	for _, r := range out.Robots {
		name := variable(r.Name)
		if other, taken := of[name]; taken {
			problems = append(problems, fmt.Errorf("robots %q and %q are both %s in a dotenv file; rename one, or use --format json", other, r.Name, name))
			continue
		}
		of[name] = r.Name
		expires := ""
		if !r.Expires.IsZero() {
			expires = r.Expires.Format(time.RFC3339)
		}
		put(name+"_LOGIN", r.Login)
		put(name+"_EXPIRES", expires)
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// variable is what a robot's variables begin with.
func variable(robot string) string {
	return "OCISYNC_ROBOT_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, robot)
}
