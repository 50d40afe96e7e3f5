package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/declared"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// trustFlags are those of the verbs that heed what a mode trusts.
func (c *reach) trustFlags(cmd *cobra.Command, heeds string) {
	f := cmd.Flags()
	f.StringVarP(&c.mode, "mode", "m", "", "a `mode` of that registry: "+heeds)
	f.StringVar(&c.modes, "modes", "", "`directory` that holds the modes (default modes)")
}

// trusts are those of whom the mode wants one to have signed what lies in a repository;
// nil where no mode is named, or it names none. ns is the namespace that says so.
func (c *reach) trusts(p place) (ns string, trust *content.Trust, err error) {
	if c.mode == "" {
		return "", nil, nil
	}
	if err := c.findModes(); err != nil {
		return "", nil, err
	}
	cfg, err := c.config()
	if err != nil {
		return "", nil, err
	}
	if at, ok := schema.Origin(cfg.Registry.URL); !ok || p.layout != "" || !same(at, p.url) {
		return "", nil, fmt.Errorf("mode %s is of %s, and %s lies elsewhere; leave out --mode, or name the mode of that registry", c.mode, cfg.Registry.URL, p)
	}
	ns, named := declared.TrustOf(trusted(cfg), p.repository)
	if !named.Asks() {
		return ns, nil, nil
	}
	read, err := declared.ReadTrust(below(cfg.Dir), named)
	if err != nil {
		return ns, nil, fmt.Errorf("mode %s: namespace %s: %w", c.mode, ns, err)
	}
	return ns, &read, nil
}

// unreadKeys tells of keys that a mode trusts and that are no public keys in files of it:
// with them nothing could be checked.
func unreadKeys(cfg *schema.Config) error {
	var problems load.Errors
	for _, r := range cfg.Desired.Resources {
		spec, ok := r.Spec.(*schema.Trust)
		if !ok {
			continue
		}
		for _, path := range spec.Keys {
			if _, err := declared.ReadTrust(below(cfg.Dir), schema.Trust{Keys: []string{path}}); err != nil {
				problems = append(problems, load.Problem{
					Position: r.Source, Key: load.Path("namespace", r.Key.Name, string(schema.KindTrust), "keys"),
					What: strings.TrimPrefix(err.Error(), "trust.keys: "), Want: "name a file with a public key, which lies in the directory that holds the modes or below it",
				})
			}
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// same reports whether an origin is that of a URL.
func same(origin, url string) bool {
	other, ok := schema.Origin(url)
	return ok && strings.EqualFold(origin, other)
}
