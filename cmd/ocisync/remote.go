package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/content"
)

// one takes one argument, of what it is called.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes %s, and not %d arguments", strings.TrimPrefix(cmd.CommandPath(), "ocisync "), what, len(args))
		}
		return nil
	}
}

func newRepo(o *options) *cobra.Command {
	cmd := group("repo", "List the repositories of a registry or a layout")
	r := &reach{options: o}
	list := &cobra.Command{
		Use:   "list HOST",
		Short: "List the repositories that can be seen",
		Long: `List prints the repositories of a registry that the account sees, or those of an OCI
layout (oci:DIR, oci-archive:FILE), one a line. What a layout names by tags alone is
in the repository "".
` + exitHelp,
		Example: "  ocisync repo list registry.example.com\n  ocisync repo list oci:./layout",
		Args:    one("a host or a layout"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.reading(cmd.Context(), args[0], true, func(in content.Source, p place) error {
				if p.repository != "" || p.reference != "" {
					return fmt.Errorf("%s is not a whole registry; write %s, or ocisync tag list %[1]s", p, p.base())
				}
				names, err := in.Repositories(cmd.Context())
				if err != nil {
					return err
				}
				return r.lines("repositories", names)
			})
		},
	}
	o.outputFlag(list)
	r.reachFlags(list)
	cmd.AddCommand(list)
	return cmd
}

// group is a command that only has others.
func group(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, GroupID: "content", Short: short, Args: noArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
}

// lines prints a list.
func (c *reach) lines(name string, list []string) error {
	if c.json() {
		return writeJSON(c.out, map[string][]string{name: append([]string{}, list...)})
	}
	for _, l := range list {
		if l == "" {
			l = `""`
		}
		c.tell("%s\n", l)
	}
	return nil
}

// reading opens a place to read from, for a function.
func (c *reach) reading(ctx context.Context, s string, several bool, f func(content.Source, place) error) (err error) {
	p, err := parsePlace(s, several)
	if err != nil {
		return err
	}
	in, done, err := c.source(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if !several {
		if p, err = settle(ctx, in, p); err != nil {
			return err
		}
	}
	return f(in, p)
}

func newTag(o *options) *cobra.Command {
	cmd := group("tag", "List or delete the tags of a repository")
	r := &reach{options: o}
	list := &cobra.Command{
		Use:   "list REPOSITORY",
		Short: "List the tags of a repository",
		Long: `List prints the tags of HOST/REPOSITORY, or of a repository of an OCI layout
(oci:DIR:REPOSITORY; oci:DIR for those without one), sorted, one a line.
` + exitHelp,
		Example: "  ocisync tag list registry.example.com/team/app",
		Args:    one("a repository"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.reading(cmd.Context(), args[0], true, func(in content.Source, p place) error {
				switch {
				case p.reference != "":
					return fmt.Errorf("%s names a tag or digest; leave out %s", p, p.reference)
				case p.repository == "" && p.layout == "":
					return fmt.Errorf("%s names no repository; ocisync repo list %[1]s tells them", p)
				}
				tags, ok, err := in.Tags(cmd.Context(), p.repository)
				if err == nil && !ok {
					err = fmt.Errorf("%s is not there", p)
				}
				if err != nil {
					return err
				}
				return r.lines("tags", tags)
			})
		},
	}
	o.outputFlag(list)
	r.reachFlags(list)
	cmd.AddCommand(list, newTagDelete(o))
	return cmd
}

type deleteOptions struct {
	reach
	yes      bool
	manifest bool
}

func newTagDelete(o *options) *cobra.Command {
	d := &deleteOptions{reach: reach{options: o}}
	cmd := &cobra.Command{
		Use:   "delete REFERENCE",
		Short: "Delete a tag, and leave what it names",
		Long: `Delete removes a tag of a repository or of an OCI layout, and nothing else: other tags
of the same image stay, and the image too until the registry collects what nothing
needs. Where a registry deletes no tag alone, that is said; --manifest deletes what
the tag names there, with every other tag of it, which are told first. Harbor deletes
one by its own API alone: name the mode of it with --mode, and leave out HOST.

On a terminal it asks; elsewhere it needs --yes.
` + exitHelp,
		Example: "  ocisync tag delete --yes registry.example.com/team/app:v1\n  ocisync tag delete --mode prod team/app:v1",
		Args:    one("a tag"),
		RunE:    func(cmd *cobra.Command, args []string) error { return d.run(cmd.Context(), args[0]) },
	}
	o.outputFlag(cmd)
	o.modesFlags(cmd)
	d.reachFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.mode, "mode", "m", "", "the `mode` whose registry has the tag, with the login of that")
	complete(cmd, "mode", o.completeModes)
	f.BoolVarP(&d.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&d.manifest, "manifest", false, "delete what the tag names, and every other tag of it")
	return cmd
}

// deleted is what tag delete prints with --output json.
type deleted struct {
	Reference string   `json:"reference"`
	Digest    string   `json:"digest"`
	Manifest  bool     `json:"manifest"` // what it named went too
	Tags      []string `json:"tags"`     // those that are gone
}

func (d *deleteOptions) run(ctx context.Context, s string) (err error) {
	p, err := d.place(s)
	switch {
	case err != nil:
		return err
	case !strings.HasPrefix(p.reference, ":"):
		return fmt.Errorf("%s names no tag", p)
	case d.manifest && p.layout != "":
		return errors.New("--manifest is of registries; of a layout a tag is deleted alone")
	}
	in, done, err := d.deleting(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if p, err = settle(ctx, in, p); err != nil {
		return err
	}
	ref := p.ref()
	is, err := content.Describe(ctx, in, ref)
	if err != nil {
		return err
	}
	out := deleted{Reference: p.String(), Digest: is.Digest.String(), Manifest: d.manifest, Tags: []string{ref.Tag}}
	what := fmt.Sprintf("Delete the tag %s, which is %s?", p, is.Digest)
	if d.manifest {
		if out.Tags, err = content.Tagged(ctx, in, ref.Repository, is.Digest); err != nil {
			return err
		}
		what = fmt.Sprintf("Delete %s of %s with its tags %s?", is.Digest, p.of(content.Reference{Repository: ref.Repository}), strings.Join(out.Tags, ", "))
	}
	if err := d.agree(ctx, what); err != nil {
		return err
	}
	if d.manifest {
		err = content.Delete(ctx, in, content.Reference{Repository: ref.Repository, Digest: is.Digest})
	} else {
		err = content.Untag(ctx, in, ref)
	}
	if errors.Is(err, content.ErrKept) {
		return codedError{exitRefused, d.kept(ctx, in, ref, is.Digest, err)}
	}
	if err != nil {
		return err
	}
	if d.json() {
		return writeJSON(d.out, out)
	}
	d.tell("deleted %s\n", p)
	for _, tag := range out.Tags {
		if tag != ref.Tag {
			d.tell("deleted %s\n", p.of(content.Reference{Repository: ref.Repository, Tag: tag}))
		}
	}
	return nil
}

// place reads what is to be deleted, of the mode's registry where one is named.
func (d *deleteOptions) place(s string) (place, error) {
	if d.mode == "" {
		return parsePlace(s, false)
	}
	cfg, err := d.config()
	if err != nil {
		return place{}, err
	}
	p, err := parsePlace(strings.TrimSuffix(cfg.Registry.URL, "/")+"/"+s, false)
	if err != nil {
		err = fmt.Errorf("%s: with --mode, write REPOSITORY:TAG", quote(s))
	}
	return p, err
}

// deleting opens what a tag is deleted from: a layout that is there.
func (d *deleteOptions) deleting(ctx context.Context, p place) (content.Target, func() error, error) {
	if d.mode != "" {
		cfg, err := d.config()
		if err != nil {
			return nil, nil, err
		}
		provider, err := d.openRegistry(cfg)
		if err != nil {
			return nil, nil, err
		}
		r, release, err := d.contentOf(ctx, cfg, provider, true)
		return r, func() error { release(); return nil }, err
	}
	if p.layout == ociArchive {
		return nil, nil, errors.New("an archive is written whole; copy what shall stay into another one")
	}
	if p.layout != "" {
		_, done, err := d.source(ctx, p)
		if err == nil {
			err = done()
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return d.target(ctx, p)
}

// kept says what deleting the manifest would take along.
func (d *deleteOptions) kept(ctx context.Context, in content.Target, ref content.Reference, digest v1.Hash, why error) error {
	tags, err := content.Tagged(ctx, in, ref.Repository, digest)
	if err != nil {
		return errors.Join(why, err)
	}
	tags = slices.DeleteFunc(tags, func(t string) bool { return t == ref.Tag })
	with := "no other tag is of it"
	if len(tags) > 0 {
		with = "the tags " + strings.Join(tags, ", ") + " would go with it"
	}
	err = fmt.Errorf("%w; --manifest deletes %s itself: %s", why, digest, with)
	if d.mode == "" {
		err = fmt.Errorf("%w; of a Harbor, --mode has the tag deleted alone", err)
	}
	return err
}

// agree asks whether to go on.
func (d *deleteOptions) agree(ctx context.Context, text string) error {
	switch {
	case d.yes:
		return nil
	case !terminal(d.in) || !terminal(d.err):
		return codedError{exitRefused, fmt.Errorf("%s nobody is asked here; say --yes", text)}
	}
	yes, err := d.question(ctx, text)
	if err == nil && !yes {
		err = errors.New("not confirmed; nothing was deleted")
	}
	return err
}

type manifestOptions struct {
	reach
	platform   string
	descriptor bool
}

func newManifest(o *options) *cobra.Command {
	cmd := group("manifest", "Show the manifest of a tag or digest")
	m := &manifestOptions{reach: reach{options: o}}
	get := &cobra.Command{
		Use:   "get REFERENCE",
		Short: "Print a manifest as it is stored",
		Long: `Get prints the bytes of a manifest, checked against its digest, and nothing else, so
that their digest is that of the manifest. REFERENCE is HOST/REPOSITORY:TAG,
HOST/REPOSITORY@DIGEST, oci:DIR:REF or oci-archive:FILE:REF.
` + exitHelp,
		Example: "  ocisync manifest get registry.example.com/team/app:v1\n  ocisync manifest get --platform linux/arm64 --descriptor registry.example.com/team/app:v1",
		Args:    one("a tag or digest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.reading(cmd.Context(), args[0], false, func(in content.Source, p place) error { return m.get(cmd.Context(), in, p) })
		},
	}
	o.outputFlag(get)
	m.reachFlags(get)
	f := get.Flags()
	f.StringVar(&m.platform, "platform", "", "the manifest of an `os/arch[/variant]` in an index")
	f.BoolVar(&m.descriptor, "descriptor", false, "print its type, digest and size instead, which asks for no more than those")
	cmd.AddCommand(get)
	return cmd
}

// got is what manifest get prints with --output json.
type got struct {
	Reference string          `json:"reference"`
	MediaType string          `json:"media_type"`
	Digest    string          `json:"digest"`
	Size      int64           `json:"size"`
	Manifest  json.RawMessage `json:"manifest,omitempty"`
}

func (m *manifestOptions) get(ctx context.Context, in content.Source, p place) (err error) {
	if p.reference == "" {
		return fmt.Errorf("%s names no tag and no digest", p)
	}
	ref := p.ref()
	if m.platform != "" {
		want, err := content.ParsePlatform(m.platform)
		if err != nil {
			return fmt.Errorf("--platform: %w", err)
		}
		if ref, err = content.Platform(ctx, in, ref, want); err != nil {
			return err
		}
	}
	var d v1.Descriptor
	var text []byte
	if m.descriptor {
		d, err = content.Describe(ctx, in, ref)
	} else {
		d, text, err = content.Manifest(ctx, in, ref)
	}
	if err != nil {
		return err
	}
	switch {
	case m.json():
		return writeJSON(m.out, got{p.of(ref), string(d.MediaType), d.Digest.String(), d.Size, text})
	case m.descriptor:
		m.tell("%s %s %d\n", d.Digest, d.MediaType, d.Size)
		return nil
	}
	_, err = m.out.Write(text)
	return err
}
