//go:build integration

package zot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

// bareZot is a real Zot on a directory of its own, watched from outside.
type bareZot struct {
	dir, address, config, log string
	cmd                       *exec.Cmd
	gone                      chan struct{}
}

func newBare(t *testing.T) *bareZot {
	t.Helper()
	z := &bareZot{dir: t.TempDir(), address: porttest.Address(t)}
	z.config, z.log = filepath.Join(z.dir, "config.json"), filepath.Join(z.dir, "zot.log")
	var accounts []byte
	for name, hash := range map[string]string{"admin": "pw", "dev": "pw"} {
		h, err := (&Provider{cost: 4}).hash(hash)
		if err != nil {
			t.Fatal(err)
		}
		accounts = fmt.Appendf(accounts, "%s:%s\n", name, h)
	}
	if err := os.WriteFile(filepath.Join(z.dir, "htpasswd"), accounts, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { z.stop() })
	return z
}

// text fills in what differs by directory.
func (z *bareZot) text(s string) []byte {
	host, port, _ := net.SplitHostPort(z.address)
	return []byte(strings.NewReplacer("$DIR", z.dir, "$HOST", host, "$PORT", port).Replace(s))
}

func (z *bareZot) start(t *testing.T) {
	t.Helper()
	z.launch(t)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", z.address); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(z.log)
			t.Fatalf("Zot does not start:\n%s", b)
		}
	}
}

// begin starts it, stops it as soon as it has written down what it starts with, and
// returns that: it need not get any further. Nil is that it ended before.
func (z *bareZot) begin(t *testing.T, log string) *record {
	t.Helper()
	z.launch(t)
	defer z.stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		over := false
		select {
		case <-z.gone:
			over = true
		default:
		}
		if f, err := os.Open(log); err == nil {
			r := lastRecord(f)
			f.Close()
			if r != nil {
				return r
			}
		}
		if over {
			return nil
		}
	}
	t.Fatalf("%s: no record in a minute", z.config)
	return nil
}

func (z *bareZot) launch(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(z.log, os.O_APPEND|os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	bin, _ := enginetest.Zot(t, "../../..")
	z.cmd = exec.Command(bin, "serve", z.config)
	z.cmd.Stdout, z.cmd.Stderr = log, log
	if err := z.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	z.gone = make(chan struct{})
	go func(c *exec.Cmd, gone chan struct{}) {
		_ = c.Wait() // it ends by a signal, or of what a row writes
		close(gone)
	}(z.cmd, z.gone)
}

func (z *bareZot) stop() {
	if z.cmd == nil {
		return
	}
	_ = z.cmd.Process.Signal(os.Interrupt)
	select {
	case <-z.gone:
	case <-time.After(5 * time.Second):
		_ = z.cmd.Process.Kill()
		<-z.gone
	}
	z.cmd = nil
}

// settle waits until Zot has seen a file, or died of it.
func (z *bareZot) settle() {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(z.log)
		if bytes.Contains(b, []byte(recordLoaded)) || bytes.Contains(b, []byte("panic:")) {
			break
		}
	}
	time.Sleep(50 * time.Millisecond)
}

// answer is how Zot answers a request, "dead" where it does not.
func (z *bareZot) answer(t *testing.T, user, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+z.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, "pw")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "dead"
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("Www-Authenticate"))
}

// param is a value of the configuration that Zot says last it has.
func (z *bareZot) param(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(z.log)
	if err != nil {
		t.Fatal(err)
	}
	var have json.RawMessage
	for line := range bytes.Lines(b) {
		var r struct {
			Params   json.RawMessage `json:"params"`
			Reloaded json.RawMessage `json:"reloaded params"`
			Message  string          `json:"message"`
		}
		if json.Unmarshal(line, &r) != nil {
			continue
		}
		switch {
		case r.Message == recordLoaded && r.Reloaded != nil:
			have = r.Reloaded
		case r.Message == "configuration settings":
			have = r.Params
		}
	}
	for _, part := range strings.Split(path, ".") {
		var m map[string]json.RawMessage
		if json.Unmarshal(have, &m) != nil {
			return "none"
		}
		have = nil
		for k, v := range m {
			if strings.EqualFold(k, part) {
				have = v
			}
		}
	}
	return string(have)
}

const (
	plainHTTP = `"http":{"address":"$HOST","port":"$PORT"}`
	authHTTP  = `"http":{"address":"$HOST","port":"$PORT","auth":{"htpasswd":{"path":"$DIR/htpasswd"}}}`
	storage   = `"storage":{"rootDirectory":"$DIR/storage"}`
)

func controlled(control string) string {
	return strings.Replace(authHTTP, `"}}}`, `"}},"accessControl":`+control+`}`, 1)
}

func document(parts ...string) string {
	return `{"distSpecVersion":"1.1.1","log":{"level":"info"},` + strings.Join(parts, ",") + "}"
}

func withStorage(more string) string {
	return `"storage":{"rootDirectory":"$DIR/storage",` + more + `}`
}

// Each row is a change and how it shows. What the running Zot makes of it must
// be what the table says: in force at once, as before until the next start, or
// neither, so that Zot must not run when it is written.
func TestEachRowOfTheReloadTableOnARealZot(t *testing.T) {
	const (
		live    = config.Live
		restart = config.Restart
		stopped = config.Stopped
		shut    = `{"repositories":{"**":{"defaultPolicy":[]}}}`
		open    = `{"repositories":{"**":{"defaultPolicy":["read"],"anonymousPolicy":["read"]}}}`
		keeps   = `"gcInterval":"1h","retention":{"policies":[{"repositories":["**"],"keepTags":[{"patterns":[".*"],"mostRecentlyPushedCount":%d}]}]}`
		ldap    = `"http":{"address":"$HOST","port":"$PORT","auth":{"htpasswd":{"path":"$DIR/htpasswd"},"ldap":{"address":"127.0.0.1","port":1,"insecure":true,"baseDN":"dc=x","userAttribute":"uid"}}}`
		sync    = `"extensions":{"sync":{"enable":true,"registries":[{"urls":["http://127.0.0.1:1"],"onDemand":true%s}]}}`
	)
	param := func(path string) func(*testing.T, *bareZot) string {
		return func(t *testing.T, z *bareZot) string {
			t.Helper()
			return z.param(t, path)
		}
	}
	answer := func(user, path string) func(*testing.T, *bareZot) string {
		return func(t *testing.T, z *bareZot) string {
			t.Helper()
			return z.answer(t, user, path)
		}
	}
	for _, row := range []struct {
		name          string
		before, after string
		want          config.Reload
		shows         func(*testing.T, *bareZot) string
	}{
		{"http.accessControl changes", document(storage, controlled(shut)), document(storage, controlled(open)), live, answer("", "/v2/a/b/tags/list")},
		{"http.accessControl appears", document(storage, authHTTP), document(storage, controlled(shut)), stopped, answer("dev", "/v2/a/b/tags/list")},
		{"http.accessControl appears where it held nothing", document(storage, controlled(`{"repositories":{"**":{},"a/**":null},"groups":{"g":{}},"adminPolicy":{},"metrics":{}}`)), document(storage, controlled(shut)), stopped, answer("dev", "/v2/a/b/tags/list")},
		{"http.accessControl changes that held no rule", document(storage, controlled(`{"metrics":{"users":["x"]}}`)), document(storage, controlled(open)), live, answer("", "/v2/a/b/tags/list")},
		{"http.accessControl goes", document(storage, controlled(shut)), document(storage, authHTTP), stopped, answer("dev", "/v2/a/b/tags/list")},
		{"http.accessControl.groups", document(storage, controlled(`{"repositories":{"**":{"policies":[{"groups":["g"],"actions":["read"]}]}},"groups":{"g":{"users":["x"]}}}`)),
			document(storage, controlled(`{"repositories":{"**":{"policies":[{"groups":["g"],"actions":["read"]}]}},"groups":{"g":{"users":["dev"]}}}`)), live, answer("dev", "/v2/a/b/tags/list")},
		{"http.accessControl.adminPolicy", document(storage, controlled(`{"repositories":{"**":{"defaultPolicy":[]}},"adminPolicy":{"users":["x"],"actions":["read"]}}`)),
			document(storage, controlled(`{"repositories":{"**":{"defaultPolicy":[]}},"adminPolicy":{"users":["dev"],"actions":["read"]}}`)), live, answer("dev", "/v2/a/b/tags/list")},
		{"http.auth appears", document(storage, plainHTTP), document(storage, authHTTP), stopped, func(t *testing.T, z *bareZot) string {
			t.Helper()
			return z.answer(t, "", "/v2/_catalog") + " " + z.answer(t, "dev", "/v2/_catalog")
		}},
		{"http.auth goes", document(storage, controlled(shut)), document(storage, plainHTTP), stopped, answer("", "/v2/a/b/tags/list")},
		{"http.auth.ldap goes", document(storage, ldap), document(storage, authHTTP), stopped, func(t *testing.T, z *bareZot) string {
			t.Helper()
			return z.answer(t, "", "/v2/") + " " + z.param(t, "http.auth.ldap")
		}},
		{"http.realm", document(storage, strings.Replace(authHTTP, `"auth"`, `"realm":"one","auth"`, 1)), document(storage, strings.Replace(authHTTP, `"auth"`, `"realm":"two","auth"`, 1)), restart, answer("", "/v2/")},
		{"http.auth.failDelay", document(storage, strings.Replace(authHTTP, `"auth":{`, `"auth":{"failDelay":1,`, 1)), document(storage, strings.Replace(authHTTP, `"auth":{`, `"auth":{"failDelay":2,`, 1)), restart, param("http.auth.failDelay")},
		{"http.ratelimit", document(storage, strings.Replace(plainHTTP, `"port"`, `"ratelimit":{"rate":100},"port"`, 1)), document(storage, strings.Replace(plainHTTP, `"port"`, `"ratelimit":{"rate":200},"port"`, 1)), restart, param("http.ratelimit.rate")},
		{"http.compat", document(storage, strings.Replace(plainHTTP, `"port"`, `"compat":[],"port"`, 1)), document(storage, strings.Replace(plainHTTP, `"port"`, `"compat":["docker2s2"],"port"`, 1)), restart, param("http.compat")},
		{"storage.gc", document(withStorage(`"gc":true`), plainHTTP), document(withStorage(`"gc":false`), plainHTTP), live, param("storage.gc")},
		{"storage.gcDelay", document(withStorage(`"gcDelay":"1h"`), plainHTTP), document(withStorage(`"gcDelay":"2h"`), plainHTTP), live, param("storage.gcDelay")},
		{"storage.gcInterval", document(withStorage(`"gcInterval":"1h"`), plainHTTP), document(withStorage(`"gcInterval":"2h"`), plainHTTP), live, param("storage.gcInterval")},
		{"storage.dedupe", document(withStorage(`"dedupe":true`), plainHTTP), document(withStorage(`"dedupe":false`), plainHTTP), live, param("storage.dedupe")},
		{"storage.rootDirectory", document(storage, plainHTTP), document(`"storage":{"rootDirectory":"$DIR/storage-2"}`, plainHTTP), restart, param("storage.rootDirectory")},
		{"storage.commit", document(withStorage(`"commit":false`), plainHTTP), document(withStorage(`"commit":true`), plainHTTP), restart, param("storage.commit")},
		{"storage.subPaths appear", document(storage, plainHTTP), document(withStorage(`"subPaths":{"/a":{"rootDirectory":"$DIR/other"}}`), plainHTTP), restart, param("storage.subPaths")},
		{"storage.retention changes", document(withStorage(fmt.Sprintf(keeps, 5)), plainHTTP), document(withStorage(fmt.Sprintf(keeps, 7)), plainHTTP), live, param("storage.retention.policies")},
		{"storage.retention goes", document(withStorage(fmt.Sprintf(keeps, 5)), plainHTTP), document(withStorage(`"gcInterval":"1h"`), plainHTTP), live, param("storage.retention.policies")},
		{"storage.retention appears", document(withStorage(`"gcInterval":"1h"`), plainHTTP), document(withStorage(fmt.Sprintf(keeps, 7)), plainHTTP), stopped, param("storage.retention.policies")},
		{"log.level", document(storage, plainHTTP), strings.Replace(document(storage, plainHTTP), `"info"`, `"debug"`, 1), restart, param("log.level")},
		{"log.audit", document(storage, plainHTTP), strings.Replace(document(storage, plainHTTP), `"info"`, `"info","audit":"$DIR/audit.log"`, 1), restart, param("log.audit")},
		{"extensions.sync changes", document(storage, plainHTTP, fmt.Sprintf(sync, "")), document(storage, plainHTTP, fmt.Sprintf(sync, `,"tlsVerify":false`)), live, param("extensions.sync.registries")},
	} {
		t.Run(row.name, func(t *testing.T) {
			z := newBare(t)
			before, after := z.text(row.before), z.text(row.after)
			a, err := config.Parse(z.config, before)
			if err != nil {
				t.Fatal(err)
			}
			b, err := config.Parse(z.config, after)
			if err != nil {
				t.Fatal(err)
			}
			table := config.Live
			for _, c := range config.Compare(a, b) {
				table = max(table, c.Reload)
			}
			if table != row.want {
				t.Errorf("the table says %d, want %d", table, row.want)
			}
			if how, why := reach(a, b); (how == plan.Reload) != (row.want == live) || how == plan.Live || (why == "") != (row.want == live) {
				t.Errorf("reach says %s (%s)", how, why)
			}
			if err := os.WriteFile(z.config, before, 0o600); err != nil {
				t.Fatal(err)
			}
			z.start(t)
			was := row.shows(t, z)
			if err := files.Write(z.config, before, after); err != nil {
				t.Fatal(err)
			}
			z.settle()
			running := row.shows(t, z)
			z.stop()
			z.start(t)
			is := row.shows(t, z)
			if was == is {
				t.Fatalf("the row shows nothing: it is %s before and after", was)
			}
			switch row.want {
			case live:
				if running != is {
					t.Errorf("the running Zot shows %s, want %s at once", running, is)
				}
			case restart:
				if running != was {
					t.Errorf("the running Zot shows %s, want %s until the next start", running, was)
				}
			default:
				if running == is {
					t.Errorf("the running Zot shows %s at once; the table is too careful", running)
				}
			}
		})
	}
}

// What was found of Zot's own records, on which the wait for a reload rests.
func TestAReloadIsTold(t *testing.T) {
	z := newBare(t)
	before := z.text(document(storage, plainHTTP))
	if err := os.WriteFile(z.config, before, 0o600); err != nil {
		t.Fatal(err)
	}
	z.start(t)
	p := &Provider{paths: paths{config: z.config, log: z.log}, patience: 5 * time.Second, now: time.Now}
	s := &site{view: view{}, text: before}
	from, ok := p.logEnd(t.Context(), s)
	if !ok {
		t.Fatal("there is no log")
	}
	if err := files.Write(z.config, before, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitReload(t.Context(), s, from, time.Now(), p.patience, recordLoaded); err == nil || !strings.Contains(err.Error(), "did not take") {
		t.Errorf("a broken configuration: %v", err)
	}
	from, _ = p.logEnd(t.Context(), s)
	if err := files.Write(z.config, []byte("{"), before); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitReload(t.Context(), s, from, time.Now(), p.patience, recordLoaded); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	if err := os.Truncate(z.log, 0); err != nil { // rotated
		t.Fatal(err)
	}
	if err := files.Write(z.config, before, z.text(document(storage, strings.Replace(plainHTTP, `"port"`, `"realm":"x","port"`, 1)))); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitReload(t.Context(), s, from, time.Now(), p.patience, recordLoaded); err != nil {
		t.Errorf("after the log was rotated: %v", err)
	}
	time.Sleep(300 * time.Millisecond) // after a broken one Zot takes a file over twice
	p.patience = 100 * time.Millisecond
	from, _ = p.logEnd(t.Context(), s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.awaitReload(ctx, s, from, time.Now(), p.patience, recordLoaded); err == nil {
		t.Error("a reload is told where there was none")
	}
	for _, agent := range []string{recordLoaded, recordFailed} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+z.address+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", agent)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if b, err := os.ReadFile(z.log); err != nil || !bytes.Contains(b, []byte(recordFailed)) {
		t.Fatal("Zot does not log what clients call themselves")
	}
	if err := p.awaitReload(t.Context(), s, from, time.Now(), p.patience, recordLoaded); !errors.Is(err, errSilent) {
		t.Errorf("clients that call themselves as Zot speaks: %v", err)
	}
	if err := os.Rename(z.log, z.log+".1"); err != nil { // rotated, and Zot goes on writing there
		t.Fatal(err)
	}
	p.patience = 5 * time.Second
	if from, ok = p.logEnd(t.Context(), s); !ok {
		t.Error("a log that was renamed is none")
	}
	since := time.Now()
	if err := files.Write(z.config, z.text(document(storage, strings.Replace(plainHTTP, `"port"`, `"realm":"x","port"`, 1))), before); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitReload(t.Context(), s, from, since, p.patience, recordLoaded); err != nil {
		t.Errorf("after the log was renamed: %v", err)
	}
}

// TestARealZotGoesOnWithItsOwnFile, by the record of its start, whatever stands there.
func TestARealZotGoesOnWithItsOwnFile(t *testing.T) {
	_, latest := enginetest.Zot(t, "../../..")
	files, err := filepath.Glob("config/testdata/*.json")
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	compared := 0
	for _, name := range files {
		if strings.Contains(name, "newer") && !latest {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		z := newBare(t)
		for beside, content := range map[string]string{
			"ldap.json": `{"bindDN":"cn=zot","bindPassword":"p"}`, "session.json": `{"hashKey":"0123456789abcdef"}`,
			"openid.json": `{"clientid":"c","clientsecret":"s"}`, "sync-auth.json": `{}`,
		} {
			if err := os.WriteFile(filepath.Join(z.dir, beside), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text := []byte(strings.NewReplacer("/etc/zot/", z.dir+"/", "/var/log/zot/", z.dir+"/", "/var/lib/zot", z.dir+"/data").Replace(string(src)))
		doc, conf, err := read(z.config, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(doc.Set([]byte(`"info"`), "log", "level"), os.WriteFile(z.config, doc.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		log := z.log
		if filepath.IsAbs(conf.Log.Output) && !strings.HasPrefix(conf.Log.Output, "/dev/") {
			log = conf.Log.Output
		}
		took := z.begin(t, log)
		if took == nil {
			b, _ := os.ReadFile(z.log)
			t.Logf("%s: it ends before it says what it took: %s", name, b)
			continue
		}
		compared++
		if key := took.heldBack(doc); key != "" {
			have, _ := doc.Get(strings.Split(key, ".")...)
			was, _ := took.begun.Get(strings.Split(key, ".")...)
			t.Errorf("%s: %s is %s, and Zot took %s", name, key, have, was)
		}
	}
	if compared < 15 {
		t.Errorf("%d were compared", compared)
	}
}

// TestAFileReadsAsARealZotTakesIt, by the record of its start.
func TestAFileReadsAsARealZotTakesIt(t *testing.T) {
	for _, control := range []string{
		`null`, `{}`, `{"repositories":{}}`, `{"repositories":null}`, `{"metrics":{}}`, `{"metrics":{"users":null}}`, `{"metrics":{"users":["x"]}}`,
		`{"repositories":{"**":{}}}`, `{"adminPolicy":{}}`, `{"adminPolicy":{"users":[]}}`, `{"groups":{"g":{}}}`, `{"groups":{"g":{"users":[]}}}`,
		`{"repositories":{"f/**":{},"g/**":null,"h/**":{"policies":null},"i/**":{"policies":[{},{"users":null}]},"j/**":{"defaultPolicy":[]},"k/**":{"defaultPolicy":""}},"groups":{"g":{}}}`,
		`{"repositories":{"f/**":{"defaultPolicy":"read,create","policies":[{"users":"a,b","actions":"read"}]}}}`,
	} {
		for _, extensions := range []string{`null`, `{"search":{}}`, `{"search":null,"sync":{}}`, `{"search":{"cve":{}},"scrub":{"enable":false}}`} {
			z := newBare(t)
			text := z.text(document(storage, controlled(control), `"extensions":`+extensions))
			if err := os.WriteFile(z.config, text, 0o600); err != nil {
				t.Fatal(err)
			}
			z.start(t)
			_, file, err := read(z.config, text)
			if err != nil {
				t.Fatal(err)
			}
			log, err := os.Open(z.log)
			if err != nil {
				t.Fatal(err)
			}
			took := lastRecord(log)
			log.Close()
			z.stop()
			if took == nil || !sameRules(file, took.conf) || (file.HTTP.AccessControl == nil) != (took.conf.HTTP.AccessControl == nil) {
				t.Errorf("%s: read as %s, and Zot took %+v", control, encoded(rulesOf(file)), took)
			}
			if took != nil && ((file.Extensions.Search == nil) != (took.conf.Extensions.Search == nil) || file.Extensions.Sync != nil || took.conf.Extensions.Sync != nil) {
				t.Errorf("%s: search %v, and Zot has %v", extensions, file.Extensions.Search, took.conf.Extensions.Search)
			}
		}
	}
}
