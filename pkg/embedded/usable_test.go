package embedded

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// A registry run by a user of its own is planned by root; what somebody put
// into root's or the user's directory decides nothing.
func TestFilesOfAnotherUserDecideNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const registry, other = 65533, 65534
	for name, tt := range map[string]struct {
		data, dir, file int // their owners
		want            string
	}{
		"all root's":           {0, 0, 0, ""},
		"all the registry's":   {registry, registry, registry, ""},
		"a directory put in":   {0, other, other, "ocisync belongs to "},
		"a file put in":        {0, 0, other, "state.json belongs to "},
		"in the registry's":    {registry, other, registry, "ocisync belongs to "},
		"a file in that":       {registry, registry, other, "state.json belongs to "},
		"root's file in that":  {registry, registry, 0, ""},
		"another's in root's":  {registry, 0, other, "state.json belongs to "},
		"the registry's again": {registry, 0, registry, ""},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			file := filepath.Join(data, ownDir, stateFile)
			if err := errors.Join(os.Mkdir(filepath.Join(data, ownDir), 0o700), os.WriteFile(file, []byte(`{"format":1,"objects":[],"passwords":{}}`), 0o600),
				os.Chown(file, tt.file, -1), os.Chown(filepath.Join(data, ownDir), tt.dir, -1), os.Chown(data, tt.data, -1)); err != nil {
				t.Fatal(err)
			}
			d, err := OpenDirectory(data, "test", Bucket{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.IsNew()
			_, readErr := d.State(t.Context(), nil)
			l, lockErr := takeLock(data, "test", false, false)
			if lockErr == nil {
				lockErr = l.release()
			}
			for how, err := range map[string]error{"looking": err, "reading": readErr, "locking": lockErr} {
				if bad := errors.Is(err, ErrUnsafe); bad != (tt.want != "") || bad && !strings.Contains(err.Error(), tt.want) || !bad && err != nil {
					t.Errorf("%s: %v; want %q", how, err, tt.want)
				}
			}
		})
	}
}

// What root writes for a registry that runs as a user of its own, that user can
// read and replace; what he linked there is not his to be given.
func TestRootWritesForTheOwnerOfTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const registry = 65533
	data, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "root's")
	log := filepath.Join(data, ownDir, "audit.log")
	if err := errors.Join(os.Chown(data, registry, registry), os.WriteFile(elsewhere, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDirectory(data, "test", Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []schema.Resource{
		{Key: schema.Key{Kind: schema.KindAudit}, Spec: &schema.Audit{Log: new(log)}},
		{Key: schema.Key{Kind: schema.KindUser, Name: "ann"}, Spec: &schema.User{}},
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}},
	} {
		if _, err := d.Change(t.Context(), []Change{{Object: o}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openQueue(data, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if err := (&times{data: data}).write([]byte("\n"), false); err != nil {
		t.Fatal(err)
	}
	s, err := d.content(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const repo, upload = "/docker/registry/v2/repositories/team/app", "/docker/registry/v2/repositories/team/app/_uploads/x"
	w, err := s.Driver().Writer(t.Context(), upload+"/data", false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte("{}"))
	if err := errors.Join(err, w.Commit(t.Context()), w.Close(), s.Driver().PutContent(t.Context(), upload+"/startedat", nil),
		s.Driver().Move(t.Context(), upload+"/data", "/docker/registry/v2/blobs/sha256/44/44/data"),
		s.Driver().PutContent(t.Context(), repo+"/_deleted/sha256/44/mark", nil)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	if err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && regular.Owner(info) != registry {
			t.Errorf("%s is root's", path)
		}
		seen[e.Name()] = true
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{ownDir, stateFile, lockFile, "audit.log", queueDir, timesFile, "startedat", "data", "mark"} {
		if !seen[want] {
			t.Errorf("%s was not made", want)
		}
	}
	if err := errors.Join(os.Remove(log), os.Link(elsewhere, log), touch(log)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(elsewhere); err != nil || regular.Owner(info) != 0 {
		t.Errorf("a file that was linked there was given away: %v", err)
	}
}

// Content that a link puts elsewhere is not in the data directory.
func TestContentLiesInTheDataDirectory(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(content string) error
		want string
	}{
		"in it":                 {func(c string) error { return os.Mkdir(c, 0o755) }, ""},
		"behind a link":         {func(c string) error { return os.Symlink(t.TempDir(), c) }, "docker is a link"},
		"writable by the group": {func(c string) error { return errors.Join(os.Mkdir(c, 0o755), os.Chmod(c, 0o775)) }, "run chmod go-w"},
		"writable by everybody": {func(c string) error { return errors.Join(os.Mkdir(c, 0o755), os.Chmod(c, 0o757)) }, "run chmod go-w"},
	} {
		data := t.TempDir()
		if err := tt.make(filepath.Join(data, "docker")); err != nil {
			t.Fatal(err)
		}
		l, err := takeLock(data, "test", false, false)
		if err == nil {
			err = l.release()
		}
		if bad := errors.Is(err, ErrUnsafe); bad != (tt.want != "") || bad && !strings.Contains(err.Error(), tt.want) || !bad && err != nil {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
	}
}
