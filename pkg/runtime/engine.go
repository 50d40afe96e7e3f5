package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"
)

// docker is a Docker engine. All that is known of its API is in this file.
type docker struct{ client *client.Client }

// dockerEngine finds the engine that DOCKER_HOST names, else this host's own.
// It speaks the newest version of the API that both know; 20.10 has 1.41.
func dockerEngine() (engine, error) {
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("DOCKER_HOST and its like: %w; correct or unset them", err)
	}
	return docker{c}, nil
}

// noNetwork is what the engine says of a network that was removed. A container has
// the one that it was made with, and another of that name does not do.
var noNetwork = regexp.MustCompile(`network \S+ not found`)

// errAmbiguous says that there are several networks of one name.
var errAmbiguous = errors.New("there are several")

// explained says of an error what it means and what to do.
func (d docker) explained(err error) error {
	host := d.client.DaemonHost()
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "permission denied while trying to connect"):
		return fmt.Errorf("%w: this user may not open %s; add the user to the group docker, or run ocisync as root", ErrNoEngine, host)
	case client.IsErrConnectionFailed(err):
		return fmt.Errorf("%w at %s; start it (systemctl start docker), or say in DOCKER_HOST where it is", ErrNoEngine, host)
	}
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	switch {
	case noNetwork.MatchString(text):
		return fmt.Errorf("%w: %s; make it (docker network create), or correct registry.run.network", ErrNoNetwork, text)
	case strings.Contains(text, "port is already allocated"), strings.Contains(text, "address already in use"):
		return fmt.Errorf("%w: %s", ErrTaken, text)
	case strings.Contains(text, "is ambiguous"):
		return fmt.Errorf("%w: %s; remove all of that name but one (docker network ls, docker network rm ID)", errAmbiguous, text)
	case strings.Contains(text, "bind source path does not exist"):
		text += "; see that it is on the host of the engine"
	}
	return errors.New(text)
}

func (d docker) describe(ctx context.Context) (name string, local bool) {
	host := d.client.DaemonHost()
	local = strings.HasPrefix(host, "unix://")
	v, err := d.client.ServerVersion(ctx)
	if err != nil {
		return "the Docker engine at " + host, local
	}
	return "Docker engine " + v.Version + " at " + host, local
}

func (d docker) inspect(ctx context.Context, name string) (*found, error) {
	c, err := d.client.ContainerInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, d.explained(err)
	}
	if c.ContainerJSONBase == nil || c.Config == nil || c.HostConfig == nil || c.State == nil {
		return nil, errors.New("the engine tells too little of container " + name)
	}
	return inspected(c), nil
}

// inspected is a container as the engine tells of it.
func inspected(c container.InspectResponse) *found {
	f := &found{
		ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), Labels: c.Config.Labels,
		Running: c.State.Running && !c.State.Restarting, Paused: c.State.Paused, Started: instant(c.State.StartedAt), Ended: instant(c.State.FinishedAt),
		Code: c.State.ExitCode, Failure: c.State.Error, Restarts: c.RestartCount,
		box: box{
			Image: c.Config.Image, Entrypoint: c.Config.Entrypoint, Args: c.Config.Cmd, Env: c.Config.Env, User: c.Config.User,
			Network: string(c.HostConfig.NetworkMode), Grace: usualGrace, imageID: c.Image,
		},
	}
	if c.Config.StopTimeout != nil {
		f.Grace = time.Duration(*c.Config.StopTimeout) * time.Second
	}
	f.Mounts, f.Others = mounted(c.HostConfig)
	f.Rights = rights(c.HostConfig)
	f.Off = off(c)
	for port, bindings := range c.HostConfig.PortBindings {
		for _, b := range bindings {
			f.Published = append(f.Published, published{net.JoinHostPort(b.HostIP, b.HostPort), port.Int()})
		}
	}
	slices.SortFunc(f.Published, func(a, b published) int { return cmp.Or(cmp.Compare(a.Listen, b.Listen), cmp.Compare(a.Port, b.Port)) })
	f.at("")
	return f
}

// off reports whether somebody took a container off its network. Of what is no
// network of the engine's that is not asked.
func off(c container.InspectResponse) bool {
	mode := c.HostConfig.NetworkMode
	if c.NetworkSettings == nil || !mode.IsUserDefined() && !mode.IsBridge() {
		return false
	}
	for name, n := range c.NetworkSettings.Networks {
		if name == string(mode) || n != nil && strings.HasPrefix(n.NetworkID, string(mode)) {
			return false
		}
	}
	return true
}

// mounted are the mounts that ocisync may have made, and the others, as docker run
// has them.
func mounted(h *container.HostConfig) (list []Mount, others []string) {
	others = slices.Clone(h.Binds)
	for _, name := range h.VolumesFrom {
		others = append(others, "volumes of container "+name)
	}
	for _, m := range h.Mounts {
		private := m.BindOptions == nil || m.BindOptions.Propagation == "" || m.BindOptions.Propagation == mount.PropagationRPrivate
		if m.Type == mount.TypeBind && m.Source == m.Target && private {
			list = append(list, Mount{m.Source, !m.ReadOnly})
			continue
		}
		text := m.Source + ":" + m.Target
		if m.Type != mount.TypeBind {
			text = string(m.Type) + " " + text
		}
		if m.ReadOnly {
			text += " (read-only)"
		}
		if !private {
			text += " (" + string(m.BindOptions.Propagation) + ")"
		}
		others = append(others, text)
	}
	slices.Sort(others)
	return list, others
}

// rights lists what a container may that ocisync lets none, and when it is started
// again: see confined and create.
func rights(h *container.HostConfig) []string {
	var out []string
	note := func(is bool, what string) {
		if is {
			out = append(out, what)
		}
	}
	each := func(what string, list []string) {
		for _, x := range list {
			out = append(out, what+x)
		}
	}
	note(h.Privileged, "privileged")
	note(!slices.ContainsFunc(h.CapDrop, func(c string) bool { return strings.EqualFold(c, noCapability) }), "usual capabilities")
	each("capability ", h.CapAdd)
	note(!h.ReadonlyRootfs, "writable root")
	note(!slices.ContainsFunc(h.SecurityOpt, keepsPrivileges), "new privileges")
	each("", slices.DeleteFunc(slices.Clone(h.SecurityOpt), keepsPrivileges))
	note(h.MaskedPaths != nil && len(h.MaskedPaths) == 0 || h.ReadonlyPaths != nil && len(h.ReadonlyPaths) == 0, "unmasked system paths")
	for path, options := range h.Tmpfs {
		note(path != tmp || options != tmpOptions, "tmpfs "+path+":"+options)
	}
	note(h.IpcMode.IsHost() || h.IpcMode.IsContainer(), "ipc namespace "+string(h.IpcMode))
	note(h.PidMode != "", "pid namespace "+string(h.PidMode))
	note(h.UTSMode != "", "uts namespace "+string(h.UTSMode))
	note(h.UsernsMode != "", "user namespace "+string(h.UsernsMode))
	each("group ", h.GroupAdd)
	note(h.PublishAllPorts, "every port published")
	note(h.RestartPolicy.Name != container.RestartPolicyUnlessStopped, "restart policy "+or(string(h.RestartPolicy.Name), string(container.RestartPolicyDisabled)))
	for _, d := range h.Devices {
		note(true, "device "+d.PathOnHost)
	}
	each("devices ", h.DeviceCgroupRules)
	for _, d := range h.DeviceRequests {
		note(true, "devices of driver "+or(d.Driver, "any"))
	}
	slices.Sort(out)
	return out
}

// keepsPrivileges reports whether a security option is the one that ocisync sets.
func keepsPrivileges(option string) bool {
	value, is := strings.CutPrefix(option, noNewPrivileges)
	return is && (value == "" || value == ":true" || value == "=true")
}

func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 { // the engine's "never"
		return time.Time{}
	}
	return t
}

const (
	noCapability    = "ALL" // is dropped
	noNewPrivileges = "no-new-privileges"
	tmp             = "/tmp"
	tmpOptions      = "rw,noexec,nosuid,nodev,mode=1777"
)

// confined is as little right as a registry can do with: no capability, no new
// privilege, a root that cannot be written. What changes here counts bounds up, and
// is compared in rights.
func confined() *container.HostConfig {
	return &container.HostConfig{
		ReadonlyRootfs: true,
		CapDrop:        []string{noCapability},
		SecurityOpt:    []string{noNewPrivileges},
		Tmpfs:          map[string]string{tmp: tmpOptions},
	}
}

// create makes a confined container.
func (d docker) create(ctx context.Context, name string, b box, labels map[string]string) (string, error) {
	host, port, err := net.SplitHostPort(b.Listen)
	if err != nil {
		return "", err
	}
	if host != "" && net.ParseIP(host) == nil {
		return "", fmt.Errorf("the engine listens at addresses, and %s is a name; name an address in registry.run.listen, such as 127.0.0.1:%s", host, port)
	}
	inside := nat.Port(strconv.Itoa(b.Port) + "/tcp")
	grace := int(b.Grace / time.Second)
	config := &container.Config{
		Image: b.Image, Entrypoint: b.Entrypoint, Cmd: b.Args, Env: b.Env, User: b.User, Labels: labels,
		ExposedPorts: nat.PortSet{inside: {}}, StopSignal: "SIGTERM", StopTimeout: &grace,
		// the engine asks by a program of the image's, and an image of a registry
		// alone has none; the image's own question knows neither port nor certificate
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	hostConfig := confined()
	hostConfig.NetworkMode = container.NetworkMode(b.Network)
	hostConfig.PortBindings = nat.PortMap{inside: {{HostIP: host, HostPort: port}}}
	hostConfig.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyUnlessStopped}
	hostConfig.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "16m", "max-file": "3"}}
	for _, m := range b.Mounts {
		hostConfig.Mounts = append(hostConfig.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Path, Target: m.Path, ReadOnly: !m.Writable})
	}
	made, err := d.client.ContainerCreate(ctx, config, hostConfig, nil, nil, name)
	return made.ID, d.explained(err)
}

func (d docker) start(ctx context.Context, id string) error {
	return d.explained(d.client.ContainerStart(ctx, id, container.StartOptions{}))
}

func (d docker) stop(ctx context.Context, id string, grace time.Duration) error {
	seconds := int(grace / time.Second)
	return d.explained(d.client.ContainerStop(ctx, id, container.StopOptions{Signal: "SIGTERM", Timeout: &seconds}))
}

func (d docker) remove(ctx context.Context, id string) error {
	err := d.client.ContainerRemove(ctx, id, container.RemoveOptions{Force: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return d.explained(err)
}

func (d docker) exec(ctx context.Context, id string, command []string, stdout, stderr io.Writer) (int, error) {
	made, err := d.client.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, d.explained(err)
	}
	r, err := d.client.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return 0, d.explained(err)
	}
	defer r.Close()
	defer context.AfterFunc(ctx, r.Close)()
	_, err = stdcopy.StdCopy(stdout, stderr, r.Reader)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return 0, err
	}
	for { // what it says may end a moment before itself
		now, err := d.client.ContainerExecInspect(ctx, made.ID)
		switch {
		case errdefs.IsNotFound(err): // and so is the container
			return 0, nil
		case err != nil:
			return 0, d.explained(err)
		case !now.Running:
			return now.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d docker) rename(ctx context.Context, id, name string) error {
	return d.explained(d.client.ContainerRename(ctx, id, name))
}

func (d docker) of(ctx context.Context, label, value string) ([]string, error) {
	list, err := d.client.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label+"="+value))})
	if err != nil {
		return nil, d.explained(err)
	}
	var names []string
	for _, c := range list {
		for _, n := range c.Names {
			if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") { // others are of links
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d docker) image(ctx context.Context, ref string) (string, error) {
	i, err := d.client.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return "", fmt.Errorf("image %s: %w here; let ocisync up pull it, or load it with docker load", ref, ErrNoImage)
	}
	return i.ID, d.explained(err)
}

func (d docker) own(ctx context.Context, id string) (own, error) {
	i, err := d.client.ImageInspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return own{}, ErrNoImage
	}
	if err != nil || i.Config == nil {
		return own{}, d.explained(err)
	}
	return own{i.Config.Entrypoint, i.Config.Env, i.Config.User}, nil
}

// pull reads what the engine tells of a pull, layer by layer.
func (d docker) pull(ctx context.Context, ref string, progress func(done, total int64)) error {
	missing := func(err error) error {
		return fmt.Errorf("%w, and it cannot be pulled (%w); correct registry.run.image, or load it with docker load or docker pull", ErrNoImage, err)
	}
	r, err := d.client.ImagePull(ctx, ref, image.PullOptions{})
	if err != nil {
		if e := d.explained(err); errors.Is(e, ErrNoEngine) || ctx.Err() != nil {
			return e
		}
		return missing(d.explained(err))
	}
	defer r.Close()
	type layer struct{ done, total int64 }
	layers := map[string]layer{}
	dec := json.NewDecoder(r)
	for {
		var m struct {
			ID       string `json:"id"`
			Status   string `json:"status"`
			Error    string `json:"error"`
			Progress struct {
				Current int64 `json:"current"`
				Total   int64 `json:"total"`
			} `json:"progressDetail"`
		}
		switch err := dec.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return missing(err)
		case m.Error != "":
			return missing(errors.New(m.Error))
		}
		if m.Status != "Downloading" && m.Status != "Download complete" {
			continue
		}
		l := layers[m.ID]
		if m.Progress.Total > 0 {
			l = layer{m.Progress.Current, m.Progress.Total}
		}
		if m.Status == "Download complete" {
			l.done = l.total
		}
		layers[m.ID] = l
		var sum layer
		for _, l := range layers {
			sum.done, sum.total = sum.done+l.done, sum.total+l.total
		}
		progress(sum.done, sum.total)
	}
}

// network has one network of a name, also where two processes make one at once: an
// engine makes both, and says of every use of them that the name is ambiguous. Both
// processes keep the one that was there first.
func (d docker) network(ctx context.Context, name string, labels map[string]string) error {
	list, err := d.networks(ctx, name)
	if err == nil && len(list) == 0 {
		_, err = d.client.NetworkCreate(ctx, name, network.CreateOptions{Driver: "bridge", Labels: labels})
		if err == nil || errdefs.IsConflict(err) {
			list, err = d.networks(ctx, name)
		}
	}
	if err != nil || len(list) == 0 {
		return d.explained(err)
	}
	for _, n := range list[1:] {
		if err := d.dropOne(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// networks lists those of a name, the earliest first.
func (d docker) networks(ctx context.Context, name string) ([]network.Summary, error) {
	list, err := d.client.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", name))})
	list = slices.DeleteFunc(list, func(n network.Summary) bool { return n.Name != name }) // the engine looks for parts of names
	slices.SortFunc(list, func(a, b network.Summary) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return list, err
}

// dropOne removes a network that we made and nobody uses, and leaves any other.
func (d docker) dropOne(ctx context.Context, n network.Summary) error {
	if _, ours := n.Labels[labelMode]; !ours {
		return nil
	}
	err := d.client.NetworkRemove(ctx, n.ID)
	if errdefs.IsNotFound(err) || errdefs.IsPermissionDenied(err) { // gone, or in use
		return nil
	}
	return d.explained(err)
}

// host goes by what this host has: an engine tells no gateway of a network whose
// subnet somebody chose, and one that runs in a machine of its own, or without
// root, has networks that are not here.
func (d docker) host(ctx context.Context, name string) (address, why string, err error) {
	at := d.client.DaemonHost()
	if !strings.HasPrefix(at, "unix://") {
		return "", fmt.Sprintf("the engine at %s is not this host's for certain; run ocisync beside the engine, with DOCKER_HOST unset or unix://...", at), nil
	}
	info, err := d.client.Info(ctx)
	if err != nil {
		return "", "", d.explained(err)
	}
	if slices.ContainsFunc(info.SecurityOptions, func(o string) bool { return strings.HasPrefix(o, "name=rootless") }) {
		return "", fmt.Sprintf("the engine at %s is rootless, and its networks have no address of this host; use the system's engine", at), nil
	}
	n, err := d.client.NetworkInspect(ctx, name, network.InspectOptions{})
	switch {
	case errdefs.IsNotFound(err):
		return "", "", nil
	case err != nil:
		return "", "", d.explained(err)
	case n.Driver != "bridge":
		return "", fmt.Sprintf("network %s is of driver %s, and a bridge alone has an address of this host; leave registry.run.network out, or name a bridge", name, n.Driver), nil
	}
	here, err := net.InterfaceAddrs()
	if err != nil {
		return "", "", err
	}
	for _, c := range n.IPAM.Config {
		for _, a := range here {
			if at, ok := a.(*net.IPNet); ok && (at.IP.String() == c.Gateway || c.Gateway == "" && at.String() == within(at.IP, c.Subnet)) {
				return at.IP.String(), "", nil
			}
		}
	}
	return "", fmt.Sprintf("no address of network %s is this host's, as where the engine runs in a machine of its own; run ocisync on the engine's host, or leave registry.run.network out", name), nil
}

// within is an address as one of a subnet, which it may not lie in.
func within(ip net.IP, subnet string) string {
	_, size, _ := strings.Cut(subnet, "/")
	if _, n, err := net.ParseCIDR(subnet); err != nil || !n.Contains(ip) {
		return ""
	}
	return ip.String() + "/" + size
}

func (d docker) dropNetwork(ctx context.Context, name string) error {
	list, err := d.networks(ctx, name)
	if err != nil {
		return d.explained(err)
	}
	for _, n := range list {
		if err := d.dropOne(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (d docker) log(ctx context.Context, id string, since time.Time, tail int, more bool) (io.ReadCloser, error) {
	o := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: more, Tail: "all"}
	if !since.IsZero() {
		o.Since = since.UTC().Format(time.RFC3339Nano)
	}
	if tail > 0 {
		o.Tail = strconv.Itoa(tail)
	}
	r, err := d.client.ContainerLogs(ctx, id, o)
	if err != nil {
		return nil, d.explained(err)
	}
	out, in := io.Pipe()
	go func() {
		_, err := stdcopy.StdCopy(in, in, r)
		in.CloseWithError(errors.Join(err, r.Close()))
	}()
	return out, nil
}
