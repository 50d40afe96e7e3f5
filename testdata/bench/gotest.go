//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// functions runs the Go benchmarks that a limit speaks of.
func (b *bench) functions(ctx context.Context) error {
	args := []string{"test", "-run", "^$", "-bench", "^BenchmarkDiff$", "-benchmem", "./pkg/plan"}
	found := map[string][]float64{}
	for range b.times(7) {
		text, err := words(ctx, "go", args...)
		if err != nil {
			return err
		}
		parse(text, found)
	}
	result := section{
		title: "Diff", command: "go " + strings.Join(args, " "),
		text: "The last two figures compare what one run measured of both.",
	}
	for _, r := range []struct {
		what, name, measure string
		unit                unit
		limit               float64 // below 0: none
	}{
		{"Diff, 100,000 objects, 1 % changed", "Diff/changed=1%/n=100000", "ns/op", seconds, 0.5},
		{"Diff, 100,000 objects, all equal", "Diff/equal/n=100000", "ns/op", seconds, 0.5},
		{"Diff, all equal, allocations", "Diff/equal/n=100000", "allocs/op", count, 1000},
		{"Diff, 200,000 objects, 1 % changed", "Diff/changed=1%/n=200000", "ns/op", seconds, -1},
		{"Diff, 200,000 objects, all equal", "Diff/equal/n=200000", "ns/op", seconds, -1},
	} {
		values := found[r.name+" "+r.measure]
		if len(values) == 0 {
			return fmt.Errorf("go test printed no %s of Benchmark%s", r.measure, r.name)
		}
		if r.unit == seconds {
			values = scaled(values, 1e-9)
		}
		line := row{what: r.what, unit: r.unit, values: values}
		if r.limit >= 0 {
			line = line.atMost(r.limit)
		}
		result.rows = append(result.rows, line)
	}
	for _, part := range []struct{ what, name string }{{"1 % changed", "changed=1%"}, {"all equal", "equal"}} {
		less, more := found["Diff/"+part.name+"/n=100000 ns/op"], found["Diff/"+part.name+"/n=200000 ns/op"]
		ratios := make([]float64, min(len(less), len(more)))
		for i := range ratios {
			ratios[i] = more[i] / less[i]
		}
		result.rows = append(result.rows, row{what: "Diff of 200,000 against 100,000, " + part.what, unit: factor, values: ratios}.atMost(2.3))
	}
	b.add(result)
	return nil
}

// decision measures one decision of 1,000 rules among 200 users.
func (b *bench) decision(ctx context.Context) error {
	args := []string{"test", "-run", "^$", "-bench", "^BenchmarkDecision$", "-benchmem", "./pkg/access"}
	found := map[string][]float64{}
	for range b.times(5) {
		text, err := words(ctx, "go", args...)
		if err != nil {
			return err
		}
		parse(text, found)
	}
	times, allocations := found["Decision ns/op"], found["Decision allocs/op"]
	if len(times) == 0 || len(allocations) == 0 {
		return errors.New("go test printed no figures of BenchmarkDecision")
	}
	b.add(section{title: "A decision", command: "go " + strings.Join(args, " "), text: "May this user do that here, with 1,000 rules and 200 users.", rows: []row{
		row{what: "elapsed", unit: nanoseconds, values: times}.atMost(2000),
		row{what: "allocations", unit: count, values: allocations}.atMost(0),
	}})
	return nil
}

// grant measures one token of the token service.
func (b *bench) grant(ctx context.Context) error {
	args := []string{"test", "-run", "^$", "-bench", "^BenchmarkGrant$", "-benchmem", "./pkg/embedded"}
	found := map[string][]float64{}
	for range b.times(5) {
		text, err := words(ctx, "go", args...)
		if err != nil {
			return err
		}
		parse(text, found)
	}
	times, bytes, first := found["Grant/remembered ns/op"], found["Grant/remembered B/op"], found["Grant/first ns/op"]
	if len(times) == 0 || len(bytes) == 0 || len(first) == 0 {
		return errors.New("go test printed no figures of BenchmarkGrant")
	}
	b.add(section{
		title: "A token", command: "go " + strings.Join(args, " "),
		text: "A token signed by ES256 for a user who logs in, with 1,000 namespaces and 200 users. The benchmark\nhas one client, so that what elapses is CPU.",
		rows: []row{
			row{what: "password remembered, elapsed", unit: nanoseconds, values: times}.atMost(500_000),
			row{what: "password remembered, bytes allocated", unit: count, values: bytes}.atMost(20 << 10),
			{what: "first login, elapsed", unit: seconds, values: scaled(first, 1e-9)},
		},
	})
	return nil
}

func scaled(values []float64, by float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = v * by
	}
	return out
}

// parse adds what go test -bench prints to the values of each benchmark's name
// (without "Benchmark" and the number of cores) and measure.
func parse(text string, out map[string][]float64) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		name, ok := strings.CutPrefix(line, "Benchmark")
		if !ok || len(fields) < 4 {
			continue
		}
		name = strings.Fields(name)[0]
		if i := strings.LastIndexByte(name, '-'); i >= 0 {
			name = name[:i]
		}
		for i := 2; i+1 < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err == nil {
				out[name+" "+fields[i+1]] = append(out[name+" "+fields[i+1]], v)
			}
		}
	}
}

// tests measures how long the tests take: compiled before and all run anew,
// and, if asked for, with nothing compiled.
func (b *bench) tests(ctx context.Context) error {
	if _, err := words(ctx, "go", "test", "-run", "^$", "./..."); err != nil {
		return err
	}
	run := func(more ...string) (sample, error) {
		cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "./...")
		cmd.Env = slices.Concat(os.Environ(), more)
		return b.measure(cmd, "ok")
	}
	warm, err := run()
	if err != nil {
		return err
	}
	rows := []row{
		row{what: "warm, elapsed", unit: seconds, values: []float64{warm.elapsed}}.atMost(60),
		{what: "warm, CPU", unit: seconds, values: []float64{warm.cpu}},
	}
	if b.cold {
		cold, err := run("GOCACHE=" + filepath.Join(b.dir, "cache"))
		if err != nil {
			return err
		}
		rows = append(rows,
			row{what: "cold, elapsed", unit: seconds, values: []float64{cold.elapsed}}.atMost(360),
			row{what: "cold, CPU", unit: seconds, values: []float64{cold.cpu}})
	}
	b.add(section{
		title: "The tests", command: "go test -count=1 ./...",
		text: "Warm: everything is compiled, every test runs anew. Cold: with an empty GOCACHE, the modules downloaded.", rows: rows,
	})
	return nil
}
