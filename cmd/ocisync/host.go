package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// host loads the operator's file, if there is one. It is never looked for in
// the working directory or beside a mode: what a repository holds must not say
// what may be run here.
func (o *options) host() (*schema.Host, error) {
	if o.hostFile != "" {
		return load.Host(o.hostFile)
	}
	places := []string{"/etc/ocisync/ocisync.toml"}
	if dir := o.env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		places = append([]string{filepath.Join(dir, "ocisync", "ocisync.toml")}, places...)
	} else if home := o.env("HOME"); filepath.IsAbs(home) {
		places = append([]string{filepath.Join(home, ".config", "ocisync", "ocisync.toml")}, places...)
	}
	for _, p := range places {
		switch _, err := os.Stat(p); {
		case err == nil:
			return load.Host(p)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("host file: %w; let this user read it, or name another with --host-file", err)
		}
	}
	return &schema.Host{}, nil
}

// findModes settles the directory of the modes: what the flag or environment
// says, else the host file, else modes in the working directory.
func (o *options) findModes() error {
	if o.modes != "" {
		return nil
	}
	host, err := o.host()
	if err != nil {
		return err
	}
	if o.modes = host.Modes; o.modes == "" {
		o.modes = "modes"
	}
	return nil
}

// modeNames lists the modes there are.
func (o *options) modeNames() ([]string, error) {
	modes, err := load.Modes(o.modes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no directory %s; name the one that holds the modes with --modes, or make one with ocisync init", o.modes)
	case err != nil:
		return nil, err
	case len(modes) == 0:
		remedy := "ocisync init makes some"
		if files, err := filepath.Glob(filepath.Join(o.modes, "*.toml")); err == nil && len(files) > 0 {
			name := filepath.Base(files[0])
			remedy = fmt.Sprintf("a mode is a directory of such files: move %s to %s", files[0], filepath.Join(o.modes, strings.TrimSuffix(name, ".toml"), name))
		}
		return nil, fmt.Errorf("%s holds no modes; %s", o.modes, remedy)
	}
	return modes, nil
}

// config loads the mode that the flags name.
func (o *options) config() (*schema.Config, error) {
	modes, err := o.modeNames()
	if err != nil {
		return nil, err
	}
	if o.mode == "" {
		return nil, fmt.Errorf("no mode is named; say --mode and one of: %s", strings.Join(modes, ", "))
	}
	return load.Mode(o.modes, o.mode)
}

// command is what a person types to run a verb on the same mode.
func (o *options) command(verb string) string {
	words := []string{"ocisync", verb, "--mode", quote(o.mode)}
	if o.modes != "modes" {
		words = append(words, "--modes", quote(o.modes))
	}
	if o.hostFile != "" {
		words = append(words, "--host-file", quote(o.hostFile))
	}
	return strings.Join(words, " ")
}

// quote writes a word for a shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./@:=+,-", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
