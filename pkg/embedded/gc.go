package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/schema"
)

// JobGC is the name of the job that collects garbage.
const JobGC = "gc"

const (
	// roomPatience is how long a request waits for the collection that it causes, and
	// roomRest how long a deletion waits for one to begin.
	roomPatience = 30 * time.Second
	roomRest     = 2 * time.Second
	// roomPause is the least time between two collections that refused pushes cause.
	roomPause = time.Minute
)

func checkGC(key schema.Key, spec *schema.GC) error {
	invalid := func(field, why string) error { return fmt.Errorf("%s: %s: %w: %s", key, field, ErrInvalid, why) }
	switch {
	case key != schema.Key{Kind: schema.KindGC}:
		return fmt.Errorf("%s: %w: there is one collection for the whole registry", key, ErrInvalid)
	case spec.Workers != nil:
		return fmt.Errorf("%s: workers: %w", key, ErrUnsupported)
	case spec.Delay != nil && spec.Delay.Std() < shortestDelay:
		return invalid("delay", fmt.Sprintf("shorter than %s; a push that takes longer would fail", schema.Duration(shortestDelay/time.Second)))
	}
	if spec.Zone != nil {
		if _, err := location(*spec.Zone); err != nil {
			return invalid("zone", err.Error())
		}
	}
	if spec.Schedule != nil && !validSchedule(*spec.Schedule) {
		return invalid("schedule", scheduleHelp)
	}
	return nil
}

func completeGC(spec *schema.GC) *schema.GC {
	c := *spec
	orZero(&c.Untagged)
	c.Schedule, c.Zone = orTiming(spec.Schedule, spec.Zone)
	if c.Delay == nil {
		c.Delay = new(schema.Duration(defaultDelay / time.Second))
	}
	return &c
}

// gc is what the document says of collection, nil if nothing.
func (d document) gc() *schema.GC {
	for _, o := range d.Objects {
		if spec, ok := o.Spec.(*schema.GC); ok {
			return spec
		}
	}
	return nil
}

// makeRoom collects, outside of the gate, what deletions in a namespace with a quota
// left when it has become much, and has who deletes wait for that: he may push next.
// So it does for a push that finds room then. Of any other that found none it only begins.
func (r *Registry) makeRoom(ctx context.Context, v *visit) {
	switch {
	case r.jobs == nil:
	case v.freed:
		r.collectSoon(ctx, roomRest)
	case v.again:
		r.collectSoon(ctx, roomPatience)
	case v.short:
		r.jobs.hurry(JobGC, false)
	}
}

// collectSoon collects, outside of the gate, and waits for that a while, if it begins
// within so long. It reports whether it was done.
func (r *Registry) collectSoon(ctx context.Context, begins time.Duration) bool {
	done, rest := r.jobs.hurry(JobGC, true)
	if rest > begins {
		return false
	}
	patience := time.NewTimer(roomPatience)
	defer patience.Stop()
	select {
	case <-done:
		return true
	case <-patience.C:
	case <-ctx.Done():
	}
	return false
}

// collect runs beside pushes.
func (r *Registry) collect(ctx context.Context, dry bool) (Report, error) {
	what := collectingBy(r.store.now().doc.gc(), dry)
	what.limited = func(repo string) bool { _, p := r.store.now().policyOf(repo); return p.limited }
	what.yields = func(repo string, d digest.Digest) bool {
		l := r.guard.ledgers.Of(r.store.now().rules.Namespace(repo), false)
		return l != nil && l.Goes(d)
	}
	what.after, what.uploads = func() { r.guard.ledgers.Collected(what.delay) }, r.guard.ledgers.Uploads
	if !dry {
		h := r.herald()
		if err := h.resume(ctx, false); err != nil {
			return Report{}, err
		}
		what.heralded(ctx, h)
	}
	c, err := collect(ctx, r.storage, r.gate, what, time.Now())
	r.upkeep.collected(c, err)
	return Report{Job: JobGC, GC: &c}, err
}

// heralded has a herald tell of what a collection removes.
func (c *collecting) heralded(ctx context.Context, h herald) {
	c.announce = func(list []removal) { h.announce(JobGC, list) }
	c.tell = func(list []removal) { h.removed(ctx, list) }
}

// collect has the directory for itself, or only looks.
func (d *Directory) collect(ctx context.Context, dry bool) (Report, error) {
	doc, err := loadDocument(d.data)
	if err != nil {
		return Report{}, err
	}
	s, err := d.content(ctx)
	if err != nil {
		return Report{}, err
	}
	what := collectingBy(doc.gc(), dry)
	at := compile(doc, "", nil)
	what.limited = func(repo string) bool { _, p := at.policyOf(repo); return p.limited }
	var c Collected
	run := func(h herald) (err error) {
		what.heralded(ctx, h)
		c, err = collect(ctx, s, newGate(), what, time.Now())
		return err
	}
	if dry {
		err = run(herald{}) // removes nothing
	} else {
		err = d.heralding(ctx, doc, s, run)
	}
	return Report{Job: JobGC, GC: &c}, err
}
