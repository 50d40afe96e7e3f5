//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// curl is GET and PUT of each layer in a pipe, four at once: no manifest, nothing hashed.
const curl = "curl"

// big is the corpus of few large images: repositories of one image with some layers.
type big struct {
	repositories, layers int
	bytes                int64 // of a layer
}

// piped moves one layer, of a name and a digest, from $FROM to $TO.
const piped = `at=$(curl -sSi -X POST "http://$TO/v2/$0/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
curl -sSf "http://$FROM/v2/$0/blobs/$1" | curl -sSf -X PUT -T - -H 'Content-Type: application/octet-stream' "$at&digest=$1" >/dev/null`

// bigs compares copies of large images, and what one large blob takes of memory.
func (b *bench) bigs(ctx context.Context, peers map[string]string) (err error) {
	corpus := big{4, 4, 128 << 20}
	if b.quick {
		corpus.bytes = 16 << 20
	}
	if _, err := exec.LookPath(curl); err != nil {
		return fmt.Errorf("%w: the copy of large images is held against it", err)
	}
	from, err := b.listening(ctx, distribution)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.stop()) }()
	var layers [][2]string
	for r := range corpus.repositories {
		var blobs []blob
		for l := range corpus.layers {
			name := filepath.Join(b.dir, "layer")
			one, err := large(name, corpus.bytes, byte(1+r*corpus.layers+l))
			if err != nil {
				return err
			}
			if err := errors.Join(from.pushBlob(ctx, bigName(r), one), os.Remove(name)); err != nil {
				return err
			}
			blobs = append(blobs, one)
			layers = append(layers, [2]string{bigName(r), one.digest.String()})
		}
		m, err := imageOf(blobs...)
		if err == nil {
			err = from.pushBlob(ctx, bigName(r), m.blobs[len(m.blobs)-1])
		}
		if err == nil {
			err = from.pushManifest(ctx, bigName(r), "t0", m)
		}
		if err != nil {
			return err
		}
	}
	clients := []string{ours, regsync, curl}
	took := map[string]samples{}
	for range b.times(5) {
		for _, c := range clients {
			s, err := b.bigCopy(ctx, c, peers[c], from, layers)
			if err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
			took[c] = append(took[c], s)
		}
	}
	idle, err := b.idle(ctx)
	if err != nil {
		return err
	}
	gib := float64(int64(corpus.repositories*corpus.layers)*corpus.bytes) / (1 << 30)
	result := section{
		title:   "Copying large images",
		command: "ocisync copy --all-tags http://SOURCE http://TARGET",
		text: fmt.Sprintf(`%d repositories of one image with %d layers of %d MiB, between two registries of
Distribution; curl is a pipe of GET and PUT for each layer, four at once, which hashes
nothing and stores no manifest. Memory is that of ocisync above what its version takes.`, corpus.repositories, corpus.layers, corpus.bytes>>20),
	}
	for _, c := range clients {
		result.rows = append(result.rows, row{what: c + ", elapsed", unit: seconds, values: took[c].elapsed()})
	}
	var perGiB []float64
	for _, v := range took[ours].cpu() {
		perGiB = append(perGiB, v/gib)
	}
	ratio := func(c string) (out []float64) {
		for i, v := range took[ours].elapsed() {
			out = append(out, v/took[c].elapsed()[i])
		}
		return out
	}
	memory := row{what: ours + ", memory beyond ocisync version", unit: mebibytes, values: more(took[ours].memory(), idle)}
	cpu := row{what: ours + ", CPU for each GiB", unit: seconds, values: perGiB}
	byCurl := row{what: "elapsed against curl", unit: factor, values: ratio(curl)}
	bySync := row{what: "elapsed against regsync", unit: factor, values: ratio(regsync)}
	if !b.quick {
		memory, cpu, byCurl, bySync = memory.atMost(16<<20), cpu.atMost(1.5), byCurl.atMost(1), bySync.atMost(1)
	}
	flat, err := b.flat(ctx)
	if err != nil {
		return err
	}
	result.rows = append(result.rows, cpu, byCurl, bySync, memory, flat)
	b.add(result)
	return nil
}

func bigName(r int) string { return fmt.Sprintf("big/app%d", r) }

// bigCopy has one client copy to a registry of its own.
func (b *bench) bigCopy(ctx context.Context, client, program string, from *server, layers [][2]string) (_ sample, err error) {
	to, err := b.listening(ctx, distribution)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, to.stop()) }()
	if client != curl {
		cmd, err := b.copyCommand(ctx, client, program, again, from.address, to.address, false, small{})
		if err != nil {
			return sample{}, err
		}
		return b.timed(cmd, client)
	}
	var list strings.Builder
	for _, l := range layers {
		fmt.Fprintf(&list, "%s %s\n", l[0], l[1])
	}
	cmd := exec.CommandContext(ctx, "xargs", "-P4", "-n2", "sh", "-ec", piped)
	cmd.Stdin, cmd.Env = strings.NewReader(list.String()), append(os.Environ(), "FROM="+from.address, "TO="+to.address)
	s, err := b.timed(cmd, client)
	for _, l := range layers { // that it moved them
		if err == nil {
			_, err = to.told(ctx, "HEAD", "/v2/"+l[0]+"/blobs/"+l[1], nil, nil, 200)
		}
	}
	return s, err
}

// flat is by how much a blob of one gibibyte takes more memory than one of 128 MiB.
func (b *bench) flat(ctx context.Context) (row, error) {
	var held [2][]float64
	for i, size := range []int64{128 << 20, 1 << 30} {
		from, err := b.listening(ctx, distribution)
		if err != nil {
			return row{}, err
		}
		name := filepath.Join(b.dir, "one")
		one, err := large(name, size, 100)
		if err == nil {
			var m image
			if m, err = imageOf(one); err == nil {
				err = errors.Join(from.push(ctx, "one", "t0", m), os.Remove(name))
			}
		}
		for range b.times(5) {
			if err != nil {
				break
			}
			var s sample
			if s, err = b.bigCopy(ctx, ours, "", from, nil); err == nil {
				held[i] = append(held[i], s.memory)
			}
		}
		if err = errors.Join(err, from.stop()); err != nil {
			return row{}, err
		}
	}
	return row{what: ours + ", memory for a blob of 1 GiB beyond one of 128 MiB", unit: mebibytes, values: []float64{median(held[1]) - median(held[0])}}.atMost(2 << 20), nil
}

// crashes is how often a migration is killed, all runs together, and crashed how often one
// of them is.
const crashes, crashed = 200, 20

// killed has migrations killed at random and begun again until each is through.
func (b *bench) killed(ctx context.Context, corpus small, from *server) error {
	total, each := crashes, crashed
	if b.quick {
		total, each = 20, 10
	}
	var extra, twice, bytes []float64
	for round := range total / each {
		e, t, sent, err := b.killedOnce(ctx, corpus, from, each, int64(round))
		if err != nil {
			return fmt.Errorf("killed and begun again: %w", err)
		}
		extra, twice, bytes = append(extra, e), append(twice, t), append(bytes, sent)
	}
	b.add(section{
		title:   "Killed and begun again",
		command: "ocisync migrate --from http://SOURCE --to http://TARGET --ledger FILE --yes",
		text: fmt.Sprintf(`The corpus of the first table, %d migrations, each of which is killed %d times at random
and begun again with its ledger, until it is through and --verify finds both sides
alike. Up to %d blobs are in flight when it is killed.`, total/each, each, inFlightBlobs),
		rows: []row{
			{what: "bytes sent", unit: mebibytes, values: bytes},
			{what: "blobs that were sent whole more than once, for each kill", unit: mean, values: twice},
			row{what: "blobs that were begun more than once, for each kill", unit: mean, values: extra}.atMost(inFlightBlobs),
		},
	})
	return nil
}

// inFlightBlobs is how many a copy sends at once: see the pools of pkg/content.
const inFlightBlobs = 12 + 6

func (b *bench) killedOnce(ctx context.Context, corpus small, from *server, kills int, seed int64) (extra, twice, sent float64, err error) {
	to, err := b.listening(ctx, distribution)
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, to.stop()) }()
	t := &toll{begun: map[string]int{}, whole: map[string]int{}}
	address, err := free(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	stop, err := (&door{heard: t.heard}).open(ctx, address, to.address)
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	ledger := filepath.Join(b.dir, "ledger-"+address)
	run := func(until int) error {
		args := []string{"migrate", "--from", "http://" + from.address, "--to", "http://" + address, "--ledger", ledger, "--yes"}
		if until == 0 {
			args = append(args, "--verify")
		}
		cmd := exec.CommandContext(ctx, b.bin, args...)
		cmd.Env = b.environment(b.dir)
		due := t.after(until)
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				text := said.String()
				err = fmt.Errorf("%w: %s", err, text[max(0, len(text)-500):])
			}
			return err
		case <-due:
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
			<-ended //nolint:errcheck // that it was killed
			return nil
		}
	}
	// a pseudo-random number of requests until the next kill; the corpus takes some 47 for
	// each repository
	state := uint64(seed + 1)
	for range kills {
		state = state*6364136223846793005 + 1442695040888963407
		if err := run(1 + int(state>>33)%(2*47*corpus.repositories/(kills+1))); err != nil {
			return 0, 0, 0, err
		}
	}
	if err := run(0); err != nil {
		return 0, 0, 0, err
	}
	e, w, n := t.count()
	return float64(e) / float64(kills), float64(w) / float64(kills), float64(n), nil
}
