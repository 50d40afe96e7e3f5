package plan

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// fieldRow says how one field of a kind compares. All values are JSON.
type fieldRow struct {
	kind  schema.Kind
	field string // path in the spec, of a leaf
	value string // declared
	other string // live, a different value
	empty string // declared and empty; "" where the field has no such value
	same  string // live, equal to value in another spelling, or the same value

	sameIsAbsent bool // the empty value is the same as no value
	hidden       bool // a secret, or nothing of the registry's: compared elsewhere
	seen         bool // what is there and not declared is a difference
}

func fieldRows() []fieldRow {
	text := func(k schema.Kind, fields ...string) (rows []fieldRow) {
		for _, f := range fields {
			rows = append(rows, fieldRow{kind: k, field: f, value: `"a/é"`, other: `"b"`, empty: `""`, same: `"a\/\u00e9"`, sameIsAbsent: true})
		}
		return rows
	}
	flag := func(k schema.Kind, fields ...string) (rows []fieldRow) {
		for _, f := range fields {
			rows = append(rows, fieldRow{kind: k, field: f, value: `true`, other: `false`, empty: `false`, same: ` true`, sameIsAbsent: f != "enabled"})
		}
		return rows
	}
	word := func(k schema.Kind, fields ...string) (rows []fieldRow) {
		for _, f := range fields {
			rows = append(rows, fieldRow{kind: k, field: f, value: `"@daily"`, other: `"0 4 * * *"`, empty: `"none"`, same: `"\u0040daily"`, sameIsAbsent: true})
		}
		return rows
	}
	set := func(k schema.Kind, fields ...string) (rows []fieldRow) {
		for _, f := range fields {
			rows = append(rows, fieldRow{kind: k, field: f, value: `["a","b"]`, other: `["a","c"]`, empty: `[]`, same: `["b","a","b"]`, sameIsAbsent: true})
		}
		return rows
	}
	size := func(k schema.Kind, f string) fieldRow {
		return fieldRow{kind: k, field: f, value: `"2GiB"`, other: `"2MiB"`, empty: `"unlimited"`, same: `"2048MiB"`, sameIsAbsent: true}
	}
	span := func(k schema.Kind, f, empty string) fieldRow {
		return fieldRow{kind: k, field: f, value: `"90m"`, other: `"90d"`, empty: empty, same: `"1h30m"`, sameIsAbsent: empty == `"never"`}
	}
	number := func(k schema.Kind, f string) fieldRow {
		return fieldRow{kind: k, field: f, value: `5`, other: `6`, empty: `0`, same: ` 5 `, sameIsAbsent: true}
	}
	rights := func(k schema.Kind, f string) fieldRow {
		return fieldRow{kind: k, field: f, value: `["pull","push"]`, other: `["pull"]`, empty: `[]`, same: `["push","pull","push"]`, sameIsAbsent: true}
	}
	grants := func(k schema.Kind, f string) fieldRow {
		return fieldRow{kind: k, field: f, value: `{"a":["admin"],"b":["pull"]}`, other: `{"a":["pull"],"b":["pull"]}`, empty: `{}`,
			same: `{"b":["pull"],"a":["delete","push","pull","admin"],"c":[]}`, sameIsAbsent: true}
	}
	secret := func(k schema.Kind, f string) fieldRow {
		return fieldRow{kind: k, field: f, value: `{"env":"OCISYNC_A"}`, hidden: true}
	}
	local := func(k schema.Kind, f, value string) fieldRow {
		return fieldRow{kind: k, field: f, value: value, hidden: true}
	}
	var rows []fieldRow
	add := func(more ...fieldRow) { rows = append(rows, more...) }

	add(fieldRow{kind: schema.KindSettings, field: "values", value: `{"a.b":{"x":1,"y":[true]}}`, other: `{"a.b":{"x":2}}`, empty: `{"a.b":false}`, same: `{"a.b": { "y":[ true ], "x":1}}`})
	add(text(schema.KindUser, "email", "full_name", "comment")...)
	add(flag(schema.KindUser, "admin")...)
	add(secret(schema.KindUser, "password"))
	add(set(schema.KindGroup, "users")...)
	add(text(schema.KindGroup, "type", "ldap_dn")...)
	add(text(schema.KindRemote, "type", "url", "description", "login.user", "login.robot", "tls.ca", "tls.cert", "tls.key")...)
	add(flag(schema.KindRemote, "tls.insecure")...)
	add(secret(schema.KindRemote, "login.password"))
	add(text(schema.KindScanner, "url", "description")...)
	add(word(schema.KindScanner, "auth")...)
	add(secret(schema.KindScanner, "credential"))
	add(flag(schema.KindScanner, "insecure", "internal_address", "enabled")...)
	add(text(schema.KindPreheat, "vendor", "url", "description", "user")...)
	add(word(schema.KindPreheat, "auth")...)
	add(secret(schema.KindPreheat, "credential"))
	add(flag(schema.KindPreheat, "default", "enabled", "insecure")...)
	add(text(schema.KindNamespace, "description", "proxy_of", "proxy.repositories", "proxy.repositories_regex")...)
	add(size(schema.KindNamespace, "proxy.rate"), number(schema.KindNamespace, "proxy.connections"))
	add(flag(schema.KindNamespace, "proxy.serve_gone", "proxy.referrers")...)
	add(rights(schema.KindAccess, "anonymous"), rights(schema.KindAccess, "authenticated"))
	add(text(schema.KindAccess, "authenticated_group")...)
	add(grants(schema.KindAccess, "users"), grants(schema.KindAccess, "groups"))
	add(set(schema.KindAccess, "conditions")...)
	add(size(schema.KindQuota, "limit"))
	add(fieldRow{kind: schema.KindRetention, field: "keep", value: `[{"newest":3},{"pushed_within":"7d"}]`, other: `[{"newest":3}]`, empty: `[]`,
		same: `[{"pushed_within":"168h","newest":0},{"newest":3},{"newest":3}]`, sameIsAbsent: true})
	add(flag(schema.KindRetention, "untagged")...)
	add(word(schema.KindRetention, "schedule")...)
	add(text(schema.KindRetention, "zone")...)
	add(fieldRow{kind: schema.KindImmutable, field: "rules", value: `[{"tags":"v*"},{"tags":"*","repositories":"a"}]`, other: `[{"tags":"v*"}]`, empty: `[]`,
		same: `[{"repositories":"a","tags":"*"},{"tags":"v*"}]`, sameIsAbsent: true})
	add(flag(schema.KindScan, "on_push", "sbom")...)
	add(word(schema.KindScan, "block", "schedule")...)
	add(text(schema.KindScan, "scanner", "default", "zone")...)
	add(span(schema.KindScan, "update", `"0"`))
	add(fieldRow{kind: schema.KindScan, field: "allow", value: `[{"cve":"CVE-1","until":"2027-01-31"},{"cve":"CVE-2"}]`, other: `[{"cve":"CVE-2"}]`, empty: `[]`,
		same: `[{"cve":"CVE-2"},{"until":"2027-01-31","cve":"CVE-1"}]`, sameIsAbsent: true})
	add(set(schema.KindTrust, "keys")...)
	add(flag(schema.KindTrust, "required", "notation")...)
	add(text(schema.KindTrust, "root")...)
	for kind, field := range map[schema.Kind]string{schema.KindTrust: "identities", schema.KindMirror: "trust.identities"} {
		add(fieldRow{kind: kind, field: field, value: `[{"issuer":"https://a","subject":"b"},{"issuer":"https://a","subject":"c"}]`, other: `[{"issuer":"https://a","subject":"c"}]`, empty: `[]`,
			same: `[{"subject":"c","issuer":"https://a"},{"issuer":"https://a","subject":"b"}]`, sameIsAbsent: true})
	}
	add(text(schema.KindLabel, "color", "description")...)
	add(text(schema.KindRepository, "description")...)
	add(text(schema.KindWebhook, "url", "format", "description")...)
	add(set(schema.KindWebhook, "events")...)
	add(secret(schema.KindWebhook, "auth"))
	add(flag(schema.KindWebhook, "sign", "insecure", "enabled")...)
	add(text(schema.KindPreheatPolicy, "instance", "description", "repositories", "tags", "scope")...)
	add(set(schema.KindPreheatPolicy, "labels")...)
	add(fieldRow{kind: schema.KindPreheatPolicy, field: "trigger", value: `{"schedule":"@daily","zone":"UTC"}`, other: `"push"`, same: `{"zone":"UTC","schedule":"@daily"}`})
	add(flag(schema.KindPreheatPolicy, "enabled")...)
	add(text(schema.KindRobot, "description")...)
	add(span(schema.KindRobot, "expires", `"never"`))
	add(local(schema.KindRobot, "renew", `"14d"`), local(schema.KindRobot, "overlap", `"1h"`), local(schema.KindRobot, "secret.deliver", `{"file":"/run/ocisync/ci"}`))
	add(flag(schema.KindRobot, "enabled")...)
	add(secret(schema.KindRobot, "secret.value"))
	add(grants(schema.KindRobot, "access"))
	add(fieldRow{kind: schema.KindRobot, field: "permissions", value: `[{"resource":"a","action":"b"},{"namespace":"n","resource":"a","action":"c"}]`, other: `[{"resource":"a","action":"b"}]`, empty: `[]`,
		same: `[{"action":"c","resource":"a","namespace":"n"},{"action":"b","resource":"a"}]`, sameIsAbsent: true})
	add(text(schema.KindReplication, "to", "from", "namespace", "description", "match.repositories", "match.tags", "match.type")...)
	add(set(schema.KindReplication, "match.labels")...)
	add(fieldRow{kind: schema.KindReplication, field: "trigger", value: `{"schedule":"@daily","zone":"UTC"}`, other: `"push"`, same: `{"zone":"UTC","schedule":"@daily"}`})
	add(flag(schema.KindReplication, "deletes", "override", "enabled", "chunks", "single")...)
	add(size(schema.KindReplication, "rate"), number(schema.KindReplication, "flatten"))
	add(word(schema.KindGC, "schedule")...)
	add(text(schema.KindGC, "zone")...)
	add(span(schema.KindGC, "delay", `"0"`))
	add(flag(schema.KindGC, "untagged")...)
	add(number(schema.KindGC, "workers"))
	add(text(schema.KindAudit, "log", "zone")...)
	add(span(schema.KindAudit, "keep", `"never"`))
	add(word(schema.KindAudit, "schedule")...)
	add(set(schema.KindAudit, "events")...)
	add(text(schema.KindMirror, "from", "to", "zone", "keep_previous", "tags.glob", "tags.regex", "tags.semver", "trust.root")...)
	add(set(schema.KindMirror, "tags.list", "platforms", "realms", "trust.keys")...)
	add(number(schema.KindMirror, "tags.newest"))
	add(span(schema.KindMirror, "tags.since", `"0"`))
	add(flag(schema.KindMirror, "referrers", "prune", "only_missing", "trust.required", "trust.notation")...)
	add(word(schema.KindMirror, "schedule")...)
	add(size(schema.KindMirror, "rate"))
	add(text(schema.KindArtifact, "to", "type")...)
	add(set(schema.KindArtifact, "files")...)
	add(fieldRow{kind: schema.KindArtifact, field: "annotations", value: `{"a":"1","b.c":"2"}`, other: `{"a":"1"}`, empty: `{}`, same: `{"b.c":"2","a":"1"}`, sameIsAbsent: true})
	add(secret(schema.KindArtifact, "sign.key"))
	add(fieldRow{kind: schema.KindArtifact, field: "digest", value: `"sha256:a"`, other: `"sha256:b"`, same: ` "sha256:a"`, seen: true})
	add(fieldRow{kind: schema.KindMirror, field: "altered", value: `["v1"]`, other: `["v2"]`, same: ` ["v1"]`, seen: true})
	return rows
}

// specWith decodes a spec in which one field has a value; "" leaves it out.
func specWith(t *testing.T, k schema.Kind, field, value string) schema.Spec {
	t.Helper()
	doc := `{}`
	if value != "" {
		doc = value
		parts := strings.Split(field, ".")
		for i := len(parts) - 1; i >= 0; i-- {
			doc = `{"` + parts[i] + `":` + doc + `}`
		}
	}
	spec, err := schema.NewSpec(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(doc), &spec); err != nil {
		t.Fatalf("%s %s: %v", k, doc, err)
	}
	return spec
}

func TestEveryFieldComparesByWhatItMeans(t *testing.T) {
	for _, r := range fieldRows() {
		t.Run(string(r.kind)+"/"+r.field, func(t *testing.T) {
			spec := func(value string) schema.Spec { return specWith(t, r.kind, r.field, value) }
			shape := shapeOf(reflect.TypeOf(spec("")).Elem(), "", nil)
			differ := func(want, have string) bool {
				fields := compare(spec(want), spec(have), nil)
				if shape.surelyMatches(spec(want), spec(have)) && len(fields) > 0 {
					t.Errorf("the short way finds %s and %s equal, the long way %v", want, have, fields)
				}
				for _, f := range fields {
					if r.kind != schema.KindSettings && f.Path != r.field && !strings.HasPrefix(f.Path, r.field+".") {
						t.Errorf("path %q is not of field %q", f.Path, r.field)
					}
					if f.Old == f.New {
						t.Errorf("%s: old and new are both %s", f.Path, f.Old)
					}
				}
				return len(fields) > 0
			}
			if r.hidden {
				if differ(r.value, "") {
					t.Error("declared, and seen as a plain difference")
				}
				return
			}
			if differ(r.value, r.value) || !shape.surelyMatches(spec(r.value), spec(r.value)) {
				t.Error("declared and so: differs")
			}
			if !differ(r.value, r.other) || !differ(r.other, r.value) {
				t.Error("declared otherwise: no difference")
			}
			if !differ(r.value, "") {
				t.Error("declared and not there: no difference")
			}
			if differ("", r.value) != r.seen {
				t.Errorf("omitted: differs %v, want %v", !r.seen, r.seen)
			}
			if differ(r.value, r.same) || differ(r.same, r.value) {
				t.Errorf("equal in another spelling (%s, %s): differs", r.value, r.same)
			}
			if r.empty == "" {
				return
			}
			if !differ(r.empty, r.value) {
				t.Error("emptied: no difference")
			}
			if got := !differ(r.empty, ""); got != r.sameIsAbsent {
				t.Errorf("%s equal to absent: %v, want %v", r.empty, got, r.sameIsAbsent)
			}
		})
	}
}

func TestEveryFieldOfEveryKindHasARow(t *testing.T) {
	have := map[string]bool{}
	for _, r := range fieldRows() {
		have[string(r.kind)+" "+r.field] = true
	}
	want := map[string]bool{}
	for _, k := range schema.Kinds() {
		spec, err := schema.NewSpec(k)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range shapeOf(reflect.TypeOf(spec).Elem(), "", nil).all() {
			if p.below == nil {
				want[string(k)+" "+p.path] = true
			}
		}
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("fields and rows (-fields +rows):\n%s", d)
	}
}

func TestATextThatReadsLikeAnEmptyWordIsAText(t *testing.T) {
	for _, word := range []string{`"none"`, `"never"`, `"unlimited"`, `"0"`, `"false"`, `"[]"`} {
		if len(compare(specWith(t, schema.KindLabel, "description", word), &schema.Label{}, nil)) == 0 {
			t.Errorf("description = %s is taken for no description", word)
		}
	}
}

func TestAnEntryWithoutRightsIsNoEntry(t *testing.T) {
	want := specWith(t, schema.KindAccess, "users", `{"bob":[]}`)
	if got := compare(want, specWith(t, schema.KindAccess, "users", `{}`), nil); len(got) > 0 {
		t.Errorf("nobody has rights either way: %v", got)
	}
	got := compare(want, specWith(t, schema.KindAccess, "users", `{"bob":["pull"]}`), nil)
	if d := cmp.Diff([]Field{{Path: "users.bob", Old: `["pull"]`, Removes: 1}}, got); d != "" {
		t.Error(d)
	}
}

func TestLosingAdminCountsEveryRightThatGoes(t *testing.T) {
	want, have := specWith(t, schema.KindAccess, "users", `{"bob":["pull"]}`), specWith(t, schema.KindAccess, "users", `{"bob":["admin"]}`)
	got := compare(want, have, nil)
	if d := cmp.Diff([]Field{{Path: "users.bob", Old: `["admin"]`, New: `["pull"]`, Removes: 3}}, got); d != "" {
		t.Error(d)
	}
}

func TestNullInJSONIsNotManaged(t *testing.T) {
	for _, r := range fieldRows() {
		f := flatten(specWith(t, r.kind, r.field, "null"))
		f.complete = slices.DeleteFunc(f.complete, func(p string) bool { return p == "altered" || p == "digest" }) // are always
		if len(f.leaves) > 0 || len(f.complete) > 0 {
			t.Errorf("%s %s: null is managed", r.kind, r.field)
		}
	}
}
