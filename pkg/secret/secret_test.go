package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/ocisync/ocisync/schema"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "c4nary-Zq81-do-not-print"

func environ(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) {
		if v, ok := m[k]; ok {
			return v, true
		}
		if k == "PATH" {
			return os.LookupEnv(k)
		}
		return "", false
	}
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretNeverPrints(t *testing.T) {
	v := NewValue(canary)
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "v", v, "p", &v, "s", struct{ V Value }{v})
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb, v, &v, struct{ V Value }{v}, struct{ v Value }{v})
	}
	b, err := json.Marshal(map[string]Value{"v": v})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	if b, err = v.MarshalText(); err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	r := New(schema.Host{}, environ(map[string]string{"OCISYNC_A": canary}), "")
	if _, err := r.Resolve(t.Context(), schema.SecretRef{Env: "OCISYNC_A"}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "%v %+v %#v", r, r, r.found)
	if s := out.String(); strings.Contains(s, canary) || strings.Contains(s, fmt.Sprintf("%x", canary)) {
		t.Errorf("printed: %s", s)
	}
	if !strings.Contains(string(b), "(secret)") || v.Reveal() != canary {
		t.Errorf("%s, %s", b, v.Reveal())
	}
}

// Each rule of the host file: what it lets through, and what it refuses with
// which remedy. No refusal holds the secret.
func TestReferencesReachOnlyWhatTheHostFileAllows(t *testing.T) {
	dir, creds, tree, out := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	write(t, dir+"/pw", canary+"\n")
	write(t, dir+"/sub/pw", canary)
	write(t, dir+"/two", canary+"\n\n")
	write(t, dir+"/empty", "\n")
	write(t, dir+"/huge", strings.Repeat("x", maxSecret+1))
	write(t, dir+"/full", strings.Repeat("x", maxSecret)+"\n")
	write(t, creds+"/cred", canary)
	write(t, out+"/pw", canary)
	for link, to := range map[string]string{"inside": "sub/pw", "outside": out + "/pw", "up": "../" + filepath.Base(out) + "/pw", "updir": out} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	env := environ(map[string]string{"OCISYNC_PW": canary, "OTHER": canary, "LISTED": canary, "OCISYNC_EMPTY": "",
		"OCISYNC_HUGE": strings.Repeat("x", maxSecret+1), "CREDENTIALS_DIRECTORY": creds})
	host := schema.Host{Secrets: schema.HostSecrets{Env: []string{"LISTED"}, Dirs: []string{dir}}}

	cases := map[string]struct {
		host schema.Host
		ref  schema.SecretRef
		want string // "" for an error
		err  string
	}{
		"env of our prefix":          {host, schema.SecretRef{Env: "OCISYNC_PW"}, canary, ""},
		"env listed":                 {host, schema.SecretRef{Env: "LISTED"}, canary, ""},
		"env not listed":             {host, schema.SecretRef{Env: "OTHER"}, "", "secrets.env"},
		"env not set":                {host, schema.SecretRef{Env: "OCISYNC_NONE"}, "", "set it"},
		"env empty":                  {host, schema.SecretRef{Env: "OCISYNC_EMPTY"}, "", "empty"},
		"env huge":                   {host, schema.SecretRef{Env: "OCISYNC_HUGE"}, "", "64 KiB"},
		"file":                       {host, schema.SecretRef{File: dir + "/pw"}, canary, ""},
		"file relative":              {host, schema.SecretRef{File: "sub/pw"}, canary, ""},
		"one newline only":           {host, schema.SecretRef{File: dir + "/two"}, canary + "\n", ""},
		"file by a link inside":      {host, schema.SecretRef{File: dir + "/inside"}, canary, ""},
		"file by a link outside":     {host, schema.SecretRef{File: dir + "/outside"}, "", "no link"},
		"file by a relative link":    {host, schema.SecretRef{File: dir + "/up"}, "", "no link"},
		"file by a linked dir":       {host, schema.SecretRef{File: dir + "/updir/pw"}, "", "no link"},
		"file by dots":               {host, schema.SecretRef{File: dir + "/../" + filepath.Base(out) + "/pw"}, "", "secrets.dirs"},
		"file by relative dots":      {host, schema.SecretRef{File: "../" + filepath.Base(out) + "/pw"}, "", "secrets.dirs"},
		"file elsewhere":             {host, schema.SecretRef{File: out + "/pw"}, "", "secrets.dirs"},
		"file of a similar name":     {host, schema.SecretRef{File: dir + "x/pw"}, "", "secrets.dirs"},
		"file missing":               {host, schema.SecretRef{File: dir + "/none"}, "", "put it there"},
		"file empty":                 {host, schema.SecretRef{File: dir + "/empty"}, "", "empty"},
		"file at the limit":          {host, schema.SecretRef{File: dir + "/full"}, strings.Repeat("x", maxSecret), ""},
		"file huge":                  {host, schema.SecretRef{File: dir + "/huge"}, "", "64 KiB"},
		"the directory itself":       {host, schema.SecretRef{File: dir}, "", "secrets.dirs"},
		"a directory":                {host, schema.SecretRef{File: dir + "/sub"}, "", "regular file"},
		"a pipe":                     {host, schema.SecretRef{File: dir + "/pipe"}, "", "regular file"},
		"credential by default":      {schema.Host{}, schema.SecretRef{File: "cred"}, canary, ""},
		"credential when not listed": {host, schema.SecretRef{File: creds + "/cred"}, "", "secrets.dirs"},
		"no directories":             {schema.Host{Secrets: schema.HostSecrets{Dirs: []string{}}}, schema.SecretRef{File: "/run/secrets/x"}, "", "lists none"},
		"no source":                  {host, schema.SecretRef{}, "", "exactly one"},
		"two sources":                {host, schema.SecretRef{Env: "OCISYNC_PW", File: "pw"}, "", "exactly one"},
		"no identity":                {host, schema.SecretRef{Age: "x.age"}, "", "secrets.age"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			have, err := New(c.host, env, tree).Resolve(t.Context(), c.ref)
			if c.want != "" {
				if err != nil || have != c.want {
					t.Fatalf("%d bytes, %v", len(have), err)
				}
				return
			}
			if err == nil || have != "" {
				t.Fatal("resolved")
			}
			if !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q does not say %q", err, c.err)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("holds the secret: %v", err)
			}
		})
	}
}

func TestAgeFileIsDecryptedWithTheHostsIdentity(t *testing.T) {
	tree, etc := t.TempDir(), t.TempDir()
	ours, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	encrypt := func(name string, to age.Recipient, text string) {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(tree, name), b.String())
	}
	encrypt("ours.age", ours.Recipient(), canary+"\n")
	encrypt("theirs.age", theirs.Recipient(), canary)
	encrypt("huge.age", ours.Recipient(), strings.Repeat("x", maxSecret+1))
	write(t, filepath.Join(tree, "plain.age"), canary)
	write(t, filepath.Join(etc, "out.age"), canary)
	if err := os.Symlink(filepath.Join(etc, "out.age"), filepath.Join(tree, "link.age")); err != nil {
		t.Fatal(err)
	}
	good := schema.Host{Secrets: schema.HostSecrets{Age: write(t, etc+"/key.txt", "# a comment\n"+ours.String()+"\n")}}
	bad := schema.Host{Secrets: schema.HostSecrets{Age: write(t, etc+"/bad.txt", canary+"\n")}}
	for _, c := range []struct {
		host schema.Host
		path string
		err  string
	}{
		{good, "ours.age", ""},
		{good, filepath.Join(tree, "ours.age"), ""},
		{good, "theirs.age", "cannot be decrypted"},
		{good, "plain.age", "cannot be decrypted"},
		{good, "huge.age", "64 KiB"},
		{good, "link.age", "escapes"},
		{good, "../" + filepath.Base(etc) + "/out.age", "below the directory"},
		{good, "none.age", "no such file"},
		{bad, "ours.age", "not an age identity"},
	} {
		have, err := New(c.host, environ(nil), tree).Resolve(t.Context(), schema.SecretRef{Age: c.path})
		if c.err == "" {
			if err != nil || have != canary {
				t.Errorf("%s: %q, %v", c.path, have, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v, want %q", c.path, err, c.err)
		}
	}
}

func sh(name, script string) schema.HostCommand {
	return schema.HostCommand{Name: name, Run: []string{"sh", "-c", script, "sh"}, Timeout: 20}
}

func TestCommandIsOneOfTheHostFileWithoutAShellAndTellsNothing(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	host := schema.Host{Command: []schema.HostCommand{
		sh("show", `printf '%s\n' "$1"`),
		sh("env", `env | cut -d= -f1 | grep -v -e '^_$' -e '^PWD$' -e '^SHLVL$' | sort | tr '\n' ' '`),
		sh("fails", `echo `+canary+`; echo `+canary+` >&2; exit 3`),
		sh("noise", `echo `+canary+` >&2; echo ok`),
		sh("silent", `:`),
		sh("huge", `while :; do echo `+strings.Repeat("x", 1000)+`; done`),
		{Name: "missing", Run: []string{"ocisync-no-such-program"}},
		{Name: "norun"},
	}}
	env := environ(map[string]string{"OCISYNC_PW": canary, "HOME": "/", "LD_PRELOAD": ""})
	for _, c := range []struct {
		name string
		args []string
		want string
		err  string
	}{
		{"show", []string{"secret/x"}, "secret/x", ""},
		{"show", []string{"$(touch " + mark + "); `touch " + mark + "`; touch " + mark}, "$(touch " + mark + "); `touch " + mark + "`; touch " + mark, ""},
		{"show", []string{"-x"}, "", "begins with '-'"},
		{"env", nil, "HOME PATH ", ""},
		{"noise", nil, "ok", ""},
		{"fails", nil, "", "exit status 3"},
		{"silent", nil, "", "empty"},
		{"huge", nil, "", "64 KiB"},
		{"missing", nil, "", "not installed"},
		{"norun", nil, "", "set its run"},
		{"rm", nil, "", "no such command, only env, fails"},
		{"sh -c true", nil, "", "no such command"},
	} {
		have, err := New(host, env, "").Resolve(t.Context(), schema.SecretRef{Command: c.name, Args: c.args})
		if c.err == "" {
			if err != nil || have != c.want {
				t.Errorf("%s: %q, %v, want %q", c.name, have, err, c.want)
			}
			continue
		}
		if err == nil || have != "" || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %q, %v, want %q", c.name, have, err, c.err)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a shell saw an argument")
	}
	if _, err := New(schema.Host{}, env, "").Resolve(t.Context(), schema.SecretRef{Command: "show"}); err == nil || !strings.Contains(err.Error(), "[command.show]") {
		t.Errorf("no commands: %v", err)
	}
}

func TestCommandThatHangsIsEndedWithItsChildren(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	hang := sh("hang", `sleep 300 & echo $! > `+pidFile+`; wait`)
	hang.Timeout = 1
	start := time.Now()
	_, err := New(schema.Host{Command: []schema.HostCommand{hang}}, environ(nil), "").Resolve(t.Context(), schema.SecretRef{Command: "hang"})
	if err == nil || !strings.Contains(err.Error(), "within 1s") {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(state, []byte(") Z ")) {
			return // gone, or dead and not yet collected
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("its child %d is still there", pid)
}

func TestCommandRunsOncePerResolver(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	host := schema.Host{Command: []schema.HostCommand{sh("once", `echo x >> `+count+`; echo v"$1"`), sh("fails", `echo x >> `+count+`; exit 1`)}}
	r := New(host, environ(nil), "")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if v, err := r.Resolve(context.Background(), schema.SecretRef{Command: "once", Args: []string{"1"}}); v != "v1" || err != nil {
				t.Errorf("%q, %v", v, err)
			}
			if _, err := r.Resolve(context.Background(), schema.SecretRef{Command: "fails"}); err == nil {
				t.Error("no error")
			}
		})
	}
	wg.Wait()
	if v, err := r.Resolve(t.Context(), schema.SecretRef{Command: "once", Args: []string{"2"}}); v != "v2" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if b, err := os.ReadFile(count); err != nil || len(b) != 6 {
		t.Errorf("ran %d times, want 3: %v", len(b)/2, err)
	}
}

func TestACancelledRunIsNotRemembered(t *testing.T) {
	r := New(schema.Host{}, environ(map[string]string{"OCISYNC_A": "x"}), "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Resolve(ctx, schema.SecretRef{Env: "OCISYNC_A"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if v, err := r.Resolve(t.Context(), schema.SecretRef{Env: "OCISYNC_A"}); v != "x" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}

func TestAtHandRunsAndDecryptsNothing(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "mark")
	write(t, dir+"/pw", "p")
	host := schema.Host{
		Secrets: schema.HostSecrets{Dirs: []string{dir}, Age: dir + "/none"},
		Command: []schema.HostCommand{sh("c", `touch `+mark+`; echo x`)},
	}
	r := New(host, environ(map[string]string{"OCISYNC_A": "a", "OTHER": canary}), dir)
	for _, c := range []struct {
		ref   schema.SecretRef
		value string
		ok    bool
		err   bool
	}{
		{schema.SecretRef{Env: "OCISYNC_A"}, "a", true, false},
		{schema.SecretRef{Env: "OCISYNC_B"}, "", false, false},
		{schema.SecretRef{Env: "OTHER"}, "", false, true},
		{schema.SecretRef{File: dir + "/pw"}, "p", true, false},
		{schema.SecretRef{File: dir + "/none"}, "", false, false},
		{schema.SecretRef{File: "/etc/passwd"}, "", false, true},
		{schema.SecretRef{Age: "x.age"}, "", false, false},
		{schema.SecretRef{Command: "c"}, "", false, false},
		{schema.SecretRef{}, "", false, true},
	} {
		value, ok, err := r.AtHand(t.Context(), c.ref)
		if value != c.value || ok != c.ok || (err != nil) != c.err {
			t.Errorf("%s: %q, %v, %v", c.ref, value, ok, err)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a command ran")
	}
}
