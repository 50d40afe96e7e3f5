//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// The clients that copy a registry.
const (
	regsync = "regsync"
	crane   = "crane"
)

// The copies that a client makes, one after the other.
const (
	first     = "first"
	again     = "again"
	vouched   = "again by its ledger"
	unmovable = "again with --only-missing"
)

// pause is what each request takes longer where a line is far.
const pause = 20 * time.Millisecond

// copiesOf are those that a client can make.
func copiesOf(client string) []string {
	if client == ours {
		return []string{first, again, vouched, unmovable}
	}
	return []string{first, again}
}

// small is the corpus of many small images: repositories with five tags of three layers
// of 64 KiB to 1 MiB, of which one is shared with nine other repositories, one among the
// tags, and one nobody's.
type small struct{ repositories, tags int }

// copying is what is measured of a client, by which copy: to an empty registry, and again.
type copying struct {
	took   map[string]samples
	asked  map[string]int     // requests of both registries
	paused map[string]float64 // seconds, with a pause before each request
	conns  int32              // the most that either registry saw opened by one copy
}

// contents compares copies of a whole registry to an empty one, and again, with those of
// others, taking turns.
func (b *bench) contents(ctx context.Context) error {
	corpus := small{200, 5}
	if b.quick {
		corpus.repositories = 40
	}
	peers := map[string]string{}
	for _, name := range []string{regsync, crane} {
		at, err := peer(name)
		if err != nil {
			return err
		}
		peers[name] = at
	}
	from, err := b.listening(ctx, distribution)
	if err != nil {
		return err
	}
	digests, pairs, err := corpus.push(ctx, from)
	if err == nil {
		err = b.copies(ctx, corpus, digests, pairs, from, peers)
	}
	if err == nil {
		err = b.killed(ctx, corpus, from)
	}
	if err = errors.Join(err, from.stop()); err != nil {
		return err
	}
	return b.bigs(ctx, peers)
}

// peer is a program of others', which make builds.
func peer(name string) (string, error) {
	at, err := filepath.Abs(filepath.Join("bin", "servers", name))
	if err == nil {
		_, err = os.Stat(at)
	}
	if err != nil {
		return "", fmt.Errorf("%w; make bench-content builds it", err)
	}
	return at, nil
}

func (b *bench) copies(ctx context.Context, corpus small, digests, pairs int, from *server, peers map[string]string) error {
	clients := []string{ours, regsync, crane}
	took := map[string]*copying{}
	for _, c := range clients {
		took[c] = &copying{took: map[string]samples{}, asked: map[string]int{}, paused: map[string]float64{}}
		if err := b.counted(ctx, c, peers[c], from, distribution, took[c], corpus, 0); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	for _, c := range []string{ours, regsync} {
		if err := b.counted(ctx, c, peers[c], from, distribution, took[c], corpus, pause); err != nil {
			return fmt.Errorf("%s, with a pause: %w", c, err)
		}
	}
	toZot := copying{asked: map[string]int{}}
	if err := b.counted(ctx, ours, "", from, zot, &toZot, corpus, 0); err != nil {
		return fmt.Errorf("to Zot: %w", err)
	}
	for range b.times(5) {
		for _, c := range clients {
			if err := b.copied(ctx, c, peers[c], from, took[c], corpus); err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
		}
	}
	idle, err := b.idle(ctx)
	if err != nil {
		return err
	}
	r, t := corpus.repositories, corpus.repositories*corpus.tags
	least := 2*r + 2*t + 3*digests + (pairs - digests)
	result := section{
		title:   "Copying a registry",
		command: "ocisync copy --all-tags http://SOURCE http://TARGET",
		text: fmt.Sprintf(`%d repositories with %d tags each, %d blobs in all, %d with those that several
repositories have, between two registries of Distribution: to an empty one, and again.
A copy that asks of each what it must takes %d requests, and one that finds all in
step %d, by a ledger %d, where tags never move %d; the list of repositories is
one or two more at each. Requests and connections are counted by rounds of their own; so is
what %v before each request makes of the time, once each.`, corpus.repositories, corpus.tags, digests, pairs, least, r+2*t, 2*r+t, 2*r, pause),
	}
	for _, c := range clients {
		limited := func(r row, limit float64) row {
			if c == ours && !b.quick {
				return r.atMost(limit)
			}
			return r
		}
		k := took[c]
		most := map[string]float64{first: 9900, again: 2204, vouched: 1404, unmovable: 404}
		for _, which := range copiesOf(c) {
			cpu := map[bool]float64{true: 2.8, false: 0.5}[which == first]
			result.rows = append(result.rows,
				limited(row{what: c + ", " + which + ", requests", unit: count, values: []float64{float64(k.asked[which])}}, most[which]),
				limited(row{what: c + ", " + which + ", CPU", unit: seconds, values: k.took[which].cpu()}, cpu),
				row{what: c + ", " + which + ", elapsed", unit: seconds, values: k.took[which].elapsed()})
		}
	}
	mine := took[ours]
	beyond := row{what: ours + ", memory beyond ocisync version", unit: mebibytes, values: more(mine.took[first].memory(), idle)}
	against := func(c, our, their string) []float64 {
		var out []float64
		for i, s := range mine.took[our].elapsed() {
			out = append(out, s/took[c].took[their].elapsed()[i])
		}
		return out
	}
	zots := row{what: ours + ", first, requests to Zot", unit: count, values: []float64{float64(toZot.asked[first])}}
	if !b.quick {
		zots = zots.atMost(7300)
	}
	result.rows = append(result.rows, zots,
		row{what: ours + ", connections opened to a registry", unit: count, values: []float64{float64(mine.conns)}}.atMost(2*16),
		beyond.atMost(32<<20),
		row{what: "elapsed against regsync", unit: factor, values: against(regsync, first, first)}.atMost(0.80),
		row{what: "elapsed against crane", unit: factor, values: against(crane, first, first)},
		row{what: "elapsed against regsync, again", unit: factor, values: against(regsync, again, again)},
		row{what: "elapsed against regsync, by a ledger", unit: factor, values: against(regsync, vouched, again)}.atMost(0.65),
		row{what: "elapsed against regsync, each request paused", unit: factor, values: []float64{mine.paused[first] / took[regsync].paused[first]}}.atMost(0.30))
	b.add(result)
	return nil
}

// idle is the memory of a command that does nothing.
func (b *bench) idle(ctx context.Context) (float64, error) {
	var idle samples
	for range b.times(5) {
		s, err := b.ocisync(ctx, b.dir, "ocisync ", "version")
		if err != nil {
			return 0, err
		}
		idle = append(idle, s)
	}
	return median(idle.memory()), nil
}

// more is what values are above another.
func more(values []float64, than float64) (out []float64) {
	for _, v := range values {
		out = append(out, v-than)
	}
	return out
}

// counted has one client copy to a registry of its own by doors that count, and pause.
func (b *bench) counted(ctx context.Context, client, program string, from *server, target string, k *copying, corpus small, delay time.Duration) (err error) {
	to, err := b.listening(ctx, target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.stop()) }()
	doors, at := []*door{{delay: delay}, {delay: delay}}, []string{from.address, to.address}
	for i := range doors {
		address, err := free(ctx)
		if err != nil {
			return err
		}
		stop, err := doors[i].open(ctx, address, at[i])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		at[i] = address
	}
	for _, which := range copiesOf(client) {
		cmd, err := b.copyCommand(ctx, client, program, which, at[0], at[1], target == zot, corpus)
		if err != nil {
			return err
		}
		s, err := b.timed(cmd, client)
		if err != nil {
			return err
		}
		if delay > 0 {
			k.paused[which] = s.elapsed
			return nil // one is enough to tell
		}
		for _, d := range doors {
			n, _ := d.count()
			k.asked[which] += n
			k.conns = max(k.conns, d.conns.Swap(0))
		}
	}
	return nil
}

// copied has one client copy to a registry of its own, several times.
func (b *bench) copied(ctx context.Context, client, program string, from *server, k *copying, corpus small) (err error) {
	to, err := b.listening(ctx, distribution)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.stop()) }()
	for _, which := range copiesOf(client) {
		cmd, err := b.copyCommand(ctx, client, program, which, from.address, to.address, false, corpus)
		if err != nil {
			return err
		}
		s, err := b.timed(cmd, client)
		if err != nil {
			return err
		}
		k.took[which] = append(k.took[which], s)
	}
	return nil
}

// timed runs a client; the memory of others is not told, and may be less than bench's.
func (b *bench) timed(cmd *exec.Cmd, client string) (sample, error) {
	if client == ours {
		return b.measure(cmd, "failed; ")
	}
	began := time.Now()
	if said, err := cmd.CombinedOutput(); err != nil {
		return sample{}, fmt.Errorf("%w: %s", err, said[:min(len(said), 2000)])
	}
	state := cmd.ProcessState
	return sample{cpu: (state.UserTime() + state.SystemTime()).Seconds(), elapsed: time.Since(began).Seconds()}, nil
}

// copyCommand is how a client copies a whole registry, four repositories at once where
// that can be said. Ours keeps a ledger from the first copy on, one for each target.
func (b *bench) copyCommand(ctx context.Context, client, program, which, source, target string, typed bool, corpus small) (*exec.Cmd, error) {
	switch client {
	case ours:
		to := "http://" + target
		if typed {
			to = "zot+" + to
		}
		args := []string{"copy", "--all-tags", "http://" + source, to}
		switch which {
		case first, vouched:
			args = append(args, "--ledger", filepath.Join(b.dir, "ledger-"+target))
		case unmovable:
			args = append(args, "--only-missing")
		}
		cmd := exec.CommandContext(ctx, b.bin, args...)
		cmd.Env = b.environment(b.dir)
		return cmd, nil
	case crane:
		var each strings.Builder
		for _, name := range corpus.names() {
			fmt.Fprintf(&each, "%s\n", name)
		}
		cmd := exec.CommandContext(ctx, "xargs", "-P4", "-I{}", program, "copy", "--insecure", "--all-tags", source+"/{}", target+"/{}")
		cmd.Stdin = strings.NewReader(each.String())
		return cmd, nil
	}
	file := filepath.Join(b.dir, "regsync.yml")
	text := fmt.Sprintf(`version: 1
creds:
  - {registry: %[1]q, tls: disabled, reqConcurrent: 16}
  - {registry: %[2]q, tls: disabled, reqConcurrent: 16}
defaults: {parallel: 4}
sync:
  - {source: %[1]q, target: %[2]q, type: registry}
`, source, target)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, program, "once", "-c", file), nil
}

func (c small) names() (list []string) {
	for r := range c.repositories {
		list = append(list, fmt.Sprintf("team%d/app%03d", r%10, r))
	}
	return list
}

// push puts the corpus into a registry. It returns how many blobs there are, and how
// many in all repositories together.
func (c small) push(ctx context.Context, s *server) (digests, pairs int, err error) {
	var all errgroup.Group
	all.SetLimit(4)
	for r, name := range c.names() {
		all.Go(func() error { return c.repository(ctx, s, r, name) })
	}
	shared := max(1, c.repositories/10)
	return shared + c.repositories*(1+2*c.tags), c.repositories * (2 + 2*c.tags), all.Wait()
}

func (c small) repository(ctx context.Context, s *server, r int, name string) error {
	shared := max(1, c.repositories/10)
	base, own := small64(1000+r%shared), small64(2000+r)
	for _, b := range []blob{base, own} {
		if err := s.pushBlob(ctx, name, b); err != nil {
			return err
		}
	}
	for t := range c.tags {
		m, err := imageOf(small64(10_000+r*c.tags+t), base, own)
		if err != nil {
			return err
		}
		for _, b := range []blob{m.blobs[0], m.blobs[3]} { // its own, and the configuration
			if err := s.pushBlob(ctx, name, b); err != nil {
				return err
			}
		}
		if err := s.pushManifest(ctx, name, tagged(t), m); err != nil {
			return err
		}
	}
	return nil
}

// small64 is a layer of 64 KiB to 1 MiB that says nothing; the seed decides.
func small64(seed int) blob {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	data := make([]byte, 64<<10+int(random.Uint64()%(1<<20-64<<10)))
	random.Read(data) //nolint:errcheck // never fails
	return blobOf(data)
}
