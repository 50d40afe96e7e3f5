package webhook

import (
	"crypto/rand"
	"encoding/json"
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

// Event is what happened to a manifest, as webhooks are told.
type Event struct {
	notifications.Event
	Namespace string // that decides for the repository
}

// NewEvent is an event of now: push, pull or delete.
func NewEvent(action, namespace string) Event {
	e := Event{Namespace: namespace}
	e.ID, e.Timestamp, e.Action = rand.Text(), time.Now().UTC(), action
	return e
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
	// FormatDefault is Distribution's envelope.
	FormatDefault     = "default"
	formatCloudEvents = "cloudevents"
	cloudEventsType   = "application/cloudevents+json"
)

// About fills in what the event is about; is, where it is known, is the digest
// that the reference stands for.
func (e *Event) About(repository, reference string, is digest.Digest, base string) {
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
func wants(spec *schema.Webhook, e Event) bool {
	return (spec.Enabled == nil || *spec.Enabled) && slices.Contains(spec.Events, e.Action)
}

// encode writes the event as the webhook's format has it.
func (e Event) encode(spec *schema.Webhook, base string) (contentType, body string, err error) {
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

// digestOrTag splits a reference.
func digestOrTag(reference string) (digest.Digest, string) {
	if d, err := digest.Parse(reference); err == nil {
		return d, ""
	}
	return "", reference
}

// Check says of a webhook what no engine can do, or what is wrong with it; both
// are "" where nothing is.
func Check(spec *schema.Webhook) (unsupported, wrong string) {
	u, err := url.Parse(value(spec.URL))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "", "url is not the address of a web server"
	case u.User != nil:
		return "", "url holds a password; put it into auth"
	}
	for _, e := range spec.Events {
		if !slices.Contains([]string{"push", "pull", "delete"}, e) {
			return "events: " + strconv.Quote(e), ""
		}
	}
	if f := value(spec.Format); f != "" && f != FormatDefault && f != formatCloudEvents {
		return "format: " + strconv.Quote(f), ""
	}
	return "", ""
}

// Complete returns a copy with everything said that a webhook has: what was left
// out is empty.
func Complete(spec *schema.Webhook) *schema.Webhook {
	c := *spec
	c.Events = schema.NewSet(spec.Events...)
	if c.Description == nil {
		c.Description = new("")
	}
	if c.Sign == nil {
		c.Sign = new(false)
	}
	if c.Insecure == nil {
		c.Insecure = new(false)
	}
	if c.Format == nil {
		c.Format = new(FormatDefault)
	}
	if c.Enabled == nil {
		c.Enabled = new(true)
	}
	return &c
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
