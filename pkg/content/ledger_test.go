package content

import (
	"context"
	"maps"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/content/ledger"
)

func openLedger(t *testing.T, name string, target Target) *ledger.File {
	t.Helper()
	l, err := ledger.Open(name, target.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// What a former copy learned, and what never moves, is not asked for: of R repositories
// with T tags 2R + RT requests by a ledger, and 2R where only what is missing is wanted.
func TestACopyInStepAsksLessByWhatItIsGiven(t *testing.T) {
	from, to := serve(t), serve(t)
	const repositories, tags = 8, 5
	items, _, _ := corpus(t, from, repositories, tags)
	name := filepath.Join(t.TempDir(), "ledger")
	target := to.open(t)
	c := &Copier{From: from.open(t), To: target, Ledger: openLedger(t, name, target)}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != repositories*tags {
		t.Fatalf("%+v", got)
	}
	lists := map[string]int{"GET tags": repositories}
	again := func(what string, c *Copier, source, target map[string]int, copied int) {
		t.Helper()
		from.forget()
		to.forget()
		if got := c.tally(t.Context(), items); got.err != nil || got.copied != copied || got.same != repositories*tags-copied {
			t.Errorf("%s: %+v", what, got)
		}
		if source != nil && (!maps.Equal(from.asked, source) || !maps.Equal(to.asked, target)) {
			t.Errorf("%s: the source was asked %v, want %v; the target %v, want %v", what, from.asked, source, to.asked, target)
		}
	}
	again("by a ledger", &Copier{From: c.From, To: target, Ledger: openLedger(t, name, target)}, map[string]int{"GET tags": repositories, "HEAD manifests": repositories * tags}, lists, 0)
	again("only missing", &Copier{From: c.From, To: target, OnlyMissing: true}, lists, lists, 0)

	// a tag that somebody deleted, and one that moved at the source, are copied
	if err := target.untag(t.Context(), Reference{Repository: items[0].Target, Digest: headOf(t, target, items[0].Target, "v1")}); err != nil {
		t.Fatal(err)
	}
	fill{t, from}.image(items[1].Source, "v2", layer(77, 500))
	again("after changes", &Copier{From: c.From, To: target, Ledger: openLedger(t, name, target)}, nil, nil, 2)
	same(t, c.From, target, items)
	again("after that", &Copier{From: c.From, To: target, Ledger: openLedger(t, name, target)}, map[string]int{"GET tags": repositories, "HEAD manifests": repositories * tags}, lists, 0)
}

func headOf(t *testing.T, r *Registry, repository, tag string) v1.Hash {
	t.Helper()
	d, ok, err := r.head(t.Context(), Reference{Repository: repository, Tag: tag})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return d
}

// A ledger that is wrong in all that it says costs nothing and leaves nothing out.
func TestAWrongLedgerLeavesNothingOut(t *testing.T) {
	from, to := serve(t), serve(t)
	items, _, blobs := corpus(t, from, 4, 3)
	target := to.open(t)
	l := openLedger(t, filepath.Join(t.TempDir(), "ledger"), target)
	for _, i := range items {
		list, _, err := from.open(t).Tags(t.Context(), i.Source)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range list {
			m, err := from.open(t).manifest(t.Context(), Reference{Repository: i.Source, Tag: tag})
			if err != nil {
				t.Fatal(err)
			}
			p, err := m.parts()
			if err != nil {
				t.Fatal(err)
			}
			for n, d := range p.blobs() {
				l.NoteBlob([]string{i.Target, "gone/" + strconv.Itoa(n)}[n%2], d.Digest)
			}
			l.NoteTag(i.Target, tag, m.digest)
		}
	}
	c := &Copier{From: from.open(t), To: target, Ledger: l}
	if got := c.tally(t.Context(), items); got.err != nil || got.moved.Blobs != blobs {
		t.Errorf("%+v, want %d blobs", got, blobs)
	}
	same(t, c.From, target, items)
}

// A copy that is stopped anywhere sends, when it is made again with its ledger, nothing
// that had arrived, whichever repository it arrived in; without one, nothing that had
// arrived in the same repository.
func TestACopyThatWasStoppedSendsNothingTwice(t *testing.T) {
	from := serve(t)
	const shared, own = 40, 6 // layers of both images, and of the second alone
	var layers [][]byte
	for n := range shared + own {
		layers = append(layers, layer(uint64(n), 1000))
	}
	fill{t, from}.image("a", "v1", layers[:shared]...)
	fill{t, from}.image("b", "v1", layers...)
	items := []Item{{Source: "a", Target: "a"}, {Source: "b", Target: "b"}}
	const blobs = shared + own + 2
	const second = 1000 // stands for the first request of the second
	for _, kept := range []bool{true, false} {
		for _, after := range []int32{1, 20, 35, 41, 46, second} {
			if !kept && after > shared { // who made it again would not know what the first has
				continue
			}
			to := serve(t)
			var puts atomic.Int32
			ctx, cancel := context.WithCancel(t.Context())
			to.between(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut && sort(r.URL.Path) == "uploads" && puts.Add(1) == after || after == second && strings.HasPrefix(r.URL.Path, "/v2/b/") {
					cancel() // it is killed with others under way, which the registry may store or not
				}
				return false
			})
			stored := func() int {
				to.mu.Lock()
				defer to.mu.Unlock()
				return to.asked["PUT uploads"]
			}
			name := filepath.Join(t.TempDir(), "ledger")
			run := func(ctx context.Context) tally {
				target := to.open(t)
				c := &Copier{From: from.open(t), To: target, AtOnce: 1}
				if kept {
					l, err := ledger.Open(name, target.String())
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					c.Ledger = l
				}
				return c.tally(ctx, items)
			}
			run(ctx)
			before := stored()
			got := run(t.Context())
			if got.err != nil {
				t.Errorf("stopped after %d: %+v", after, got)
			}
			same(t, from.open(t), to.open(t), items)
			twice := before + got.moved.Blobs - blobs
			if twice > smallAtOnce {
				t.Errorf("stopped after %d, with a ledger %t: %d had come, %d were sent then: %d of %d twice", after, kept, before, got.moved.Blobs, twice, blobs)
			}
		}
	}
}
