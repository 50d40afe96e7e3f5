package files

import (
	"encoding/binary"
	"errors"
	"strings"
	"syscall"
	"testing"
)

// A registry loads its file at each write it sees, and reads half a file where
// there are two. It looks at once; what waits for it the system sums up.
func TestAWatcherSeesOneWrite(t *testing.T) {
	for _, next := range []string{"short", strings.Repeat("longer than before\n", 5000)} {
		name := newFile(t, "an old file\n")
		fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		if _, err := syscall.InotifyAddWatch(fd, name, syscall.IN_MODIFY|syscall.IN_DELETE_SELF|syscall.IN_MOVE_SELF); err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		look := func(before string) error {
			b := make([]byte, 4096)
			n, err := syscall.Read(fd, b)
			if errors.Is(err, syscall.EAGAIN) {
				return nil
			}
			// An event about a watched file is 16 bytes, its mask from the fifth on.
			for at := 0; at < n; at += 16 {
				if mask := binary.NativeEndian.Uint32(b[at+4:]); mask != syscall.IN_MODIFY {
					t.Errorf("before %q: event %#x", before, mask)
				}
				seen[before]++
			}
			return err
		}
		if err := (disk{step: look}).overwrite(name, []byte("an old file\n"), []byte(next)); err != nil {
			t.Fatal(err)
		}
		if err := look("the end"); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 1 || seen["sync config.json"] != 1 {
			t.Errorf("seen %v; want one write", seen)
		}
	}
}
