package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// example is a value that fits a type, in JSON, and one that does not.
func example(typ Type) (good, bad string) {
	switch typ {
	case Text:
		return `"x"`, `["x"]`
	case Texts:
		return `["x","y"]`, `[["x"]]`
	case Boolean:
		return `true`, `"yes"`
	case Integer:
		return `3`, `1.5`
	case Duration:
		return `"3h"`, `3600`
	case Driver:
		return `"s3"`, `"ftp"`
	case Level:
		return `"warn"`, `"loud"`
	case Port:
		return `5000`, `"http"`
	case Free:
		return `{"name":"s3"}`, `"x"`
	}
	return "", ""
}

// place puts a value where a row says, in a configuration with nothing else.
func place(path, value string) string {
	parts := strings.Split(path, ".")
	for _, part := range slices.Backward(parts) {
		name, list := strings.CutSuffix(part, "[]")
		switch {
		case name == "*" && strings.Contains(path, ".openid."):
			name = "oidc" // one of a few
		case name == "*":
			name = "/a"
		}
		if list {
			value = "[" + value + "]"
		}
		value = "{" + quote(name) + ":" + value + "}"
	}
	return value
}

func TestEachKeyTakesItsTypeAlone(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if seen[fold(k.Path)] {
			t.Errorf("%s stands twice", k.Path)
		}
		seen[fold(k.Path)] = true
		good, bad := example(k.Type)
		if got := mustParse(t, place(k.Path, good)).Problems(""); len(got) > 0 {
			t.Errorf("%s = %s: %v", k.Path, good, got)
		}
		if got := mustParse(t, place(strings.ToUpper(k.Path[:len(k.Path)-1])+k.Path[len(k.Path)-1:], good)).Problems(""); len(got) > 0 {
			t.Errorf("%s in upper case: %v", k.Path, got)
		}
		if got := mustParse(t, place(k.Path, bad)).Problems(""); len(got) != 1 {
			t.Errorf("%s = %s: %v", k.Path, bad, got)
		}
		got := mustParse(t, place(k.Path, good)).Problems("2.1.6")
		if refused := len(got) == 1 && got[0].Version; refused != (k.Versions != "") {
			t.Errorf("%s on 2.1.6: %v", k.Path, got)
		}
		if got := mustParse(t, place(k.Path, good)).Problems("v2.1.21"); len(got) > 0 {
			t.Errorf("%s on 2.1.21: %v", k.Path, got)
		}
		if got := mustParse(t, place(k.Path+"x", good)).Problems(""); len(got) != 1 && !strings.Contains(k.Path, "Driver.") {
			t.Errorf("%sx: %v", k.Path, got)
		}
	}
}

// TestEachSettingIsAKindsOrItself sets each key by its own name.
func TestEachSettingIsAKindsOrItself(t *testing.T) {
	for _, k := range Keys() {
		path, below, list := strings.Cut(k.Path, "[].")
		good, _ := example(k.Type)
		if k.Secret() && !list {
			good = `{"env":"SECRET"}`
		}
		value := good
		if list {
			value = "[" + place(below, good) + "]"
		}
		path = strings.ReplaceAll(path, "*", `"/a"`)
		got := Check(schema.Values{{Path: path, JSON: value}}, "")
		kind, owned := k.Owner()
		switch {
		case owned && (len(got) != 1 || !strings.Contains(got[0].Text, "the kind "+string(kind))):
			t.Errorf("%s is of the kind %s: %v", k.Path, kind, got)
		case !owned && len(got) > 0:
			t.Errorf("%s = %s: %v", path, value, got)
		}
	}
}

func TestWhatZotMisreadsIsNoSetting(t *testing.T) {
	tests := []struct{ path, json, want string }{
		{"http.adress", `"0.0.0.0"`, `http.adress: Zot has no such key, and does not start with it; did you mean address?`},
		{"http.qqqqqqqqqq", `1`, `it is one of accessControl, address, `},
		{"httpp.port", `1`, `httpp: Zot has no such key, and does not start with it; did you mean http?`},
		{"http.port.x", `1`, `http.port.x: there is no such key: http.port is a port`},
		{"http.realm", `1`, `http.realm: 1 stands here; it is a text`},
		{"http.realm", `null`, `http.realm: null stands here; it is a text`},
		{"http.realm", `{}`, `http.realm: a table stands here; it is a text`},
		{"http", `"x"`, `http: a text stands here; it is a table of keys`},
		{"http.compat", `"docker2s2"`, `http.compat: a text stands here; it is a list of texts`},
		{"http.compat", `["a",1]`, `http.compat.1: 1 stands here; it is a text`},
		{"http.port", `65536`, `http.port: 65536 stands here; it is a port`},
		{"http.port", `"0"`, `it is a port`},
		{"log.level", `"disabled"`, `log.level: Zot does not start with the level "disabled", or crashes, even one that runs; it is one of trace, debug, info, warn, error, fatal, panic`},
		{"log.level", `"verbose"`, `log.level: Zot does not start with the level "verbose", or crashes, even one that runs; it is one of trace, debug, info, warn, error, fatal, panic`},
		{"storage.dedupe", `"true"`, `storage.dedupe: a text stands here; it is true or false`},
		{"scheduler.numWorkers", `1.0`, `it is a whole number`},
		{"scheduler.numWorkers", `"1"`, `it is a whole number`},
		{"extensions.scrub.interval", `3600`, `extensions.scrub.interval: Zot counts a number in nanoseconds: 3600 would be 3.6 µs; write "1h"`},
		{"extensions.scrub.interval", `5400`, `write "1h30m"`},
		{"extensions.scrub.interval", `90`, `write "1m30s"`},
		{"extensions.scrub.interval", `-1`, `a number is no duration`},
		{"extensions.scrub.interval", `1e400`, `a number is no duration`},
		{"extensions.scrub.interval", `99999999999999`, `a number is no duration`},
		{"extensions.scrub.interval", `"7d"`, `"7d" is no duration; Zot knows no days and weeks: write "168h"`},
		{"extensions.scrub.interval", `"-1h"`, `"-1h" is no duration`},
		{"extensions.scrub.interval", `true`, `true is no duration`},
		{`storage.subPaths."/A".dedupe`, `true`, `storage.subPaths."/A": Zot turns the name "/A" into lower case without a word, and what names it otherwise never matches; write "/a"`},
		{`http.auth.openid.providers.Google.name`, `"x"`, `http.auth.openid.providers.Google: Zot turns`},
		{`storage.subPaths."/a::b".dedupe`, `true`, `parts the name "/a::b"`},
		{"http.auth.bearer.oidc", `[{"issuer":"x","audience":["y"]}]`, `http.auth.bearer.oidc.0.audience: Zot has no such key, and does not start with it; did you mean audiences?`},
		{"storage.storageDriver.name", `"gcs"`, `storage.storageDriver.name: Zot 2.1.6 does not start with this`},
		{"storage.storageDriver.name", `"ftp"`, `it is s3, gcs or azure`},
		{"storage.cacheDriver.url", `"redis://u:geheim@host"`, `storage.cacheDriver.url: a password stands in this URL`},
		{"storage.gcDelay", `"1h"`, `storage.gcDelay: this belongs to the kind gc`},
		{"HTTP.AccessControl", `{}`, `HTTP.AccessControl: this belongs to the kind access`},
		{"http.readTimeout", `"1m"`, `http.readTimeout: Zot 2.1.6 does not start with this, which is of versions >2.1.6`},
	}
	for _, test := range tests {
		version := "2.1.20"
		if strings.Contains(test.want, "2.1.6") {
			version = "2.1.6"
		}
		got := Check(schema.Values{{Path: test.path, JSON: test.json}}, version)
		if len(got) != 1 || !strings.Contains(got[0].String(), test.want) {
			t.Errorf("%s = %s: %v\nwant %s", test.path, test.json, got, test.want)
		}
		if len(got) == 1 && strings.Contains(got[0].String(), "geheim") {
			t.Errorf("%s: the password is shown", test.path)
		}
	}
	if got := Check(schema.Values{{Path: "storage.storageDriver.secretkey", JSON: `{"env":"S3"}`},
		{Path: "storage.storageDriver.bucket", JSON: `"b"`}, {Path: "storage.storageDriver.s.t", JSON: `1`}}, "2.1.6"); len(got) > 0 {
		t.Errorf("a driver's own keys: %v", got)
	}
}

func TestAHandWrittenFileIsJudgedAsZotReadsIt(t *testing.T) {
	const loose = `{"http":{"port":5000,"auth":{"failDelay":"5"},"tls":null},"storage":{"gc":"true","gcDelay":"1h","rootDirectory":7},
"extensions":{"events":{"sinks":[{"headers":{"X-Token":"a"}}]},"search":{"enable":true}}}`
	if got := mustParse(t, loose).Problems("2.1.6"); len(got) > 0 {
		t.Errorf("%v", got)
	}
	const wrong = `{
  "http": {"accessControl": {"groups": {"DevTeam": {"users": ["a"]}}}},
  "storage": {"gcDelay": 3600, "gc": "yes"},
  "log": {"levvel": "info"}
}`
	var got []string
	for _, p := range mustParse(t, wrong).Problems("2.1.6") {
		got = append(got, p.String()[:60])
	}
	want := []string{
		`config.json:2:41: http.accessControl.groups.DevTeam: Zot turns `[:60],
		`config.json:3:15: storage.gcDelay: Zot counts a number in nanos`[:60],
		`config.json:3:32: storage.gc: a text stands here; it is true or`[:60],
		`config.json:4:11: log.levvel: Zot has no such key, and does not `[:60],
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A file of another program has as many problems as it has keys.
func TestProblemsHaveABound(t *testing.T) {
	var b strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&b, ",\n\"%d\":{\"x\":1}", i)
	}
	d := mustParse(t, "{"+b.String()[1:]+"}")
	start := time.Now()
	if got := d.Problems("2.1.6"); len(got) != maxProblems {
		t.Errorf("%d problems", len(got))
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzTwoConfigurations(f *testing.F) {
	f.Add([]byte(usual), []byte(`{"http":{"auth":{"ldap":{"address":"a"}},"accessControl":null},"storage":{"retention":{"policies":[{"keepTags":[{"pulledWithin":"1h"}]}]}}}`))
	f.Add([]byte(`{"storage":[],"extensions":{"sync":1},"http":{"port":{}}}`), []byte(`{"extensions":{"sync":{"registries":{}}},"http":[[]]}`))
	f.Add([]byte(`{"storage":{"retention":{"policies":{"a":1},"x":{}},"subPaths":{"/A":[1],"b":{"retention":1}}}}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		before, err := Parse("a.json", a)
		if err != nil {
			return
		}
		after, err := Parse("b.json", b)
		if err != nil {
			return
		}
		before.Problems("2.1.6")
		if got := Compare(before, before); len(got) > 0 {
			t.Fatalf("a configuration differs from itself: %v", got)
		}
		there, back := Compare(before, after), Compare(after, before)
		if len(there) == 0 != (len(back) == 0) {
			t.Fatalf("there %v, back %v", there, back)
		}
		if err := before.Set(b); err != nil {
			t.Fatal(err)
		}
		again, err := Parse("a.json", before.Bytes())
		if err != nil {
			t.Fatalf("%v\n%s", err, before.Bytes())
		}
		if !equal(again.root.value, after.root.value) || len(Compare(again, after)) > 0 {
			t.Fatalf("set to\n%s\nit is\n%s", b, again.Bytes())
		}
	})
}

func TestWhatAChangeTakes(t *testing.T) {
	const (
		auth      = `"auth":{"htpasswd":{"path":"/h"}}`
		access    = `"accessControl":{"repositories":{"**":{"defaultPolicy":["read"]}}}`
		counting  = `"retention":{"policies":[{"repositories":["**"],"keepTags":[{"mostRecentlyPushedCount":3}]}]}`
		counting5 = `"retention":{"policies":[{"repositories":["**"],"keepTags":[{"mostRecentlyPushedCount":5}]}]}`
		patterns  = `"retention":{"policies":[{"repositories":["**"],"keepTags":[{"patterns":["v.*"]}]}]}`
	)
	http := func(s ...string) string { return `{"http":{"port":"1"` + prefixed(s) + `}}` }
	storage := func(s ...string) string { return `{"storage":{"rootDirectory":"/s"` + prefixed(s) + `}}` }
	extensions := func(s ...string) string { return `{"extensions":{"x":{}` + prefixed(s) + `}}` }
	tests := []struct {
		name          string
		before, after string
		want          string // "live PATH, restart PATH", in order
	}{
		{"nothing", usual, usual, ""},
		{"other spelling", `{"HTTP":{"port":"1"},"log":{}}`, `{"http":{"Port":"1"},"scheduler":null}`, ""},
		{"port", http(), `{"http":{"port":"2"}}`, "restart http.port"},
		{"a right", http(access), http(strings.Replace(access, "read", "create", 1)), `live http.accessControl.repositories."**".defaultPolicy`},
		{"a pattern", http(access), http(strings.Replace(access, `"**":`, `"a/**":{"anonymousPolicy":["read"]},"**":`, 1)),
			`live http.accessControl.repositories."a/**".anonymousPolicy`},
		{"an administrator", http(access), http(strings.Replace(access, `{"rep`, `{"adminPolicy":{"users":["a"]},"rep`, 1)), `live http.accessControl.adminPolicy.users`},
		{"access control appears", http(auth), http(auth, access), "stopped http.accessControl"},
		{"access control goes", http(auth, access), http(auth, `"accessControl":{}`), "stopped http.accessControl"},
		{"logins appear", http(), http(auth), "stopped http.auth.htpasswd"},
		{"logins go", http(auth), http(), "stopped http.auth.htpasswd"},
		{"another htpasswd", http(auth), http(strings.Replace(auth, "/h", "/i", 1)), "live http.auth.htpasswd.path"},
		{"LDAP goes", http(`"auth":{"ldap":{"address":"a"},"htpasswd":{"path":"/h"}}`), http(auth), "stopped http.auth.ldap"},
		{"LDAP's account", http(`"auth":{"ldap":{"credentialsFile":"a"}}`), http(`"auth":{"ldap":{"credentialsFile":"b"}}`), "live http.auth.ldap.credentialsFile"},
		{"LDAP's server", http(`"auth":{"ldap":{"address":"a"}}`), http(`"auth":{"ldap":{"address":"b"}}`), "restart http.auth.ldap.address"},
		{"gc", storage(`"gc":true`), storage(`"gc":false,"gcDelay":"2h"`), "live storage.gc, live storage.gcDelay"},
		{"a gc that was by default", storage(), storage(`"gcInterval":"2h"`), "live storage.gcInterval"},
		{"retention from nothing", storage(), storage(counting), "stopped storage.retention.policies"},
		{"retention from patterns", storage(patterns), storage(counting), "stopped storage.retention.policies"},
		{"retention that counts nothing", storage(), storage(patterns), "restart storage.retention.policies"},
		{"retention goes", storage(counting), storage(), "live storage.retention.policies"},
		{"another retention", storage(counting), storage(counting5), "live storage.retention.policies"},
		{"retention of a sub-path beside another", storage(counting, `"subPaths":{"/a":{"rootDirectory":"/t"}}`), storage(counting, `"subPaths":{"/a":{"rootDirectory":"/t",`+patterns+`}}`),
			`live storage.subPaths."/a".retention.policies`},
		{"a sub-path appears", storage(), storage(`"subPaths":{"/a":{"rootDirectory":"/t"}}`), `restart storage.subPaths."/a"`},
		{"a sub-path's gc", storage(`"subPaths":{"/a":{"gc":false}}`), storage(`"subPaths":{"/a":{"gc":true}}`), `live storage.subPaths."/a".gc`},
		{"sync appears", extensions(), extensions(`"sync":{"enable":true}`), "restart extensions.sync"},
		{"a mirror", extensions(`"sync":{"registries":[{"urls":["a"]}]}`), extensions(`"sync":{"registries":[]}`), "live extensions.sync.registries"},
		{"an event's sink", extensions(`"events":{"sinks":[{"type":"http"}]}`), extensions(`"events":{"sinks":[{"type":"nats"}]}`), "restart extensions.events.sinks"},
		{"a key that is not known", `{"new":1}`, `{"new":2}`, "restart new"},
		{"a driver", storage(`"storageDriver":{"name":"s3","bucket":"a"}`), storage(`"storageDriver":{"name":"s3","bucket":"b"}`), "restart storage.storageDriver"},
		{"another log", `{"log":{"output":"/a"}}`, `{"log":{"output":"/b"}}`, "stopped log.output"},
		{"a log appears", `{"log":{}}`, `{"log":{"output":"/b"}}`, "stopped log.output"},
		{"log", `{"log":{"level":"info"}}`, `{"log":{"level":"debug"}}`, "restart log.level"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, c := range Compare(mustParse(t, test.before), mustParse(t, test.after)) {
				got = append(got, spell(c.Reload)+" "+join(c.Path))
				if (c.Reload != Live) == (c.Why == "") {
					t.Errorf("%v: why %q", c.Path, c.Why)
				}
			}
			if s := strings.Join(got, ", "); s != test.want {
				t.Errorf("got  %s\nwant %s", s, test.want)
			}
		})
	}
}

func prefixed(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return "," + strings.Join(s, ",")
}
