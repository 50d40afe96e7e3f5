package distribution

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// Whoever owns a data directory, such as a registry that was broken into, has
// root read and write what is there, and nothing that it leads to.
func TestNothingIsReadOrWrittenThroughWhatLiesInADataDirectory(t *testing.T) {
	const secret = "version: 0.1\nstorage: {s3: {secretkey: TOPSECRET}}\n"
	for name, put := range map[string]func(victim, at string) error{
		"a link":       os.Symlink,
		"another name": os.Link,
		"a pipe":       func(_, at string) error { return syscall.Mkfifo(at, 0o600) },
		"a directory that is a link": func(victim, at string) error {
			dir := filepath.Dir(at)
			if filepath.Base(dir) != ownDir {
				return os.Symlink(victim, at)
			}
			return errors.Join(os.Remove(dir), os.Symlink(filepath.Dir(victim), dir))
		},
	} {
		for _, file := range []string{"config.yml", "ocisync/config.former.yml"} {
			t.Run(name+" "+file, func(t *testing.T) {
				data, elsewhere := t.TempDir(), t.TempDir()
				victim, at := filepath.Join(elsewhere, filepath.Base(file)), filepath.Join(data, filepath.FromSlash(file))
				if err := errors.Join(os.WriteFile(victim, []byte(secret), 0o600), os.Mkdir(filepath.Join(data, ownDir), 0o700), put(victim, at)); err != nil {
					t.Fatal(err)
				}
				if b, err := readConfig(at); err == nil || len(b) > 0 {
					t.Errorf("it reads %q, %v", b, err)
				}
				err := replaceConfig(at, []byte("a: 1\n"))
				if name != "another name" && err == nil {
					t.Error("it is replaced")
				}
				if b, err := os.ReadFile(victim); err != nil || string(b) != secret {
					t.Errorf("what lies elsewhere is now %q, %v", b, err)
				}
				if b, err := os.ReadFile(filepath.Join(elsewhere, "config.former.yml")); err == nil && bytes.Contains(b, []byte("a: 1")) {
					t.Error("it is written elsewhere")
				}
			})
		}
	}
}

func TestARegistryDoesNotStartWithALinkedConfiguration(t *testing.T) {
	data, victim := t.TempDir(), filepath.Join(t.TempDir(), "other.yml")
	at := filepath.Join(data, "config.yml")
	if err := errors.Join(os.WriteFile(victim, []byte("version: 0.1\nstorage: {s3: {secretkey: TOPSECRET}}\n"), 0o600), os.Symlink(victim, at)); err != nil {
		t.Fatal(err)
	}
	p, err := New(schema.Registry{Type: schema.TypeDistribution, URL: "http://localhost:23801", Run: &schema.Run{Data: data}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.BeforeStart(t.Context(), `{"http.addr":"127.0.0.1:23801"}`); !errors.Is(err, regular.ErrLink) {
		t.Errorf("it would start: %v", err)
	}
	if info, err := os.Lstat(at); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
}

// TestAMovedDirectoryIsServedWithItsOwnFiles: the configuration in it names those of
// where it was made, and a copy's clients go to its own token service.
func TestAMovedDirectoryIsServedWithItsOwnFiles(t *testing.T) {
	run := func(data, url string) string {
		t.Helper()
		p, err := New(schema.Registry{Type: schema.TypeDistribution, URL: url, Run: &schema.Run{Driver: schema.DriverProcess, Data: data}}, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Launch(t.Context())
		if err == nil {
			err = p.BeforeStart(t.Context(), l.Face)
		}
		b, bad := os.ReadFile(filepath.Join(data, "config.yml"))
		if err := errors.Join(err, bad); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const url = "http://localhost:23801"
	former, now := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "data")
	text := run(former, url)
	if strings.Count(text, former) < 2 {
		t.Fatal(text)
	}
	if err := os.Rename(former, now); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.ReplaceAll(text, former, now), run(now, url)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	another := filepath.Join(t.TempDir(), "data")
	// as cp -a does
	if err := errors.Join(os.CopyFS(another, os.DirFS(now)), os.Chmod(filepath.Join(another, "ocisync", "keys.json"), 0o600)); err != nil {
		t.Fatal(err)
	}
	fresh := run(filepath.Join(t.TempDir(), "data"), "http://localhost:23901")
	copied := run(another, "http://localhost:23901")
	for _, key := range []string{"realm: ", "service: ", "addr: "} {
		want := regexp.MustCompile(key + ".*").FindString(fresh)
		if got := regexp.MustCompile(key + ".*").FindString(copied); got != want || got == regexp.MustCompile(key+".*").FindString(text) {
			t.Errorf("of a copy: %s, want %s", got, want)
		}
	}
}

// TestWhatNobodyKeepsForARegistryIsRefused: of one that somebody else runs, and that
// gets its tokens from nobody ocisync knows, accounts and rules are never as declared.
func TestWhatNobodyKeepsForARegistryIsRefused(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(name, []byte("version: 0.1\nstorage: {inmemory: {}}\nhttp: {addr: 127.0.0.1:23801}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := New(schema.Registry{Type: schema.TypeDistribution, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: name}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	none := schema.Rights(0)
	desired := schema.State{Scope: schema.ScopeOf(schema.KindNamespace, schema.KindAccess), Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{Anonymous: &none, Authenticated: &none}},
	}}
	live, err := p.Read(t.Context(), desired.Scope)
	if err != nil {
		t.Fatal(err)
	}
	changes := plan.Diff(plan.Input{Desired: desired, Live: live, Table: p.Capabilities()}).Changes
	if len(changes) != 2 {
		t.Fatalf("the plan has %+v", changes)
	}
	verdicts, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range verdicts {
		if !strings.Contains(v.Refused, "registry.token") {
			t.Errorf("%s: %+v", changes[i].Key, v)
		}
	}
}

func TestATagIsReadFromContentAlone(t *testing.T) {
	root, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "link")
	sum := digest.FromString("x")
	tag := filepath.Join(root, "docker/registry/v2/repositories/a/_manifests/tags")
	if err := errors.Join(os.WriteFile(elsewhere, []byte(sum), 0o600),
		os.MkdirAll(filepath.Join(tag, "own/current"), 0o700), os.WriteFile(filepath.Join(tag, "own/current/link"), []byte(sum), 0o600),
		os.MkdirAll(filepath.Join(tag, "out/current"), 0o700), os.Symlink(elsewhere, filepath.Join(tag, "out/current/link")),
		os.MkdirAll(filepath.Join(tag, "pipe/current"), 0o700), syscall.Mkfifo(filepath.Join(tag, "pipe/current/link"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]digest.Digest{"own": sum, "out": "", "pipe": ""} {
		if got := linked(root, "a", name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
