package zot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// eventsConfig is extensions.events.
type eventsConfig struct {
	Enable json.RawMessage   `json:"enable"`
	Sinks  []json.RawMessage `json:"sinks"`
}

// sink is one of Zot's, as ocisync writes it. The login is not a token: Zot
// 2.1.6 logs tokens in the clear. Without a timeout it gives up at once.
type sink struct {
	Type        string    `json:"type"`
	Address     string    `json:"address"`
	Timeout     span      `json:"timeout"`
	Credentials sinkLogin `json:"credentials"`
}

type sinkLogin struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

const (
	// sinkName is the login by which ocisync knows its own sink.
	sinkName    = "ocisync"
	sinkTimeout = span(30 * time.Second)
)

// sinkOf is the sink that posts to an inbox.
func sinkOf(box webhook.Inbox) sink {
	return sink{"http", "http://" + box.Listen + "/", sinkTimeout, sinkLogin{sinkName, box.Secret}}
}

// ours is the place of ocisync's sink, whatever it says; -1 where there is none.
func (e *eventsConfig) ours() int {
	if e == nil {
		return -1
	}
	return slices.IndexFunc(e.Sinks, func(raw json.RawMessage) bool {
		var s sink
		return json.Unmarshal(raw, &s) == nil && strings.EqualFold(s.Type, "http") && s.Credentials.Username == sinkName
	})
}

// post reports whether Zot posts to an inbox.
func (e *eventsConfig) post(box webhook.Inbox) bool {
	i := e.ours()
	if i < 0 || !truth(e.Enable, false) {
		return false
	}
	s, ok := strict[sink](e.Sinks[i])
	return ok && s == sinkOf(box)
}

// posts reports whether Zot posts with a secret, wherever to.
func (e *eventsConfig) posts(secret string) bool {
	i := e.ours()
	if i < 0 {
		return false
	}
	s, ok := strict[sink](e.Sinks[i])
	return ok && s.Credentials.Password == secret
}

// off reports whether somebody switched events off.
func (e *eventsConfig) off() bool { return e != nil && present(e.Enable) && !truth(e.Enable, false) }

// readWebhooks reads those of the inbox, unless somebody took Zot's sink for it
// out.
func (o *objects) readWebhooks() {
	if !o.conf.Extensions.Events.post(o.inbox) {
		return
	}
	for _, h := range o.inbox.Hooks {
		r := schema.Resource{Key: h.Key, Spec: webhook.Complete(h.Spec)}
		if h.Auth != "" {
			r.Unread, o.secret[h.Key] = []string{"auth"}, h.Auth
		}
		o.all[h.Key] = r
	}
}

// host is the address by which Zot reaches this host.
func (p *Provider) host(ctx context.Context) (address, why string, err error) {
	address, why, err = providers.HostOf(ctx, p.process, p.registry.Driver())
	if err != nil {
		err = p.fail(schema.Key{}, "looking for the address that it posts events to", err, "")
	}
	return address, why, err
}

// inbox is the one there is, without its address where a Zot in a container does
// not reach that any more.
func (p *Provider) inbox(ctx context.Context) (webhook.Inbox, error) {
	if p.paths.inbox == "" {
		return webhook.Inbox{}, nil
	}
	box, err := webhook.ReadInbox(p.paths.inbox)
	if err != nil {
		return box, p.unreadable(err)
	}
	if box.Listen == "" {
		return box, nil
	}
	host, why, err := p.host(ctx)
	if why != "" || host != "" && host != box.Host() {
		box.Listen = ""
	}
	return box, err
}

// follow gives the inbox, and the sink that posts to it, another address where the
// network of Zot's container has one, which is made anew after each ocisync down, and
// another secret too where both came with a copy of another directory.
func (p *Provider) follow(ctx context.Context) error {
	box, err := webhook.ReadInbox(p.paths.inbox)
	if err != nil {
		return p.unreadable(err)
	}
	if box.Listen == "" {
		return nil
	}
	host, why, err := p.host(ctx)
	if err != nil {
		return err
	}
	if host == "" { // a plan says why
		if why != "" {
			p.logger.Warn("webhooks are told nothing", "registry", p.registry.URL, "reason", why)
		}
		return nil
	}
	former := box.Secret
	moved := box.Move(host)
	if box.Copied(ctx) {
		box.Renew(p.mailAddress(host))
		moved = true
	}
	if !moved && p.registry.Driver() != schema.DriverDocker {
		return nil
	}
	text, err := files.Read(p.paths.config)
	if err != nil {
		return p.unreadable(err)
	}
	doc, conf, err := read(p.paths.config, text)
	if err != nil {
		return p.fail(schema.Key{}, "", err, "mend the file: Zot does not start with it")
	}
	events := conf.Extensions.Events
	if events.posts(former) && !events.post(box) {
		set := func(v rawJSON, path ...string) { err = errors.Join(err, doc.Set(v, path...)) }
		emitEvents(events, box, set, func(path ...string) { doc.Delete(path...) })
		if err == nil {
			err = files.Write(p.paths.config, text, doc.Bytes())
		}
	}
	if err == nil && moved {
		err = box.Save(p.paths.inbox)
	}
	if err != nil {
		return p.unreadable(err)
	}
	return nil
}

// mail is the inbox as it shall be; one without an address is none.
func (w *writer) mail(ctx context.Context) (webhook.Inbox, error) {
	next := w.s.inbox
	next.Namespaces, next.Hooks = nil, nil
	for k, r := range w.all {
		switch spec := r.Spec.(type) {
		case *schema.Namespace:
			next.Namespaces = append(next.Namespaces, k.Name)
		case *schema.Webhook:
			next.Hooks = append(next.Hooks, webhook.Posted{Key: k, Spec: spec, Auth: w.auths[k]})
		}
	}
	if len(next.Hooks) == 0 || w.p.paths.inbox == "" {
		return webhook.Inbox{}, nil
	}
	if next.Listen == "" {
		host, why, err := w.p.host(ctx)
		switch {
		case err != nil:
			return webhook.Inbox{}, err
		case why != "":
			return webhook.Inbox{}, fmt.Errorf("webhooks: %s", why)
		case host == "": // it gets the right one when it is started
			host = providers.Loopback
		}
		next.Renew(w.p.mailAddress(host))
	}
	slices.Sort(next.Namespaces)
	slices.SortFunc(next.Hooks, func(a, b webhook.Posted) int { return strings.Compare(a.Key.Name, b.Key.Name) })
	return next, nil
}

// mailAddress is a free one of a host, above Zot's port.
func (p *Provider) mailAddress(host string) string {
	_, port := p.listen()
	n, err := strconv.Atoi(port)
	if err != nil {
		n = 0
	}
	return webhook.FreeAddress(host, n+1)
}

// emitEvents gives Zot one sink that posts to the inbox, or takes it out where
// there is none. Sinks of others stay.
func emitEvents(have *eventsConfig, box webhook.Inbox, set func(rawJSON, ...string), remove func(...string)) {
	i := have.ours()
	if box.Listen == "" && i < 0 || box.Listen != "" && have.post(box) {
		return
	}
	next := []rawJSON{}
	if have != nil {
		next = append(next, have.Sinks...)
	}
	switch want := encoded(sinkOf(box)); {
	case box.Listen == "":
		next = slices.Delete(next, i, i+1)
	case i < 0:
		next = append(next, want)
	default:
		next[i] = want
	}
	if len(next) == 0 {
		remove("extensions", "events")
		return
	}
	if have == nil || !present(have.Enable) {
		set(encoded(true), "extensions", "events", "enable")
	}
	set(encoded(next), "extensions", "events", "sinks")
}

// silenced says why a webhook of this Zot would be told nothing, or "".
func (p *Provider) silenced(now *objects) string {
	if now.conf.Extensions.Events.off() {
		return fmt.Sprintf("extensions.events of %s is switched off, with the sinks it has; set enable there, or take the section out", p.paths.config)
	}
	return ""
}

// tellsFirst remarks on the first webhook and the last.
func tellsFirst(changes []plan.Change, verdicts []providers.Verdict, now *objects, st status) {
	left, first := 0, -1
	for k := range now.all {
		if k.Kind == schema.KindWebhook {
			left++
		}
	}
	had := left
	var gone []int
	for i, c := range changes {
		switch {
		case c.Key.Kind != schema.KindWebhook || verdicts[i].Refused != "":
		case c.Action == plan.Delete:
			left--
			gone = append(gone, i)
		case c.Action == plan.Create:
			left++
			if first < 0 {
				first = i
			}
		}
	}
	if had == 0 && first >= 0 {
		verdicts[first].Notes = append(verdicts[first].Notes, "is the first one: Zot gets a sink for its events, to which `ocisync up` listens while it runs")
	}
	if left > 0 {
		return
	}
	for _, i := range gone {
		if st.running {
			verdicts[i].Effect = plan.Restart
		}
	}
	if len(gone) > 0 {
		verdicts[gone[0]].Notes = append(verdicts[gone[0]].Notes, "no webhook is left: Zot's sink for its events is taken out")
	}
}

// Receiver is what tells the webhooks of a Zot that ocisync runs; nil for another,
// whose events reach no address that ocisync knows of.
func (p *Provider) Receiver(logger *slog.Logger) (*webhook.Receiver, error) {
	if p.paths.inbox == "" {
		return nil, nil
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	queue, err := webhook.OpenQueue(filepath.Join(filepath.Dir(p.paths.inbox), "webhooks"), logger)
	if err != nil {
		return nil, p.unreadable(err)
	}
	return webhook.NewReceiver(webhook.ReceiverOptions{
		Inbox: p.paths.inbox, Queue: queue, URL: p.registry.URL, Logger: logger,
		Read: func(h http.Header, body []byte) ([]webhook.Event, error) { return posted(h, body, p.registry.URL) },
	}), nil
}

// posted reads what Zot posts: a CloudEvent in the binary form, its attributes
// among the headers. Of what is neither a push nor a delete it makes nothing.
func posted(h http.Header, body []byte, base string) ([]webhook.Event, error) {
	var action string
	switch h.Get("Ce-Type") {
	case "zotregistry.image.updated":
		action = "push"
	case "zotregistry.image.deleted":
		action = "delete"
	case "":
		return nil, errors.New("it is no event of Zot's")
	default:
		return nil, nil
	}
	var data struct {
		Name, Reference, Digest, MediaType, Manifest string

		Actor   struct{ Name string }
		Request struct{ Addr, Method, UserAgent string }
	}
	if err := json.Unmarshal(body, &data); err != nil {
		return nil, errors.New("it is no event of Zot's")
	}
	name, err := reference.WithName(data.Name)
	if err != nil {
		return nil, errors.New("it names no repository")
	}
	is, err := digest.Parse(data.Digest)
	if err != nil {
		is = ""
	}
	if _, err := digest.Parse(data.Reference); err != nil {
		if _, err := reference.WithTag(name, data.Reference); err != nil {
			return nil, errors.New("it names neither a tag nor a digest")
		}
	}
	e := webhook.NewEvent(action, "")
	if id := h.Get("Ce-Id"); id != "" {
		e.ID = short(id)
	}
	if at, err := time.Parse(time.RFC3339Nano, h.Get("Ce-Time")); err == nil {
		e.Timestamp = at.UTC()
	}
	e.About(data.Name, data.Reference, is, base)
	e.Target.MediaType, e.Target.Size = short(data.MediaType), int64(len(data.Manifest))
	e.Target.Length = e.Target.Size
	e.Actor.Name = short(data.Actor.Name)
	e.Request.ID, e.Request.Addr = e.ID, short(data.Request.Addr)
	e.Request.Method, e.Request.UserAgent = short(data.Request.Method), short(data.Request.UserAgent)
	return []webhook.Event{e}, nil
}

// short bounds what a client of Zot said, which webhooks are told.
func short(s string) string {
	const most = 256
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
