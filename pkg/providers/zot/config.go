package zot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// configuration is the part of Zot's configuration that objects are made of. Zot
// matches keys whatever their case, and so does encoding/json.
type configuration struct {
	Storage struct {
		RootDirectory string           `json:"rootDirectory"`
		StorageDriver driver           `json:"storageDriver"`
		GC            json.RawMessage  `json:"gc"`
		GCDelay       *span            `json:"gcDelay"`
		GCInterval    *span            `json:"gcInterval"`
		Retention     *retentionConfig `json:"retention"`
		SubPaths      map[string]struct {
			RootDirectory string           `json:"rootDirectory"`
			StorageDriver driver           `json:"storageDriver"`
			GC            json.RawMessage  `json:"gc"`
			Retention     *retentionConfig `json:"retention"`
		} `json:"subPaths"`
	} `json:"storage"`
	HTTP struct {
		Auth          *authConfig    `json:"auth"`
		AccessControl *accessControl `json:"accessControl"`
	} `json:"http"`
	Log struct {
		Audit  string `json:"audit"`
		Output string `json:"output"`
		Level  string `json:"level"`
	} `json:"log"`
	Extensions struct {
		Search *struct {
			Enable json.RawMessage `json:"enable"`
			CVE    *struct {
				UpdateInterval *span `json:"updateInterval"`
			} `json:"cve"`
		} `json:"search"`
		Sync   *syncConfig   `json:"sync"`
		Events *eventsConfig `json:"events"`
	} `json:"extensions"`
}

// driver is where content lies that is not in a directory, as far as that tells one place
// from another: "" is a directory.
type driver string

// UnmarshalJSON implements [json.Unmarshaler].
func (d *driver) UnmarshalJSON(b []byte) error {
	var keys map[string]json.RawMessage
	said := map[string]string{}
	if json.Unmarshal(b, &keys) != nil { // which Zot refuses
		keys = nil
	}
	for key, v := range keys {
		said[strings.ToLower(key)] = textOf(v)
	}
	*d = ""
	if name := said["name"]; name != "" && name != localDriver {
		*d = driver(name)
		for _, key := range []string{"bucket", "container", "rootdirectory", "regionendpoint"} {
			if v := strings.Trim(said[key], "/"); v != "" {
				*d += driver(" " + v)
			}
		}
	}
	return nil
}

type authConfig struct {
	HTPasswd *struct {
		Path string `json:"path"`
	} `json:"htpasswd"`
	LDAP   json.RawMessage `json:"ldap"`
	Bearer json.RawMessage `json:"bearer"`
	OpenID json.RawMessage `json:"openid"`
	MTLS   json.RawMessage `json:"mtls"`
}

type retentionConfig struct {
	DryRun   json.RawMessage   `json:"dryRun"`
	Delay    *span             `json:"delay"`
	Policies []json.RawMessage `json:"policies"`
}

// dry reports whether retention only logs what it would remove.
func (r *retentionConfig) dry() bool { return r != nil && truth(r.DryRun, false) }

func (r *retentionConfig) delay() span {
	if r == nil {
		return 0
	}
	return value(r.Delay)
}

type syncConfig struct {
	Enable          json.RawMessage   `json:"enable"`
	CredentialsFile string            `json:"credentialsFile"`
	Registries      []json.RawMessage `json:"registries"`
}

// accessControl is http.accessControl.
type accessControl struct {
	Repositories map[string]policyGroup  `json:"repositories"`
	AdminPolicy  *policy                 `json:"adminPolicy"`
	Groups       map[string]groupMembers `json:"groups"`
}

type groupMembers struct {
	Users words `json:"users"`
}

// words is a list of texts, or, as Zot takes it, a text for a list of one.
type words []string

// UnmarshalJSON reads either.
func (w *words) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '"' {
		return json.Unmarshal(b, (*[]string)(w))
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*w = words{text}
	return nil
}

// policyGroup is what one pattern of repositories gives.
type policyGroup struct {
	Policies        []policy `json:"policies"`
	DefaultPolicy   words    `json:"defaultPolicy"`
	AnonymousPolicy words    `json:"anonymousPolicy"`
}

type policy struct {
	Users      words       `json:"users,omitempty"`
	Groups     words       `json:"groups,omitempty"`
	Actions    words       `json:"actions"`
	Conditions []condition `json:"conditions,omitempty"`
}

type condition struct {
	Expression string `json:"expression"`
	Message    string `json:"message,omitempty"`
}

// parseConfig reads what objects are made of.
func parseConfig(doc *config.Document) (configuration, error) {
	var c configuration
	if err := json.Unmarshal(doc.Taken(), &c); err != nil {
		return c, err
	}
	if ac := c.HTTP.AccessControl; ac != nil { // as Zot's own reader has them
		ac.Repositories = lowered(ac.Repositories)
		ac.Groups = lowered(ac.Groups)
	}
	return c, nil
}

func lowered[V any](m map[string]V) map[string]V {
	if m == nil {
		return nil
	}
	out := make(map[string]V, len(m))
	for k, v := range m {
		out[strings.ToLower(k)] = v
	}
	return out
}

// authenticated reports whether Zot asks for a login at all.
func (c configuration) authenticated() bool {
	a := c.HTTP.Auth
	return c.logsIn() || a != nil && present(a.Bearer)
}

// logsIn reports whether Zot knows accounts by which its rules go, without which it does
// not start with rules for any but anonymous clients. Observed on 2.1.6: tokens of
// auth.bearer are none, and neither are keys of auth.apikey, nor a table that is empty.
// Workloads that log in by bearer.oidc, and by certificates, are later versions'.
func (c configuration) logsIn() bool {
	a := c.HTTP.Auth
	return a != nil && (a.HTPasswd != nil && a.HTPasswd.Path != "" || present(a.LDAP) || present(a.OpenID) || present(a.MTLS) || a.workloads())
}

// workloads reports whether those log in.
func (a *authConfig) workloads() bool {
	var bearer struct {
		OIDC []json.RawMessage `json:"oidc"`
	}
	return present(a.Bearer) && json.Unmarshal(a.Bearer, &bearer) == nil && len(bearer.OIDC) > 0
}

// byTokens reports whether whoever gives tokens says who may do what: Zot lets those do
// what they say, whatever its rules say, and asks for no account.
func (c configuration) byTokens() bool {
	a := c.HTTP.Auth
	return a != nil && present(a.Bearer) && !a.workloads()
}

func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// gcOn tells whether Zot collects; it does unless told otherwise.
func (c configuration) gcOn() bool { return truth(c.Storage.GC, true) }

func truth(raw json.RawMessage, unsaid bool) bool {
	if !present(raw) {
		return unsaid
	}
	on, err := strconv.ParseBool(strings.Trim(string(raw), `"`))
	return err == nil && on
}

// store is a part of the storage that has retention of its own: the default
// one, whose route is "", or a sub-path.
type store struct {
	route    string   // as it is written: "/a"
	at       []string // of its retention
	policies []rawPolicy
	gc       bool
	dry      bool // it removes nothing
	delay    span // how old must be what no tag names; 0 is not said
}

// stores lists the default store, then the sub-paths by route.
func (c configuration) stores() []store {
	of := func(r *retentionConfig) []rawPolicy {
		if r == nil {
			return nil
		}
		return r.Policies
	}
	out := []store{{"", []string{"storage", "retention"}, of(c.Storage.Retention), c.gcOn(), c.Storage.Retention.dry(), c.Storage.Retention.delay()}}
	for _, route := range sortedKeys(c.Storage.SubPaths) {
		s := c.Storage.SubPaths[route]
		out = append(out, store{route, []string{"storage", "subPaths", route, "retention"}, of(s.Retention), truth(s.GC, false), s.Retention.dry(), s.Retention.delay()})
	}
	return out
}

// storeOf is the route of the store that has a namespace's content: Zot goes by
// the first segment of a repository's name alone.
func (c configuration) storeOf(namespace string) string {
	first, _, _ := strings.Cut(namespace, "/")
	for route := range c.Storage.SubPaths {
		if strings.EqualFold(route, "/"+first) {
			return route
		}
	}
	return ""
}

// policies are those of retention in all stores.
func (c configuration) policies() (all []rawPolicy) {
	for _, s := range c.stores() {
		all = append(all, s.policies...)
	}
	return all
}

// interval is the time between collections, delay how old content must be:
// both are an hour unless the configuration says otherwise.
func (c configuration) interval() span { return orHour(c.Storage.GCInterval) }
func (c configuration) delay() span    { return orHour(c.Storage.GCDelay) }

func orHour(s *span) span {
	if s == nil {
		return span(time.Hour)
	}
	return *s
}

// span is a Go duration: a text such as "1h", or, as Zot takes it, a number of
// nanoseconds.
type span time.Duration

// UnmarshalJSON reads either.
func (s *span) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	text := strings.Trim(string(b), `"`)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && b[0] != '"' {
		*s = span(n)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%s is no duration; write one such as \"1h30m\"", b)
	}
	*s = span(d)
	return nil
}

// MarshalJSON writes hours, minutes and seconds as far as there are any.
func (s span) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// String writes "36h" and not "36h0m0s".
func (s span) String() string {
	text := time.Duration(s).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// duration is the span as a mode writes it; ok is false for one that is not
// whole seconds.
func (s span) duration() (d schema.Duration, ok bool) {
	if s < 0 || time.Duration(s)%time.Second != 0 {
		return 0, false
	}
	return schema.Duration(time.Duration(s) / time.Second), true
}

// strict decodes what holds nothing but what the type knows.
func strict[T any](raw []byte) (T, bool) {
	var out T
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return out, dec.Decode(&out) == nil
}

// encoded is a value's JSON, without escapes for HTML.
func encoded[T any](v T) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil // texts, numbers and lists of them always encode
	}
	return bytes.TrimSpace(b.Bytes())
}
