package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestAProcessesOwnLogIsBoundedAndLosesNoLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "up.log")
	out, _, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	elsewhere, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	const lines, size = 3000, 20 << 10 // of which three files hold all
	var writing sync.WaitGroup
	done := make(chan struct{})
	writing.Go(func() {
		defer close(done)
		for i := range lines {
			if _, err := fmt.Fprintf(out, "line %05d\n", i); err != nil {
				t.Error(err)
			}
		}
	})
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		if err := renew(path, size, elsewhere, out); err != nil {
			t.Fatal(err)
		}
	}
	writing.Wait()
	var all strings.Builder
	for n := keptLogs; n >= 0; n-- {
		name := path
		if n > 0 {
			name = rotated(path, n)
		}
		b, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all.Write(b)
	}
	if got := strings.Count(all.String(), "line "); got != lines {
		t.Errorf("%d of %d lines are there", got, lines)
	}
	if _, err := os.Stat(rotated(path, 1)); err != nil {
		t.Errorf("nothing was rotated: %v", err)
	}
	for range 3 * keptLogs {
		if _, err := out.WriteString(strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
		if err := renew(path, size, out); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != keptLogs+1 {
		t.Errorf("%v: %v", files, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("the log was not begun anew: %v %v", info, err)
	}
	if _, err := out.WriteString(strings.Repeat("x", size)); err != nil {
		t.Fatal(err)
	}
	if err := renew(path, size, elsewhere); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != size {
		t.Errorf("a log that others write was moved: %v %v", info, err)
	}
}
