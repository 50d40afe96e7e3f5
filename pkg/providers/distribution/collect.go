package distribution

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

const readOnly = "storage.maintenance.readonly.enabled"

// collect has Distribution's own program remove what no manifest needs. That is
// not safe beside pushes, so the registry is restarted read-only for as long as
// it lasts. That it takes pushes is one of ocisync's own settings: after a run
// that was killed the plan says that it does not, and the next run mends it too.
func (p *Provider) collect(ctx context.Context, dry bool) (_ *providers.Collected, err error) {
	report := &providers.Collected{Repositories: []string{}}
	if p.registry.Run == nil || p.process == nil {
		return report, p.jobError(jobGC, fmt.Errorf("ocisync collects for a registry that it runs: %w", providers.ErrUnsupported),
			"stop the registry or make it read-only, then run `registry garbage-collect` where it runs")
	}
	now, err := p.file()
	if err != nil {
		return report, err
	}
	if n := now.doc.get("storage.cache.blobdescriptor"); n != nil && n.Value == "redis" {
		return report, p.jobError(jobGC, errors.New("a cache in Redis would go on telling of what is gone, and pushes would leave it out"),
			"take storage.cache out of the settings")
	}
	untagged := false
	st, err := p.accounts.Read(ctx, schema.ScopeOf(schema.KindGC))
	if err != nil {
		return report, err
	}
	for _, r := range st.Resources {
		if spec, ok := r.Spec.(*schema.GC); ok && spec.Untagged != nil {
			untagged = *spec.Untagged
		}
	}
	_, ran, err := p.running(ctx)
	if err != nil {
		return report, err
	}
	if p.contained() && !ran {
		return report, p.jobError(jobGC, errors.New("its container does not run, and its program runs nowhere else"), "start it with `ocisync up`")
	}
	switch empty, err := p.look(p.filesystem()); {
	case err != nil:
		return report, err
	case empty && !dry && readsOnly(now.doc): // one before was killed
		return report, p.takePushes(context.WithoutCancel(ctx), true)
	case empty:
		return report, nil
	}
	if err := p.orphans(ctx, now.doc, untagged, dry, report); err != nil {
		return report, err
	}
	if !dry {
		if n := now.doc.get(readOnly); n != nil && n.Value == "true" && p.contained() {
			// one before was killed, and what it left may be at work in there
			if err := p.again(ctx); err != nil {
				return report, err
			}
		}
		defer func() { err = errors.Join(err, p.takePushes(context.WithoutCancel(ctx), true)) }()
		if err := p.takePushes(ctx, false); err != nil {
			return report, err
		}
		if _, runs, err := p.running(ctx); err != nil || runs != ran {
			return report, errors.Join(err, p.jobError(jobGC, errors.New("it was started or stopped meanwhile, and may take pushes"), "run it again"))
		}
	}
	if err := p.garbage(ctx, untagged, true, p.filesystem(), report, nil); err != nil || dry {
		return report, err
	}
	return report, p.garbage(ctx, untagged, false, "", &providers.Collected{}, nil)
}

// takePushes restarts a registry that runs so that it takes pushes, or none.
func (p *Provider) takePushes(ctx context.Context, yes bool) error {
	now, err := p.file()
	if err != nil {
		return err
	}
	if err := now.doc.set(readOnly, fmt.Sprint(!yes)); err != nil {
		return p.configError("writing settings", err)
	}
	next, err := now.doc.bytes()
	if err != nil {
		return p.configError("writing settings", err)
	}
	return p.takeOver(ctx, now.bytes, next)
}

// garbage runs the program once and adds up what it says; the sizes are those
// of the blobs below root, before they go. manifest, which may be nil, is told of
// each that goes.
func (p *Provider) garbage(ctx context.Context, untagged, dry bool, root string, report *providers.Collected, manifest func(subject)) error {
	args := []string{"garbage-collect", p.place.Config}
	if untagged {
		args = append(args, "--delete-untagged")
	}
	if dry {
		args = append(args, "--dry-run")
	}
	var said tail
	out, in := io.Pipe()
	go func() { in.CloseWithError(p.program(ctx, args, in, &said)) }()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "blob eligible for deletion: "):
			report.Blobs++
			report.Bytes += blobSize(root, strings.TrimPrefix(line, "blob eligible for deletion: "))
		case strings.HasPrefix(line, "manifest eligible for deletion: "):
			report.Manifests++
			if name, rest, ok := strings.Cut(strings.TrimPrefix(line, "manifest eligible for deletion: {"), " "); ok && manifest != nil {
				d, _, _ := strings.Cut(rest, " ")
				manifest(subject{name, digest.Digest(d)})
			}
		}
	}
	if err := lines.Err(); err != nil {
		out.CloseWithError(err)
		if said.emptyStore() {
			return nil
		}
		if text := said.String(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return p.jobError(jobGC, err, "look at what it says; it can be run again")
	}
	return nil
}

// contained reports whether the registry runs in a container.
func (p *Provider) contained() bool { return p.registry.Driver() == schema.DriverDocker }

// program runs the registry's program with other arguments: in its container, if
// it has one, and ends with that.
func (p *Provider) program(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if p.contained() {
		c, ok := p.process.(providers.Commander)
		if !ok {
			return fmt.Errorf("running another program in its container: %w", providers.ErrUnsupported)
		}
		return c.Command(ctx, args, stdout, stderr)
	}
	cmd := exec.CommandContext(ctx, p.registry.Run.Binary, args...)
	cmd.Env = []string{"OTEL_TRACES_EXPORTER=none"}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if !slices.Contains(args, "--dry-run") {
		held, err := p.collector()
		if err != nil {
			return err
		}
		defer held.Close()
		cmd.ExtraFiles = []*os.File{held}
	}
	return cmd.Run()
}

// collector is the lock that a program which collects holds as long as it lives,
// even if who started it was killed.
func (p *Provider) collector() (*os.File, error) {
	f, err := os.OpenFile(p.lockFile("collect.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another program collects: %w", err), f.Close())
	}
	return f, nil
}

// blobSize is 0 where it is not known.
func blobSize(root, of string) int64 {
	algorithm, hex, ok := strings.Cut(strings.TrimSpace(of), ":")
	if root == "" || !ok || len(hex) < 2 || strings.ContainsAny(algorithm+hex, "/.") {
		return 0
	}
	info, err := os.Lstat(filepath.Join(root, contentDir, "blobs", algorithm, hex[:2], hex, "data"))
	if err != nil {
		return 0
	}
	return info.Size()
}

// tail keeps the end of what is written.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	const most = 2 << 10
	t.b = append(t.b, b...)
	if len(t.b) > most {
		t.b = append([]byte{}, t.b[len(t.b)-most:]...)
	}
	return len(b), nil
}

// emptyStore reports whether a program failed because nothing, or no blob, was ever
// pushed to the store, as Distribution 3.1.2 does.
func (t *tail) emptyStore() bool {
	text := t.String()
	return slices.ContainsFunc(everPushed(), func(dir string) bool { return strings.HasSuffix(text, "Path not found: /"+dir) })
}

func (t *tail) String() string { return strings.TrimSpace(strings.ToValidUTF8(string(t.b), "")) }
