package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
		Long: `Adopt reads the registry and writes every object that the mode does not declare as TOML
into a new file of the mode, adopted.toml, so that the next plan is empty. Secrets
cannot be read: a reference to fill in stands there as a comment, and they are unmanaged
until it is none. Certificates by which other registries are trusted become files in
certs, beside it. Of a Harbor's own settings those are written that are not as it comes;
those of other registries are not adopted. What else is left out, such as patterns of a
hand-written configuration that are of no namespace, or a webhook that tells several, is
listed with why. The registry is not changed; the next apply records the objects as
ocisync's own.
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
	if out == "" {
		out = filepath.Join(o.modes, s.cfg.Mode, adoptedFile)
	}
	a, live, declared, err := o.found(ctx, s.provider, s.cfg, out != "-")
	if err != nil {
		return err
	}
	switch {
	case len(a.found) == 0 && len(a.left) == 0:
		o.say("nothing to adopt: the mode declares every object the registry has")
	case len(a.found) == 0:
		o.say("nothing to adopt: the mode declares every object that one can hold")
	case out == "-":
		_, err = o.out.Write(a.text)
	default:
		if err = a.write(out); err == nil {
			_, err = fmt.Fprintf(o.out, "%s: %s\n", out, count(len(a.found), "object"))
		}
	}
	if err != nil {
		return err
	}
	return o.leftAfter(ctx, s, live, declared, a)
}

// found reads what the registry has and the mode does not declare; with files,
// certificates become some.
func (o *options) found(ctx context.Context, provider providers.Provider, cfg *schema.Config, files bool) (a adoption, live, declared schema.State, err error) {
	p := providers.ReadOnly(provider)
	var kinds []schema.Kind
	for _, k := range schema.Kinds() {
		supported := slices.ContainsFunc(p.Capabilities(), func(c schema.Capability) bool { return c.Kind == k && c.Support != schema.Unsupported })
		if supported {
			kinds = append(kinds, k)
		}
	}
	if live, err = p.Read(ctx, schema.ScopeOf(kinds...)); err != nil {
		return a, live, declared, err
	}
	if declared, _, err = p.Normalize(cfg.Desired); err != nil {
		return a, live, declared, err
	}
	if err := errors.Join(live.Sort(), declared.Sort()); err != nil {
		return a, live, declared, err
	}
	found := slices.DeleteFunc(slices.Clone(live.Resources), func(r schema.Resource) bool {
		_, known := declared.Get(r.Key)
		return known || r.Key.Kind == schema.KindSettings || saysNothing(r)
	})
	if chooser, ok := provider.(providers.Chooser); ok {
		for i, r := range found {
			found[i] = chooser.Chosen(r)
		}
	}
	found = append(found, chosen(provider, live, declared)...)
	a = adoption{modes: o.modes, mode: cfg.Mode, registry: cfg.Registry.Type, found: found, certificates: map[string]string{}}
	if files {
		a.remotes(a.file)
	} else {
		a.remotes(a.omit)
	}
	a.housed(declared)
	return a, live, declared, a.fit()
}

// chosen are the settings that somebody chose, as far as the provider tells that, and
// the mode does not declare: one of which it says a part is its own.
func chosen(p providers.Provider, live, declared schema.State) []schema.Resource {
	key := schema.Key{Kind: schema.KindSettings}
	r, there := live.Get(key)
	chooser, ok := p.(providers.Chooser)
	if !there || !ok {
		return nil
	}
	r = chooser.Chosen(r)
	spec, ok := r.Spec.(*schema.Settings)
	if !ok {
		return nil
	}
	said := map[string]bool{}
	if d, ok := declared.Get(key); ok {
		if own, ok := d.Spec.(*schema.Settings); ok {
			for _, v := range own.Values {
				said[schema.SplitPath(v.Path)[0]] = true
			}
		}
	}
	values := slices.DeleteFunc(slices.Clone(spec.Values), func(v schema.Value) bool { return said[schema.SplitPath(v.Path)[0]] })
	unread := slices.DeleteFunc(slices.Clone(r.Unread), func(path string) bool { return said[strings.TrimPrefix(path, "values.")] })
	if len(values) == 0 {
		return nil
	}
	return []schema.Resource{{Key: key, Spec: &schema.Settings{Values: values}, Unread: unread}}
}

// saysNothing reports whether a block of an object would be there for nothing: who
// pushes makes repositories, and what is said of them alone is managed.
func saysNothing(r schema.Resource) bool {
	spec, ok := r.Spec.(*schema.Repository)
	return ok && (spec.Description == nil || *spec.Description == "")
}

// leftAfter prints what an adoption leaves as it is.
func (o *options) leftAfter(ctx context.Context, s *session, live, declared schema.State, a adoption) error {
	after := schema.State{Scope: live.Scope, Resources: slices.Clone(declared.Resources)}
	for _, r := range a.found {
		if _, known := declared.Get(r.Key); !known { // settings may be of both
			after.Resources = append(after.Resources, r)
		}
	}
	return errors.Join(after.Sort(), leftAsIs(ctx, o.err, s.provider, after, a.left...))
}

const (
	adoptedFile = "adopted.toml"
	// foundFile is what was found called before it is written anywhere; no file is
	// called so.
	foundFile = "found by adopt.toml"
)

// adoption is what becomes a file of a mode.
type adoption struct {
	modes, mode  string
	registry     string // its type
	found        []schema.Resource
	left         []providers.Leftover
	text         []byte
	certificates map[string]string // what files hold, by their paths from this one
}

// file has a certificate in a file of its own: a mode names one.
func (a *adoption) file(key schema.Key, tls *schema.TLS) {
	path := "certs/" + url.PathEscape(key.Name) + ".pem"
	a.certificates[path] = *tls.CA + "\n"
	tls.CA = &path
}

// omit leaves a certificate out.
func (a *adoption) omit(key schema.Key, tls *schema.TLS) {
	tls.CA = nil
	a.left = append(a.left, providers.Leftover{What: key.String() + " tls.ca", Why: "it is a file of its own, and --out - writes none"})
}

// housed leaves out what hangs on a namespace that there is none of: a block of it
// would make one.
func (a *adoption) housed(declared schema.State) {
	there := map[schema.Key]bool{}
	for _, r := range slices.Concat(declared.Resources, a.found) {
		there[r.Key] = true
	}
	a.found = slices.DeleteFunc(a.found, func(r schema.Resource) bool {
		ns, hangs := r.Key.Namespace()
		if !hangs || there[ns] {
			return false
		}
		a.left = append(a.left, providers.Leftover{What: r.Key.String(), Why: fmt.Sprintf("there is no namespace %s", ns.Name)})
		return true
	})
}

// remotes does something with the settings of those that hold a certificate; what
// is changed is a copy.
func (a *adoption) remotes(do func(schema.Key, *schema.TLS)) {
	a.found = slices.Clone(a.found)
	for i, r := range a.found {
		spec, ok := r.Spec.(*schema.Remote)
		if !ok || spec.TLS == nil || spec.TLS.CA == nil || !strings.HasPrefix(*spec.TLS.CA, "-----BEGIN ") {
			continue
		}
		out, tls := *spec, *spec.TLS
		do(r.Key, &tls)
		out.TLS = &tls
		a.found[i].Spec = &out
	}
}

// fit writes what was found as a mode has it. What no mode can hold is left out, and
// then what needs it; what is wrong beside that is an error.
func (a *adoption) fit() error {
	for len(a.found) > 0 {
		var err error
		if a.text, err = load.EncodeObjects(a.registry, a.found); err != nil {
			return err
		}
		var problems load.Errors
		if _, err = load.ModeWith(a.modes, a.mode, foundFile, a.text); err == nil {
			return nil
		} else if !errors.As(err, &problems) || !a.drop(problems) {
			return fmt.Errorf("what was found does not fit the mode: %w", err)
		}
	}
	return nil
}

// drop leaves out what problems are of, and reports whether there is any: of an object
// the list, where it can go without one, else all of it.
func (a *adoption) drop(problems load.Errors) bool {
	dropped := false
	gone := map[schema.Key]bool{}
	for _, p := range problems {
		if filepath.Base(p.File) != foundFile {
			continue
		}
		i, at := a.of(p)
		if i < 0 {
			continue
		}
		dropped = true
		key := a.found[i].Key
		if gone[key] {
			continue
		}
		path := strings.TrimPrefix(p.Key[len(at):], ".")
		p.Position, p.Key = schema.Position{}, path
		list, spec, told := without(a.found[i].Spec, path)
		switch {
		case told:
		case list == "":
			gone[key] = true
			a.left = append(a.left, providers.Leftover{What: key.String(), Why: p.String()})
		default:
			a.found[i].Spec = spec
			a.left = append(a.left, providers.Leftover{What: key.String() + " " + list, Why: p.String() + "; the list is left out whole: an apply would take away what it lacks"})
		}
	}
	a.found = slices.DeleteFunc(a.found, func(r schema.Resource) bool { return gone[r.Key] })
	return dropped
}

// of is the object that a problem is of, by its place, and its path; -1 for none. The
// longest path is: what hangs on a namespace is below it.
func (a *adoption) of(p load.Problem) (i int, at string) {
	i = -1
	for n, r := range a.found {
		path := load.PathOf(r.Key)
		if r.Key.Kind == schema.KindSettings {
			path = load.Path("registry", a.registry)
		}
		if len(path) > len(at) && (p.Key == path || strings.HasPrefix(p.Key, path+".")) {
			i, at = n, path
		}
	}
	return i, at
}

// without is a spec without the list that a path is in, where that can go and leaves it
// unmanaged: a list that lacked one entry would have the next apply take that away. done
// says that it went already.
func without(spec schema.Spec, path string) (list string, rest schema.Spec, done bool) {
	list, _, _ = strings.Cut(path, ".")
	list, _, _ = strings.Cut(list, "[")
	switch s := spec.(type) {
	case *schema.Access:
		out := *s
		switch list {
		case "users":
			out.Users = nil
			return list, &out, s.Users == nil
		case "groups":
			out.Groups = nil
			return list, &out, s.Groups == nil
		}
	case *schema.Scan:
		if list == "allow" {
			out := *s
			out.Allow = nil
			return list, &out, s.Allow == nil
		}
	}
	return "", nil, false
}

// write writes the file, after those of the certificates.
func (a *adoption) write(out string) error {
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s is there already; move what you keep to another file of the mode, or say --out", out)
	}
	for _, path := range slices.Sorted(maps.Keys(a.certificates)) {
		if !a.names(path) {
			continue
		}
		text := []byte(a.certificates[path])
		path = filepath.Join(filepath.Dir(out), filepath.FromSlash(path))
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a checkout, for others to read
			return err
		}
		if err := writeNew(path, text); err != nil {
			return fmt.Errorf("%w; it is to hold a certificate: move it away", err)
		}
	}
	if err := writeNew(out, a.text); err != nil {
		return fmt.Errorf("%w; name a file in a directory that is there, with --out", err)
	}
	return nil
}

// names reports whether something that was not left out names a certificate.
func (a *adoption) names(path string) bool {
	return slices.ContainsFunc(a.found, func(r schema.Resource) bool {
		spec, ok := r.Spec.(*schema.Remote)
		return ok && spec.TLS != nil && spec.TLS.CA != nil && *spec.TLS.CA == path
	})
}
