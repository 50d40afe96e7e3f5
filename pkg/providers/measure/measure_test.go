package measure

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/access"
)

// store is content in memory. It counts what is asked of it.
type store struct {
	repositories map[string][]string // manifests, by repository
	blobs        map[string][]byte
	stamps       map[string]string
	broken       string // a digest that cannot be read
	reads        int
}

func (s *store) Repositories(ns string) (list []string, err error) {
	for r := range s.repositories {
		if access.In(ns, r) {
			list = append(list, r)
		}
	}
	return list, nil
}

func (s *store) Stamp(r string) (string, error) { return s.stamps[r], nil }

func (s *store) Manifests(r string) ([]string, error) { return s.repositories[r], nil }

func (s *store) Manifest(_, d string) ([]byte, error) {
	s.reads++
	if d == s.broken {
		return nil, errors.New("input/output error")
	}
	if b, ok := s.blobs[d]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

func (s *store) Size(r, d string) (int64, error) {
	b, err := s.Manifest(r, d)
	return int64(len(b)), err
}

func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// image stores one of two blobs, whose sizes are given.
func (s *store) image(repository string, n int, sizes ...int) (size int64) {
	var layers []string
	for i, size := range sizes {
		d := digest(n*100 + i + 1)
		s.blobs[d] = make([]byte, size)
		layers = append(layers, `{"digest":"`+d+`"}`)
	}
	m := []byte(`{"layers":[` + strings.Join(layers, ",") + `]}`)
	s.blobs[digest(n*100)] = m
	s.repositories[repository] = append(s.repositories[repository], digest(n*100))
	return int64(len(m))
}

func newStore() *store {
	return &store{repositories: map[string][]string{}, blobs: map[string][]byte{}, stamps: map[string]string{}}
}

func measure(t *testing.T, m *Meter, s *store, ns string, all ...string) int64 {
	t.Helper()
	set := map[string]bool{ns: true}
	for _, n := range all {
		set[n] = true
	}
	n, err := m.Measure(t.Context(), s, ns, set)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEachBlobCountsOnceAndForTheInnermostNamespace(t *testing.T) {
	s := newStore()
	own := s.image("team/a", 1, 1000, 10)
	s.repositories["team/b"] = slices.Clone(s.repositories["team/a"]) // the same again
	inner := s.image("team/inner/c", 2, 500)
	s.image("teams/d", 3, 7)
	m := New()
	if got := measure(t, m, s, "team", "team/inner"); got != 1010+own {
		t.Errorf("team uses %d, want %d", got, 1010+own)
	}
	if got := measure(t, m, s, "team/inner", "team"); got != 500+inner {
		t.Errorf("team/inner uses %d, want %d", got, 500+inner)
	}
	if got := measure(t, m, s, "team"); got != 1510+own+inner {
		t.Errorf("without a namespace inside, team uses %d, want %d", got, 1510+own+inner)
	}
}

// TestAnOddPropertyHidesNothing: who may push could make a namespace unmeasurable.
func TestAnOddPropertyHidesNothing(t *testing.T) {
	for _, odd := range []string{`"blobs":5`, `"fsLayers":[{"blobSum":5}]`, `"blobs":[{"digest":{}}]`} {
		for _, form := range []string{`{` + odd + `,%s}`, `{%s,` + odd + `}`} {
			s := newStore()
			s.image("team/a", 1, 1000)
			m := fmt.Appendf(nil, form, `"layers":[{"digest":"`+digest(101)+`"}]`)
			s.blobs[digest(100)] = m
			if n := measure(t, New(), s, "team"); n != int64(1000+len(m)) {
				t.Errorf("%s: %d bytes", m, n)
			}
		}
	}
}

func TestAManifestThatCannotBeReadIsNoMeasure(t *testing.T) {
	s := newStore()
	s.image("team/a", 1, 1000)
	s.image("team/b", 2, 1000)
	for _, broken := range []string{digest(200), digest(201)} {
		s.broken = broken
		if n, err := New().Measure(t.Context(), s, "team", map[string]bool{"team": true}); err == nil || n != 0 {
			t.Errorf("without %s: %d, %v", broken, n, err)
		}
	}
	s.broken = ""
	s.blobs[digest(200)] = []byte(`{"layers":[{"digest":`)
	if n, err := New().Measure(t.Context(), s, "team", map[string]bool{"team": true}); err == nil || n != 0 {
		t.Errorf("with half a manifest: %d, %v", n, err)
	}
}

func TestASecondMeasureReadsNothingThatItKnows(t *testing.T) {
	s := newStore()
	s.image("team/a", 1, 1000, 10)
	m := New()
	first := measure(t, m, s, "team")
	s.reads = 0
	if got := measure(t, m, s, "team"); got != first || s.reads != 0 {
		t.Errorf("%d bytes with %d reads; want %d with none", got, s.reads, first)
	}
	s.stamps["team/a"] = "1"
	measure(t, m, s, "team")
	s.repositories["team/a"] = nil // by a stamp that lies
	if got := measure(t, m, s, "team"); got != first {
		t.Errorf("with the same stamp %d bytes, want %d", got, first)
	}
	s.stamps["team/a"] = "2"
	if got := measure(t, m, s, "team"); got != 0 {
		t.Errorf("with another stamp %d bytes, want none", got)
	}
}

// What is missing may come later, and is looked for again.
func TestWhatIsMissingIsNotRemembered(t *testing.T) {
	s := newStore()
	s.image("team/a", 1, 1000)
	s.stamps["team/a"] = "1"
	delete(s.blobs, digest(101))
	m := New()
	before := measure(t, m, s, "team")
	s.blobs[digest(101)] = make([]byte, 1000)
	if got := measure(t, m, s, "team"); got != before+1000 {
		t.Errorf("%d bytes, want %d", got, before+1000)
	}
}

func TestAMeterForgetsRatherThanGrow(t *testing.T) {
	s := newStore()
	m := New()
	m.most = 100
	var want int64
	for i := 1; i <= 1000; i++ {
		want += 1 + s.image(fmt.Sprint("team/", i%7), i, 1)
	}
	for range 2 {
		if got := measure(t, m, s, "team"); got != want {
			t.Errorf("%d bytes, want %d", got, want)
		}
		if m.items > m.most || len(m.manifests) > m.most {
			t.Errorf("it remembers %d things", m.items)
		}
	}
}

func TestADigestIsNoPath(t *testing.T) {
	for _, d := range []string{"", "sha256", "sha256:", "sha256:../../../../../../../../../../etc/passwd", "../x:" + digest(1)[7:], "sha256:" + strings.Repeat("A", 64)} {
		if _, _, err := Split(d); err == nil {
			t.Errorf("%q is taken", d)
		}
	}
	if a, h, err := Split(digest(1)); a != "sha256" || len(h) != 64 || err != nil {
		t.Error(a, h, err)
	}
}
