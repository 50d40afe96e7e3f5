package load

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ocisync/ocisync/schema"
)

// Host loads the operator's own file. What is wrong with it is returned as
// [Errors]. A relative directory of modes counts from the file's directory.
func Host(path string) (*schema.Host, error) {
	c, err := newChecker()
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	data, err := readBounded(string(filepath.Separator), abs, path)
	if err != nil {
		return nil, fmt.Errorf("host file: %w", err)
	}
	if info, err := os.Stat(abs); err == nil && info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("host file: %s: everybody may write it, and so say what runs here; run chmod o-w on it", path)
	}
	t := newTree(path, data)
	p := parser{tree: t}
	p.run()
	c.problems = append(c.problems, p.problems...)
	var raw struct {
		schema.Host
		Command map[string]schema.HostCommand `json:"command"`
	}
	decode(c, t.Root, c.defs.get("Host"), "", &raw)
	if err := c.err(); err != nil {
		return nil, err
	}
	host := raw.Host
	host.File = path
	for name, command := range raw.Command {
		command.Name = name
		host.Command = append(host.Command, command)
	}
	slices.SortFunc(host.Command, func(a, b schema.HostCommand) int { return cmp.Compare(a.Name, b.Name) })
	if host.Modes != "" && !filepath.IsAbs(host.Modes) {
		host.Modes = filepath.Join(filepath.Dir(abs), host.Modes)
	}
	return &host, nil
}

// command checks a program and its arguments: no search path is asked.
func (c *checker) command(n *Node, path string) {
	if len(n.Items) == 0 || n.Items[0].Kind == String && !filepath.IsAbs(n.Items[0].Text) {
		c.report(n, path, "this names no program by its whole path", `write ["/usr/bin/vault-put", "argument"]`)
	}
}
