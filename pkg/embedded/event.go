package embedded

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"

	"github.com/distribution/distribution/v3/notifications"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

const queueDir = "webhooks" // below ownDir

// openQueue opens what webhooks of a data directory are still to be told.
func openQueue(data string, logger *slog.Logger) (*webhook.Queue, error) {
	q, err := webhook.OpenQueue(filepath.Join(data, ownDir, queueDir), logger)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, remedy(err, data))
	}
	return q, nil
}

// newWebhooks makes what tells the webhooks of the state.
func newWebhooks(q *webhook.Queue, logger *slog.Logger, state func() *snapshot, base func() string) *webhook.Engine {
	return webhook.New(webhook.Options{
		Queue: q, Logger: logger, URL: base,
		Hooks: func(namespace string) []webhook.Hook { return state().hooks[namespace] },
	})
}

// eventOf is the event that a request made, if any: a manifest pushed, pulled
// (a HEAD is no pull) or deleted.
func eventOf(rec *record, q *http.Request, answer http.Header, base string) (webhook.Event, bool) {
	ok := rec.target.of == "manifest"
	action := rec.target.action(q.Method)
	switch q.Method {
	case http.MethodPut:
		ok = ok && rec.status == http.StatusCreated
	case http.MethodGet:
		ok = ok && rec.status == http.StatusOK
	case http.MethodDelete:
		ok = ok && rec.status == http.StatusAccepted
	default:
		ok = false
	}
	if !ok {
		return webhook.Event{}, false
	}
	e := webhook.NewEvent(action, rec.state.rules.Namespace(rec.target.repository))
	switch q.Method {
	case http.MethodPut:
		e.Target.MediaType, e.Target.Size = q.Header.Get("Content-Type"), rec.received
	case http.MethodGet:
		e.Target.MediaType, e.Target.Size = answer.Get("Content-Type"), rec.sent
	}
	e.Target.Length = e.Target.Size
	is, err := digest.Parse(answer.Get("Docker-Content-Digest"))
	if err != nil || q.Method == http.MethodDelete {
		is = ""
	}
	e.About(rec.target.repository, rec.target.reference, is, base)
	e.Request = notifications.RequestRecord{ID: rand.Text(), Addr: q.RemoteAddr, Host: q.Host, Method: q.Method, UserAgent: clip(q.UserAgent())}
	e.Actor.Name = rec.account()
	return e, true
}

// checkWebhook refuses what the registry cannot keep of a webhook.
func checkWebhook(key schema.Key, spec *schema.Webhook) error {
	invalid := func(why string) error { return fmt.Errorf("%s: %w: %s", key, ErrInvalid, why) }
	ns, ok := key.Namespace()
	if !ok {
		return invalid("a webhook belongs to a namespace")
	}
	if err := namespaceName(ns); err != nil {
		return err
	}
	if spec.Auth != nil {
		return invalid("auth is kept apart from the object")
	}
	switch unsupported, wrong := webhook.Check(spec); {
	case wrong != "":
		return invalid(wrong)
	case unsupported != "":
		return fmt.Errorf("%s: %s: %w", key, unsupported, ErrUnsupported)
	}
	return nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
