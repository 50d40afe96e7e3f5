package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

type restoreOptions struct {
	*options
	namespaces []string
	dry        bool
	overwrite  bool
	modeTo     string
	apply      applyOptions
	foreseen   plan.Plan // of a dry run
}

func newRestore(o *options) *cobra.Command {
	r := &restoreOptions{options: o}
	cmd := &cobra.Command{
		Use:     "restore SOURCE",
		GroupID: "content",
		Short:   "Bring a backup into a registry",
		Long: `Restore applies the mode as apply does, with the same guards, but for its mirrors and
artifacts, and then brings what a backup holds into its registry, of whatever type that
is: every digest as it was, with what refers to it. Mirrors and artifacts come last, as
apply brings them: a mirror whose tags the backup brought is recorded as it stands and
copies nothing, wherever its source is by now; ocisync run mirror brings it in step. With
--namespace, those that write into other namespaces wait until these are restored.

A tag that is something else there is left, and told, unless --overwrite is given. What
is broken in the backup is refused by its reference, and the rest goes on. A registry
that was wiped is blank, although it was known before: --new takes it for a new one, as
of apply.

` + placesHelp + `
With --mode-to DIR the registry's configuration as it was backed up is written to a new
directory, and nothing else is done. Moved to the directory of the modes it is a mode:
mode.toml and adopted.toml, with references where secrets were.

` + progressHelp + exitHelp,
		Example: "  ocisync restore oci:/backup/prod --mode prod --dry-run\n  ocisync restore s3://backups/prod --mode prod --namespace team\n  ocisync restore oci:/backup/prod --mode-to modes/prod",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("restore takes the place of a backup, and not %d arguments", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return r.run(c.Context(), args[0]) },
	}
	o.modeFlags(cmd)
	o.outputFlag(cmd)
	o.verboseFlag(cmd, "name each tag that was there already, and show every note of the plan")
	f := cmd.Flags()
	f.StringSliceVar(&r.namespaces, "namespace", nil, "only the content of this namespace; may stand several times")
	f.BoolVar(&r.dry, "dry-run", false, "show the plan and what content would come, and change nothing")
	f.BoolVar(&r.overwrite, "overwrite", false, "have tags that are something else become what they are in the backup")
	f.StringVar(&r.modeTo, "mode-to", "", "write the mode that was backed up to a new `directory`, and end")
	f.BoolVarP(&r.apply.yes, "yes", "y", false, "do not ask")
	f.StringVar(&r.apply.approve, "approve", "", "apply the plan with this `digest`, as of apply")
	o.progressFlags(cmd)
	o.newFlag(cmd, &r.apply.fresh)
	return cmd
}

// restored is what restore prints with --output json.
type restored struct {
	copied
	Left   []leftTag `json:"left"`
	DryRun bool      `json:"dry_run,omitempty"`
}

type leftTag struct {
	Reference string `json:"reference"`
	There     string `json:"there"`
	Backup    string `json:"backup"`
}

// coming is the outcome of a tag in a dry run.
const coming content.Outcome = "comes"

func (r *restoreOptions) run(ctx context.Context, source string) (err error) {
	l, err := layoutOf(ctx, r.options, source, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if r.modeTo != "" {
		return r.writeMode(ctx, l)
	}
	if !r.dry {
		end, err2 := r.watching("restore", "sent")
		if err2 != nil {
			return err2
		}
		defer end(&err)
	}
	cfg, err := r.config()
	if err != nil {
		return err
	}
	elsewhere := r.elsewhere()
	if err := r.configure(ctx, func(o *options) {
		o.waits = func(x schema.Resource) string {
			if _, ok := broughtTo(x); !ok {
				return ""
			}
			return cmp.Or(elsewhere(x), "it comes after the content of the backup")
		}
	}); err != nil {
		return err
	}
	back, err := r.bring(ctx, cfg, l)
	now := slices.ContainsFunc(cfg.Desired.Resources, func(x schema.Resource) bool {
		_, ok := broughtTo(x)
		return ok && elsewhere(x) == ""
	})
	if !now || r.dry || ctx.Err() != nil {
		return err
	}
	r.apply.approve, r.apply.fresh = "", false // of what was applied first
	return errors.Join(err, r.configure(ctx, func(o *options) { o.restored, o.waits = back, elsewhere }))
}

// broughtTo is the repository of a mirror or artifact, which is content that comes after
// the backup's; other objects have none.
func broughtTo(r schema.Resource) (repository string, ok bool) {
	to := new(string)
	switch spec := r.Spec.(type) {
	case *schema.Mirror:
		to = cmp.Or(spec.To, to)
	case *schema.Artifact:
		to = cmp.Or(spec.To, to)
	default:
		return "", false
	}
	repository, _, _ = strings.Cut(*to, ":")
	return repository, true
}

// elsewhere says of mirrors and artifacts of namespaces that are not restored why they
// wait: what the backup has of those would be lost by what they bring now.
func (r *restoreOptions) elsewhere() func(schema.Resource) string {
	in := chosenBy(r.namespaces)
	return func(x schema.Resource) string {
		repository, ok := broughtTo(x)
		if !ok || in(repository) {
			return ""
		}
		return fmt.Sprintf("it writes to %s, which this restore leaves alone; restore that too before the next apply, which brings it anew", repository)
	}
}

// postpone has a run leave mirrors and artifacts alone that wait.
func postpone(cfg *schema.Config, waits func(schema.Resource) string) {
	at, today := map[schema.Key]int{}, schema.DateOf(time.Now())
	for i, d := range cfg.Directives {
		at[d.Key] = i
	}
	for _, r := range cfg.Desired.Resources {
		why := waits(r)
		if why == "" {
			continue
		}
		i, said := at[r.Key]
		if !said {
			i = len(cfg.Directives)
			cfg.Directives = append(cfg.Directives, schema.Directive{Key: r.Key})
		}
		if p := cfg.Directives[i].Paused; p == nil || p.Until != nil && p.Until.Before(today) {
			cfg.Directives[i].Paused = &schema.Pause{Reason: why}
		}
	}
	slices.SortFunc(cfg.Directives, func(a, b schema.Directive) int { return a.Key.Compare(b.Key) })
}

// bring brings the content, and says which tags are as the backup has them.
func (r *restoreOptions) bring(ctx context.Context, cfg *schema.Config, l *content.Layout) (map[string]map[string]v1.Hash, error) {
	p, err := r.openRegistry(cfg)
	if err != nil {
		return nil, err
	}
	to, release, err := r.contentOf(ctx, cfg, p, !r.dry)
	if err != nil {
		return nil, err
	}
	defer release()
	out := restored{copied: copied{Tags: []progress.Tag{}}, Left: []leftTag{}, DryRun: r.dry}
	report := r.reports(content.Reference.String, content.Reference.String, &out.copied)
	blank, err := r.blank(ctx, cfg.Registry.Login, to)
	if err != nil {
		return nil, err
	}
	job := content.Restore{Blank: blank, From: l, To: to, In: chosenBy(r.namespaces), Overwrite: r.overwrite, Progress: r.counts(), Report: report}
	due, err := job.Look(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range due.Left {
		out.Left = append(out.Left, leftTag{x.String(), x.Was.String(), x.To.String()})
		if !r.json() {
			r.say("left    %s: it is %s there, and %s in the backup; --overwrite replaces it", x.Reference, x.Was, x.To)
		}
	}
	if r.dry {
		if err := r.foresee(ctx, &job, due, &out); err != nil {
			return nil, err
		}
	} else {
		r.watch.Copying(len(due.Steps) + len(due.Same) + out.Failed)
		out.weigh(job.Run(ctx, due))
	}
	back := due.Back()
	for _, t := range out.failed {
		delete(back[t.Repository], t.Tag)
	}
	return back, r.finish(ctx, out)
}

// blank reports whether a dry run cannot ask the registry what it holds, since the account
// of the login is there, or has its password, only when the mode is applied.
func (r *restoreOptions) blank(ctx context.Context, login *schema.Login, to *content.Registry) (bool, error) {
	if !r.dry || login == nil || !slices.ContainsFunc(r.foreseen.Changes, func(c plan.Change) bool {
		return !c.Recorded() && (login.User != nil && c.Key == schema.Key{Kind: schema.KindUser, Name: *login.User} ||
			login.Robot != nil && c.Key == schema.Key{Kind: schema.KindRobot, Name: *login.Robot})
	}) {
		return false, nil
	}
	_, err := to.Repositories(ctx)
	if !errors.Is(err, providers.ErrUnauthorized) {
		return false, ctx.Err() // what else is wrong is said where it is read
	}
	r.say("registry.login is accepted only when the mode is applied: what the registry holds cannot be told before, and all of the backup is taken as to come")
	return true, nil
}

// configure brings the registry to be as the mode says, or shows what that would do.
func (r *restoreOptions) configure(ctx context.Context, turn func(*options)) error {
	o := *r.options
	turn(&o)
	o.metrics = "" // which are of the content
	if o.json() {
		o.out, o.output = o.err, "text"
	}
	if r.dry {
		p := &planOptions{options: &o, fresh: r.apply.fresh}
		err := p.run(ctx)
		r.foreseen = p.made
		return err
	}
	a := r.apply
	a.options = &o
	return a.run(ctx)
}

// foresee tells what would come.
func (r *restoreOptions) foresee(ctx context.Context, job *content.Restore, due content.Due, out *restored) error {
	sends, broken, err := job.Weigh(ctx, due)
	if err != nil {
		return err
	}
	for _, s := range due.Steps {
		if why := broken[s.Reference]; why != nil {
			job.Report(content.Event{Source: s.Reference, Target: s.Reference, Outcome: content.Failed, Err: why})
			continue
		}
		out.Copied++
		out.Tags = append(out.Tags, progress.Tag{Source: s.String(), Target: s.String(), Outcome: coming, Digest: s.To.String()})
		if !r.json() {
			r.tell("%-7s %s (%s)\n", coming, s.Reference, s.To)
		}
	}
	out.Same = len(due.Same)
	out.weigh(sends)
	return nil
}

// finish tells how it ended.
func (r *restoreOptions) finish(ctx context.Context, out restored) error {
	came, sent := "copied", "sent"
	if r.dry {
		came, sent = "to come", "to send"
	}
	var err error
	if r.json() {
		err = writeJSON(r.out, out)
	} else {
		_, err = fmt.Fprintf(r.out, "%d %s, %d there already, %d left, %d failed; %s %s\n", out.Copied, came, out.Same, len(out.Left), out.Failed, weight{out.Blobs, out.Bytes}, sent)
	}
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return codedError{exitInterrupted, fmt.Errorf("stopped: %d copied; restore again, which goes on from there", out.Copied)}
	case out.Failed > 0 && out.Copied+out.Same > 0:
		return codedError{exitPartly, fmt.Errorf("%s not restored; the rest is there", count(out.Failed, "reference"))}
	case out.Failed > 0:
		return fmt.Errorf("no content was restored: %s failed", count(out.Failed, "reference"))
	case out.Copied+out.Same+len(out.Left) == 0:
		return errors.New("the backup holds nothing of what was asked for; ocisync repo list tells what it holds")
	}
	return nil
}

// maxModeFile bounds a file of a mode in a backup, in bytes.
const maxModeFile = 16 << 20

// writeMode writes the mode that was backed up.
func (r *restoreOptions) writeMode(ctx context.Context, l *content.Layout) (err error) {
	modes := content.ModesOf(l)
	if len(modes) != 1 {
		return fmt.Errorf("%s: %w; name a place that ocisync backup wrote to", l, content.ErrNoBackup)
	}
	ref := content.Reference{Repository: content.ModeRepository, Tag: modes[0]}
	_, layers, err := content.Layers(ctx, l, ref)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, d := range layers {
		name := d.Annotations[content.TitleAnnotation]
		if !filepath.IsLocal(name) || path.Clean(name) != name || d.Size > maxModeFile {
			return fmt.Errorf("%s: %s holds a file %s, which no mode has; nothing was written", l, ref, quote(name))
		}
		if err := content.Read(ctx, l, ref.Repository, d, func(f io.Reader) (err error) {
			files[name], err = io.ReadAll(f)
			return err
		}); err != nil {
			return err
		}
	}
	if err := os.Mkdir(r.modeTo, 0o755); err != nil { //nolint:gosec // a checkout, for others to read
		return fmt.Errorf("--mode-to: %w; name a directory that is not there", err)
	}
	root, err := os.OpenRoot(r.modeTo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	var names []string
	for name, text := range files {
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(name, text, 0o644); err != nil {
			return err
		}
		names = append(names, fmt.Sprintf("%s (%s)", name, schema.Size(len(text)).Human()))
	}
	slices.Sort(names)
	_, err = fmt.Fprintf(r.out, "%s: mode %s: %s\n", r.modeTo, modes[0], strings.Join(names, ", "))
	return err
}
