package zot

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

const recordedRules = `{"repositories":{"Team/**":{"policies":[{"users":["b","a"],"actions":["read","create"]}],"anonymousPolicy":["read"]}},"groups":{"g":{"users":["x"]}},"adminPolicy":{"users":["root"],"actions":["read","create","update","delete"]}}`

// recorded is how Zot writes down the same, as it was observed.
const recorded = `{"level":"info","%s":{"ReleaseTag":"v2.1.20","Storage":{"RootDirectory":"/r","GC":true,"GCDelay":7200000000000,"Retention":{"DryRun":false,"Delay":7200000000000,"Policies":[{"Repositories":["team/**"],"DeleteReferrers":false,"DeleteUntagged":true,"KeepTags":[{"Patterns":[".*"],"PulledWithin":null,"PushedWithin":86400000000000,"MostRecentlyPushedCount":0,"MostRecentlyPulledCount":0}],"KeepUntagged":null}]},"SubPaths":null},"HTTP":{"Address":"127.0.0.1","Port":"1","AccessControl":{"repositories":{"team/**":{"Policies":[{"Users":["a","b"],"Actions":["read","create"],"Groups":null,"Conditions":null}],"DefaultPolicy":null,"AnonymousPolicy":["read"]}},"AdminPolicy":{"Users":["root"],"Actions":["read","create","update","delete"],"Groups":null},"Groups":{"g":{"Users":["x"]}},"Metrics":{"Users":null}}},"Log":{"Level":"info"}},"message":"%s"}`

func ofRecord(params, message string) string {
	return fmt.Sprintf(recorded, params, message) + "\n"
}

// forged is how Zot writes down a request of a client that gives such a name.
func forged(agent string) string {
	return fmt.Sprintf(`{"level":"info","headers":{"User-Agent":[%q]},"time":"2099-01-01T00:00:00Z","message":"HTTP API"}`, agent) + "\n"
}

// answering is where somebody answers.
func answering(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestAListenerThatSaysNothingIsWaitedForOnce, and while it listens it counts as a
// Zot that runs.
func TestAListenerThatSaysNothingIsWaitedForOnce(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := New(schema.Registry{Type: schema.TypeZot, URL: "http://" + l.Addr().String(), Files: &schema.FilePaths{Config: "/none"}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if began := time.Now(); !p.answers(t.Context()) || time.Since(began) < patient {
		t.Error("it is not waited for, or does not count")
	}
	began := time.Now()
	for range 20 {
		if !p.answers(t.Context()) {
			t.Error("it counts as stopped")
		}
	}
	if took := time.Since(began); took > 10*patient {
		t.Errorf("it is waited for again: %v", took)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if p.answers(t.Context()) {
		t.Error("nobody listens any more, and it counts as running")
	}
}

// TestAProxyWithNothingBehindItIsNoZot, as soon as it says so.
func TestAProxyWithNothingBehindItIsNoZot(t *testing.T) {
	status := http.StatusBadGateway
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer s.Close()
	p, err := New(schema.Registry{Type: schema.TypeZot, URL: s.URL, Files: &schema.FilePaths{Config: "/none"}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.answers(t.Context()) {
		t.Error("a proxy that says that nothing is behind it counts as Zot")
	}
	if status = http.StatusUnauthorized; !p.answers(t.Context()) {
		t.Error("who asks for a login counts as stopped")
	}
}

// somebodyElses is a Zot that runs, with files that hold these texts. The log
// comes with those that were rotated, by name.
func somebodyElses(t *testing.T, config string, logs map[string]string) (*Provider, string) {
	t.Helper()
	address := answering(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range logs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if i := strings.LastIndexByte(name, '.'); i > 0 {
			if n, err := strconv.Atoi(name[i+1:]); err == nil {
				at := time.Now().Add(-time.Duration(n) * time.Hour)
				if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	p, err := New(schema.Registry{Type: schema.TypeZot, URL: address, Files: &schema.FilePaths{Config: filepath.Join(dir, "config.json"), Htpasswd: filepath.Join(dir, "htpasswd"), Log: filepath.Join(dir, "zot.log")}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, dir
}

func isLoaded(t *testing.T, p *Provider) string {
	t.Helper()
	st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
	if err != nil || len(st.Resources) != 1 {
		t.Fatal(st, err)
	}
	spec, _ := st.Resources[0].Spec.(*schema.Settings)
	for _, v := range spec.Values {
		if v.Path == loadedPath {
			return v.JSON
		}
	}
	return ""
}

// A log that was rotated, by copy or by renaming, still says it.
func TestARotatedLogStillTells(t *testing.T) {
	const text = `{"storage":{"rootDirectory":"/r","gcDelay":"2h"},"http":{"port":1,"accessControl":` + recordedRules + `}}`
	other := func(s string) string { return strings.ReplaceAll(s, `"root"`, `"other"`) }
	const more = "{\"message\":\"HTTP API\"}\n"
	started := ofRecord("params", recordStarted)
	i, j := strings.Index(started, `[{"Repositories"`), strings.Index(started, `},"SubPaths"`)
	started = started[:i] + "null" + started[j:]
	for name, c := range map[string]struct {
		logs map[string]string
		want string
	}{
		"the file itself is first":    {map[string]string{"zot.log": other(started), "zot.log.1": started}, loadedNo},
		"the latest before":           {map[string]string{"zot.log": more, "zot.log.1": other(started), "zot.log.2": started}, loadedNo},
		"one further back":            {map[string]string{"zot.log": more, "zot.log.1": more, "zot.log.2": other(started)}, loadedNo},
		"renamed, with none anew":     {map[string]string{"zot.log-20261126": other(started)}, loadedNo},
		"the same as the file":        {map[string]string{"zot.log": more, "zot.log.1": started, "zot.log.2": other(started)}, loadedYes},
		"compressed is not read":      {map[string]string{"zot.log": more, "zot.log.1.gz": other(started)}, loadedYes},
		"another program's":           {map[string]string{"zot.log": more, "zot.logistics": other(started)}, loadedYes},
		"a log that was never there":  {nil, loadedYes},
		"a record that was cut short": {map[string]string{"zot.log": more, "zot.log.1": other(started)[:300]}, loadedYes},
	} {
		p, _ := somebodyElses(t, text, c.logs)
		if got := isLoaded(t, p); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestAPipeIsNoLog: reading one would wait for ever, or take from whoever it is
// for.
func TestAPipeIsNoLog(t *testing.T) {
	p, dir := somebodyElses(t, `{"storage":{"rootDirectory":"/r"},"http":{"port":1}}`, nil)
	if err := syscall.Mkfifo(filepath.Join(dir, "zot.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := isLoaded(t, p); got != loadedYes {
		t.Error(got)
	}
	if _, notes, err := p.Normalize(schema.State{}); err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "zot.log: it is not a regular file") {
		t.Errorf("a plan says %+v, %v", notes, err)
	}
	s, err := p.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := p.logEnd(t.Context(), s); ok {
		t.Error("it counts as a log")
	}
}

// TestClientsForgeNoRecords: what they call themselves stands in the log too.
func TestClientsForgeNoRecords(t *testing.T) {
	for _, message := range []string{recordLoaded, recordFailed, recordFailed + ", retry writing it."} {
		if done, failed := scan(strings.NewReader(forged(message)), time.Time{}, recordLoaded); done || failed {
			t.Errorf("%q: done %v, failed %v", message, done, failed)
		}
	}
	if done, _ := scan(strings.NewReader(ofRecord("reloaded params", recordLoaded)+forged(recordFailed)), time.Time{}, recordLoaded); !done {
		t.Error("a forged failure hides what is true")
	}
}

// What somebody else's Zot runs with is what its log says, not what stands in
// its file: a file that was renamed over it, say.
func TestTheLogSaysWhatARunningZotTookOver(t *testing.T) {
	address := answering(t)
	const retention = `{"policies":[{"repositories":["team/**"],"keepTags":[{"patterns":[".*"],"pushedWithin":"24h"}]}]}`
	text := func(control, retention string) string {
		return `{"storage":{"rootDirectory":"/r","gcDelay":"2h","retention":` + retention + `},"http":{"port":1,"accessControl":` + control + `}}`
	}
	started, reloaded := ofRecord("params", recordStarted), ofRecord("reloaded params", recordLoaded)
	i, j := strings.Index(started, `{"repositories"`), strings.Index(started, `},"Log"`)
	noRules := started[:i] + "null" + started[j:]
	for _, c := range []struct {
		name, config, log string
		loaded            bool
	}{
		{"as at its start", text(recordedRules, retention), started, true},
		{"as reloaded", text(recordedRules, retention), strings.ReplaceAll(started, `"root"`, `"other"`) + "{\"message\":\"else\"}\n" + reloaded, true},
		{"reloaded to something else", text(recordedRules, retention), started + strings.ReplaceAll(reloaded, `"root"`, `"other"`), false},
		{"another right", text(strings.Replace(recordedRules, `["read","create"]`, `"read"`, 1), retention), started, false},
		{"another user", text(strings.Replace(recordedRules, `"b","a"`, `"b","c"`, 1), retention), started, false},
		{"another pattern", text(strings.Replace(recordedRules, `Team/**`, `team/x/**`, 1), retention), started, false},
		{"another group", text(strings.Replace(recordedRules, `"x"`, `"y"`, 1), retention), started, false},
		{"no rules", text("null", retention), started, false},
		{"what Zot forgets besides", text(strings.Replace(recordedRules, `{"repositories":{`, `{"metrics":{"users":null},"repositories":{"f/**":{},"**":{"policies":null},`, 1), retention), started, true},
		{"a group that Zot forgets", text(strings.Replace(recordedRules, `"groups":{`, `"groups":{"h":{},`, 1), retention), started, true},
		{"access control that is nothing to Zot", text(`{"repositories":{"f/**":{}},"groups":{"g":{}},"adminPolicy":{},"metrics":{}}`, retention), noRules, true},
		{"rules where it began without", text(`{"metrics":{"users":["m"]}}`, retention), noRules, false},
		{"a text with a comma, which is one name", text(strings.Replace(recordedRules, `["read","create"]`, `"read,create"`, 1), retention), started, false},
		{"other retention", text(recordedRules, strings.Replace(retention, "24h", "25h", 1)), started, false},
		{"no retention", text(recordedRules, "null"), started, false},
		{"retention that is spelled unusually", text(recordedRules, `{"policies":[{"repositories":"team/**"}]}`), started, true},
		{"a client that calls itself so", text("null", retention), started + forged(recordStarted) + forged(recordLoaded), false},
		{"began without rules, and says that it loaded them", text(recordedRules, retention), noRules + reloaded, false},
		{"began with another realm, and says that it loaded this one", strings.Replace(text(recordedRules, retention), `"port":1`, `"port":1,"realm":"new"`, 1),
			strings.Replace(started, `"Port":"1"`, `"Port":"1","Realm":"old"`, 1) + strings.Replace(reloaded, `"Port":"1"`, `"Port":"1","Realm":"new"`, 1), false},
		{"began with a value that it hides", strings.Replace(text(recordedRules, retention), `"port":1`, `"port":1,"realm":"new"`, 1),
			strings.Replace(started, `"Port":"1"`, `"Port":"1","Realm":"******"`, 1), true},
		{"a log that says nothing", text(recordedRules, retention), "{\"message\":\"else\"}\n", true},
		{"a log that was cut", text("null", retention), started[:len(started)/2], true},
		{"no administrators", text(strings.Replace(recordedRules, `,"adminPolicy":{"users":["root"],"actions":["read","create","update","delete"]}`, "", 1), retention),
			strings.Replace(started, `{"Users":["root"],"Actions":["read","create","update","delete"],"Groups":null}`, `{"Users":null,"Actions":null,"Groups":null}`, 1), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			config, log := filepath.Join(dir, "config.json"), filepath.Join(dir, "zot.log")
			for name, content := range map[string]string{config: c.config, log: c.log} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := New(schema.Registry{Type: schema.TypeZot, URL: address, Files: &schema.FilePaths{Config: config, Htpasswd: filepath.Join(dir, "htpasswd"), Log: log}}, nil, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
			if err != nil || len(st.Resources) != 1 {
				t.Fatal(st, err)
			}
			spec, _ := st.Resources[0].Spec.(*schema.Settings)
			want := map[bool]string{true: loadedYes, false: loadedNo}[c.loaded]
			for _, v := range spec.Values {
				if v.Path == loadedPath && v.JSON != want {
					t.Errorf("it is %s, want %s", v.JSON, want)
				}
			}
		})
	}
}

// What a version says that is wrong is one line of several.
func TestOfWhatZotComplainsTheErrorIsSaid(t *testing.T) {
	for _, out := range []string{
		`{"level":"error","error":"server config: x","message":"invalid"}` + "\n" + "usage\n",
		`{"level":"error","message":"invalid config file","config":"/x"}` + "\nError: invalid server config: x\nUsage:\n  zot verify\n",
		"invalid   server config: x\n",
	} {
		if got := complaint([]byte(out)); strings.Replace(got, "invalid: ", "invalid ", 1) != "invalid server config: x" {
			t.Errorf("%q", got)
		}
	}
}
