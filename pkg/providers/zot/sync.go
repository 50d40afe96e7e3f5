package zot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// syncRegistry is one of extensions.sync.registries, as far as ocisync writes
// it. What holds more is left alone.
type syncRegistry struct {
	URLs         []string      `json:"urls"`
	OnDemand     bool          `json:"onDemand,omitempty"`
	PollInterval *span         `json:"pollInterval,omitempty"`
	TLSVerify    *bool         `json:"tlsVerify,omitempty"`
	Content      []syncContent `json:"content,omitempty"`
}

// tunedRegistry is an entry with what says how it is copied, and not what: it
// stays as somebody wrote it.
type tunedRegistry struct {
	syncRegistry
	CertDir               json.RawMessage `json:"certDir,omitempty"`
	CredentialHelper      json.RawMessage `json:"credentialHelper,omitempty"`
	DisableHTTP2          json.RawMessage `json:"disableHTTP2,omitempty"`
	ManifestCheckInterval json.RawMessage `json:"manifestCheckInterval,omitempty"`
	MaxIdleConnsPerHost   json.RawMessage `json:"maxIdleConnsPerHost,omitempty"`
	MaxRetries            json.RawMessage `json:"maxRetries,omitempty"`
	MaxRetryDelay         json.RawMessage `json:"maxRetryDelay,omitempty"`
	ReqConcurrent         json.RawMessage `json:"reqConcurrent,omitempty"`
	ReqPerSec             json.RawMessage `json:"reqPerSec,omitempty"`
	RetryDelay            json.RawMessage `json:"retryDelay,omitempty"`
	SyncTimeout           json.RawMessage `json:"syncTimeout,omitempty"`
}

// entryOf reads one; ok is false for what ocisync would not write, but for how
// it is copied.
func entryOf(raw []byte) (syncRegistry, bool) {
	t, ok := strict[tunedRegistry](raw)
	return t.syncRegistry, ok
}

// over is an entry in the place of another: how that is copied stays.
func (r syncRegistry) over(raw []byte) json.RawMessage {
	t, ok := strict[tunedRegistry](raw)
	if !ok {
		return encoded(r)
	}
	t.syncRegistry = r
	return encoded(t)
}

type syncContent struct {
	Prefix      string    `json:"prefix"`
	Tags        *syncTags `json:"tags,omitempty"`
	Destination string    `json:"destination,omitempty"`
}

type syncTags struct {
	Regex string `json:"regex,omitempty"`
}

// credential is an entry of sync's credentials file.
type credential struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// hostOf is the name under which sync finds a remote's credential.
func hostOf(remote *schema.Remote) string {
	if remote == nil || remote.URL == nil {
		return ""
	}
	u, err := url.Parse(*remote.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// uncopied says why nothing would be copied to this Zot, or "".
func (p *Provider) uncopied(now *objects) string {
	if now.conf.Extensions.Sync.off() {
		return fmt.Sprintf("extensions.sync of %s is switched off, with all that is copied by it; set enable there, or take the key out", p.paths.config)
	}
	return ""
}

// every reads "@every 1h"; ok is false for another schedule.
func every(schedule string) (span, bool) {
	text, ok := strings.CutPrefix(schedule, "@every ")
	if !ok {
		return 0, false
	}
	var s span
	if err := s.UnmarshalJSON([]byte(`"` + strings.TrimSpace(text) + `"`)); err != nil || s <= 0 {
		return 0, false
	}
	return s, true
}

// pulls says what sync does for a replication; nil for one that does not run.
func pulls(spec *schema.Replication, remote *schema.Remote) *syncRegistry {
	if spec.From == nil || remote == nil || remote.URL == nil || spec.Enabled != nil && !*spec.Enabled {
		return nil
	}
	if spec.Trigger == nil {
		return nil
	}
	interval, ok := every(spec.Trigger.Schedule)
	if !ok { // by hand: Zot cannot be told to, so it does nothing
		return nil
	}
	r := syncFrom(remote)
	r.PollInterval = &interval
	c := syncContent{Prefix: everything}
	if m := spec.Match; m != nil {
		if m.Repositories != nil && *m.Repositories != "" {
			c.Prefix = *m.Repositories
		}
		if m.Tags != nil && *m.Tags != "" {
			c.Tags = &syncTags{Regex: regexOf(*m.Tags)}
		}
	}
	if spec.Namespace != nil && *spec.Namespace != "" {
		c.Destination = "/" + *spec.Namespace
	}
	r.Content = []syncContent{c}
	return r
}

// caches says what sync does for a namespace that caches a remote.
func caches(namespace string, remote *schema.Remote) *syncRegistry {
	if remote == nil || remote.URL == nil {
		return nil
	}
	r := syncFrom(remote)
	r.OnDemand = true
	r.Content = []syncContent{{Prefix: everything, Destination: "/" + namespace}}
	return r
}

func syncFrom(remote *schema.Remote) *syncRegistry {
	verify := remote.TLS == nil || remote.TLS.Insecure == nil || !*remote.TLS.Insecure
	return &syncRegistry{URLs: []string{*remote.URL}, TLSVerify: &verify}
}

// readFoundSync reads the entries that somebody wrote by hand, as far as they are
// such as ocisync would write: what says more is nobody's.
func (o *objects) readFoundSync() {
	s := o.conf.Extensions.Sync
	if s == nil {
		return
	}
	kept := map[schema.Key]schema.Resource{}
	for k, spec := range o.kept {
		kept[k] = schema.Resource{Key: k, Spec: spec}
	}
	known := map[int]bool{}
	for _, r := range append(ours(o.all), ours(kept)...) { // also what somebody changed of ours
		if i := s.has(r); i >= 0 {
			known[i] = true
		} else if i := s.like(r); i >= 0 {
			known[i] = true
		}
	}
	for i, raw := range s.Registries {
		if r, ok := entryOf(raw); ok && !known[i] && len(r.URLs) == 1 && len(r.Content) == 1 {
			o.readFound(r, i)
		}
	}
}

// readFound reads one, unless what it becomes would not be written just so.
func (o *objects) readFound(r syncRegistry, at int) {
	name, remote := o.source(r)
	into, ok := strings.CutPrefix(r.Content[0].Destination, "/")
	if remote == nil || ok != validNamespace(into) || !ok && into != "" {
		return
	}
	key := schema.Key{Kind: schema.KindRemote, Name: name}
	add := func() {
		if _, known := o.all[key]; !known {
			res := schema.Resource{Key: key, Spec: remote}
			if have, ok := o.credentials[hostOf(remote)]; ok {
				remote.Login, res.Unread, o.secret[key] = o.login(remote, have), []string{"login.password"}, have.Password
			}
			o.all[key] = res
		}
		if into != "" && !o.namespaces[into] {
			o.namespaces[into] = true
			o.put(schema.KindNamespace, into, &schema.Namespace{Description: new("")})
		}
	}
	if r.OnDemand {
		if o.conf.Extensions.Sync.has(caches(into, remote)) != at || into == "" {
			return
		}
		if ns, was := o.all[schema.Key{Kind: schema.KindNamespace, Name: into}].Spec.(*schema.Namespace); was && ns.ProxyOf != nil {
			return
		}
		add()
		ns, _ := o.all[schema.Key{Kind: schema.KindNamespace, Name: into}].Spec.(*schema.Namespace)
		ns.ProxyOf = &name
		return
	}
	c := r.Content[0]
	spec := &schema.Replication{From: &name, Match: &schema.Match{}}
	if into != "" {
		spec.Namespace = &into
	}
	if c.Prefix != everything {
		spec.Match.Repositories = &c.Prefix
	}
	if c.Tags != nil {
		glob, ok := globOf(c.Tags.Regex)
		if !ok || glob == "" {
			return
		}
		spec.Match.Tags = &glob
	}
	if spec.Match.Repositories == nil && spec.Match.Tags == nil {
		spec.Match = nil
	}
	if r.PollInterval != nil {
		if d, ok := r.PollInterval.duration(); !ok || d <= 0 {
			return
		}
		spec.Trigger = &schema.Trigger{Schedule: "@every " + r.PollInterval.String()}
	}
	as := schema.Key{Kind: schema.KindReplication, Name: name + slug(c.Prefix) + slug(into)}
	if _, taken := o.all[as]; taken || o.kept[as] != nil || o.conf.Extensions.Sync.has(pulls(spec, remote)) != at {
		return
	}
	add()
	o.all[as] = schema.Resource{Key: as, Spec: spec}
}

// source is the remote that an entry copies from, and its name: one that is
// known, or else by its address; nil where that is no remote.
func (o *objects) source(r syncRegistry) (string, *schema.Remote) {
	u, err := url.Parse(r.URLs[0])
	if err != nil || u.User != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", nil
	}
	remote := &schema.Remote{Type: new("oci"), URL: &r.URLs[0]}
	name := strings.ToLower(strings.ReplaceAll(u.Host, ":", "-")) + slug(u.Path)
	if u.Scheme == "http" {
		name += "-http"
	}
	if r.TLSVerify != nil && !*r.TLSVerify {
		remote.TLS = &schema.TLS{Insecure: new(true)}
		name += "-insecure"
	}
	same := string(encoded(syncFrom(remote)))
	for _, k := range slices.SortedFunc(maps.Keys(o.all), schema.Key.Compare) {
		if known, ok := o.all[k].Spec.(*schema.Remote); ok && known.URL != nil && string(encoded(syncFrom(known))) == same {
			return k.Name, known
		}
	}
	if _, taken := o.all[schema.Key{Kind: schema.KindRemote, Name: name}]; taken {
		return "", nil
	}
	return name, remote
}

// slug is the part of a name that stands for a path or pattern: "-" and what of
// it may stand in a name; "" where that is nothing.
func slug(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '_'
	})
	if len(words) == 0 {
		return ""
	}
	return "-" + strings.Join(words, "-")
}

// ours lists what sync does for objects, in the order of their keys.
func ours(all map[schema.Key]schema.Resource) (list []*syncRegistry) {
	remote := func(name *string) *schema.Remote {
		if name == nil {
			return nil
		}
		r, _ := all[schema.Key{Kind: schema.KindRemote, Name: *name}].Spec.(*schema.Remote)
		return r
	}
	for _, k := range slices.SortedFunc(maps.Keys(all), schema.Key.Compare) {
		var r *syncRegistry
		switch s := all[k].Spec.(type) {
		case *schema.Replication:
			r = pulls(s, remote(s.From))
		case *schema.Namespace:
			if s.ProxyOf != nil {
				r = caches(k.Name, remote(s.ProxyOf))
			}
		}
		if r != nil {
			list = append(list, r)
		}
	}
	return list
}

// off reports whether somebody switched copying off.
func (s *syncConfig) off() bool { return s != nil && present(s.Enable) && !truth(s.Enable, true) }

// has finds an entry that means the same.
func (s *syncConfig) has(want *syncRegistry) int {
	if s == nil || want == nil {
		return -1
	}
	text := encoded(*want)
	return slices.IndexFunc(s.Registries, func(raw json.RawMessage) bool {
		r, ok := entryOf(raw)
		if ok && r.TLSVerify == nil {
			r.TLSVerify = new(true)
		}
		return ok && bytes.Equal(encoded(r), text)
	})
}

// like finds an entry from the same place to the same place, that differs in
// how often, or in tags.
func (s *syncConfig) like(want *syncRegistry) int {
	if s == nil || want == nil {
		return -1
	}
	return slices.IndexFunc(s.Registries, func(raw json.RawMessage) bool {
		r, ok := entryOf(raw)
		return ok && slices.Equal(r.URLs, want.URLs) && r.OnDemand == want.OnDemand && len(r.Content) == 1 && len(want.Content) == 1 &&
			r.Content[0].Prefix == want.Content[0].Prefix && r.Content[0].Destination == want.Content[0].Destination
	})
}

// verifies reports whether an entry copies from nobody but who proves its name.
func (s *syncConfig) verifies(i int) bool {
	r, _ := entryOf(s.Registries[i])
	return r.TLSVerify == nil || *r.TLSVerify
}

// trigger is how often an entry copies.
func (s *syncConfig) trigger(i int) *schema.Trigger {
	r, _ := entryOf(s.Registries[i])
	if r.PollInterval == nil {
		return &schema.Trigger{On: "manual"}
	}
	return &schema.Trigger{Schedule: "@every " + r.PollInterval.String()}
}

// tags are the tags an entry copies, as a glob where one says it and else as
// the regular expression; "" for all.
func (s *syncConfig) tags(i int) string {
	r, _ := entryOf(s.Registries[i])
	return r.tags()
}

func (r syncRegistry) tags() string {
	if len(r.Content) != 1 || r.Content[0].Tags == nil {
		return ""
	}
	if glob, ok := globOf(r.Content[0].Tags.Regex); ok {
		return glob
	}
	return r.Content[0].Tags.Regex
}
