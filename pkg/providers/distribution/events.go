package distribution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"

	yaml "go.yaml.in/yaml/v3"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// Distribution notifies endpoints of config.yml of all that happens in it. One of
// them, of the name ocisync, is the receiver beside the token service, and what
// webhooks are told comes from there. A plan shows of it, as a value of the
// settings, that it is there: the rest is between the registry and ocisync.
const (
	endpointName  = "ocisync"
	endpointsPath = "notifications.endpoints"
	notifyPath    = endpointsPath + "." + endpointName
	notifyOn      = `"on"`
)

// endpoint is ocisync's, as it stands in config.yml.
type endpoint struct {
	Name      string              `json:"name" yaml:"name"`
	URL       string              `json:"url" yaml:"url"`
	Headers   map[string][]string `json:"headers" yaml:"headers"`
	Timeout   string              `json:"timeout" yaml:"timeout"`
	Threshold int                 `json:"threshold" yaml:"threshold"`
	Backoff   string              `json:"backoff" yaml:"backoff"`
	// IgnoredMediaTypes are those of blobs, of which webhooks are told nothing.
	IgnoredMediaTypes []string `json:"ignoredmediatypes" yaml:"ignoredmediatypes"`
}

func endpointOf(box webhook.Inbox) endpoint {
	return endpoint{
		Name: endpointName, URL: "http://" + box.Listen + "/", Headers: map[string][]string{"Authorization": {"Bearer " + box.Secret}},
		Timeout: "10s", Threshold: 3, Backoff: "1s", IgnoredMediaTypes: []string{"application/octet-stream"},
	}
}

// notified is the node of ocisync's endpoint and its place, -1 for none.
func (d *document) notified() (list *yaml.Node, at int) {
	list = d.get(endpointsPath)
	if list == nil || list.Kind != yaml.SequenceNode {
		return list, -1
	}
	return list, slices.IndexFunc(list.Content, func(n *yaml.Node) bool {
		name := child(n, "name")
		return name != nil && name.Value == endpointName
	})
}

// posts says where to a document has the registry post with a secret, "" for nowhere.
func (d *document) posts(secret string) (url string) {
	list, at := d.notified()
	var have endpoint
	if at < 0 || list.Content[at].Decode(&have) != nil || !slices.Equal(have.Headers["Authorization"], []string{"Bearer " + secret}) {
		return ""
	}
	return have.URL
}

// notifies reports whether a document has the registry post to an inbox.
func (d *document) notifies(box webhook.Inbox) bool {
	list, at := d.notified()
	if at < 0 || box.Listen == "" {
		return false
	}
	node := *list.Content[at]
	node.Content = slices.Clone(node.Content)
	if i := slices.IndexFunc(node.Content, func(n *yaml.Node) bool { return n.Value == "disabled" }); i >= 0 && i%2 == 0 && node.Content[i+1].Value == "false" {
		node.Content = slices.Delete(node.Content, i, i+2) // it is as if it were not there
	}
	have, errA := nodeJSON(&node)
	text, errB := json.Marshal(endpointOf(box))
	want, errC := schema.CanonicalJSON(text)
	return errors.Join(errA, errB, errC) == nil && have == want
}

// notify has the registry post to an inbox.
func (d *document) notify(box webhook.Inbox) error {
	text, err := json.Marshal(endpointOf(box))
	if err != nil {
		return err
	}
	list, at := d.notified()
	switch {
	case list == nil || list.Tag == "!!null":
		return d.set(endpointsPath, "["+string(text)+"]")
	case list.Kind != yaml.SequenceNode:
		return fmt.Errorf("%s: line %d has a value in the place of a list; take it out", endpointsPath, list.Line)
	}
	node, err := jsonNode(text)
	if err != nil {
		return err
	}
	list.Style &^= yaml.FlowStyle
	if at < 0 {
		list.Content = append(list.Content, node)
	} else {
		list.Content[at] = node
	}
	return nil
}

// unnotify takes ocisync's endpoint out.
func (d *document) unnotify() (changed bool) {
	list, at := d.notified()
	if at < 0 {
		return false
	}
	list.Content = slices.Delete(list.Content, at, at+1)
	if len(list.Content) > 0 {
		return true
	}
	d.drop(endpointsPath)
	if n := d.get("notifications"); n != nil && len(n.Content) == 0 {
		d.drop("notifications")
	}
	return true
}

// inboxed reports whether webhooks can be had: where ocisync runs the registry, and
// the token service beside it.
func (p *Provider) inboxed() bool {
	return p.accounts != nil && p.place.Data != "" && p.Capabilities().Find(schema.KindWebhook, "").Support != schema.Unsupported
}

// inboxFile is where the receiver finds its address and secret.
func (p *Provider) inboxFile() string { return webhook.InboxFile(p.place.Data) }

// host is the address by which the registry reaches this host.
func (p *Provider) host(ctx context.Context) (address, why string, err error) {
	address, why, err = providers.HostOf(ctx, p.process, p.registry.Driver())
	if err != nil {
		err = &providers.Error{Registry: p.registry.URL, Doing: "looking for the address that it notifies", Err: err}
	}
	return address, why, err
}

// deaf says why the registry would notify nobody, or "". From another host it is not
// asked: the engine there is not here.
func (p *Provider) deaf(ctx context.Context) (why string, err error) {
	if away, err := p.away(ctx); err != nil || away {
		return "", err
	}
	if _, why, err = p.host(ctx); why != "" {
		why = "webhooks: " + why
	}
	return why, err
}

// inbox is the one there is; one whose address a registry in a container does not
// reach any more is none.
func (p *Provider) inbox(ctx context.Context) (webhook.Inbox, error) {
	if !p.inboxed() {
		return webhook.Inbox{}, nil
	}
	box, err := webhook.ReadInbox(p.inboxFile())
	if err != nil {
		return box, p.configError("reading settings", err)
	}
	if box.Listen == "" {
		return box, nil
	}
	host, why, err := p.host(ctx)
	if err != nil || why != "" || host != "" && host != box.Host() {
		return webhook.Inbox{}, err
	}
	return box, nil
}

// follow gives the inbox, and the endpoint that posts to it, another address where
// the network of the registry's container has one, which is made anew after each
// ocisync down, and another secret too where both came with a copy of another
// directory. It reports whether the document is another now.
func (p *Provider) follow(ctx context.Context, doc *document) (changed bool, err error) {
	if !p.inboxed() {
		return false, nil
	}
	box, err := webhook.ReadInbox(p.inboxFile())
	if err != nil {
		return false, p.configError("starting the registry", err)
	}
	if box.Listen == "" {
		return false, nil
	}
	host, why, err := p.host(ctx)
	if err != nil {
		return false, err
	}
	if host == "" { // a plan says why
		if why != "" {
			p.logger.Warn("webhooks are told nothing", "registry", p.registry.URL, "reason", why)
		}
		return false, nil
	}
	former := box.Secret
	moved := box.Move(host)
	if box.Copied(ctx) {
		address, err := p.mailAddress(host)
		if err != nil {
			return false, err
		}
		box.Renew(address)
		moved = true
	}
	if !moved && p.registry.Driver() != schema.DriverDocker {
		return false, nil
	}
	if moved {
		if err := box.Save(p.inboxFile()); err != nil {
			return false, p.configError("starting the registry", err)
		}
	}
	if url := doc.posts(former); url == "" || url == endpointOf(box).URL && former == box.Secret {
		return false, nil
	}
	if err := doc.notify(box); err != nil {
		return false, p.configError("starting the registry", err)
	}
	return true, nil
}

// provideInbox makes one where there is none.
func (p *Provider) provideInbox(ctx context.Context) (webhook.Inbox, error) {
	box, err := p.inbox(ctx)
	if err != nil || box.Listen != "" {
		return box, err
	}
	host, why, err := p.host(ctx)
	switch {
	case err != nil:
		return box, err
	case why != "":
		return box, fmt.Errorf("webhooks: %s", why)
	case host == "": // it gets the right one when it is started
		host = providers.Loopback
	}
	if err := p.provide(); err != nil {
		return box, err
	}
	address, err := p.mailAddress(host)
	if err != nil {
		return box, err
	}
	box = webhook.NewInbox(address)
	if err := box.Save(p.inboxFile()); err != nil {
		return box, p.configError("writing settings", err)
	}
	return box, nil
}

// mailAddress is a free one of a host, above the registry's port.
func (p *Provider) mailAddress(host string) (string, error) {
	_, text, err := net.SplitHostPort(p.place.Listen)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return "", err
	}
	return webhook.FreeAddress(host, port+1), nil
}

// leaves are a document's, of which ocisync's endpoint is one that says whether
// it is as it shall be, and what is not ocisync's in auth another.
func (p *Provider) leaves(ctx context.Context, d *document) (values schema.Values, secrets []string, err error) {
	box, err := p.inbox(ctx)
	if err != nil {
		return nil, nil, err
	}
	b, err := d.bytes()
	if err != nil {
		return nil, nil, err
	}
	bare, err := parseDocument(b)
	if err != nil {
		return nil, nil, err
	}
	bare.unnotify()
	values, secrets, err = bare.leaves()
	if err != nil {
		return nil, nil, err
	}
	if d.notifies(box) {
		values = append(values, schema.Value{Path: notifyPath, JSON: notifyOn})
	}
	if p.ownsLogin() {
		values = append(values, p.othersValue(d))
	}
	slices.SortFunc(values, byPath)
	return values, secrets, nil
}

// notifying adds to the desired settings that the registry notifies ocisync,
// where a webhook is desired.
func (p *Provider) notifying(st schema.State, values schema.Values) schema.Values {
	values = slices.DeleteFunc(values, func(v schema.Value) bool { return v.Path == notifyPath })
	if p.inboxed() && slices.ContainsFunc(st.Resources, func(r schema.Resource) bool { return r.Key.Kind == schema.KindWebhook }) {
		values = append(values, schema.Value{Path: notifyPath, JSON: notifyOn})
		slices.SortFunc(values, byPath)
	}
	return values
}

// webhooksLeft are those that the token service keeps.
func (p *Provider) webhooksLeft(ctx context.Context) ([]schema.Resource, error) {
	st, err := p.accounts.Read(ctx, schema.ScopeOf(schema.KindWebhook))
	return slices.DeleteFunc(st.Resources, func(r schema.Resource) bool { return r.Key.Kind != schema.KindWebhook }), err
}

// last marks the changes after which no webhook is left.
func (p *Provider) last(ctx context.Context, changes []plan.Change, verdicts []providers.Verdict) error {
	var gone []int
	made := false
	for i, c := range changes {
		if c.Key.Kind == schema.KindWebhook {
			if c.Action == plan.Delete {
				gone = append(gone, i)
			} else {
				made = true
			}
		}
	}
	if len(gone) == 0 || made || !p.inboxed() {
		return nil
	}
	left, err := p.webhooksLeft(ctx)
	if err != nil || len(left) > len(gone) {
		return err
	}
	_, running, err := p.running(ctx)
	if err != nil {
		return err
	}
	for _, i := range gone {
		if running {
			verdicts[i].Effect = plan.Restart
		}
	}
	verdicts[gone[0]].Notes = append(verdicts[gone[0]].Notes, "no webhook is left: the registry notifies ocisync no more")
	return nil
}

// unnotify has the registry notify ocisync no more once no webhook is left.
func (p *Provider) unnotify(ctx context.Context) error {
	left, err := p.webhooksLeft(ctx)
	if err != nil || len(left) > 0 {
		return err
	}
	now, err := p.file()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && now.doc.unnotify() {
		release, err := p.alone(ctx)
		if err != nil {
			return &providers.Error{Registry: p.registry.URL, Err: err, Remedy: "apply again when that has ended"}
		}
		defer release()
		next, err := now.doc.bytes()
		if err != nil {
			return p.configError("writing settings", err)
		}
		if err := p.takeOver(context.WithoutCancel(ctx), now.bytes, next); err != nil {
			return err
		}
	}
	return webhook.Inbox{}.Save(p.inboxFile())
}
