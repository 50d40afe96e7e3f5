package ocisync_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/state"
)

// What somebody did to the journal is noticed and written down, and stops no
// deploy.
func TestAJournalThatWasTamperedWithIsNoticed(t *testing.T) {
	t.Parallel()
	edit := func(line int, from, to string) func(lines [][]byte) []byte {
		return func(lines [][]byte) []byte {
			lines[line-1] = bytes.Replace(lines[line-1], []byte(from), []byte(to), 1)
			return bytes.Join(lines, nil)
		}
	}
	for name, tt := range map[string]struct {
		tamper func(lines [][]byte) []byte // nil: takes the file away
		says   string
	}{
		"an edited line":      {edit(2, "user/root", "user/toor"), "line 2 was changed after it was written"},
		"the last one edited": {func(l [][]byte) []byte { return edit(len(l)-1, "done", "dome")(l) }, "was changed after it was written"},
		"a line taken out":    {func(l [][]byte) []byte { return bytes.Join(append(l[:2:2], l[3:]...), nil) }, "line 3 does not follow the line before"},
		"the end cut off":     {func(l [][]byte) []byte { return bytes.Join(l[:3], nil) }, "line 4 is missing"},
		"emptied":             {func([][]byte) []byte { return nil }, "line 1 is missing"},
		"taken away":          {nil, "it is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "http://"+porttest.Address(t), signedState+names+team)
			s.must(0, "apply")
			if _, bad, _ := s.run("apply"); bad != "" {
				t.Fatalf("a sound journal: %s", bad)
			}
			path := s.journal()
			b, err := os.ReadFile(path)
			if err == nil && tt.tamper != nil {
				err = os.WriteFile(path, tt.tamper(bytes.SplitAfter(b, []byte("\n"))), 0o600)
			} else if err == nil {
				err = os.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
			told := func(changes string) {
				t.Helper()
				_, bad, code := s.run("apply")
				if code != 0 || !strings.Contains(bad, fmt.Sprintf("warning: journal %s: ", path)) || !strings.Contains(bad, tt.says) {
					t.Errorf("an apply of %s: exit code %d: %s", changes, code, bad)
				}
			}
			told("nothing")
			s.mode(signedState + names + strings.Replace(team, "first", "second", 1))
			told("something")
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			noted := 0
			for _, line := range strings.Split(string(now), "\n") {
				if strings.Contains(line, `"event":"note"`) && strings.Contains(line, tt.says) {
					noted++
				}
			}
			if noted != 1 {
				t.Errorf("it is noted %d times in\n%s", noted, now)
			}
			// A journal moved away as the warning asks is missed once.
			if err := os.Rename(path, path+".evidence"); err != nil {
				t.Fatal(err)
			}
			s.mode(signedState + names + team)
			if _, bad, code := s.run("apply"); code != 0 || !strings.Contains(bad, "it is gone") {
				t.Errorf("moved away: exit code %d: %s", code, bad)
			}
			if _, bad, code := s.run("apply"); code != 0 || bad != "" {
				t.Errorf("begun anew: exit code %d: %s", code, bad)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := state.Verify(f, state.Mark{}); err != nil {
				t.Error(err)
			}
		})
	}
}
