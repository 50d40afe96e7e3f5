package main

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// whileLocked is how often a mirror that is due asks whether who writes to the registry is
// through.
const whileLocked = 2 * time.Second

// scheduled runs the mirrors of a mode by their schedules, one after the other, each as
// `ocisync run mirror` does. What was due while it did not run is not made up for.
type scheduled struct {
	o    *options
	cfg  *schema.Config // as it could be read last
	due  map[string]dueMirror
	said map[string]string // the last failure of each mirror; of the mode that of ""
}

// dueMirror is when a mirror runs next.
type dueMirror struct {
	schedule, zone string
	at             time.Time
}

func (o *options) scheduled(cfg *schema.Config) *scheduled {
	return &scheduled{o: o, cfg: cfg, due: map[string]dueMirror{}, said: map[string]string{}}
}

// timedMirrors lists the mirrors of a mode that have a schedule, sorted by name, and when
// each runs after a time.
func timedMirrors(cfg *schema.Config, after time.Time) (names []string, due map[string]dueMirror) {
	due = map[string]dueMirror{}
	for _, r := range cfg.Desired.Resources {
		spec, ok := r.Spec.(*schema.Mirror)
		if !ok || spec.Schedule == nil {
			continue
		}
		d := dueMirror{schedule: *spec.Schedule, zone: "UTC"}
		if spec.Zone != nil {
			d.zone = *spec.Zone
		}
		if d.at = embedded.Next(d.schedule, d.zone, after); !d.at.IsZero() {
			names, due[r.Key.Name] = append(names, r.Key.Name), d
		}
	}
	return names, due
}

// Attend implements [providers.Attendant].
func (s *scheduled) Attend(ctx context.Context) (time.Duration, error) {
	cfg, err := s.o.config()
	if err == nil {
		s.cfg = cfg
	}
	s.fails("", err)
	again := lookAgain
	names, fresh := timedMirrors(s.cfg, time.Now())
	for name, d := range s.due {
		if now, ok := fresh[name]; ok && now.schedule == d.schedule && now.zone == d.zone {
			fresh[name] = d
		}
	}
	s.due = fresh
	for _, name := range names {
		if d := s.due[name]; !time.Now().Before(d.at) && ctx.Err() == nil {
			err := s.run(ctx, name)
			if d.at = embedded.Next(d.schedule, d.zone, time.Now()); errors.Is(err, state.ErrLocked) {
				d.at = time.Now().Add(whileLocked)
			} else if ctx.Err() == nil {
				s.fails(name, err)
			}
			s.due[name] = d
		}
	}
	for _, d := range s.due {
		again = min(again, time.Until(d.at))
	}
	return max(again, 0), nil
}

// fails says that a mirror failed, where it did not fail so before; "" is the mode.
func (s *scheduled) fails(name string, err error) {
	now := ""
	if err != nil {
		now = err.Error()
	}
	switch {
	case now == "" || now == s.said[name]:
	case name == "":
		s.o.logger().Error("the mode's files cannot be used; mirrors run as they were declared before", "mode", s.cfg.Mode, "error", err)
	default:
		s.o.logger().Error("a mirror failed by its schedule, and is tried again at its next time", "mirror", name, "next", embedded.Next(s.due[name].schedule, s.due[name].zone, time.Now()), "error", err)
	}
	s.said[name] = now
}

// run runs one mirror, and says what it did.
func (s *scheduled) run(ctx context.Context, name string) error {
	o := options{streams: s.o.streams, modes: s.o.modes, mode: s.o.mode, hostFile: s.o.hostFile, output: "text", verbose: s.o.verbose}
	usual := debug.SetGCPercent(smallGC) // as a session has it
	defer debug.SetGCPercent(usual)
	_, err := o.doMirrors(ctx, []string{name}, false, func(m mirrored) {
		if len(m.Copied)+len(m.Deleted)+len(m.LetGo) > 0 {
			o.say("by its schedule: %s", strings.TrimSpace(m.text()))
		}
	})
	return err
}
