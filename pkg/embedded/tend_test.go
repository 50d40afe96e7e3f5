package embedded

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/token"
)

func TestARegistryIsLookedAfterAndWhoDoesKnowsHowQuietItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var quiet []time.Duration
		var failed error
		r := &Registry{logger: slog.New(slog.DiscardHandler), options: Options{Tokens: &Tokens{
			Tend: func(_ context.Context, q time.Duration) error {
				mu.Lock()
				defer mu.Unlock()
				quiet = append(quiet, q)
				return failed
			},
		}}}
		g := &grants{logger: r.logger, now: time.Now}
		go r.tend(t.Context(), g)
		time.Sleep(20 * time.Second)
		g.note(token.Grant{Account: "dev"})
		time.Sleep(14 * time.Second)
		mu.Lock()
		if diff := cmp.Diff([]time.Duration{3 * time.Second, 18 * time.Second, 13 * time.Second}, quiet); diff != "" {
			t.Errorf("quiet (-want +got):\n%s", diff)
		}
		failed, quiet = errors.New("no"), nil
		mu.Unlock()
		time.Sleep(24 * time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if n := len(quiet); n < 24 || n > 34 {
			t.Errorf("what fails is tried %d times a day", n)
		}
	})
}
