package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/schema"
)

// TestMain makes the test binary also the registry that the tests run, and the
// ocisync that supervises it in the background.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("FAKE") != "":
		fakeRegistry(os.Getenv("FAKE"), os.Args[1])
	case len(os.Args) == 4 && os.Args[1] == "supervise":
		fakeSupervisor(os.Args[2], os.Args[3])
	default:
		os.Exit(m.Run())
	}
}

// fakeRegistry listens at an address until SIGTERM, but for what the word says.
func fakeRegistry(how, address string) {
	fmt.Println("fake registry begins")
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	switch {
	case how == "dies":
		fmt.Println("fake registry has a reason to die")
		os.Exit(7)
	case strings.HasPrefix(how, "dies-while:"): // as long as a file is there
		if _, err := os.Stat(strings.TrimPrefix(how, "dies-while:")); err == nil {
			fmt.Println("the file is there")
			os.Exit(7)
		}
	case how == "deaf":
		fmt.Println("fake registry listens to nobody")
		<-terminated
		os.Exit(0)
	case how == "parent": // of one that outlives it, and has what it has
		child := exec.CommandContext(context.Background(), "/bin/sleep", "60")
		child.ExtraFiles = []*os.File{os.NewFile(3, "lock")}
		if err := child.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("child", child.Process.Pid)
	case how == "ignores":
		signal.Ignore(syscall.SIGTERM)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "{}") })
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("/say", func(w http.ResponseWriter, q *http.Request) { fmt.Println(q.URL.RawQuery) })
	mux.HandleFunc("/die", func(http.ResponseWriter, *http.Request) { fmt.Println("told to die"); os.Exit(9) })
	go func() {
		<-terminated
		if how == "slow" {
			time.Sleep(150 * time.Millisecond)
		}
		fmt.Println("fake registry ends")
		os.Exit(0)
	}()
	fmt.Println(http.ListenAndServe(address, mux))
	os.Exit(1)
}

func fakeSupervisor(data, address string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p, err := NewProcess(fakeOptions(data, address, os.Getenv("HOW")))
	if err == nil {
		err = p.Supervise(ctx, "fake supervisor", func(Status, Outcome) { fmt.Println("ready") })
	}
	if err != nil {
		fmt.Println("ocisync:", err)
		os.Exit(1)
	}
}

// fakeOptions run the fake registry with short patience.
func fakeOptions(data, address, how string) Options {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Options{
		Mode: "m",
		Registry: schema.Registry{
			Type: schema.TypeZot, URL: "http://" + address,
			Run: &schema.Run{Driver: schema.DriverProcess, Binary: self, Data: data},
		},
		Launch: func(context.Context) (Launch, error) {
			return Launch{Args: []string{address}, Env: []string{"FAKE=" + how}, Grace: 300 * time.Millisecond}, nil
		},
		Ready:      func(ctx context.Context, address string) error { return get(ctx, "http://"+address+"/v2/", nil) },
		Log:        filepath.Join(data, "fake.log"),
		Background: []string{self, "supervise", data, address},
		Patience: Patience{
			Ready: 2 * time.Second, Probe: 2 * time.Millisecond, Delay: 5 * time.Millisecond, Watch: 5 * time.Millisecond,
			Window: 20 * time.Second, LogSize: 1 << 20,
		},
	}
}

func get(ctx context.Context, url string, into *string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	rt := &http.Transport{DisableKeepAlives: true}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if into != nil {
		*into = string(b)
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return err
}

// world is one data directory and the registry on it.
type world struct {
	t       *testing.T
	data    string
	address string
	options Options
}

func newWorld(t *testing.T, how string) *world {
	t.Helper()
	address := porttest.Address(t)
	w := &world{t: t, data: t.TempDir(), address: address}
	w.options = fakeOptions(w.data, address, how)
	t.Setenv("HOW", how)
	t.Cleanup(func() { // where a test did not get as far
		o, err := w.options.settled()
		if err != nil {
			return
		}
		if h := o.holder(); h.PID != 0 && h.PID != os.Getpid() {
			_ = syscall.Kill(h.PID, syscall.SIGKILL)
		}
		if r, err := o.readRecord(); err == nil && r.alive() {
			_ = syscall.Kill(r.PID, syscall.SIGKILL)
		}
	})
	return w
}

// as makes the registry run in another way from now on.
func (w *world) as(how string) *world {
	other := *w
	other.options.Launch = fakeOptions(w.data, w.address, how).Launch
	return &other
}

func (w *world) process() *Process {
	w.t.Helper()
	p, err := NewProcess(w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// supervised is a supervisor in this process.
type supervised struct {
	*Process
	w       *world
	stop    context.CancelFunc
	started chan Outcome
	ended   chan error
	outcome Outcome
}

// supervise starts one and waits until the registry is ready.
func (w *world) supervise() *supervised {
	w.t.Helper()
	s := w.supervising()
	select {
	case err := <-s.ended:
		w.t.Fatalf("the supervisor ended: %v", err)
	case s.outcome = <-s.started:
	}
	return s
}

func (w *world) supervising() *supervised {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &supervised{Process: w.process(), w: w, stop: cancel, started: make(chan Outcome, 1), ended: make(chan error, 1)}
	go func() {
		s.ended <- s.Supervise(ctx, "test", func(_ Status, o Outcome) { s.started <- o })
	}()
	w.t.Cleanup(cancel)
	return s
}

// fails says why the supervisor ended before anything was ready.
func (s *supervised) fails() error {
	s.w.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-s.started:
		s.w.t.Fatal("it started")
		return nil
	}
}

// end stops the supervisor and says what it returned.
func (s *supervised) end() error {
	s.w.t.Helper()
	s.stop()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(10 * time.Second):
		s.w.t.Fatal("the supervisor does not end")
		return nil
	}
}

func (w *world) status() Status {
	w.t.Helper()
	s, err := w.process().Status(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// ask sends the registry a request and returns what it answers.
func (w *world) ask(path string) string {
	w.t.Helper()
	var answer string
	if err := get(w.t.Context(), "http://"+w.address+path, &answer); err != nil {
		w.t.Fatalf("GET %s: %v", path, err)
	}
	return answer
}

func (w *world) answers() bool { return get(w.t.Context(), "http://"+w.address+"/v2/", nil) == nil }

// eventually waits for what is to become true.
func (w *world) eventually(what string, try func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if try() {
			return
		}
	}
	w.t.Fatalf("never: %s", what)
}

func (w *world) must(doing string, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%s: %v", doing, err)
	}
}

func wantError(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got error %v, want kind %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
