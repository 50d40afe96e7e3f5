package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/state"
)

func newKey(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key",
		GroupID: "author",
		Short:   "Make a state key, which signs what ocisync records",
		Long: `Key prints a new state key and its public half.

Keep the key where only the pipeline or host that applies can read it, and refer
to it as state.key; put the public half into the mode as state.verify, so that
everybody else can check without a secret. Without a key nothing is ever pruned.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			k, err := state.NewKey()
			if err != nil {
				return err
			}
			if o.json() {
				return writeJSON(o.out, struct {
					Key    string `json:"key"`
					Verify string `json:"verify"`
				}{k.Reveal(), k.Public()})
			}
			_, err = fmt.Fprintf(o.out, "OCISYNC_STATE_KEY=%s\n# in the mode:\n# [state]\n# key    = { env = \"OCISYNC_STATE_KEY\" }\n# verify = %q\n",
				k.Reveal(), k.Public())
			return err
		},
	}
	o.outputFlag(cmd)
	return cmd
}
