package zot

import (
	"bytes"
	"encoding/json"
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

// has finds an entry that means the same.
func (s *syncConfig) has(want *syncRegistry) int {
	if s == nil || want == nil {
		return -1
	}
	text := encoded(*want)
	return slices.IndexFunc(s.Registries, func(raw json.RawMessage) bool {
		r, ok := strict[syncRegistry](raw)
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
		r, ok := strict[syncRegistry](raw)
		return ok && slices.Equal(r.URLs, want.URLs) && r.OnDemand == want.OnDemand && len(r.Content) == 1 && len(want.Content) == 1 &&
			r.Content[0].Prefix == want.Content[0].Prefix && r.Content[0].Destination == want.Content[0].Destination
	})
}

// trigger is how often an entry copies.
func (s *syncConfig) trigger(i int) *schema.Trigger {
	r, _ := strict[syncRegistry](s.Registries[i])
	if r.PollInterval == nil {
		return &schema.Trigger{On: "manual"}
	}
	return &schema.Trigger{Schedule: "@every " + r.PollInterval.String()}
}

// tags are the tags an entry copies, as a glob where one says it and else as
// the regular expression; "" for all.
func (s *syncConfig) tags(i int) string {
	r, _ := strict[syncRegistry](s.Registries[i])
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
