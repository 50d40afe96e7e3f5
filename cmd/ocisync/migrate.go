package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/ledger"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

type migrateOptions struct {
	reach
	given
	from, to   string
	namespaces []string
	shard      string
	sizes      string
	rate       string
	verify     bool
	follow     bool
	every      time.Duration
	dry, yes   bool
	whole      bool // a registry, not namespaces alone
}

func newMigrate(o *options) *cobra.Command {
	m := &migrateOptions{reach: reach{options: o}}
	cmd := &cobra.Command{
		Use:     "migrate --from MODE --to MODE",
		GroupID: "content",
		Short:   "Move a registry to another one",
		Long: `Migrate tells first of every namespace, user, rule, robot and retention of a registry
what becomes of it at another: whether the mode of that one declares it alike, or what
is otherwise, or that it cannot have it. Nothing of that is written: apply does, and
adopt writes what a mode lacks. Then it brings the content, every digest as it was,
with indexes, signatures and all else that refers to images.

A registry is a mode, or an address: http://HOST or https://HOST, of which only the
content is known, with the login that docker login made there, and with its type, as
zot+http://HOST:5000, what that type takes in fewer requests.

It may be stopped or killed anywhere, and run again: what is there is not sent again.
With --follow it goes on with what is pushed meanwhile, until it is interrupted; it
then looks once more and ends, so that the time in which nobody may push is short.

Several machines share the work with --shard: each takes its part of the repositories,
by their names, or alike by their bytes where all are given the same --sizes, the file
that migrate --dry-run --output json wrote. docs/migrate.md shows it.

` + givenHelp + "\n" + progressHelp + exitHelp,
		Example: "  ocisync migrate --from old --to prod --dry-run\n  ocisync migrate --from zot+http://10.0.0.5:5000 --to prod --verify\n  ocisync migrate --from old --to prod --shard /8 --yes",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return m.run(cmd.Context(), true) },
	}
	m.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&m.follow, "follow", false, "go on with what is pushed meanwhile until interrupted")
	f.DurationVar(&m.every, "every", 30*time.Second, "how `long` to wait between two looks with --follow")
	f.StringVar(&m.shard, "shard", "", "the part `I/N` of the repositories, I from 0; /N takes I from JOB_COMPLETION_INDEX")
	f.StringVar(&m.sizes, "sizes", "", "a `file` of migrate --dry-run --output json: parts are made alike by the bytes it tells")
	return cmd
}

func newSync(o *options) *cobra.Command {
	m := &migrateOptions{reach: reach{options: o}}
	cmd := &cobra.Command{
		Use:     "sync --namespace N --from MODE --to MODE",
		GroupID: "content",
		Short:   "Bring the content of a namespace to another registry",
		Long: `Sync brings the content of namespaces from one registry to another, as migrate does, and
looks at nothing else. What is there is not sent again; nothing is deleted. A mode's Zot
with search, and its Harbor, tell all their images in a few requests, by which what is in
step is known; with --verify each tag is asked for all the same, as migrate does.

` + givenHelp + "\n" + progressHelp + exitHelp,
		Example: "  ocisync sync --namespace team-a --from prod --to dr",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(m.namespaces) == 0 {
				return errors.New("name the namespaces, with --namespace; migrate brings all there is")
			}
			m.yes = true
			return m.run(cmd.Context(), false)
		},
	}
	m.flags(cmd)
	return cmd
}

func (m *migrateOptions) flags(cmd *cobra.Command) {
	m.modesFlags(cmd)
	m.outputFlag(cmd)
	m.verboseFlag(cmd, "name each tag that was there already, and all that is declared alike")
	m.givenFlags(cmd)
	m.progressFlags(cmd)
	m.reachFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&m.from, "from", "", "the `registry` that is read: a mode, or an address")
	f.StringVar(&m.to, "to", "", "the `registry` that is written: a mode, or an address")
	f.StringSliceVar(&m.namespaces, "namespace", nil, "a `namespace` alone; may stand several times")
	f.StringVar(&m.rate, "rate", "", "the most that is read in a second, such as 50MiB")
	f.BoolVar(&m.verify, "verify", false, "compare both sides by digest afterwards")
	f.BoolVar(&m.dry, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVarP(&m.yes, "yes", "y", false, "do not ask")
}

// end is one of the two registries.
type end struct {
	name     string // as people say it
	registry *content.Registry
	session  *session // nil where nothing but the content is known
	close    func() error
}

// open reaches a registry by a mode or an address.
func (m *migrateOptions) end(ctx context.Context, text string, push bool) (*end, error) {
	if strings.Contains(text, "://") {
		p, err := parsePlace(text, true)
		switch {
		case err != nil:
			return nil, err
		case p.repository != "":
			return nil, fmt.Errorf("%s names a repository; name the registry, and --namespace %s", text, p.repository)
		}
		r, err := m.open(p, push)
		return &end{name: p.url, registry: r, close: func() error { return nil }}, err
	}
	o := *m.options
	o.mode = text
	s, err := o.open(ctx, false)
	if err != nil {
		return nil, err
	}
	done := func() (err error) {
		s.close(&err)
		return err
	}
	filler, ok := s.provider.(providers.Filler)
	if !ok {
		return nil, errors.Join(codedError{exitRefused, fmt.Errorf("mode %s: this version moves no content of a registry of type %s", text, s.cfg.Registry.Type)}, done())
	}
	rt, release, err := filler.Fill(ctx)
	if err != nil {
		return nil, errors.Join(err, done())
	}
	e := content.Endpoint{URL: s.cfg.Registry.URL, Transport: rt, Push: push, Progress: m.counts(), Hint: "the account is registry.login of mode " + text, Monolithic: push && s.cfg.Registry.Type == schema.TypeZot}
	if l, ok := s.provider.(providers.Lister); ok {
		e.List = l.List
	}
	r, err := content.Open(e)
	return &end{
		name: fmt.Sprintf("%s (%s)", text, s.cfg.Registry.URL), registry: r, session: s,
		close: func() error { release(); return done() },
	}, err
}

// migration is what migrate prints with --output json.
type migration struct {
	From         string        `json:"from"`
	To           string        `json:"to"`
	DryRun       bool          `json:"dry_run,omitempty"`
	Shard        string        `json:"shard,omitempty"`
	Objects      []mapped      `json:"objects"`
	Repositories []moving      `json:"repositories"`
	Content      *copied       `json:"content,omitempty"`
	Verified     *verification `json:"verified,omitempty"`
}

// mapped is what becomes of an object.
type mapped struct {
	Key     string `json:"key"`
	Outcome string `json:"outcome"` // alike, otherwise, undeclared, unmappable
	Why     string `json:"why,omitempty"`
}

// moving is a repository that is moved.
type moving struct {
	Name    string `json:"name"`
	Tags    int    `json:"tags"`
	Missing int    `json:"missing"` // tags that the target does not have
	Bytes   int64  `json:"bytes,omitempty"`
	Why     string `json:"why,omitempty"` // the target could not tell of it
}

type verification struct {
	Tags        int         `json:"tags"`
	Referrers   int         `json:"referrers"`
	Differences []different `json:"differences"`
}

type different struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Why    string `json:"why"`
}

func (m *migrateOptions) run(ctx context.Context, whole bool) (err error) {
	m.whole = whole
	if m.from == "" || m.to == "" || m.from == m.to {
		return errors.New("name two registries, with --from and --to: a mode each, or an address")
	}
	shard, err := m.part()
	if err != nil {
		return err
	}
	limit, err := m.limit()
	if err != nil {
		return err
	}
	if !m.dry {
		done, err2 := m.watching(m.what(), "sent")
		if err2 != nil {
			return err2
		}
		defer done(&err)
	}
	from, err := m.end(ctx, m.from, false)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	defer func() { err = errors.Join(err, from.close()) }()
	to, err := m.end(ctx, m.to, true)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, to.close()) }()
	out := migration{From: from.name, To: to.name, DryRun: m.dry, Shard: m.shard, Objects: []mapped{}, Repositories: []moving{}}
	if whole {
		if err := m.mapping(ctx, from, to, &out); err != nil {
			return err
		}
	}
	p, err := m.look(ctx, from, to, shard, m.told(false), &out)
	if err != nil {
		return err
	}
	if err := m.show(out, whole); err != nil || m.dry {
		return err
	}
	if !m.yes && terminal(m.in) && terminal(m.err) {
		yes, err := m.question(ctx, fmt.Sprintf("Copy %s to %s?", repositories(len(p.items)), to.name))
		if err != nil || !yes {
			return cmp.Or(err, errors.New("not confirmed; nothing was copied"))
		}
		p.again(ctx, from, to, m.told(false)) // who was asked took his time
	}
	return m.move(ctx, from, to, shard, p, limit, out)
}

// what is the command.
func (m *migrateOptions) what() string {
	if m.whole {
		return "migrate"
	}
	return "sync"
}

// part reads which shard this is.
func (m *migrateOptions) part() (s content.Shard, err error) {
	if m.shard == "" {
		if m.sizes != "" {
			return s, errors.New("--sizes makes parts alike; say which part this is with --shard")
		}
		return content.Shard{Of: 1}, nil
	}
	index, of, _ := strings.Cut(m.shard, "/")
	if index == "" {
		if index = m.env("JOB_COMPLETION_INDEX"); index == "" {
			return s, fmt.Errorf("--shard %s takes its index from JOB_COMPLETION_INDEX, which is not set; say it, as --shard 0%[1]s", m.shard)
		}
	}
	i, err := strconv.Atoi(index)
	n, err2 := strconv.Atoi(of)
	if err != nil || err2 != nil || i < 0 || n < 1 || i >= n || n > 1000 {
		return s, fmt.Errorf("--shard %s/%s is no part; write INDEX/COUNT, with an index from 0 to COUNT-1, such as 0/4", index, of)
	}
	m.shard = fmt.Sprintf("%d/%d", i, n)
	s = content.Shard{Index: i, Of: n}
	if m.sizes == "" {
		return s, nil
	}
	b, err := regular.Read(m.sizes, maxRecorded)
	if err != nil {
		return s, fmt.Errorf("--sizes: %w", err)
	}
	var told migration
	if err := json.Unmarshal(b, &told); err != nil || len(told.Repositories) == 0 {
		return s, fmt.Errorf("--sizes %s is not what migrate --dry-run --output json writes, or names no repository", m.sizes)
	}
	sizes := map[string]int64{}
	for _, r := range told.Repositories {
		sizes[r.Name] = r.Bytes + int64(r.Tags)
	}
	return s.Balance(sizes), nil
}

func (m *migrateOptions) limit() (int64, error) {
	if m.rate == "" {
		return 0, nil
	}
	size, err := schema.ParseSize(m.rate)
	if err != nil || size <= 0 {
		return 0, fmt.Errorf("--rate %s is no size; write it as 50MiB", quote(m.rate))
	}
	return int64(size), nil
}

// mapping finds what becomes of what the source is told.
func (m *migrateOptions) mapping(ctx context.Context, from, to *end, out *migration) error {
	if from.session == nil || to.session == nil {
		return nil
	}
	source := providers.ReadOnly(from.session.provider)
	kinds := slices.DeleteFunc(source.Capabilities().Kinds(), func(k schema.Kind) bool { return k == schema.KindSettings })
	live, err := source.Read(ctx, schema.ScopeOf(kinds...))
	if err != nil {
		return err
	}
	live.Resources = slices.DeleteFunc(slices.Clone(live.Resources), saysNothing)
	for i := range live.Resources {
		live.Resources[i].Unread, live.Resources[i].Version = nil, ""
	}
	table := providers.WithContent(to.session.provider.Capabilities())
	want, _, err := to.session.provider.Normalize(live)
	if err != nil {
		return fmt.Errorf("what %s has cannot be compared: %w", from.name, err)
	}
	have, _, err := to.session.provider.Normalize(to.session.cfg.Desired)
	if err != nil {
		return err
	}
	have.Scope = schema.ScopeOf(schema.Kinds()...)
	if err := errors.Join(want.Sort(), have.Sort()); err != nil {
		return err
	}
	p := plan.Diff(plan.Input{Registry: plan.Registry{Type: to.session.cfg.Registry.Type}, Desired: want, Live: have, Table: table, Policy: schema.Policy{Unsupported: "refuse"}, Today: schema.DateOf(time.Now())})
	outcome := map[schema.Key]mapped{}
	for _, c := range p.Changes {
		switch c.Action {
		case plan.Create:
			outcome[c.Key] = mapped{Outcome: "undeclared", Why: fmt.Sprintf("mode %s does not declare it", m.to)}
		case plan.Update, plan.Replace:
			var fields []string
			for _, f := range c.Fields {
				fields = append(fields, fmt.Sprintf("%s %s there, %s here", f.Path, cmp.Or(f.New, "none"), cmp.Or(f.Old, "none")))
			}
			outcome[c.Key] = mapped{Outcome: "otherwise", Why: strings.Join(fields, "; ")}
		case plan.Adopt, plan.Delete, plan.Forget, plan.Unprotect, plan.Rename:
		}
	}
	for _, r := range p.Refusals {
		why, _, _ := strings.Cut(r.Why, "; take it out") // the mode does not have it
		if r.Field != "" {
			why = r.Field + ": " + why
		}
		outcome[r.Key] = mapped{Outcome: "unmappable", Why: why}
	}
	for _, r := range want.Resources {
		o, ok := outcome[r.Key]
		if !ok {
			o = mapped{Outcome: "alike"}
		}
		o.Key = r.Key.String()
		out.Objects = append(out.Objects, o)
	}
	return nil
}

// pass is what one look at both sides found.
type pass struct {
	from  content.Source
	to    content.Target
	items []content.Item
}

// told reports whether a pass goes by what the registries tell of many repositories at
// once. The last one of a migration, and the one before both sides are compared, ask for
// each tag: a registry may leave some out of what it tells.
func (m *migrateOptions) told(last bool) bool {
	return m.follow && !last || !m.whole && !m.verify
}

// again looks at both sides anew.
func (p *pass) again(ctx context.Context, from, to *end, told bool) {
	p.from, p.to = from.registry, to.registry
	if !told {
		return
	}
	var names []string // at both
	for _, i := range p.items {
		names = append(names, i.Source)
	}
	p.from, p.to = from.registry.Look(ctx, names), to.registry.Look(ctx, names)
}

// look lists the repositories that are moved.
func (m *migrateOptions) look(ctx context.Context, from, to *end, shard content.Shard, told bool, out *migration) (p pass, err error) {
	names, err := from.registry.Repositories(ctx)
	if err != nil {
		return p, err
	}
	for _, ns := range m.namespaces {
		if !slices.ContainsFunc(names, func(n string) bool { return access.In(ns, n) }) {
			m.say("%s has no repository in namespace %s; correct --namespace if that is not meant", from.name, ns)
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		mine := len(m.namespaces) == 0 || slices.ContainsFunc(m.namespaces, func(ns string) bool { return access.In(ns, n) })
		return access.In(access.Reserved, n) || !mine || !shard.Has(n)
	})
	for _, n := range names {
		p.items = append(p.items, content.Item{Source: n, Target: n})
	}
	p.again(ctx, from, to, told)
	sizes, err := m.bytes(ctx, from, names)
	if err != nil {
		return p, err
	}
	found := make([]moving, len(names))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(8)
	for i, n := range names {
		all.Go(func() error {
			tags, _, err := p.from.Tags(ctx, n)
			if err != nil {
				return err
			}
			have, _, err := p.to.Tags(ctx, n)
			if err != nil && (ctx.Err() != nil || errors.Is(err, providers.ErrUnreachable)) {
				return err
			}
			why := ""
			if err != nil { // such as of a name that it cannot have: the others come all the same
				why = err.Error()
			}
			missing := slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return slices.Contains(have, t) })
			found[i] = moving{n, len(tags), len(missing), sizes[n], why}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		return p, err
	}
	out.Repositories = append(out.Repositories, found...)
	return p, nil
}

// bytes tells how much repositories hold, where the registry tells. That it does not is
// no failure: a migration needs none.
func (m *migrateOptions) bytes(ctx context.Context, from *end, names []string) (map[string]int64, error) {
	if from.session == nil || !m.dry || len(names) == 0 {
		return nil, nil
	}
	tells, ok := from.session.provider.(providers.Sizer)
	if !ok {
		return nil, nil
	}
	out, err := tells.Sizes(ctx, names)
	if err != nil && ctx.Err() == nil && !errors.Is(err, providers.ErrUnsupported) {
		m.say("how much %s holds is not known: %v", from.name, err)
	}
	return out, ctx.Err()
}

// show tells what would be done.
func (m *migrateOptions) show(out migration, whole bool) error {
	if m.json() {
		if m.dry {
			return writeJSON(m.out, out)
		}
		return nil
	}
	w := tabwriter.NewWriter(m.out, 0, 0, 2, ' ', 0)
	counts := map[string]int{}
	for _, o := range out.Objects {
		counts[o.Outcome]++
		if o.Outcome != "alike" || m.verbose {
			_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\n", o.Outcome, o.Key, o.Why)
		}
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[k], k))
	}
	switch {
	case len(parts) > 0:
		_, _ = fmt.Fprintf(w, "objects: %s\n", strings.Join(parts, ", "))
	case whole:
		_, _ = fmt.Fprintln(w, "objects: of a registry that is named by its address, only the content is known")
	}
	tags, missing, bytes := 0, 0, int64(0)
	for _, r := range out.Repositories {
		tags, missing, bytes = tags+r.Tags, missing+r.Missing, bytes+r.Bytes
		if r.Why != "" {
			_, _ = fmt.Fprintf(w, "  not told\t%s\t%s\n", r.Name, strings.ReplaceAll(r.Why, "\n", "; "))
		}
	}
	_, _ = fmt.Fprintf(w, "content: %s, %s, of which %d are not there", repositories(len(out.Repositories)), count(tags, "tag"), missing)
	if bytes > 0 {
		_, _ = fmt.Fprintf(w, "; %s", schema.Size(bytes).Human())
	}
	_, _ = fmt.Fprintln(w)
	return w.Flush()
}

func repositories(n int) string {
	if n == 1 {
		return "1 repository"
	}
	return fmt.Sprintf("%d repositories", n)
}

// move brings the content.
func (m *migrateOptions) move(ctx context.Context, from, to *end, shard content.Shard, p pass, limit int64, out migration) error {
	told := copied{Tags: []progress.Tag{}}
	of := func(e *end) func(content.Reference) string {
		return func(r content.Reference) string {
			return strings.TrimSuffix(e.registry.String(), "/") + "/" + r.String()
		}
	}
	by := &content.Copier{To: to.registry}
	tags := 0
	for _, r := range out.Repositories {
		tags += r.Tags
	}
	m.watch.Copying(tags)
	forget, err := m.goBy(by, m.say)
	if err != nil {
		return err
	}
	defer forget()
	copier := func() *content.Copier {
		return &content.Copier{From: p.from, To: p.to, Referrers: true, Rate: limit, Report: m.reports(of(from), of(to), &told), Ledger: by.Ledger, OnlyMissing: by.OnlyMissing, Progress: m.counts()}
	}
	add := func(moved content.Moved) {
		told.Blobs, told.Mounted, told.Bytes = told.Blobs+moved.Blobs, told.Mounted+moved.Mounted, told.Bytes+moved.Bytes
	}
	add(copier().Copy(ctx, p.items))
	last := ctx
	if m.follow {
		// interrupted it looks once more, and that is not to be interrupted again
		last = context.WithoutCancel(ctx)
		m.say("following %s; Ctrl-C looks once more and ends", from.name)
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(m.every):
			}
			told = copied{Tags: []progress.Tag{}, Blobs: told.Blobs, Mounted: told.Mounted, Bytes: told.Bytes}
			again := migration{}
			now, err := m.look(last, from, to, shard, m.told(ctx.Err() != nil), &again)
			if err != nil {
				m.say("looking again: %v", err)
				continue
			}
			p = now
			add(copier().Copy(last, p.items))
		}
	}
	out.Content = &told
	if m.verify && last.Err() == nil {
		if err := m.compare(last, from, to, p.items, by.Ledger, &out); err != nil {
			return err
		}
	}
	return m.ended(last, out)
}

// compare holds both sides against each other. What a ledger says otherwise it is told.
func (m *migrateOptions) compare(ctx context.Context, from, to *end, items []content.Item, known *ledger.File, out *migration) error {
	c, err := content.Compare(ctx, from.registry, to.registry, items, 8)
	if err != nil {
		return err
	}
	out.Verified = &verification{Tags: c.Tags, Referrers: c.Referrers, Differences: []different{}}
	for _, d := range c.Differences {
		out.Verified.Differences = append(out.Verified.Differences, different{d.Source.String(), d.Target.String(), d.Why})
		if known != nil && d.Target.Tag != "" {
			known.ForgetTag(d.Target.Repository, d.Target.Tag)
		}
	}
	return nil
}

// ended tells how it went.
func (m *migrateOptions) ended(ctx context.Context, out migration) error {
	told := *out.Content
	if m.json() {
		slices.SortFunc(told.Tags, func(a, b progress.Tag) int { return strings.Compare(a.Target, b.Target) })
		if err := writeJSON(m.out, out); err != nil {
			return err
		}
	}
	if !m.json() {
		m.tell("%s\n", told.summary())
	}
	err := told.end(ctx, m.what())
	if v := out.Verified; v != nil {
		for _, d := range v.Differences {
			m.say("differs  %s: %s", d.Target, d.Why)
		}
		if !m.json() {
			m.tell("verified: %s and %s are alike, %d differ\n", count(v.Tags, "tag"), count(v.Referrers, "referrer"), len(v.Differences))
		}
		if n := len(v.Differences); n > 0 {
			again := m.what() + " again"
			if m.onlyMissing {
				again += ", without --only-missing, which leaves what is there"
			}
			err = errors.Join(err, codedError{exitPartly, fmt.Errorf("%s between both sides; %s", count(n, "difference"), again)})
		}
	}
	return err
}
