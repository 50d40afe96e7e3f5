package embedded

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestACertificateIsTakenOnceItMayBeRead: by who may read a file, it looks no other.
func TestACertificateIsTakenOnceItMayBeRead(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, 1)
	var log bytes.Buffer
	c, err := loadCertificate(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	c.now = func() time.Time { return clock }
	serial := func() int64 {
		t.Helper()
		clock = clock.Add(2 * recheck)
		return c.get().Leaf.SerialNumber.Int64()
	}
	writePair(t, cert, key, 2)
	unreadable(t, key, func() {
		if got := serial(); got != 1 || !strings.Contains(log.String(), "permission denied") {
			t.Errorf("served is %d, and it says %s", got, log.String())
		}
	})
	if got := serial(); got != 2 {
		t.Errorf("served is %d, the former", got)
	}
}

// unreadable does something while this thread may not read a file of this account.
func unreadable(t *testing.T, name string, do func()) {
	t.Helper()
	if err := os.Chmod(name, 0); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // who may read what it likes; other threads go on as they are
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setfsuid(0); err != nil {
				t.Fatal(err)
			}
		}()
	}
	do()
	if err := os.Chmod(name, 0o600); err != nil && os.Getuid() != 0 {
		t.Fatal(err)
	}
}
