package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/pkg/watch"
)

const (
	usualWait = 10 * time.Minute
	// between two looks at the inventory
	firstLook   = 500 * time.Millisecond
	slowestLook = 5 * time.Second
	// lastLook is how long the look may take that comes when the time is over.
	lastLook = 30 * time.Second
)

// leave ends an apply of which changes wait for the registry's own host, at once
// or when they were made there.
func (a *applyOptions) leave(ctx context.Context, s *session, found apply.Found, who state.Run, end ended) error {
	n := pending(end.report)
	there := fmt.Sprintf("to make them now, run there:\n  %s", a.command("apply"))
	if failed := end.report.Count(apply.Failed) - n; failed > 0 || a.wait <= 0 {
		err := outcome(end.report)
		if failed == 0 {
			err = fmt.Errorf("%s made, %s pending on the host of %s, left to what follows the same modes there (--wait waits for it); %s", count(end.report.Count(apply.Done), "change"), count(n, "change"), s.cfg.Registry.URL, there)
		}
		return a.finish(end, codedError{exitPartly, err})
	}
	if err := s.unlock(); err != nil { // whoever applies on the host may share this machine's state
		return a.finish(end, err)
	}
	a.say("%s pending on the host of %s; waiting %s for the inventory to show them", count(n, "change"), s.cfg.Registry.URL, a.wait)
	waiting, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	found, err := a.await(waiting, s, found, who.Revision)
	left := changes(found.Plan)
	stands := fmt.Sprintf("the inventory is of revision %s, and %s pending", or(s.inv.Revision, "none"), count(left, "change"))
	switch {
	case err != nil && ctx.Err() != nil:
		err = codedError{exitInterrupted, fmt.Errorf("interrupted while waiting: %s; nothing is taken back, and the host makes them when it applies", stands)}
	case err != nil && waiting.Err() != nil:
		err = codedError{exitPartly, fmt.Errorf("waited %s: %s; %s", a.wait, stands, there)}
	case err == nil:
		end.proved = true
		end.message = fmt.Sprintf("applied on its host by %s, revision %s, as recorded at %s", or(s.inv.Actor, "somebody"), or(s.inv.Revision, "none"), moment(s.inv.Time))
	}
	return a.finish(end, err)
}

// await looks at the inventory until it records the revision, or all that was
// pending: its host may be further by then. It looks once more when the time is
// over. What is found last is returned with an error too.
func (a *applyOptions) await(ctx context.Context, s *session, found apply.Found, revision string) (apply.Found, error) {
	seen := s.stored
	for every := firstLook; ; every = min(2*every, slowestLook) {
		look, over := ctx, false
		select {
		case <-ctx.Done():
			if over = errors.Is(ctx.Err(), context.DeadlineExceeded); !over {
				return found, ctx.Err()
			}
			var cancel context.CancelFunc
			look, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastLook)
			defer cancel()
		case <-time.After(every):
		}
		data, err := s.store.Load(look)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			if look.Err() == nil {
				a.say("the inventory cannot be read now: %v", err)
			}
		case !bytes.Equal(data, seen):
			seen, every = data, firstLook
			if err := s.loadInventory(look); err != nil {
				return found, err
			}
			next, err := s.cycle("").Plan(look)
			if err != nil {
				if look.Err() == nil {
					a.say("the registry cannot be looked at now: %v", err)
					seen = nil
				}
				break
			}
			found = next
			// files that are no commit's have no revision of their own
			same := revision != "" && s.inv.Revision == revision && !strings.HasSuffix(revision, watch.Dirty)
			left := changes(found.Plan)
			if left == 0 || same {
				return found, nil
			}
			a.say("the inventory is of revision %s by now, and %s pending", or(s.inv.Revision, "none"), count(left, "change"))
		}
		if over {
			return found, ctx.Err()
		}
	}
}
