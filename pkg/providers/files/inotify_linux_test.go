package files

import (
	"encoding/binary"
	"strings"
	"syscall"
	"testing"
)

// A registry loads its file at each write it sees, and reads half a file where
// there are two.
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
		if err := Write(name, []byte("an old file\n"), []byte(next)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := syscall.Read(fd, b)
		if err != nil {
			t.Fatalf("nothing was seen: %v", err)
		}
		// One event about a watched file is 16 bytes, its mask from the fifth on.
		if mask := binary.NativeEndian.Uint32(b[4:]); n != 16 || mask != syscall.IN_MODIFY {
			t.Errorf("%d bytes of events, the first %#x; want one write", n, mask)
		}
	}
}
