//go:build unix

// Command bench measures what ocisync promises of its speed and size, and
// holds each figure against its limit. From the root of the repository:
//
//	go run ./testdata/bench            all figures, some minutes
//	go run ./testdata/bench -quick     fewer runs and no go test, about a minute
//	go run ./testdata/bench -write     and keep the tables in docs/benchmarks.md
//	go run ./testdata/bench -cold      go test with an empty build cache too
//	go run ./testdata/bench -beside    the embedded registry beside others, and
//	                                   nothing else; see make bench-embedded
//	go run ./testdata/bench -zot       first apply and empty plan on a real Zot,
//	                                   and nothing else; see make bench-zot
//	go run ./testdata/bench -harbor    the same on the stand-in for Harbor; see
//	                                   make bench-harbor
//	go run ./testdata/bench -content   copies of a registry beside those of others;
//	                                   see make bench-content
//
// It builds the command as it is released and runs it in processes of its own,
// in one temporary directory ($TMPDIR, which should lie on a disk: the journal
// is synced). CPU is user and system time, memory the peak resident set, both
// as the system accounts for the finished process. A limit is held against the
// median. The exit code is 1 if one is exceeded.
//
// Start reading at [bench.all], or at [bench.beside]; report.go is what a figure
// is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	b := &bench{}
	flag.BoolVar(&b.quick, "quick", false, "fewer runs, the smaller sizes, and no go test")
	flag.BoolVar(&b.cold, "cold", false, "measure go test with an empty build cache too (minutes)")
	flag.BoolVar(&b.others, "beside", false, "compare the embedded registry with those in bin/servers, instead of all else")
	flag.BoolVar(&b.zot, "zot", false, "apply to the Zot in bin/servers, or the one that OCISYNC_ZOT names, instead of all else")
	flag.BoolVar(&b.copy, "content", false, "copy a registry, as others do, instead of all else")
	flag.BoolVar(&b.harbor, "harbor", false, "apply to a stand-in for Harbor, instead of all else")
	write := flag.Bool("write", false, "keep the tables in "+document)
	flag.Parse()
	// What this program holds is counted into what it measures: see taken.
	debug.SetGCPercent(20)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, *write); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// bench is one run of this program.
type bench struct {
	quick, cold, others, zot, harbor, copy bool

	dir      string // temporary
	bin      string // the command measured
	env      []string
	sections []section
}

func (b *bench) run(ctx context.Context, write bool) (err error) {
	if flag.NArg() > 0 {
		return fmt.Errorf("%q is too much; -h lists the flags", flag.Args())
	}
	if _, err := os.Stat(filepath.Join("cmd", "ocisync")); err != nil {
		return fmt.Errorf("%w; run this from the root of the repository", err)
	}
	if b.dir, err = os.MkdirTemp("", "ocisync-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	about, err := b.about(ctx)
	if err != nil {
		return err
	}
	fmt.Println(about)
	if err := b.all(ctx); err != nil {
		return err
	}
	if write {
		name := "bench"
		switch {
		case b.others:
			name = "bench-embedded"
		case b.zot:
			name = "bench-zot"
		case b.copy:
			name = "bench-content"
		case b.harbor:
			name = "bench-harbor"
		}
		if err := rewrite(name, about, b.sections); err != nil {
			return err
		}
	}
	if over := exceeded(b.sections); len(over) > 0 {
		return fmt.Errorf("past the limit:\n  %s", strings.Join(over, "\n  "))
	}
	return nil
}

// all measures everything, in the order of the document.
func (b *bench) all(ctx context.Context) error {
	if err := b.build(ctx); err != nil {
		return err
	}
	parts := []func(context.Context) error{b.start, b.validate, b.stopped, b.served, b.up, b.functions, b.grant}
	switch {
	case b.others:
		parts = []func(context.Context) error{b.beside, b.decision}
	case b.zot:
		parts = []func(context.Context) error{b.zots}
	case b.copy:
		parts = []func(context.Context) error{b.contents}
	case b.harbor:
		parts = []func(context.Context) error{b.harbors}
	case !b.quick:
		parts = append(parts, b.tests)
	}
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// times is how often a command is run that should run n times.
func (b *bench) times(n int) int {
	if b.quick {
		return min(n, 3)
	}
	return n
}

// add keeps a section and shows it.
func (b *bench) add(s section) {
	b.sections = append(b.sections, s)
	fmt.Println(s.markdown())
}

// about says what was measured, where and how.
func (b *bench) about(ctx context.Context) (string, error) {
	commit, err := words(ctx, "git", "describe", "--tags", "--always", "--dirty", "--abbrev=12")
	if err != nil {
		return "", err
	}
	command := "go run ./testdata/bench"
	if b.quick {
		command += " -quick"
	}
	if b.cold {
		command += " -cold"
	}
	if b.others {
		command += " -beside"
	}
	if b.zot {
		command += " -zot"
	}
	if b.copy {
		command += " -content"
	}
	if b.harbor {
		command += " -harbor"
	}
	about := fmt.Sprintf("Made by `%s` on %s, at commit %s, with %s %s/%s on %d cores",
		command, time.Now().UTC().Format(time.DateOnly), commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, after, _ := strings.Cut(string(info), "model name\t: ")
		if model, _, ok := strings.Cut(after, "\n"); ok {
			about += " (" + model + ")"
		}
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		one, _, _ := strings.Cut(string(load), " ")
		about += ", load average at the start " + one
	}
	return about + ".\n", nil
}

// build makes the command as it is released.
func (b *bench) build(ctx context.Context) error {
	b.bin = filepath.Join(b.dir, "ocisync")
	if _, err := words(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.bin, "./cmd/ocisync"); err != nil {
		return err
	}
	key, err := words(ctx, b.bin, "key")
	if err != nil {
		return err
	}
	secret, _, _ := strings.Cut(key, "\n")
	b.env = slices.Concat(os.Environ(), []string{
		secret,
		"OCISYNC_PASSWORD=a password of some length",
		"OCISYNC_ROBOT=" + harborSecret,
		"OCISYNC_USER=Password of some length 1",
		"OCISYNC_HOST_FILE=",
		"OCISYNC_MODE=",
		"OCISYNC_MODES=",
		"HOME=" + b.dir,
		"XDG_CONFIG_HOME=" + filepath.Join(b.dir, "config"),
	})
	return nil
}

// words runs a command and returns what it printed, without space around it.
func words(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, exit.Stderr)
		}
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
