package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/schema"
)

// memoryEngine is an engine that has containers and runs nothing. One whose
// arguments say "dies" ends at once, one with "deaf" never answers.
type memoryEngine struct {
	sync.Mutex
	images     map[string]string // by reference
	registry   map[string]string // what can be pulled
	containers map[string]*found // by name
	networks   map[string]bool
	nth        map[string]int // how often a network was made
	wired      map[string]int // by container: which of its network it has
	made       int
	calls      []string
	fails      map[string]error // by call
	says       own              // every image
	local      bool             // it has the addresses of this host
	listeners  map[string][]net.Listener
}

func newMemoryEngine() *memoryEngine {
	return &memoryEngine{
		images: map[string]string{"zot:1": "sha256:1111"}, registry: map[string]string{"zot:2": "sha256:2222"},
		containers: map[string]*found{}, networks: map[string]bool{}, nth: map[string]int{}, wired: map[string]int{}, fails: map[string]error{},
		listeners: map[string][]net.Listener{},
	}
}

func (m *memoryEngine) call(what string, args ...string) error {
	m.calls = append(m.calls, strings.Join(append([]string{what}, args...), " "))
	return m.fails[what]
}

func (m *memoryEngine) get(name string) *found {
	for _, c := range m.containers {
		if c.Name == name || c.ID == name {
			return c
		}
	}
	return nil
}

func (m *memoryEngine) inspect(_ context.Context, name string) (*found, error) {
	m.Lock()
	defer m.Unlock()
	if err := m.fails["inspect"]; err != nil {
		return nil, err
	}
	if c := m.get(name); c != nil {
		copied := *c
		return &copied, nil
	}
	return nil, nil
}

func (m *memoryEngine) create(_ context.Context, name string, b box, labels map[string]string) (string, error) {
	m.Lock()
	defer m.Unlock()
	if err := m.call("create", name); err != nil {
		return "", err
	}
	m.made++
	id := fmt.Sprintf("container-%d", m.made)
	m.wired[id] = m.nth[b.Network]
	m.containers[id] = &found{box: b, ID: id, Name: name, Labels: labels}
	return id, nil
}

func (m *memoryEngine) start(_ context.Context, id string) error {
	m.Lock()
	defer m.Unlock()
	c := m.get(id)
	if err := m.call("start", c.Name); err != nil {
		return err
	}
	if m.wired[c.ID] != m.nth[c.Network] || m.wired[c.ID] > 0 && !m.networks[c.Network] {
		return fmt.Errorf("%w: network 26f8 not found", ErrNoNetwork)
	}
	for _, other := range m.containers {
		if other.Running && other.Listen == c.Listen {
			return ErrTaken
		}
	}
	if m.local {
		l, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return ErrTaken
		}
		m.listeners[c.ID] = append(m.listeners[c.ID], l)
	}
	c.Started, c.Running = time.Now(), true
	if slices.Contains(c.Args, "dies") {
		c.Running, c.Code, c.Ended = false, 7, time.Now()
	}
	return nil
}

func (m *memoryEngine) stop(_ context.Context, id string, grace time.Duration) error {
	m.Lock()
	defer m.Unlock()
	c := m.get(id)
	if c.Running {
		c.Running, c.Ended = false, time.Now()
	}
	m.hangUp(c.ID)
	return m.call("stop", c.Name, grace.String())
}

// hangUp has nobody listen for a container.
func (m *memoryEngine) hangUp(id string) {
	for _, l := range m.listeners[id] {
		_ = l.Close()
	}
	delete(m.listeners, id)
}

// exec says its words, and exits by them.
func (m *memoryEngine) exec(_ context.Context, id string, command []string, stdout, stderr io.Writer) (int, error) {
	m.Lock()
	defer m.Unlock()
	err := m.call("exec", append([]string{id}, command...)...)
	switch command[len(command)-1] {
	case "fails":
		fmt.Fprintln(stderr, "it failed") //nolint:errcheck // the test would see
		return 3, err
	case "down":
		m.get(id).Running = false
	case "again":
		c := m.get(id)
		c.Started = c.Started.Add(time.Second)
	}
	fmt.Fprintln(stdout, "done") //nolint:errcheck // the test would see
	return 0, err
}

func (m *memoryEngine) remove(_ context.Context, id string) error {
	m.Lock()
	defer m.Unlock()
	c := m.get(id)
	delete(m.containers, c.ID)
	m.hangUp(c.ID)
	return m.call("remove", c.Name)
}

func (m *memoryEngine) rename(_ context.Context, id, name string) error {
	m.Lock()
	defer m.Unlock()
	if m.get(name) != nil {
		return errors.New("the name is taken")
	}
	c := m.get(id)
	if err := m.call("rename", c.Name, name); err != nil {
		return err
	}
	c.Name = name
	return nil
}

func (m *memoryEngine) image(_ context.Context, ref string) (string, error) {
	m.Lock()
	defer m.Unlock()
	if id := m.images[ref]; id != "" {
		return id, nil
	}
	return "", ErrNoImage
}

func (m *memoryEngine) own(context.Context, string) (own, error) {
	m.Lock()
	defer m.Unlock()
	return m.says, m.fails["own"]
}

func (m *memoryEngine) pull(_ context.Context, ref string, progress func(done, total int64)) error {
	m.Lock()
	defer m.Unlock()
	if err := m.call("pull", ref); err != nil {
		return err
	}
	if m.registry[ref] == "" {
		return fmt.Errorf("%w, and it cannot be pulled: not found; correct registry.run.image", ErrNoImage)
	}
	progress(5, 10)
	m.images[ref] = m.registry[ref]
	return nil
}

func (m *memoryEngine) network(_ context.Context, name string, _ map[string]string) error {
	m.Lock()
	defer m.Unlock()
	if !m.networks[name] {
		m.nth[name]++
	}
	m.networks[name] = true
	return nil
}

func (m *memoryEngine) host(_ context.Context, name string) (address, why string, err error) {
	m.Lock()
	defer m.Unlock()
	switch {
	case name == "host":
		return "", "it is this host's own", nil
	case !m.networks[name]:
		return "", "", m.fails["host"]
	}
	return "the host in " + name, "", m.fails["host"]
}

func (m *memoryEngine) dropNetwork(_ context.Context, name string) error {
	m.Lock()
	defer m.Unlock()
	delete(m.networks, name)
	return nil
}

func (m *memoryEngine) of(_ context.Context, label, value string) ([]string, error) {
	m.Lock()
	defer m.Unlock()
	var names []string
	for _, c := range m.containers {
		if c.Labels[label] == value {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *memoryEngine) describe(context.Context) (string, bool) {
	return "an engine in memory", m.local
}

func (m *memoryEngine) log(_ context.Context, id string, _ time.Time, _ int, _ bool) (io.ReadCloser, error) {
	m.Lock()
	defer m.Unlock()
	return io.NopCloser(strings.NewReader("the log of " + m.get(id).Name + "\n")), nil
}

// names lists the containers there are.
func (m *memoryEngine) names() []string {
	var names []string
	for _, c := range m.containers {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

// harbour is a container and the engine it is on.
type harbour struct {
	*Container
	t      *testing.T
	memory *memoryEngine
	launch Launch
	pulled []int64
}

func newHarbour(t *testing.T) *harbour {
	t.Helper()
	h := &harbour{t: t, memory: newMemoryEngine()}
	data := t.TempDir()
	h.launch = Launch{Args: []string{"serve"}, Env: []string{"A=1"}, Mounts: []Mount{{data, true}}, Port: 5000, Grace: 1500 * time.Millisecond}
	o, err := Options{
		Mode: "dev",
		Registry: schema.Registry{
			Type: schema.TypeZot, URL: "http://127.0.0.1:5000",
			Run: &schema.Run{Driver: schema.DriverDocker, Image: "zot:1", Data: data},
		},
		Launch: func(context.Context) (Launch, error) { return h.launch, nil },
		Ready: func(context.Context, string) error {
			h.memory.Lock()
			defer h.memory.Unlock()
			for _, c := range h.memory.containers {
				if c.Running && !c.Off && !slices.Contains(c.Args, "deaf") {
					return nil
				}
			}
			return errors.New("connection refused")
		},
		Pulling:  func(done, total int64) { h.pulled = append(h.pulled, done, total) },
		Patience: Patience{Ready: 60 * time.Millisecond, Probe: time.Millisecond, Watch: time.Millisecond},
	}.settled()
	if err != nil {
		t.Fatal(err)
	}
	h.Container = &Container{o, h.memory}
	return h
}

func (h *harbour) up() Outcome {
	h.t.Helper()
	out, err := h.Up(h.t.Context())
	if err != nil {
		h.t.Fatalf("up: %v", err)
	}
	return out
}

func (h *harbour) one() *found {
	h.t.Helper()
	if d := cmp.Diff([]string{"ocisync-dev"}, h.memory.names()); d != "" {
		h.t.Fatalf("containers (-want +got):\n%s", d)
	}
	return h.memory.get("ocisync-dev")
}

func TestUpOfAContainerIsDoneOnce(t *testing.T) {
	h := newHarbour(t)
	if d := cmp.Diff(Outcome{}, h.up()); d != "" {
		t.Errorf("the first up (-want +got):\n%s", d)
	}
	c := h.one()
	if !c.Running || c.Labels[labelMode] != "dev" || c.Labels[labelData] != h.o.data() || c.Labels[labelRegistry] != "http://127.0.0.1:5000" || c.Labels[labelSpec] == "" {
		t.Errorf("%+v", c)
	}
	if c.Grace != 2*time.Second { // 1.5 s, and the engine has whole ones
		t.Errorf("grace: %s", c.Grace)
	}
	if info, err := os.Stat(h.o.data()); err == nil && os.Geteuid() != 0 && c.User != fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()) {
		t.Errorf("user %q; owner of %s", c.User, info.Name())
	}
	before := slices.Clone(h.memory.calls)
	if d := cmp.Diff(Outcome{Already: true}, h.up()); d != "" {
		t.Errorf("the second up (-want +got):\n%s", d)
	}
	if d := cmp.Diff(before, h.memory.calls); d != "" {
		t.Errorf("the second up did something: %s", d)
	}
}

func TestAContainerRunsAsTheOwnerOfTheData(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives a directory away")
	}
	h := newHarbour(t)
	in := func(name string) string { return filepath.Join(h.o.data(), name) }
	err := errors.Join(
		os.Chown(h.o.data(), 1234, 567),
		os.WriteFile(in("config.json"), nil, 0o600),
		os.WriteFile(in("another's"), nil, 0o600), os.Chown(in("another's"), 9, 9),
		os.Symlink("config.json", in("link")),
		os.WriteFile(in("twice"), nil, 0o600), os.Link(in("twice"), in("again")),
	)
	if err != nil {
		t.Fatal(err)
	}
	h.up()
	if c := h.one(); c.User != "1234:567" {
		t.Errorf("user %q", c.User)
	}
	got := map[string]uint32{}
	for _, name := range []string{"config.json", "another's", "link", "twice", "ocisync"} {
		info, err := os.Lstat(in(name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = info.Sys().(*syscall.Stat_t).Uid
	}
	// its own files are root's to keep, and a link could lead anywhere
	want := map[string]uint32{"config.json": 1234, "another's": 9, "link": 0, "twice": 0, "ocisync": 0}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("owners (-want +got):\n%s", d)
	}
}

func TestEveryChangeOfAContainerIsSeenAndMade(t *testing.T) {
	for what, change := range map[string]struct{ asked, launched func(*harbour) }{
		"image":     {asked: func(h *harbour) { h.o.Registry.Run.Image = "zot:2" }},
		"program":   {asked: func(h *harbour) { h.o.Registry.Run.Binary = "/zot" }},
		"arguments": {asked: func(h *harbour) { h.o.Registry.Run.Args = []string{"more"} }},
		"address":   {asked: func(h *harbour) { h.o.Registry.Run.Listen = "127.0.0.1:6000" }},
		"network":   {asked: func(h *harbour) { h.o.Registry.Run.Network = "mine" }},
		"mounts": {
			asked: func(h *harbour) {
				h.o.Registry.TLS = &schema.TLS{Cert: new("/cert"), Key: new("/key")}
			},
			launched: func(h *harbour) {
				h.launch.Mounts = append(h.launch.Mounts, Mount{"/cert", false}, Mount{"/key", false})
			},
		},
		"environment": {launched: func(h *harbour) { h.launch.Env = []string{"A=2"} }},
		"settings":    {launched: func(h *harbour) { h.launch.Env = nil }},
		"port":        {launched: func(h *harbour) { h.launch.Port = 5001 }},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHarbour(t)
			h.up()
			before := h.one().ID
			for _, f := range []func(*harbour){change.asked, change.launched} {
				if f != nil {
					f(h)
				}
			}
			h.o.Launch = func(context.Context) (Launch, error) { t.Error("a look asks how it is started"); return h.launch, nil }
			d, err := h.Differences(t.Context())
			if err != nil || (change.asked != nil) != (len(d) > 0) {
				t.Errorf("differences: %v, %v", d, err)
			}
			h.o.Launch = func(context.Context) (Launch, error) { return h.launch, nil }
			if got := h.up().Changed; len(got) != 1 || got[0].What != what {
				t.Errorf("up changed %v", got)
			}
			if c := h.one(); c.ID == before || !c.Running {
				t.Errorf("%+v", c)
			}
			if d, err := h.Differences(t.Context()); err != nil || len(d) != 0 {
				t.Errorf("afterwards: %v, %v", d, err)
			}
		})
	}
}

func TestATagThatMovedIsAChange(t *testing.T) {
	h := newHarbour(t)
	h.up()
	h.one().imageID = "sha256:1111"
	h.memory.images["zot:1"] = "sha256:3333"
	d, err := h.Differences(t.Context())
	if diff := cmp.Diff([]Difference{{What: "image", Running: "1111", Wanted: "3333", Beside: true}}, d); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	// which is no change of the plan: it goes by the name
	made, err := h.Made(t.Context())
	if err != nil || made == nil || made.Image != "zot:1" || made.Listen != h.o.listen() || mounts(made.Mounts) != mounts(h.one().Mounts) {
		t.Errorf("made %+v, %v", made, err)
	}
	h.one().Running = false
	if made, err := h.Made(t.Context()); err != nil || made == nil || !made.Stopped {
		t.Errorf("of one that does not run: %+v, %v", made, err)
	}
}

func TestAMissingImageIsPulled(t *testing.T) {
	h := newHarbour(t)
	h.o.Registry.Run.Image = "zot:2"
	h.up()
	if d := cmp.Diff([]int64{5, 10, 0, 0}, h.pulled); d != "" || !h.one().Running {
		t.Errorf("progress (-want +got):\n%s", d)
	}
}

func TestAnImageThatIsNowhereLeavesTheFormerContainer(t *testing.T) {
	h := newHarbour(t)
	h.up()
	before := h.one().ID
	h.o.Registry.Run.Image = "zot:none"
	_, err := h.Up(t.Context())
	wantError(t, err, ErrNoImage, "http://127.0.0.1:5000", "zot:none", "correct registry.run.image")
	if c := h.one(); c.ID != before || !c.Running {
		t.Errorf("%+v", c)
	}
}

func TestAContainerWhoseSuccessorFailsRunsAgain(t *testing.T) {
	for how, kind := range map[string]error{"dies": ErrDied, "deaf": ErrNotReady} {
		t.Run(how, func(t *testing.T) {
			h := newHarbour(t)
			h.up()
			before := h.one().ID
			h.o.Registry.Run.Args = []string{how}
			_, err := h.Up(t.Context())
			wantError(t, err, kind, "its log said last: the log of ocisync-dev.next", "it runs again as before")
			if c := h.one(); c.ID != before || !c.Running {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestAFirstContainerThatDiesLeavesNone(t *testing.T) {
	h := newHarbour(t)
	h.launch.Args = []string{"dies"}
	_, err := h.Up(t.Context())
	wantError(t, err, ErrDied, "exit status 7", "its log said last")
	if n := h.memory.names(); len(n) != 0 {
		t.Errorf("left: %v", n)
	}
}

func TestAContainerOfAnotherIsLeftAlone(t *testing.T) {
	labels := func(more ...string) map[string]string {
		l := map[string]string{}
		for i := 0; i < len(more); i += 2 {
			l[more[i]] = more[i+1]
		}
		return l
	}
	for why, l := range map[string]map[string]string{
		"ocisync did not make it":           nil,
		"it is of mode prod, instance none": labels(labelMode, "prod"),
		"it is of mode dev, instance other": labels(labelMode, "dev", labelInstance, "other"),
		"it keeps its data in /somewhere":   labels(labelMode, "dev", labelData, "/somewhere"),
	} {
		kind, remedy := ErrForeign, "remove or rename it"
		if l[labelData] != "" {
			kind, remedy = ErrDisplaced, "take registry.run.data back"
		}
		t.Run(why, func(t *testing.T) {
			h := newHarbour(t)
			h.memory.containers["x"] = &found{ID: "x", Name: "ocisync-dev", Running: true, Labels: l}
			_, err := h.Up(t.Context())
			wantError(t, err, kind, "container ocisync-dev", why, remedy)
			for doing, err := range map[string]error{"stop": h.Stop(t.Context()), "down": h.Down(t.Context()), "start": h.Start(t.Context())} {
				if !errors.Is(err, kind) {
					t.Errorf("%s: %v", doing, err)
				}
			}
			if len(h.memory.calls) != 0 || !h.memory.get("x").Running {
				t.Errorf("it was touched: %v", h.memory.calls)
			}
		})
	}
}

func TestTwoContainersNeverRunOnOneDirectory(t *testing.T) {
	h := newHarbour(t)
	h.memory.containers["x"] = &found{ID: "x", Name: "ocisync-staging", Labels: map[string]string{labelMode: "staging", labelData: h.o.data()}}
	_, err := h.Up(t.Context())
	wantError(t, err, ErrOccupied, "container ocisync-staging", "registry.run.data")
}

func TestAProcessAndAContainerNeverRunOnOneDirectory(t *testing.T) {
	w := newWorld(t, "well")
	s := w.supervise()
	h := newHarbour(t)
	h.o.Registry.Run.Data = w.data
	_, err := h.Up(t.Context())
	wantError(t, err, ErrSupervised, "(test)")
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	h.up()
	err = w.supervising().fails()
	wantError(t, err, ErrOccupied, "container ocisync-dev")
	if err := h.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = w.supervise()
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
}

func TestAReplacementThatWasKilledIsBroughtToItsEnd(t *testing.T) {
	for name, leave := range map[string]func(*harbour){
		"before the former was removed": func(h *harbour) {
			former := h.one()
			former.Running = false
			h.memory.containers["n"] = &found{ID: "n", Name: "ocisync-dev.next", Labels: former.Labels, box: former.box}
		},
		"before the new one had the name": func(h *harbour) { h.one().Name = "ocisync-dev.next" },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarbour(t)
			h.up()
			leave(h)
			h.up()
			if c := h.one(); !c.Running {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestStartLeavesAContainerAsItWas(t *testing.T) {
	h := newHarbour(t)
	h.up()
	id := h.one().ID
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := h.Status(t.Context()); err != nil || st.Running || !strings.Contains(st.Detail, "exit status 0") {
		t.Errorf("stopped: %+v, %v", st, err)
	}
	h.o.Registry.Run.Args = []string{"more"}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := h.one(); c.ID != id || !c.Running {
		t.Errorf("%+v", c)
	}
	first, err := h.Status(t.Context())
	if err != nil || !first.Running {
		t.Fatalf("%+v, %v", first, err)
	}
	h.o.Registry.Run.Args = nil
	if _, err := h.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := h.Status(t.Context()); err != nil || !again.Running || again.ID == first.ID || h.one().ID != id {
		t.Errorf("restarted: %+v, %v; before %+v", again, err, first)
	}
}

func TestDownRemovesWhatUpMadeAndKeepsTheData(t *testing.T) {
	h := newHarbour(t)
	file := filepath.Join(h.o.data(), "content")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.up()
	for range 2 {
		if err := h.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(file); err != nil || len(h.memory.names()) != 0 || len(h.memory.networks) != 0 {
		t.Errorf("%v, %v, %v", h.memory.names(), h.memory.networks, err)
	}
}

func TestATakenPortOfAContainerIsSaid(t *testing.T) {
	h := newHarbour(t)
	h.memory.fails["start"] = ErrTaken
	_, err := h.Up(t.Context())
	wantError(t, err, ErrTaken, "127.0.0.1:5000", "name another in registry.run.listen")
}

// TestAPortOfItsOwnIsNoAddressInUse, however else the container is published.
func TestAPortOfItsOwnIsNoAddressInUse(t *testing.T) {
	h := newHarbour(t)
	h.memory.local = true
	h.o.Registry.Run.Listen = porttest.Address(t)
	_, port, err := net.SplitHostPort(h.o.listen())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.memory.hangUp(h.one().ID) })
	h.up()
	for what, c := range map[string]struct {
		published []published
		running   string
	}{
		"a second address":             {[]published{{"0.0.0.0:1", 5000}, {h.o.listen(), 5000}}, h.o.listen() + ", 0.0.0.0:1"},
		"one of every address":         {[]published{{"0.0.0.0:" + port, 5000}}, "0.0.0.0:" + port},
		"an address of a second port":  {[]published{{"127.0.0.1:1", 22}, {h.o.listen(), 5000}}, h.o.listen() + ", 127.0.0.1:1 (port 22)"},
		"the same address, of another": {[]published{{"127.0.0.1:1", 5000}, {h.o.listen(), 22}}, h.o.listen() + ", 127.0.0.1:1 (port 5000)"},
	} {
		made := h.one()
		made.Published = c.published
		made.at("")
		want := []Difference{{What: "address", Running: c.running, Wanted: h.o.listen()}}
		if d, err := h.Differences(t.Context()); err != nil || !cmp.Equal(d, want) {
			t.Errorf("%s: differences %v, %v", what, d, err)
		}
		m, err := h.Made(t.Context())
		if err != nil || strings.Join(append([]string{m.Listen}, m.Also...), ", ") != c.running {
			t.Errorf("%s: made %+v, %v", what, m, err)
		}
		out, err := h.Up(t.Context())
		if err != nil || !slices.ContainsFunc(out.Changed, func(d Difference) bool { return d == want[0] }) {
			t.Errorf("%s: %+v, %v", what, out, err)
		}
		if now := h.one(); now.ID == made.ID || !now.Running || now.Listen != h.o.listen() {
			t.Errorf("%s: afterwards %+v", what, now)
		}
	}
	h.o.Registry.Run.Listen = "0.0.0.0:" + port
	if out := h.up(); len(out.Changed) != 1 || h.one().Listen != h.o.listen() {
		t.Errorf("from an address to every address: %+v", out)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	before := h.one()
	h.o.Registry.Run.Listen = other.Addr().String()
	_, err = h.Up(t.Context())
	wantError(t, err, ErrTaken, other.Addr().String())
	if now := h.one(); now.ID != before.ID || !now.Started.Equal(before.Started) {
		t.Errorf("an address that another program has: %+v", now)
	}
}

func TestAnEngineThatIsAwayIsSaid(t *testing.T) {
	h := newHarbour(t)
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "docker.sock"))
	c, err := NewContainer(h.o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Up(t.Context())
	wantError(t, err, ErrNoEngine, "http://127.0.0.1:5000", "docker.sock", "start it (systemctl start docker), or say in DOCKER_HOST where it is")
	_, err = c.Status(t.Context())
	wantError(t, err, ErrNoEngine)
}

func TestBeforeAContainerStartsWhatMustBeThereIsMade(t *testing.T) {
	h := newHarbour(t)
	var faces []string
	h.o.BeforeStart = func(_ context.Context, face string) error {
		h.memory.Lock()
		defer h.memory.Unlock()
		for _, c := range h.memory.containers {
			if c.Running {
				t.Error("something is made while a container runs")
			}
		}
		faces = append(faces, face)
		return nil
	}
	h.launch.Face = "one"
	for range 2 {
		if _, err := h.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.launch.Face = "two"
	if out, err := h.Up(t.Context()); err != nil || len(out.Changed) == 0 {
		t.Fatal(out, err)
	}
	if want := []string{"one", "one", "two"}; !slices.Equal(faces, want) {
		t.Errorf("faces: %q, want %q", faces, want)
	}
}

// TestACommandEndsWithItsContainer: what was said until then is no whole answer.
// TestTheHostOfAContainerIsThatOfItsNetwork, or of the network of the one that is
// started in its place.
func TestTheHostOfAContainerIsThatOfItsNetwork(t *testing.T) {
	h := newHarbour(t)
	c, engine := h.Container, h.memory
	host := func(c *Container, want, wantWhy string) {
		t.Helper()
		if got, why, err := c.Host(t.Context()); err != nil || got != want || why != wantWhy {
			t.Errorf("%q, %q, %v; want %q, %q", got, why, err, want, wantWhy)
		}
	}
	host(c, "", "")
	if _, err := c.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	host(c, "the host in "+c.name(), "")
	engine.networks["other"] = true
	other := *c
	run := *c.o.Registry.Run
	other.o.Registry.Run = &run
	run.Network = "other"
	host(&other, "the host in "+c.name(), "")
	asked := ""
	other.o.BeforeStart = func(ctx context.Context, _ string) (err error) {
		asked, _, err = other.Host(ctx)
		return err
	}
	if _, err := other.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asked != "the host in other" {
		t.Errorf("before the one in the other network starts the host is %q", asked)
	}
	run.Network = "host"
	host(&other, "", "it is this host's own")
	engine.fails["host"] = errors.New("the engine is away")
	if _, _, err := c.Host(t.Context()); err == nil {
		t.Error("an engine that is away is not said")
	}
}

func TestACommandEndsWithItsContainer(t *testing.T) {
	h := newHarbour(t)
	if err := h.Command(t.Context(), []string{"x"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "ocisync up") {
		t.Errorf("without a container: %v", err)
	}
	h.up()
	h.one().Entrypoint = []string{"/registry"}
	for word, want := range map[string]string{"works": "", "fails": "exit status 3", "again": "stopped meanwhile"} {
		var out, errs bytes.Buffer
		err := h.Command(t.Context(), []string{"garbage-collect", word}, &out, &errs)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", word, err, want)
		}
		if out.Len()+errs.Len() == 0 {
			t.Errorf("%s: it said nothing", word)
		}
	}
	if err := h.Command(t.Context(), []string{"down"}, io.Discard, io.Discard); !errors.Is(err, ErrDied) {
		t.Errorf("taken down: %v", err)
	}
}

func TestAContainerThatWouldNotStartAgainIsNotStopped(t *testing.T) {
	h := newHarbour(t)
	var broken error
	h.o.Check = func(context.Context, string) error { return broken }
	h.up()
	before := h.one()
	broken = errors.New("its certificate is gone")
	if _, err := h.Restart(t.Context()); !errors.Is(err, broken) {
		t.Errorf("restart: %v", err)
	}
	h.launch.Args = []string{"serve", "otherwise"}
	for what, do := range map[string]func(context.Context) (Outcome, error){"up": h.Up, "restart": h.Restart} {
		if _, err := do(t.Context()); !errors.Is(err, broken) {
			t.Errorf("%s as another: %v", what, err)
		}
	}
	if now := h.one(); now.ID != before.ID || !now.Running || !now.Started.Equal(before.Started) {
		t.Errorf("it does not run on: %+v", now)
	}
}

// TestAContainerWhoseNetworkWasRemovedIsMadeAnew as it was, as after a docker network
// prune while it was stopped; by whom it is started does not matter.
func TestAContainerWhoseNetworkWasRemovedIsMadeAnew(t *testing.T) {
	for name, start := range map[string]func(*harbour, context.Context) error{
		"up":      func(h *harbour, ctx context.Context) error { _, err := h.Up(ctx); return err },
		"restart": func(h *harbour, ctx context.Context) error { _, err := h.Restart(ctx); return err },
		"start":   func(h *harbour, ctx context.Context) error { return h.Start(ctx) },
		"as it ran": func(h *harbour, ctx context.Context) error {
			again, err := h.Keep(ctx)
			if err != nil {
				return err
			}
			return errors.Join(h.Stop(ctx), again(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarbour(t)
			h.up()
			before := *h.one()
			if name != "as it ran" {
				if err := h.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			delete(h.memory.networks, "ocisync-dev")
			if err := start(h, t.Context()); err != nil {
				t.Fatal(err)
			}
			after := h.one()
			if !after.Running || after.ID == before.ID || !h.memory.networks["ocisync-dev"] {
				t.Errorf("%+v", after)
			}
			if d := cmp.Diff(before.Labels, after.Labels); d != "" {
				t.Errorf("labels (-before +after):\n%s", d)
			}
			if out := h.up(); !out.Already {
				t.Errorf("it is another than it was: %+v", out)
			}
		})
	}
}

// TestAContainerOffItsNetworkIsPutRight, by whoever starts it, and is said before.
func TestAContainerOffItsNetworkIsPutRight(t *testing.T) {
	for name, start := range map[string]func(*harbour) error{
		"up":      func(h *harbour) error { _, err := h.Up(t.Context()); return err },
		"restart": func(h *harbour) error { _, err := h.Restart(t.Context()); return err },
		"start":   func(h *harbour) error { return h.Start(t.Context()) },
		"start of one that was stopped": func(h *harbour) error {
			return errors.Join(h.Stop(t.Context()), h.Start(t.Context()))
		},
		"as it ran": func(h *harbour) error {
			again, err := h.Keep(t.Context())
			if err != nil {
				return err
			}
			return again(t.Context())
		},
	} {
		h := newHarbour(t)
		h.up()
		before := h.one()
		before.Off = true
		if s, err := h.Status(t.Context()); err != nil || s.OffNetwork != "ocisync-dev" || !strings.Contains(s.Detail, "off its network ocisync-dev") {
			t.Errorf("%s: status %+v, %v", name, s, err)
		}
		want := []Difference{{What: "network", Running: "off ocisync-dev", Wanted: "ocisync-dev"}}
		if d, err := h.Differences(t.Context()); err != nil || !cmp.Equal(d, want) {
			t.Errorf("%s: differences %v, %v", name, d, err)
		}
		if m, err := h.Made(t.Context()); err != nil || m.Network != "off ocisync-dev" {
			t.Errorf("%s: made %+v, %v", name, m, err)
		}
		if err := start(h); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if now := h.one(); now.ID == before.ID || !now.Running || now.Off {
			t.Errorf("%s: afterwards %+v", name, now)
		}
		if m, err := h.Made(t.Context()); err != nil || m.Network != "" {
			t.Errorf("%s: made anew %+v, %v", name, m, err)
		}
	}
}

func TestAContainerOffItsNetworkWhoseSuccessorFailsIsSaid(t *testing.T) {
	h := newHarbour(t)
	h.up()
	h.one().Off = true
	h.memory.fails["start"] = errors.New("no more memory")
	for doing, err := range map[string]error{"start": h.Start(t.Context()), "up": func() error { _, err := h.Up(t.Context()); return err }()} {
		if err == nil || strings.Count(err.Error(), "no more memory") != 1 {
			t.Errorf("%s: %v", doing, err)
		}
	}
	h.one()
}

// TestAContainerInAnotherNetworkIsAChange, where somebody made it anew there.
func TestAContainerInAnotherNetworkIsAChange(t *testing.T) {
	h := newHarbour(t)
	h.up()
	h.one().Network = "host"
	if m, err := h.Made(t.Context()); err != nil || m.Network != "host" {
		t.Errorf("made %+v, %v", m, err)
	}
	if h.up(); h.one().Network != "ocisync-dev" {
		t.Errorf("%+v", h.one())
	}
	h.o.Registry.Run.Network = "ocisync-dev" // its own, by its name
	h.up()
	if m, err := h.Made(t.Context()); err != nil || m.Network != "ocisync-dev" {
		t.Errorf("by its name: made %+v, %v", m, err)
	}
	h.o.Registry.Run.Network = "other"
	if m, err := h.Made(t.Context()); err != nil || m.Network != "" {
		t.Errorf("before it gets another: made %+v, %v", m, err)
	}
}

// TestAPausedContainerIsSaidAtOnce, and is not waited for; a restart starts it.
func TestAPausedContainerIsSaidAtOnce(t *testing.T) {
	h := newHarbour(t)
	h.up()
	h.one().Paused = true
	s, err := h.Status(t.Context())
	if err != nil || !s.Running || !s.Paused || !strings.Contains(s.Detail, "paused") {
		t.Errorf("%+v, %v", s, err)
	}
	h.o.Patience.Ready = time.Hour
	_, err = h.Up(t.Context())
	wantError(t, err, ErrPaused, "docker unpause ocisync-dev", "ocisync restart")
	wantError(t, h.Start(t.Context()), ErrPaused)
	h.one().Paused = false // the engine lets it go on to be stopped
	if _, err := h.Restart(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhatTheEngineSaysOfAMissingNetworkIsUnderstood(t *testing.T) {
	d := engineOf(t, nil)
	for text, want := range map[string]bool{
		"Error response from daemon: network 26f8a0 not found":                                             true,
		"Error response from daemon: failed to set up container networking: network ocisync-dev not found": true,
		"Error response from daemon: No such image: network":                                               false,
	} {
		if err := d.explained(errors.New(text)); errors.Is(err, ErrNoNetwork) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
