package harbortest

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// seed makes the test of any order use one order again.
var seed = flag.Uint64("harbor.seed", 0, "the `seed` of the one order to play recordings in")

func newPlayer(t *testing.T, first int64, learn bool) *player {
	t.Helper()
	p := &player{t: t, ids: newIDs(first, learn), secrets: map[int]string{}, cookies: map[string]string{}}
	p.server = New(Options{FirstID: first, Now: recordedAt(), Remotes: p.remotes})
	return p
}

// recordedAt is a clock on the day of the recordings, which goes on with
// every look.
func recordedAt() func() time.Time {
	now := time.Date(2026, time.November, 23, 14, 50, 0, 0, time.UTC)
	return func() time.Time {
		now = now.Add(time.Millisecond)
		return now
	}
}

// remotes are what was around Harbor then.
func (p *player) remotes(r Remote) Health {
	switch {
	case r.Kind == "scanner" && r.URL == "http://127.0.0.1:18099/scanner/b" && !p.moreScanners:
		return Unreachable
	case r.URL == "127.0.0.1:1", r.URL == "http://127.0.0.1:1", r.URL == "http://127.0.0.1:1/x":
		return Unreachable
	case r.Secret == "wrong", r.Secret == "*****", r.Kind == "registry" && r.URL == "http://127.0.0.1:8080":
		return Unhealthy
	}
	return Healthy
}

// numbers are the recordings of a chain that are to be played.
func (c chain) numbers(all map[int]*recording) []int {
	var numbers []int
	for _, run := range c.runs {
		for n := run[0]; n <= run[1]; n++ {
			if all[n] != nil {
				numbers = append(numbers, n)
			}
		}
	}
	return numbers
}

func skipped(n int) bool {
	_, left := leftOut()[n]
	return left
}

// playAll plays recordings in an order, with what happened between them.
func (p *player) playAll(all map[int]*recording, order []int) {
	p.t.Helper()
	gaps := gaps()
	for _, n := range order {
		if skipped(n) {
			continue
		}
		if gap := gaps[n]; gap != nil {
			gap(p)
		}
		p.play(all[n])
	}
}

func inOrder(chains []chain, all map[int]*recording) []int {
	var order []int
	for _, c := range chains {
		order = append(order, c.numbers(all)...)
	}
	return order
}

func TestEveryHandlerIsOfAnOperation(t *testing.T) {
	s := New(Options{})
	for route := range s.router.handlers {
		if _, known := s.shapes.Operations[route]; !known {
			t.Errorf("the API description has no %s", route)
		}
	}
}

func TestEveryRecordingIsInOneChain(t *testing.T) {
	all, _ := recordings(t)
	order := append(inOrder(chains(), all), inOrder(second(), all)...)
	slices.Sort(order)
	for i, n := range order {
		if i > 0 && order[i-1] == n {
			t.Errorf("R%03d is in two chains", n)
		}
	}
	for n := range all {
		if !slices.Contains(order, n) {
			t.Errorf("R%s is in no chain", all[n].name)
		}
	}
}

func TestAnswersAreAsRecorded(t *testing.T) {
	all, whole := recordings(t)
	newPlayer(t, 0, !whole).playAll(all, inOrder(chains(), all))
	newPlayer(t, 0, !whole).playAll(all, inOrder(second(), all))
}

func TestTheRecordingsInTestdataStandAlone(t *testing.T) {
	some := someRecordings(t)
	newPlayer(t, 0, true).playAll(some, inOrder(chains(), some))
	newPlayer(t, 0, true).playAll(some, inOrder(second(), some))
}

func TestAnswersAreAsRecordedWithOtherIDs(t *testing.T) {
	all, whole := recordings(t)
	newPlayer(t, 1000, !whole).playAll(all, inOrder(chains(), all))
	newPlayer(t, 1000, !whole).playAll(all, inOrder(second(), all))
}

func TestAnswersAreAsRecordedInAnyOrderOfWhatIsIndependent(t *testing.T) {
	all, _ := recordings(t)
	seeds := []uint64{rand.Uint64(), rand.Uint64(), rand.Uint64()}
	if *seed != 0 {
		seeds = []uint64{*seed}
	}
	for _, seed := range seeds {
		order := shuffled(chains(), all, rand.New(rand.NewPCG(seed, 0)))
		t.Run("", func(t *testing.T) {
			t.Logf("again with -harbor.seed %d", seed)
			newPlayer(t, 0, true).playAll(all, order)
		})
	}
}

// shuffled is an order in which every chain keeps its own, comes after those
// it must come after, and else mixes with the others.
func shuffled(chains []chain, all map[int]*recording, random *rand.Rand) []int {
	var order []int
	left := map[string][]int{}
	waiting := map[string]chain{}
	for _, c := range chains {
		waiting[c.name], left[c.name] = c, c.numbers(all)
	}
	for len(waiting) > 0 {
		var ready []chain
		for _, c := range chains {
			if _, waits := waiting[c.name]; waits && !slices.ContainsFunc(c.after, func(a string) bool { _, waits := waiting[a]; return waits }) {
				ready = append(ready, c)
			}
		}
		c := ready[random.IntN(len(ready))]
		n := 1
		if c.alone {
			n = len(left[c.name])
		}
		n = min(n, len(left[c.name]))
		order = append(order, left[c.name][:n]...)
		left[c.name] = left[c.name][n:]
		if len(left[c.name]) == 0 {
			delete(waiting, c.name)
		}
	}
	return order
}
