package harbortest

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ids knows which id of the stand-in stands for which that was recorded.
type ids struct {
	// first is what the stand-in's ids are ahead by.
	first int64
	// learn takes for an id's own what stands where it was recorded, and
	// holds to it. Without, an id must be the recorded one, first ahead.
	learn bool
	to    map[string]map[string]string // by sequence, then recorded
	from  map[string]map[string]string // by sequence, then answered
	// spoken are numbers in the texts of one recording that are ids.
	spoken map[string]string
}

func newIDs(first int64, learn bool) *ids {
	return &ids{first: first, learn: learn, to: map[string]map[string]string{}, from: map[string]map[string]string{}}
}

// installed is the last id of a sequence that every Harbor has.
func installed(sequence string) int64 {
	return map[string]int64{"user": 2, "project": 1, "quota": 1, "cve": 1, "member": 1, "schedule": 2}[sequence]
}

// of is what to say for a recorded id.
func (m *ids) of(sequence, recorded string) string {
	if known := m.to[sequence][recorded]; known != "" {
		return known
	}
	n, err := strconv.ParseInt(recorded, 10, 64)
	if err != nil || n <= installed(sequence) || m.first == 0 || sequence == "" {
		return recorded
	}
	return strconv.FormatInt(n+m.first, 10)
}

// same says whether an id that was answered is the one that was recorded.
func (m *ids) same(sequence, recorded, answered string) bool {
	if sequence == "" {
		return recorded == answered
	}
	if !m.learn && sequence != "scanner" {
		return m.of(sequence, recorded) == answered
	}
	if m.to[sequence] == nil {
		m.to[sequence], m.from[sequence] = map[string]string{}, map[string]string{}
	}
	to, from := m.to[sequence][recorded], m.from[sequence][answered]
	if to == "" && from == "" {
		m.to[sequence][recorded], m.from[sequence][answered] = answered, recorded
		return true
	}
	return to == answered && from == recorded
}

// ofSegment is the sequence of the ids below a segment of a path.
func ofSegment(before []string) string {
	last := before[len(before)-1]
	switch {
	case last == "policies" && slices.Contains(before, "webhook"):
		return "webhook"
	case last == "policies" && slices.Contains(before, "replication"):
		return "replication"
	}
	return map[string]string{
		"users": "user", "usergroups": "group", "projects": "project", "members": "member", "quotas": "quota",
		"robots": "robot", "retentions": "retention", "immutabletagrules": "immutable", "registries": "registry",
		"labels": "label", "executions": "execution", "gc": "execution", "purgeaudit": "execution", "scanners": "scanner",
	}[last]
}

func isID(segment string) bool {
	_, number := parseID(segment)
	return number || isUUID(segment)
}

func isUUID(s string) bool {
	return len(s) == 36 && regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`).MatchString(s)
}

// path is a recorded path with today's ids.
func (m *ids) path(r *recording, path string) string {
	segments := strings.Split(path, "/")
	for i := 1; i < len(segments); i++ {
		if isID(segments[i]) && !r.names(segments[i-1]) {
			segments[i] = m.of(ofSegment(segments[:i]), segments[i])
		}
	}
	return strings.Join(segments, "/")
}

// names says whether what follows a segment is a name, though it looks like an
// id.
func (r *recording) names(segment string) bool {
	return segment == "projects" && r.Given["X-Is-Resource-Name"] != ""
}

// samePath compares a Location.
func (m *ids) samePath(want, have string) bool {
	a, b := strings.Split(want, "/"), strings.Split(have, "/")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		switch {
		case isID(a[i]) && a[i] != "0" && i > 0:
			if !m.same(ofSegment(a[:i]), a[i], b[i]) {
				return false
			}
		case a[i] != b[i]:
			return false
		}
	}
	return true
}

// query is a recorded query with today's ids.
func (m *ids) query(query string) string {
	for _, q := range []struct{ pattern, sequence string }{
		{`ProjectID%3D(\d+)`, "project"}, {`reference_id=(\d+)`, "project"}, {`project_id=(\d+)`, "project"}, {`policy_id=(\d+)`, "replication"},
	} {
		query = regexp.MustCompile(q.pattern).ReplaceAllStringFunc(query, func(s string) string {
			i := strings.LastIndexAny(s, "D=") + 1
			return s[:i] + m.of(q.sequence, s[i:])
		})
	}
	if _, err := url.ParseQuery(query); err != nil {
		panic(err)
	}
	return query
}

// place is where in a body a value is: its key and what is around it.
type place struct {
	route  string
	key    string
	parent string
	in     map[string]any
}

func (at place) down(key string, in map[string]any) place {
	return place{route: at.route, key: key, parent: at.key, in: in}
}

// sequence is whose ids a value at a place is; empty if it is none.
func (at place) sequence() string {
	kind := func(key string) string { return fmt.Sprint(at.in[key]) }
	switch at.key {
	case "id":
		return at.ownSequence()
	case "entity_id":
		return map[string]string{"u": "user", "g": "group"}[kind("entity_type")]
	case "creator_ref":
		return map[string]string{"local": "user", "robot": "robot"}[kind("creator_type")]
	case "vendor_id":
		return map[string]string{"RETENTION": "retention", "REPLICATION": "replication"}[kind("vendor_type")]
	case "ref":
		return "project"
	case "policy_id":
		if strings.Contains(at.route, "/retentions") {
			return "retention"
		}
		return "replication"
	}
	return map[string]string{
		"project_id": "project", "user_id": "user", "owner_id": "user", "registry_id": "registry", "provider_id": "instance",
		"repository_id": "repository", "artifact_id": "artifact", "retention_id": "retention", "uuid": "scanner", "projectScanner": "scanner",
	}[at.key]
}

// ownSequence is the one of the key id.
func (at place) ownSequence() string {
	if by := map[string]string{
		"cve_allowlist": "cve", "ref": "project", "src_registry": "registry", "dest_registry": "registry", "registry": "registry",
		"tags": "tag", "rules": "", "member_group": "group",
	}; by[at.parent] != "" || at.parent == "rules" {
		return by[at.parent]
	}
	for _, of := range []struct{ part, sequence string }{
		{"/executions", "execution"}, {"/schedule", "schedule"}, {"/system/gc", "execution"}, {"CVEAllowlist", "cve"},
		{"/immutabletagrules", "immutable"}, {"/webhook/policies", "webhook"}, {"/preheat/policies", "preheat"}, {"/preheat/instances", "instance"},
		{"/replication/policies", "replication"}, {"/labels", "label"}, {"/artifacts", "artifact"}, {"/repositories", "repository"}, {"/members", "member"},
		{"/robots", "robot"}, {"/quotas", "quota"}, {"/usergroups", "group"}, {"/registries", "registry"}, {"/retentions", "retention"},
		{"/providers", ""}, {"/users", "user"},
	} {
		if strings.Contains(at.route, of.part) {
			return of.sequence
		}
	}
	return ""
}

// toSend is a recorded body with today's ids.
func (m *ids) toSend(v any, at place) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, item := range v {
			out[key] = m.toSend(item, at.down(key, v))
		}
		return out
	case []any:
		out := []any{}
		for _, item := range v {
			out = append(out, m.toSend(item, at))
		}
		return out
	case float64:
		if s := at.sequence(); s != "" {
			if n, err := strconv.ParseFloat(m.of(s, plainNumber(v)), 64); err == nil {
				return n
			}
		}
	case string:
		if s := at.sequence(); s != "" {
			return m.of(s, v)
		}
	}
	return v
}

func plainNumber(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// compare says where a body is not the one that was recorded.
func (m *ids) compare(want, have any, at place) []string {
	here := func(format string, of ...any) []string {
		return []string{at.parent + "." + at.key + ": " + fmt.Sprintf(format, of...)}
	}
	switch w := want.(type) {
	case map[string]any:
		h, is := have.(map[string]any)
		if !is {
			return here("%v, recorded %v", have, cut(fmt.Sprint(want), 200))
		}
		relative(w)
		relative(h)
		var wrong []string
		if changed(w) != changed(h) {
			wrong = append(wrong, here("changed since it was made: %v, recorded %v", changed(h), changed(w))...)
		}
		for key, item := range w {
			other, has := h[key]
			if !has {
				wrong = append(wrong, here("no %s, recorded %v", key, item)...)
				continue
			}
			wrong = append(wrong, m.compare(item, other, at.down(key, w))...)
		}
		for key, item := range h {
			if _, has := w[key]; !has {
				wrong = append(wrong, here("%s = %v, not recorded", key, item)...)
			}
		}
		return wrong
	case []any:
		h, is := have.([]any)
		if !is || len(h) != len(w) {
			return here("%v items, recorded %d", lengthOf(have), len(w))
		}
		if m.learn && at.route == "/schedules" {
			// they come in the order in which they were made
			m.byVendor(w, func(sequence, id string) string { return m.of(sequence, id) })
			m.byVendor(h, func(_, id string) string { return id })
		}
		var wrong []string
		for i := range w {
			wrong = append(wrong, m.compare(w[i], h[i], at)...)
		}
		return wrong
	case float64:
		if h, is := have.(float64); is && m.same(at.sequence(), plainNumber(w), plainNumber(h)) {
			return nil
		}
	case string:
		h, is := have.(string)
		if is && (m.same(at.sequence(), w, h) || normal(at.key, w) == normal(at.key, h) || m.said(w, h)) {
			return nil
		}
	default:
		if want == have {
			return nil
		}
	}
	return here("%v, recorded %v", cut(fmt.Sprint(have), 200), cut(fmt.Sprint(want), 200))
}

// byVendor sorts schedules by what they are for.
func (m *ids) byVendor(list []any, of func(sequence, id string) string) {
	key := func(v any) string {
		in, _ := v.(map[string]any)
		id, _ := in["vendor_id"].(float64)
		return fmt.Sprint(in["vendor_type"], of(place{key: "vendor_id", in: in}.sequence(), plainNumber(id)))
	}
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(key(a), key(b)) })
}

func lengthOf(v any) string {
	if list, is := v.([]any); is {
		return strconv.Itoa(len(list))
	}
	return cut(fmt.Sprint(v), 100)
}

// changed says whether something was changed after it was made.
func changed(object map[string]any) bool {
	made, until := object["creation_time"], object["update_time"]
	return made != until && made != nil && until != nil
}

// relative makes an expiry count from the creation beside it, and a timestamp
// one of any time.
func relative(object map[string]any) {
	made, isTime := object["creation_time"].(string)
	at, isNumber := object["expires_at"].(float64)
	_, isRobot := object["name"]
	if isTime && isNumber && isRobot && at > 0 {
		if t, err := time.Parse(time.RFC3339Nano, made); err == nil {
			object["expires_at"] = float64(time.Unix(int64(at), 0).Sub(t).Round(time.Minute) / time.Minute)
		}
	}
	if n, is := object["setup_timestamp"].(float64); is && n > 0 {
		object["setup_timestamp"] = 1.0
	}
}

// messages finds the ids that the texts of a recording speak of: those of its
// path, and those after certain words.
func (m *ids) messages(r *recording) {
	m.spoken = map[string]string{}
	segments := strings.Split(r.Path, "/")
	for i := 1; i < len(segments); i++ {
		if isID(segments[i]) && !r.names(segments[i-1]) {
			if s := ofSegment(segments[:i]); s != "" {
				m.spoken[segments[i]] = m.of(s, segments[i])
			}
		}
	}
	for _, w := range []struct{ pattern, sequence string }{
		{`for project (\d+)`, "project"}, {`project (\d+) already has`, "project"}, {`retention policy (\d+)`, "retention"}, {`project id:? ?(\d+)`, "project"}, {`robot account (\d+):`, "project"},
	} {
		for _, found := range regexp.MustCompile(w.pattern).FindAllStringSubmatch(string(r.Answer), -1) {
			m.spoken[found[1]] = m.of(w.sequence, found[1])
		}
	}
}

// said compares two texts, the ids that were spoken of put in.
func (m *ids) said(want, have string) bool {
	return have == regexp.MustCompile(`\d+`).ReplaceAllStringFunc(want, func(s string) string {
		if to := m.spoken[s]; to != "" {
			return to
		}
		return s
	})
}
