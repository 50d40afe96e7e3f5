package runtime

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"
)

// inspectedOf is what is seen of a container of ocisync's that somebody made
// otherwise.
func inspectedOf(otherwise func(*container.InspectResponse)) *found {
	h := confined()
	h.RestartPolicy.Name = container.RestartPolicyUnlessStopped
	// what the engine fills in
	h.IpcMode, h.CgroupnsMode, h.Runtime = "private", "host", "runc"
	h.MaskedPaths, h.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/bus"}
	h.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: "/data", Target: "/data"}, {Type: mount.TypeBind, Source: "/data/ocisync", Target: "/data/ocisync", ReadOnly: true}}
	c := container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{Name: "/ocisync-dev", State: &container.State{}, HostConfig: h},
		Config:            &container.Config{},
	}
	otherwise(&c)
	return inspected(c)
}

func TestEveryRightThatOcisyncGivesNoContainerIsSeen(t *testing.T) {
	if f := inspectedOf(func(*container.InspectResponse) {}); len(f.Rights) != 0 {
		t.Errorf("as ocisync makes it: %q", f.Rights)
	}
	for want, otherwise := range map[string]func(*container.HostConfig){
		"privileged":            func(h *container.HostConfig) { h.Privileged, h.MaskedPaths, h.ReadonlyPaths = true, nil, nil },
		"usual capabilities":    func(h *container.HostConfig) { h.CapDrop = []string{"CHOWN"} },
		"capability SYS_ADMIN":  func(h *container.HostConfig) { h.CapAdd = []string{"SYS_ADMIN"} },
		"writable root":         func(h *container.HostConfig) { h.ReadonlyRootfs = false },
		"new privileges":        func(h *container.HostConfig) { h.SecurityOpt = nil },
		"seccomp=unconfined":    func(h *container.HostConfig) { h.SecurityOpt = append(h.SecurityOpt, "seccomp=unconfined") },
		"unmasked system paths": func(h *container.HostConfig) { h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{} },
		"tmpfs /tmp:rw,exec":    func(h *container.HostConfig) { h.Tmpfs["/tmp"] = "rw,exec" },
		"ipc namespace host":    func(h *container.HostConfig) { h.IpcMode = "host" },
		"pid namespace host":    func(h *container.HostConfig) { h.PidMode = "host" },
		"uts namespace host":    func(h *container.HostConfig) { h.UTSMode = "host" },
		"user namespace host":   func(h *container.HostConfig) { h.UsernsMode = "host" },
		"group 999":             func(h *container.HostConfig) { h.GroupAdd = []string{"999"} },
		"every port published":  func(h *container.HostConfig) { h.PublishAllPorts = true },
		"restart policy no":     func(h *container.HostConfig) { h.RestartPolicy.Name = "" },
		"restart policy always": func(h *container.HostConfig) { h.RestartPolicy.Name = "always" },
		"device /dev/sda":       func(h *container.HostConfig) { h.Devices = []container.DeviceMapping{{PathOnHost: "/dev/sda"}} },
		"devices a *:* rwm":     func(h *container.HostConfig) { h.DeviceCgroupRules = []string{"a *:* rwm"} },
		"devices of driver any": func(h *container.HostConfig) { h.DeviceRequests = []container.DeviceRequest{{}} },
	} {
		f := inspectedOf(func(c *container.InspectResponse) { otherwise(c.HostConfig) })
		if d := cmp.Diff([]string{want}, f.Rights); d != "" {
			t.Errorf("%s (-want +got):\n%s", want, d)
		}
	}
	f := inspectedOf(func(c *container.InspectResponse) { c.HostConfig.SecurityOpt = []string{"no-new-privileges:true"} })
	if len(f.Rights) != 0 {
		t.Errorf("the same in other words: %q", f.Rights)
	}
}

func TestEveryMountThatOcisyncMakesNoneOfIsSeen(t *testing.T) {
	f := inspectedOf(func(c *container.InspectResponse) {
		h := c.HostConfig
		h.Binds = []string{"/var/run/docker.sock:/var/run/docker.sock"}
		h.VolumesFrom = []string{"other"}
		h.Mounts = append(h.Mounts,
			mount.Mount{Type: mount.TypeBind, Source: "/etc", Target: "/hostetc", ReadOnly: true},
			mount.Mount{Type: mount.TypeBind, Source: "/mnt", Target: "/mnt", BindOptions: &mount.BindOptions{Propagation: mount.PropagationRShared}},
			mount.Mount{Type: mount.TypeVolume, Source: "v", Target: "/data/storage"})
	})
	if d := cmp.Diff([]Mount{{"/data", true}, {"/data/ocisync", false}}, f.Mounts); d != "" {
		t.Errorf("mounts (-want +got):\n%s", d)
	}
	want := []string{"/etc:/hostetc (read-only)", "/mnt:/mnt (rshared)", "/var/run/docker.sock:/var/run/docker.sock", "volume v:/data/storage", "volumes of container other"}
	if d := cmp.Diff(want, f.Others); d != "" {
		t.Errorf("others (-want +got):\n%s", d)
	}
}

// TestAContainerThatSomebodyMadeAnewIsMadeAnew, where it kept the labels.
func TestAContainerThatSomebodyMadeAnewIsMadeAnew(t *testing.T) {
	for what, c := range map[string]struct {
		otherwise func(*found)
		running   string
	}{
		"mounts": {func(f *found) { f.Others = []string{"/etc:/hostetc"} }, "/etc:/hostetc"},
		"rights": {func(f *found) { f.Rights = []string{"privileged", "writable root"} }, "privileged, writable root"},
	} {
		for doing, do := range map[string]func(*harbour) (Outcome, error){
			"up":      func(h *harbour) (Outcome, error) { return h.Up(t.Context()) },
			"restart": func(h *harbour) (Outcome, error) { return h.Restart(t.Context()) },
		} {
			h := newHarbour(t)
			h.up()
			c.otherwise(h.one())
			before := h.one().ID
			d, err := h.Differences(t.Context())
			if diff := cmp.Diff([]Difference{{What: what, Running: c.running}}, d); diff != "" || err != nil {
				t.Errorf("%s: differences: %v (-want +got):\n%s", what, err, diff)
			}
			m, err := h.Made(t.Context())
			if err != nil || len(m.Others)+len(m.Rights) == 0 {
				t.Errorf("%s: made %+v, %v", what, m, err)
			}
			out, err := do(h)
			if err != nil || len(out.Changed) != 1 || out.Changed[0].What != what {
				t.Errorf("%s: %s changed %+v, %v", what, doing, out, err)
			}
			if now := h.one(); now.ID == before || !now.Running || len(now.Others)+len(now.Rights) != 0 {
				t.Errorf("%s: after %s: %+v", what, doing, now)
			}
		}
	}
}

// TestWhatAContainerWasGivenBesidesIsSeen: it is neither its image's own nor from
// ocisync.
func TestWhatAContainerWasGivenBesidesIsSeen(t *testing.T) {
	for want, otherwise := range map[string]func(*found){
		"variable REGISTRY_AUTH": func(f *found) { f.Env = append(f.Env, "REGISTRY_AUTH=none") },
		"variable A":             func(f *found) { f.Env = []string{"A=2", "PATH=/bin"} },
		"program sh -c":          func(f *found) { f.Entrypoint = []string{"sh", "-c"} },
		"user 7":                 func(f *found) { f.User = "7" },
		"": func(f *found) {
			f.Labels = map[string]string{labelMode: "dev", labelData: f.Labels[labelData], labelAsked: f.Labels[labelAsked], labelSpec: f.Labels[labelSpec]}
		}, // of an earlier ocisync
	} {
		h := newHarbour(t)
		h.memory.says = own{Entrypoint: []string{"/registry"}, Env: []string{"PATH=/bin"}, User: "65532"}
		merged := func() *found { // as the engine does
			c := h.one()
			c.Entrypoint, c.Env = h.memory.says.Entrypoint, append(slices.Clone(c.Env), h.memory.says.Env...)
			if c.User == "" {
				c.User = h.memory.says.User
			}
			return c
		}
		h.up()
		merged()
		if m, err := h.Made(t.Context()); err != nil || len(m.Rights) != 0 {
			t.Fatalf("%s: as it was made: %+v, %v", want, m, err)
		}
		otherwise(h.one())
		m, err := h.Made(t.Context())
		if err != nil || strings.Join(m.Rights, ", ") != want {
			t.Errorf("%s: made %+v, %v", want, m, err)
		}
		if d, err := h.Differences(t.Context()); err != nil || len(d) != len(m.Rights) {
			t.Errorf("%s: differences %v, %v", want, d, err)
		}
		before := h.one().ID
		if h.up(); (h.one().ID != before) != (want != "") {
			t.Errorf("%s: up left %+v", want, h.one())
		}
		h.memory.fails["own"] = ErrNoImage
		if _, err := h.Made(t.Context()); err != nil {
			t.Errorf("%s: with an image that is gone: %v", want, err)
		}
	}
}

func TestArgumentsThatSomebodyChangedAreSeen(t *testing.T) {
	h := newHarbour(t)
	h.up()
	h.one().Args = []string{"serve", "/data/other.json"}
	if m, err := h.Made(t.Context()); err != nil || !slices.Equal(m.Args, h.one().Args) {
		t.Errorf("made %+v, %v", m, err)
	}
	want := []Difference{{What: "arguments", Running: "serve /data/other.json", Wanted: "serve"}}
	if d, err := h.Differences(t.Context()); err != nil || !cmp.Equal(d, want) {
		t.Errorf("differences %v, %v", d, err)
	}
	h.up()
	if m, err := h.Made(t.Context()); err != nil || len(m.Args) != 0 {
		t.Errorf("made anew: %+v, %v", m, err)
	}
}

// TestAUserThatIsNotTheOwnerOfTheDataIsARight that ocisync does not give.
func TestAUserThatIsNotTheOwnerOfTheDataIsARight(t *testing.T) {
	h := newHarbour(t)
	h.up()
	ownedBySomebody(t, h.o.data())
	h.one().User = "0:0"
	if m, err := h.Made(t.Context()); err != nil || !cmp.Equal(m.Rights, []string{"user 0:0"}) {
		t.Errorf("made %+v, %v", m, err)
	}
	h.up()
	if m, err := h.Made(t.Context()); err != nil || len(m.Rights) != 0 {
		t.Errorf("made anew: %+v, %v", m, err)
	}
}

// ownedBySomebody makes a directory one that is not root's.
func ownedBySomebody(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(dir, 4711, 4712); err != nil {
		t.Fatal(err)
	}
}

func TestEveryPublishedAddressIsSeen(t *testing.T) {
	f := inspectedOf(func(c *container.InspectResponse) {
		c.HostConfig.PortBindings = nat.PortMap{
			"5000/tcp": {{HostIP: "127.0.0.1", HostPort: "5000"}, {HostIP: "0.0.0.0", HostPort: "5001"}},
			"22/tcp":   {{HostPort: "2222"}},
		}
	})
	f.at("127.0.0.1:5000")
	if got, want := f.addresses(), "127.0.0.1:5000, 0.0.0.0:5001, :2222 (port 22)"; got != want || f.Port != 5000 {
		t.Errorf("%q, port %d; want %q", got, f.Port, want)
	}
}

func TestAContainerOffItsNetworkIsSeen(t *testing.T) {
	mine := map[string]*network.EndpointSettings{"ocisync-dev": {NetworkID: "26f8"}}
	for name, c := range map[string]struct {
		mode string
		on   map[string]*network.EndpointSettings
		off  bool
	}{
		"on it":       {"ocisync-dev", mine, false},
		"by its id":   {"26f8", mine, false},
		"off it":      {"ocisync-dev", map[string]*network.EndpointSettings{}, true},
		"on another":  {"ocisync-dev", map[string]*network.EndpointSettings{"other": {NetworkID: "1111"}}, true},
		"the host's":  {"host", nil, false},
		"the default": {"default", nil, false},
	} {
		f := inspectedOf(func(r *container.InspectResponse) {
			r.HostConfig.NetworkMode = container.NetworkMode(c.mode)
			r.NetworkSettings = &container.NetworkSettings{Networks: c.on}
		})
		if f.Off != c.off {
			t.Errorf("%s: off %t", name, f.Off)
		}
	}
}
