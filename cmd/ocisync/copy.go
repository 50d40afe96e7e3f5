package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/bmatcuk/doublestar/v4"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/schema"
)

type copyOptions struct {
	reach
	given
	all       bool
	tags      []string
	referrers bool
	platforms []string
}

func newCopy(o *options) *cobra.Command {
	c := &copyOptions{reach: reach{options: o}}
	cmd := &cobra.Command{
		Use:     "copy SOURCE TARGET",
		GroupID: "content",
		Short:   "Copy an image, a repository or a registry into another",
		Long: `Copy brings content from one registry to another, every digest as it was: images,
indexes with all their parts, artifacts, and what refers to them (signatures, lists
of parts).

SOURCE and TARGET are written HOST/REPOSITORY:TAG, HOST/REPOSITORY@DIGEST,
HOST/REPOSITORY for a whole repository, or HOST for every repository of a registry;
the last two with --all-tags or --tag. Both say the same sort of thing. A host is
reached by https; write http:// before one that has no certificate, and zot+http:// or
zot+https:// before a Zot, which then takes a blob in one request.

` + layoutHelp + `
With --platform, an index that has other platforms too becomes another one, with
another digest: signatures of the whole one are not of it, and stay behind. An index
stays an index, of one platform too; by its digest it is copied whole.

The accounts are those of the user's Docker configuration. A tag that is there
already, with the same digest, is left as it is. What fails does not stop the rest.

` + givenHelp + "\n" + progressHelp + exitHelp,
		Example: "  ocisync copy quay.example.com/team/app:v1 registry.example.com/mirror/app:v1\n  ocisync copy --all-tags quay.example.com/team/app oci:./layout\n  ocisync copy --tag 'v1.*' quay.example.com/team/app registry.example.com/team/app\n  ocisync copy --all-tags http://127.0.0.1:5000 registry.example.com",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("copy takes a source and a target, and not %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0], args[1]) },
	}
	o.outputFlag(cmd)
	o.verboseFlag(cmd, "name each tag that was there already")
	f := cmd.Flags()
	f.BoolVar(&c.all, "all-tags", false, "copy every tag")
	f.StringSliceVar(&c.tags, "tag", nil, "copy the tags that a `pattern` matches, such as 'v1.*'; may stand several times")
	f.BoolVar(&c.referrers, "referrers", true, "copy what refers to each image as well")
	f.StringArrayVar(&c.platforms, "platform", nil, "copy of each index this `os/arch[/variant]` alone; may stand several times")
	c.givenFlags(cmd)
	o.progressFlags(cmd)
	c.reachFlags(cmd)
	return cmd
}

// copied is what copy prints with --output json.
type copied struct {
	Tags    []progress.Tag `json:"tags"`
	Copied  int            `json:"copied"`
	Same    int            `json:"same"`
	Failed  int            `json:"failed"`
	Blobs   int            `json:"blobs"`
	Mounted int            `json:"mounted"`
	Bytes   int64          `json:"bytes"`

	failed []content.Reference // where they were to go
}

func (c *copyOptions) run(ctx context.Context, source, target string) (err error) {
	several := c.all || len(c.tags) > 0
	from, err := parsePlace(source, several)
	if err != nil {
		return err
	}
	to, err := parsePlace(target, several)
	if err != nil {
		return err
	}
	if err := c.fit(from, to); err != nil {
		return err
	}
	end, err := c.watching("copy", "sent")
	if err != nil {
		return err
	}
	defer end(&err)
	copier := &content.Copier{Referrers: c.referrers, Progress: c.counts()}
	var done func() error
	if copier.From, done, err = c.source(ctx, from); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if len(c.platforms) > 0 {
		if copier.From, err = content.Platforms(copier.From, c.platforms); err != nil {
			return fmt.Errorf("--platform: %w", err)
		}
	}
	if !several {
		if from, err = settle(ctx, copier.From, from); err != nil {
			return err
		}
	}
	if to, err = named(from, to, several); err != nil {
		return err
	}
	var through func() error
	if copier.To, through, err = c.target(ctx, to); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, through()) }()
	items, err := c.items(ctx, copier.From, from, to)
	if err != nil {
		return err
	}
	forget, err := c.goBy(copier, c.say)
	if err != nil {
		return err
	}
	defer forget()
	out := copied{Tags: []progress.Tag{}}
	copier.Report = c.reports(from.of, to.of, &out)
	c.watch.Copying(known(items))
	moved := copier.Copy(ctx, items)
	if ctx.Err() == nil && out.Copied+out.Same > 0 {
		if err := copier.To.Commit(ctx); err != nil {
			return err
		}
	}
	out.weigh(moved)
	if len(c.tags) > 0 && len(out.Tags) == 0 && ctx.Err() == nil {
		c.say("%s has no tag that --tag %s matches; ocisync tag list tells what it has", from, strings.Join(c.tags, ","))
	}
	return c.finish(ctx, out)
}

// reports tells of each tag, and notes it.
func (o *options) reports(from, to func(content.Reference) string, out *copied) func(content.Event) {
	var mu sync.Mutex
	return func(e content.Event) {
		mu.Lock()
		defer mu.Unlock()
		t := tagOf(e, from, to)
		switch e.Outcome {
		case content.Copied:
			out.Copied++
		case content.Same:
			out.Same++
		case content.Failed:
			out.Failed++
			out.failed = append(out.failed, e.Target)
		}
		out.Tags = append(out.Tags, t)
		o.line(t)
	}
}

// tagOf is what is told of a tag.
func tagOf(e content.Event, from, to func(content.Reference) string) progress.Tag {
	t := progress.Tag{Source: from(e.Source), Target: to(e.Target), Outcome: e.Outcome}
	if e.Err != nil {
		t.Error = e.Err.Error()
	} else {
		t.Digest = hexOf(e.Digest)
	}
	return t
}

// hexOf is a digest as people write it; "" of one that nobody asked for.
func hexOf(d v1.Hash) string {
	if d == (v1.Hash{}) {
		return ""
	}
	return d.String()
}

// fit refuses two places that do not go together.
func (c *copyOptions) fit(from, to place) error {
	several := c.all || len(c.tags) > 0
	switch {
	case c.all && len(c.tags) > 0:
		return errors.New("--all-tags is every tag, and --tag some; say one of them")
	case from.reference != "" && several:
		return fmt.Errorf("%s names one tag or digest; leave out --all-tags and --tag, or leave out %s", from, from.reference)
	case from.reference == "" && !several && (from.layout == "" || from.repository != ""):
		return fmt.Errorf("%s names no tag; add one, or say --all-tags or --tag PATTERN", from)
	case several && to.reference != "":
		return fmt.Errorf("the target names %s, and the source a whole repository or registry; leave out %[1]s", to.reference)
	case strings.HasPrefix(to.reference, "@") && to.reference != from.reference:
		return errors.New("the target names a digest, and the digest is what the source has; leave it out, or name a tag")
	case from.base() == to.base() && from.repository == to.repository && (to.reference == "" || to.reference == from.reference):
		return errors.New("the source and the target are the same")
	}
	if c.ledger != "" && to.layout != "" {
		return errors.New("--ledger is of a registry; a layout knows what it has")
	}
	for _, p := range c.tags {
		if !doublestar.ValidatePattern(p) {
			return fmt.Errorf("--tag %s is no pattern; write it as 'v1.*'", quote(p))
		}
	}
	return nil
}

// named gives a target the names of the source that it does not say.
func named(from, to place, several bool) (place, error) {
	switch {
	case several && from.repository == "" || to.repository != "":
	case to.layout == "" && !several:
		return to, fmt.Errorf("the target names no repository; write %s/%s if it shall have the same name", to.host, cmp.Or(from.repository, "REPOSITORY")+from.reference)
	case to.layout != "" && to.reference == "":
		to.repository = from.repository
	}
	return to, nil
}

// items are what is to be copied.
func (c *copyOptions) items(ctx context.Context, source content.Source, from, to place) ([]content.Item, error) {
	if from.reference != "" {
		item := content.Item{Source: from.repository, Target: to.repository, One: strings.TrimLeft(from.reference, ":@"), As: strings.TrimLeft(to.reference, ":@")}
		return []content.Item{item}, nil
	}
	names := []string{from.repository}
	if from.repository == "" {
		var err error
		if names, err = source.Repositories(ctx); err != nil {
			return nil, err
		}
		switch {
		case len(names) == 0 && from.layout != "":
			return nil, fmt.Errorf("%s holds nothing", from)
		case len(names) == 0:
			return nil, fmt.Errorf("%s lists no repositories; name one, or log in with docker login %s", source, from.host)
		}
	}
	var items []content.Item
	for _, n := range names {
		if access.In(access.Reserved, n) {
			continue // ocisync's own, of that registry alone
		}
		item := content.Item{Source: n, Target: n, Keep: c.keep()}
		switch {
		case from.repository != "" && to.repository != "":
			item.Target = to.repository
		case to.repository != "" && n != "":
			item.Target = to.repository + "/" + n
		case to.repository != "":
			item.Target = to.repository
		case n == "" && to.layout == "":
			return nil, fmt.Errorf("%s has tags without a repository: name one in the target, as %s/REPOSITORY", from, to.host)
		}
		items = append(items, item)
	}
	return items, nil
}

// known is how many tags are copied, where that is known; else 0.
func known(items []content.Item) int {
	if len(items) == 1 && items[0].One != "" {
		return 1
	}
	return 0
}

// keep says which tags are copied; nil is all of them.
func (c *copyOptions) keep() func(tag string) bool {
	if c.all {
		return nil
	}
	return func(tag string) bool {
		return slices.ContainsFunc(c.tags, func(p string) bool { return doublestar.MatchUnvalidated(p, tag) })
	}
}

// weigh notes what was sent, once all are through, and sorts them.
func (c *copied) weigh(m content.Moved) {
	c.Blobs, c.Mounted, c.Bytes = m.Blobs, m.Mounted, m.Bytes
	slices.SortFunc(c.Tags, func(a, b progress.Tag) int { return strings.Compare(a.Target, b.Target) })
}

// finish tells how it ended.
func (o *options) finish(ctx context.Context, out copied) error {
	var err error
	if o.json() {
		err = writeJSON(o.out, out)
	} else {
		_, err = fmt.Fprintln(o.out, out.summary())
	}
	if err != nil {
		return err
	}
	return out.end(ctx, "copy")
}

func (c copied) summary() string {
	return fmt.Sprintf("%d copied, %d there already, %d failed; %s sent, %s mounted, %s", c.Copied, c.Same, c.Failed, count(c.Blobs, "blob"), count(c.Mounted, "blob"), schema.Size(c.Bytes).Human())
}

// end is how a copy ended, and what to do again.
func (c copied) end(ctx context.Context, what string) error {
	switch {
	case ctx.Err() != nil:
		return codedError{exitInterrupted, fmt.Errorf("stopped: %d copied; %s again, which goes on from there", c.Copied, what)}
	case c.Failed > 0 && c.Copied+c.Same > 0:
		return codedError{exitPartly, fmt.Errorf("%s not copied; mend the cause and %s again", count(c.Failed, "reference"), what)}
	case c.Failed > 0:
		return fmt.Errorf("nothing was copied: %s failed", count(c.Failed, "reference"))
	}
	return nil
}
