package regular

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// soon fails where a call blocks: none of these may.
func soon[T any](t *testing.T, call func() (T, error)) (T, error) {
	t.Helper()
	type answer struct {
		v   T
		err error
	}
	c := make(chan answer, 1)
	go func() {
		v, err := call()
		c <- answer{v, err}
	}()
	select {
	case a := <-c:
		return a.v, a.err
	case <-time.After(10 * time.Second):
		t.Fatal("it blocks")
		panic("unreachable")
	}
}

func TestWhatIsNoRegularFileIsAnErrorAtOnce(t *testing.T) {
	dir := t.TempDir()
	pipe, socket := filepath.Join(dir, "pipe"), filepath.Join(dir, "socket")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("pipe", link); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, path := range []string{pipe, link, socket, os.DevNull, "/dev/zero"} {
		if _, err := soon(t, func() ([]byte, error) { return Read(path, 10) }); !errors.Is(err, ErrOther) || strings.Count(err.Error(), path) != 1 {
			t.Errorf("Read(%s): %v; want ErrOther, and the path once", path, err)
		}
		if filepath.Dir(path) != dir {
			continue
		}
		if _, err := soon(t, func() ([]byte, error) { return ReadIn(root, filepath.Base(path), 10) }); !errors.Is(err, ErrOther) {
			t.Errorf("ReadIn(%s): %v; want ErrOther", path, err)
		}
	}
	if _, err := Read(dir, 10); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a directory: %v; want EISDIR", err)
	}
	if _, err := Read(filepath.Join(dir, "none"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v; want ErrNotExist", err)
	}
}

func TestAFileIsReadUpToItsLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	want := bytes.Repeat([]byte("x"), 1<<10)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path, 1<<10); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v; want all of it", len(got), err)
	}
	if _, err := Read(path, 1<<10-1); !errors.Is(err, ErrLarge) || !strings.Contains(err.Error(), "larger than 1023 bytes") {
		t.Errorf("%v; want ErrLarge", err)
	}
}
