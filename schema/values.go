package schema

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Set is a list of texts whose order and repetition mean nothing. Nil means
// not managed. Values made by [NewSet] or read from JSON are sorted.
type Set []string

// NewSet sorts and drops repetitions; the result is never nil.
func NewSet(items ...string) Set {
	s := append(Set{}, items...)
	slices.Sort(s)
	return slices.Compact(s)
}

// UnmarshalJSON reads a list in any order.
func (s *Set) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*s = nil // not managed, which is not the same as empty
		return nil
	}
	var items []string
	if err := json.Unmarshal(b, &items); err != nil {
		return err
	}
	*s = NewSet(items...)
	return nil
}

// Off says that an element of a list is switched off. It is written the other way
// round, as enabled: left out is true.
type Off bool

// MarshalJSON writes whether it is on.
func (o Off) MarshalJSON() ([]byte, error) { return strconv.AppendBool(nil, !bool(o)), nil }

// UnmarshalJSON reads what MarshalJSON writes.
func (o *Off) UnmarshalJSON(b []byte) error {
	on := !bool(*o)
	if err := json.Unmarshal(b, &on); err != nil {
		return err
	}
	*o = Off(!on)
	return nil
}

// Trigger starts a replication or a preheat policy: "push", "manual", or a schedule.
type Trigger struct {
	On       string // push or manual, or "" with a schedule
	Schedule string
	Zone     string
}

type triggerTable struct {
	Schedule string `json:"schedule"`
	Zone     string `json:"zone,omitempty"`
}

// MarshalJSON writes a string, or an object with the schedule.
func (t Trigger) MarshalJSON() ([]byte, error) {
	if t.On != "" {
		return json.Marshal(t.On)
	}
	return json.Marshal(triggerTable{t.Schedule, t.Zone})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Trigger) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*t = Trigger{}
		return json.Unmarshal(b, &t.On)
	}
	var s triggerTable
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*t = Trigger{Schedule: s.Schedule, Zone: s.Zone}
	return nil
}

// Value is one leaf of an open table: its path and its value as canonical
// JSON text (sorted keys, no spaces).
type Value struct {
	Path string // dotted, a part that is not a bare TOML key in quotes
	JSON string
}

// Values is an open table, flattened and sorted by path, each path once. Nil
// means not managed. In JSON it is an object from path to value.
type Values []Value

// MarshalJSON writes an object in path order.
func (v Values) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		k, err := json.Marshal(x.Path)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, k...), ':'), x.JSON...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads an object; nested values are kept as they are and made
// canonical.
func (v *Values) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*v = nil // not managed, which is not the same as empty
		return nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	out := Values{}
	for k, raw := range m {
		text, err := CanonicalJSON(raw)
		if err != nil {
			return err
		}
		out = append(out, Value{k, text})
	}
	slices.SortFunc(out, func(a, b Value) int { return strings.Compare(a.Path, b.Path) })
	*v = out
	return nil
}

// Pairs is an open table of texts, sorted by name, each name once; Nil means
// not managed. In JSON it is an object.
type Pairs []Pair

// Pair is one entry of [Pairs].
type Pair struct{ Name, Value string }

// MarshalJSON writes an object in name order.
func (p Pairs) MarshalJSON() ([]byte, error) {
	m := make(map[string]string, len(p))
	for _, x := range p {
		m[x.Name] = x.Value
	}
	return json.Marshal(m) // encoding/json sorts the keys
}

// UnmarshalJSON reads an object of strings.
func (p *Pairs) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*p = nil // not managed, which is not the same as empty
		return nil
	}
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	out := Pairs{}
	for k, v := range m {
		out = append(out, Pair{k, v})
	}
	slices.SortFunc(out, func(a, b Pair) int { return strings.Compare(a.Name, b.Name) })
	*p = out
	return nil
}

// CanonicalJSON rewrites one JSON value without spaces and with object keys in
// byte order; numbers keep their spelling.
func CanonicalJSON(b []byte) (string, error) {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	var v json.RawMessage
	if err := dec.Decode(&v); err != nil {
		return "", err
	}
	if dec.More() {
		return "", errors.New("more than one JSON value")
	}
	var sb strings.Builder
	if err := canonical(&sb, v); err != nil {
		return "", err
	}
	return sb.String(), nil
}

func canonical(sb *strings.Builder, raw json.RawMessage) error {
	text := strings.TrimSpace(string(raw))
	if text == "" {
		return errors.New("empty JSON value")
	}
	switch text[0] {
	case '{':
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		sb.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				sb.WriteByte(',')
			}
			writeString(sb, k)
			sb.WriteByte(':')
			if err := canonical(sb, m[k]); err != nil {
				return err
			}
		}
		sb.WriteByte('}')
	case '[':
		var l []json.RawMessage
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		sb.WriteByte('[')
		for i, e := range l {
			if i > 0 {
				sb.WriteByte(',')
			}
			if err := canonical(sb, e); err != nil {
				return err
			}
		}
		sb.WriteByte(']')
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		writeString(sb, s)
	default:
		sb.WriteString(text)
	}
	return nil
}

// writeString quotes without HTML escaping, so that texts read as written.
func writeString(sb *strings.Builder, s string) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return // a string always encodes
	}
	sb.WriteString(strings.TrimSuffix(b.String(), "\n"))
}
