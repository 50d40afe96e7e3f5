package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers"
)

// troubled fails as it is told, one time after the other, and then ends.
type troubled struct {
	errs []error
	end  context.CancelFunc
}

func (a *troubled) Attend(context.Context) (time.Duration, error) {
	if len(a.errs) == 0 {
		a.end()
		return 0, nil
	}
	err := a.errs[0]
	a.errs = a.errs[1:]
	return time.Microsecond, err
}

func TestWhatIsDoneByTimeGoesOnAndSaysATroubleOnce(t *testing.T) {
	var said bytes.Buffer
	o := &options{streams: streams{err: &said}}
	ctx, end := context.WithCancel(t.Context())
	away, full := errors.New("the disk is away"), errors.New("the disk is full")
	a := &troubled{errs: []error{away, away, away, full, full, nil, full}, end: end}
	o.attend(ctx, "http://registry", a, 0)
	if got := [2]int{strings.Count(said.String(), away.Error()), strings.Count(said.String(), full.Error())}; len(a.errs) != 0 || got != [2]int{1, 2} {
		t.Errorf("%d times were left, and it says\n%s", len(a.errs), &said)
	}
}

func TestAMeasuringTellsWhatBecameOfPush(t *testing.T) {
	list := []providers.Measured{
		{Namespace: "a", Limit: 10 << 30, Used: 5 << 30},
		{Namespace: "b", Limit: 10, Used: 12, Full: true, Changed: true},
		{Namespace: "c", Limit: 10, Used: 12, Full: true},
		{Namespace: "d", Limit: 10, Used: 2, Changed: true},
		{Namespace: "e", Limit: 10, Used: 12, Full: true, Error: "input/output error"},
	}
	for dry, want := range map[bool]string{
		false: `quota: 5 namespaces
  a: 5.0 GiB of 10.0 GiB used
  b: 12 B of 10 B used; push is withdrawn now
  c: 12 B of 10 B used; push is withdrawn
  d: 2 B of 10 B used; push is given back
  e: not measured; push is withdrawn
`,
		true: `quota: 5 namespaces
  a: 5.0 GiB of 10.0 GiB used
  b: 12 B of 10 B used; push would be withdrawn now
  c: 12 B of 10 B used; push is withdrawn
  d: 2 B of 10 B used; push would be given back
  e: not measured; push is withdrawn
`,
	} {
		if diff := cmp.Diff(want, jobText(providers.JobReport{Job: quotaJob, DryRun: dry, Measured: list})); diff != "" {
			t.Error(diff)
		}
	}
}
