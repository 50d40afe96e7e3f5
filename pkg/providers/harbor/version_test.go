package harbor_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

func TestEachVersionTakesWhatItHas(t *testing.T) {
	for version, c := range map[string]struct {
		events string
		lacks  map[string]string // objects that it has not, and what is said of them
	}{
		"v2.10.3-1": {`"create","delete"`, map[string]string{
			`remote/r {"type":"harbor","url":"https://r.example.com","tls":{"ca":"certs/a.pem"}}`: "takes no certificate of another registry",
			`scan/a {"sbom":true}`:                                                          "2.11 and later",
			`replication/r {"to":"dr","single":true}`:                                       "(v2.10.3-1) has no single, and says nothing: 2.14 and later",
			`namespace/p {"proxy_of":"dr","proxy":{"rate":"1MiB"}}`:                         "2.12 and later",
			`robot/x {"permissions":[{"resource":"user","action":"create"}]}`:               "(v2.10.3-1) has no permission user:create",
			`robot/x {"permissions":[{"namespace":"a","resource":"sbom","action":"read"}]}`: "(v2.10.3-1) has no permission sbom:read",
			setting(`"oidc_logout":true`):                                                   "(v2.10.3-1) has no setting oidc_logout",
			setting(`"ldap_group_attach_parallel":true`):                                    "(v2.10.3-1) has no setting ldap_group_attach_parallel",
			`audit {"schedule":"0 4 * * *","keep":"24h","events":["create_artifact"]}`:      "records no create_artifact; it records create, delete, pull",
		}},
		"v2.12.4-1": {`"create","delete"`, map[string]string{
			`remote/r {"type":"harbor","url":"https://r.example.com","tls":{"ca":"certs/a.pem"}}`: "2.15 and later",
			`namespace/p {"proxy_of":"dr","proxy":{"connections":5}}`:                             "(v2.12.4-1) has no proxy.connections, and says nothing: 2.14.1 and later",
			setting(`"disabled_audit_log_event_types":"pull_artifact"`):                           "(v2.12.4-1) has no setting disabled_audit_log_event_types",
		}},
		"v2.13.5-1": {`"create_artifact","delete_artifact"`, map[string]string{
			`replication/r {"to":"dr","single":true}`: "2.14 and later",
		}},
		"v2.14.0-1": {`"create_artifact","delete_artifact"`, map[string]string{
			`namespace/p {"proxy_of":"dr","proxy":{"rate":"1MiB","connections":5}}`: "2.14.1 and later",
			`audit {"schedule":"0 4 * * *","keep":"24h","events":["create"]}`:       "(v2.14.0-1) records no create",
		}},
		"v2.15.0-1": {`"create_artifact","delete_artifact"`, map[string]string{
			`namespace/p {"proxy_of":"dr","proxy":{"rate":"1MiB","connections":5,"serve_gone":true}}`: "2.15.1 and later",
		}},
		"v2.15.2-1": {`"create_artifact","delete_artifact"`, map[string]string{
			`namespace/p {"proxy_of":"dr","proxy":{"referrers":true}}`:            "2.16 and later",
			`namespace/p {"proxy_of":"dr","proxy":{"repositories":"a/**"}}`:       "2.16 and later",
			`namespace/p {"proxy_of":"dr","proxy":{"repositories_regex":"a/.*"}}`: "2.16 and later",
			`namespace/p {"proxy":{"rate":"1MiB"}}`:                               "name that in proxy_of",
			`namespace/p {"proxy_of":"dr","proxy":{"rate":"2GiB"}}`:               "less than 2GiB",
		}},
		"v2.16.0-1": {`"create_artifact","delete_artifact"`, nil},
	} {
		t.Run(version, func(t *testing.T) {
			h := newStandIn(t, harbortest.Options{Version: version, FirstID: 70}).withScanner(t)
			p := h.open(t)
			all := []string{
				person("alice"), person("bob"), `namespace/a`, `access/a {"anonymous":["pull"],"users":{"alice":["admin"],"bob":["pull","push"]}}`,
				`quota/a {"limit":"1GiB"}`, strings.ReplaceAll(everyRule, "\n\t", ""), `immutable/a {"rules":[{"tags":"v*"}]}`, hook,
				`label/a/x {"color":"#000000"}`, `remote/dr {"type":"harbor","url":"https://dr.example.com"}`,
				`replication/copies {"to":"dr","trigger":"push","rate":"1MiB","match":{"type":"artifact"},"flatten":1,"chunks":true,"single":false}`, collects, peers, `trust/a {"required":true}`,
				`scan/a {"on_push":true,"block":"high","allow":[{"cve":"CVE-2026-1"}]}`,
				`audit {"schedule":"0 4 * * *","keep":"24h","events":[` + c.events + `]}`,
				`robot/a/ci {"access":{"a":["pull","push"]}}`, `robot/boss {"access":{"a":["admin"]},"secret":{"value":` + secretA + `}}`,
				setting(`"session_timeout":30`),
			}
			want := apply(t, p, all...)
			if err := h.Push(harbortest.Image{Repository: "a/deep/app", Tags: []string{"v1", "v2"}, Size: 7}); err != nil {
				t.Fatal(err)
			}
			st, err := p.Read(t.Context(), schema.Scope{Repositories: []string{"*"}})
			if err != nil || len(st.Repositories) != 1 || st.Repositories[0].Tags != 2 || st.Repositories[0].Bytes != 7 {
				t.Errorf("the content is %+v, %v", st.Repositories, err)
			}
			// a robot, which is shown no catalogue, reads the same
			name := "boss"
			r := h.registry
			r.Login = &schema.Login{Robot: &name, Password: r.Login.Password}
			if _, err := (standIn{h.Server, r}).open(t).Read(t.Context(), schema.ScopeOf(schema.KindWebhook)); err != nil {
				t.Errorf("as a robot: %v", err)
			}
			for line, why := range c.lacks {
				if v := verdict(t, p, objects(t, line)); !strings.Contains(v.Refused, why) {
					t.Errorf("%s is refused so: %q, want %q", line, v.Refused, why)
				}
			}
			if notes, err := p.Remarks(t.Context(), want, time.Now()); err != nil || len(notes) > 0 {
				t.Errorf("it says %v, %v", notes, err)
			}
			purge := "include_event_types"
			if strings.HasPrefix(version, "v2.10") || strings.HasPrefix(version, "v2.12") {
				purge = "include_operations"
			}
			if text := h.behind(t, http.MethodGet, "/system/purgeaudit/schedule", ""); !strings.Contains(text, purge) {
				t.Errorf("the purge is %s", text)
			}
			// and what goes when nobody names it is what this version records
			apply(t, p, `audit {"keep":"never"}`)
			apply(t, p, `audit {"schedule":"0 5 * * *","keep":"48h"}`)
		})
	}
}

func TestAVersionThatNobodyKnowsIsTold(t *testing.T) {
	for version, c := range map[string]struct {
		says    string
		refused bool
	}{
		"v2.9.5-1":  {"older than 2.10", true},
		"v1.10.0-1": {"older than 2.10", true},
		"v2.17.0-1": {"newer than 2.16", false},
		"dev":       {"", false},
	} {
		h := newStandIn(t, harbortest.Options{Version: version})
		p := h.open(t)
		v := verdict(t, p, objects(t, "namespace/a"))
		if (v.Refused != "") != c.refused || !strings.Contains(c.says, "newer") && !strings.Contains(v.Refused, c.says) {
			t.Errorf("%s: a change is refused so: %q", version, v.Refused)
		}
		notes, err := p.Remarks(t.Context(), objects(t, "namespace/a"), time.Now())
		if err != nil || (len(notes) > 0) != (c.says != "") || len(notes) > 0 && !strings.Contains(notes[0].Text, c.says) {
			t.Errorf("%s: it says %v, %v", version, notes, err)
		}
	}
}

// Robots that were made under one prefix are found under another, and log in by the
// name that they have now; ocisync's own does so where it is written whole.
func TestRobotsAreFoundUnderAPrefixThatChanged(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, "namespace/a", `robot/a/ci {"access":{"a":["pull"]},"secret":{"value":`+secretA+`}}`, `robot/own {"access":{"a":["admin"]},"permissions":[{"resource":"project","action":"list"},{"resource":"robot","action":"list"}],"secret":{"value":`+secretA+`}}`)
	c := compared(t, p, objects(t, setting(`"robot_name_prefix":"bot-"`)))
	v, err := p.Prepare(t.Context(), c)
	if err != nil || v[0].Refused != "" || len(v[0].Impact) != 1 || !strings.Contains(v[0].Impact[0], "every robot logs in by another name") {
		t.Errorf("it says %+v, %v", v, err)
	}
	change(t, p, c...)
	if rest := compared(t, h.open(t), want); len(rest) > 0 {
		t.Errorf("with another prefix: %s", told(rest))
	}
	if !h.logsIn(t, "bot-a+ci", h.password(t)) || h.logsIn(t, "robot$a+ci", h.password(t)) {
		t.Error("the robot has not the name that the prefix gives it")
	}
	as := func(name string) standIn {
		r := h.registry
		r.Login, r.Admin = &schema.Login{Robot: &name, Password: r.Login.Password}, h.registry.Login
		return standIn{h.Server, r}
	}
	if rest := compared(t, as("bot-own").open(t), want); len(rest) > 0 {
		t.Errorf("as a robot: %s", told(rest))
	}
	_, err = as("own").open(t).Read(t.Context(), schema.ScopeOf(schema.KindNamespace))
	says(t, err, providers.ErrUnauthorized, "registry.login", "write the whole name")
	// it does not rename itself
	robot := as("bot-own").open(t)
	if v := verdict(t, robot, objects(t, setting(`"robot_name_prefix":"other-"`))); !strings.Contains(v.Refused, "rename the account that ocisync itself logs in with") {
		t.Errorf("it is refused so: %q", v.Refused)
	}
}
