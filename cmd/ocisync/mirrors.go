package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/declared"
	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

const mirrorJob = "mirror"

// declared is what writes the content of the session's registry, nil where that is of a
// type whose content is not written.
func (s *session) declared(host schema.Host) *declared.Provider {
	filler, ok := s.provider.(providers.Filler)
	if !ok {
		return nil
	}
	d := declared.Deps{
		URL: s.cfg.Registry.URL, Open: filler.Fill, Monolithic: s.cfg.Registry.Type == schema.TypeZot,
		Secrets: sendable{secret.New(host, s.o.getenv, s.cfg.Dir), !s.writing},
		Permit:  s.o.permit(host),
		Files:   below(s.cfg.Dir), Homes: s.homes(), Namespaces: trusted(s.cfg), Applied: s.applied, Now: time.Now,
		MayPrune: func() (bool, string) { return s.trust.MayDelete(), s.trust.String() },
		Report:   s.copied, Progress: s.o.counts(),
	}
	if !s.writing {
		d.Careful = func(registry string) bool { return host.Registries != nil && host.Permits(registry) }
	}
	if u, ok := s.provider.(providers.Untagger); ok {
		d.Untag = u.Untag
	}
	if s.cfg.Registry.Run == nil {
		d.Cron = func(mirror string) string { return s.o.command("run mirror " + mirror) }
	}
	d.Restored = s.o.restored
	return declared.New(d)
}

// trusted are those whose signatures the mode says count in a namespace.
func trusted(cfg *schema.Config) map[string]schema.Trust {
	out := map[string]schema.Trust{}
	for _, r := range cfg.Desired.Resources {
		switch spec := r.Spec.(type) {
		case *schema.Trust:
			out[r.Key.Name] = *spec
		case *schema.Namespace:
			if _, ok := out[r.Key.Name]; !ok {
				out[r.Key.Name] = schema.Trust{} // those of one above it do not count
			}
		}
	}
	return out
}

// homes are the directories of the mode's own files, from the directory in which the
// modes lie.
func (s *session) homes() []string {
	modes := filepath.Base(s.o.modes) + "/"
	return []string{modes + s.cfg.Mode + "/", modes + "common/"}
}

// copied tells of a tag that a mirror is through with.
func (s *session) copied(k schema.Key, e content.Event) {
	t := tagOf(e, content.Reference.String, content.Reference.String)
	t.Mirror = k.Name
	if s.o.watch != nil {
		s.o.watch.Tag(t)
	}
	if e.Outcome == content.Copied && (s.o.shown == progress.Lines || s.o.verbose && s.o.shown == progress.Bar) {
		s.o.say("%s: copied %s", k, e.Target)
	}
}

// applied lists what the inventory knows of the session's content.
func (s *session) applied() []declared.Applied {
	var out []declared.Applied
	kinds := providers.ContentKinds(nil)
	for _, o := range s.inv.Objects {
		if !slices.Contains(kinds, o.Key.Kind) {
			continue
		}
		if s.o.waits != nil && s.o.waits(schema.Resource{Key: o.Key, Spec: o.Spec}) != "" {
			continue // as if it had never been
		}
		a := declared.Applied{Key: o.Key, Spec: o.Spec, Tags: map[string]v1.Hash{}}
		for _, t := range o.Content {
			if h, err := v1.NewHash(t.Digest); err == nil || t.Digest == "" {
				a.Tags[t.Name] = h
			}
		}
		out = append(out, a)
	}
	return out
}

// mirrored is what became of a mirror, as --output json prints it.
type mirrored struct {
	Mirror  string   `json:"mirror"`
	Copied  []string `json:"copied"`
	Deleted []string `json:"deleted"`
	LetGo   []string `json:"let_go,omitempty"` // not here as they were copied, and not to be copied again
	Same    int      `json:"same"`
	Refused []string `json:"refused,omitempty"` // nobody signed them, or the source lacks them
	Blobs   int      `json:"blobs"`
	Bytes   int64    `json:"bytes"`
	DryRun  bool     `json:"dry_run,omitempty"`
	Paused  string   `json:"paused,omitempty"` // why it is left alone
	Error   string   `json:"error,omitempty"`

	never bool // it was not applied yet
}

// runMirrors is the job `mirror`.
func (o *options) runMirrors(ctx context.Context, names []string, dry bool) (err error) {
	if !dry {
		end, err2 := o.watching("mirror", "sent")
		if err2 != nil {
			return err2
		}
		defer end(&err)
	}
	results, err := o.doMirrors(ctx, names, dry, func(one mirrored) {
		if !o.json() {
			_, _ = fmt.Fprint(o.out, one.text())
		}
	})
	if o.json() && results != nil {
		err = errors.Join(writeJSON(o.out, results), err)
	}
	return err
}

// doMirrors brings mirrors in step, and tells of each that was looked at. Without an error
// or with one, results are nil where none was.
func (o *options) doMirrors(ctx context.Context, names []string, dry bool, tell func(mirrored)) (results []mirrored, err error) {
	s, err := o.open(ctx, !dry)
	if err != nil {
		return nil, err
	}
	defer s.close(&err)
	if s.content == nil {
		return nil, codedError{exitRefused, fmt.Errorf("%s: this version copies nothing into a registry of type %s", s.cfg.Registry.URL, s.cfg.Registry.Type)}
	}
	mirrors, err := s.mirrors(names)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.content.Normalize(s.cfg.Desired); err != nil {
		return nil, err
	}
	results = []mirrored{}
	var failed []error
	others := map[v1.Hash]bool{}
	for i, r := range mirrors {
		if why, yes := s.paused(r.Key); yes {
			one := mirrored{Mirror: r.Key.Name, Copied: []string{}, Deleted: []string{}, DryRun: dry, Paused: why}
			results = append(results, one)
			tell(one)
			continue
		}
		if !s.inv.Owns(r.Key) {
			one, err := mirrored{Mirror: r.Key.Name, Copied: []string{}, Deleted: []string{}, DryRun: dry, Error: never, never: true}, fmt.Errorf("%s %s", r.Key, never)
			results, failed = append(results, one), append(failed, err)
			continue
		}
		if o.watch != nil {
			o.watch.Copying(0)
			o.watch.More(len(mirrors) - i - 1)
		}
		one, err := s.mirror(ctx, r, dry, others)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r.Key, err))
			one.Error = err.Error()
		}
		results = append(results, one)
		tell(one)
	}
	return results, mirrorsEnd(ctx, results, failed)
}

// mirrorsEnd is how the job ended.
func mirrorsEnd(ctx context.Context, results []mirrored, failed []error) error {
	code := exitFailed
	if slices.ContainsFunc(results, func(m mirrored) bool {
		return len(m.Copied)+len(m.Deleted)+m.Same > 0 || m.Error == "" && m.Paused == "" || m.never
	}) {
		code = exitPartly
	}
	switch {
	case ctx.Err() != nil:
		return codedError{exitInterrupted, errors.New("stopped; run it again, which goes on from there")}
	case len(failed) > 0:
		return codedError{code, errors.Join(failed...)}
	}
	return nil
}

// never is said of a mirror that the job cannot run: a plan shows first what it copies.
const never = "was not applied yet; apply the mode first, which copies it too"

// mirrors finds the declared mirrors of some names, all where none is named, as they were
// applied, and refuses where none was.
func (s *session) mirrors(names []string) ([]schema.Resource, error) {
	var out []schema.Resource
	known := map[string]bool{}
	for _, r := range s.cfg.Desired.Resources {
		if r.Key.Kind != schema.KindMirror {
			continue
		}
		known[r.Key.Name] = true
		if len(names) == 0 || slices.Contains(names, r.Key.Name) {
			out = append(out, r)
		}
	}
	var wrong []error
	for _, n := range names {
		if !known[n] {
			wrong = append(wrong, fmt.Errorf("mode %s has no mirror %q; it has %s", s.cfg.Mode, n, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		}
	}
	var not []error
	for i, r := range out {
		if _, yes := s.paused(r.Key); !yes && !s.inv.Owns(r.Key) {
			not = append(not, fmt.Errorf("%s %s", r.Key, never))
			continue
		}
		if !s.inv.Owns(r.Key) {
			continue
		}
		o, _ := s.inv.Get(r.Key)
		out[i].Spec = o.Spec // what the file says otherwise is for a plan to show first
	}
	if len(not) == len(out) {
		wrong = append(wrong, not...)
	}
	if len(wrong) > 0 {
		return nil, codedError{exitRefused, errors.Join(wrong...)}
	}
	return out, nil
}

// paused reports whether the mode has an object left alone today, and why.
func (s *session) paused(k schema.Key) (why string, yes bool) {
	for _, d := range s.cfg.Directives {
		if d.Key == k && d.Paused.Holds(schema.DateOf(time.Now())) {
			return d.Paused.Reason, true
		}
	}
	return "", false
}

// mirror runs one, and writes down what it owns by then.
func (s *session) mirror(ctx context.Context, r schema.Resource, dry bool, others map[v1.Hash]bool) (mirrored, error) {
	out := mirrored{Mirror: r.Key.Name, Copied: []string{}, Deleted: []string{}, DryRun: dry}
	spec, ok := r.Spec.(*schema.Mirror)
	if !ok {
		return out, fmt.Errorf("%s is no mirror", r.Key)
	}
	if dry {
		o, err := s.content.Look(ctx, r.Key, spec, others)
		out.found(o)
		out.Blobs, out.Bytes = o.Blobs, o.Bytes
		return out, err
	}
	ran, err := s.content.Run(ctx, r.Key, spec, s.guard(r.Key))
	tags, wrote := s.content.Content(r.Key)
	if !wrote {
		return out, err
	}
	out.found(ran.Outlook)
	out.Copied = slices.DeleteFunc(out.Copied, func(tag string) bool { return tags[tag] == "" })
	out.Deleted = slices.DeleteFunc(out.Deleted, func(tag string) bool { return tags[tag] != "" })
	out.Blobs, out.Bytes = ran.Moved.Blobs, ran.Moved.Bytes
	o, _ := s.inv.Get(r.Key)
	if now := state.TagsOf(tags); !slices.Equal(now, o.Content) {
		o.Content = now
		inv := s.inv
		inv.Objects = slices.Clone(inv.Objects)
		inv.Put(o)
		if saved := s.save(context.WithoutCancel(ctx), inv); saved != nil {
			err = errors.Join(err, fmt.Errorf("inventory: %w", saved))
		}
	}
	return out, err
}

// guard refuses deletes that are more than the policy lets go.
func (s *session) guard(k schema.Key) func(content.Outlook) error {
	o, _ := s.inv.Get(k)
	return func(found content.Outlook) error {
		limit := s.cfg.Policy.MaxDeletes
		n, of := len(found.Gone), 0
		for _, t := range o.Content {
			if t.Digest != "" {
				of++
			}
		}
		if limit == nil || n <= limit.AtLeast || n*100 <= limit.Percent*of {
			return nil
		}
		return fmt.Errorf("it would delete %d of its %s, which is more than policy.max_deletes lets go (%d percent, at least %d); see whether the source is as it should be, and raise that if it is", n, count(of, "tag"), limit.Percent, limit.AtLeast)
	}
}

func (m *mirrored) found(o content.Outlook) {
	for _, s := range o.Copy {
		m.Copied = append(m.Copied, s.Tag)
	}
	for _, s := range o.Gone {
		m.Deleted = append(m.Deleted, s.Tag)
	}
	for _, s := range o.Left {
		m.LetGo = append(m.LetGo, s.Tag)
	}
	for _, r := range slices.Concat(o.Untrusted, o.Missing) {
		m.Refused = append(m.Refused, r.Tag)
	}
	slices.Sort(m.Refused)
	m.Same = len(o.Same)
}

// text is it for people.
func (m mirrored) text() string {
	if m.Paused != "" {
		return fmt.Sprintf("mirror/%s: paused: %s\n", m.Mirror, m.Paused)
	}
	did := func(what string, tags []string) string {
		if len(tags) == 0 {
			return ""
		}
		if m.DryRun {
			what = "would be " + what
		}
		return fmt.Sprintf(", %d %s (%s)", len(tags), what, strings.Join(tags, ", "))
	}
	s := did("copied", m.Copied) + did("deleted", m.Deleted) + did("let go", m.LetGo) + did("refused", m.Refused)
	if s == "" {
		s = ", nothing to do"
		if m.Error != "" {
			s = ", failed"
		}
	}
	s = strings.TrimPrefix(s, ", ")
	if m.Blobs > 0 {
		s += fmt.Sprintf("; %s, %s", count(m.Blobs, "blob"), schema.Size(m.Bytes).Human())
	}
	return fmt.Sprintf("mirror/%s: %s; %d as they were\n", m.Mirror, s, m.Same)
}
