package secret

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ocisync/ocisync/schema"
)

func deliverer(dir string, commands ...schema.HostCommand) *Resolver {
	return New(schema.Host{State: dir + ".state", Secrets: schema.HostSecrets{Deliver: []string{dir}}, Command: commands}, environ(nil), "")
}

func mode(t testing.TB, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func TestFileDeliveryHoldsTheWholeLoginAndIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	path := dir + "/robots/ci"
	for _, pw := range []string{"first", "second"} {
		if err := deliverer(dir).Deliver(t.Context(), schema.Delivery{File: path}, "robot$ci", pw, "registry.example.com"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var have login
		if err := json.Unmarshal(b, &have); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(login{"registry.example.com", "robot$ci", pw}, have); d != "" {
			t.Error(d)
		}
		if m := mode(t, path); m != 0o600 {
			t.Errorf("mode %v", m)
		}
		if err := os.Chmod(path, 0o644); err != nil { // the next delivery mends it
			t.Fatal(err)
		}
	}
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if m := mode(t, filepath.Dir(path)); m.Perm() != 0o700 {
		t.Errorf("directory mode %v", m)
	}
}

func TestDeliveryFollowsNoLinkAndStaysBelowTheListedDirectories(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	write(t, out+"/target", "untouched")
	write(t, dir+"/real/target", "untouched")
	for link, to := range map[string]string{"file": out + "/target", "inside": "real/target", "dir": out, "indir": "real"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{
		dir + "/file", dir + "/inside", dir + "/dir/target", dir + "/indir/target",
		out + "/target", dir + "/../" + filepath.Base(out) + "/target", dir, "relative", dir + "/real",
	} {
		for _, d := range []schema.Delivery{{File: path}, {DockerConfig: path}} {
			err := deliverer(dir).Deliver(t.Context(), d, "ci", canary, "r.example.com")
			if err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("%+v: %v", d, err)
			}
			if linked := strings.HasPrefix(path, dir+"/") && !strings.Contains(path, "/../") && !strings.HasSuffix(path, "/real"); linked && !strings.Contains(err.Error(), "a link is in the way") {
				t.Errorf("%+v: %v does not say why", d, err)
			}
		}
	}
	for _, path := range []string{out + "/target", dir + "/real/target"} {
		if b, err := os.ReadFile(path); err != nil || string(b) != "untouched" {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	if list, err := os.ReadDir(out); err != nil || len(list) != 1 {
		t.Errorf("written outside: %v, %v", list, err)
	}
}

func TestDockerConfigKeepsWhatElseItHolds(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir+"/config.json", `{"HttpHeaders":{"a":"b"},"auths":{"other.example.com":{"auth":"eDp5"},"r.example.com":{"auth":"b2xk","identitytoken":"t"}},"credHelpers":{"third":"pass"}}`)
	if err := deliverer(dir).Deliver(t.Context(), schema.Delivery{DockerConfig: path}, "ci", "pw", "r.example.com"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	have, err := schema.CanonicalJSON(b)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"HttpHeaders":{"a":"b"},"auths":{"other.example.com":{"auth":"eDp5"},"r.example.com":{"auth":"Y2k6cHc="}},"credHelpers":{"third":"pass"}}`
	if d := cmp.Diff(want, have); d != "" {
		t.Error(d)
	}
	if m := mode(t, path); m != 0o600 {
		t.Errorf("mode %v", m)
	}
	fresh := dir + "/new/config.json"
	if err := deliverer(dir).Deliver(t.Context(), schema.Delivery{DockerConfig: fresh}, "ci", "pw", "r.example.com"); err != nil {
		t.Fatal(err)
	}
}

// What was delivered is read back where it was delivered to, and through no link.
func TestWhatWasDeliveredIsReadBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	r := deliverer(dir)
	const host = "registry.example.com"
	for _, d := range []schema.Delivery{{File: dir + "/robots/ci"}, {DockerConfig: dir + "/docker/config.json"}} {
		if user, _, err := r.Delivered(d, host); user != "" || err != nil {
			t.Errorf("before: %q, %v", user, err)
		}
		if err := r.Deliver(t.Context(), d, "robot$ci", "se:cret", host); err != nil {
			t.Fatal(err)
		}
		if user, pw, err := r.Delivered(d, host); user != "robot$ci" || pw != "se:cret" || err != nil {
			t.Errorf("%q %q, %v", user, pw, err)
		}
		if user, _, err := r.Delivered(d, "other.example.com"); user != "" || err != nil {
			t.Errorf("for another registry: %q, %v", user, err)
		}
		path := d.File + d.DockerConfig
		if err := os.WriteFile(path, []byte("something"), 0o600); err != nil {
			t.Fatal(err)
		}
		if user, _, err := r.Delivered(d, host); user != "" || err != nil {
			t.Errorf("what is no login: %q, %v", user, err)
		}
		if err := errors.Join(os.Remove(path), os.Symlink("/dev/null", path)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Delivered(d, host); !errors.Is(err, errLink) {
			t.Errorf("through a link: %v", err)
		}
	}
	if _, _, err := r.Delivered(schema.Delivery{File: filepath.Dir(dir) + "/ci"}, host); err == nil || !strings.Contains(err.Error(), "secrets.deliver of the host file") {
		t.Errorf("elsewhere: %v", err)
	}
	if _, _, err := r.Delivered(schema.Delivery{Command: "put"}, host); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of a command: %v", err)
	}
}

func TestDockerConfigThatCannotTakeALoginIsLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":      canary,
		"null":          "null",
		"wrong auths":   `{"auths":["` + canary + `"]}`,
		"a store":       `{"credsStore":"pass"}`,
		"a helper":      `{"credHelpers":{"r.example.com":"pass"}}`,
		"far too large": strings.Repeat(" ", maxDockerConfig+1),
	} {
		dir := t.TempDir()
		path := write(t, dir+"/config.json", text)
		err := deliverer(dir).Deliver(t.Context(), schema.Delivery{DockerConfig: path}, "ci", "pw", "r.example.com")
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("%s: was changed", name)
		}
	}
}

func TestCommandDeliveryGetsTheSecretOnItsInput(t *testing.T) {
	dir := t.TempDir()
	got := dir + "/got"
	take := sh("take", `{ echo "$1 $OCISYNC_USERNAME $OCISYNC_REGISTRY"; cat; } > `+got)
	fails := sh("fails", `cat >&2; exit 4`)
	r := deliverer(dir, take, fails)
	if err := r.Deliver(t.Context(), schema.Delivery{Command: "take", Args: []string{"secret/ci"}}, "robot$ci", canary, "r.example.com"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(got); err != nil || string(b) != "secret/ci robot$ci r.example.com\n"+canary {
		t.Errorf("%q, %v", b, err)
	}
	err := r.Deliver(t.Context(), schema.Delivery{Command: "fails"}, "ci", canary, "r.example.com")
	if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("%v", err)
	}
	for _, d := range []schema.Delivery{{}, {Command: "none"}, {Command: "take", File: dir + "/x"}} {
		if err := r.Deliver(t.Context(), d, "ci", canary, "r.example.com"); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%+v: %v", d, err)
		}
	}
	if err := r.Deliver(t.Context(), schema.Delivery{File: dir + "/x"}, "ci", "", "r"); err == nil {
		t.Error("an empty secret was delivered")
	}
}

// TestADeliveryWaitsForOneWhoseProcessWasKilled: such a command goes on, and what it
// puts there would be older.
func TestADeliveryWaitsForOneWhoseProcessWasKilled(t *testing.T) {
	dir := t.TempDir()
	vault := filepath.Join(dir, "vault")
	put := schema.HostCommand{Name: "put", Run: []string{"/bin/sh", "-c", `: >&3 && cat > "$0"`, vault}, Timeout: 10}
	r := deliverer(dir, put)
	killed, err := r.turn(t.Context(), "put", nil)
	if err != nil {
		t.Fatal(err)
	}
	orphan := exec.CommandContext(t.Context(), "/bin/sh", "-c", `(sleep 0.3; echo old > "$0")`, vault)
	orphan.ExtraFiles = []*os.File{killed.f}
	if err := errors.Join(orphan.Start(), killed.f.Close()); err != nil { // as the kernel closes it
		t.Fatal(err)
	}
	to := schema.Delivery{Command: "put"}
	if err := r.Deliver(t.Context(), to, "robot$ci", "new", "registry.example.com"); err != nil {
		t.Error(err)
	}
	if err := orphan.Wait(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(vault); err != nil || string(b) != "new" {
		t.Errorf("in the place lies %q, %v", b, err)
	}

	// one that does not end is said, and what a delivery leaves running holds up none
	put.Timeout = 1
	r = deliverer(dir, put, schema.HostCommand{Name: "agent", Run: []string{"/bin/sh", "-c", "sleep 5 >/dev/null 2>&1 & true"}, Timeout: 1})
	stuck, err := r.turn(t.Context(), "put", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Deliver(t.Context(), to, "robot$ci", "newer", "registry.example.com")
	if err == nil || !strings.Contains(err.Error(), "still runs for an earlier secret") || strings.Contains(err.Error(), "newer") {
		t.Errorf("beside one that does not end: %v", err)
	}
	if err := stuck.end(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Deliver(t.Context(), schema.Delivery{Command: "agent"}, "robot$ci", "x", "registry.example.com"); err != nil {
			t.Errorf("a command that leaves something running: %v", err)
		}
	}
}
