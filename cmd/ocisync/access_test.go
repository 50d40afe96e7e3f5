package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// Who stops a test of access is told how many answers were as declared by then.
func TestAStoppedTestOfAccessSaysHowFarItCame(t *testing.T) {
	const answered, all = 3, 20
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asked atomic.Int32
	registry := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > answered {
			<-r.Context().Done() // it hashes a password, and takes its time
		}
	}))
	defer registry.Close()
	s := &session{cfg: &schema.Config{Registry: schema.Registry{URL: registry.URL}}}
	var questions []question
	for range all {
		questions = append(questions, question{&asker{who: "anonymous"}, "team", schema.Pull, true})
	}
	var report accessReport
	var told []int64
	if err := s.ask(ctx, questions, &report, func(done, total int64) {
		told = append(told, done, total)
		if done == answered {
			stop()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int64{1, all, 2, all, 3, all}, told); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	if report.Asked != answered || len(report.Wrong) != 0 {
		t.Errorf("%d asked, wrong: %v", report.Asked, report.Wrong)
	}
	if d := cmp.Diff([]accessSilent{{"anonymous", all - answered, "interrupted"}}, report.NotAsked); d != "" {
		t.Errorf("not asked (-want +got):\n%s", d)
	}
	var out strings.Builder
	o := &options{streams: streams{out: &out}}
	if err := o.tellAccess(report); err != nil || out.String() != "3 answers as declared, 17 not asked: interrupted\n" {
		t.Errorf("%v, %q", err, out.String())
	}
	if b, err := json.Marshal(report); err != nil || !strings.Contains(string(b), `"asked":3`) {
		t.Errorf("%s, %v", b, err)
	}
}
