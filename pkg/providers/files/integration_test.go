//go:build integration && linux

package files

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

// TestIntegrationFullFileSystem writes where every number of pages is left,
// from none to enough.
func TestIntegrationFullFileSystem(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root mounts a file system that is full soon")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	page := os.Getpagesize()
	old, next := bytes.Repeat([]byte("old\n"), page/4+1), bytes.Repeat([]byte("new and longer\n"), page/2)
	var full, fits int
	for left := range 40 {
		name := filepath.Join(dir, "config.json")
		if err := os.WriteFile(name, old, 0o600); err != nil {
			t.Fatal(err)
		}
		filler := filepath.Join(dir, "filler")
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, page))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err == nil {
			err = f.Truncate(max(0, info.Size()-int64(left*page)))
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		err = Write(name, old, next)
		want := next
		if err != nil {
			want = old
			if full++; !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%d pages left: %v", left, err)
			}
		} else {
			fits++
		}
		stands(t, name, string(want), string(want))
		if did, err := Finish(name); did || err != nil {
			t.Errorf("%d pages left: Finish had to do: %v, %v", left, did, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 2 {
			t.Errorf("%d pages left: what is left lies around: %v, %v", left, entries, err)
		}
		if err := errors.Join(os.Remove(name), os.Remove(filler)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d writes met a full disk, %d fitted", full, fits)
	if full == 0 || fits == 0 {
		t.Error("the disk was always or never full")
	}
}

const writer = "OCISYNC_TEST_WRITES"

// two are what the writer writes in turn; large, so that a signal meets a write.
func two() [2][]byte {
	return [2][]byte{bytes.Repeat([]byte("one\n"), 1<<19), bytes.Repeat([]byte("the other one\n"), 1<<18)}
}

// TestIntegrationKilledWriter kills a process that writes, at any time.
func TestIntegrationKilledWriter(t *testing.T) {
	if name := os.Getenv(writer); name != "" {
		for i := 0; ; i++ {
			began := time.Now()
			was, err := Read(name)
			if err == nil {
				err = Write(name, was, two()[i%2])
			}
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			if i == 0 {
				fmt.Println(time.Since(began).Microseconds())
			}
		}
	}
	name := newFile(t, string(two()[0]))
	seed := time.Now().UnixNano()
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	var finished, torn int
	for i := range 150 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestIntegrationKilledWriter$")
		cmd.Env = append(os.Environ(), writer+"="+name)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		out := bufio.NewReader(pipe)
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		took, err := strconv.Atoi(strings.TrimSpace(line)) // of one write
		if err != nil {
			t.Fatalf("the writer says %q", line)
		}
		time.Sleep(time.Duration(random.IntN(2*took)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the writer ended by itself: %s", said)
		}
		startable(t, name, string(two()[0]), string(two()[1]))
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !Equal(raw, two()[0]) && !Equal(raw, two()[1]) {
			torn++
		}
		did, err := Finish(name)
		if err != nil {
			t.Fatal(err)
		}
		if did {
			finished++
		}
		stands(t, name, string(two()[0]), string(two()[1]))
		if t.Failed() {
			t.Fatalf("kill %d, seed %d", i, seed)
		}
	}
	t.Logf("seed %d: of 150 writers killed %d left a write to finish, %d of these a file that was neither", seed, finished, torn)
	if finished == 0 {
		t.Error("no kill met a write")
	}
}

// TestIntegrationZotLoadsAWriteOnce has a real Zot that runs load what is
// written, longer and shorter.
func TestIntegrationZotLoadsAWriteOnce(t *testing.T) {
	zot, _ := enginetest.Zot(t, "../../..")
	_, port, err := net.SplitHostPort(porttest.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	content := func(more string) []byte {
		return fmt.Appendf(nil, `{"storage":{"rootDirectory":%q,"gc":true,"gcDelay":"1h"%s},"http":{"port":%q},"log":{"output":%q}}`+"\n",
			filepath.Join(dir, "data"), more, port, filepath.Join(dir, "zot.log"))
	}
	name := newFile(t, string(content("")))
	cmd := exec.CommandContext(t.Context(), zot, "serve", name)
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may be gone
		cmd.Wait()         //nolint:errcheck // killed
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r, err := http.Get("http://127.0.0.1:" + port + "/v2/"); err == nil {
			r.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("Zot does not answer")
		}
	}
	log := func() string {
		b, err := os.ReadFile(filepath.Join(dir, "zot.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	was := content("")
	for i, more := range []string{`,"gcInterval":"2h","dedupe":true`, "", `,"gcInterval":"3h"`, `,"gcInterval":"4h"`} {
		next := content(more)
		if err := Write(name, was, next); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); strings.Count(log(), "loaded new configuration settings") <= i && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond) // for a second time
		if loaded, failed := strings.Count(log(), "loaded new configuration settings"), strings.Count(log(), "failed to reload"); loaded != i+1 || failed != 0 {
			t.Fatalf("after %d writes: loaded %d times, failed %d times\n%s", i+1, loaded, failed, log())
		}
		was = next
	}
}
