package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// compare holds the output against the recorded one, apart from what differs between
// two runs.
func (d *demo) compare(update bool) error {
	said := normal(d.said.String())
	if d.mode == "prod" {
		said = inOrder(said)
	}
	if update {
		return os.WriteFile(d.recorded, []byte(said), 0o644) //nolint:gosec // a file of the repository
	}
	b, err := os.ReadFile(d.recorded)
	if err != nil {
		return err
	}
	want, have := strings.Split(string(b), "\n"), strings.Split(said, "\n")
	for i := range max(len(want), len(have)) {
		w, h := line(want, i), line(have, i)
		if w != h {
			return fmt.Errorf("%s:%d says %q, and the demo said %q; if that is meant, run it with -update and look at the README", d.recorded, i+1, w, h)
		}
	}
	return nil
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// normal replaces what differs between two runs.
func normal(s string) string {
	for _, r := range []struct{ pattern, by string }{
		{`127\.0\.0\.1:\d+`, "127.0.0.1:5000"},
		{`sha256:[0-9a-f]{64}`, "sha256:…"},
		{`/[^ ]*/ocisync-demo-\d+`, "/tmp/ocisync-demo"},
		{`(?m)^  \d{4}/\d\d/\d\d \d\d:\d\d:\d\d `, "  "},
		{`took [0-9.]+ s`, "took … s"},
		{`"until":"[0-9-]+"`, `"until":"…"`},
	} {
		s = regexp.MustCompile(r.pattern).ReplaceAllString(s, r.by)
	}
	return s
}

// inOrder sorts what was done beside each other.
func inOrder(s string) string {
	return regexp.MustCompile(`(?m)(^  (done|failed|pending) .*\n)+`).ReplaceAllStringFunc(s, func(lines string) string {
		return strings.Join(slices.Sorted(strings.Lines(lines)), "")
	})
}
