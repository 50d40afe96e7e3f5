//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sample is what one process took.
type sample struct {
	cpu, elapsed float64 // seconds
	memory       float64 // peak resident set, bytes
}

// samples are those of several runs of one command.
type samples []sample

func (s samples) of(what func(sample) float64) []float64 {
	out := make([]float64, len(s))
	for i, one := range s {
		out[i] = what(one)
	}
	return out
}

func (s samples) cpu() []float64     { return s.of(func(x sample) float64 { return x.cpu }) }
func (s samples) elapsed() []float64 { return s.of(func(x sample) float64 { return x.elapsed }) }
func (s samples) memory() []float64  { return s.of(func(x sample) float64 { return x.memory }) }

// minus returns, pair by pair, what s took more than t.
func (s samples) minus(t samples) samples {
	out := make(samples, len(s))
	for i := range s {
		out[i] = sample{cpu: s[i].cpu - t[i].cpu, elapsed: s[i].elapsed - t[i].elapsed, memory: s[i].memory - t[i].memory}
	}
	return out
}

// taken reads what a finished process took. It is an error if its memory may
// be this program's own: Linux counts into a child's peak what its parent held
// when it started it.
func taken(state *os.ProcessState, began time.Time) (sample, error) {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return sample{}, errors.New("the system does not say what a process took")
	}
	s := sample{
		cpu:     (state.UserTime() + state.SystemTime()).Seconds(),
		elapsed: time.Since(began).Seconds(),
		memory:  peak(usage),
	}
	if held, ok := memory("self", "VmHWM:"); ok && s.memory <= held {
		return sample{}, fmt.Errorf("bench itself held %s, so the %s measured may not be ocisync's; make it hold less", mebibytes.format(held), mebibytes.format(s.memory))
	}
	return s, nil
}

// peak is the peak resident set in bytes; only Darwin counts it so.
func peak(usage *syscall.Rusage) float64 {
	if runtime.GOOS == "darwin" {
		return float64(usage.Maxrss)
	}
	return float64(usage.Maxrss) * 1024
}

// ocisync runs the command once in work and returns what it took. The last
// thing it says must hold promise, or what was measured is not what it seems.
func (b *bench) ocisync(ctx context.Context, work, promise string, args ...string) (sample, error) {
	cmd := exec.CommandContext(ctx, b.bin, args...)
	cmd.Env = b.environment(work)
	return b.measure(cmd, promise)
}

// environment is that of a command which keeps its journal in work.
func (b *bench) environment(work string) []string {
	return slices.Concat(b.env, []string{"XDG_STATE_HOME=" + filepath.Join(work, "own")})
}

func (b *bench) measure(cmd *exec.Cmd, promise string) (sample, error) {
	// A file, as in a pipeline, so that nobody copies while we measure.
	out, err := os.Create(filepath.Join(b.dir, "output"))
	if err != nil {
		return sample{}, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	began := time.Now()
	err = cmd.Run()
	said := tail(out)
	switch {
	case err != nil:
		return sample{}, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said)
	case !strings.Contains(said, promise):
		return sample{}, fmt.Errorf("%s: said nothing of %q\n%s", strings.Join(cmd.Args, " "), promise, said)
	}
	return taken(cmd.ProcessState, began)
}

// memory is one of the figures that Linux gives of a process which runs, in
// bytes; false elsewhere.
func memory(process, figure string) (float64, bool) {
	status, err := os.ReadFile(filepath.Join("/proc", process, "status"))
	if err != nil {
		return 0, false
	}
	_, after, _ := strings.Cut(string(status), figure)
	kib, _, _ := strings.Cut(after, " kB")
	n, err := strconv.ParseFloat(strings.TrimSpace(kib), 64)
	return n * 1024, err == nil
}

// tail returns the end of a file.
func tail(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	end := io.NewSectionReader(f, max(0, info.Size()-2000), 2000)
	said, err := io.ReadAll(end)
	if err != nil {
		return err.Error()
	}
	return string(said)
}

// start is what any command costs before it does something.
func (b *bench) start(ctx context.Context) error {
	info, err := os.Stat(b.bin)
	if err != nil {
		return err
	}
	var all samples
	for range b.times(20) {
		s, err := b.ocisync(ctx, b.dir, "ocisync ", "version")
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	b.add(section{
		title: "The command", command: "go build -trimpath -ldflags '-s -w' ./cmd/ocisync; ocisync version",
		rows: []row{
			{what: "size", unit: mebibytes, values: []float64{float64(info.Size())}},
			{what: "CPU", unit: seconds, values: all.cpu()},
			{what: "memory", unit: mebibytes, values: all.memory()},
		},
	})
	return nil
}

// sized is a mode of n namespaces.
type sized struct {
	n     int
	alike bool
}

func (m sized) String() string {
	if m.alike {
		return fmt.Sprintf("%d namespaces", m.n)
	}
	return fmt.Sprintf("%d, no two alike", m.n)
}

// validate loads modes of growing size. They take turns, so that a busy moment
// of the machine is not one mode's alone.
func (b *bench) validate(ctx context.Context) error {
	modes := []sized{{1000, true}, {2000, true}, {4000, true}, {1000, false}, {2000, false}, {4000, false}}
	if b.quick {
		modes = slices.DeleteFunc(modes, func(m sized) bool { return m.n == 4000 })
	}
	dir := filepath.Join(b.dir, "modes")
	name := func(m sized) string { return fmt.Sprintf("n%d-%t", m.n, m.alike) }
	for _, m := range modes {
		if err := writeMode(dir, name(m), func(w *bufio.Writer) { described(w, m.n, m.alike) }); err != nil {
			return err
		}
	}
	took := map[sized]samples{}
	for range b.times(7) {
		for _, m := range modes {
			s, err := b.ocisync(ctx, b.dir, name(m)+": valid", "validate", "--modes", dir, "--mode", name(m))
			if err != nil {
				return err
			}
			took[m] = append(took[m], s)
		}
	}
	result := section{
		title:   "validate",
		command: "ocisync validate --mode MODE",
		text: `Namespaces of 12 lines each: description, retention, access, one webhook; each
is four objects. CUE is asked about each distinct object once: the first figures
are of namespaces that differ in texts and a few numbers, those of "no two
alike" of such that all have another retention and access.`,
	}
	for _, m := range modes {
		cpu := row{what: m.String() + ", CPU", unit: seconds, values: took[m].cpu()}
		memory := row{what: m.String() + ", memory", unit: mebibytes, values: took[m].memory()}
		if m.n == 1000 {
			cpu, memory = cpu.atMost(0.40), memory.atMost(80<<20)
		}
		result.rows = append(result.rows, cpu, memory)
		half := sized{m.n / 2, m.alike}
		if less := took[half]; less != nil {
			result.rows = append(result.rows, row{
				what: fmt.Sprintf("%s, CPU against %d", m, half.n), unit: factor,
				values: []float64{median(took[m].cpu()) / median(less.cpu())},
			}.atMost(2.2))
		}
	}
	var dev samples
	for range b.times(20) {
		s, err := b.ocisync(ctx, b.dir, "valid", "validate", "--modes", filepath.Join("examples", "modes"), "--mode", "dev")
		if err != nil {
			return err
		}
		dev = append(dev, s)
	}
	result.rows = append(result.rows,
		row{what: "examples/modes/dev, CPU", unit: seconds, values: dev.cpu()}.atMost(0.060),
		row{what: "examples/modes/dev, memory", unit: mebibytes, values: dev.memory()})
	b.add(result)
	return nil
}
