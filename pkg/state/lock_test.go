package state

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
)

// holdEnv makes the test binary hold a lock until it is killed.
const holdEnv = "STATE_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		if _, err := Acquire(context.Background(), dir, someRegistry(), Holder{PID: os.Getpid(), Host: "h1", User: "ann", Command: "apply", Mode: "prod"}, 0); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		_, _ = os.Stdout.WriteString("held\n")
		time.Sleep(time.Minute)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func someRegistry() plan.Registry { return plan.Registry{Type: "zot", URL: "http://localhost:5000"} }

func TestSecondWriterIsToldWhoHoldsTheLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	who := Holder{PID: 4711, Host: "h1", User: "ann", Command: "apply", Mode: "prod", Started: time.Unix(1700000000, 0)}
	l, err := Acquire(t.Context(), dir, someRegistry(), who, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(t.Context(), dir, someRegistry(), Holder{PID: 1}, 0)
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("second: %v", err)
	}
	for _, want := range []string{"4711", "ann", "h1", "apply", "prod", "2023-11-14T22:13:20Z", "wait until"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	other := someRegistry()
	other.URL = "http://localhost:5001"
	if o, err := Acquire(t.Context(), dir, other, who, 0); err != nil {
		t.Errorf("another registry: %v", err)
	} else if err := o.Release(); err != nil {
		t.Error(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := Acquire(t.Context(), dir, someRegistry(), who, 0)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
}

func TestWaitingForTheLockEndsWithItsReleaseOrTheContext(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Acquire(t.Context(), dir, someRegistry(), Holder{PID: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), dir, someRegistry(), Holder{}, 80*time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Errorf("waited in vain: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Millisecond)
	defer cancel()
	if _, err := Acquire(ctx, dir, someRegistry(), Holder{}, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("context ended: %v", err)
	}
	released := make(chan error)
	go func() {
		time.Sleep(60 * time.Millisecond)
		released <- l.Release()
	}()
	second, err := Acquire(t.Context(), dir, someRegistry(), Holder{}, time.Minute)
	if err != nil {
		t.Fatalf("waiting for a release: %v", err)
	}
	if err := errors.Join(<-released, second.Release()); err != nil {
		t.Error(err)
	}
}

func TestLockOfADeadHolderIsFree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	_, err = Acquire(t.Context(), dir, someRegistry(), Holder{}, 0)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder.PID != cmd.Process.Pid {
		t.Errorf("while it lives: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as intended
	l, err := Acquire(t.Context(), dir, someRegistry(), Holder{}, 0)
	if err != nil {
		t.Fatalf("after its death: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

func TestLockRefusesADirectoryThatEverybodyMayWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), dir, someRegistry(), Holder{}, 0); err == nil {
		t.Error("accepted")
	}
}
