package providers_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// TestMain makes this program one that serves with a file, where it is told to: with
// watch=NAME it watches that, with listen=ADDRESS it listens there, and with
// user=NUMBER it is then that user's.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "serve" {
		os.Exit(m.Run())
	}
	fmt.Println("serving", play(os.Args[3:]))
	bufio.NewReader(os.Stdin).ReadString('\n') //nolint:errcheck // it ends by it
}

func play(parts []string) error {
	for _, part := range parts {
		what, with, _ := strings.Cut(part, "=")
		switch what {
		case "watch":
			fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
			if err == nil {
				_, err = unix.InotifyAddWatch(fd, with, unix.IN_MODIFY)
			}
			if err != nil {
				return err
			}
		case "listen":
			if _, err := net.Listen("tcp", with); err != nil {
				return err
			}
		case "user":
			id, err := strconv.Atoi(with)
			if err == nil {
				err = syscall.Setuid(id)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// serve runs this program as one that serves, below another where that is named, until
// the test ends.
func serve(t *testing.T, below []string, words ...string) {
	t.Helper()
	time.Sleep(50 * time.Millisecond) // the kernel counts starts in hundredths of a second
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	all := append(append(append([]string{}, below...), program, "serve"), words...)
	cmd := exec.Command(all[0], all[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends by it
		cmd.Wait() //nolint:errcheck // that is all
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "serving <nil>\n" {
		t.Fatal(line, err)
	}
	time.Sleep(50 * time.Millisecond)
}

func put(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(time.Now().String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, name string) {
	t.Helper()
	put(t, name+".new")
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasReplacedSinceItsProcessBeganIsMissed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.json")
	put(t, name)
	serve(t, nil, name, "watch="+name)
	first, ok := providers.ServedBy(name, &url.URL{})
	if !ok {
		t.Fatal("it is not found")
	}
	if first.Misses(name, providers.TheFile) {
		t.Error("a file as it was is missed")
	}
	put(t, name)
	if first.Misses(name, providers.TheFile) {
		t.Error("what is written in place is missed")
	}
	replace(t, name)
	if !first.Misses(name, providers.TheFile) {
		t.Error("a file in the place of another is not missed")
	}
	put(t, name)
	if !first.Misses(name, providers.TheFile) {
		t.Error("what is written there then is not missed")
	}
}

// The true server watches the file, which is then replaced; a process that watches
// the directory sees that, and one that watches nothing misses all.
func TestWhoListensAtTheRegistrysPortServes(t *testing.T) {
	const port, elsewhere = "listen=AT", "listen=127.0.0.1:0"
	const file, dir = "watch=FILE", "watch=DIR"
	const nobody = "user=65534"
	for name, test := range map[string]struct {
		processes [][]string // in the order of their starts
		below     []string   // which each is started by
		proxy     bool       // listens at the port too, at another address
		inPlace   bool       // the file is written, and not replaced
		misses    bool
		doubt     bool // each of them counts
		unknown   bool // when it began
	}{
		"one that only looks like it began before": {processes: [][]string{{dir}, {file, port}}, misses: true},
		"one that listens elsewhere began before":  {processes: [][]string{{dir, elsewhere}, {file, port}}, misses: true},
		"one that watches nothing began before":    {processes: [][]string{{}, {file, port}}, inPlace: true},
		"one that looks like it behind a proxy":    {processes: [][]string{{dir}, {file, elsewhere}}, misses: true, doubt: true},
		"one that began after behind a proxy":      {processes: [][]string{{file, elsewhere}, {dir}}, misses: true, doubt: true},
		"one beside a proxy":                       {processes: [][]string{{file, elsewhere}, {dir, port}}, proxy: true, misses: true, doubt: true},
		"one alone behind a proxy":                 {processes: [][]string{{file, elsewhere}}, inPlace: true},
		"one below a wrapper":                      {processes: [][]string{{file, port}}, below: []string{"/bin/sh", "-c", `"$@"; :`, "-"}, inPlace: true},
		"one below a wrapper behind a proxy":       {processes: [][]string{{file, elsewhere}}, below: []string{"/bin/sh", "-c", `"$@"; :`, "-"}, inPlace: true},
		"one below two behind a proxy":             {processes: [][]string{{file, elsewhere}}, below: []string{"/bin/sh", "-c", `"$@"; :`, "-", "/bin/sh", "-c", `"$@"; :`, "-"}, inPlace: true},
		"a stranger who listens at the port":       {processes: [][]string{{file, elsewhere}, {dir, port, nobody}}, misses: true, doubt: true},
		"a stranger who listens there too":         {processes: [][]string{{dir, "listen=OTHER", nobody}, {file, port}}, misses: true, doubt: true},
		"a stranger alone behind a proxy":          {processes: [][]string{{dir, nobody}}, unknown: true},
		"a stranger alone at the port":             {processes: [][]string{{dir, port, nobody}}},
	} {
		t.Run(name, func(t *testing.T) {
			at := porttest.Address(t)
			_, number, _ := net.SplitHostPort(at)
			other := net.JoinHostPort("127.0.0.2", number)
			config := filepath.Join(t.TempDir(), "config.json")
			put(t, config)
			for _, words := range test.processes {
				words = append([]string{"FILE"}, words...)
				for i, w := range words {
					if w == nobody && os.Geteuid() != 0 {
						t.Skip("only root can start another user's process")
					}
					words[i] = strings.NewReplacer("FILE", config, "DIR", filepath.Dir(config), "AT", at, "OTHER", other).Replace(w)
				}
				serve(t, test.below, words...)
			}
			if test.proxy {
				l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", other)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			if test.inPlace {
				put(t, config)
			} else {
				replace(t, config)
			}
			s, ok := providers.ServedBy(config, &url.URL{Host: at})
			if !ok {
				t.Fatal("none is found")
			}
			if got := s.Misses(config, providers.OrItsDirectory); got != test.misses {
				t.Errorf("it misses what was written: %t, want %t", got, test.misses)
			}
			if got := s.Misses(config, providers.TheFile); got == test.inPlace {
				t.Errorf("one that is told by the file alone misses what was written: %t", got)
			}
			if got := s.Doubt(); (got != "") != test.doubt || strings.Contains(s.ID, ",") != test.doubt {
				t.Errorf("it is %s; doubt %q, want one: %t", s.ID, got, test.doubt)
			}
			if s.Began.IsZero() != test.unknown {
				t.Errorf("it began %v, want that unknown: %t", s.Began, test.unknown)
			}
		})
	}
}

// TestARegistryWhoseDataIsElsewhereOnThisHostIsNoOtherHosts: what listens at its
// address serves a file of that name in another directory.
func TestARegistryWhoseDataIsElsewhereOnThisHostIsNoOtherHosts(t *testing.T) {
	old, now := filepath.Join(t.TempDir(), "config.json"), filepath.Join(t.TempDir(), "config.json")
	put(t, old)
	at, answers := porttest.Address(t), func(context.Context) error { return nil }
	r := schema.Registry{Type: schema.TypeZot, URL: "http://" + at, Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Dir(now), Listen: at}}
	locate := func(process providers.Process) (providers.Place, error) {
		return providers.Locate(t.Context(), process, r, []string{now}, answers)
	}
	if where, err := locate(stopped{}); where != providers.Away || err != nil {
		t.Errorf("before: %v, %v", where, err)
	}
	serve(t, nil, old, "listen="+at)
	if _, err := locate(stopped{}); !errors.Is(err, providers.ErrDisplaced) || !strings.Contains(err.Error(), old) {
		t.Errorf("%v", err)
	}
	if where, err := locate(nil); where != providers.Away || err != nil {
		t.Errorf("somebody else's: %v, %v", where, err)
	}
	if _, err := locate(stopped{err: fmt.Errorf("container: %w", providers.ErrDisplaced)}); !errors.Is(err, providers.ErrDisplaced) {
		t.Errorf("a container: %v", err)
	}
	put(t, now)
	if _, err := locate(stopped{}); !errors.Is(err, providers.ErrDisplaced) {
		t.Errorf("with files: %v", err)
	}
	if where, err := locate(stopped{running: true}); where != providers.Here || err != nil {
		t.Errorf("one that runs: %v, %v", where, err)
	}
}
