package providertest

import (
	"slices"

	"github.com/ocisync/ocisync/schema"
)

// Values are the values a field is tried with, as JSON.
type Values struct {
	Valid string // one it takes
	Other string // another
	Empty string // managed and empty; "" for a field that cannot be
	Alike string // Valid in another spelling; "" if there is none
}

// subject is an object on which fields are tried.
type subject struct {
	key    schema.Key
	base   []field // what it needs besides the field under test
	fields []aField
	// either lists pairs of fields that never stand together.
	either [][2]string
}

type aField struct {
	path string
	Values
}

// subjects holds a row per field of every kind, but for fields tagged local,
// which are ocisync's own, and for settings, which differ by registry and come
// from the harness.
func subjects() []subject {
	const (
		yes, no = `true`, `false`
		refA    = `{"env":"` + SecretA + `"}`
		refB    = `{"env":"` + SecretB + `"}`
		daily   = `"0 0 3 * * *"`
		weekly  = `"0 0 4 * * SUN"`
	)
	flag := func(path string) aField { return aField{path, Values{yes, no, "", ""}} }
	text := func(path string) aField { return aField{path, Values{`"First."`, `"Second \"text\"."`, `""`, ""}} }
	schedule := aField{"schedule", Values{daily, weekly, `"none"`, ""}}
	zone := aField{"zone", Values{`"UTC"`, `"Europe/Madrid"`, "", ""}}
	secret := func(path string) aField { return aField{path, Values{refA, refB, "", ""}} }
	key := func(k schema.Kind, name string) schema.Key { return schema.Key{Kind: k, Name: name} }
	password := field{"password", refA}
	person := []field{{"email", `"tester@example.com"`}, {"full_name", `"Tester"`}, password}

	return []subject{
		{key(schema.KindUser, "tester"), person, []aField{
			{"email", Values{`"a@example.com"`, `"b@example.com"`, "", ""}},
			text("full_name"), text("comment"), flag("admin"), secret("password"),
		}, nil},
		{key(schema.KindGroup, "team"), nil, []aField{
			{"users", Values{`["alice","bob"]`, `["bob"]`, `[]`, `["bob","alice","bob"]`}},
			{"type", Values{`"local"`, `"oidc"`, "", ""}},
			{"ldap_dn", Values{`"cn=team,dc=example"`, `"cn=all,dc=example"`, `""`, ""}},
		}, nil},
		{key(schema.KindRemote, "elsewhere"), remote(), []aField{
			{"type", Values{`"harbor"`, `"docker-hub"`, "", ""}},
			{"url", Values{`"https://a.example.com"`, `"https://b.example.com"`, "", ""}},
			text("description"),
			{"login.user", Values{`"reader"`, `"writer"`, "", ""}},
			{"login.robot", Values{`"puller"`, `"pusher"`, "", ""}},
			secret("login.password"),
			{"tls.ca", Values{`"certs/a.pem"`, `"certs/b.pem"`, `""`, ""}},
			{"tls.cert", Values{`"certs/a.crt"`, `"certs/b.crt"`, `""`, ""}},
			{"tls.key", Values{`"certs/a.key"`, `"certs/b.key"`, `""`, ""}},
			flag("tls.insecure"),
		}, [][2]string{{"login.user", "login.robot"}}},
		{key(schema.KindScanner, "trivy"), []field{{"url", `"http://trivy:8080"`}}, []aField{
			{"url", Values{`"http://a:8080"`, `"http://b:8080"`, "", ""}},
			text("description"),
			{"auth", Values{`"basic"`, `"bearer"`, `"none"`, ""}},
			secret("credential"), flag("insecure"), flag("internal_address"), flag("enabled"),
		}, nil},
		{key(schema.KindPreheat, "p2p"), []field{{"vendor", `"dragonfly"`}, {"url", `"https://p2p.example.com"`}}, []aField{
			{"vendor", Values{`"dragonfly"`, `"kraken"`, "", ""}},
			{"url", Values{`"https://a.example.com"`, `"https://b.example.com"`, "", ""}},
			text("description"),
			{"auth", Values{`"basic"`, `"oauth"`, `"none"`, ""}},
			{"user", Values{`"reader"`, `"writer"`, `""`, ""}},
			secret("credential"), flag("default"), flag("enabled"), flag("insecure"),
		}, nil},
		{key(schema.KindNamespace, "team-a"), nil, []aField{
			text("description"),
			{"proxy_of", Values{`"upstream"`, `"upstream-2"`, "", ""}},
			{"proxy.rate", Values{`"1MiB"`, `"512KiB"`, `"unlimited"`, `"1024KiB"`}},
			{"proxy.connections", Values{`5`, `6`, `0`, ""}},
			flag("proxy.serve_gone"), flag("proxy.referrers"),
			{"proxy.repositories", Values{`"library/**"`, `"team/*"`, `"**"`, ""}},
			{"proxy.repositories_regex", Values{`"library/.+"`, `"team/[a-z]+"`, `""`, ""}},
		}, [][2]string{{"proxy.repositories", "proxy.repositories_regex"}}},
		{key(schema.KindAccess, "team-a"), nil, []aField{
			{"anonymous", Values{`["pull"]`, `[]`, "", `["pull","pull"]`}},
			{"authenticated", Values{`["pull","push"]`, `["pull"]`, `[]`, `["push","pull"]`}},
			{"authenticated_group", Values{`"team"`, `"team-2"`, `""`, ""}},
			{"users", Values{
				`{"alice":["pull","push"],"bob":["admin"]}`, `{"bob":["pull"]}`, `{}`,
				`{"bob":["admin"],"alice":["push","pull"]}`,
			}},
			{"groups", Values{`{"team":["pull","push","delete"]}`, `{"team":["pull"]}`, `{}`, `{"team":["delete","push","pull"]}`}},
			{"conditions", Values{`["req.a","req.b"]`, `["req.b"]`, `[]`, `["req.b","req.a"]`}},
		}, nil},
		{key(schema.KindQuota, "team-a"), nil, []aField{
			{"limit", Values{`"10GiB"`, `"5GiB"`, `"unlimited"`, `"10240MiB"`}},
		}, nil},
		{key(schema.KindRetention, "team-a"), nil, []aField{
			{"keep", Values{
				`[{"newest":10},{"pushed_within":"90d"}]`, `[{"newest":5,"tags":"v*"}]`, `[]`,
				`[{"pushed_within":"2160h"},{"newest":10,"enabled":true}]`,
			}},
			flag("untagged"), schedule, zone,
		}, nil},
		{key(schema.KindImmutable, "team-a"), nil, []aField{
			{"rules", Values{
				`[{"tags":"v*"},{"tags":"release-*","repositories":"api"}]`, `[{"tags":"v1*"}]`, `[]`,
				`[{"repositories":"api","tags":"release-*"},{"tags":"v*"}]`,
			}},
		}, nil},
		{key(schema.KindScan, "team-a"), nil, []aField{
			flag("on_push"), flag("sbom"),
			{"block", Values{`"high"`, `"critical"`, `"none"`, ""}},
			{"scanner", Values{`"trivy"`, `"trivy-2"`, `""`, ""}},
			{"allow", Values{
				`[{"cve":"CVE-2026-1"},{"cve":"CVE-2026-2","until":"2027-01-31","reason":"not reachable"}]`,
				`[{"cve":"CVE-2026-3"}]`, `[]`,
				`[{"cve":"CVE-2026-2","reason":"not reachable","until":"2027-01-31"},{"cve":"CVE-2026-1"}]`,
			}},
		}, nil},
		{key(schema.KindScan, ""), nil, []aField{
			{"default", Values{`"trivy"`, `"trivy-2"`, `""`, ""}},
			schedule, zone,
			{"update", Values{`"6h"`, `"12h"`, "", `"360m"`}},
		}, nil},
		{key(schema.KindTrust, "team-a"), nil, []aField{
			{"keys", Values{`["certs/a.pub","certs/b.pub"]`, `["certs/b.pub"]`, `[]`, `["certs/b.pub","certs/a.pub"]`}},
			{"identities", Values{
				`[{"issuer":"https://a.example","subject":"dev@a.example"},{"issuer":"https://b.example","subject":"https://b.example/team/app/*"}]`,
				`[{"issuer":"https://b.example","subject":"dev@b.example"}]`, `[]`,
				`[{"issuer":"https://b.example","subject":"https://b.example/team/app/*"},{"issuer":"https://a.example","subject":"dev@a.example"}]`,
			}},
			{"root", Values{`"certs/a.json"`, `"certs/b.json"`, `""`, ""}},
			flag("required"), flag("notation"),
		}, nil},
		{key(schema.KindLabel, "base"), nil, []aField{
			{"color", Values{`"#1565C0"`, `"#2E7D32"`, "", ""}}, text("description"),
		}, nil},
		{key(schema.KindLabel, "team-a/reviewed"), nil, []aField{
			{"color", Values{`"#1565C0"`, `"#2E7D32"`, "", ""}},
		}, nil},
		{schema.NewKey(schema.KindLabel, "", "kind/bug"), nil, []aField{{"color", Values{`"#1565C0"`, `"#2E7D32"`, "", ""}}}, nil},
		{schema.NewKey(schema.KindLabel, "team-a", "kind/bug"), nil, []aField{{"color", Values{`"#2E7D32"`, `"#1565C0"`, "", ""}}}, nil},
		{schema.NewKey(schema.KindWebhook, "team-a", "ci/main"), []field{{"url", `"https://main.example.com"`}, {"events", `["push"]`}}, []aField{
			{"events", Values{`["push"]`, `["delete"]`, "", ""}}, secret("auth"),
		}, nil},
		{key(schema.KindRemote, "eu/elsewhere"), remote(), []aField{text("description")}, nil},
		{key(schema.KindScanner, "eu/trivy"), []field{{"url", `"http://trivy-eu:8080"`}}, []aField{text("description")}, nil},
		{key(schema.KindReplication, "eu/copies"), []field{{"to", `"upstream"`}, {"trigger", `"manual"`}}, []aField{
			{"from", Values{`"upstream"`, `"upstream-2"`, "", ""}}, text("description"),
		}, [][2]string{{"to", "from"}}},
		{key(schema.KindRepository, "team-a/api"), nil, []aField{text("description")}, nil},
		{key(schema.KindWebhook, "team-a/ci"), []field{{"url", `"https://ci.example.com"`}, {"events", `["push"]`}}, []aField{
			{"url", Values{`"https://ci.example.com/a"`, `"https://ci.example.com/b"`, "", ""}},
			{"events", Values{`["push","delete"]`, `["delete"]`, "", `["delete","push"]`}},
			{"format", Values{`"cloudevents"`, `"default"`, "", ""}},
			text("description"), secret("auth"), flag("sign"), flag("insecure"), flag("enabled"),
		}, nil},
		{key(schema.KindPreheatPolicy, "team-a/releases"), []field{{"instance", `"peers"`}}, []aField{
			{"instance", Values{`"peers"`, `"peers-2"`, "", ""}},
			text("description"),
			{"repositories", Values{`"api/**"`, `"web"`, `""`, ""}},
			{"tags", Values{`"v*"`, `"release-*"`, `""`, ""}},
			{"labels", Values{`["base","reviewed"]`, `["base"]`, `[]`, `["reviewed","base"]`}},
			{"trigger", Values{`"push"`, `{"schedule":"0 0 2 * * *"}`, `"manual"`, ""}},
			{"scope", Values{`"all-seed-peers"`, `"all-peers"`, "", ""}},
			flag("enabled"),
		}, nil},
		{key(schema.KindRobot, "ci"), []field{{"expires", `"90d"`}, {"secret.value", refA}, {"access", `{"team-a":["pull"]}`}}, []aField{
			text("description"),
			{"expires", Values{`"30d"`, `"60d"`, `"never"`, `"720h"`}},
			flag("enabled"), secret("secret.value"),
			{"access", Values{`{"team-a":["pull","push"]}`, `{"team-a":["pull"]}`, "", `{"team-a":["push","pull"]}`}},
			{"permissions", Values{
				`[{"namespace":"team-a","resource":"tag","action":"create"},{"resource":"label","action":"read"}]`,
				`[{"resource":"label","action":"read"}]`, `[]`,
				`[{"action":"read","resource":"label"},{"namespace":"team-a","resource":"tag","action":"create"}]`,
			}},
		}, nil},
		{key(schema.KindRobot, "team-a/ci"), []field{{"expires", `"90d"`}, {"secret.value", refA}, {"access", `{"team-a":["pull"]}`}}, []aField{
			{"expires", Values{`"30d"`, `"60d"`, `"never"`, ""}},
		}, nil},
		{key(schema.KindReplication, "copies"), []field{{"to", `"upstream"`}, {"trigger", `"manual"`}}, []aField{
			{"to", Values{`"upstream"`, `"upstream-2"`, "", ""}},
			{"from", Values{`"upstream"`, `"upstream-2"`, "", ""}},
			{"namespace", Values{`"team-a"`, `"team-b"`, `""`, ""}},
			text("description"),
			{"match.repositories", Values{`"team-a/**"`, `"team-a/api"`, `""`, ""}},
			{"match.tags", Values{`"v*"`, `"release-*"`, `""`, ""}},
			{"match.labels", Values{`["base","reviewed"]`, `["base"]`, `[]`, `["reviewed","base"]`}},
			{"match.type", Values{`"image"`, `"artifact"`, `"all"`, ""}},
			{"trigger", Values{`"push"`, `{"schedule":"0 0 2 * * *"}`, `"manual"`, ""}},
			flag("deletes"), flag("override"), flag("enabled"),
			{"rate", Values{`"1MiB"`, `"2MiB"`, `"unlimited"`, `"1024KiB"`}},
			{"flatten", Values{`2`, `-1`, `0`, ""}},
			flag("chunks"), flag("single"),
		}, [][2]string{{"to", "from"}, {"trigger", "single"}}},
		{key(schema.KindGC, ""), nil, []aField{
			schedule, zone,
			{"delay", Values{`"2h"`, `"3h"`, "", `"120m"`}},
			flag("untagged"),
			{"workers", Values{`2`, `3`, "", ""}},
		}, nil},
		{key(schema.KindAudit, ""), nil, []aField{
			{"log", Values{`"/var/log/a.log"`, `"/var/log/b.log"`, `""`, ""}},
			{"keep", Values{`"365d"`, `"30d"`, "", `"8760h"`}},
			schedule, zone,
			{"events", Values{`["create","delete"]`, `["delete"]`, `[]`, `["delete","create"]`}},
		}, nil},
		{key(schema.KindMirror, "alpine"), []field{{"from", `"docker.io/library/alpine"`}, {"to", `"team-a/alpine"`}}, []aField{
			{"from", Values{`"docker.io/library/alpine"`, `"quay.io/library/alpine"`, "", ""}},
			{"to", Values{`"team-a/alpine"`, `"team-a/alpine-2"`, "", ""}},
			{"tags.list", Values{`["3.20","3.21"]`, `["3.21"]`, `[]`, `["3.21","3.20"]`}},
			{"tags.glob", Values{`"3.*"`, `"3.2*"`, `""`, ""}},
			{"tags.regex", Values{`"^3"`, `"^3\\.2"`, `""`, ""}},
			{"tags.semver", Values{`">=3.20"`, `">=3.21"`, `""`, ""}},
			{"tags.newest", Values{`5`, `6`, "", ""}},
			{"tags.since", Values{`"90d"`, `"30d"`, "", `"2160h"`}},
			{"platforms", Values{`["linux/amd64","linux/arm64"]`, `["linux/amd64"]`, `[]`, `["linux/arm64","linux/amd64"]`}},
			flag("referrers"), flag("prune"), schedule, zone,
			{"keep_previous", Values{`"prev-{tag}"`, `"old-{tag}"`, `""`, ""}},
			flag("only_missing"),
			{"realms", Values{`["https://a.example.com","https://b.example.com"]`, `["https://b.example.com"]`, `[]`, `["https://b.example.com","https://a.example.com"]`}},
			{"rate", Values{`"1MiB"`, `"2MiB"`, `"unlimited"`, `"1024KiB"`}},
			{"trust.keys", Values{`["certs/a.pub"]`, `["certs/b.pub"]`, `[]`, ""}},
			{"trust.identities", Values{
				`[{"issuer":"https://a.example","subject":"dev@a.example"}]`,
				`[{"issuer":"https://b.example","subject":"dev@b.example"}]`, `[]`, "",
			}},
			{"trust.root", Values{`"certs/a.json"`, `"certs/b.json"`, `""`, ""}},
			flag("trust.required"), flag("trust.notation"),
		}, nil},
		{key(schema.KindArtifact, "schemas"), []field{{"to", `"team-a/schemas:1"`}, {"files", `["kcl/**/*.k"]`}}, []aField{
			{"to", Values{`"team-a/schemas:1"`, `"team-a/schemas:2"`, "", ""}},
			{"type", Values{`"application/vnd.a"`, `"application/vnd.b"`, "", ""}},
			{"files", Values{`["a.k","b.k"]`, `["b.k"]`, "", `["b.k","a.k"]`}},
			{"annotations", Values{`{"a":"1","b":"2"}`, `{"b":"2"}`, `{}`, `{"b":"2","a":"1"}`}},
			secret("sign.key"),
		}, nil},
	}
}

func remote() []field {
	return []field{{"type", `"harbor"`}, {"url", `"https://upstream.example.com"`}}
}

// prerequisites are the objects that subjects speak of, in no order.
func prerequisites(subject schema.Key) []want {
	key := func(k schema.Kind, name string) schema.Key { return schema.Key{Kind: k, Name: name} }
	person := func(name string) want {
		return want{key(schema.KindUser, name), []field{
			{"email", `"` + name + `@example.com"`}, {"full_name", `"` + name + `"`}, {"password", `{"env":"` + SecretA + `"}`},
		}}
	}
	team := func(name string) want { return want{key(schema.KindNamespace, name), nil} }
	upstream := []want{{key(schema.KindRemote, "upstream"), remote()}, {key(schema.KindRemote, "upstream-2"), remote()}}

	var out []want
	if _, ok := subject.Namespace(); ok || subject.Kind.Rank() >= schema.KindRobot.Rank() {
		out = append(out, team("team-a"))
	}
	switch subject.Kind {
	case schema.KindGroup:
		out = append(out, person("alice"), person("bob"))
	case schema.KindAccess:
		out = append(out, person("alice"), person("bob"),
			want{key(schema.KindGroup, "team"), nil}, want{key(schema.KindGroup, "team-2"), nil})
	case schema.KindNamespace:
		out = append(out, upstream...)
	case schema.KindReplication:
		out = append(out, team("team-b"))
		out = append(out, upstream...)
	case schema.KindPreheatPolicy:
		out = append(out,
			want{key(schema.KindPreheat, "peers"), []field{{"vendor", `"dragonfly"`}, {"url", `"https://peers.example.com"`}}},
			want{key(schema.KindPreheat, "peers-2"), []field{{"vendor", `"dragonfly"`}, {"url", `"https://peers-2.example.com"`}}})
	case schema.KindScan:
		out = append(out,
			want{key(schema.KindScanner, "trivy"), []field{{"url", `"http://trivy:8080"`}}},
			want{key(schema.KindScanner, "trivy-2"), []field{{"url", `"http://trivy-2:8080"`}}})
	}
	return slices.DeleteFunc(out, func(w want) bool { return w.key == subject })
}

// want is an object to be, its fields as JSON.
type want struct {
	key    schema.Key
	fields []field
}
