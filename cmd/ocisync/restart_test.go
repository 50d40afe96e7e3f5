package main

import (
	"context"
	"errors"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/runtime"
)

// stands is a runner of a registry that runs or does not.
type stands struct {
	runner
	running bool
	err     error
}

func (s stands) Status(context.Context) (runtime.Status, error) {
	return runtime.Status{Running: s.running}, s.err
}

// reverts is a provider that knows what its registry was started with.
type reverts struct {
	providers.Provider
	known bool
	err   error
}

var errBack = errors.New("put back")

func (v reverts) Revert(context.Context) (func(error) error, error) {
	if !v.known {
		return nil, v.err
	}
	return func(why error) error { return errors.Join(why, errBack) }, nil
}

// TestARestartThatLeavesNothingRunningGoesBack to the files that it ran with, and
// does no such thing where something runs.
func TestARestartThatLeavesNothingRunningGoesBack(t *testing.T) {
	why := errors.New("it ended")
	for name, c := range map[string]struct {
		p    providers.Provider
		by   runner
		back bool
	}{
		"nothing runs":         {reverts{known: true}, stands{}, true},
		"it runs as before":    {reverts{known: true}, stands{running: true}, false},
		"it cannot be seen":    {reverts{known: true}, stands{err: why}, false},
		"its files are as was": {reverts{}, stands{}, false},
		"another registry":     {struct{ providers.Provider }{}, stands{}, false},
		"one in this program":  {nil, stands{}, false},
	} {
		goBack, err := reverting(t.Context(), c.p, c.by)
		if err != nil {
			t.Fatal(err)
		}
		if err := goBack(why); !errors.Is(err, why) || errors.Is(err, errBack) != c.back {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := reverting(t.Context(), reverts{err: why}, stands{}); !errors.Is(err, why) {
		t.Errorf("what is not known: %v", err)
	}
}
