package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/files"
	"github.com/ocisync/ocisync/pkg/content/sign"
	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

type pushOptions struct {
	reach
	kind        string
	compress    string
	annotations []string
	subject     string
	sign        string
}

func newPush(o *options) *cobra.Command {
	p := &pushOptions{reach: reach{options: o}, compress: string(files.Gzip)}
	cmd := &cobra.Command{
		Use:     "push TARGET [FILE|DIRECTORY]...",
		GroupID: "content",
		Short:   "Push files and directories as an artifact",
		Long: `Push stores files as an artifact (OCI image specification, "Guidelines for Artifact
Usage"): each file a layer by its name, each directory a layer that is a tar. The same
files make the same digest wherever they lie: a tar is sorted, of nobody, without
times, and keeps of modes whether a file may be run. pull brings them back, and so
does ORAS, of a directory with --compress gzip.

TARGET is HOST/REPOSITORY:TAG; HOST/REPOSITORY stores it by its digest alone. A file's
media type may stand behind it: FILE:TYPE/SUBTYPE.

` + layoutHelp + `
With --subject, a tag or digest of the same repository, it refers to that: registries
list it, and copy takes it along. The accounts are those of the user's Docker
configuration.

` + progressHelp + exitHelp,
		Example: "  ocisync push --type application/vnd.example.config registry.example.com/team/config:v1 app.toml conf.d\n  ocisync push --type application/spdx+json --subject :v1 registry.example.com/team/app sbom.json:application/spdx+json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("push takes a target, and files or directories")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd.Context(), args[0], args[1:]) },
	}
	o.outputFlag(cmd)
	p.progressFlags(cmd)
	p.reachFlags(cmd)
	p.trustFlags(cmd, "what is pushed where it trusts keys has to be signed by one of them")
	f := cmd.Flags()
	f.StringVar(&p.kind, "type", "", "media `type` of the artifact (default "+content.UnknownArtifact+")")
	f.Var(&choice{value: &p.compress, of: []string{string(files.Gzip), string(files.Zstd), string(files.None)}}, "compress", "`how` directories are made smaller: gzip, zstd or none")
	f.StringArrayVar(&p.annotations, "annotation", nil, "`key=value` of the manifest; may stand several times")
	f.StringVar(&p.sign, "sign", "", "PEM `file` of the private key that signs it: an ECDSA or Ed25519 key, as openssl genpkey makes one")
	f.StringVar(&p.subject, "subject", "", "what it refers to: a `tag or digest` of the same repository, as :v1, @sha256:... or a whole reference")
	return cmd
}

// pushed is what push prints with --output json.
type pushed struct {
	Reference string       `json:"reference"`
	Digest    string       `json:"digest"`
	Size      int64        `json:"size"`
	Type      string       `json:"type"`
	Subject   string       `json:"subject,omitempty"`
	Files     []pushedFile `json:"files"`
}

type pushedFile struct {
	Name      string `json:"name"`
	MediaType string `json:"media_type"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

func (p *pushOptions) run(ctx context.Context, target string, args []string) (err error) {
	to, err := parsePlace(target, false)
	if err != nil {
		return err
	}
	a, err := p.artifact(to, len(args))
	if err != nil {
		return err
	}
	key, err := p.key(to)
	if err != nil {
		return err
	}
	var removes []func() error
	defer func() {
		for _, remove := range removes {
			err = errors.Join(err, remove())
		}
	}()
	var problems []error
	for _, arg := range args {
		l, remove, err := p.layer(ctx, arg)
		if remove != nil {
			removes = append(removes, remove)
		}
		if err == nil && slices.ContainsFunc(a.Layers, func(o content.Layer) bool { return titleOf(o.Descriptor) == titleOf(l.Descriptor) }) {
			err = fmt.Errorf("%s: another file has the name %s too; push them from a directory of them", arg, quote(titleOf(l.Descriptor)))
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		a.Layers = append(a.Layers, l)
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	end, err := p.watching("push", "sent")
	if err != nil {
		return err
	}
	defer end(&err)
	in, done, err := p.target(ctx, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if p.subject != "" {
		d, err := p.refersTo(ctx, in, to)
		if err != nil {
			return err
		}
		a.Subject = &d
	}
	p.watch.Copying(1)
	d, err := content.Push(ctx, in, to.ref(), a, p.counts())
	p.watch.Tag(p.outcome(to, d, err))
	if err != nil {
		return err
	}
	if p.sign != "" {
		if err := content.Sign(ctx, in, to.repository, d, key, time.Now()); err != nil {
			return fmt.Errorf("%s is pushed, and not signed: %w", to, err)
		}
	}
	return p.tellPushed(to, d, a)
}

// outcome is what became of it, as an event tells.
func (p *pushOptions) outcome(to place, d v1.Descriptor, err error) progress.Tag {
	t := progress.Tag{Target: to.String(), Outcome: content.Copied, Digest: hexOf(d.Digest)}
	switch {
	case err != nil:
		t.Outcome, t.Error = content.Failed, err.Error()
	case p.counts().Standing().Same > 0:
		t.Outcome = content.Same
	}
	return t
}

// key is what signs it, where something does.
func (p *pushOptions) key(to place) (sign.Key, error) {
	ns, trusted, err := p.trusts(to)
	switch {
	case err != nil:
		return sign.Key{}, err
	case trusted != nil && len(trusted.Keys) == 0:
		return sign.Key{}, codedError{exitRefused, fmt.Errorf("namespace %s of mode %s takes only what one of its trust.identities signed, and push signs by keys; add a key to trust.keys, or push with what signs so", ns, p.mode)}
	case p.sign == "" && trusted != nil:
		return sign.Key{}, codedError{exitRefused, fmt.Errorf("namespace %s of mode %s takes only what a key of its trust signed; name the private key with --sign", ns, p.mode)}
	case p.sign == "":
		return sign.Key{}, nil
	}
	text, err := regular.Read(p.sign, maxKey)
	if err != nil {
		return sign.Key{}, fmt.Errorf("--sign: %w", err)
	}
	key, err := sign.ParseKey(text)
	if err != nil {
		return sign.Key{}, fmt.Errorf("--sign %s: %w", p.sign, err)
	}
	if trusted != nil && !trusted.Keys.Has(key) {
		return sign.Key{}, codedError{exitRefused, fmt.Errorf("--sign %s: namespace %s of mode %s does not trust that key; add its public half to trust.keys", p.sign, ns, p.mode)}
	}
	return key, nil
}

func titleOf(d v1.Descriptor) string { return d.Annotations[content.TitleAnnotation] }

// artifact is what is pushed, without its files.
func (p *pushOptions) artifact(to place, args int) (content.Artifact, error) {
	a := content.Artifact{Type: cmp.Or(p.kind, content.UnknownArtifact)}
	var problems []error
	switch {
	case to.repository == "" && to.layout == "":
		problems = append(problems, fmt.Errorf("%s names no repository", to))
	case strings.HasPrefix(to.reference, "@"):
		problems = append(problems, errors.New("the target names a digest, which what is pushed says itself; leave it out, or name a tag"))
	}
	if args == 0 && p.subject == "" && len(p.annotations) == 0 {
		problems = append(problems, errors.New("name the files to push"))
	}
	if !mediaType(a.Type) {
		problems = append(problems, fmt.Errorf("--type %s is no media type; write it as application/vnd.example.config", quote(a.Type)))
	}
	for _, s := range p.annotations {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			problems = append(problems, fmt.Errorf("--annotation %s is no KEY=VALUE", quote(s)))
			continue
		}
		if a.Annotations == nil {
			a.Annotations = map[string]string{}
		}
		a.Annotations[k] = v
	}
	return a, errors.Join(problems...)
}

func mediaType(s string) bool {
	_, _, err := mime.ParseMediaType(s)
	return err == nil && strings.Count(s, "/") == 1 && !strings.ContainsAny(s, "; ")
}

// layer makes one of what somebody named.
func (p *pushOptions) layer(ctx context.Context, arg string) (content.Layer, func() error, error) {
	path, kind := arg, ""
	info, err := os.Stat(path)
	if i := strings.LastIndexByte(arg, ':'); err != nil && i > 0 && mediaType(arg[i+1:]) {
		path, kind = arg[:i], arg[i+1:]
		info, err = os.Stat(path)
	}
	if err != nil {
		return content.Layer{}, nil, err
	}
	name := filepath.ToSlash(filepath.Clean(path))
	if !filepath.IsLocal(path) || name == "." {
		whole, err := filepath.Abs(path)
		if err != nil {
			return content.Layer{}, nil, err
		}
		if name = filepath.Base(whole); name == "/" {
			return content.Layer{}, nil, fmt.Errorf("%s has no name; name a directory below it", path)
		}
	}
	if info.IsDir() {
		how := files.Compression(p.compress)
		suffix := map[files.Compression]string{files.Gzip: "+gzip", files.Zstd: "+zstd"}[how]
		return content.DirectoryLayer(ctx, path, name, cmp.Or(kind, content.UnknownFile+suffix), how)
	}
	l, err := content.FileLayer(path, name, cmp.Or(kind, content.UnknownFile))
	return l, nil, err
}

// refersTo finds what the artifact refers to.
func (p *pushOptions) refersTo(ctx context.Context, in content.Source, to place) (v1.Descriptor, error) {
	s := p.subject
	if strings.HasPrefix(s, ":") || strings.HasPrefix(s, "@") {
		s = to.base() + map[bool]string{true: "/", false: ":"}[to.layout == ""] + to.repository + s
	}
	of, err := parsePlace(s, false)
	switch {
	case err != nil:
		return v1.Descriptor{}, fmt.Errorf("--subject: %w", err)
	case of.base() != to.base() || of.repository != to.repository:
		return v1.Descriptor{}, fmt.Errorf("--subject %s lies elsewhere; what refers to it has to lie in the same repository", of)
	case of.reference == "":
		return v1.Descriptor{}, fmt.Errorf("--subject %s names no tag and no digest", of)
	}
	return content.Describe(ctx, in, of.ref())
}

func (p *pushOptions) tellPushed(to place, d v1.Descriptor, a content.Artifact) error {
	ref := to.ref()
	if ref.Tag == "" {
		ref.Digest = d.Digest
	}
	out := pushed{Reference: to.of(ref), Digest: d.Digest.String(), Size: d.Size, Type: a.Type, Files: []pushedFile{}}
	if a.Subject != nil {
		out.Subject = a.Subject.Digest.String()
	}
	bytes := int64(0)
	for _, l := range a.Layers {
		bytes += l.Size
		out.Files = append(out.Files, pushedFile{titleOf(l.Descriptor), string(l.MediaType), l.Digest.String(), l.Size})
	}
	if p.json() {
		return writeJSON(p.out, out)
	}
	p.tell("%s is %s: %s, %s\n", out.Reference, out.Digest, count(len(a.Layers), "file"), schema.Size(bytes).Human())
	return nil
}
