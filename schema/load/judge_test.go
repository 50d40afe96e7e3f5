package load_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/schema/load"
)

// More objects that differ than one CUE context is asked about: the last of
// them are judged as the first.
func TestEveryObjectOfALargeModeIsJudged(t *testing.T) {
	var b strings.Builder
	b.WriteString("version = 1\n[registry]\ntype = \"harbor\"\nurl = \"https://registry.example.com\"\n")
	for i := range 1000 {
		newest := i + 1
		if i%111 == 0 {
			newest = -i // 0 or less: CUE alone rejects it
		}
		fmt.Fprintf(&b, "[namespace.team-%03d]\nretention.keep = [{ newest = %d }]\n", i, newest)
	}
	_, err := load.Mode(writeMode(t, "m", map[string][]byte{"m.toml": []byte(b.String())}), "m")
	var problems load.Errors
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	if len(problems) != 10 {
		t.Fatalf("%d problems: %v", len(problems), err)
	}
	for i, p := range problems {
		if want := 6 + 2*111*i; p.Line != want || !strings.HasPrefix(p.Key, fmt.Sprintf("namespace.team-%03d.retention", 111*i)) {
			t.Errorf("problem %d is of %s in line %d, want line %d", i, p.Key, p.Line, want)
		}
	}
}
