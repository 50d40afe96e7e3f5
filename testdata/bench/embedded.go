//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What a run must say, or it did something else than what is measured.
const saysNothing = "nothing to do"

func saysApplied() string { return fmt.Sprintf("applied %d changes and read them back", objects) }
func saysNone() string    { return fmt.Sprintf("no changes, %d unchanged", objects) }

// site is an embedded registry in a directory of its own, with its mode.
type site struct {
	b             *bench
	work, address string
}

// site makes a directory and takes a free address; write writes the mode.
func (b *bench) site(ctx context.Context, write func(w *bufio.Writer, work, address string)) (*site, error) {
	work, err := os.MkdirTemp(b.dir, "site-")
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &site{b: b, work: work, address: l.Addr().String()}
	err = writeMode(filepath.Join(work, "modes"), "m", func(w *bufio.Writer) { write(w, work, s.address) })
	return s, errors.Join(l.Close(), err)
}

func (s *site) args(verb string) []string {
	return []string{verb, "--modes", filepath.Join(s.work, "modes"), "--mode", "m"}
}

func (s *site) run(ctx context.Context, verb, promise string) (sample, error) {
	return s.b.ocisync(ctx, s.work, promise, s.args(verb)...)
}

// loop is the samples of the three steps of some rounds, and of the process
// that served them.
type loop struct{ first, plan, second, server samples }

// round applies, plans and applies again, and fails if the last two wrote
// anything to the registry's data or the inventory.
func (l *loop) round(ctx context.Context, s *site) error {
	steps := []struct {
		verb, promise string
		to            *samples
	}{{"apply", saysApplied(), &l.first}, {"plan", saysNone(), &l.plan}, {"apply", saysNothing, &l.second}}
	var before string
	for i, step := range steps {
		took, err := s.run(ctx, step.verb, step.promise)
		if err != nil {
			return err
		}
		*step.to = append(*step.to, took)
		after, err := s.fingerprint()
		if err != nil {
			return err
		}
		if i > 0 && after != before {
			return fmt.Errorf("%s, with nothing to do, wrote to the data or the inventory", step.verb)
		}
		before = after
	}
	return nil
}

// fingerprint is a digest of names, modes, times and contents of the
// registry's data and the inventory. The lock is left out: it says who holds
// it now.
func (s *site) fingerprint() (string, error) {
	h := sha256.New()
	for _, dir := range []string{"data", "inventory"} {
		err := filepath.WalkDir(filepath.Join(s.work, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "lock") {
				return err
			}
			return add(h, path, d)
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

func add(h hash.Hash, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(h, path, info.Mode(), info.ModTime().UnixNano(), info.Size()); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return err
}

func (l loop) rows() []row {
	return []row{
		row{what: "first apply, elapsed", unit: seconds, values: l.first.elapsed()}.atMost(5),
		row{what: "first apply, CPU", unit: seconds, values: l.first.cpu()}.atMost(5),
		{what: "first apply, memory", unit: mebibytes, values: l.first.memory()},
		row{what: "empty plan, elapsed", unit: seconds, values: l.plan.elapsed()}.atMost(1),
		row{what: "empty plan, CPU", unit: seconds, values: l.plan.cpu()}.atMost(1),
		row{what: "empty plan, memory", unit: mebibytes, values: l.plan.memory()}.atMost(80 << 20),
		{what: "second apply, elapsed", unit: seconds, values: l.second.elapsed()},
		{what: "second apply, CPU", unit: seconds, values: l.second.cpu()},
		{what: "second apply, memory", unit: mebibytes, values: l.second.memory()},
	}
}

const rounds = `A new registry of 1,000 namespaces and 4 users with passwords each time. The
inventory is kept in a directory and signed; journal, inventory and state are
synced to disk. Plan and second apply leave data and inventory as they were,
byte by byte and with their times: checked in every round. "For passwords"
is the difference from the same users without one.`

// loops measures rounds on new registries, with passwords and without in turns.
func (b *bench) loops(ctx context.Context, round func(*loop, *site) error) (with, without loop, err error) {
	for range b.times(7) {
		for _, l := range []*loop{&with, &without} {
			s, err := b.site(ctx, applied(l == &with))
			if err != nil {
				return with, without, err
			}
			if err := round(l, s); err != nil {
				return with, without, err
			}
		}
	}
	return with, without, nil
}

// stopped measures the loop on a registry nobody serves.
func (b *bench) stopped(ctx context.Context) error {
	with, without, err := b.loops(ctx, func(l *loop, s *site) error { return l.round(ctx, s) })
	if err != nil {
		return err
	}
	b.add(section{title: "Embedded registry, stopped", command: "ocisync apply; ocisync plan; ocisync apply", text: rounds, rows: slices.Concat(with.rows(), []row{
		{what: "first apply, for passwords, CPU", unit: seconds, values: with.first.minus(without.first).cpu()},
		{what: "empty plan, for passwords, CPU", unit: seconds, values: with.plan.minus(without.plan).cpu()},
	})})
	return nil
}

// served measures the loop on a registry that another process serves.
func (b *bench) served(ctx context.Context) error {
	with, without, err := b.loops(ctx, func(l *loop, s *site) error {
		server, err := s.while(ctx, func(*exec.Cmd) error { return l.round(ctx, s) })
		l.server = append(l.server, server)
		return err
	})
	if err != nil {
		return err
	}
	requests, err := b.requests(ctx)
	if err != nil {
		return err
	}
	b.add(section{
		title: "Embedded registry, served", command: "ocisync up & ocisync apply; ocisync plan; ocisync apply",
		text: "As above, with `up` in a process of its own, which compares the passwords; apply hashes them.",
		rows: slices.Concat(with.rows(), []row{
			{what: "first apply, for passwords, CPU", unit: seconds, values: with.first.minus(without.first).cpu()},
			{what: "the server over all three, CPU", unit: seconds, values: with.server.cpu()},
			{what: "the server over all three, memory", unit: mebibytes, values: with.server.memory()},
		}, requests),
	})
	return nil
}

// up measures the server alone, on the data of a registry that was applied.
func (b *bench) up(ctx context.Context) error {
	s, err := b.site(ctx, applied(true))
	if err != nil {
		return err
	}
	if _, err := s.run(ctx, "apply", saysApplied()); err != nil {
		return err
	}
	var all samples
	var ready, idle []float64
	for range b.times(7) {
		began := time.Now()
		took, err := s.while(ctx, func(up *exec.Cmd) error {
			ready = append(ready, time.Since(began).Seconds())
			if held, ok := memory(strconv.Itoa(up.Process.Pid), "VmRSS:"); ok {
				idle = append(idle, held)
			}
			return nil
		})
		if err != nil {
			return err
		}
		all = append(all, took)
	}
	rows := []row{
		{what: "start until /healthz answers, elapsed", unit: seconds, values: ready},
		{what: "start and stop, CPU", unit: seconds, values: all.cpu()},
		{what: "start and stop, memory", unit: mebibytes, values: all.memory()},
	}
	if len(idle) > 0 {
		rows = append(rows, row{what: "memory while idle", unit: mebibytes, values: idle})
	}
	b.add(section{title: "up", command: "ocisync up", text: "Of the same 1,000 namespaces, started, asked for its health and stopped.", rows: rows})
	return nil
}

// while serves the registry for as long as do runs and returns what the server
// took.
func (s *site) while(ctx context.Context, do func(up *exec.Cmd) error) (sample, error) {
	log, err := os.Create(filepath.Join(s.work, "up.log"))
	if err != nil {
		return sample{}, err
	}
	defer log.Close()
	up := exec.CommandContext(ctx, s.b.bin, s.args("up")...)
	up.Env = s.b.environment(s.work)
	up.Stdout, up.Stderr = log, log
	up.Cancel = func() error { return up.Process.Signal(syscall.SIGTERM) }
	up.WaitDelay = 10 * time.Second
	began := time.Now()
	if err := up.Start(); err != nil {
		return sample{}, err
	}
	err = s.ready(ctx)
	if err == nil {
		err = do(up)
	}
	err = errors.Join(err, up.Process.Signal(syscall.SIGTERM), up.Wait())
	if err != nil {
		return sample{}, fmt.Errorf("ocisync up: %w\n%s", err, tail(log))
	}
	return taken(up.ProcessState, began)
}

// ready waits until the registry answers.
func (s *site) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/healthz", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errors.New("the registry did not get ready")
}
