package embedded

import (
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAHolderThatDoesNotAnswerIsNamed(t *testing.T) {
	data := t.TempDir()
	own := filepath.Join(data, ownDir)
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(own, socketFile)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path) // its backlog takes who dials
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := json.Marshal(Holder{PID: 4711, Host: "h", Command: "ocisync up", Socket: path})
	if err == nil {
		err = os.WriteFile(filepath.Join(own, lockFile), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), data, 50*time.Millisecond)
	if c != nil || !errors.Is(err, ErrSilent) {
		t.Fatalf("error %v, want ErrSilent", err)
	}
	if !strings.Contains(err.Error(), "process 4711 (ocisync up)") {
		t.Errorf("%q does not name the holder", err)
	}
}

func TestAServerThatSaysNothingIsToldApartFromNone(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // its backlog takes who dials
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := greet(t.Context(), &url.URL{Scheme: "http", Host: l.Addr().String()}, nil, 50*time.Millisecond); !errors.Is(err, ErrMute) {
		t.Errorf("error %v, want ErrMute", err)
	}
}
