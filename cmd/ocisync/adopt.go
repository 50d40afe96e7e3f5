package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

func newAdopt(o *options) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "adopt",
		GroupID: "loop",
		Short:   "Write the live registry's objects into the mode",
		Long: `Adopt reads the registry and writes every object that the mode does not declare
as TOML into a new file of the mode, adopted.toml, so that the next plan is
empty. Passwords cannot be read: they stay unmanaged until you add a reference.
Native settings are not adopted. The registry is not changed; the next apply
records the objects as ocisync's own.
` + exitHelp,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.adopt(c.Context(), out) },
	}
	o.modeFlags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "the `file` to write, - for standard output (default: adopted.toml of the mode)")
	return cmd
}

func (o *options) adopt(ctx context.Context, out string) (err error) {
	s, err := o.open(ctx, false)
	if err != nil {
		return err
	}
	defer s.close(&err)
	p := providers.ReadOnly(s.provider)
	var kinds []schema.Kind
	for _, k := range schema.Kinds() {
		supported := slices.ContainsFunc(p.Capabilities(), func(c schema.Capability) bool { return c.Kind == k && c.Support != schema.Unsupported })
		if supported {
			kinds = append(kinds, k)
		}
	}
	live, err := p.Read(ctx, schema.ScopeOf(kinds...))
	if err != nil {
		return err
	}
	declared, _, err := p.Normalize(s.cfg.Desired)
	if err != nil {
		return err
	}
	if err := errors.Join(live.Sort(), declared.Sort()); err != nil {
		return err
	}
	found := slices.DeleteFunc(slices.Clone(live.Resources), func(r schema.Resource) bool {
		_, known := declared.Get(r.Key)
		return known || r.Key.Kind == schema.KindSettings
	})
	if len(found) == 0 {
		o.say("nothing to adopt: the mode declares every object the registry has")
		return nil
	}
	text, err := load.EncodeObjects(found)
	if err != nil {
		return err
	}
	if out == "-" {
		_, err = o.out.Write(text)
		return err
	}
	if out == "" {
		out = filepath.Join(o.modes, s.cfg.Mode, "adopted.toml")
	}
	if err := writeNew(out, text); errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already; move what you keep to another file of the mode, or say --out", out)
	} else if err != nil {
		return fmt.Errorf("%w; name a file in a directory that is there, with --out", err)
	}
	if _, err := load.Mode(o.modes, s.cfg.Mode); err != nil {
		return errors.Join(fmt.Errorf("what was found does not fit the mode, so %s was taken away again (--out - prints it): %w", out, err), os.Remove(out))
	}
	_, err = fmt.Fprintf(o.out, "%s: %s\n", out, count(len(found), "object"))
	return err
}
