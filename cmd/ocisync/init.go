package main

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/schema/load"
)

// templates are the modes that init writes, one file for each.
//
//go:embed templates
var templates embed.FS

func newInit(o *options) *cobra.Command {
	return &cobra.Command{
		Use:     "init [directory]",
		GroupID: "author",
		Short:   "Write modes to start from",
		Long: `Init writes modes/dev (Zot) and modes/prod (Harbor) below a directory, commented
and valid, with four namespaces and three users to change. It overwrites
nothing.
` + exitHelp,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return o.init(dir)
		},
	}
}

func (o *options) init(dir string) error {
	entries, err := templates.ReadDir("templates")
	if err != nil {
		return err
	}
	type file struct{ template, path string }
	var files []file
	var there []error
	for _, e := range entries {
		mode := strings.TrimSuffix(e.Name(), ".toml")
		f := file{"templates/" + e.Name(), filepath.Join(dir, "modes", mode, e.Name())}
		if _, err := os.Lstat(f.path); err == nil {
			there = append(there, fmt.Errorf("%s is there already; init overwrites nothing", f.path))
		}
		files = append(files, f)
	}
	if len(there) > 0 {
		return errors.Join(there...)
	}
	var made []string
	for _, f := range files {
		b, err := templates.ReadFile(f.template)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(f.path), 0o755) //nolint:gosec // a checkout, for others to read
		}
		if err == nil {
			err = writeNew(f.path, b)
		}
		if err != nil {
			for _, m := range made {
				err = errors.Join(err, os.Remove(m))
			}
			return fmt.Errorf("%w; name a directory that you may write to", err)
		}
		made = append(made, f.path)
	}
	for _, m := range made {
		o.tell("%s\n", load.Safe(m))
	}
	o.say("next: edit them, then %s", validateCommand(dir))
	return nil
}

func validateCommand(dir string) string {
	if dir == "." {
		return "ocisync validate"
	}
	return "ocisync validate --modes " + quote(filepath.Join(dir, "modes"))
}

// writeNew writes a file that must not exist yet, whole or not at all.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // a checkout, for others to read
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
