package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The README shows what the demo says, in order. A line of "..." stands for
// lines left out and nothing else may be; "…" stands for part of a line.
func TestReadmeShowsWhatTheDemoSays(t *testing.T) {
	shown := strings.Split(strings.TrimSuffix(block(t, "README.md", "$ go run ./testdata/demo\n"), "\n"), "\n")[1:]
	said := strings.Split(strings.TrimSuffix(read(t, filepath.Join(root, "testdata/demo/output.txt")), "\n"), "\n")
	if len(shown) < 20 {
		t.Fatalf("only %d lines are shown", len(shown))
	}
	if why := shortens(shown, said); why != "" {
		t.Error(why)
	}
}

// The README shows the tests of packages that have some.
func TestReadmeShowsTheTestsThereAre(t *testing.T) {
	shown := block(t, "README.md", "$ go test ./...\n")
	lines := regexp.MustCompile(`(?m)^ok  \tgithub.com/ocisync/ocisync/?(\S*)\t[0-9.]+s$`).FindAllStringSubmatch(shown, -1)
	if len(lines) < 5 {
		t.Fatalf("only %d packages are shown:\n%s", len(lines), shown)
	}
	for _, m := range lines {
		tests, err := filepath.Glob(filepath.Join(root, m[1], "*_test.go"))
		if err != nil || len(tests) == 0 {
			t.Errorf("%s has no tests (%v)", m[1], err)
		}
	}
	for line := range strings.Lines(shown) {
		if !strings.HasPrefix(line, "ok  \t") && line != "...\n" && line != "$ go test ./...\n" {
			t.Errorf("%q is no line that go test ./... prints when all is well", line)
		}
	}
}

func TestShorteningIsHonest(t *testing.T) {
	said := []string{"a", "b 17", "c", "d"}
	for _, tc := range []struct {
		shown  []string
		honest bool
	}{
		{[]string{"a", "b 17", "c", "d"}, true},
		{[]string{"a", "...", "d"}, true},
		{[]string{"...", "b …", "..."}, true},
		{[]string{"a", "c", "..."}, false},
		{[]string{"a", "b 17"}, false},
		{[]string{"...", "c", "...", "a", "..."}, false},
		{[]string{"...", "e", "..."}, false},
		{[]string{"b 17", "c", "d"}, false},
	} {
		if why := shortens(tc.shown, said); (why == "") != tc.honest {
			t.Errorf("%q: %q", tc.shown, why)
		}
	}
}

// shortens says where shown is not said with lines left out at "...", or "".
func shortens(shown, said []string) string {
	at, gap := 0, false
	for _, line := range shown {
		if strings.TrimSpace(line) == "..." {
			gap = true
			continue
		}
		want := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + "$")
		start := at
		for gap && at < len(said) && !want.MatchString(said[at]) {
			at++
		}
		if at == len(said) || !want.MatchString(said[at]) {
			next := "the end"
			if start < len(said) {
				next = said[start]
			}
			return "shown is \"" + line + "\", and the program goes on with \"" + next + "\""
		}
		at, gap = at+1, false
	}
	if at < len(said) && !gap {
		return "what follows is left out without a sign: \"" + said[at] + "\""
	}
	return ""
}

func TestChangelogHasWhatIsNotReleased(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "CHANGELOG.md")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(read(t, filepath.Join(root, "CHANGELOG.md")), "\n## [Unreleased]\n") {
		t.Error("CHANGELOG.md has no section Unreleased")
	}
}
