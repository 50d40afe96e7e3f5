package regular

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestAFileThatIsReplacedIsReadAgain: who saves it puts another in its place.
func TestAFileThatIsReplacedIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "own.json")
	save := func() error {
		return errors.Join(os.WriteFile(name+".next", []byte("whole"), 0o600), os.Rename(name+".next", name))
	}
	if err := save(); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	done := make(chan error)
	go func() {
		var err error
		for i := 0; i < 500 && err == nil; i++ {
			err = save()
		}
		done <- err
	}()
	for reading := true; reading; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			reading = false
		default:
		}
		if b, err := ReadOwn(root, "own.json", 100); err != nil || string(b) != "whole" {
			t.Fatalf("read %q, %v", b, err)
		}
	}
	if err := os.Link(name, name+".too"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadOwn(root, "own.json", 100); !errors.Is(err, ErrLink) {
		t.Errorf("of what has another name too: %v", err)
	}
	if err := errors.Join(os.Remove(name), os.Symlink(name+".too", name)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadOwn(root, "own.json", 100); !errors.Is(err, ErrLink) {
		t.Errorf("of a link: %v", err)
	}
}
