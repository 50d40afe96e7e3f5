package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// JobGC is the name of the job that collects garbage.
const JobGC = "gc"

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

// collect runs beside pushes.
func (r *Registry) collect(ctx context.Context, dry bool) (Report, error) {
	what := collectingBy(r.store.now().doc.gc(), dry)
	what.after, what.uploads = r.guard.ledgers.forget, r.guard.ledgers.uploads
	what.tell = func(gone []removal) { r.herald().removed(JobGC, gone) }
	c, err := collect(ctx, r.storage, r.gate, what, time.Now())
	r.upkeep.collected(c, err)
	return Report{Job: JobGC, GC: &c}, err
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
	var c Collected
	run := func(h herald) (err error) {
		what.tell = func(gone []removal) { h.removed(JobGC, gone) }
		c, err = collect(ctx, s, newGate(), what, time.Now())
		return err
	}
	if dry {
		err = run(herald{}) // removes nothing, and tells nobody
	} else {
		err = d.heralding(doc, run)
	}
	return Report{Job: JobGC, GC: &c}, err
}
