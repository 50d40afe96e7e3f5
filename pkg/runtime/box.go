package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// box is a container as it is wanted, or was made.
type box struct {
	Image      string   `json:"image"`
	Entrypoint []string `json:"entrypoint,omitempty"` // nil: the image's own
	Args       []string `json:"args"`
	Env        []string `json:"env"`  // of one that was made, the image's too
	User       string   `json:"user"` // uid:gid, or "": the image's own
	Mounts     []Mount  `json:"mounts"`
	Port       int      `json:"port"` // inside
	Face       string   `json:"face,omitempty"`
	Listen     string   `json:"listen"` // host:port outside
	Network    string   `json:"network"`
	// Grace is in whole seconds.
	Grace time.Duration `json:"grace"`
	// Bounds counts the versions of what every container is made with, such as
	// no capabilities: see create in engine.go.
	Bounds int `json:"bounds"`

	imageID string
}

// digest tells one box from another.
func (b box) digest() (string, error) {
	text, err := json.Marshal(b)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// found is a container that the engine has.
type found struct {
	box
	ID      string
	Name    string
	Labels  map[string]string
	Running bool
	Paused  bool // it runs all the same
	Started time.Time
	Ended   time.Time
	Code    int
	Off     bool // of its network, which somebody took it from
	// Published are its ports, sorted; Listen and Port are one of them.
	Published []published
	// Others are mounts of which ocisync makes none, and Rights what it lets no
	// container; both are sorted.
	Others, Rights []string
	// Restarts is how often the engine started it again since it was made.
	Restarts int
	// Failure is the engine's own word for why it does not run.
	Failure string
}

// published is a port of a container at an address of its host.
type published struct {
	Listen string
	Port   int // inside
}

// at has the container be asked at an address, if it is published there.
func (f *found) at(address string) {
	if len(f.Published) == 0 {
		return
	}
	i := max(0, slices.IndexFunc(f.Published, func(p published) bool { return p.Listen == address }))
	f.Listen, f.Port = f.Published[i].Listen, f.Published[i].Port
}

// also lists where it is published besides.
func (f *found) also() []string {
	var out []string
	for _, p := range f.Published {
		switch {
		case p == published{f.Listen, f.Port}:
		case p.Port == f.Port:
			out = append(out, p.Listen)
		default:
			out = append(out, fmt.Sprintf("%s (port %d)", p.Listen, p.Port))
		}
	}
	return out
}

// network is the one that it is on.
func (f *found) network() string {
	if f.Off {
		return "off " + f.Network
	}
	return f.Network
}

func (f *found) addresses() string {
	return strings.Join(append([]string{f.Listen}, f.also()...), ", ")
}

// has reports whether it is the container itself that has an address while it runs.
func (f *found) has(address string) bool {
	return shared(f.Listen, address) || slices.ContainsFunc(f.Published, func(p published) bool { return shared(p.Listen, address) })
}

// own is what a container has of its image where nothing else is said.
type own struct {
	Entrypoint, Env []string
	User            string
}

// given is what a container was made with besides what is its image's own.
type given struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`
}

// given is empty of a container that an earlier ocisync made.
func (f *found) given() (g given) {
	if json.Unmarshal([]byte(f.Labels[labelGiven]), &g) != nil {
		return given{}
	}
	return g
}

// asked is what the mode said of it; nothing, which counts as another, where that
// cannot be read.
func (f *found) asked() (a asked) {
	if json.Unmarshal([]byte(f.Labels[labelAsked]), &a) != nil {
		return asked{}
	}
	return a
}

// otherArgs are its arguments, where they are not those that it was made with.
func (f *found) otherArgs() (args []string, is bool) {
	made := f.given().Args
	return f.Args, len(made) > 0 && !slices.Equal(f.Args, made)
}

// labels say whose a container is, and what it is made from.
func (c *Container) labels(b box) (map[string]string, error) {
	spec, err := b.digest()
	if err != nil {
		return nil, err
	}
	asked, err := json.Marshal(c.o.asked())
	if err != nil {
		return nil, err
	}
	given, err := json.Marshal(given{b.Args, append([]string{}, b.Env...)})
	return map[string]string{
		labelMode: c.o.Mode, labelInstance: c.o.Instance, labelRegistry: c.o.Registry.URL,
		labelData: c.o.data(), labelSpec: spec, labelAsked: string(asked), labelFace: b.Face,
		labelGiven: string(given),
	}, err
}

// wanted is the container as the mode has it, but for the id of its image.
func (c *Container) wanted(ctx context.Context) (box, error) {
	run := c.o.Registry.Run
	l, err := c.o.launch(ctx)
	if err != nil {
		return box{}, err
	}
	b := box{
		Image: run.Image, Args: l.Args, Env: l.Env, Mounts: l.Mounts, Port: l.Port, Face: l.Face, Listen: c.o.listen(),
		Network: or(run.Network, c.name()), Grace: (l.Grace + time.Second - 1).Truncate(time.Second), Bounds: bounds,
	}
	if run.Binary != "" {
		b.Entrypoint = []string{run.Binary}
	}
	if err := c.o.makeOwn(); err != nil {
		return box{}, err
	}
	b.User, err = c.o.owner()
	return b, err
}

// owner is who a container runs as, "" for whoever its image says.
func (o Options) owner() (string, error) {
	info, err := os.Stat(o.data())
	if err != nil {
		return "", fmt.Errorf("%s: registry.run.data: %w; make the directory, or correct it", o.Registry.URL, err)
	}
	// root in the image is whoever the image says; see docs/run.md
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Uid == 0 {
		return "", nil
	}
	return strconv.FormatUint(uint64(s.Uid), 10) + ":" + strconv.FormatUint(uint64(s.Gid), 10), nil
}

// giveAway makes what root put into a data directory of somebody else that
// one's own: configuration and accounts, which the program must read. What is
// ocisync's alone stays root's.
func (o Options) giveAway() error {
	root, err := os.OpenRoot(o.data())
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 || os.Geteuid() != 0 {
		return nil
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		// a second name could be that of any file of this disk
		if !ok || s.Uid != 0 || e.Name() == ownDir || !e.IsDir() && (!info.Mode().IsRegular() || s.Nlink > 1) {
			continue
		}
		if err := root.Lchown(e.Name(), int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// image has the image there, from its registry if it is not.
func (c *Container) image(ctx context.Context, b *box) (err error) {
	b.imageID, err = c.engine.image(ctx, b.Image)
	if errors.Is(err, ErrNoImage) {
		c.o.Say("pulling " + b.Image)
		err = c.engine.pull(ctx, b.Image, c.o.Pulling)
		c.o.Pulling(0, 0)
		if err != nil {
			return c.fail(fmt.Errorf("image %s: %w", b.Image, err))
		}
		b.imageID, err = c.engine.image(ctx, b.Image)
	}
	return c.fail(err)
}

// differences lists in what a container is another than is wanted. Without an
// id the wanted image is not looked at.
func (f *found) differences(wanted box, rights []string) ([]Difference, error) {
	var d []Difference
	d = differing(d, "image", f.Image, wanted.Image)
	if f.Image == wanted.Image && wanted.imageID != "" {
		d = differing(d, "image", short(f.imageID), short(wanted.imageID))
	}
	if len(wanted.Entrypoint) > 0 {
		d = differing(d, "program", words(f.Entrypoint), words(wanted.Entrypoint))
	}
	if len(wanted.Args) > 0 {
		d = differing(d, "arguments", words(f.Args), words(wanted.Args))
	}
	var missing []string
	for _, v := range wanted.Env {
		if !slices.Contains(f.Env, v) {
			name, _, _ := strings.Cut(v, "=")
			missing = append(missing, name)
		}
	}
	d = differing(d, "environment", "", strings.Join(missing, " "))
	d = differing(d, "mounts", mounts(f.Mounts, f.Others...), mounts(wanted.Mounts))
	d = differing(d, "rights", strings.Join(rights, ", "), "")
	d = differing(d, "port", strconv.Itoa(f.Port), strconv.Itoa(wanted.Port))
	d = differing(d, "address", f.addresses(), wanted.Listen)
	d = differing(d, "network", f.network(), wanted.Network)
	if len(d) > 0 {
		return d, nil
	}
	spec, err := wanted.digest()
	if err != nil {
		return nil, err
	}
	if f.Labels[labelSpec] != spec {
		d = append(d, Difference{What: "settings", Running: "as they were", Wanted: "as they are now"})
	}
	return d, nil
}

func mounts(list []Mount, others ...string) string {
	out := slices.Clone(others)
	for _, m := range list {
		out = append(out, m.String())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// short is the beginning of an id, as docker prints it.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// ended says how it came to its end.
func (f *found) ended() string {
	text := fmt.Sprintf("exit status %d", f.Code)
	if f.Failure != "" {
		text += ", " + f.Failure
	}
	if f.Ended.IsZero() || f.Started.IsZero() {
		return "never started"
	}
	return fmt.Sprintf("ended %s ago: %s", time.Since(f.Ended).Round(time.Second), text)
}
