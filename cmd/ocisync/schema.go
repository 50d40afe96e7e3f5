package main

import (
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/schema/load"
)

func newSchema(o *options) *cobra.Command {
	format := "jsonschema"
	cmd := &cobra.Command{
		Use:     "schema",
		GroupID: "author",
		Short:   "Print the schema of a mode's files",
		Long: `Schema prints what a mode's files may hold: as JSON Schema, which editors use
through a first line "#:schema ocisync.schema.json", or as the CUE definitions.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			var b []byte
			var err error
			switch format {
			case "jsonschema":
				b, err = load.JSONSchema()
			case "cue":
				b, err = load.CUE()
			}
			if err != nil {
				return err
			}
			_, err = o.out.Write(b)
			return err
		},
	}
	formats := []string{"jsonschema", "cue"}
	cmd.Flags().Var(&choice{value: &format, of: formats}, "format", "`form` of the schema: jsonschema or cue")
	complete(cmd, "format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
