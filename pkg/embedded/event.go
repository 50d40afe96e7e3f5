package embedded

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/notifications"
	gevents "github.com/docker/go-events"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/schema"
)

// event is what happened to a manifest, as webhooks are told.
type event struct {
	notifications.Event
	namespace string
}

// cloudEvent is an event in the JSON format of CloudEvents 1.0.
type cloudEvent struct {
	Specversion     string         `json:"specversion"`
	ID              string         `json:"id"`
	Source          string         `json:"source"`
	Type            string         `json:"type"`
	Subject         string         `json:"subject"`
	Time            time.Time      `json:"time"`
	DataContentType string         `json:"datacontenttype"`
	Data            cloudEventData `json:"data"`
}

type cloudEventData struct {
	Action     string `json:"action"`
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"digest,omitempty"`
	MediaType  string `json:"mediaType,omitempty"`
	Size       int64  `json:"size,omitempty"`
	URL        string `json:"url,omitempty"`
	Account    string `json:"account"`
}

const (
	formatDefault     = "default" // Distribution's envelope
	formatCloudEvents = "cloudevents"
	cloudEventsType   = "application/cloudevents+json"
)

// eventOf is the event that a request made, if any: a manifest pushed, pulled
// (a HEAD is no pull) or deleted.
func eventOf(rec *record, q *http.Request, answer http.Header, base string) (event, bool) {
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
		return event{}, false
	}
	e := event{namespace: rec.state.rules.Namespace(rec.target.repository)}
	e.ID, e.Timestamp, e.Action = rand.Text(), time.Now().UTC(), action
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
	e.about(rec.target.repository, rec.target.reference, is, base)
	e.Request = notifications.RequestRecord{ID: rand.Text(), Addr: q.RemoteAddr, Host: q.Host, Method: q.Method, UserAgent: clip(q.UserAgent())}
	e.Actor.Name = rec.account()
	return e, true
}

// about fills in what the event is about; is, where it is known, is the digest
// that the reference stands for.
func (e *event) about(repository, reference string, is digest.Digest, base string) {
	e.Target.Repository = repository
	e.Target.Digest, e.Target.Tag = digestOrTag(reference)
	if is != "" {
		e.Target.Digest = is
	}
	if e.Target.Digest != "" {
		e.Target.URL = base + "/v2/" + repository + "/manifests/" + e.Target.Digest.String()
	}
	e.Source.Addr = strings.TrimPrefix(strings.TrimPrefix(base, "https://"), "http://")
}

// wants reports whether a webhook is to be told of the event.
func wants(spec *schema.Webhook, e event) bool {
	return (spec.Enabled == nil || *spec.Enabled) && slices.Contains(spec.Events, e.Action)
}

// encode writes the event as the webhook's format has it.
func (e event) encode(spec *schema.Webhook, base string) (contentType, body string, err error) {
	if spec.Format != nil && *spec.Format == formatCloudEvents {
		t := e.Target
		subject := t.Repository
		if t.Tag != "" {
			subject += ":" + t.Tag
		} else {
			subject += "@" + t.Digest.String()
		}
		b, err := json.Marshal(cloudEvent{
			Specversion: "1.0", ID: e.ID, Source: base, Type: "io.ocisync.manifest." + e.Action, Subject: subject,
			Time: e.Timestamp, DataContentType: "application/json",
			Data: cloudEventData{e.Action, t.Repository, t.Tag, t.Digest.String(), t.MediaType, t.Size, t.URL, e.Actor.Name},
		})
		return cloudEventsType, string(b), err
	}
	b, err := json.Marshal(notifications.Envelope{Events: []gevents.Event{e.Event}})
	return notifications.EventsMediaType, string(b), err
}

// checkWebhook refuses what the registry cannot keep of a webhook.
func checkWebhook(key schema.Key, spec *schema.Webhook) error {
	unsupported := func(field string) error { return fmt.Errorf("%s: %s: %w", key, field, ErrUnsupported) }
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
	u, err := url.Parse(value(spec.URL))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return invalid("url is not the address of a web server")
	case u.User != nil:
		return invalid("url holds a password; put it into auth")
	}
	for _, e := range spec.Events {
		if !slices.Contains([]string{"push", "pull", "delete"}, e) {
			return unsupported("events: " + strconv.Quote(e))
		}
	}
	if f := value(spec.Format); f != "" && f != formatDefault && f != formatCloudEvents {
		return unsupported("format: " + strconv.Quote(f))
	}
	return nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
