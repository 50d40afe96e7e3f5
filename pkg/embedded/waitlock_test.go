package embedded

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWhoIsToServeWaitsForAJobAndForNobodyElse(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	d, err := OpenDirectory(data, "ocisync apply", Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	release, err := d.lockAs(t.Context(), "ocisync run gc")
	if err != nil {
		t.Fatal(err)
	}
	if h, err := readHolder(data); err != nil || h.Command != "ocisync run gc" {
		t.Errorf("held by %v, %v", h, err)
	}
	released := make(chan error, 1)
	go func() {
		time.Sleep(300 * time.Millisecond)
		released <- release()
	}()
	l, err := waitLock(t.Context(), data, "ocisync up", false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
	if _, err := waitLock(t.Context(), data, "ocisync up", false, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrHeld) {
		t.Errorf("beside one that serves: %v", err)
	}
	if err := l.release(); err != nil {
		t.Error(err)
	}
}

func TestAManifestThatWasCutIsMendedByItsPush(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	r, _ := hooked(t, data)
	push(t, r, "v1")
	blobs, err := filepath.Glob(filepath.Join(data, "docker/registry/v2/blobs/sha256/*/*/data"))
	if err != nil || len(blobs) != 1 {
		t.Fatal(blobs, err)
	}
	if err := os.Truncate(blobs[0], 20); err != nil {
		t.Fatal(err)
	}
	push(t, r, "v1")
	if b, err := os.ReadFile(blobs[0]); err != nil || string(b) != emptyIndex {
		t.Errorf("%q, %v", b, err)
	}
}
