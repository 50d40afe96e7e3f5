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

// small is the corpus of many small images: repositories with five tags of three layers
// of 64 KiB to 1 MiB, of which one is shared with nine other repositories, one among the
// tags, and one nobody's.
type small struct{ repositories, tags int }

// copying is what is measured of a client: a copy to an empty registry, and another.
type copying struct {
	first, again samples
	asked        map[string]int // of both registries, by which copy
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
	err = b.copies(ctx, corpus, from, peers)
	return errors.Join(err, from.stop())
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

func (b *bench) copies(ctx context.Context, corpus small, from *server, peers map[string]string) error {
	digests, pairs, err := corpus.push(ctx, from)
	if err != nil {
		return err
	}
	clients := []string{ours, regsync, crane}
	took := map[string]*copying{}
	for _, c := range clients {
		took[c] = &copying{asked: map[string]int{}}
	}
	for round := range b.times(5) + 1 { // the first one counts requests
		for _, c := range clients {
			if err := b.copied(ctx, c, peers[c], from, took[c], round == 0, corpus); err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
		}
	}
	var idle samples
	for range b.times(5) {
		s, err := b.ocisync(ctx, b.dir, "ocisync ", "version")
		if err != nil {
			return err
		}
		idle = append(idle, s)
	}
	r, t := corpus.repositories, corpus.repositories*corpus.tags
	least := 2*r + 2*t + 3*digests + (pairs - digests)
	result := section{
		title:   "Copying a registry",
		command: "ocisync copy --all-tags http://SOURCE http://TARGET",
		text: fmt.Sprintf(`%d repositories with %d tags each, %d blobs in all, %d with those that several
repositories have, between two registries of Distribution: to an empty one, and again.
A copy that asks of each what it must takes %d requests, and one that finds all in
step %d.`, corpus.repositories, corpus.tags, digests, pairs, least, r+2*t),
	}
	for _, c := range clients {
		limited := func(r row, limit float64) row {
			if c == ours && !b.quick {
				return r.atMost(limit)
			}
			return r
		}
		k := took[c]
		result.rows = append(result.rows,
			limited(row{what: c + ", requests", unit: count, values: []float64{float64(k.asked["first"])}}, 9900),
			limited(row{what: c + ", requests again", unit: count, values: []float64{float64(k.asked["again"])}}, 2210),
			limited(row{what: c + ", CPU", unit: seconds, values: k.first.cpu()}, 2.8),
			limited(row{what: c + ", CPU again", unit: seconds, values: k.again.cpu()}, 0.5),
			row{what: c + ", elapsed", unit: seconds, values: k.first.elapsed()},
			row{what: c + ", elapsed again", unit: seconds, values: k.again.elapsed()})
	}
	mine := row{what: ours + ", memory beyond ocisync version", unit: mebibytes}
	for _, m := range took[ours].first.memory() {
		mine.values = append(mine.values, m-median(idle.memory()))
	}
	result.rows = append(result.rows, mine.atMost(32<<20))
	against := func(c string, of func(copying) samples) []float64 {
		var out []float64
		for i, mine := range of(*took[ours]).elapsed() {
			out = append(out, mine/of(*took[c]).elapsed()[i])
		}
		return out
	}
	first, again := func(k copying) samples { return k.first }, func(k copying) samples { return k.again }
	result.rows = append(result.rows,
		row{what: "elapsed against regsync", unit: factor, values: against(regsync, first)}.atMost(0.80),
		row{what: "elapsed against regsync, again", unit: factor, values: against(regsync, again)},
		row{what: "elapsed against crane", unit: factor, values: against(crane, first)})
	b.add(result)
	return nil
}

// copied has one client copy to a registry of its own, twice.
func (b *bench) copied(ctx context.Context, client, program string, from *server, k *copying, counting bool, corpus small) (err error) {
	to, err := b.listening(ctx, distribution)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.stop()) }()
	source, target, doors := from.address, to.address, []*door{{}, {}}
	if counting {
		for i, at := range []*string{&source, &target} {
			address, err := free(ctx)
			if err != nil {
				return err
			}
			stop, err := doors[i].open(ctx, address, *at)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, stop()) }()
			*at = address
		}
	}
	for _, which := range []string{"first", "again"} {
		cmd, err := b.copyCommand(ctx, client, program, source, target, corpus)
		if err != nil {
			return err
		}
		s, err := b.timed(cmd, client)
		if err != nil {
			return err
		}
		if counting {
			for _, d := range doors {
				n, _ := d.count()
				k.asked[which] += n
			}
			continue
		}
		if which == "first" {
			k.first = append(k.first, s)
		} else {
			k.again = append(k.again, s)
		}
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
// that can be said.
func (b *bench) copyCommand(ctx context.Context, client, program, source, target string, corpus small) (*exec.Cmd, error) {
	switch client {
	case ours:
		cmd := exec.CommandContext(ctx, b.bin, "copy", "--all-tags", "http://"+source, "http://"+target)
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
