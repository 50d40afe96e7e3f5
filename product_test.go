package ocisync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// scratch holds what is built once for all tests.
var scratch string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ocisync-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	goleak.VerifyTestMain(m,
		// Distribution never ends the goroutine that broadcasts its events.
		goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"),
		goleak.Cleanup(func(code int) {
			if err := os.RemoveAll(dir); err != nil && code == 0 {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
			os.Exit(code)
		}))
}

// product builds the program as it is shipped.
var product = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "ocisync")
	out, err := exec.Command("go", "build", "-o", path, "./cmd/ocisync").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// site is a directory of its own with a mode "m", its registry's data and all
// that ocisync keeps on a machine.
type site struct {
	t    *testing.T
	bin  string
	dir  string
	data string // of the registry
	url  string
	env  []string
}

const signedState = "[state]\nstore = \"dir\"\ndir = \"../../inventory\"\nkey = { env = \"OCISYNC_STATE_KEY\" }\n"

// newSite writes the mode: the embedded registry at a URL, and text.
func newSite(t *testing.T, url, text string) *site {
	t.Helper()
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, bin: bin, dir: t.TempDir(), url: url}
	s.data = filepath.Join(s.dir, "data")
	s.env = []string{
		"HOME=" + s.dir, "XDG_STATE_HOME=" + filepath.Join(s.dir, "state"), "XDG_CONFIG_HOME=" + filepath.Join(s.dir, "config"),
		"OCISYNC_MODES=" + filepath.Join(s.dir, "modes"), "OCISYNC_MODE=m",
		"OCISYNC_PASSWORD=root's long password", "OCISYNC_DEV_PASSWORD=dev's long password",
		// a key of this test alone
		"OCISYNC_STATE_KEY=ocisync-state-key:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
	}
	s.mode(text)
	return s
}

// mode replaces the mode's text.
func (s *site) mode(text string) {
	s.t.Helper()
	s.write("modes/m/m.toml", fmt.Sprintf(`version = 1
[registry]
type = "distribution"
url  = %q
login = { user = "root", password = { env = "OCISYNC_PASSWORD" } }
[registry.run]
driver = "embedded"
data   = "../../data"
`, s.url)+text)
}

func (s *site) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Env, cmd.Dir = s.env, s.dir
	return cmd
}

// run runs the product and returns what it wrote and its exit code.
func (s *site) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var out, bad bytes.Buffer
	cmd := s.command(s.t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &out, &bad
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return out.String(), bad.String(), cmd.ProcessState.ExitCode()
}

// must runs the product and wants an exit code.
func (s *site) must(code int, args ...string) (stdout string) {
	s.t.Helper()
	out, bad, got := s.run(args...)
	if got != code {
		s.t.Fatalf("ocisync %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, bad)
	}
	return out + bad
}

// plan is the plan as data, and its digest.
func (s *site) plan() (plan.Plan, string) {
	s.t.Helper()
	out, bad, _ := s.run("plan", "--format", "json")
	var p struct {
		plan.Plan
		Approval string `json:"approval"`
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		s.t.Fatalf("%v: %s%s", err, out, bad)
	}
	return p.Plan, p.Approval
}

// behind changes the registry behind ocisync's back, while nobody serves it.
func (s *site) behind(changes ...registry.Change) {
	s.t.Helper()
	d, err := registry.OpenDirectory(s.data, "somebody else", registry.Bucket{})
	if err != nil {
		s.t.Fatal(err)
	}
	results, err := d.Change(s.t.Context(), changes)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range results {
		if r.Err != nil {
			s.t.Fatal(r.Err)
		}
	}
}

// live is what the registry's directory says.
func (s *site) live() map[string]string {
	s.t.Helper()
	d, err := registry.OpenDirectory(s.data, "test", registry.Bucket{})
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := d.State(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range l.Objects {
		b, err := json.Marshal(r.Spec)
		if err != nil {
			s.t.Fatal(err)
		}
		out[r.Key.String()] = string(b)
	}
	return out
}

func object(key string, spec schema.Spec) registry.Change {
	kind, name, _ := strings.Cut(key, "/")
	return registry.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.Kind(kind), Name: name}, Spec: spec}}
}

// files is every path below a directory with its mode, time and content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		if info.Mode().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		rel, err := filepath.Rel(dir, path)
		out[rel] = fmt.Sprintf("%v %v %q", info.Mode(), info.ModTime().UnixNano(), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
