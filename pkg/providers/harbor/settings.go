package harbor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

func settingsKey() schema.Key { return schema.Key{Kind: schema.KindSettings} }

// packed reports whether a setting is a JSON object inside a text. Its parts are
// settings of their own here.
func packed(name string) bool {
	return name == "banner_message" || name == redirect
}

const redirect = "oidc_extra_redirect_parms"

// prefixSetting is how the names of all robots begin; only the rest is theirs.
const prefixSetting = "robot_name_prefix"

// unreadable are the settings that Harbor takes and never shows.
func unreadable() []string { return []string{"ldap_search_password", "oidc_client_secret"} }

// readSettings reads those that have a value. How scanning everything is
// scheduled comes without one: kind scan owns that. Secrets that Harbor does show
// are not passed on. Where no account may see settings and nobody wants any, they
// are unknown.
func readSettings(ctx context.Context, s *site) error {
	all, err := s.allSettings(ctx)
	if errors.Is(err, api.ErrNoAdmin) && s.p.desired(settingsKey()) == nil {
		s.miss(settingsKey())
		return nil
	} else if err != nil {
		return err
	}
	values := schema.Values{}
	var unread []string
	for name, setting := range all {
		switch {
		case len(setting.Value) == 0 || slices.Contains(unreadable(), name):
		case schema.SecretSetting(schema.TypeHarbor, name):
			if text(setting.Value) != "" {
				unread = append(unread, "values."+name)
			}
		default:
			values = append(values, unpacked(name, setting.Value)...)
		}
	}
	for _, name := range unreadable() {
		unread = append(unread, "values."+name)
	}
	slices.Sort(unread)
	sortValues(values)
	s.add(settingsKey(), 0, &schema.Settings{Values: values}, unread...)
	return nil
}

func sortValues(v schema.Values) {
	slices.SortFunc(v, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
}

// text is a setting that is one, "" otherwise.
func text(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// checkSetting compares a secret that Harbor shows.
func checkSetting(ctx context.Context, s *site, _ schema.Key, field, secret string) (bool, error) {
	all, err := s.allSettings(ctx)
	if err != nil {
		return false, err
	}
	have, ok := all[strings.TrimPrefix(field, "values.")]
	if !ok || len(have.Value) == 0 {
		return false, providers.ErrUnsupported
	}
	return text(have.Value) == secret, nil
}

// unpacked is a setting as values: one, or the parts of an object in a text.
func unpacked(name string, raw json.RawMessage) schema.Values {
	text, err := schema.CanonicalJSON(raw)
	if err != nil {
		return nil
	}
	var inner string
	if packed(name) && json.Unmarshal(raw, &inner) == nil {
		var parts map[string]json.RawMessage
		if json.Unmarshal([]byte(inner), &parts) == nil && len(parts) > 0 {
			out := schema.Values{}
			for k, v := range parts {
				if part, err := schema.CanonicalJSON(v); err == nil {
					out = append(out, schema.Value{Path: schema.JoinPath(name, k), JSON: part})
				}
			}
			return out
		}
	}
	if packed(name) && (text == `{}` || text == `"{}"`) { // an object without parts is none
		text = `""`
	}
	return schema.Values{{Path: name, JSON: text}}
}

// tidySettings leaves of a packed setting its parts, or the text that it has become
// as a whole.
func tidySettings(c plan.Change) schema.Spec {
	spec, ok := c.After.Spec.(*schema.Settings)
	if !ok {
		return c.After.Spec
	}
	parts := map[string]bool{} // packed settings that have any
	for _, v := range spec.Values {
		if path := schema.SplitPath(v.Path); len(path) > 1 && packed(path[0]) {
			parts[path[0]] = true
		}
	}
	whole := func(name string) bool {
		return slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+name && f.New != "" })
	}
	return &schema.Settings{Values: slices.DeleteFunc(slices.Clone(spec.Values), func(v schema.Value) bool {
		path := schema.SplitPath(v.Path)
		if !packed(path[0]) {
			return false
		}
		if len(path) > 1 {
			return whole(path[0])
		}
		return parts[path[0]] && !whole(path[0])
	})}
}

// normalSettings unpacks what a mode wrote as Harbor does.
func normalSettings(_ *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Settings)
	if !ok {
		return r.Spec, nil
	}
	out := schema.Values{}
	for _, v := range spec.Values {
		if packed(v.Path) {
			out = append(out, unpacked(v.Path, json.RawMessage(v.JSON))...)
			continue
		}
		out = append(out, v)
	}
	sortValues(out)
	return &schema.Settings{Values: out}, nil
}

// prepareSettings refuses what Harbor would take and ignore, or refuse.
func prepareSettings(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	all, err := s.allSettings(ctx)
	if err != nil {
		return err
	}
	var why []string
	for _, f := range c.Fields {
		path, ok := strings.CutPrefix(f.Path, "values.")
		if !ok || f.New == "" {
			continue
		}
		name := schema.SplitPath(path)[0]
		have, known := all[name]
		if name == prefixSetting {
			v.Impact = append(v.Impact, "every robot logs in by another name from then on: those who have one must be told")
			if s.c.Robot() {
				why = append(why, name+" would rename the account that ocisync itself logs in with; change it with a user's name in registry.login")
			}
		}
		switch {
		case slices.Contains(unreadable(), name):
		case !known:
			why = append(why, fmt.Sprintf("this Harbor (%s) has no setting %s%s", s.c.Version, name, nearest(name, all)))
		case len(have.Value) == 0:
			why = append(why, name+" is no setting any more; [scan] has the schedule")
		case !have.Editable:
			why = append(why, name+" cannot be changed here: Harbor takes it from its environment, or it is fixed by now, as auth_mode is once there are users")
		case !packed(name) && !sameType(have.Value, f.New):
			why = append(why, fmt.Sprintf("%s is %s, and not %s", name, typeOf(string(have.Value)), typeOf(f.New)))
		}
	}
	v.Refused = strings.Join(why, "; ")
	return nil
}

func nearest(name string, all map[string]api.Setting) string {
	var names []string
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	if near := new(schema.Nearest).Of(name, names); near != "" {
		return "; is " + near + " meant?"
	}
	return ""
}

func typeOf(text string) string {
	switch {
	case text == "true" || text == "false":
		return "true or false"
	case strings.HasPrefix(text, `"`):
		return "a text"
	case strings.HasPrefix(text, "{"):
		return "a table"
	case strings.HasPrefix(text, "["):
		return "a list"
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return "a number"
	}
	return text
}

func sameType(have json.RawMessage, want string) bool { return typeOf(string(have)) == typeOf(want) }

// writeSettings sends what changes.
func writeSettings(ctx context.Context, s *site, c plan.Change, live object) error {
	want, err := after[*schema.Settings](c)
	if err != nil {
		return err
	}
	send := map[string]json.RawMessage{}
	for _, f := range c.Fields {
		path, ok := strings.CutPrefix(f.Path, "values.")
		if !ok {
			continue
		}
		name := schema.SplitPath(path)[0]
		if packed(name) {
			if send[name], err = repacked(name, want.Values); err != nil {
				return err
			}
			continue
		}
		if value, ok, err := s.secret(ctx, c, f.Path); err != nil {
			return err
		} else if ok {
			if send[name], err = json.Marshal(value); err != nil {
				return err
			}
			continue
		}
		if f.New != "" {
			send[name] = json.RawMessage(f.New)
		}
	}
	before, err := s.allSettings(ctx)
	if err != nil {
		return err
	}
	defer s.settings.forget()
	sent := map[string]json.RawMessage{}
	for _, part := range inTurn(send) {
		maps.Copy(sent, part)
		err := s.c.Set(ctx, part)
		if api.Is(err, http.StatusBadRequest) {
			if kept := s.takeBack(ctx, before, sent); kept != nil {
				return amended(err, func(cause error) error { return fmt.Errorf("%w; %w", cause, kept) })
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inTurn has the address of the audit log, which Harbor keeps although it refuses it,
// go before other settings, with whether the database has one too: of the others some
// cannot be taken back, since what was empty cannot be emptied any more.
func inTurn(send map[string]json.RawMessage) []map[string]json.RawMessage {
	const address, instead = "audit_log_forward_endpoint", "skip_audit_log_database"
	first, rest := map[string]json.RawMessage{}, maps.Clone(send)
	for _, name := range []string{address, instead} {
		if value, ok := rest[name]; ok {
			first[name] = value
			delete(rest, name)
		}
	}
	if first[address] == nil || len(rest) == 0 {
		return []map[string]json.RawMessage{send}
	}
	return []map[string]json.RawMessage{first, rest}
}

// takeBack undoes what Harbor keeps of settings that it refuses, such as an address
// for its audit log where nobody answers: it would use them.
func (s *site) takeBack(ctx context.Context, before map[string]api.Setting, sent map[string]json.RawMessage) error {
	s.settings.forget()
	now, err := s.allSettings(ctx)
	if err != nil {
		return err
	}
	back := map[string]json.RawMessage{}
	var names []string
	for name := range sent {
		if was := before[name].Value; len(was) > 0 && string(now[name].Value) != string(was) {
			back[name] = was
			names = append(names, name)
		}
	}
	if len(back) == 0 {
		return nil
	}
	slices.Sort(names)
	if err := s.c.Set(ctx, back); err != nil {
		return fmt.Errorf("Harbor keeps %s all the same, and takes the former values as little: %w", strings.Join(names, ", "), err) //nolint:staticcheck // its name
	}
	return nil
}

// Part implements [providers.Parted]: while Harbor is read-only it takes nothing but
// settings.
func (p *Provider) Part(c plan.Change) (first, then, last *plan.Change) {
	const path = "values.read_only"
	i := slices.IndexFunc(c.Fields, func(f plan.Field) bool { return f.Path == path })
	if c.Key.Kind != schema.KindSettings || i < 0 || c.Before == nil || c.After == nil {
		return nil, &c, nil
	}
	was, ok := c.Before.Spec.(*schema.Settings)
	is, fits := c.After.Spec.(*schema.Settings)
	if !ok || !fits {
		return nil, &c, nil
	}
	on := c.Fields[i].New == "true"
	// between is the object after the one part and before the other
	from, to := is, was
	if !on {
		from, to = was, is
	}
	between := *c.After
	between.Spec = &schema.Settings{Values: swapped(from.Values, to.Values, "read_only")}
	other := c
	other.Fields = slices.Delete(slices.Clone(c.Fields), i, i+1)
	own := c
	own.Fields = c.Fields[i : i+1]
	if len(other.Fields) == 0 {
		if on {
			return nil, nil, &own
		}
		return &own, nil, nil
	}
	if on {
		other.After, own.Before = &between, &between
		return nil, &other, &own
	}
	own.After, other.Before = &between, &between
	return &own, &other, nil
}

// swapped are values, with one of them as others have it.
func swapped(values, others schema.Values, path string) schema.Values {
	same := func(v schema.Value) bool { return v.Path == path }
	out := slices.DeleteFunc(slices.Clone(values), same)
	if i := slices.IndexFunc(others, same); i >= 0 {
		out = append(out, others[i])
	}
	sortValues(out)
	return out
}

// repacked is a packed setting as Harbor keeps it.
func repacked(name string, values schema.Values) (json.RawMessage, error) {
	parts := map[string]json.RawMessage{}
	for _, v := range values {
		switch path := schema.SplitPath(v.Path); {
		case path[0] != name:
		case len(path) == 1: // a text that is no object, or none
			if name == redirect && v.JSON == `""` {
				return json.RawMessage(`"{}"`), nil
			}
			return json.RawMessage(v.JSON), nil
		default:
			parts[path[1]] = json.RawMessage(v.JSON)
		}
	}
	if len(parts) == 0 {
		return json.RawMessage(`""`), nil
	}
	inner, err := json.Marshal(parts)
	if err != nil {
		return nil, err
	}
	return json.Marshal(string(inner))
}
