package distribution

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

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
	if p.registry.Driver() != schema.DriverProcess || p.process == nil {
		return report, p.jobError(jobGC, fmt.Errorf("ocisync collects for a registry that it runs as a process: %w", providers.ErrUnsupported),
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
	if err := p.orphans(ctx, now.doc, dry, report); err != nil {
		return report, err
	}
	_, ran, err := p.running(ctx)
	if err != nil {
		return report, err
	}
	if !dry {
		if err := p.takePushes(ctx, false); err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, p.takePushes(context.WithoutCancel(ctx), true)) }()
		if _, runs, err := p.running(ctx); err != nil || runs != ran {
			return report, errors.Join(err, p.jobError(jobGC, errors.New("it was started or stopped meanwhile, and may take pushes"), "run it again"))
		}
	}
	if err := p.garbage(ctx, untagged, true, p.filesystem(), report); err != nil || dry {
		return report, err
	}
	return report, p.garbage(ctx, untagged, false, "", &providers.Collected{})
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
// of the blobs below root, before they go.
func (p *Provider) garbage(ctx context.Context, untagged, dry bool, root string, report *providers.Collected) error {
	if root != "" {
		if _, err := os.Stat(filepath.Join(root, "docker/registry/v2/repositories")); errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was ever pushed, which the program takes for a failure
		}
	}
	args := []string{"garbage-collect", p.place.Config}
	if untagged {
		args = append(args, "--delete-untagged")
	}
	if dry {
		args = append(args, "--dry-run")
	}
	cmd := exec.CommandContext(ctx, p.registry.Run.Binary, args...)
	cmd.Env = []string{"OTEL_TRACES_EXPORTER=none"}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var said tail
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return p.jobError(jobGC, err, "correct registry.run.binary")
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "blob eligible for deletion: "):
			report.Blobs++
			report.Bytes += blobSize(root, strings.TrimPrefix(line, "blob eligible for deletion: "))
		case strings.HasPrefix(line, "manifest eligible for deletion: "):
			report.Manifests++
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return p.jobError(jobGC, fmt.Errorf("%w: %s", err, &said), "look at what it says; it can be run again")
	}
	return nil
}

// blobSize is 0 where it is not known.
func blobSize(root, digest string) int64 {
	algorithm, hex, ok := strings.Cut(strings.TrimSpace(digest), ":")
	if root == "" || !ok || len(hex) < 2 || strings.ContainsAny(algorithm+hex, "/.") {
		return 0
	}
	info, err := os.Stat(filepath.Join(root, "docker/registry/v2/blobs", algorithm, hex[:2], hex, "data"))
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

func (t *tail) String() string { return strings.TrimSpace(strings.ToValidUTF8(string(t.b), "")) }
