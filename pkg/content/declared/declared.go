// Package declared brings content to be as a mode says: its mirrors and artifacts. It is
// the [providers.Provider] of these kinds for whatever registry, beside the one that the
// registry itself has; see [New].
//
// What a mirror copied is its own, and the inventory keeps it: no registry tells who
// pushed a tag. So the live form of a mirror is the block that was applied last, with
// the tags that are not what they were then.
package declared

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// Deps is what the provider works with.
type Deps struct {
	// URL is the registry's, and Open makes a way to it; release ends it.
	URL  string
	Open func(ctx context.Context) (rt http.RoundTripper, release func(), err error)
	// Monolithic and Untag are those of [content.Endpoint].
	Monolithic bool
	Untag      func(ctx context.Context, repository, tag string) error
	// Secrets gives the logins of other registries, and Permit is asked before one goes
	// there; nil permits.
	Secrets providers.Secrets
	Permit  func(registry string) error
	// Careful is nil where changes are written. Else it says whether the operator himself
	// names a registry: what a pull request declares gets no login until it was applied.
	Careful func(registry string) bool
	// Files is the directory from which the paths of artifacts count.
	Files fs.FS
	// Homes are the directories of Files whose own paths are not part of what a file is
	// called in an artifact, each with a slash at its end.
	Homes []string
	// Namespaces are those who must have signed what lies in a namespace, by its
	// name: paths of Files.
	Namespaces map[string]schema.Trust
	// Applied lists what was applied last.
	Applied func() []Applied
	// MayPrune says whether what was applied can be trusted with deletes, and why not.
	MayPrune func() (ok bool, why string)
	Now      func() time.Time
	// Report hears of each tag when it is through, from several goroutines; nil for
	// nobody.
	Report func(schema.Key, content.Event)
	// Progress counts what is done while it is done; nil is nobody's.
	Progress *content.Progress
	// Cron is the command that has to be run by the schedule of a mirror, where nothing of
	// ocisync's runs beside the registry; nil where it does.
	Cron func(mirror string) string
	// Restored are the tags that a backup brought back, by repository: a mirror of these
	// is recorded as it stands.
	Restored map[string]map[string]v1.Hash
}

// Applied is an object of content as it was applied last.
type Applied struct {
	Key  schema.Key
	Spec schema.Spec
	Tags map[string]v1.Hash // as [content.Mirror] owns them
}

// Provider writes content. It is safe for use by several goroutines.
type Provider struct {
	Deps

	mu       sync.Mutex
	remotes  []schema.Remote                   // of the desired state that was seen last
	mirrors  []schema.Resource                 // of it too
	stood    map[schema.Key]standing           // of Restored; nil: not judged yet
	altered  map[schema.Key]bool               // what was read last, and is not as it was applied
	untold   map[schema.Key][]string           // the tags that are not as they were copied, where no source says whether they come again
	outlooks map[schema.Key]looked             // of the plan that was made last
	wrote    map[schema.Key]map[string]v1.Hash // the tags that they own by now
	brought  content.Brought                   // by all mirrors
}

// looked is what a mirror found, and for which block.
type looked struct {
	spec    *schema.Mirror
	outlook content.Outlook
}

// New makes one. It asks nothing yet.
func New(d Deps) *Provider {
	return &Provider{Deps: d, altered: map[schema.Key]bool{}, untold: map[schema.Key][]string{}, outlooks: map[schema.Key]looked{}, wrote: map[schema.Key]map[string]v1.Hash{}}
}

var (
	_ providers.Provider     = (*Provider)(nil)
	_ providers.Remarker     = (*Provider)(nil)
	_ providers.ContentOwner = (*Provider)(nil)
)

// Capabilities implements [providers.Provider].
func (p *Provider) Capabilities() schema.Table { return providers.WithContent(nil) }

// Batch implements [providers.Provider].
func (p *Provider) Batch() providers.Batch { return providers.BatchRank }

// Normalize implements [providers.Provider]. It takes note of the other registries that
// the mode knows. What was applied of a mirror and is not declared any more is declared
// to be empty: nobody else has a say in a mirror.
func (p *Provider) Normalize(s schema.State) (schema.State, []plan.Note, error) {
	var remotes []schema.Remote
	var mirrors []schema.Resource
	s.Resources = slices.Clone(s.Resources)
	for i, r := range s.Resources {
		if err := p.identities(r); err != nil {
			return s, nil, err
		}
		switch spec := r.Spec.(type) {
		case *schema.Remote:
			remotes = append(remotes, *spec)
		case *schema.Mirror:
			before, _ := p.applied(r.Key)
			if was, ok := before.Spec.(*schema.Mirror); ok {
				s.Resources[i].Spec = emptied(*spec, *was)
			}
			mirrors = append(mirrors, s.Resources[i])
		case *schema.Artifact:
			a, err := p.built(spec)
			if err != nil {
				return s, nil, fmt.Errorf("%s: %w", r.Key, err)
			}
			digest, err := a.Digest()
			if err != nil {
				return s, nil, fmt.Errorf("%s: %w", r.Key, err)
			}
			made, text := *spec, digest.String()
			made.Digest = &text
			s.Resources[i].Spec = &made
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remotes, p.mirrors = remotes, mirrors
	return s, nil, nil
}

// applied finds what was applied of an object last.
func (p *Provider) applied(k schema.Key) (Applied, bool) {
	list := p.Applied()
	i := slices.IndexFunc(list, func(a Applied) bool { return a.Key == k })
	if i < 0 {
		return Applied{}, false
	}
	return list[i], true
}

// Read implements [providers.Provider]. Of a registry that cannot be reached now it
// says nothing.
func (p *Provider) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	out := schema.State{Scope: scope}
	var mine []Applied
	for _, a := range p.Applied() {
		switch a.Spec.(type) {
		case *schema.Remote, *schema.Trust: // ocisync alone knows it
			if scope.Covers(a.Key) {
				r := schema.Resource{Key: a.Key, Spec: a.Spec}
				for _, f := range schema.Secrets(a.Spec) {
					r.Unread = append(r.Unread, f.Path)
				}
				out.Resources = append(out.Resources, r)
			}
		case *schema.Mirror, *schema.Artifact:
			if scope.Covers(a.Key) {
				mine = append(mine, a)
			}
		}
	}
	if len(mine)+len(p.Restored) == 0 {
		return out, nil
	}
	to, release, err := p.target(ctx)
	if err != nil {
		return p.unread(out, mine, err)
	}
	defer release()
	stands, err := p.stands(ctx, to)
	if err != nil {
		return p.unread(out, mine, err)
	}
	for k, s := range stands {
		if scope.Covers(k) {
			out.Resources = append(out.Resources, schema.Resource{Key: k, Spec: s.spec})
		}
	}
	mine = slices.DeleteFunc(mine, func(a Applied) bool {
		_, ok := stands[a.Key]
		return ok
	})
	for _, a := range mine {
		if spec, ok := a.Spec.(*schema.Artifact); ok {
			live, err := p.seen(ctx, to, a.Key, *spec)
			if err != nil {
				return p.unread(out, mine, err)
			}
			if live != nil {
				out.Resources = append(out.Resources, *live)
			}
			continue
		}
		spec, ok := a.Spec.(*schema.Mirror)
		if !ok {
			continue
		}
		live := *spec
		if live.Altered, err = p.drift(ctx, a, spec, to); err != nil {
			return p.unread(out, mine, err)
		}
		out.Resources = append(out.Resources, schema.Resource{Key: a.Key, Spec: &live})
	}
	return out, nil
}

// drift lists the tags of a mirror that are not as it copied them and that an apply of its
// block, as that is declared by now, copies again; nil is none. What it lets go of it
// takes note of, and so it does of what cannot be told, since the source does not say.
// Where a plan may not ask the source, they may all come again.
func (p *Provider) drift(ctx context.Context, a Applied, spec *schema.Mirror, to *content.Registry) (schema.Set, error) {
	altered, err := (&content.Mirror{To: to, Target: text(spec.To), Owned: a.Tags}).Altered(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	delete(p.altered, a.Key)
	delete(p.untold, a.Key)
	i := slices.IndexFunc(p.mirrors, func(r schema.Resource) bool { return r.Key == a.Key })
	if i >= 0 {
		if now, ok := p.mirrors[i].Spec.(*schema.Mirror); ok {
			spec = now
		}
	}
	p.mu.Unlock()
	if len(altered) == 0 || i < 0 {
		return nil, nil
	}
	m, end, err := p.mirror(ctx, a.Key, spec, to)
	var o content.Outlook
	if err == nil {
		defer end()
		o, err = m.Look(ctx)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.As(err, &careful{}) { // an apply asks, and has those again that are chosen
		p.altered[a.Key] = true
		return altered, nil
	}
	if err != nil {
		p.untold[a.Key] = altered
		return nil, nil
	}
	var again schema.Set
	for _, s := range o.Copy {
		if slices.Contains(altered, s.Tag) {
			again = append(again, s.Tag)
		}
	}
	p.altered[a.Key] = len(again) > 0
	if owned := m.Settled(o); !maps.Equal(owned, a.Tags) {
		p.wrote[a.Key] = owned
	}
	return again, nil
}

// bookkeeping reports whether the inventory alone holds objects of a kind.
func bookkeeping(k schema.Kind) bool { return k == schema.KindRemote || k == schema.KindTrust }

// unread is a state that says nothing of some objects, where that is why.
func (p *Provider) unread(s schema.State, mine []Applied, err error) (schema.State, error) {
	if !errors.Is(err, providers.ErrUnreachable) {
		return schema.State{}, err
	}
	s.Resources = slices.DeleteFunc(s.Resources, func(r schema.Resource) bool { return !bookkeeping(r.Key.Kind) })
	for _, a := range mine {
		s.Scope.Except = append(s.Scope.Except, a.Key)
	}
	slices.SortFunc(s.Scope.Except, schema.Key.Compare)
	return s, nil
}

// target opens the registry.
func (p *Provider) target(ctx context.Context) (*content.Registry, func(), error) {
	rt, release, err := p.Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	to, err := content.Open(content.Endpoint{URL: p.URL, Transport: rt, Push: true, Hint: "content is written by registry.login, which must be able to push there", Monolithic: p.Monolithic, Untag: p.Untag, Progress: p.Progress})
	if err != nil {
		release()
		return nil, nil, err
	}
	return to, release, nil
}

// Prepare implements [providers.Provider]: it looks at both sides. What cannot be looked
// at now is told, and tried when it is written.
func (p *Provider) Prepare(ctx context.Context, changes []plan.Change) (out []providers.Verdict, err error) {
	out = make([]providers.Verdict, len(changes))
	others := map[v1.Hash]bool{}
	for i, c := range changes {
		if bookkeeping(c.Key.Kind) {
			continue
		}
		if c.Action == plan.Delete {
			out[i].Impact = []string{"what it brought stays"}
			continue
		}
		if spec, ok := c.After.Spec.(*schema.Artifact); ok {
			if out[i], err = p.prepareArtifact(ctx, c, spec); err != nil {
				return nil, err
			}
			continue
		}
		spec, ok := c.After.Spec.(*schema.Mirror)
		if !ok {
			out[i].Refused = fmt.Sprintf("%s is no kind of content", c.Key)
			continue
		}
		o, err := p.look(ctx, c.Key, spec, others)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			out[i].Notes = []string{fmt.Sprintf("what it would copy cannot be told now: %v", err)}
			continue
		}
		out[i].Impact, out[i].Notes = o.Lines(), o.Lacks()
		before, _ := p.applied(c.Key)
		if ok, why := p.MayPrune(); !ok && yes(spec.Prune) && len(before.Tags) > 0 {
			out[i].Notes = append(out[i].Notes, "prunes nothing: "+why)
		}
		if n := len(o.Foreign); n > 0 {
			out[i].Held = fmt.Sprintf("it overwrites %s that it did not copy", count(n, "tag"))
		}
		if len(o.Gone) > 0 {
			out[i].Held = fmt.Sprintf("it deletes %s that the source has no longer or that are not chosen any more", count(len(o.Gone), "tag"))
		}
		p.mu.Lock()
		p.outlooks[c.Key] = looked{spec, o}
		p.mu.Unlock()
	}
	return out, nil
}

// Look tells what a mirror would do now. Of what it would send it leaves out what is in
// others, those that were looked at before, and adds the rest to it.
func (p *Provider) Look(ctx context.Context, k schema.Key, spec *schema.Mirror, others map[v1.Hash]bool) (content.Outlook, error) {
	return p.look(ctx, k, spec, others)
}

// look looks at both sides of a mirror, and weighs what it would send where others are
// told of.
func (p *Provider) look(ctx context.Context, k schema.Key, spec *schema.Mirror, others map[v1.Hash]bool) (content.Outlook, error) {
	to, release, err := p.target(ctx)
	if err != nil {
		return content.Outlook{}, err
	}
	defer release()
	m, end, err := p.mirror(ctx, k, spec, to)
	if err != nil {
		return content.Outlook{}, err
	}
	defer end()
	o, err := m.Look(ctx)
	if err == nil && others != nil {
		err = m.Weigh(ctx, &o, others)
	}
	return o, err
}

// Write implements [providers.Provider]. A mirror does what its plan showed.
func (p *Provider) Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error {
	for _, c := range changes {
		if spec, ok := specOf(c).(*schema.Artifact); ok && ctx.Err() == nil {
			report(c.Key, p.push(ctx, spec))
			continue
		}
		switch spec, ok := specOf(c).(*schema.Mirror); {
		case ctx.Err() != nil:
			report(c.Key, ctx.Err())
		case c.Action == plan.Delete, bookkeeping(c.Key.Kind):
			report(c.Key, nil)
		case !ok:
			report(c.Key, fmt.Errorf("%s is no kind of content", c.Key))
		default:
			p.mu.Lock()
			seen, known := p.outlooks[c.Key]
			delete(p.outlooks, c.Key)
			p.mu.Unlock()
			var o *content.Outlook
			if known && seen.spec == spec {
				o = &seen.outlook
			}
			ran, err := p.run(ctx, c.Key, spec, o, nil)
			if err != nil && ctx.Err() == nil && p.partly(c.Key, ran.Outlook) {
				err = fmt.Errorf("%w; %w", err, providers.ErrPartly)
			}
			report(c.Key, err)
		}
	}
	return nil
}

// partly reports whether a mirror brought something, or had it, though it failed. What it
// could not copy is noted as lacking, so that the next plan shows it; what the source
// lacks or nobody signed is not: no other apply can bring it.
func (p *Provider) partly(k schema.Key, o content.Outlook) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	owned, ran := p.wrote[k]
	if !ran {
		return false
	}
	some := len(o.Same) > 0
	for _, s := range o.Copy {
		switch digest, own := owned[s.Tag]; {
		case digest == s.To:
			some = true
		case !own:
			owned[s.Tag] = v1.Hash{}
		}
	}
	return some
}

func specOf(c plan.Change) schema.Spec {
	if c.After == nil {
		return nil
	}
	return c.After.Spec
}

// Ran is what a mirror did.
type Ran struct {
	Key     schema.Key
	Outlook content.Outlook
	Moved   content.Moved
}

// Run does what a mirror would do now: the job, which no plan shows. guard is asked of
// what it found, before anything is written; nil lets all pass.
func (p *Provider) Run(ctx context.Context, k schema.Key, spec *schema.Mirror, guard func(content.Outlook) error) (Ran, error) {
	return p.run(ctx, k, spec, nil, guard)
}

func (p *Provider) run(ctx context.Context, k schema.Key, spec *schema.Mirror, o *content.Outlook, guard func(content.Outlook) error) (Ran, error) {
	to, release, err := p.target(ctx)
	if err != nil {
		return Ran{}, err
	}
	defer release()
	m, end, err := p.mirror(ctx, k, spec, to)
	if err != nil {
		return Ran{}, err
	}
	defer end()
	if o == nil {
		now, err := m.Look(ctx)
		if err != nil {
			return Ran{}, err
		}
		o = &now
	}
	if guard != nil {
		if err := guard(*o); err != nil {
			return Ran{Key: k, Outlook: *o}, err
		}
	}
	owned, moved, err := m.Run(ctx, *o, p.Now())
	for _, s := range o.Copy {
		if digest, was := m.Owned[s.Tag]; was && owned[s.Tag] == (v1.Hash{}) {
			owned[s.Tag] = digest // it lacks still
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrote[k] = owned
	return Ran{k, *o, moved}, err
}

// Content implements [providers.ContentOwner].
func (p *Provider) Content(k schema.Key) (map[string]string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	owned, ok := p.wrote[k]
	if !ok {
		return nil, false
	}
	out := map[string]string{}
	for tag, digest := range owned {
		if out[tag] = ""; digest != (v1.Hash{}) {
			out[tag] = digest.String()
		}
	}
	return out, true
}

// Remarks implements [providers.Remarker]: of mirrors that are as declared, what the
// source has by now.
func (p *Provider) Remarks(ctx context.Context, desired schema.State, _ time.Time) ([]plan.Note, error) {
	out := p.standingNotes()
	for _, r := range desired.Resources {
		spec, ok := r.Spec.(*schema.Mirror)
		if !ok {
			continue
		}
		if at := text(spec.Schedule); p.Cron != nil && at != "" && at != "none" {
			out = append(out, plan.Note{Key: r.Key, Text: fmt.Sprintf("its schedule (%s) is run by nobody, since ocisync does not run this registry; have cron run %s", at, p.Cron(r.Key.Name))})
		}
		p.mu.Lock()
		altered, untold := p.altered[r.Key], p.untold[r.Key]
		_, told := p.stood[r.Key]
		p.mu.Unlock()
		if told {
			continue
		}
		if before, _ := p.applied(r.Key); altered || !reflect.DeepEqual(before.Spec, r.Spec) {
			continue // a change of it tells
		}
		o, err := p.look(ctx, r.Key, spec, nil)
		for _, text := range append(o.Lacks(), o.Refuses()...) {
			out = append(out, plan.Note{Key: r.Key, Text: text})
		}
		if line := o.LetsGo(); line != "" {
			out = append(out, plan.Note{Key: r.Key, Text: line})
		}
		switch n := len(o.Copy) + len(o.Gone); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && len(untold) > 0:
			out = append(out, plan.Note{Key: r.Key, Text: fmt.Sprintf("not as it was copied: %s; whether the source has that still cannot be told: %v", strings.Join(untold, ", "), err)})
		case err != nil:
			out = append(out, plan.Note{Key: r.Key, Text: fmt.Sprintf("what its source has by now cannot be told: %v", err)})
		case n > 0:
			out = append(out, plan.Note{Key: r.Key, Text: fmt.Sprintf("the source has %s; ocisync run mirror brings it in step, no apply does", o)})
		}
	}
	return out, nil
}
