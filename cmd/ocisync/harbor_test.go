package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers/all"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// harborWorld is a stand-in for Harbor and a mode of it.
type harborWorld struct {
	*harbortest.Server
	url, mode, dir string
	version        string
	env            map[string]string
}

func newHarborWorld(t *testing.T, options harbortest.Options) *harborWorld {
	t.Helper()
	options.FirstID = 1000
	h := harbortest.New(options)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	w := &harborWorld{Server: h, url: server.URL, version: options.Version, dir: dir, mode: filepath.Join(dir, "modes", "m"), env: map[string]string{
		"OCISYNC_MODE": "m", "OCISYNC_MODES": filepath.Join(dir, "modes"), "OCISYNC_ADMIN": "Harbor12345",
		"HOME": dir, "XDG_STATE_HOME": filepath.Join(dir, "machine"),
	}}
	write(t, filepath.Join(w.mode, "m.toml"), fmt.Sprintf("version = 1\n\n[registry]\ntype = \"harbor\"\nurl  = %q\n\n[registry.login]\nuser     = \"admin\"\npassword = { env = \"OCISYNC_ADMIN\" }\n\n[state]\nstore = \"dir\"\ndir   = \"../../state\"\n", server.URL))
	return w
}

// ocisync runs a verb, and looks at its exit code.
func (w *harborWorld) ocisync(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	got := run(t.Context(), args, streams{
		in: strings.NewReader(""), out: &out, err: &errs,
		getenv: func(name string) (string, bool) { v, ok := w.env[name]; return v, ok },
	})
	if got != code {
		t.Fatalf("ocisync %s: exit code %d, want %d:\n%s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// api asks Harbor's API as its administrator, as somebody else would.
func (w *harborWorld) api(t *testing.T, method, path, body string) string {
	t.Helper()
	body = spokenBy(w.version).Replace(body)
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+"/api/v2.0"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "Harbor12345")
	req.Header.Set("X-Is-Resource-Name", "true")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s %s: %d %s, %v", method, path, body, resp.StatusCode, text, err)
	}
	return string(text)
}

// oldest is the first Harbor that ocisync writes to.
const oldest = "v2.10.3-1"

// lackedBy are the fields that a version has not.
func lackedBy(version string) []string {
	if version != oldest {
		return nil
	}
	return []string{
		"namespace/cache proxy.", "preheat_policy/a/early scope", "remote/dr tls.ca", "replication/out single", "scan/a sbom",
	}
}

// spokenBy has a body in the words of a version: the oldest purges operations, and not
// events.
func spokenBy(version string) *strings.Replacer {
	if version != oldest {
		return strings.NewReplacer()
	}
	return strings.NewReplacer("include_event_types", "include_operations", "create_artifact", "create", "delete_artifact", "delete")
}

func decoded[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

type object = map[string]json.RawMessage

// find is the field of the one in a list whose other field is so.
func (w *harborWorld) find(t *testing.T, list, by, value, field string) string {
	t.Helper()
	for _, o := range decoded[[]object](t, w.api(t, http.MethodGet, list, "")) {
		if strings.Trim(string(o[by]), `"`) == value {
			return strings.Trim(string(o[field]), `"`)
		}
	}
	t.Fatalf("%s has none with %s %s", list, by, value)
	return ""
}

// edit puts an object back with other fields.
func (w *harborWorld) edit(t *testing.T, path, fields string) {
	t.Helper()
	o := decoded[object](t, w.api(t, http.MethodGet, path, ""))
	maps.Copy(o, decoded[object](t, fields))
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	w.api(t, http.MethodPut, path, string(body))
}

// replace puts an object back with other text in it.
func (w *harborWorld) replace(t *testing.T, path, old, text string) {
	t.Helper()
	have := w.api(t, http.MethodGet, path, "")
	if !strings.Contains(have, old) {
		t.Fatalf("%s has no %s: %s", path, old, have)
	}
	w.api(t, http.MethodPut, path, strings.Replace(have, old, text, 1))
}

// planned are the objects and fields of a plan, held ones included.
func (w *harborWorld) planned(t *testing.T, code int) []string {
	t.Helper()
	out, _ := w.ocisync(t, code, "plan", "--output", "json")
	type change struct {
		Action, Key string
		Fields      []struct{ Path string }
	}
	p := decoded[struct {
		Changes []change
		Held    []struct{ Change change }
	}](t, out)
	for _, h := range p.Held {
		p.Changes = append(p.Changes, h.Change)
	}
	lines := []string{}
	for _, c := range p.Changes {
		if c.Action == "create" {
			lines = append(lines, "create "+c.Key)
			continue
		}
		for _, f := range c.Fields {
			lines = append(lines, c.Key+" "+f.Path)
		}
	}
	return lines
}

// certificate is one that a Harbor takes.
func certificate(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../pkg/providers/harbor/testdata/certs/a.pem")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fill makes one of everything that a mode can say, nothing as it comes.
func (w *harborWorld) fill(t *testing.T) {
	t.Helper()
	post := func(path, body string) { w.api(t, http.MethodPost, path, body) }
	put := func(path, body string) { w.api(t, http.MethodPut, path, body) }
	post("/users", `{"username":"alice","email":"alice@example.com","realname":"Alice","comment":"c","password":"Passw0rd1"}`)
	put("/users/"+w.find(t, "/users", "username", "alice", "user_id")+"/sysadmin", `{"sysadmin_flag":true}`)
	post("/users", `{"username":"bob","email":"bob@example.com","realname":"Bob","password":"Passw0rd1"}`)
	post("/usergroups", `{"group_name":"ops","group_type":2}`)
	post("/usergroups", `{"group_name":"devs","group_type":3}`)
	ca, err := json.Marshal(certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	post("/registries", fmt.Sprintf(`{"name":"dr","type":"harbor","url":"https://dr.example.com","description":"d","insecure":true,"ca_certificate":%s,"credential":{"type":"basic","access_key":"robot$copier","access_secret":"s"}}`, ca))
	post("/registries", `{"name":"hub","type":"docker-hub","url":"https://hub.docker.com"}`)
	post("/registries", `{"name":"quay","type":"docker-registry","url":"https://quay.example.com","credential":{"type":"basic","access_key":"u","access_secret":"s"}}`)
	post("/scanners", `{"name":"installed","url":"http://installed:8080"}`)
	post("/scanners", `{"name":"trivy","url":"http://trivy:8080","description":"d","auth":"Bearer","access_credential":"x","skip_certVerify":true,"use_internal_addr":true}`)
	post("/p2p/preheat/instances", `{"name":"p2p","vendor":"dragonfly","endpoint":"https://p2p.example.com","description":"d","auth_mode":"BASIC","auth_info":{"username":"u","password":"p"},"default":true,"enabled":true,"insecure":true}`)
	post("/projects", `{"project_name":"a","metadata":{"public":"true","auto_scan":"true","auto_sbom_generation":"true","prevent_vul":"true","severity":"high","reuse_sys_cve_allowlist":"false","enable_content_trust_cosign":"true","enable_content_trust":"true"},"storage_limit":1073741824}`)
	put("/projects/a", `{"cve_allowlist":{"items":[{"cve_id":"CVE-2026-1001"}],"expires_at":1999999999}}`)
	put("/projects/a/scanner", `{"uuid":"`+w.find(t, "/scanners", "name", "trivy", "uuid")+`"}`)
	const caching = `"proxy_speed_kb":"8192","max_upstream_conn":"5","proxy_cache_local_on_not_found":"true","proxy_referrer_api":"true"`
	post("/projects", `{"project_name":"cache","registry_id":`+w.find(t, "/registries", "name", "hub", "id")+`,"metadata":{"public":"false",`+caching+`,"proxy_cache_filter_pattern":"library/.+","proxy_cache_filter_kind":"regex"}}`)
	post("/projects", `{"project_name":"open","metadata":{"public":"false","prevent_vul":"true","severity":"none"}}`)
	post("/projects/a/members", `{"role_id":4,"member_user":{"username":"bob"}}`)
	post("/projects/a/members", `{"role_id":2,"member_group":{"group_name":"ops","group_type":2}}`)
	post("/labels", `{"name":"base","color":"#1565c0","description":"d","scope":"g"}`)
	id := w.find(t, "/projects", "name", "a", "project_id")
	post("/labels", `{"name":"own","color":"#2E7D32","description":"e","scope":"p","project_id":`+id+`}`)
	post("/projects/a/webhook/policies", `{"name":"ci","description":"d","enabled":false,"event_types":["PUSH_ARTIFACT","SCANNING_FAILED"],"targets":[{"type":"http","address":"https://ci.example.com/a","auth_header":"x","skip_cert_verify":true,"payload_format":"CloudEvents"}]}`)
	post("/projects/a/preheat/policies", `{"name":"early","description":"d","provider_id":`+w.find(t, "/p2p/preheat/instances", "name", "p2p", "id")+`,"enabled":true,"filters":"[{\"type\":\"repository\",\"value\":\"api/**\"},{\"type\":\"tag\",\"value\":\"v*\"},{\"type\":\"label\",\"value\":\"base,own\"}]",`+
		`"trigger":"{\"type\":\"scheduled\",\"trigger_setting\":{\"cron\":\"0 0 2 * * *\"}}","extra_attrs":"{\"scope\":\"all_peers\"}"}`)
	post("/p2p/preheat/instances", `{"name":"spare","vendor":"dragonfly","endpoint":"https://spare.example.com","auth_mode":"NONE","enabled":true}`)
	post("/projects/a/immutabletagrules", `{"action":"immutable","template":"immutable_template","tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoExcludes","pattern":"tmp/**"}]}}`)
	post("/retentions", `{"algorithm":"or","scope":{"level":"project","ref":`+id+`},"trigger":{"kind":"Schedule","settings":{"cron":"0 0 3 * * *"}},"rules":[`+
		`{"action":"retain","template":"latestPushedK","params":{"latestPushedK":3},"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*","extras":"{\"untagged\":false}"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}]}`)
	for _, level := range []string{`"name":"ci","level":"project"`, `"name":"all","level":"system"`} {
		post("/robots", `{`+level+`,"description":"d","duration":30,"permissions":[{"kind":"project","namespace":"a","access":[{"resource":"repository","action":"pull","effect":"allow"},{"resource":"repository","action":"push","effect":"allow"},{"resource":"scan","action":"create","effect":"allow"}]}]}`)
	}
	w.edit(t, "/robots/"+w.find(t, "/robots", "name", "robot$all", "id"), `{"disable":true}`)
	for _, name := range []string{"api", "backend/deep/api"} {
		if err := w.Push(harbortest.Image{Repository: "a/" + name, Tags: []string{"v1"}, Size: 9}); err != nil {
			t.Fatal(err)
		}
		put("/projects/a/repositories/"+strings.ReplaceAll(name, "/", "%252F"), `{"description":"d"}`)
	}
	far := w.find(t, "/registries", "name", "dr", "id")
	post("/replication/policies", `{"name":"out","description":"d","dest_registry":{"id":`+far+`},"dest_namespace":"mirror","trigger":{"type":"scheduled","trigger_settings":{"cron":"0 0 2 * * *"}},"filters":[{"type":"name","value":"a/**"},{"type":"tag","value":"v*","decoration":"excludes"},{"type":"label","value":["base"]},{"type":"resource","value":"image"}],"deletion":true,"override":true,"enabled":true,"speed":1024,"dest_namespace_replace_count":2,"copy_by_chunk":true,"single_active_replication":true}`)
	post("/replication/policies", `{"name":"in","src_registry":{"id":`+far+`},"trigger":{"type":"manual"},"enabled":false,"speed":0}`)
	put("/system/gc/schedule", `{"schedule":{"type":"Custom","cron":"0 0 2 * * 0"},"parameters":{"delete_untagged":true,"workers":2}}`)
	put("/system/purgeaudit/schedule", `{"schedule":{"type":"Custom","cron":"0 0 4 * * *"},"parameters":{"audit_retention_hour":8760,"include_event_types":"create_artifact,delete_artifact","dry_run":false}}`)
	put("/system/scanAll/schedule", `{"schedule":{"type":"Custom","cron":"0 0 5 * * *"}}`)
	put("/system/CVEAllowlist", `{"items":[{"cve_id":"CVE-2026-1002"}],"expires_at":1999999999}`)
	put("/configurations", `{"session_timeout":45,"token_expiration":31,"oidc_verify_cert":false,"oidc_endpoint":"https://id.example.com","oidc_client_id":"harbor","oidc_client_secret":"s",`+
		`"oidc_extra_redirect_parms":"{\"prompt\":\"login\"}","uaa_client_secret":"u","banner_message":"{\"message\":\"a \\\"b\\\" <c>\",\"type\":\"info\",\"closable\":true}","ldap_uid":"uid"}`)
}

// byHand is a change that somebody makes, and the field that it is of. What an
// apply cannot put back, who made it does.
type byHand struct {
	field    string
	do, undo func(t *testing.T, w *harborWorld)
}

// hands are a change of each field that a version has.
func hands(version string) []byHand {
	return slices.DeleteFunc(allHands(), func(h byHand) bool {
		return slices.ContainsFunc(lackedBy(version), func(field string) bool { return strings.HasPrefix(h.field, field) })
	})
}

// allHands are a change of each field.
func allHands() []byHand {
	var out []byHand
	add := func(field string, do func(t *testing.T, w *harborWorld)) { out = append(out, byHand{field, do, nil}) }
	put := func(field, path, body string) {
		add(field, func(t *testing.T, w *harborWorld) { t.Helper(); w.api(t, http.MethodPut, path, body) })
	}
	// found edits one that a list has by its name
	found := func(field, list, name, id, path, fields string) {
		add(field, func(t *testing.T, w *harborWorld) {
			t.Helper()
			by := "name"
			if list == "/users" {
				by = "username"
			}
			w.edit(t, path+w.find(t, list, by, name, id), fields)
		})
	}
	put("settings values.session_timeout", "/configurations", `{"session_timeout":46}`)
	put("settings values.banner_message.message", "/configurations", `{"banner_message":"{\"message\":\"d\",\"type\":\"info\",\"closable\":true}"}`)
	user := func(field, fields string) {
		found("user/alice "+field, "/users", "alice", "user_id", "/users/", fields)
	}
	user("email", `{"email":"other@example.com"}`)
	user("full_name", `{"realname":"Other"}`)
	user("comment", `{"comment":""}`)
	add("user/alice admin", func(t *testing.T, w *harborWorld) {
		t.Helper()
		w.api(t, http.MethodPut, "/users/"+w.find(t, "/users", "username", "alice", "user_id")+"/sysadmin", `{"sysadmin_flag":false}`)
	})
	add("group/devs type", func(t *testing.T, w *harborWorld) {
		t.Helper()
		w.api(t, http.MethodDelete, "/usergroups/"+w.find(t, "/usergroups", "group_name", "devs", "id"), "")
		w.api(t, http.MethodPost, "/usergroups", `{"group_name":"devs","group_type":2}`)
	})

	remote := func(field, name, fields string) {
		add("remote/"+name+" "+field, func(t *testing.T, w *harborWorld) {
			t.Helper()
			w.api(t, http.MethodPut, "/registries/"+w.find(t, "/registries", "name", name, "id"), fields)
		})
	}
	remote("description", "dr", `{"description":""}`)
	remote("url", "dr", `{"url":"https://other.example.com"}`) // of which nobody declares the secret, which the newest forgets
	out[len(out)-1].undo = func(t *testing.T, w *harborWorld) {
		t.Helper()
		w.api(t, http.MethodPut, "/registries/"+w.find(t, "/registries", "name", "dr", "id"), `{"url":"https://dr.example.com","access_secret":"s"}`)
	}
	remote("tls.insecure", "dr", `{"insecure":false}`)
	remote("tls.ca", "dr", `{"ca_certificate":""}`)
	remote("login.robot", "dr", `{"access_key":"robot$other"}`)
	remote("login.user", "quay", `{"access_key":"other"}`)

	scanner := func(field, fields string) {
		found("scanner/trivy "+field, "/scanners", "trivy", "uuid", "/scanners/", fields)
	}
	scanner("url", `{"url":"http://other:8080"}`)
	scanner("description", `{"description":""}`)
	scanner("auth", `{"auth":"Basic"}`) // of which nobody declares what to log in with
	out[len(out)-1].undo = func(t *testing.T, w *harborWorld) {
		t.Helper()
		w.edit(t, "/scanners/"+w.find(t, "/scanners", "name", "trivy", "uuid"), `{"auth":"Bearer","access_credential":"x"}`)
	}
	scanner("insecure", `{"skip_certVerify":false}`)
	scanner("internal_address", `{"use_internal_addr":false}`)
	scanner("enabled", `{"disabled":true}`)

	preheat := func(field, fields string) {
		add("preheat/p2p "+field, func(t *testing.T, w *harborWorld) {
			t.Helper()
			w.edit(t, "/p2p/preheat/instances/p2p", fields)
		})
	}
	preheat("url", `{"endpoint":"https://other.example.com"}`)
	preheat("description", `{"description":""}`)
	preheat("default", `{"default":false}`)
	add("preheat/spare enabled", func(t *testing.T, w *harborWorld) { // Harbor disables none that a policy uses
		t.Helper()
		w.edit(t, "/p2p/preheat/instances/spare", `{"enabled":false}`)
	})
	preheat("insecure", `{"insecure":false}`)
	preheat("auth", `{"auth_mode":"NONE"}`)
	out[len(out)-1].undo = func(t *testing.T, w *harborWorld) {
		t.Helper()
		w.edit(t, "/p2p/preheat/instances/p2p", `{"auth_mode":"BASIC","auth_info":{"username":"u","password":"p"}}`)
	}

	const project = "/projects/a"
	put("access/a anonymous", project, `{"metadata":{"public":"false"}}`)
	member := func(field, name, body string) {
		add("access/a "+field, func(t *testing.T, w *harborWorld) {
			t.Helper()
			w.api(t, http.MethodPut, project+"/members/"+w.find(t, project+"/members", "entity_name", name, "id"), body)
		})
	}
	member("users.bob", "bob", `{"role_id":3}`)
	member("groups.ops", "ops", `{"role_id":1}`)
	add("quota/a limit", func(t *testing.T, w *harborWorld) {
		t.Helper()
		for _, q := range decoded[[]struct {
			ID  int64
			Ref struct{ Name string }
		}](t, w.api(t, http.MethodGet, "/quotas", "")) {
			if q.Ref.Name == "a" {
				w.api(t, http.MethodPut, fmt.Sprintf("/quotas/%d", q.ID), `{"hard":{"storage":-1}}`)
			}
		}
	})
	policy := func(field, old, text string) {
		add("retention/a "+field, func(t *testing.T, w *harborWorld) {
			t.Helper()
			p := decoded[struct{ Metadata map[string]string }](t, w.api(t, http.MethodGet, project, ""))
			w.replace(t, "/retentions/"+p.Metadata["retention_id"], old, text)
		})
	}
	policy("keep", `"latestPushedK":3`, `"latestPushedK":4`)
	policy("untagged", `{\"untagged\":false}`, `{\"untagged\":true}`)
	policy("schedule", `"cron":"0 0 3 * * *"`, `"cron":""`)
	add("immutable/a rules", func(t *testing.T, w *harborWorld) {
		t.Helper()
		list := w.api(t, http.MethodGet, project+"/immutabletagrules", "")
		rule := strings.Trim(strings.TrimSpace(list), "[]")
		id := string(decoded[object](t, rule)["id"])
		w.api(t, http.MethodPut, project+"/immutabletagrules/"+id, strings.Replace(rule, `"pattern":"v*"`, `"pattern":"w*"`, 1))
	})
	for field, metadata := range map[string]string{
		"rate": `"proxy_speed_kb":"-1"`, "connections": `"max_upstream_conn":"6"`, "serve_gone": `"proxy_cache_local_on_not_found":"false"`,
		"referrers": `"proxy_referrer_api":"false"`, "repositories_regex": `"proxy_cache_filter_pattern":"team/.+","proxy_cache_filter_kind":"regex"`,
	} {
		put("namespace/cache proxy."+field, "/projects/cache", `{"metadata":{`+metadata+`}}`)
	}
	put("scan/open block", "/projects/open", `{"metadata":{"severity":"low"}}`)
	put("scan/a on_push", project, `{"metadata":{"auto_scan":"false"}}`)
	put("scan/a sbom", project, `{"metadata":{"auto_sbom_generation":"false"}}`)
	put("scan/a block", project, `{"metadata":{"severity":"low"}}`)
	put("scan/a allow", project, `{"cve_allowlist":{"items":[]}}`)
	add("scan/a scanner", func(t *testing.T, w *harborWorld) {
		t.Helper()
		w.api(t, http.MethodPut, project+"/scanner", `{"uuid":"`+w.find(t, "/scanners", "name", "installed", "uuid")+`"}`)
	})
	put("trust/a required", project, `{"metadata":{"enable_content_trust_cosign":"false"}}`)
	put("trust/a notation", project, `{"metadata":{"enable_content_trust":"false"}}`)
	put("repository/a/api description", project+"/repositories/api", `{"description":""}`)
	put("repository/a/backend/deep/api description", project+"/repositories/backend%252Fdeep%252Fapi", `{"description":""}`)
	for _, l := range []struct{ key, list, name string }{{"label/base", "/labels?scope=g", "base"}, {"label/a/own", "", "own"}} {
		for field, fields := range map[string]string{"color": `{"color":"#000000"}`, "description": `{"description":""}`} {
			add(l.key+" "+field, func(t *testing.T, w *harborWorld) {
				t.Helper()
				list := l.list
				if list == "" {
					list = "/labels?scope=p&project_id=" + w.find(t, "/projects", "name", "a", "project_id")
				}
				w.edit(t, "/labels/"+w.find(t, list, "name", l.name, "id"), fields)
			})
		}
	}
	hook := func(field, old, text string) {
		add("webhook/a/ci "+field, func(t *testing.T, w *harborWorld) {
			t.Helper()
			const list = project + "/webhook/policies"
			w.replace(t, list+"/"+w.find(t, list, "name", "ci", "id"), old, text)
		})
	}
	hook("url", `example.com/a`, `example.com/b`)
	hook("url", `"targets":[`, `"targets":[{"type":"http","address":"https://first.example.com","skip_cert_verify":true,"payload_format":"CloudEvents"},`)
	hook("events", `"PUSH_ARTIFACT"`, `"PULL_ARTIFACT"`)
	hook("format", `,"payload_format":"CloudEvents"`, ``)
	hook("description", `"description":"d"`, `"description":"e"`)
	hook("insecure", `"skip_cert_verify":true`, `"skip_cert_verify":false`)
	hook("enabled", `"name":"ci"`, `"name":"ci","enabled":true`)

	early := func(field, old, text string) {
		add("preheat_policy/a/early "+field, func(t *testing.T, w *harborWorld) {
			t.Helper()
			w.replace(t, project+"/preheat/policies/early", old, text)
		})
	}
	early("description", `"description":"d"`, `"description":"e"`)
	early("repositories", `api/**`, `web`)
	early("tags", `v*`, `w*`)
	early("labels", `base,own`, `own`)
	early("trigger", `0 0 2 * * *`, `0 0 3 * * *`)
	early("scope", `all_peers`, `all_seed_peers`)
	early("enabled", `"enabled":true`, `"enabled":false`)
	add("preheat_policy/a/early instance", func(t *testing.T, w *harborWorld) {
		t.Helper()
		w.edit(t, project+"/preheat/policies/early", `{"provider_id":`+w.find(t, "/p2p/preheat/instances", "name", "spare", "id")+`}`)
	})

	for key, list := range map[string]string{"robot/all": "", "robot/a/ci": "project"} {
		robot := func(field, old, text string) {
			add(key+" "+field, func(t *testing.T, w *harborWorld) {
				t.Helper()
				name, at := "robot$all", "/robots"
				if list != "" {
					name, at = "robot$a+ci", "/robots?q=Level%3Dproject%2CProjectID%3D"+w.find(t, "/projects", "name", "a", "project_id")
				}
				w.replace(t, "/robots/"+w.find(t, at, "name", name, "id"), old, text)
			})
		}
		robot("description", `"description":"d"`, `"description":"e"`)
		robot("expires", `"duration":30`, `"duration":60`)
		robot("access.a", `"push","effect":"allow","resource":"repository"`, `"pull","resource":"repository"`)
		robot("permissions", `"create","effect":"allow","resource":"scan"`, `"stop","resource":"scan"`)
		if list == "" {
			robot("enabled", `"disable":true`, `"disable":false`)
		} else {
			robot("enabled", `"disable":false`, `"disable":true`)
		}
	}

	rule := func(field, fields string) {
		found("replication/out "+field, "/replication/policies", "out", "id", "/replication/policies/", fields)
	}
	rule("description", `{"description":""}`)
	rule("namespace", `{"dest_namespace":"x"}`)
	rule("deletes", `{"deletion":false}`)
	rule("override", `{"override":false}`)
	rule("enabled", `{"enabled":false}`)
	rule("rate", `{"speed":0}`)
	rule("flatten", `{"dest_namespace_replace_count":0}`)
	rule("chunks", `{"copy_by_chunk":false}`)
	rule("single", `{"single_active_replication":false}`)
	rule("trigger", `{"trigger":{"type":"manual"}}`)
	rule("match.type", `{"filters":[{"type":"name","value":"a/**"},{"type":"tag","value":"v*","decoration":"excludes"},{"type":"label","value":["base"]}]}`)
	rule("match.repositories", `{"filters":[{"type":"name","value":"b/**"},{"type":"tag","value":"v*","decoration":"excludes"},{"type":"label","value":["base"]},{"type":"resource","value":"image"}]}`)
	rule("match.tags", `{"filters":[{"type":"name","value":"a/**"},{"type":"tag","value":"v*"},{"type":"label","value":["base"]},{"type":"resource","value":"image"}]}`)
	rule("match.labels", `{"filters":[{"type":"name","value":"a/**"},{"type":"tag","value":"v*","decoration":"excludes"},{"type":"resource","value":"image"}]}`)
	for field, name := range map[string]string{"to": "out", "from": "in"} {
		add("replication/"+name+" "+field, func(t *testing.T, w *harborWorld) {
			t.Helper()
			side := map[string]string{"to": "dest_registry", "from": "src_registry"}[field]
			other := w.find(t, "/registries", "name", "quay", "id")
			w.edit(t, "/replication/policies/"+w.find(t, "/replication/policies", "name", name, "id"), fmt.Sprintf(`{%q:{"id":%s}}`, side, other))
		})
	}

	const gc, purge = "/system/gc/schedule", "/system/purgeaudit/schedule"
	put("gc schedule", gc, `{"schedule":{"type":"Custom","cron":"0 0 3 * * 0"},"parameters":{"delete_untagged":true,"workers":2}}`)
	put("gc untagged", gc, `{"schedule":{"type":"Custom","cron":"0 0 2 * * 0"},"parameters":{"workers":2}}`)
	put("gc workers", gc, `{"schedule":{"type":"Custom","cron":"0 0 2 * * 0"},"parameters":{"delete_untagged":true,"workers":3}}`)
	audit := func(field, cron, hours, events string) {
		put("audit "+field, purge, `{"schedule":{"type":"Custom","cron":"`+cron+`"},"parameters":{"audit_retention_hour":`+hours+`,"include_event_types":"`+events+`","dry_run":false}}`)
	}
	audit("schedule", "0 0 1 * * *", "8760", "create_artifact,delete_artifact")
	audit("keep", "0 0 4 * * *", "24", "create_artifact,delete_artifact")
	audit("events", "0 0 4 * * *", "8760", "create_artifact")
	put("scan schedule", "/system/scanAll/schedule", `{"schedule":{"type":"Custom","cron":"0 0 6 * * *"}}`)
	put("scan allow", "/system/CVEAllowlist", `{"items":[]}`)
	add("scan default", func(t *testing.T, w *harborWorld) {
		t.Helper()
		w.api(t, http.MethodPatch, "/scanners/"+w.find(t, "/scanners", "name", "trivy", "uuid"), `{"is_default":true}`)
	})
	return out
}

// elsewhere are the fields of which no change by hand is tried here, and why.
func elsewhere() map[string]string {
	const secret, own = "a secret is never adopted", "ocisync's own, which Harbor does not hold"
	return map[string]string{
		"settings/": "each is changed in the provider's tests",
		"mirror/":   "no registry tells who copied a tag", "artifact/": "no registry tells what it was made of",
		"user/password": secret, "remote/login.password": secret, "scanner/credential": secret, "preheat/credential": secret,
		"webhook/auth": secret, "robot/secret.value": secret,
		"preheat/user":   "Harbor shows nothing of a login",
		"preheat/vendor": "an instance keeps it for ever", "remote/type": "a registry keeps it for ever", "group/ldap_dn": "wants an LDAP",
		"namespace/proxy_of": "a project keeps it for ever; see the last change", "namespace/description": own,
		"namespace/proxy.repositories": "stands in the other's place; changed in the provider's tests",
		"access/authenticated":         own, "access/authenticated_group": own, "trust/keys": own, "trust/identities": own, "trust/root": own,
		"robot/renew": own, "robot/overlap": own, "robot/secret.deliver": own,
	}
}

// leaves are the paths of a spec's fields.
func leaves(t reflect.Type, at string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		path := strings.TrimPrefix(at+"."+name, ".")
		inner := f.Type
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch inner {
		case reflect.TypeFor[schema.TLS](), reflect.TypeFor[schema.Login](), reflect.TypeFor[schema.Match](), reflect.TypeFor[schema.Proxy](), reflect.TypeFor[schema.RobotSecret]():
			out = append(out, leaves(inner, path)...)
		default:
			out = append(out, path)
		}
	}
	return out
}

// tryHands changes each field, one at a time: the plan has it and no other, and an
// apply puts it back. It returns which they are.
func (w *harborWorld) tryHands(t *testing.T) (tried []string) {
	t.Helper()
	for _, hand := range hands(w.version) {
		t.Run(hand.field, func(t *testing.T) {
			hand.do(t, w)
			code := 0
			if hand.undo != nil && (hand.field != "remote/dr url" || w.version != oldest) {
				code = exitRefused
			}
			if diff := cmp.Diff([]string{hand.field}, w.planned(t, code)); diff != "" {
				t.Errorf("the plan (-want +have):\n%s", diff)
			}
			if hand.undo != nil {
				hand.undo(t, w)
			}
			w.ocisync(t, 0, "apply") // which reads what it wrote
		})
		key, field, _ := strings.Cut(hand.field, " ")
		kind, _, _ := strings.Cut(key, "/")
		tried = append(tried, kind+"/"+field)
	}
	return tried
}

// TestWhatTheOldestHarborHoldsIsAdoptedWhole: as of the newest, without what it has
// not; and what it keeps of a login stays when another field is put back.
func TestWhatTheOldestHarborHoldsIsAdoptedWhole(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{Version: oldest})
	w.fill(t)
	_, said := w.ocisync(t, 0, "adopt")
	if strings.Contains(said, "Left as it is") {
		t.Errorf("it leaves out:\n%s", said)
	}
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	w.tryHands(t)
}

// TestWhatAHarborHoldsIsAdoptedWhole: of a Harbor with one of everything adopt
// makes a file of which the plan is empty; each field that somebody changes then is
// in the plan, and no other; and an apply puts it back.
func TestWhatAHarborHoldsIsAdoptedWhole(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{Version: "v2.16.0-1"})
	w.fill(t)
	_, said := w.ocisync(t, 0, "adopt")
	if strings.Contains(said, "Left as it is") {
		t.Errorf("it leaves out:\n%s", said)
	}
	if text, err := os.ReadFile(filepath.Join(w.mode, "certs", "dr.pem")); err != nil || strings.TrimSpace(string(text)) != strings.TrimSpace(certificate(t)) {
		t.Errorf("the certificate is %q, %v", text, err)
	}
	w.ocisync(t, 0, "validate")
	w.ocisync(t, 0, "fmt", "--check")
	w.Forget()
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	w.ocisync(t, 0, "apply")
	if writes := w.Traffic().Writes; writes > 2 { // each of the two logs in
		t.Errorf("an apply of what holds writes %d times", writes)
	}
	tried := w.tryHands(t)
	table, err := all.Table(schema.TypeHarbor, "")
	if err != nil {
		t.Fatal(err)
	}
	skipped := elsewhere()
	for _, k := range schema.Kinds() {
		spec, err := schema.NewSpec(k)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range leaves(reflect.TypeOf(spec).Elem(), "") {
			name := string(k) + "/" + path
			changed := slices.ContainsFunc(tried, func(x string) bool { return x == name || strings.HasPrefix(x, name+".") })
			if !changed && skipped[name] == "" && skipped[string(k)+"/"] == "" && table.Find(k, path).Support != schema.Unsupported {
				t.Errorf("nobody changes %s", name)
			}
		}
	}

	// a project that another took the place of is made anew, with what is on it
	w.api(t, http.MethodDelete, "/projects/cache", "")
	w.api(t, http.MethodPost, "/projects", `{"project_name":"cache","registry_id":`+w.find(t, "/registries", "name", "dr", "id")+`}`)
	lines := w.planned(t, 0)
	if !slices.Contains(lines, "namespace/cache proxy_of") || slices.ContainsFunc(lines, func(l string) bool { return !strings.Contains(l, "/cache") }) {
		t.Errorf("the plan is %q", lines)
	}
}

// filled are the commented references of a file, made to count.
func filled(text string) string {
	return regexp.MustCompile(`(?m)^# (\S+ += \{ env = .*)$`).ReplaceAllString(text, "$1")
}

// TestSettingsAreAdopted: what is not as Harbor comes, with references to fill in for
// secrets of all kinds; what the mode says of them already stays its own.
func TestSettingsAreAdopted(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	main := filepath.Join(w.mode, "m.toml")
	begin, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	if printed, said := w.ocisync(t, 0, "adopt", "--out", "-"); strings.Contains(printed, "[registry.harbor]") || strings.Contains(said, "settings") {
		t.Errorf("of a Harbor as it comes it writes\n%s%s", printed, said)
	}
	w.fill(t)
	if err := os.WriteFile(main, []byte(string(begin)+"\n[registry.harbor]\nsession_timeout = 45\noidc_client_secret = { env = \"OCISYNC_OIDC\" }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.ocisync(t, 0, "adopt")
	file := filepath.Join(w.mode, "adopted.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	have, _, _ := strings.Cut(string(text), "\n[user")
	const unread = " # cannot be read, and is not managed until it is written here\n"
	want := "# Found in the registry by ocisync adopt. Left out = not managed.\n\n[registry.harbor]\n" + `banner_message.closable         = true
banner_message.message          = "a \"b\" <c>"
banner_message.type             = "info"
ldap_uid                        = "uid"
oidc_client_id                  = "harbor"
oidc_endpoint                   = "https://id.example.com"
oidc_extra_redirect_parms.prompt = "login"
oidc_verify_cert                = false
token_expiration                = 31
# ldap_search_password = { env = "OCISYNC_HARBOR_LDAP_SEARCH_PASSWORD" }` + unread + `# uaa_client_secret = { env = "OCISYNC_HARBOR_UAA_CLIENT_SECRET" }` + unread
	if diff := cmp.Diff(strings.Fields(want), strings.Fields(have)); diff != "" {
		t.Errorf("the settings (-want +have):\n%s", diff)
	}
	for _, line := range []string{
		`# password = { env = "OCISYNC_USER_ALICE_PASSWORD" }`, `# auth = { env = "OCISYNC_WEBHOOK_A_CI_AUTH" }`,
		`# login.password = { env = "OCISYNC_REMOTE_QUAY_LOGIN_PASSWORD" }`, `# credential = { env = "OCISYNC_SCANNER_TRIVY_CREDENTIAL" }`,
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("it does not say %s", line)
		}
	}
	w.env["OCISYNC_OIDC"] = "s"
	w.ocisync(t, 0, "apply")
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	if err := os.WriteFile(file, []byte(filled(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	w.ocisync(t, 0, "validate")
}

// No mode says that a robot is denied a right, and no permission is called so: of such a
// robot adopt leaves the permissions out, and says why.
func TestARobotThatIsDeniedARightIsAdoptedWithoutPermissions(t *testing.T) {
	w := newHarborWorld(t, harbortest.Options{})
	w.api(t, http.MethodPost, "/robots", `{"name":"ci","level":"system","duration":-1,"permissions":[{"kind":"project","namespace":"library","access":[
		{"resource":"repository","action":"pull"},{"resource":"repository","action":"push","effect":"deny"},{"resource":"scan","action":"create"}]}]}`)
	_, said := w.ocisync(t, 0, "adopt")
	if !strings.Contains(said, "it is denied repository:push in library") || !strings.Contains(said, "its permissions are left out") {
		t.Errorf("it says %s", said)
	}
	text, err := os.ReadFile(filepath.Join(w.mode, "adopted.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, robot, _ := strings.Cut(string(text), "[robot.ci]"); strings.Contains(robot, "permissions") || !strings.Contains(robot, `["pull"]`) {
		t.Errorf("it writes %s", text)
	}
	if changes := w.planned(t, 0); len(changes) > 0 {
		t.Errorf("the plan after it is %s", changes)
	}
}

// TestNamesWithASlashAreAdopted: groups come with their path from where people log in,
// labels are called so, and scanners report vulnerabilities that have no CVE.
func TestNamesWithASlashAreAdopted(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	for _, r := range [][3]string{
		{http.MethodPost, "/usergroups", `{"group_name":"/team/x","group_type":3}`},
		{http.MethodPost, "/projects/library/members", `{"role_id":2,"member_group":{"group_name":"/team/x","group_type":3}}`},
		{http.MethodPut, "/projects/library", `{"metadata":{"reuse_sys_cve_allowlist":"false"},"cve_allowlist":{"items":[{"cve_id":"GHSA-jfh8-c2jp-5v3q"}]}}`},
		{http.MethodPost, "/labels", `{"name":"library/bug","color":"#111111","scope":"g"}`},
		{http.MethodPost, "/labels", `{"name":"bug","color":"#222222","scope":"p","project_id":1}`},
		{http.MethodPost, "/labels", `{"name":"kind/bug","color":"#333333","scope":"p","project_id":1}`},
		{http.MethodPost, "/projects/library/webhook/policies", `{"name":"ci/main","enabled":true,"event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"https://a.example.com","auth_header":"x"}]}`},
		{http.MethodPost, "/registries", `{"name":"eu/dr","type":"harbor","url":"https://dr.example.com"}`},
		{http.MethodPost, "/replication/policies", `{"name":"eu/out","dest_registry":{"id":1001},"trigger":{"type":"manual"},"enabled":true}`},
		{http.MethodPost, "/scanners", `{"name":"sec/trivy","url":"http://trivy:8080"}`},
	} {
		w.api(t, r[0], r[1], r[2])
	}
	if _, said := w.ocisync(t, 0, "adopt"); strings.Contains(said, "Left as it is") {
		t.Errorf("it leaves out:\n%s", said)
	}
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	w.ocisync(t, 0, "apply")
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	for _, key := range []string{"label/library/kind%2Fbug", `namespace.library.label."kind/bug"`} {
		if out, _ := w.ocisync(t, 0, "explain", "--mode", "m", key); !strings.Contains(out, `namespace.library.label."kind/bug".color`) || !strings.Contains(out, "#333333") {
			t.Errorf("explain %s says\n%s", key, out)
		}
	}
	if out, _ := w.ocisync(t, 0, "explain", "--mode", "m", "label/library%2Fbug"); !strings.Contains(out, "#111111") {
		t.Errorf("explain says\n%s", out)
	}
	text, err := os.ReadFile(filepath.Join(w.mode, "adopted.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`[group."/team/x"]`, `"/team/x" = ["pull", "push"]`, "GHSA-jfh8-c2jp-5v3q", `[label."library/bug"]`, `[namespace.library.label.bug]`,
		`[namespace.library.label."kind/bug"]`, `[namespace.library.webhook."ci/main"]`, "OCISYNC_WEBHOOK_LIBRARY_CI_MAIN_AUTH",
		`[remote."eu/dr"]`, `[replication."eu/out"]`, `[scanner."sec/trivy"]`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it has not %s:\n%s", want, text)
		}
	}
}

// TestOfAListThatCannotBeSaidTheRestOfTheObjectIsAdopted: and the apply after it takes
// nothing away.
func TestOfAListThatCannotBeSaidTheRestOfTheObjectIsAdopted(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	for _, r := range [][3]string{
		{http.MethodPost, "/users", `{"username":"ann","email":"ann@example.com","realname":"ann","password":"Harbor12345"}`},
		{http.MethodPost, "/usergroups", `{"group_name":"c\u0430fe","group_type":3}`}, // one letter is Cyrillic
		{http.MethodPost, "/usergroups", `{"group_name":"fine","group_type":3}`},
		{http.MethodPost, "/projects/library/members", `{"role_id":2,"member_group":{"group_name":"c\u0430fe","group_type":3}}`},
		{http.MethodPost, "/projects/library/members", `{"role_id":3,"member_group":{"group_name":"fine","group_type":3}}`},
		{http.MethodPost, "/projects/library/members", `{"role_id":3,"member_user":{"username":"ann"}}`},
		{http.MethodPut, "/projects/library", `{"metadata":{"auto_scan":"true","reuse_sys_cve_allowlist":"false"},"cve_allowlist":{"items":[{"cve_id":"CVE-2026-1234"},{"cve_id":"all of them"}]}}`},
	} {
		w.api(t, r[0], r[1], r[2])
	}
	_, said := w.ocisync(t, 0, "adopt")
	for _, want := range []string{"access/library groups: ", "scan/library allow: ", "group/c\u0430fe: "} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not tell of %s:\n%s", want, said)
		}
	}
	text, err := os.ReadFile(filepath.Join(w.mode, "adopted.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`ann = ["pull"]`, "on_push = true"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it has not %s:\n%s", want, text)
		}
	}
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
}

// TestWhatNoModeCanHoldIsLeftOut: one thing that a mode has no word for keeps
// nothing else from being adopted, and is told.
func TestWhatNoModeCanHoldIsLeftOut(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	post := func(path, body string) { w.api(t, http.MethodPost, path, body) }
	const hooks = "/projects/library/webhook/policies"
	post(hooks, `{"name":"two","enabled":true,"event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"https://a.example.com"},{"type":"slack","address":"https://b.example.com"}]}`)
	post(hooks, `{"name":"","enabled":true,"event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"https://a.example.com"}]}`)
	post(hooks, `{"name":"one","enabled":true,"event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"https://a.example.com"}]}`)
	ca, err := json.Marshal(certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	post("/registries", fmt.Sprintf(`{"name":"not\u0430one","type":"harbor","url":"https://dr.example.com","ca_certificate":%s}`, ca))
	post("/replication/policies", `{"name":"there","dest_registry":{"id":1001},"trigger":{"type":"manual"},"enabled":true}`)
	post("/labels", `{"name":"library%2Fx","color":"#000000","scope":"g"}`)
	post("/projects", `{"project_name":"a","metadata":{"public":"false","proxy_cache_local_on_not_found":"true"}}`)
	const rules, rule = "/projects/a/immutabletagrules", `"action":"immutable","template":"immutable_template","tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}`
	post(rules, "{"+rule) // Harbor makes none that is off
	w.api(t, http.MethodPut, rules+"/1001", `{"id":1001,"disabled":true,`+rule)
	post("/p2p/preheat/instances", `{"name":"p2p","vendor":"dragonfly","endpoint":"https://p2p.example.com","enabled":true}`)
	post("/projects/a/preheat/policies", `{"name":"early","provider_id":1001,"filters":"[{\"type\":\"tag\",\"value\":\"v*\"},{\"type\":\"signature\",\"value\":true}]","trigger":"{}","enabled":true,"extra_attrs":"{\"cluster_ids\":[1]}"}`)
	for _, name := range []string{"a/deep/app", "a/plain"} {
		if err := w.Push(harbortest.Image{Repository: name, Tags: []string{"v1"}, Size: 9}); err != nil {
			t.Fatal(err)
		}
	}
	w.api(t, http.MethodPut, "/projects/a/repositories/deep%252Fapp", `{"description":"d"}`)

	want := []string{
		`a label of the registry called "library%2Fx": an object of a mode has a name, and one without "%2F"`,
		`a webhook of library called "": an object of a mode has a name, and one without "%2F"`,
		"preheat_policy/a/early: no mode says its filter of type signature, nor its cluster_ids",
		"remote/not\u0430one: ",
		"replication/there: to: remote \"not\u0430one\" is not declared",
		"the metadata of a: no kind speaks of proxy_cache_local_on_not_found",
		"webhook/library/two: it tells 2 addresses, and a webhook of a mode tells one",
	}
	printed, said := w.ocisync(t, 0, "adopt", "--out", "-")
	if !strings.Contains(said, "remote/not\u0430one: ") {
		t.Errorf("it says %s", said)
	}
	for _, text := range []string{"[namespace.library.webhook.one]", "[namespace.a]", `[namespace.a.repository."deep/app"]`} {
		if !strings.Contains(printed, text) {
			t.Errorf("it does not print %s:\n%s", text, printed)
		}
	}
	if strings.Contains(printed, "plain") {
		t.Error("a repository of which nothing is said has a block")
	}
	_, said = w.ocisync(t, 0, "adopt")
	_, left, _ := strings.Cut(said, "Left as it is (nobody manages it):\n")
	lines := strings.Split(strings.TrimSpace(left), "\n")
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(strings.TrimSpace(a), strings.TrimSpace(b)) })
	for i, line := range lines {
		if len(lines) != len(want) || !strings.HasPrefix(strings.TrimSpace(line), want[i]) {
			t.Fatalf("it leaves out\n%s\nand not\n%s", left, strings.Join(want, "\n"))
		}
	}
	if certs, err := os.ReadDir(filepath.Join(w.mode, "certs")); err == nil && len(certs) > 0 {
		t.Errorf("certificates of what is left out are there: %v", certs)
	}
	w.ocisync(t, 0, "validate")
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	if out, _ := w.ocisync(t, 0, "plan", "-v"); !strings.Contains(out, "it tells 2 addresses") {
		t.Errorf("plan -v says\n%s", out)
	}
	if _, said = w.ocisync(t, 0, "adopt"); !strings.Contains(said, "nothing to adopt: the mode declares every object that one can hold") || !strings.Contains(said, "it tells 2 addresses") {
		t.Errorf("again it says %s", said)
	}
}

// TestNoNameMakesALineOfItsOwn: who may name something in Harbor writes no line of
// ocisync's, which a pipeline would take for a command.
func TestNoNameMakesALineOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{FirstID: 1000})
	const name = `two\n::error::x`
	w.api(t, http.MethodPost, "/projects", `{"project_name":"a","metadata":{"public":"false"}}`)
	w.api(t, http.MethodPost, "/projects/a/webhook/policies", `{"name":"`+name+`","enabled":true,"event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"https://a.example.com"},{"type":"http","address":"https://b.example.com"}]}`)
	w.api(t, http.MethodPost, "/projects/a/webhook/policies", `{"name":"one`+name+`","enabled":true,"event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"https://a.example.com"}]}`)
	var all []string
	ask := func(code int, args ...string) {
		out, said := w.ocisync(t, code, args...)
		all = append(all, out, said)
	}
	ask(0, "adopt")
	ask(0, "apply")
	ask(0, "plan", "-v")
	told := strings.Join(all, "\n")
	if strings.Contains(told, "\n::") || strings.Count(told, `two\n::error::x: `) < 2 {
		t.Errorf("it says\n%s", told)
	}
}

// TestWhatIsOwnedAndNotShownStaysOwned: a login that does not see a project does not have
// the inventory forget what ocisync owns in it.
func TestWhatIsOwnedAndNotShownStaysOwned(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	w.api(t, http.MethodPost, "/users", `{"username":"lead","email":"lead@example.com","realname":"lead","password":"Harbor12345"}`)
	main := filepath.Join(w.mode, "m.toml")
	text, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	const a, b = "\n[namespace.a.access.users]\nlead = [\"admin\"]\n", "\n[namespace.b]\n[namespace.b.label.\"kind/bug\"]\ncolor = \"#111111\"\n"
	is := func(more, login string) {
		t.Helper()
		if err := os.WriteFile(main, []byte(strings.Replace(string(text), `"admin"`, login, 1)+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is(a+b, `"admin"`)
	w.ocisync(t, 0, "apply")
	is(a, `"lead"`)
	for range 2 {
		out, _ := w.ocisync(t, 0, "plan", "--detailed-exitcode")
		if !strings.Contains(out, "namespace/b: Harbor has the project, and does not list it for lead (registry.login): what ocisync owns in it is left alone, and stays its own; have an administrator make that account a project admin of b, or name in registry.login an account that sees it") {
			t.Errorf("the plan says\n%s", out)
		}
		w.ocisync(t, 0, "apply")
	}
	is(a, `"admin"`)
	if out, _ := w.ocisync(t, 0, "plan"); !strings.Contains(out, "namespace/b") || !strings.Contains(out, "label/b/kind%2Fbug") {
		t.Errorf("who sees it is told\n%s", out)
	}
	is(a+b, `"admin"`)
	if out, _ := w.ocisync(t, 0, "plan", "--detailed-exitcode"); strings.Contains(out, "adopt") {
		t.Errorf("it was forgotten meanwhile:\n%s", out)
	}
}

// TestWhatWasNotAnsweredIsNotKnown: where the answer to a change is lost, nobody says
// that nothing was applied; where Harbor was never asked, that is so.
func TestWhatWasNotAnsweredIsNotKnown(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	write(t, filepath.Join(w.mode, "objects.toml"), "[label.base]\ncolor = \"#2E7D32\"\n")
	w.Inject(harbortest.Fault{Method: http.MethodPost, Path: "/api/v2.0/labels", Drop: true})
	_, said := w.ocisync(t, exitPartly, "apply")
	if strings.Contains(said, "nothing was applied") || !strings.Contains(said, "whether anything was applied is not known: 1 failed, 1 of them without an answer") {
		t.Errorf("it says %s", said)
	}
	w.Heal()
	if text := w.api(t, http.MethodGet, "/labels?scope=g", ""); !strings.Contains(text, `"base"`) {
		t.Errorf("the labels are %s", text)
	}
	w.ocisync(t, 0, "apply")
	w.ocisync(t, 0, "plan", "--detailed-exitcode")
	write(t, filepath.Join(w.mode, "objects.toml"), "[label.base]\ncolor = \"#2E7D32\"\n[label.other]\ncolor = \"#2E7D32\"\n")
	w.Inject(harbortest.Fault{Method: http.MethodPost, Path: "/api/v2.0/labels", Status: http.StatusInternalServerError})
	if _, said = w.ocisync(t, exitFailed, "apply"); !strings.Contains(said, "nothing was applied: 1 failed") {
		t.Errorf("where it was refused it says %s", said)
	}
	w.Heal()
	w.Inject(harbortest.Fault{Method: http.MethodPost, Path: "/api/v2.0/labels", Status: http.StatusBadGateway})
	if _, said = w.ocisync(t, exitPartly, "apply"); !strings.Contains(said, "without an answer") {
		t.Errorf("where a proxy answered it says %s", said)
	}
}

// TestWhatWaitsHidesNothing: a run in which a repository waits for its first push is read
// back all the same, and says what waits, and for what.
func TestWhatWaitsHidesNothing(t *testing.T) {
	t.Parallel()
	w := newHarborWorld(t, harbortest.Options{})
	eats := false
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if eats && r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/labels/") {
			return // 200, and Harbor never sees it
		}
		w.ServeHTTP(rw, r)
	}))
	t.Cleanup(proxy.Close)
	name := filepath.Join(w.mode, "m.toml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	mode := func(objects string) {
		t.Helper()
		write(t, name, strings.ReplaceAll(string(text), w.url, proxy.URL)+objects)
	}
	mode("[namespace.a]\n[label.x]\ncolor = \"#111111\"\n")
	w.ocisync(t, 0, "apply")
	const waits = "[namespace.a.repository.api]\ndescription = \"x\"\n"
	mode("[namespace.a]\n[label.x]\ncolor = \"#222222\"\n" + waits)
	eats = true
	out, said := w.ocisync(t, exitPartly, "apply")
	for _, want := range []string{"\ndone        update   label/x\n", "\npending     create   repository/a/api: ", "push to it, and apply again"} {
		if !strings.Contains(out, want) {
			t.Errorf("it prints no %q:\n%s", want, out)
		}
	}
	for _, want := range []string{"1 done, 1 pending, 0 left out: what is pending waits for what is said of it above; apply again then", "the registry does not show it: label/x (update color)"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	eats = false
	if _, said = w.ocisync(t, exitPartly, "apply"); strings.Contains(said, "does not show") {
		t.Errorf("then it says\n%s", said)
	}
}
