//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// least is what of the speed of Distribution ours must have in any workload.
const least = 0.95

// workload is one thing that all registries are asked to do.
type workload struct {
	what  string
	times int // in a round, beside each other
	parts int // what is asked of one before it is another's turn, of the whole
	// writes says that what one server left for the disk must not be the next
	// one's to wait for: Zot syncs little, and Distribution all.
	writes bool
	run    func(ctx context.Context, s *server, n, part int) error
}

// figures are the samples of one workload by the name of the registry; those
// of one place were measured in turns.
type figures map[string]samples

// besides are the figures of several workloads.
type besides struct {
	order []string
	of    map[string]figures
}

// round measures each workload on all servers. They take turns, and who begins
// and who follows whom changes, so that what else the machine does is nobody's
// alone.
func (f *besides) round(ctx context.Context, round int, servers []*server, list []workload) error {
	for _, w := range list {
		if f.of[w.what] == nil {
			f.of[w.what] = figures{}
			f.order = append(f.order, w.what)
		}
		for n := range w.times {
			n += round * w.times
			took, err := w.turns(ctx, n, servers)
			if err != nil {
				return fmt.Errorf("%s: %w", w.what, err)
			}
			for i, s := range servers {
				f.of[w.what][s.name] = append(f.of[w.what][s.name], took[i])
			}
		}
	}
	return nil
}

// turns returns what each server took for the whole.
func (w workload) turns(ctx context.Context, n int, servers []*server) (samples, error) {
	took := make(samples, len(servers))
	for i, s := range servers {
		took[i].cpu = -s.cpu()
	}
	for part := range w.parts {
		turn := n + part
		for i := range servers {
			if turn%2 == 1 {
				i = len(servers) - 1 - i
			}
			i = (i + turn/2) % len(servers)
			if w.writes && part == 0 {
				syscall.Sync()
			}
			began := time.Now()
			if err := w.run(ctx, servers[i], n, part); err != nil {
				return nil, err
			}
			took[i].elapsed += time.Since(began).Seconds()
		}
	}
	for i, s := range servers {
		took[i].cpu += s.cpu()
	}
	return took, nil
}

// beside compares the embedded registry with others.
func (b *bench) beside(ctx context.Context) error {
	all := besides{of: map[string]figures{}}
	starts := map[string][]*server{}
	var logins, warm []float64
	for _, phase := range []func(context.Context, *besides, func([]*server) error) error{b.small, b.large} {
		if err := phase(ctx, &all, func(servers []*server) error {
			for _, s := range servers {
				starts[s.name] = append(starts[s.name], s)
				if s.name != ours {
					continue
				}
				for _, to := range []*[]float64{&logins, &warm} {
					began := time.Now()
					if _, err := s.told(ctx, http.MethodGet, "/v2/", nil, nil, http.StatusOK); err != nil {
						return err
					}
					*to = append(*to, time.Since(began).Seconds())
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	b.add(all.clock())
	b.add(all.processors())
	rows := []row{
		{what: "first login, elapsed", unit: seconds, values: logins},
		{what: "login after that, elapsed", unit: seconds, values: warm},
	}
	for _, name := range names() {
		var ready, idle, whole []float64
		for _, s := range starts[name] {
			ready, idle = append(ready, s.ready), append(idle, s.idle)
			whole = append(whole, s.peak)
		}
		cpu := row{what: name + ", start until it answers, CPU", unit: seconds, values: ready}
		resident := row{what: name + ", memory while idle", unit: mebibytes, values: idle}
		if name == ours || name == oursLimited {
			cpu, resident = cpu.atMost(0.250), resident.atMost(45<<20)
		}
		rows = append(rows, cpu, resident,
			row{what: name + ", memory after the small requests", unit: mebibytes, values: []float64{starts[name][0].after}},
			row{what: name + ", peak of memory with them", unit: mebibytes, values: whole[:1]},
			row{what: name + ", peak of memory with 1 GiB", unit: mebibytes, values: whole[1:]})
	}
	b.add(section{title: "Start, login and memory", command: "ocisync up", rows: rows, text: startText})
	return nil
}

// servedAll starts all registries, and stops them after do.
func (b *bench) servedAll(ctx context.Context, do func([]*server) error) (err error) {
	var servers []*server
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
	}()
	for _, name := range names() {
		s, err := b.listening(ctx, name)
		if err != nil {
			return err
		}
		servers = append(servers, s)
	}
	return do(servers)
}

// enough is when no more rounds begin, if there were three: on a machine that
// does much else, this should end as well.
const enough = 150 * time.Second

func (b *bench) rounds(n int, do func(round int) error) error {
	began := time.Now()
	for round := range b.times(n) {
		if round >= 3 && time.Since(began) > enough {
			return nil
		}
		if err := do(round); err != nil {
			return err
		}
	}
	return nil
}

// small are the workloads of many small requests, on servers that hold the
// repositories of the catalogue already.
func (b *bench) small(ctx context.Context, f *besides, login func([]*server) error) error {
	return b.servedAll(ctx, func(servers []*server) error {
		if err := login(servers); err != nil {
			return err
		}
		base, err := imageOf(blobOf([]byte("a layer")))
		if err != nil {
			return err
		}
		for _, s := range servers {
			if err := s.fill(ctx, base); err != nil {
				return err
			}
		}
		return b.rounds(5, func(round int) error { return f.smallRound(ctx, round, servers) })
	})
}

func (f *besides) smallRound(ctx context.Context, round int, servers []*server) error {
	const pushes = 2
	in := func(s *server, n int) string { return fmt.Sprintf("%s/push-%d", s.namespace, n) }
	var sets [pushes][]image
	for i := range sets {
		var err error
		if sets[i], err = images(tags, uint64(1+round*pushes+i)); err != nil {
			return err
		}
	}
	last := (round+1)*pushes - 1
	set := sets[pushes-1]
	return f.round(ctx, round, servers, []workload{
		{what: "push of 50 tags", times: pushes, parts: tags, writes: true, run: func(ctx context.Context, s *server, n, i int) error {
			return s.push(ctx, in(s, n), tagged(i), sets[n%pushes][i])
		}},
		{what: "pull of 50 tags", times: 3, parts: tags, run: func(ctx context.Context, s *server, _, i int) error {
			return s.pull(ctx, in(s, last), tagged(i), set[i])
		}},
		{what: "1,000 manifest HEADs", times: 3, parts: heads / 50, run: func(ctx context.Context, s *server, _, _ int) error {
			return s.head(ctx, in(s, last), set, 50, 1)
		}},
		{what: "1,000 manifest HEADs, 8 at once", times: 3, parts: heads / 200, run: func(ctx context.Context, s *server, _, _ int) error {
			return s.head(ctx, in(s, last), set, 200, atOnce)
		}},
		{what: "catalogue of 2,000 repositories", times: 5, parts: 1, run: func(ctx context.Context, s *server, _, _ int) error {
			return s.catalogue(ctx)
		}},
	})
}

// large pushes a blob of a gibibyte to servers that hold nothing, and pulls it.
func (b *bench) large(ctx context.Context, f *besides, login func([]*server) error) error {
	one, err := large(filepath.Join(b.dir, "large"), largeBytes, 0)
	if err != nil {
		return err
	}
	m, err := imageOf(one)
	if err != nil {
		return err
	}
	return b.rounds(8, func(round int) error {
		return b.servedAll(ctx, func(servers []*server) error {
			if err := login(servers); err != nil {
				return err
			}
			return f.round(ctx, round, servers, []workload{
				{what: "push of 1 GiB", times: 1, parts: 1, writes: true, run: func(ctx context.Context, s *server, _, _ int) error {
					return s.push(ctx, s.namespace+"/large", "t0", m)
				}},
				{what: "pull of 1 GiB", times: 1, parts: 1, run: func(ctx context.Context, s *server, _, _ int) error {
					return s.pull(ctx, s.namespace+"/large", "t0", m)
				}},
			})
		})
	})
}

// against are the factors by which ours was faster, pair by pair.
func (f figures) against(name, other string, of func(samples) []float64) []float64 {
	one, two := of(f[name]), of(f[other])
	out := make([]float64, min(len(one), len(two)))
	for i := range out {
		out[i] = two[i] / max(one[i], 1e-3)
	}
	return out
}

const startText = `The first login of an account hashes its password, which is then remembered
for five minutes. Memory is the resident set.`

const besideText = `Ours is asked with a login, with access rights in each of 1,000 namespaces, 200
users and an audit log, and a second time in a namespace with a quota.
Distribution v3.1.2 and Zot v2.1.6 are asked without any login. Distribution has the
configuration that comes with it, and with it a cache of descriptors, which ours
has not; Zot has its defaults. All four are processes of their own on the
loopback interface, asked the same by the same client, which takes turns with
them: after each tag, 50 or 200 requests, listing or large blob it is another's.
Each figure is the median in milliseconds; the factors are how many times
faster ours was than Distribution, of those that were measured in turns.`

// clock is the comparison by the clock, with its limits.
func (f *besides) clock() section {
	return f.table("The embedded registry beside others", "make bench-embedded", besideText, samples.elapsed, true)
}

func (f *besides) processors() section {
	return f.table("The same, CPU of the server", "make bench-embedded",
		"What the server's process took of the processors meanwhile, in milliseconds: this depends least on what else the machine does.", samples.cpu, false)
}

func (f *besides) table(title, command, text string, of func(samples) []float64, limited bool) section {
	s := section{title: title, command: command, text: text}
	s.table = append(s.table, slices.Concat([]string{"", "runs"}, names(), []string{"faster", "with quota", "limit", ""}))
	for _, what := range f.order {
		line := []string{what, fmt.Sprint(len(f.of[what][ours]))}
		for _, name := range names() {
			line = append(line, fmt.Sprintf("%.1f", 1000*median(of(f.of[what][name]))))
		}
		r := row{what: what, unit: factor, values: f.of[what].against(ours, distribution, of)}
		q := row{what: what + ", with quota", unit: factor, values: f.of[what].against(oursLimited, distribution, of)}
		line = append(line, r.unit.format(median(r.values)), q.unit.format(median(q.values)))
		if limited {
			r, q = r.atLeast(least), q.atLeast(least)
			verdict := "ok"
			if r.over() || q.over() {
				verdict = "**slower**"
			}
			line = append(line, factor.format(least), verdict)
		} else {
			line = append(line, "", "")
		}
		s.rows = append(s.rows, r, q)
		s.table = append(s.table, line)
	}
	return s
}
