package providers

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// The kernel counts the start of a process in hundredths of a second: of a file that is
// written a moment before, it may seem to be the earlier one.
func TestAFileThatIsWrittenAndThenStartedWithIsNotMissed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	written, ok := timesOf(name)
	if !ok {
		t.Fatal("nothing tells when it was written")
	}
	for before, misses := range map[time.Duration]bool{5 * time.Millisecond: false, 10 * time.Millisecond: false, 50 * time.Millisecond: true} {
		p := process{pid: strconv.Itoa(os.Getpid()), began: written.changed.Add(-before)} // which watches nothing
		if is := p.misses(name, OrItsDirectory); is != misses {
			t.Errorf("one that seems to have begun %v before misses it: %v", before, is)
		}
	}
}
