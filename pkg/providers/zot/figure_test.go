//go:build integration

package zot_test

import (
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// A thousand namespaces with access and retention: one restart for the first
// apply, since retention begins, and no request for an empty plan.
func TestAThousandNamespacesAreOneRestart(t *testing.T) {
	s := newStand(t)
	st := largeMode(1000)
	st.Resources = append(st.Resources, object(schema.KindUser, "root", &schema.User{Admin: new(true), Password: secret(providertest.SecretA)}))
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	starts := s.server.starts
	began := time.Now()
	if _, err := providertest.DirectCycle(t.Context(), s.Provider, st); err != nil {
		t.Fatal(err)
	}
	first := time.Since(began)
	if n := s.server.starts - starts; n != 1 {
		t.Errorf("%d restarts, want 1", n)
	}
	empty := time.Hour
	for range 5 { // the machine may have other things to do
		began = time.Now()
		n, err := providertest.DirectCycle(t.Context(), s.Provider, st)
		if n != 0 || err != nil {
			t.Errorf("the same again makes %d changes, %v", n, err)
		}
		empty = min(empty, time.Since(began))
	}
	t.Logf("first apply %v, restart and probes included; empty plan %v", first, empty)
	if first > 10*time.Second || empty > time.Second {
		t.Errorf("first apply %v, want at most 5 s beyond the restart; empty plan %v, want at most 1 s", first, empty)
	}
}
