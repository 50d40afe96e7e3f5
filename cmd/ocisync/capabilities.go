package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/providers/all"
	"github.com/ocisync/ocisync/schema"
)

func newCapabilities(o *options) *cobra.Command {
	registries := []string{schema.DriverEmbedded, schema.TypeDistribution, schema.TypeZot, schema.TypeHarbor}
	cmd := &cobra.Command{
		Use:   "capabilities [" + strings.Join(registries, "|") + "]",
		Short: "Show what each registry can do",
		Long: `Capabilities shows, per registry, kind and field, whether a registry can do a
thing itself (native), ocisync does it for the registry (emulated), or it cannot
be had (unsupported), and why. A plan refuses what is unsupported, or notes it
where policy.unsupported is "note".`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: registries,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && !slices.Contains(registries, args[0]) {
				return fmt.Errorf("registry %q is not known; write one of: %s", args[0], strings.Join(registries, ", "))
			}
			if len(args) == 1 {
				registries = args
			}
			return o.capabilities(registries)
		},
	}
	o.outputFlag(cmd)
	return cmd
}

func (o *options) capabilities(registries []string) error {
	type row struct {
		Registry string         `json:"registry"`
		Kind     schema.Kind    `json:"kind"`
		Field    string         `json:"field,omitempty"`
		Support  schema.Support `json:"support"`
		Versions string         `json:"versions,omitempty"`
		Reason   string         `json:"reason,omitempty"`
	}
	var rows []row
	for _, name := range registries {
		typ, driver := name, ""
		if name == schema.DriverEmbedded {
			typ, driver = schema.TypeDistribution, schema.DriverEmbedded
		}
		table, err := all.Table(typ, driver)
		if err != nil {
			return err
		}
		for _, c := range table {
			rows = append(rows, row{name, c.Kind, c.Field, c.Support, c.Versions, c.Reason})
		}
	}
	if o.json() {
		return writeJSON(o.out, rows)
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		name := string(r.Kind)
		if r.Field != "" {
			name += "." + r.Field
		}
		why := r.Reason
		if r.Versions != "" {
			why = strings.TrimSuffix(r.Versions+": "+why, ": ")
		}
		line := []string{r.Registry, name, string(r.Support)}
		if why != "" {
			line = append(line, why)
		}
		if _, err := fmt.Fprintln(w, strings.Join(line, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}
