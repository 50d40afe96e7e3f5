package watch_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/ocisync/ocisync/pkg/watch"
)

func TestRevisionNamesTheCommitAndWhatDiffersFromIt(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "modes", "dev", "ocisync.toml")
	write := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("version = 1\n")
	want := func(rev string) {
		t.Helper()
		got, err := watch.Revision(filepath.Dir(file), []string{file})
		if err != nil || got != rev {
			t.Fatalf("got %q, %v; want %q", got, err, rev)
		}
	}
	want("") // no checkout
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	want("") // no commit
	work, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := work.Add("modes/dev/ocisync.toml"); err != nil {
		t.Fatal(err)
	}
	who := &object.Signature{Name: "a", Email: "a@example.com", When: time.Unix(0, 0)}
	commit, err := work.Commit("one", &git.CommitOptions{Author: who})
	if err != nil {
		t.Fatal(err)
	}
	want(commit.String())
	write("version = 1\n\n")
	want(commit.String() + watch.Dirty)
	write("version = 1\n")
	want(commit.String())
	other := filepath.Join(filepath.Dir(file), "new.toml")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Revision(dir, []string{file, other}); err != nil || got != commit.String()+watch.Dirty {
		t.Fatalf("with a file that is not committed: %q, %v", got, err)
	}
}
