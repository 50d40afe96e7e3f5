package content

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// counted opens a registry whose requests are counted.
func (s *served) counted(t *testing.T, p *Progress, push bool) *Registry {
	t.Helper()
	rt, err := oci.Transport(schema.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rt.CloseIdleConnections)
	r, err := Open(Endpoint{URL: s.URL, Transport: rt, Push: push, Progress: p})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *served) requests() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.asked {
		n += int64(k)
	}
	return n
}

// TestProgressCountsWhatACopyDoes: at the end it is what the copy itself says, and what
// both registries were asked.
func TestProgressCountsWhatACopyDoes(t *testing.T) {
	from, to := serve(t), serve(t)
	items, pairs, blobs := corpus(t, from, 6, 3)
	from.between(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/app001/manifests/v1") { // one tag that fails
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	})
	from.forget()
	var mu sync.Mutex
	arrived := map[bool]int{}
	p := &Progress{Blob: func(a Arrived) {
		mu.Lock()
		defer mu.Unlock()
		arrived[a.Mounted]++
		if a.Repository == "" || a.Size == 0 || a.Digest == (v1.Hash{}) {
			t.Errorf("told of %+v", a)
		}
	}}
	c := &Copier{From: from.counted(t, p, false), To: to.counted(t, p, true), Progress: p}
	items = append(items, Item{Source: "not/there", Target: "not/there"})
	got := c.tally(t.Context(), items)
	is := p.Standing()
	if is.Copied != got.copied || is.Same != 0 || is.Failed != 2 || len(got.failed) != 2 || is.Tags != 6*3+1 || is.Begun != is.Tags || !is.Listed {
		t.Errorf("it says %+v of %+v", is, got)
	}
	if is.Blobs != got.moved.Blobs || is.Mounted != got.moved.Mounted || is.Bytes != got.moved.Bytes || is.Left != 0 || is.Large != nil || is.Blobs > blobs || is.Blobs+is.Mounted > pairs {
		t.Errorf("it says %+v of %+v", is, got.moved)
	}
	if arrived[false] != is.Blobs || arrived[true] != is.Mounted {
		t.Errorf("it told of %v, and counts %+v", arrived, is)
	}
	for side, s := range map[int]*served{SourceSide: from, TargetSide: to} {
		var n int64
		for _, k := range p.Requests(side) {
			n += k
		}
		if n != s.requests() {
			t.Errorf("side %d was asked %d times, and it counts %v", side, s.requests(), p.Requests(side))
		}
	}
	if p.Requests(SourceSide)[http.StatusNotFound] == 0 || p.Requests(TargetSide)[http.StatusCreated] == 0 {
		t.Errorf("the answers are %v and %v", p.Requests(SourceSide), p.Requests(TargetSide))
	}

	again := &Progress{}
	from.between(nil)
	c = &Copier{From: from.open(t), To: to.open(t), Progress: again}
	c.tally(t.Context(), items[:1])
	if is := again.Standing(); is.Same != 3 || is.Tags != 3 || is.Blobs+is.Mounted != 0 || is.Bytes != 0 {
		t.Errorf("again it says %+v", is)
	}
}

// TestProgressTellsOfALargeBlobUnderWay, and of what is left of it; what broke off is
// sent, and counted.
func TestProgressTellsOfALargeBlobUnderWay(t *testing.T) {
	from, to := serve(t), serve(t)
	const whole = large + 1000
	fill{t, from}.image("team/big", "v1", layer(1, whole))
	p := &Progress{}
	c := &Copier{From: from.open(t), To: to.open(t), Progress: p}
	var puts atomic.Int32
	seen := make(chan Standing, 1)
	to.between(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || sort(r.URL.Path) != "uploads" || r.ContentLength != whole {
			return false
		}
		if _, err := io.CopyN(io.Discard, r.Body, whole/2); err != nil {
			t.Error(err)
		}
		if puts.Add(1) == 1 {
			seen <- p.Standing()
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		if puts.Load() == 2 {
			to.between(nil)
		}
		return true
	})
	got := c.tally(t.Context(), []Item{{Source: "team/big", Target: "copy/big"}})
	if got.err != nil {
		t.Fatal(got.err)
	}
	is := <-seen
	if len(is.Large) != 1 || is.Large[0].Repository != "copy/big" || is.Large[0].Size != whole || is.Large[0].Sent < whole/2 || is.Tags != 1 || is.Begun != 1 || is.Through() != 0 || is.Left > whole/2+1000 {
		t.Errorf("under way it says %+v", is)
	}
	if is := p.Standing(); is.Bytes < got.moved.Bytes+2*(whole/2) || is.Large != nil || is.Left != 0 || is.Blobs != 2 {
		t.Errorf("at the end it says %+v of %+v", is, got.moved)
	}
}

// TestProgressKnowsTagsThatNobodyHasToList before they are begun.
func TestProgressKnowsTagsThatNobodyHasToList(t *testing.T) {
	p := &Progress{}
	listed, one, pinned := Item{Source: "a"}, Item{Source: "b", One: "v1"}, Item{Source: "c", Tags: []string{"x", "y"}}
	p.list(listed, one, pinned)
	if is := p.Standing(); is.Tags != 3 || is.Listed {
		t.Errorf("at first it says %+v", is)
	}
	p.listed(pinned, 1) // the repository failed, and is told once
	p.listed(listed, 5)
	p.listed(one, 1)
	if is := p.Standing(); is.Tags != 7 || !is.Listed {
		t.Errorf("at last it says %+v", is)
	}
}

// TestProgressCountsReadsAndPushes as copies.
func TestProgressCountsReadsAndPushes(t *testing.T) {
	to := serve(t)
	p := &Progress{}
	text := []byte("some file")
	l := Layer{Descriptor: v1.Descriptor{MediaType: UnknownFile, Digest: digestOf(text), Size: int64(len(text))}, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }}
	in := to.open(t)
	if _, err := Push(t.Context(), in, Reference{Repository: "r", Tag: "v1"}, Artifact{Type: "x/y", Layers: []Layer{l}}, p); err != nil {
		t.Fatal(err)
	}
	if is := p.Standing(); is.Tags != 1 || is.Copied != 1 || is.Blobs != 2 || is.Bytes != int64(len(text))+2 {
		t.Errorf("of a push it says %+v", is)
	}
	p = &Progress{}
	if err := p.Read(t.Context(), in, "r", l.Descriptor, func(r io.Reader) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if is := p.Standing(); is.Blobs != 1 || is.Bytes != int64(len(text)) || is.Left != 0 {
		t.Errorf("of a read it says %+v", is)
	}
	l.Digest = digestOf([]byte("another"))
	if err := p.Read(t.Context(), in, "r", l.Descriptor, func(io.Reader) error { return nil }); err == nil || p.Standing().Blobs != 1 {
		t.Errorf("of a blob that is not there it says %+v, %v", p.Standing(), err)
	}
}

// TestAReadThatIsCountedAllocatesNothing, and waits for nobody: it goes on while somebody
// holds the lock.
func TestAReadThatIsCountedAllocatesNothing(t *testing.T) {
	const size = 1 << 20
	b := bytes.Repeat([]byte("x"), size)
	d := v1.Descriptor{Digest: digestOf(b), Size: size}
	p := &Progress{}
	s := &stream{open: func(int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }, want: d, seen: p.moves(p.transfer("r", d))}
	if err := s.begin(); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	part := make([]byte, 100)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := s.Read(part); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("a read allocates %v times", n)
	}
	if got := s.seen.Load(); got != s.read {
		t.Errorf("%d bytes were read, and %d are told", s.read, got)
	}
}
