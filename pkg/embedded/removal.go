package embedded

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/notifications"

	"github.com/ocisync/ocisync/pkg/webhook"
)

// removal is a tag, or a manifest by its digest, that a job removed or could
// not.
type removal struct {
	repository, reference string
	err                   error
}

// herald tells of what jobs remove as of what users delete: by a line of the
// audit log, of account ocisync, and by an event whose actor is the job.
type herald struct {
	state func() *snapshot
	audit *audit
	hooks *webhook.Engine
	base  func() string // the registry's URL
}

func (r *Registry) herald() herald { return herald{r.store.now, r.audit, r.hooks, r.url} }

// removed tells of what a job did. Call it while nobody waits.
func (h herald) removed(job string, list []removal) {
	at := h.state()
	lines := make([]AuditLine, 0, len(list))
	for _, x := range list {
		line := AuditLine{
			Time: h.audit.now().UTC().Round(time.Millisecond), Account: identity{self: true}.account(), Address: "local",
			Action: "delete", Repository: x.repository, Reference: x.reference, Result: "ok",
		}
		if x.err != nil {
			line.Result = "failed"
		} else if namespace := at.rules.Namespace(x.repository); len(at.hooks[namespace]) > 0 {
			h.hooks.Tell(removalEvent(job, namespace, x, h.base())) //nolint:errcheck // it was logged, and the tag is gone
		}
		lines = append(lines, line)
	}
	h.audit.write(at.audit, lines...)
}

// removalEvent is what a webhook is told of a removal: what it would be told
// had a user sent the request.
func removalEvent(job, namespace string, x removal, base string) webhook.Event {
	e := webhook.NewEvent("delete", namespace)
	e.About(x.repository, x.reference, "", base)
	e.Request = notifications.RequestRecord{ID: rand.Text(), Method: http.MethodDelete}
	e.Actor.Name = job
	return e
}

// heralding runs a job of a directory that nobody serves with a herald of its
// own: what webhooks are to be told waits until somebody does.
func (d *Directory) heralding(doc document, run func(herald) error) error {
	logger := slog.New(slog.DiscardHandler)
	deliveries, err := openQueue(d.data, logger)
	if err != nil {
		return err
	}
	at := compile(doc, "", nil)
	state := func() *snapshot { return at }
	lost := 0
	base := func() string { return d.URL }
	h := herald{state, newAudit(logger, func(lines int) { lost += lines }), newWebhooks(deliveries, logger, state, base), base}
	err = errors.Join(run(h), h.audit.close())
	if lost > 0 {
		err = errors.Join(err, errors.New("what was removed could not be written into the audit log; check audit.log of the mode"))
	}
	return err
}
