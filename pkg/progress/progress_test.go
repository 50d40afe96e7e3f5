package progress

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/content"
)

// sink keeps what is printed.
type sink struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func begins(t *testing.T, o Options) *Watch {
	t.Helper()
	o.What, o.Did = "copy", "sent"
	w, err := Begin(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestLinesTellHowFarItIs every 30 seconds, and nothing before.
func TestLinesTellHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sink
		w := begins(t, Options{Style: Lines, To: NewScreen(&out, nil)})
		w.Copying(3)
		w.Content.Expect(2)
		w.Content.Tell(content.Copied)
		w.Content.Tell(content.Failed)
		time.Sleep(29 * time.Second)
		if out.String() != "" {
			t.Errorf("after 29 seconds it printed %q", out.String())
		}
		time.Sleep(32 * time.Second)
		if err := w.End(true); err != nil {
			t.Error(err)
		}
		const line = "2 of 3 tags, 1 failed, 0 B sent, 0 B/s\n"
		if out.String() != line+line {
			t.Errorf("after a minute it printed %q", out.String())
		}
	})
}

// TestEventsAreWhatTheDocsSay: each a line of JSON, the totals every five seconds, and an
// end whatever happened.
func TestEventsAreWhatTheDocsSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sink
		w := begins(t, Options{Style: JSON, To: NewScreen(&out, nil)})
		w.Copying(2)
		w.Content.Expect(2)
		w.Content.Blob(content.Arrived{Repository: "a", Digest: v1.Hash{Algorithm: "sha256", Hex: "12"}, Size: 7, Mounted: true})
		w.Tag(Tag{Source: "a:1", Target: "b:1", Outcome: content.Failed, Error: "no\x1b[31m \u009b\u202e"})
		time.Sleep(5100 * time.Millisecond)
		w.Content.Tell(content.Copied)
		w.Content.Tell(content.Failed)
		if err := w.End(false); err != nil {
			t.Error(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\u009b\u202e") {
			t.Errorf("it prints what steers a terminal: %q", out.String())
		}
		want := []map[string]any{
			{"event": "begin", "what": "copy", "tags": 2.},
			{"event": "blob", "repository": "a", "digest": "sha256:12", "bytes": 7., "how": "mounted"},
			{"event": "tag", "source": "a:1", "target": "b:1", "outcome": "failed", "error": "no\x1b[31m \u009b\u202e"},
			{"event": "totals", "tags": 2., "listed": true, "copied": 0., "same": 0., "failed": 0., "blobs": 0., "mounted": 0., "bytes": 0., "bytes_per_second": 0., "seconds": 5.},
			{"event": "end", "ok": false, "tags": 2., "listed": true, "copied": 1., "same": 0., "failed": 1., "blobs": 0., "mounted": 0., "bytes": 0., "bytes_per_second": 0., "seconds": 5.1},
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != len(want) {
			t.Fatalf("it printed\n%s", out.String())
		}
		for i, line := range lines {
			var got map[string]any
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if _, err := time.Parse(time.RFC3339, got["time"].(string)); err != nil {
				t.Error(err)
			}
			delete(got, "time")
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(want[i])
			if string(a) != string(b) {
				t.Errorf("event %d is\n%s, not\n%s", i, a, b)
			}
		}

		out = sink{}
		w = begins(t, Options{Style: JSON, To: NewScreen(&out, nil)})
		_ = w.End(false)
		if lines := strings.Split(out.String(), "\n"); len(lines) != 3 || !strings.Contains(lines[0], `"begin"`) || !strings.Contains(lines[1], `"ok":false`) {
			t.Errorf("of what ends before it begins it printed\n%s", out.String())
		}
	})
}

// TestTheBarIsTakenAway at the end, and is there meanwhile.
func TestTheBarIsTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConsole(t, 80)
		w := begins(t, Options{Style: Bar, To: NewScreen(c, c.size)})
		w.Content.Expect(4)
		w.Copying(4)
		w.Content.Tell(content.Same)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		w.mu.Lock()
		c.shows("[========>                       ]   25%  1 of 4 tags  0 B sent  0 B/s  9s left")
		w.mu.Unlock()
		_ = w.End(true)
		c.shows("")
	})
}

// TestABarFits whatever the width, and says the most telling where there is little room.
func TestABarFits(t *testing.T) {
	w := begins(t, Options{Style: None, To: NewScreen(&sink{}, nil)})
	defer func() { _ = w.End(true) }()
	s := content.Standing{Tags: 200, Listed: true, Begun: 20, Copied: 10, Failed: 2, Bytes: 1 << 30, Left: 1 << 30}
	w.from = time.Now().Add(-time.Hour)
	w.speed = speed{at: []time.Time{w.from, time.Now()}, bytes: []int64{0, 3600 << 20}}
	b := content.UnderWay{Repository: "team/\x1b[31mof/some/length", Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}, Size: 2 << 30, Sent: 1 << 30}
	for width := 40; width < 200; width++ {
		line := w.whole(s, width)
		if len(line) > width || !strings.Contains(line, "12 of 200 tags, 2 failed") || !strings.Contains(line, "8%") {
			t.Errorf("in %d columns it is %q", width, line)
		}
		below := large(b, width)
		if len(below) > width || !strings.HasPrefix(below, "  abababababab   50%") || !strings.HasSuffix(below, "length") || strings.Contains(below, "\x1b") {
			t.Errorf("in %d columns a blob is %q", width, below)
		}
	}
	if line := w.whole(s, 100); !strings.Contains(line, "1.0 GiB sent") || !strings.Contains(line, "  1024.0 KiB/s  15h40m left") {
		t.Errorf("with room it is %q", line)
	}
}

// TestHowLongItTakesIsToldWhereItCanBe.
func TestHowLongItTakesIsToldWhereItCanBe(t *testing.T) {
	now := time.Now()
	fast := speed{at: []time.Time{now.Add(-10 * time.Second), now}, bytes: []int64{0, 1000}} // 100 in a second
	for name, c := range map[string]struct {
		s     content.Standing
		took  time.Duration
		speed speed
		want  time.Duration
		ok    bool
	}{
		"by bytes, where all is begun": {content.Standing{Tags: 2, Listed: true, Begun: 2, Copied: 1, Left: 3000}, 10 * time.Second, fast, 30 * time.Second, true},
		"by tags":                      {content.Standing{Tags: 40, Listed: true, Begun: 11, Copied: 10, Left: 100}, 10 * time.Second, fast, 30 * time.Second, true},
		"a large blob is longer":       {content.Standing{Tags: 20, Listed: true, Begun: 11, Copied: 10, Left: 9000}, 10 * time.Second, fast, 90 * time.Second, true},
		"not before all is listed":     {content.Standing{Tags: 40, Begun: 11, Copied: 10, Left: 100}, 10 * time.Second, fast, 0, false},
		"not at once":                  {content.Standing{Tags: 40, Listed: true, Begun: 11, Copied: 10, Left: 100}, time.Second, fast, 0, false},
		"not while nothing is through": {content.Standing{Tags: 40, Listed: true, Begun: 11, Left: 100}, 10 * time.Second, fast, 0, false},
		"not while nothing comes":      {content.Standing{Tags: 2, Listed: true, Begun: 2, Copied: 1, Left: 3000}, 10 * time.Second, speed{at: []time.Time{now}, bytes: []int64{5}}, 0, false},
		"nothing is left":              {content.Standing{Tags: 2, Listed: true, Begun: 2, Copied: 2}, 10 * time.Second, fast, 0, false},
	} {
		w := &Watch{from: now.Add(-c.took), speed: c.speed}
		if got, ok := w.left(c.s, now); got != c.want || ok != c.ok {
			t.Errorf("%s: %v, %t, not %v, %t", name, got, ok, c.want, c.ok)
		}
	}
}

// TestBytesInASecondAreThoseOfLate.
func TestBytesInASecondAreThoseOfLate(t *testing.T) {
	var s speed
	start := time.Now()
	bytes := int64(0)
	for i := range 300 { // a minute: half of it fast, and half slow
		if i < 150 {
			bytes += 1000
		} else {
			bytes += 10
		}
		s.note(start.Add(time.Duration(i)*200*time.Millisecond), bytes)
	}
	if got := s.of(); got < 45 || got > 55 || len(s.at) > 30 {
		t.Errorf("it is %d of %d notes, and should be 50", got, len(s.at))
	}
}

// TestMetricsAreWrittenMeanwhileAndAtTheEnd, whole, for others to read, and keep how the
// last run ended until this one does.
func TestMetricsAreWrittenMeanwhileAndAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nightly.prom")
	read := func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	has := func(when string, lines ...string) {
		t.Helper()
		text := read()
		for _, l := range lines {
			if !strings.Contains(text, "\n"+l) {
				t.Errorf("%s it has no %s:\n%s", when, l, text)
			}
		}
	}
	const labels = `command="copy",`
	synctest.Test(t, func(t *testing.T) {
		w := begins(t, Options{Style: None, To: NewScreen(&sink{}, nil), Metrics: file})
		if strings.Contains(read(), lastMetric) {
			t.Errorf("before the first end it tells of one:\n%s", read())
		}
		w.Content.Expect(2)
		w.Content.Tell(content.Copied)
		time.Sleep(16 * time.Second)
		has("meanwhile", tagsMetric+`{`+labels+`outcome="copied",run="nightly"} 1`, secondsMetric+`{`+labels+`run="nightly"} 15`)
		w.Content.Tell(content.Failed)
		if err := w.End(true); err != nil {
			t.Error(err)
		}
		has("at the end", tagsMetric+`{`+labels+`outcome="failed",run="nightly"} 1`, tagsMetric+`{`+labels+`outcome="same",run="nightly"} 0`,
			blobsMetric+`{`+labels+`how="sent",run="nightly"} 0`, bytesMetric+`{`+labels+`run="nightly"} 0`, successMetric+`{`+labels+`run="nightly"} 1`, lastMetric+`{`+labels+`run="nightly"} 9.466848`)
	})
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("it is %v, %v", info.Mode(), err)
	}
	w := begins(t, Options{Style: None, To: NewScreen(&sink{}, nil), Metrics: file})
	has("while the next runs", successMetric+`{`+labels+`run="nightly"} 1`, lastMetric+`{`+labels+`run="nightly"} 9.466848`, tagsMetric+`{`+labels+`outcome="copied",run="nightly"} 0`)
	_ = w.End(false)
	has("after one that failed", successMetric+`{`+labels+`run="nightly"} 0`, lastMetric)
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("beside it lies %v, %v", all, err)
	}
	if _, err := Begin(Options{Style: None, To: NewScreen(&sink{}, nil), Metrics: filepath.Join(dir, "none", "x.prom")}); err == nil {
		t.Error("what cannot be written is no error")
	}
	if _, err := Begin(Options{Style: None, To: NewScreen(&sink{}, nil), Metrics: dir}); err == nil {
		t.Error("a directory is written over")
	}
}
