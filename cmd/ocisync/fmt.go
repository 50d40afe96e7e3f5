package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema/load"
)

func newFmt(o *options) *cobra.Command {
	var check, upgrade bool
	cmd := &cobra.Command{
		Use:     "fmt [file...]",
		GroupID: "author",
		Short:   "Write modes in the one usual form",
		Long: `Fmt rewrites the files named, or all of --mode, or all there are, in the one
usual form: comments stay, values stay, lines end with LF. It prints the names
of the files it changed.
` + exitHelp,
		RunE: func(_ *cobra.Command, args []string) error { return o.format(args, check, upgrade) },
	}
	o.modeFlags(cmd)
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; list the files that are not in that form and exit with 3")
	cmd.Flags().BoolVar(&upgrade, "upgrade", false, "bring files of an older version of the format to this one")
	return cmd
}

func (o *options) format(files []string, check, upgrade bool) error {
	if len(files) == 0 {
		var err error
		if files, err = o.modeFiles(); err != nil {
			return err
		}
	}
	var problems load.Errors
	odd := 0
	for _, f := range files {
		b, err := readFile(f)
		if err != nil {
			return err
		}
		form := load.Format
		if upgrade {
			form = load.Upgrade
		}
		out, err := form(f, b)
		var bad load.Errors
		if errors.As(err, &bad) {
			problems = append(problems, bad...)
			continue
		}
		if err != nil {
			return err
		}
		if bytes.Equal(b, out) {
			continue
		}
		odd++
		o.tell("%s\n", load.Safe(f))
		if bytes.Contains(b, []byte("\r\n")) {
			o.say("%s: its lines end as on Windows (CRLF); in the usual form they end with LF alone", f)
		}
		if check {
			continue
		}
		if err := replaceFile(f, out); err != nil {
			return err
		}
	}
	switch {
	case len(problems) > 0:
		return problems
	case check && odd > 0:
		return codedError{exitInvalid, fmt.Errorf("not in the usual form: %s; ocisync fmt rewrites what is listed", count(odd, "file"))}
	}
	return nil
}

// modeFiles lists the files of --mode, or of all modes and modes/common.
func (o *options) modeFiles() ([]string, error) {
	dirs, err := o.modeNames()
	if err != nil {
		return nil, err
	}
	if o.mode != "" && o.mode != "common" {
		if !slices.Contains(dirs, o.mode) {
			return nil, fmt.Errorf("no mode %q in %s; the modes are %s", o.mode, o.modes, strings.Join(dirs, ", "))
		}
		dirs = []string{o.mode}
	} else if o.mode == "common" {
		dirs = []string{o.mode}
	} else {
		dirs = append(dirs, "common")
	}
	var files []string
	for _, dir := range dirs {
		if err := load.OwnDirectory(o.modes, dir); err != nil {
			return nil, err
		}
		list, err := fs.Glob(os.DirFS(o.modes), dir+"/*.toml")
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			files = append(files, filepath.Join(o.modes, f))
		}
	}
	slices.Sort(files)
	return files, nil
}

// maxFile bounds a file to format, in bytes.
const maxFile = 16 << 20

func readFile(path string) ([]byte, error) {
	b, err := regular.Read(path, maxFile)
	if errors.Is(err, regular.ErrLarge) {
		return nil, fmt.Errorf("%s is larger than %d MiB; split it", path, maxFile>>20)
	} else if err != nil {
		return nil, load.Unreadable(path, err)
	}
	return b, nil
}

// replaceFile writes a file whole or not at all, through links, and keeps its
// permissions.
func replaceFile(path string, data []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(filepath.Dir(path)), renameio.WithExistingPermissions())
}
