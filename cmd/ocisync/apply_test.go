package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
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

// TestALineOfAChangeIsOneLine: errors quote names that others chose.
func TestALineOfAChangeIsOneLine(t *testing.T) {
	var out strings.Builder
	a := &applyOptions{options: &options{streams: streams{out: &out}}}
	key := schema.Key{Kind: schema.KindNamespace, Name: "a"}
	eve := &providers.Error{Registry: "https://r.example.com", Key: schema.Key{Kind: schema.KindUser, Name: "eve\n::error::x"}, Err: errors.New("no")}
	if text := eve.Error(); text != `https://r.example.com: user/eve\n::error::x: no` {
		t.Errorf("the error says %q", text)
	}
	a.line(apply.Line{Action: plan.Delete, Key: key, Outcome: apply.Failed, Err: errors.Join(errors.New("eve\n::stop-commands::y: \x1b[2Jno"), eve)})
	if text := out.String(); strings.Count(text, "\n") != 1 || strings.Contains(text, "\x1b") || !strings.Contains(text, "delete   namespace/a: eve; ::stop-commands::y: ") {
		t.Errorf("it says %q", text)
	}
}
