package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/files"
	"github.com/ocisync/ocisync/pkg/content/keyless"
	"github.com/ocisync/ocisync/pkg/content/sign"
	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

type pullOptions struct {
	reach
	verify    string
	identity  []string
	root      string
	to        string
	most      string
	overwrite bool
}

func newPull(o *options) *cobra.Command {
	p := &pullOptions{reach: reach{options: o}}
	cmd := &cobra.Command{
		Use:     "pull SOURCE",
		GroupID: "content",
		Short:   "Pull the files of an artifact into a directory",
		Long: `Pull writes the files of an artifact by their names, and unpacks its directories, as
push and ORAS made them. SOURCE is HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST.

` + layoutHelp + `
All is fetched and checked by its digest before anything takes its name. Nothing gets
outside the directory: a name or a link that leads out of it, a device, or more than
--max-size is refused. What is there already stays, and nothing is written then,
unless --overwrite is said.

` + progressHelp + exitHelp,
		Example: "  ocisync pull registry.example.com/team/config:v1 --to ./config",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("pull takes a source, and not %d arguments; the directory is --to", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd.Context(), args[0]) },
	}
	o.outputFlag(cmd)
	p.progressFlags(cmd)
	p.reachFlags(cmd)
	p.trustFlags(cmd, "what nobody signed whom it trusts there is not pulled")
	f := cmd.Flags()
	f.StringVar(&p.to, "to", ".", "`directory` that the files are put into; made where it is not there")
	f.StringVar(&p.most, "max-size", "16GiB", "`size` of all the files at most, unpacked")
	f.StringVar(&p.verify, "verify", "", "PEM `file` of public keys: what none of them signed is not pulled")
	f.StringArrayVar(&p.identity, "verify-identity", nil, "`ISSUER=SUBJECT` of a certificate of Sigstore's: what neither such an identity nor a key of --verify signed is not pulled; may stand several times (needs a program built with -tags keyless)")
	f.StringVar(&p.root, "verify-root", "", "`file` with the trusted root that identities are checked by: Sigstore's trusted_root.json")
	f.BoolVar(&p.overwrite, "overwrite", false, "replace files that are there already")
	return cmd
}

// pulled is what pull prints with --output json.
type pulled struct {
	Reference string       `json:"reference"`
	Digest    string       `json:"digest"`
	Directory string       `json:"directory"`
	Files     []pushedFile `json:"files"`
	Skipped   int          `json:"skipped"` // layers without a name
}

func (p *pullOptions) run(ctx context.Context, source string) (err error) {
	from, err := parsePlace(source, false)
	if err != nil {
		return err
	}
	most, err := schema.ParseSize(p.most)
	switch {
	case err != nil:
		return fmt.Errorf("--max-size: %w", err)
	case most < 0:
		return errors.New("--max-size unlimited would have a hostile artifact fill the disk; name a size, such as 100GiB")
	case from.layout == "" && from.reference == "":
		return fmt.Errorf("%s names no tag and no digest", from)
	}
	end, err := p.watching("pull", "fetched")
	if err != nil {
		return err
	}
	defer end(&err)
	in, done, err := p.source(ctx, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if from, err = settle(ctx, in, from); err != nil {
		return err
	}
	sets, err := p.trust(from)
	if err != nil {
		return err
	}
	d, layers, err := content.Layers(ctx, in, from.ref())
	if err != nil {
		return err
	}
	for _, trust := range sets {
		if err := content.Verify(ctx, in, from.repository, d.Digest, trust); err != nil {
			return err
		}
	}
	out := pulled{Reference: from.String(), Digest: d.Digest.String(), Directory: p.to, Files: []pushedFile{}}
	var titled []v1.Descriptor
	for _, l := range layers {
		if titleOf(l) == "" {
			out.Skipped++
			continue
		}
		titled = append(titled, l)
		out.Files = append(out.Files, pushedFile{titleOf(l), string(l.MediaType), l.Digest.String(), l.Size})
	}
	if len(titled) == 0 {
		return fmt.Errorf("%s has no files by name: it is no artifact of push or ORAS; copy takes it as it is", from)
	}
	if err := p.watched(from, d, func() error { return p.fetch(ctx, in, from, titled, int64(most)) }); err != nil {
		return err
	}
	if p.json() {
		return writeJSON(p.out, out)
	}
	if out.Skipped > 0 {
		p.say("%s without a name left out", count(out.Skipped, "layer"))
	}
	p.tell("%s in %s, of %s\n", count(len(titled), "file"), p.to, out.Digest)
	return nil
}

// watched is a pull that is told of as one tag.
func (p *pullOptions) watched(from place, d v1.Descriptor, fetch func() error) error {
	p.counts().Expect(1)
	p.watch.Copying(1)
	err := fetch()
	t := progress.Tag{Source: from.String(), Target: p.to, Outcome: content.Copied, Digest: hexOf(d.Digest)}
	if err != nil {
		t.Outcome, t.Digest, t.Error = content.Failed, "", err.Error()
	}
	p.counts().Tell(t.Outcome)
	p.watch.Tag(t)
	return err
}

// maxKey bounds a file of keys, in bytes.
const maxKey = 1 << 20

// trust are sets of those who must have signed it, one of each.
func (p *pullOptions) trust(from place) (sets []content.Trust, err error) {
	_, own, err := p.trusts(from)
	if err != nil {
		return nil, err
	}
	if own != nil {
		sets = append(sets, *own)
	}
	named, ok, err := p.named()
	if err != nil || !ok {
		return sets, err
	}
	return append(sets, named), nil
}

// named are those whom the flags name, ok where they name any.
func (p *pullOptions) named() (t content.Trust, ok bool, err error) {
	if p.verify != "" {
		text, err := regular.Read(p.verify, maxKey)
		if err != nil {
			return t, false, fmt.Errorf("--verify: %w", err)
		}
		if t.Keys, err = sign.ParseKeys(text); err != nil {
			return t, false, fmt.Errorf("--verify %s: %w", p.verify, err)
		}
	}
	switch {
	case len(p.identity) == 0 && p.root == "":
		return t, p.verify != "", nil
	case p.root == "":
		return t, false, errors.New("--verify-identity is known by a trusted root; name its file with --verify-root")
	case len(p.identity) == 0:
		return t, false, errors.New("--verify-root goes with --verify-identity; say who must have signed")
	}
	var who []schema.Identity
	for _, s := range p.identity {
		issuer, subject, _ := strings.Cut(s, "=")
		if _, err := schema.SubjectPattern(subject); err != nil || issuer == "" {
			return t, false, fmt.Errorf("--verify-identity %s is no ISSUER=SUBJECT; the subject is an address, or a URL with * only behind the host and the first part of the path", quote(s))
		}
		who = append(who, schema.Identity{Issuer: issuer, Subject: subject})
	}
	text, err := regular.Read(p.root, keyless.MaxRoot)
	if err != nil {
		return t, false, fmt.Errorf("--verify-root: %w", err)
	}
	t.Identities, err = keyless.New(text, who)
	switch {
	case errors.Is(err, keyless.ErrNotBuilt):
		return t, false, codedError{exitRefused, fmt.Errorf("--verify-identity: %w", err)}
	case err != nil:
		return t, false, fmt.Errorf("--verify-root %s: %w", p.root, err)
	}
	return t, true, nil
}

// fetch puts layers into the directory, all or none.
func (p *pullOptions) fetch(ctx context.Context, in content.Source, from place, layers []v1.Descriptor, most int64) (err error) {
	at, err := files.Into(p.to, most)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.Close()) }()
	for _, l := range layers {
		put := at.File
		if l.Annotations[content.UnpackAnnotation] == "true" {
			put = at.Unpack
		}
		err := p.counts().Read(ctx, in, from.repository, l, func(r io.Reader) error {
			if err := put(titleOf(l), r); err != nil {
				return fmt.Errorf("%s: %s: %w", from, quote(titleOf(l)), err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return at.Commit(p.overwrite)
}
