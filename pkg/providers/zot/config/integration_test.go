//go:build integration

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

const root = "../../../.." // of the module

// verify asks the real Zot for its opinion of a file.
func verify(t *testing.T, file string) (ok bool, words string) {
	t.Helper()
	zot, _ := enginetest.Zot(t, root)
	cmd := exec.CommandContext(t.Context(), zot, "verify", file)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return err == nil, string(out)
}

// beside is what Zot wants of a configuration with a key before it is content
// with it: for each beginning of a path, values at other paths, or at the key
// itself.
func beside(t *testing.T) map[string][]edit {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"ldap": `{"bindDN":"cn=zot","bindPassword":"p"}`, "session": `{"hashKey":"0123456789abcdef"}`, "openid": `{"clientid":"c","clientsecret":"s"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name string) string { return quote(filepath.Join(dir, name+".json")) }
	cert := []edit{{"http|auth|bearer|cert", `"c"`}}
	login := edit{"http|auth|htpasswd|path", `"/h"`}
	ldap := []edit{{"http|auth|ldap|address", `"ldap.example"`}, {"http|auth|ldap|userAttribute", `"uid"`}, {"http|auth|ldap|baseDN", `"dc=example"`}}
	openid := []edit{{"http|auth|openid|providers|oidc|issuer", `"https://idp.example"`}, {"http|auth|openid|providers|oidc|scopes", `["openid"]`},
		{"http|auth|openid|providers|oidc|clientid", `"c"`}, {"http|auth|openid|providers|oidc|clientsecret", `"s"`}}
	remote := []edit{{"storage|storageDriver", `{"name":"s3","rootdirectory":"/zot","region":"r","bucket":"b","secretkey":"s"}`}, {"storage|dedupe", "false"}}
	cache := []edit{{"storage|remoteCache", "true"}, {"storage|cacheDriver", `{"name":"redis","url":"redis://r.example","password":"p"}`}}
	const dynamo = `{"name":"dynamodb","endpoint":"http://d.example","region":"r","cacheTablename":"c","password":"p","url":"u"}` // all that 2.1.6 takes there
	return map[string][]edit{
		"cluster.":                                                   {{"cluster|members", `["a:1","b:1"]`}, {"cluster|hashKey", `"0123456789abcdef"`}},
		"extensions.events.sinks[].":                                 {{"extensions|events|sinks|0|type", `"http"`}},
		"extensions.sync.registries[].max":                           {{"extensions|sync|registries|0|retryDelay", `"1m"`}},
		"extensions.sync.registries[].pres":                          {{"http|compat", `["docker2s2"]`}},
		"extensions.sync.registries[].manifest":                      {{"extensions|sync|registries|0|onDemand", "true"}},
		"extensions.ui.":                                             {{"extensions|search|enable", "true"}},
		"extensions.metrics.prometheus.path":                         {{"extensions|metrics|prometheus|path", `"/m"`}},
		"http.accessControl.":                                        {login},
		"http.auth.ldap.":                                            ldap,
		"http.auth.ldap.cred":                                        {{"http|auth|ldap|credentialsFile", file("ldap")}},
		"http.auth.bearer.":                                          {{"http|auth|bearer|realm", `"r"`}, {"http|auth|bearer|service", `"s"`}},
		"http.auth.bearer.aws":                                       {{"http|auth|bearer|awsSecretsManager|region", `"r"`}, {"http|auth|bearer|awsSecretsManager|secretName", `"s"`}},
		"http.auth.bearer.cert":                                      cert,
		"http.auth.bearer.oidc[].":                                   {{"http|auth|bearer|oidc|0|issuer", `"https://idp.example"`}, {"http|auth|bearer|oidc|0|audiences", `["zot"]`}},
		"http.auth.bearer.oidc[].claimMapping.":                      {{"http|auth|bearer|oidc|0|claimMapping|username", `"claims.sub"`}},
		"http.auth.bearer.oidc[].claimMapping.groups":                {{"http|auth|bearer|oidc|0|claimMapping|groups", `"[]"`}},
		"http.auth.bearer.oidc[].claimMapping.variables[].":          {{"http|auth|bearer|oidc|0|claimMapping|variables|0|name", `"x"`}, {"http|auth|bearer|oidc|0|claimMapping|variables|0|expression", `"'x'"`}},
		"http.auth.bearer.oidc[].claimMapping.validations[].":        {{"http|auth|bearer|oidc|0|claimMapping|validations|0|expression", `"true"`}, {"http|auth|bearer|oidc|0|claimMapping|validations|0|message", `"m"`}},
		"http.auth.bearer.realm":                                     cert,
		"http.auth.bearer.service":                                   cert,
		"http.auth.bearer.upstream":                                  {cert[0], {"http|auth|bearer|upstreamTokenEndpoint|realm", `"https://auth.example/token"`}, {"http|auth|bearer|upstreamTokenEndpoint|service", `"s"`}},
		"http.auth.mtls.":                                            {{"http|tls|cert", `"/c"`}, {"http|tls|key", `"/k"`}, {"http|tls|cacert", `"/a"`}, {"http|auth|mtls|identityAttributes", `["URI"]`}},
		"http.auth.mtls.uriSanPattern":                               {{"http|auth|mtls|uriSanPattern", `"spiffe://example/(.*)"`}},
		"storage.gcTimeWindow":                                       {{"storage|gcTimeWindow", `"01:00-02:00"`}},
		"storage.redirectBlobURL":                                    remote,
		"storage.subPaths.*.gcTimeWindow":                            {{"storage|subPaths|/a|gcTimeWindow", `"01:00-02:00"`}},
		"storage.subPaths.*.redirectBlobURL":                         {{"storage|subPaths|/a|storageDriver", remote[0].value}, {"storage|subPaths|/a|dedupe", "false"}},
		"http.auth.sessionDriver":                                    {{"http|auth|sessionDriver|name", `"redis"`}, {"http|auth|sessionDriver|url", `"redis://r.example"`}},
		"http.accessControl.adminPolicy.conditions[].":               {{"http|accessControl|adminPolicy|conditions|0|expression", `"true"`}},
		"http.accessControl.repositories.*.policies[].conditions[].": {{"http|accessControl|repositories|/a|policies|0|conditions|0|expression", `"true"`}},
		"http.auth.openid.providers.*.cred":                          {{"http|auth|openid|providers|oidc|credentialsFile", file("openid")}},
		"http.auth.openid.providers.*.":                              openid,
		"http.auth.sessionKeysFile":                                  {{"http|auth|sessionKeysFile", file("session")}},
		"http.compat":                                                {{"http|compat", `["docker2s2"]`}},
		"storage.storageDriver":                                      remote,
		"storage.cacheDriver":                                        cache,
		"storage.remoteCache":                                        cache,
		"storage.subPaths.*.":                                        {{"storage|rootDirectory", `"/r"`}, {"storage|subPaths|/a|rootDirectory", `"/s"`}},
		"storage.subPaths.*.storageDriver":                           {{"storage|subPaths|/a|storageDriver", remote[0].value}, {"storage|subPaths|/a|dedupe", "false"}},
		"storage.subPaths.*.cacheDriver":                             {{"storage|subPaths|/a|remoteCache", "true"}, {"storage|subPaths|/a|cacheDriver", dynamo}, {"storage|subPaths|/a|storageDriver", remote[0].value}},
		"storage.subPaths.*.remoteCache":                             {{"storage|subPaths|/a|cacheDriver", dynamo}, {"storage|subPaths|/a|storageDriver", remote[0].value}},
	}
}

// refused lists the versions of rows that the binary is not of.
func refused(t *testing.T) []string {
	t.Helper()
	zot, isLater := enginetest.Zot(t, root)
	if !isLater {
		return []string{later, latest}
	}
	text, err := exec.CommandContext(t.Context(), zot, "schema").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(bytes.ToLower(text), []byte("manifestcheckinterval")) {
		return []string{latest}
	}
	return nil
}

// TestIntegrationEachKeyIsTakenByTheVersionsOfItsRow has the binary verify each
// key of the table, with a value of its type.
func TestIntegrationEachKeyIsTakenByTheVersionsOfItsRow(t *testing.T) {
	more := beside(t)
	refuses := refused(t)
	file := filepath.Join(t.TempDir(), "config.json")
	var takes, not int
	for _, k := range Keys() {
		good, _ := example(k.Type)
		d := mustParse(t, place(k.Path, good))
		for _, prefix := range slices.Sorted(maps.Keys(more)) {
			if strings.HasPrefix(k.Path, prefix) {
				apply(t, d, more[prefix]...)
			}
		}
		if err := os.WriteFile(file, d.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		ok, words := verify(t, file)
		if none := slices.Contains(refuses, k.Versions); ok == none || none != strings.Contains(words, "has invalid keys") {
			t.Errorf("%s: versions %q, and Zot says %v of %s\n%s", k.Path, k.Versions, ok, d.Bytes(), words)
		}
		if ok {
			takes++
		} else {
			not++
		}
	}
	t.Logf("of %d keys Zot takes %d and refuses %d", takes+not, takes, not)
	if takes == 0 || (not == 0) != (len(refuses) == 0) {
		t.Error("the binary says the same of every key")
	}
}

// TestIntegrationTwentyConfigurationsAreTaken has the binary verify the
// configurations of testdata, and what an apply would make of them.
func TestIntegrationTwentyConfigurationsAreTaken(t *testing.T) {
	refuses := refused(t)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"ldap.json": `{"bindDN":"cn=zot","bindPassword":"p"}`, "session.json": `{"hashKey":"0123456789abcdef"}`,
		"openid.json": `{"clientid":"c","clientsecret":"s"}`, "sync-auth.json": `{}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here := strings.NewReplacer("/etc/zot/", dir+"/", "/var/log/zot/", dir+"/", "/var/lib/zot", dir+"/data")
	file := filepath.Join(dir, "config.json")
	for name, src := range configurations(t) {
		d := mustParse(t, here.Replace(src))
		none := len(refuses) > 0 && slices.ContainsFunc(d.Problems(strings.TrimPrefix(refuses[0], ">")), func(p Problem) bool { return p.Version })
		for _, edits := range [][]edit{nil, managed()} {
			apply(t, d, edits...)
			if err := os.WriteFile(file, []byte(here.Replace(string(d.Bytes()))), 0o600); err != nil {
				t.Fatal(err)
			}
			ok, words := verify(t, file)
			t.Logf("%s, %d edits: taken %v", name, len(edits), ok)
			if ok == none {
				t.Errorf("%s, %d edits: later keys %v, and Zot says %v\n%s", name, len(edits), none, ok, words)
			}
		}
	}
}

// TestIntegrationARunningZotCrashesAtItsLog is why these two are refused, or
// written only while Zot is stopped.
func TestIntegrationARunningZotCrashesAtItsLog(t *testing.T) {
	zot, isLater := enginetest.Zot(t, root)
	logs := []string{`{"level":"info","output":"/nowhere/zot.log"}`}
	if !isLater { // which keeps what it has
		logs = append(logs, `{"level":"loud"}`)
	}
	for _, log := range logs {
		address := porttest.Address(t)
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "config.json")
		write := func(log string) {
			t.Helper()
			if err := os.WriteFile(file, fmt.Appendf(nil, `{"storage":{"rootDirectory":%q},"http":{"port":%q},"log":%s}`, dir+"/data", port, log), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(`{"level":"info"}`)
		cmd := exec.CommandContext(t.Context(), zot, "serve", file)
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for up := false; !up; time.Sleep(20 * time.Millisecond) {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v2/", nil)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := http.DefaultClient.Do(q); err == nil {
				up = true
				r.Body.Close()
			}
			select {
			case err := <-ended:
				t.Fatalf("Zot ended at once: %v", err)
			default:
			}
		}
		write(log)
		select {
		case err := <-ended:
			t.Logf("%s: %v", log, err)
		case <-time.After(10 * time.Second):
			t.Errorf("%s: Zot still runs", log)
			if err := errors.Join(cmd.Process.Kill(), <-ended); err != nil {
				t.Logf("it was killed: %v", err)
			}
		}
	}
}

// shape is a part of what a Zot later than 2.1.6 says of its configuration.
type shape struct {
	Ref        string            `json:"$ref"`
	AnyOf      []*shape          `json:"anyOf"`
	Properties map[string]*shape `json:"properties"`
	Additional json.RawMessage   `json:"additionalProperties"`
	Items      *shape            `json:"items"`
	Named      map[string]*shape `json:"definitions"`
}

// keys lists the paths below a part of a schema, in lower case.
func (s *shape) keys(t *testing.T, named map[string]*shape, path string, into map[string]bool) {
	t.Helper()
	switch {
	case s.Ref != "":
		name, _ := strings.CutPrefix(s.Ref, "#/definitions/")
		next := named[strings.ReplaceAll(strings.ReplaceAll(name, "~0", "~"), "~1", "/")]
		if next == nil {
			next = named[strings.ReplaceAll(name, "~0", "~")]
		}
		if next == nil {
			t.Fatalf("%s: there is no %s", path, s.Ref)
		}
		next.keys(t, named, path, into)
	case len(s.AnyOf) > 0:
		s.AnyOf[0].keys(t, named, path, into)
	case len(s.Properties) > 0:
		for name, p := range s.Properties {
			p.keys(t, named, strings.TrimPrefix(path+"."+strings.ToLower(name), "."), into)
		}
	case s.Items != nil:
		before := len(into)
		s.Items.keys(t, named, path+"[]", into)
		if len(into) == before+1 && into[path+"[]"] { // of texts
			delete(into, path+"[]")
			into[path] = true
		}
	default:
		var below shape
		if len(s.Additional) > 0 && s.Additional[0] == '{' && json.Unmarshal(s.Additional, &below) == nil && (below.Ref != "" || len(below.Properties) > 0) {
			below.keys(t, named, path+".*", into)
			return
		}
		into[path] = true
	}
}

// TestIntegrationTheTableHasTheKeysOfTheSchema compares the table with what the
// binary itself says of its configuration.
func TestIntegrationTheTableHasTheKeysOfTheSchema(t *testing.T) {
	zot, isLater := enginetest.Zot(t, root)
	if !isLater {
		t.Skip("this Zot prints no schema")
	}
	text, err := exec.CommandContext(t.Context(), zot, "schema").Output()
	if err != nil {
		t.Fatal(err)
	}
	var s shape
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	s.keys(t, s.Named, "", have)
	for _, build := range []string{"binarytype", "commit", "goversion", "releasetag"} { // Zot fills these in itself
		if !have[build] {
			t.Errorf("the schema is read wrongly: it has no %s", build)
		}
		delete(have, build)
	}
	seen := map[string]bool{}
	refuses := refused(t)
	for _, k := range Keys() {
		path := strings.ToLower(k.Path)
		if i := strings.Index(path, "driver."); i >= 0 { // a driver's own
			path = path[:i+len("driver")]
		}
		if !have[path] && !strings.HasPrefix(path, "extensions.events.sinks[].") && !slices.Contains(refuses, k.Versions) {
			t.Errorf("the schema has no %s", k.Path)
		}
		seen[path] = true
	}
	for path := range have {
		if !seen[path] {
			t.Errorf("the table has no %s", path)
		}
	}
}
