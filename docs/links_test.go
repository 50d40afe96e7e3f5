package docs_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/schema/load"
)

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	anchors := map[string]map[string]bool{}
	of := func(page string) map[string]bool {
		if anchors[page] == nil {
			anchors[page] = headings(read(t, filepath.Join(root, page)))
		}
		return anchors[page]
	}
	found := 0
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(fences().ReplaceAllString(read(t, filepath.Join(root, page)), ""), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			found++
			to := page
			if target != "" {
				to = path.Join(path.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if fragment != "" && !of(to)[fragment] {
				t.Errorf("%s links to %s, and %s has no such heading", page, m[1], to)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d links were found", found)
	}
}

// headings lists the anchors that GitHub gives the headings of a page.
func headings(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fences().ReplaceAllString(text, ""), -1) {
		a := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out[strings.ReplaceAll(a, " ", "-")] = true
	}
	return out
}

// Files that the text names in code, as a path with a slash, are there.
func TestFilesNamedInTheTextAreThere(t *testing.T) {
	name := regexp.MustCompile("`((?:cmd|docs|examples|pkg|schema|testdata|tools)/[A-Za-z0-9_./-]+)`")
	found := 0
	for _, page := range pages(t) {
		if page != "README.md" && path.Dir(page) != "docs" {
			continue // decisions speak of what is to come, too
		}
		for _, m := range name.FindAllStringSubmatch(read(t, filepath.Join(root, page)), -1) {
			found++
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s: %v", page, m[1], err)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d names were found", found)
	}
}

// Editors find the schema of a mode by its first line.
func TestModesNameTheirSchema(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "examples/*/*/*.toml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		first, _, _ := strings.Cut(read(t, file), "\n")
		target, ok := strings.CutPrefix(first, "#:schema ")
		if !ok {
			t.Errorf("%s: the first line is %q", file, first)
			continue
		}
		if to := filepath.Join(filepath.Dir(file), target); to != filepath.Join(root, "schema/ocisync.schema.json") {
			t.Errorf("%s points to %s", file, to)
		}
	}
}

func TestHostFileOfTheSecretsPageLoads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ocisync.toml")
	text := block(t, "docs/secrets.md", "# /etc/ocisync/ocisync.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	host, err := load.Host(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(host.Command) == 0 || len(host.Secrets.Dirs) == 0 || len(host.Secrets.Deliver) == 0 || len(host.Secrets.Env) == 0 ||
		host.Secrets.Age == "" || host.Lock == "" || host.State == "" || host.Modes == "" || host.Command[0].Timeout == 0 {
		t.Errorf("the example is not complete: %+v", host)
	}
}
