package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/distribution/distribution/v3/notifications"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/webhook"
)

// removal is a tag, or a manifest by its digest, that a job removes, removed or
// could not.
type removal struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference"`
	err        error
}

// tellAgain is how often what could not be told is tried again.
const tellAgain = 10 * time.Second

// herald tells of what jobs remove as of what users delete: by a line of the
// audit log, of account ocisync, and by an event whose actor is the job. It does
// so at least once, wherever the process is killed: while nobody else may write
// there, a job announces what it is about to remove, removes it, says what is gone, and
// has that told. What cannot be told, for want of room for the audit log or the queue,
// is told when there is, whether or not somebody has put it anew by then. Of what
// a process had announced that was killed, the next start tells what is gone, and takes
// what is there for not removed. A removal is queued before a push that puts the same
// tag anew can be, as far as there is room.
type herald struct {
	state   func() *snapshot
	audit   *audit
	hooks   *webhook.Engine
	base    func() string // the registry's URL
	storage *storage.Storage
	book    *removals
	logger  *slog.Logger
}

func (r *Registry) herald() herald {
	return herald{r.store.now, r.audit, r.hooks, r.url, r.storage, r.removals, r.logger}
}

// announce writes down what a job is about to remove. A job goes on where it cannot,
// since a full disk needs it.
func (h herald) announce(job string, list []removal) {
	if at := h.state(); at.audit == nil && len(at.hooks) == 0 {
		return
	}
	if err := h.book.announce(job, list); err != nil {
		h.logger.Error("what is removed now cannot be written down first; if this process dies before it is told, nobody will be", "job", job, "error", err)
	}
}

// removed tells of what became of what was announced last: what is not listed was not
// touched.
func (h herald) removed(ctx context.Context, list []removal) {
	ctx = context.WithoutCancel(ctx)
	became := map[place]outcome{}
	for _, x := range list {
		is := gone
		if x.err != nil {
			if there, err := h.there(ctx, place{x.Repository, x.Reference}); there || err != nil {
				is = failed
			}
		}
		became[place{x.Repository, x.Reference}] = is
	}
	h.tell(h.book.settle(became, h.audit.now()))
}

// tell tells what it can of entries, and has the book keep the rest. A queue that is
// full is no error: its webhook's deliveries come first.
func (h herald) tell(list []*entry) {
	at := h.state()
	var lines []AuditLine
	var events []*webhook.Untold
	of := map[*webhook.Untold]*entry{}
	for _, x := range list {
		if !x.Audited {
			line := AuditLine{
				Time: x.Time.UTC().Round(time.Millisecond), Account: identity{self: true}.account(), Address: "local",
				Action: "delete", Repository: x.Repository, Reference: x.Reference, Result: "ok",
			}
			if x.Outcome == failed {
				line.Result = "failed"
			}
			lines = append(lines, line)
		}
		namespace := at.rules.Namespace(x.Repository)
		if x.Outcome != gone || x.Queued || len(at.hooks[namespace]) == 0 {
			x.Queued = true
			continue
		}
		u := &webhook.Untold{Event: removalEvent(namespace, *x, h.base()), Told: x.Told}
		events, of[u] = append(events, u), x
	}
	failed := h.hooks.TellOrKeep(events)
	for _, u := range events {
		of[u].Told, of[u].Queued = u.Told, !u.Left
	}
	written := h.audit.writeOrKeep(at.audit, lines)
	for _, x := range list {
		x.Audited = x.Audited || written
	}
	if failed != nil || !written {
		h.logger.Error("what was removed cannot be told now, and will be once it can", "removals", len(list), "file", h.book.file(), "error", failed)
	}
	lost, err := h.book.keep(failed != nil || !written)
	if lost > 0 {
		h.logger.Error("of what was removed so much cannot be told that the oldest will not be", "removals", lost)
	}
	if err != nil {
		h.logger.Error("what was removed and told may be told again", "error", err)
	}
}

// tellRest tells what waits, and returns when to look again. The caller sees to it that
// no job runs.
func (h herald) tellRest(ctx context.Context) time.Duration {
	if err := h.resume(ctx, false); err != nil {
		h.logger.Error("webhooks and the audit log wait for news", "error", err)
	}
	if len(h.book.untold()) > 0 {
		return tellAgain
	}
	return lookAgain
}

// resume tells what was not told yet, and first, of what a process had announced that
// was killed, finds out what is gone. alone: nobody may write meanwhile, so that what
// such a process left of a tag can go.
func (h herald) resume(ctx context.Context, alone bool) error {
	err := h.book.load()
	if err == nil {
		err = h.book.review(func(at place) (is outcome, err error) {
			there, err := h.there(ctx, at)
			switch {
			case err != nil:
				return unsure, err
			case there:
				return untouched, nil
			case alone && !isDigest(at.Reference): // what is left of a tag is no tag, and would be listed
				err = h.storage.RemoveTag(ctx, at.Repository, at.Reference)
			}
			return gone, err
		}, h.audit.now())
	}
	if list := h.book.untold(); len(list) > 0 {
		h.tell(list)
	}
	if err != nil {
		return fmt.Errorf("telling what a job removed before it was cut short: %w; the next job tries again, unless you remove %s", err, h.book.file())
	}
	return nil
}

// there reports whether clients still find what was to be removed.
func (h herald) there(ctx context.Context, x place) (there bool, err error) {
	if d, no := digest.Parse(x.Reference); no == nil {
		_, there, err = h.storage.Manifest(ctx, x.Repository, d)
		return there, err
	}
	d, err := h.storage.Tag(ctx, x.Repository, x.Reference)
	if errors.Is(err, storage.ErrDamaged) {
		return true, nil
	}
	return d != "", err
}

// removalEvent is what a webhook is told of a removal: what it would be told
// had a user sent the request.
func removalEvent(namespace string, x entry, base string) webhook.Event {
	e := webhook.NewEvent("delete", namespace)
	e.Timestamp = x.Time.UTC()
	e.About(x.Repository, x.Reference, "", base)
	e.Request = notifications.RequestRecord{ID: rand.Text(), Method: http.MethodDelete}
	e.Actor.Name = x.Job
	return e
}

// heralding runs a job of a directory that nobody serves with a herald of its
// own: what webhooks are to be told waits until somebody does.
func (d *Directory) heralding(ctx context.Context, doc document, s *storage.Storage, run func(herald) error) error {
	logger := slog.New(slog.DiscardHandler)
	deliveries, err := openQueue(d.data, logger)
	if err != nil {
		return err
	}
	at := compile(doc, "", nil)
	state := func() *snapshot { return at }
	base := func() string { return d.URL }
	h := herald{state, newAudit(logger, func(int) {}), newWebhooks(deliveries, logger, state, base), base, s, newRemovals(d.data), logger}
	if err = h.resume(ctx, true); err == nil {
		err = run(h)
	}
	err = errors.Join(err, h.audit.close())
	if n := len(h.book.untold()); n > 0 && h.book.blocked() {
		err = errors.Join(err, fmt.Errorf("of what was removed %d could not be told: make room for the audit log (audit.log of the mode) and below %s; the next job, or ocisync up, tells it", n, d.data))
	}
	return err
}

// resume tells of what a job had announced that was killed, before anything else
// changes. The caller has the lock.
func (d *Directory) resume(ctx context.Context) error {
	if d.accounts {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(d.data, ownDir, announcedFile)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	doc, err := loadDocument(d.data)
	if err != nil {
		return err
	}
	s, err := d.content(ctx)
	if err != nil {
		return err
	}
	return d.heralding(ctx, doc, s, func(herald) error { return nil })
}
