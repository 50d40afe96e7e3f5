package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// placesHelp says where backups lie.
const placesHelp = `It lies in oci:DIR, an OCI layout in a directory, oci-archive:FILE, one in a tar (.tar,
.tar.gz, .tgz or .tar.zst), which is written whole and not over another, or
s3://BUCKET/PREFIX, one in a bucket of S3 or a store that speaks its protocol, for which
ocisync is built with -tags objectstorage. The account of a bucket is that of AWS's own tools
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE or the
machine's role); AWS_REGION (us-east-1 where it is not set) and AWS_ENDPOINT_URL say
where it is.
`

type backupOptions struct {
	*options
	to         string
	namespaces []string
	verify     bool
	prune      bool
}

func newBackup(o *options) *cobra.Command {
	b := &backupOptions{options: o}
	cmd := &cobra.Command{
		Use:     "backup",
		GroupID: "content",
		Short:   "Back up the registry's content and configuration",
		Long: `Backup keeps all tags of all repositories, what refers to their images, and the
registry's configuration as a mode. ocisync's own namespace is left out.

It is of one moment: what each tag is, is found first, and copied by digest then.
What the last backup has is not fetched again; what comes is hashed on its way. The
index is written at the end, at once: one that is stopped, or killed, leaves the last
backup as it was, and the next goes on. A tag that cannot be read keeps what the last
backup has of it, and the rest goes on; a tag that the registry has no longer goes from
it, its blobs with --prune alone.

` + placesHelp + `
The configuration is mode.toml, what the mode says, and adopted.toml, what adopt finds
beside it: secrets are references, and files that the mode names are not in it. ocisync
restore --mode-to writes them. Manifests that no tag names and that refer to nothing
are not backed up.

` + progressHelp + exitHelp,
		Example: "  ocisync backup --mode prod --to oci:/backup/prod\n  ocisync backup --mode prod --to s3://backups/prod --verify",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return b.run(c.Context()) },
	}
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	o.verboseFlag(cmd, "name each tag that was there already, and what no mode can hold")
	f := cmd.Flags()
	f.StringVar(&b.to, "to", "", "the `place` of the backup (default: backup.to of the mode)")
	f.StringSliceVar(&b.namespaces, "namespace", nil, "only this namespace, and the rest stays as the last backup has it; may stand several times")
	f.BoolVar(&b.verify, "verify", false, "read all that the backup holds again, and hash it (or backup.verify of the mode)")
	o.progressFlags(cmd)
	f.BoolVar(&b.prune, "prune", false, "remove the blobs that it does not need any more")
	return cmd
}

// backedUp is what backup prints with --output json.
type backedUp struct {
	To string `json:"to"`
	copied
	Gone     []string `json:"gone"`
	Verified *weight  `json:"verified,omitempty"`
	Broken   []broken `json:"broken,omitempty"`
	Pruned   *weight  `json:"pruned,omitempty"`

	kept int // failed, and is in the backup as it was
}

type weight struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

func (w weight) String() string {
	return count(w.Blobs, "blob") + ", " + schema.Size(w.Bytes).Human()
}

type broken struct {
	Reference string `json:"reference"`
	Error     string `json:"error"`
}

func (b *backupOptions) run(ctx context.Context) (err error) {
	cfg, err := b.config()
	if err != nil {
		return err
	}
	to, err := b.place(cfg)
	if err != nil {
		return err
	}
	end, err := b.watching("backup", "fetched")
	if err != nil {
		return err
	}
	defer end(&err)
	p, err := b.openRegistry(cfg)
	if err != nil {
		return err
	}
	unlock, err := b.alone(ctx, cfg, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	mode, err := b.configuration(ctx, p, cfg)
	if err != nil {
		return err
	}
	from, release, err := b.contentOf(ctx, cfg, p, false)
	if err != nil {
		return err
	}
	defer release()
	l, err := layoutOf(ctx, b.options, to, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	out := backedUp{To: to, copied: copied{Tags: []progress.Tag{}}, Gone: []string{}}
	report := b.reports(content.Reference.String, content.Reference.String, &out.copied)
	job := content.Backup{From: from, To: l, In: chosenBy(b.namespaces), Mode: mode, Name: cfg.Mode, Progress: b.counts(), Report: report}
	b.watch.Copying(0)
	done, err := job.Run(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = codedError{exitInterrupted, fmt.Errorf("stopped; the last backup at %s is as it was, and the next goes on from here", to)}
		}
		return err
	}
	out.weigh(done.Moved)
	for _, ref := range out.failed {
		if kept(ctx, l, ref) {
			out.kept++
		}
	}
	for _, ref := range done.Gone {
		out.Gone = append(out.Gone, ref.String())
	}
	if b.verify || cfg.Backup != nil && cfg.Backup.Verify {
		if err := b.check(ctx, &out); err != nil {
			return err
		}
	}
	if b.prune && len(out.Broken) == 0 && !strings.HasPrefix(to, ociArchive+":") {
		m, err := l.Prune(ctx)
		if err != nil {
			return err
		}
		out.Pruned = &weight{m.Blobs, m.Bytes}
	}
	return b.finish(out)
}

// check reads a backup again.
func (b *backupOptions) check(ctx context.Context, out *backedUp) (err error) {
	l, err := layoutOf(ctx, b.options, out.To, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	read, all, err := l.Verify(ctx)
	if err != nil {
		return err
	}
	out.Verified = &weight{read.Blobs, read.Bytes}
	for ref, err := range all {
		out.Broken = append(out.Broken, broken{ref.String(), err.Error()})
	}
	slices.SortFunc(out.Broken, func(x, y broken) int { return strings.Compare(x.Reference, y.Reference) })
	return nil
}

// finish tells how it ended.
func (b *backupOptions) finish(out backedUp) error {
	var err error
	if b.json() {
		err = writeJSON(b.out, out)
	} else {
		text := fmt.Sprintf("%s: %d copied, %d as they were, %d gone, %d failed; %s fetched", out.To, out.Copied, out.Same, len(out.Gone), out.Failed, weight{out.Blobs, out.Bytes})
		if out.Verified != nil {
			text += fmt.Sprintf("; %s verified", out.Verified)
		}
		if out.Pruned != nil {
			text += fmt.Sprintf("; %s removed", out.Pruned)
		}
		for _, x := range out.Broken {
			b.say("broken  %s: %s", x.Reference, strings.ReplaceAll(x.Error, "\n", "; "))
		}
		_, err = fmt.Fprintln(b.out, text)
	}
	switch {
	case err != nil:
		return err
	case len(out.Broken) > 0:
		return codedError{exitPartly, fmt.Errorf("%s broken in the backup; back up again, which fetches what the registry still has", count(len(out.Broken), "reference"))}
	case out.Failed > 0 && out.Copied+out.Same > 0:
		stays := ""
		if out.kept > 0 {
			stays = fmt.Sprintf(", of which %d as the last backup has them", out.kept)
		}
		return codedError{exitPartly, fmt.Errorf("%s not backed up%s; mend the cause and back up again", count(out.Failed, "reference"), stays)}
	case out.Failed > 0:
		return fmt.Errorf("nothing was backed up: %s failed", count(out.Failed, "reference"))
	case len(b.namespaces) > 0 && out.Copied+out.Same+len(out.Gone) == 0:
		return fmt.Errorf("the registry has no tags in %s; correct --namespace", strings.Join(b.namespaces, ", "))
	}
	return nil
}

// kept reports whether a backup has something of a tag or repository that could not be
// read now.
func kept(ctx context.Context, l *content.Layout, ref content.Reference) bool {
	if ref.Tag == "" {
		tags, _, err := l.Tags(ctx, ref.Repository)
		return err == nil && len(tags) > 0
	}
	_, err := content.Describe(ctx, l, ref)
	return err == nil
}

// place is where the backup goes.
func (b *backupOptions) place(cfg *schema.Config) (string, error) {
	if b.to != "" {
		return b.to, nil
	}
	switch d := cfg.Backup; {
	case d == nil:
		return "", errors.New("the mode has no [backup]; say --to oci:DIR, oci-archive:FILE or s3://BUCKET/PREFIX")
	case d.Login != nil:
		return "", codedError{exitRefused, errors.New("backup.login: this version takes the account of a bucket from the environment, as ocisync backup --help says; take login out")}
	case strings.HasPrefix(d.To, bucketScheme):
		return d.To, nil
	default:
		dir := strings.TrimPrefix(d.To, ociLayout+":")
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(cfg.Dir, dir)
		}
		return ociLayout + ":" + dir, nil
	}
}

// alone has no other backup of this machine write to a place.
func (b *backupOptions) alone(ctx context.Context, cfg *schema.Config, to string) (unlock func() error, err error) {
	host, err := b.host()
	if err != nil {
		return nil, err
	}
	machine, err := state.NewMachine(*host, b.getenv)
	if err != nil {
		return nil, err
	}
	if dir, ok := strings.CutPrefix(to, ociLayout+":"); ok {
		if to, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
	}
	lock, err := state.Acquire(ctx, machine.Locks(), plan.Registry{Type: "backup", URL: to}, b.holder("backup", cfg.Mode), 0)
	if err != nil {
		return nil, err
	}
	return lock.Release, nil
}

// configuration is that of the registry as a mode: what the mode says, and what adopt
// finds beside it.
func (b *backupOptions) configuration(ctx context.Context, p providers.Provider, cfg *schema.Config) (content.Artifact, error) {
	text, err := load.Encode(cfg, filepath.Join(cfg.Dir, filepath.Base(b.modes), cfg.Mode))
	if err != nil {
		return content.Artifact{}, err
	}
	a, _, _, err := b.found(ctx, p, cfg, true)
	if err != nil {
		return content.Artifact{}, err
	}
	files := map[string][]byte{modeFile: text}
	if len(a.found) > 0 {
		files[adoptedFile] = a.text
	}
	for path, text := range a.certificates {
		if a.names(path) {
			files[path] = []byte(text)
		}
	}
	if n := len(a.left); n > 0 && !b.verbose {
		b.say("%s of the registry in no mode; -v lists them", count(n, "object"))
	}
	for _, x := range a.left {
		if b.verbose {
			b.say("in no mode: %s: %s", x.What, x.Why)
		}
	}
	out := content.Artifact{Type: content.ModeType}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := files[name]
		digest, size, err := v1.SHA256(bytes.NewReader(text))
		if err != nil {
			return content.Artifact{}, err
		}
		d := v1.Descriptor{MediaType: content.UnknownFile, Digest: digest, Size: size, Annotations: map[string]string{content.TitleAnnotation: name}}
		out.Layers = append(out.Layers, content.Layer{Descriptor: d, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }})
	}
	return out, nil
}

// modeFile is the file of a backup's mode that says what the mode said.
const modeFile = "mode.toml"

// chosenBy tells which repositories are of some namespaces, of all where none is named;
// ocisync's own never are.
func chosenBy(namespaces []string) func(repository string) bool {
	return func(r string) bool {
		return r != "" && !access.In(access.Reserved, r) &&
			(len(namespaces) == 0 || slices.ContainsFunc(namespaces, func(n string) bool { return access.In(n, r) }))
	}
}

// contentOf reaches the content of a mode's registry; release ends that.
func (o *options) contentOf(ctx context.Context, cfg *schema.Config, p providers.Provider, write bool) (r *content.Registry, release func(), err error) {
	filler, ok := p.(providers.Filler)
	if !ok {
		return nil, nil, codedError{exitRefused, fmt.Errorf("%s: this version neither reads nor writes the content of a registry of type %s", cfg.Registry.URL, cfg.Registry.Type)}
	}
	rt, release, err := filler.Fill(ctx)
	if err != nil {
		return nil, nil, err
	}
	e := content.Endpoint{URL: cfg.Registry.URL, Transport: rt, Push: write, Progress: o.counts(), Monolithic: cfg.Registry.Type == schema.TypeZot}
	if u, ok := p.(providers.Untagger); ok {
		e.Untag = u.Untag
	}
	if r, err = content.Open(e); err != nil {
		release()
		return nil, nil, err
	}
	return r, release, nil
}

const bucketScheme = "s3://"

// layoutOf opens a backup.
func layoutOf(ctx context.Context, o *options, where string, write bool) (*content.Layout, error) {
	if strings.HasPrefix(where, bucketScheme) {
		files, err := o.bucket(ctx, where)
		if err != nil {
			return nil, err
		}
		return content.OpenLayout(ctx, files, write)
	}
	p, err := parsePlace(where, true)
	if err != nil || p.layout == "" || p.repository+p.reference != "" {
		return nil, fmt.Errorf("%s is no place for a backup; write oci:DIR, oci-archive:FILE or s3://BUCKET/PREFIX", quote(where))
	}
	return layoutAt(ctx, p, write)
}

// bucket opens files in a bucket, by the account and endpoint that the environment says.
func (o *options) bucket(ctx context.Context, where string) (*storage.Objects, error) {
	u, err := url.Parse(where)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Port() != "" {
		return nil, fmt.Errorf("%s names no bucket; write s3://BUCKET/PREFIX", quote(where))
	}
	s := schema.S3Storage{Bucket: u.Host, Region: "us-east-1"}
	if r := o.env("AWS_REGION"); r != "" {
		s.Region = r
	}
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		s.RootDirectory = &prefix
	}
	if endpoint := o.env("AWS_ENDPOINT_URL"); endpoint != "" {
		byPath := true
		s.RegionEndpoint, s.ForcePathStyle = &endpoint, &byPath
	}
	return storage.OpenObjects(ctx, where, storage.Bucket{Storage: &schema.Storage{S3: &s}})
}
