package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/schema/load"
)

func newLogs(o *options) *cobra.Command {
	var tail int
	var follow bool
	cmd := &cobra.Command{
		Use:     "logs",
		GroupID: "run",
		Short:   "Show what the mode's registry wrote to its log",
		Long: `Logs prints the log of a registry that ocisync runs on this host, as far as it is
kept, oldest first. What a terminal would take for orders is shown as codes.

Of driver process that is the program's output; of docker what the engine kept; of
embedded what ocisync up --detach wrote: in the foreground it writes to its
terminal.
` + exitHelp,
		Example: "  ocisync logs --mode dev --tail 20 --follow",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if tail < 0 {
				return fmt.Errorf("--tail %d: write how many lines, 0 for all", tail)
			}
			return o.logs(c.Context(), tail, follow)
		},
	}
	o.modeFlags(cmd)
	o.verboseFlag(cmd, "log what is asked")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until Ctrl-C")
	cmd.Flags().IntVarP(&tail, "tail", "n", 0, "the last `lines` alone, 0 for all")
	return cmd
}

func (o *options) logs(ctx context.Context, tail int, follow bool) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	r, err := o.runner(cfg)
	if err != nil {
		return err
	}
	w := &safeWriter{to: o.out}
	if err := r.WriteLog(ctx, w, tail, follow); err != nil {
		return err
	}
	return w.flush()
}

// safeWriter writes whole lines, with codes in the place of what does not show.
type safeWriter struct {
	to   io.Writer
	rest []byte // of a line that has not ended
}

// maxLine is how much of a line is kept until it ends.
const maxLine = 64 << 10

func (w *safeWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	end := bytes.LastIndexByte(w.rest, '\n') + 1
	if end == 0 && len(w.rest) < maxLine {
		return len(b), nil
	}
	if end == 0 {
		end = len(w.rest)
	}
	_, err := io.WriteString(w.to, load.Safe(string(w.rest[:end])))
	w.rest = append(w.rest[:0], w.rest[end:]...)
	return len(b), err
}

func (w *safeWriter) flush() error {
	_, err := io.WriteString(w.to, load.Safe(string(w.rest)))
	return err
}

// safeLines makes a text safe to show, line by line.
func safeLines(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		b.WriteString(load.Safe(strings.TrimRight(l, " \n")) + "\n")
	}
	return b.String()
}
