package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// verbs lists the commands of the program in the order of its help.
func (p program) verbs(t *testing.T) []string {
	t.Helper()
	help, _, _ := p.run(t, "--help")
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) +[A-Z]`).FindAllStringSubmatch(help, -1) {
		if m[1] != "help" && m[1] != "ocisync" {
			out = append(out, m[1])
		}
	}
	if len(out) < 10 || !slices.Contains(out, "plan") {
		t.Fatalf("the help lists %v", out)
	}
	return out
}

// withSubcommands lists the verbs, each followed by those below it.
func (p program) withSubcommands(t *testing.T) (out []string) {
	t.Helper()
	for _, v := range p.verbs(t) {
		out = append(out, v)
		if v == "completion" { // the shells, which its own help lists
			continue
		}
		help, _, _ := p.run(t, v, "--help")
		if _, list, ok := strings.Cut(help, "\nAvailable Commands:\n"); ok {
			list, _, _ = strings.Cut(list, "\n\n")
			for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) +[A-Z]`).FindAllStringSubmatch(list, -1) {
				out = append(out, v+" "+m[1])
			}
		}
	}
	return out
}

func (p program) commandsPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Generated from the program's help by: go generate ./docs -->\n# Commands\n\n")
	help, _, _ := p.run(t, "--help")
	fmt.Fprintf(&b, "```text\n%s```\n", help)
	for _, v := range p.withSubcommands(t) {
		help, _, code := p.run(t, append(strings.Fields(v), "--help")...)
		if code != 0 || strings.TrimSpace(help) == "" {
			t.Errorf("ocisync %s --help: exit code %d\n%s", v, code, help)
		}
		help, _, _ = strings.Cut(help, "\nGlobal Flags:\n") // the same on every page
		help, _, _ = strings.Cut(help, "\nUse \"ocisync")
		if before, after, ok := strings.Cut(help, "\nExit codes:"); ok {
			_, after, _ = strings.Cut(after, "\nUsage:")
			help = before + "\nUsage:" + after
		}
		fmt.Fprintf(&b, "\n## ocisync %s\n\n```text\n%s\n```\n", v, strings.TrimSpace(help))
	}
	golden(t, "commands.md", b.String())
}

// mentions looks for every command line and flag that the pages show.
func (p program) mentions(t *testing.T) {
	verbs := p.verbs(t)
	flags := map[string]string{}
	for _, v := range p.withSubcommands(t) {
		help, _, _ := p.run(t, append(strings.Fields(v), "--help")...)
		verb, _, _ := strings.Cut(v, " ")
		flags[verb] += help
	}
	line := regexp.MustCompile("\\bocisync ((?:--?[a-z]+[ =][a-z]+ )*)([a-z]+)((?:[ =][^ `\n|;)]+)*)")
	flag := regexp.MustCompile(`(?:^| )(--?[a-z][a-z-]*)`)
	seen := 0
	for _, page := range pages(t) {
		for _, code := range codeOf(read(t, filepath.Join(root, page))) {
			for _, m := range line.FindAllStringSubmatch(code, -1) {
				verb := m[2]
				if !slices.Contains(verbs, verb) {
					t.Errorf("%s: %q: the program has no command %s", page, m[0], verb)
					continue
				}
				seen++
				for _, f := range flag.FindAllStringSubmatch(m[1]+m[3], -1) {
					if !regexp.MustCompile(`(?m)(^|[ ,])` + f[1] + `([ ,\n]|$)`).MatchString(flags[verb]) {
						t.Errorf("%s: %q: ocisync %s has no flag %s", page, m[0], verb, f[1])
					}
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d command lines were found", seen)
	}
}

// codeOf returns what a page shows as code: spans, and the lines of blocks that
// are typed.
func codeOf(text string) []string {
	var out []string
	typed := func(line string) {
		line, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "$ "), " #")
		if strings.HasPrefix(line, "ocisync ") {
			out = append(out, line)
		}
	}
	for _, m := range fences().FindAllStringSubmatch(text, -1) {
		if m[1] != "text" { // which is what the program says
			for line := range strings.Lines(m[2]) {
				typed(line)
			}
		}
	}
	rest := fences().ReplaceAllString(text, "")
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "    ") {
			typed(line)
		}
	}
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(rest, -1) {
		out = append(out, m[1])
	}
	return out
}

func (p program) exitCodes(t *testing.T) {
	help, _, _ := p.run(t, "--help")
	_, help, _ = strings.Cut(help, "Exit codes: ")
	help, _, _ = strings.Cut(help, "\n\n")
	var want []string
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.Join(strings.Fields(help), " "), "."), "; ") {
		code, _, _ := strings.Cut(part, " ")
		want = append(want, code)
	}
	var have []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(read(t, filepath.Join(root, "README.md")), -1) {
		have = append(have, m[1])
	}
	if len(want) < 6 || !slices.Equal(want, have) {
		t.Errorf("the README's table has %v, the help %v", have, want)
	}
}

func (p program) readmeMode(t *testing.T) {
	mode := block(t, "README.md", "version = 1\n")
	if n := strings.Count(mode, "\n"); n > 24 {
		t.Errorf("the mode is %d lines long; it is to be read at a glance", n)
	}
	dir := filepath.Join(t.TempDir(), "modes")
	if err := os.MkdirAll(filepath.Join(dir, "first"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "first", "first.toml")
	if err := os.WriteFile(file, []byte(mode), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := p.run(t, "validate", "--modes", dir); code != 0 {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if out, errs, code := p.run(t, "fmt", "--check", file); code != 0 {
		t.Errorf("the README's mode is not in the usual form: exit code %d\n%s%s", code, out, errs)
	}
}
