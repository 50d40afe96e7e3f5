// Package docs_test holds the pages of this directory, the README and the
// examples to what the program does. What it needs of the program it gets by
// building and running it, as a reader would.
package docs_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -run TestDocsSayWhatTheProgramDoes -update

var update = flag.Bool("update", false, "write commands.md and the plans of testdata/live")

// root is the repository's, from this directory.
const root = ".."

// TestDocsSayWhatTheProgramDoes has the tests that need the built program.
func TestDocsSayWhatTheProgramDoes(t *testing.T) {
	p := build(t)
	t.Run("CommandsPageIsTheHelp", p.commandsPage)
	t.Run("CommandsAndFlagsInTextExist", p.mentions)
	t.Run("ExitCodesOfTheReadmeAreThoseOfTheHelp", p.exitCodes)
	t.Run("ModeOfTheReadmeIsValid", p.readmeMode)
	t.Run("PlansOfTheExamples", p.examplePlans)
	t.Run("ContentIsRefusedByNone", p.content)
}

// program is the built ocisync.
type program string

// build builds ocisync. It looks at every source file, so that the test cache
// notices a change that only the child process reads.
func build(t *testing.T) program {
	t.Helper()
	for _, dir := range []string{"cmd", "pkg", "schema"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			_, err = os.Stat(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(t.TempDir(), "ocisync")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/ocisync")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program(bin)
}

// run runs ocisync in the root of the repository, with nothing of the caller's
// environment that it looks at.
func (p program) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), string(p), args...)
	home := t.TempDir()
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &out, &errs
	cmd.Env = []string{"HOME=" + home, "XDG_STATE_HOME=" + home, "XDG_CONFIG_HOME=" + home}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// golden compares with a committed file, which -update writes.
func golden(t *testing.T, file, have string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, file), have); diff != "" {
		t.Errorf("%s is not what the program says (-committed +program); run go generate ./docs and look at it\n%s", file, diff)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pages lists the Markdown files of the repository, from its root.
func pages(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(base, ".") && base != ".github" || base == "bin") {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			out = append(out, filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator))))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{"README.md", "docs/format.md"} {
		if !slices.Contains(out, must) {
			t.Fatalf("%s was not found, so nothing is tested; found %v", must, out)
		}
	}
	return out
}

// fences matches a fenced block with its language.
func fences() *regexp.Regexp { return regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$") }

// block returns the fenced block of a page that begins with a text.
func block(t *testing.T, page, begin string) string {
	t.Helper()
	for _, m := range fences().FindAllStringSubmatch(read(t, filepath.Join(root, page)), -1) {
		if strings.HasPrefix(m[2], begin) {
			return m[2]
		}
	}
	t.Fatalf("%s has no fenced block that begins with %q", page, begin)
	return ""
}
