package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
)

// TestAnInterruptAnswersTheQuestion: somebody who is asked and presses Ctrl-C
// is not kept waiting for the answer.
func TestAnInterruptAnswersTheQuestion(t *testing.T) {
	in, typed := io.Pipe() // nobody types
	defer typed.Close()
	var out bytes.Buffer
	a := &applyOptions{options: &options{streams: streams{in: in, out: io.Discard, err: &out}}}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	err := a.confirm(ctx, plan.Plan{Registry: plan.Registry{URL: "http://registry"}})
	var coded codedError
	if !errors.As(err, &coded) || coded.code != exitInterrupted || coded.Error() != "interrupted; nothing was written" {
		t.Errorf("%v", err)
	}
	if !strings.HasPrefix(out.String(), "Apply 0 changes to http://registry? [y/N] ") {
		t.Errorf("asked %q", out.String())
	}
}
