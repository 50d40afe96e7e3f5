package runtime

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// TestARegistryCanGoBackToHowItRan whatever the mode says by now, and though it was
// stopped.
func TestARegistryCanGoBackToHowItRan(t *testing.T) {
	w := newWorld(t, "well")
	if again, err := w.process().Keep(t.Context()); again != nil || err != nil {
		t.Errorf("before it runs: %v", err)
	}
	s := w.supervise()
	moved := *w
	moved.address = porttest.Address(t)
	moved.options = fakeOptions(w.data, moved.address, "well")
	again, err := moved.process().Keep(t.Context())
	w.must("keeping", err)
	_, err = moved.process().Up(t.Context())
	w.must("moving", err)
	w.must("going back", again(t.Context()))
	if moved.answers() || !w.answers() {
		t.Error("it is not where it was")
	}
	_, err = moved.process().Up(t.Context())
	w.must("moving", err)
	w.must("stopping", moved.process().Stop(t.Context()))
	w.must("going back", again(t.Context()))
	if moved.answers() || !w.answers() {
		t.Error("it is not where it was before it was stopped")
	}
	w.must("ending", s.end())
}

func TestAContainerCanGoBackToHowItRan(t *testing.T) {
	h := newHarbour(t)
	h.up()
	before := *h.one()
	for _, stop := range []func(context.Context) error{nil, h.Stop} {
		again, err := h.Keep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.o.Registry.Run.Listen = "127.0.0.1:5007"
		h.up()
		if h.one().Listen != "127.0.0.1:5007" {
			t.Fatalf("%+v", h.one())
		}
		if stop != nil {
			if err := stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := again(t.Context()); err != nil {
			t.Fatal(err)
		}
		now := *h.one()
		now.ID, now.Started = before.ID, before.Started
		if d := cmp.Diff(before.Labels, now.Labels); d != "" || now.Listen != before.Listen || !now.Running {
			t.Errorf("%s %+v", d, now)
		}
		h.o.Registry.Run.Listen = ""
	}
}
