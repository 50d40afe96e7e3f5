package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// canaries are the secrets of TestNoSecretIsShownOrKept, by variable.
func canaries(t *testing.T) map[string]string {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), []string{"key"}, streams{in: strings.NewReader(""), out: &out, err: &out, getenv: func(string) (string, bool) { return "", false }}); code != exitDone {
		t.Fatalf("key: %s", out.String())
	}
	_, key, _ := strings.Cut(strings.SplitN(out.String(), "\n", 2)[0], "=")
	return map[string]string{
		"OCISYNC_ROOT": "canary-of-root", "OCISYNC_DEV": "canary-of-dev", "OCISYNC_STATE_KEY": key, "OCISYNC_HOOK": "canary-of-hook",
	}
}

const canaryMode = `version = 1
[registry]
type  = "distribution"
url   = "http://ADDRESS"
login = { user = "root", password = { env = "OCISYNC_ROOT" } }
[registry.run]
driver = "embedded"
data   = "../../data"
[state]
store = "STORE"
dir   = "../../state"
key   = { env = "OCISYNC_STATE_KEY" }
[policy]
prune = ["user"]
[user.root]
admin    = true
password = { env = "OCISYNC_ROOT" }
[user.dev]
password = { env = "OCISYNC_DEV" }
`

// TestNoSecretIsShownOrKept runs every verb with secrets at hand and looks for
// them in what is printed and in every file that is left behind.
func TestNoSecretIsShownOrKept(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	secrets := canaries(t)
	env := map[string]string{"XDG_STATE_HOME": filepath.Join(dir, "machine"), "XDG_CONFIG_HOME": filepath.Join(dir, "config"), "HOME": dir}
	for k, v := range secrets {
		env[k] = v
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		t.Helper()
		text = strings.NewReplacer("ADDRESS", address, `dir   = "../../state"`+"\n", "", "STORE", "registry").Replace(text)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := func(ctx context.Context, out *bytes.Buffer, args ...string) int {
		return run(ctx, args, streams{in: strings.NewReader(""), out: out, err: out, getenv: func(k string) (string, bool) { v, ok := env[k]; return v, ok }})
	}
	clean := func(what, text string) {
		t.Helper()
		for name, secret := range secrets {
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), strings.TrimPrefix(secret, "ocisync-state-key:")} {
				if strings.Contains(text, form) {
					t.Errorf("%s holds the secret of %s", what, name)
				}
			}
		}
	}
	do := func(code int, args ...string) {
		t.Helper()
		var out bytes.Buffer
		got := start(t.Context(), &out, args...)
		clean(strings.Join(args, " "), out.String())
		if got != code {
			t.Errorf("%s: exit code %d, not %d:\n%s", strings.Join(args, " "), got, code, out.String())
		}
	}

	write("modes/m/m.toml", canaryMode)
	do(exitDone, "validate", "--output", "json")
	do(exitDone, "fmt", "--mode", "m")
	do(exitDone, "explain", "--mode", "m", "user.dev")
	for _, format := range []string{"text", "json", "markdown"} {
		do(exitDone, "plan", "--mode", "m", "--format", format, "-v")
	}
	do(exitDone, "apply", "--mode", "m", "-v")
	do(exitDone, "apply", "--mode", "m", "--output", "json", "-v")

	ctx, stop := context.WithCancel(t.Context())
	var up bytes.Buffer
	ended := make(chan int)
	held := maps.Clone(env)
	go func() {
		ended <- run(ctx, []string{"up", "--mode", "m", "-v"}, streams{in: strings.NewReader(""), out: &up, err: &up, getenv: func(k string) (string, bool) { v, ok := held[k]; return v, ok }})
	}()
	request(t, address, "root", "wrong-password")
	request(t, address, "root", secrets["OCISYNC_ROOT"])
	env["OCISYNC_DEV"] = secrets["OCISYNC_HOOK"] // a password is changed
	do(exitDone, "plan", "--mode", "m", "--output", "json")
	do(exitDone, "apply", "--mode", "m", "--output", "json", "-v")
	do(exitDone, "adopt", "--mode", "m", "--out", "-")
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("up: exit code %d:\n%s", code, up.String())
	}
	clean("up", up.String())

	// What goes wrong shows none either.
	write("literal/m/m.toml", strings.Replace(canaryMode, `{ env = "OCISYNC_DEV" }`, `"canary-of-dev"`, 1))
	for _, args := range [][]string{{"validate"}, {"plan", "--mode", "m"}, {"apply", "--mode", "m"}, {"explain", "--mode", "m", "user.dev"}} {
		do(exitInvalid, append(args, "--modes", "literal")...)
	}
	env["OCISYNC_STATE_KEY"] = "ocisync-state-key:" + secrets["OCISYNC_HOOK"]
	do(exitFailed, "plan", "--mode", "m")
	do(exitFailed, "apply", "--mode", "m")

	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, filepath.Join(dir, "literal")) {
			return err
		}
		b, err := os.ReadFile(path)
		clean(path, string(b))
		return err
	}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("machine/ocisync/journal"); err != nil {
		t.Error("no journal was looked at: ", err)
	}
}

// request asks a registry for its root as a user, once it is there.
func request(t *testing.T, address, user, password string) {
	t.Helper()
	for range 500 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(user, password)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the registry did not get ready")
}
