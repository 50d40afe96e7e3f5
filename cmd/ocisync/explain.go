package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/schema/load"
)

func newExplain(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "explain KEY",
		GroupID: "author",
		Short:   "Say what may be written at a key, or where an object's values come from",
		Long: `Explain without --mode says what a key of the format means: its fields, their
types and what they may be. With --mode it shows one object of that mode, each
value with the place it comes from: its own block, a default, or modes/common.
OCISYNC_MODE does not count here.
` + exitHelp,
		Example: "  ocisync explain namespace.retention\n  ocisync explain --mode prod namespace.team-a",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("name one key, such as namespace.retention")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("mode") {
				return o.origins(args[0])
			}
			if o.json() {
				return errors.New("--output json is for --mode; the format itself is printed for machines by ocisync schema")
			}
			text, err := load.Reference(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(o.out, strings.TrimRight(text, "\n"))
			return err
		},
	}
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	return cmd
}

// origins shows where the values of an object come from.
func (o *options) origins(key string) error {
	if _, err := o.modeNames(); err != nil {
		return err
	}
	list, err := load.Explain(o.modes, o.mode, key)
	if err != nil {
		return err
	}
	if o.json() {
		return writeJSON(o.out, list)
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	for _, v := range list {
		if _, err := fmt.Fprintf(w, "%s\t= %s\t%s\t%s\n", v.Path, load.Safe(v.Value), v.From, load.Safe(v.String())); err != nil {
			return err
		}
	}
	return w.Flush()
}
