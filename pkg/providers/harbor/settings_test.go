package harbor_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// setting declares some settings, as Harbor names them.
func setting(values string) string { return `settings {"values":{` + values + `}}` }

// others are values of every setting that Harbor shows, other than those it comes
// with; read_only is not among them, since nothing but it can be set then.
func (h standIn) others(t testing.TB) map[string]string {
	t.Helper()
	var all map[string]struct{ Value json.RawMessage }
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/configurations", "")), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for name, s := range all {
		switch text := string(s.Value); {
		case text == "" || slices.Contains([]string{"read_only", "uaa_client_secret", "banner_message", "oidc_extra_redirect_parms"}, name):
		case name == "auth_mode":
			out[name] = `"oidc_auth"`
		case name == "project_creation_restriction":
			out[name] = `"adminonly"`
		case name == "ldap_scope" || name == "ldap_group_search_scope":
			out[name] = "1"
		case name == "storage_per_project":
			out[name] = "1073741824"
		case text == "true":
			out[name] = "false"
		case text == "false":
			out[name] = "true"
		case strings.HasPrefix(text, `"`):
			out[name] = `"a \"b\" & <c>"`
		default:
			out[name] = "77"
		}
	}
	if len(out) < 50 {
		t.Fatalf("there are only %d settings", len(out))
	}
	return out
}

func TestEachChangeOfASettingByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	values := h.others(t)
	var all []string
	for name, value := range values {
		all = append(all, fmt.Sprintf("%q:%s", name, value))
	}
	var first map[string]struct{ Value json.RawMessage }
	if err := json.Unmarshal([]byte(h.behind(t, http.MethodGet, "/configurations", "")), &first); err != nil {
		t.Fatal(err)
	}
	want := apply(t, p, setting(strings.Join(all, ",")))
	for name, value := range values {
		was := string(first[name].Value)
		if was == `""` && slices.Contains([]string{"ldap_base_dn", "ldap_url", "ldap_uid", "ldap_group_attribute_name"}, name) {
			was = `"x"` // cannot be emptied any more
		}
		if name == "audit_log_forward_endpoint" {
			was = `"other:514"` // needed by skip_audit_log_database
		}
		h.behind(t, http.MethodPut, "/configurations", fmt.Sprintf("{%q:%s}", name, was))
		drifts(t, p, want, "update settings", fmt.Sprintf("  values.%s: %s -> %s", name, was, value))
	}
}

// A setting that holds an object in a text is managed part by part; how it is
// spelled is no difference, and a quote in it breaks nothing.
func TestAPackedSettingIsManagedByItsParts(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, setting(`"banner_message.message":"say \"no\"","banner_message.type":"info","oidc_extra_redirect_parms.prompt":"login"`))
	put := func(name, text string) {
		t.Helper()
		body, err := json.Marshal(map[string]string{name: text})
		if err != nil {
			t.Fatal(err)
		}
		h.behind(t, http.MethodPut, "/configurations", string(body))
	}
	put("banner_message", `{ "type": "info", "message": "say \"no\"", "closable": true }`)
	put("oidc_extra_redirect_parms", `{ "prompt": "login" }`)
	drifts(t, p, want) // a part that nobody manages is left
	put("banner_message", `{"type":"danger","message":"say \"no\"","closable":true}`)
	drifts(t, p, want, "update settings", `  values.banner_message.type: "danger" -> "info"`)
	if have := h.behind(t, http.MethodGet, "/configurations", ""); !strings.Contains(have, `\"closable\":true`) {
		t.Error("what is not managed of the banner is gone")
	}
	put("banner_message", "")
	drifts(t, p, want, "update settings", `  values.banner_message.message:  -> "say \"no\""`, `  values.banner_message.type:  -> "info"`)
	// and as a whole: emptied, and written as the text that it is
	apply(t, p, setting(`"banner_message":"","oidc_extra_redirect_parms":""`))
	for _, part := range []string{`"banner_message":{"editable":true,"value":""}`, `"oidc_extra_redirect_parms":{"editable":true,"value":"{}"}`} {
		if have := h.behind(t, http.MethodGet, "/configurations", ""); !strings.Contains(have, part) {
			t.Errorf("the settings do not have %s", part)
		}
	}
	apply(t, p, setting(`"banner_message":"{\"message\":\"m\",\"type\":\"info\"}"`))
	apply(t, p, setting(`"banner_message.message":"other"`))
}

// Of secrets Harbor shows one, which is compared and passed on to nobody.
func TestSecretsAmongSettings(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := setting(`"uaa_client_secret":` + secretA + `,"oidc_client_secret":` + secretA)
	apply(t, p, want)
	st := read(t, p, schema.KindSettings)
	text, err := json.Marshal(st)
	if err != nil || strings.Contains(string(text), "Canary") {
		t.Errorf("a secret is read: %s, %v", text, err)
	}
	h.behind(t, http.MethodPut, "/configurations", `{"uaa_client_secret":"other"}`)
	drifts(t, p, objects(t, want), "update settings", `  values.uaa_client_secret: "(secret)" -> "(secret changed)"`)
	if have := h.behind(t, http.MethodGet, "/configurations", ""); !strings.Contains(have, `Canary7Bird`) {
		t.Error("the secret was not written")
	}
}

func TestSettingsThatHarborIgnoresOrRefusesAreRefused(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, person("alice"))
	for values, why := range map[string]string{
		`"self_registraton":true`:    "has no setting self_registraton; is self_registration meant?",
		`"token_expiration":"30"`:    "token_expiration is a number, and not a text",
		`"self_registration":"true"`: "self_registration is true or false, and not a text",
		`"auth_mode":"oidc_auth"`:    "auth_mode cannot be changed here",
		`"scan_all_policy":"x"`:      "[scan] has the schedule",
	} {
		if v := verdict(t, p, objects(t, setting(values))); !strings.Contains(v.Refused, why) {
			t.Errorf("%s is refused so: %q, want %q", values, v.Refused, why)
		}
	}
	apply(t, p, setting(`"auth_mode":"db_auth"`)) // what it is may be said
	says(t, failed(t, p, compared(t, p, objects(t, setting(`"token_expiration":0`)))...), providers.ErrInvalid, "settings", "the token_expiration value must be positive")
}

func TestAccountsAreRefusedWhereTheyWillComeFromElsewhere(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	changes := compared(t, p, objects(t, setting(`"auth_mode":"oidc_auth"`), person("alice")))
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range changes {
		if c.Key.Kind == schema.KindUser && !strings.Contains(verdicts[i].Refused, "auth_mode is oidc_auth") {
			t.Errorf("%s is refused so: %q", c.Key, verdicts[i].Refused)
		}
	}
}

// Harbor keeps an address that it refuses, and would use it. What it keeps for ever
// is not sent before.
func TestWhatHarborKeepsOfWhatItRefusesIsTakenBack(t *testing.T) {
	h := newStandIn(t, harbortest.Options{Remotes: elsewhere(map[string]harbortest.Health{"dead": harbortest.Unreachable})})
	p := h.open(t)
	changes := compared(t, p, objects(t, setting(`"audit_log_forward_endpoint":"dead:514","ldap_url":"ldap://l.example.com","session_timeout":30`)))
	says(t, failed(t, p, changes...), providers.ErrInvalid, "could not connect to the audit endpoint: dead:514")
	have := h.behind(t, http.MethodGet, "/configurations", "")
	for _, part := range []string{`"audit_log_forward_endpoint":{"editable":true,"value":""}`, `"ldap_url":{"editable":true,"value":""}`, `"session_timeout":{"editable":true,"value":60}`} {
		if !strings.Contains(have, part) {
			t.Errorf("the settings do not have %s", part)
		}
	}
	if rest := compared(t, p, objects(t, setting(`"audit_log_forward_endpoint":"dead:514"`))); len(rest) != 1 {
		t.Errorf("the next plan is %s", told(rest))
	}

	changes = compared(t, p, objects(t, setting(`"audit_log_forward_endpoint":"alive:514","skip_audit_log_database":true,"ldap_group_search_filter":"f"`)))
	says(t, failed(t, p, changes...), providers.ErrInvalid, "ldap group name attribute can not be empty")
	have = h.behind(t, http.MethodGet, "/configurations", "")
	for _, part := range []string{`"audit_log_forward_endpoint":{"editable":true,"value":""}`, `"skip_audit_log_database":{"editable":true,"value":false}`} {
		if !strings.Contains(have, part) {
			t.Errorf("after another refusal the settings do not have %s", part)
		}
	}
}

// While Harbor is read-only it takes settings alone.
func TestReadOnlyIsSwitchedOffFirstAndOnLast(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	parted := func(lines ...string) (first, then, last *plan.Change) {
		t.Helper()
		for _, c := range compared(t, p, objects(t, lines...)) {
			if c.Key.Kind == schema.KindSettings {
				return p.Part(c)
			}
		}
		t.Fatal("no settings change")
		return nil, nil, nil
	}
	first, then, last := parted(setting(`"read_only":true,"session_timeout":30`))
	if first != nil || then == nil || last == nil {
		t.Fatalf("switching on is %v, %v, %v", first, then, last)
	}
	change(t, p, *then)
	change(t, p, *last)
	if rest := compared(t, p, objects(t, setting(`"read_only":true,"session_timeout":30`))); len(rest) > 0 {
		t.Errorf("a second plan is not empty: %s", told(rest))
	}

	// it stays so: nothing else can be
	stays := compared(t, p, objects(t, "namespace/team-a", setting(`"read_only":true`)))
	v, err := p.Prepare(t.Context(), stays)
	if err != nil || !strings.Contains(v[0].Refused, "declare read_only = false") {
		t.Errorf("a project in a read-only Harbor is refused so: %+v, %v", v, err)
	}
	says(t, failed(t, p, stays...), providers.ErrReadOnly, "read only mode", "read_only = false")

	opens := []string{"namespace/team-a", setting(`"read_only":false,"session_timeout":40`)}
	verdicts, err := p.Prepare(t.Context(), compared(t, p, objects(t, opens...)))
	if err != nil || slices.ContainsFunc(verdicts, func(v providers.Verdict) bool { return v.Refused != "" }) {
		t.Errorf("what opens it is refused: %+v, %v", verdicts, err)
	}
	first, then, last = parted(opens...)
	if first == nil || then == nil || last != nil {
		t.Fatalf("switching off is %v, %v, %v", first, then, last)
	}
	change(t, p, *first)
	change(t, p, *then)
	apply(t, p, opens...)

	// alone it is one part
	if first, then, last = parted(setting(`"read_only":true`)); first != nil || then != nil || last == nil {
		t.Errorf("alone it is %v, %v, %v", first, then, last)
	}
	if first, then, last = parted(setting(`"session_timeout":50`)); first != nil || then == nil || last != nil {
		t.Errorf("another setting is %v, %v, %v", first, then, last)
	}
}

// A robot may not see settings: where nobody asks for any they are unknown.
func TestSettingsThatARobotMayNotSee(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	admin := h.open(t)
	apply(t, admin, `robot/ocisync {"expires":"never","access":{"*":["admin"]},"secret":{"value":`+secretA+`}}`)
	name := "ocisync"
	reg := h.registry
	reg.Login = &schema.Login{Robot: &name, Password: h.registry.Login.Password}
	p, err := harbor.New(reg, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	st := read(t, p, schema.KindSettings)
	if st.Scope.Covers(schema.Key{Kind: schema.KindSettings}) {
		t.Error("settings that cannot be read are taken for absent")
	}
	if _, _, err := p.Normalize(objects(t, setting(`"session_timeout":30`))); err != nil {
		t.Fatal(err)
	}
	_, err = p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
	says(t, err, providers.ErrForbidden, "Harbor lets no robot do this", "registry.admin")
}

// Of a Harbor as it comes nothing is chosen; a switch that comes on and is off is.
func TestWhatIsChosenIsWhatHarborDoesNotComeWith(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	chosen := func() []string {
		t.Helper()
		live, ok := read(t, p, schema.KindSettings).Get(schema.Key{Kind: schema.KindSettings})
		if !ok {
			t.Fatal("there are no settings")
		}
		r := p.Chosen(live)
		spec, ok := r.Spec.(*schema.Settings)
		if !ok {
			t.Fatalf("they are %T", r.Spec)
		}
		out := slices.Clone(r.Unread)
		for _, v := range spec.Values {
			out = append(out, v.Path+" = "+v.JSON)
		}
		return out
	}
	if list := chosen(); len(list) > 0 {
		t.Errorf("it chose %q", list)
	}
	h.behind(t, http.MethodPut, "/configurations", `{"oidc_verify_cert":false,"ldap_timeout":0,"banner_message":"x","uaa_client_secret":"s"}`)
	want := []string{"values.ldap_search_password", "values.oidc_client_secret", "values.uaa_client_secret", `banner_message = "x"`, "ldap_timeout = 0", "oidc_verify_cert = false"}
	if diff := cmp.Diff(want, chosen()); diff != "" {
		t.Errorf("chosen (-want +have):\n%s", diff)
	}
}

// Where no account may see settings, what is left as it is says so.
func TestSettingsThatNobodyMaySeeAreToldOf(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	h.registry.Login = h.worker(t)
	left, err := h.open(t).Left(t.Context(), schema.State{})
	if err != nil || !slices.ContainsFunc(left, func(l providers.Leftover) bool {
		return l.What == "settings" && strings.Contains(l.Why, "registry.admin")
	}) {
		t.Errorf("it leaves %v, %v", left, err)
	}
}
