package webhook

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// waitingFor takes all deliveries of a webhook away and returns their identifiers.
func waitingFor(q *Queue, hook string) (ids string) {
	for d, ok := q.first(hook); ok; d, ok = q.first(hook) {
		ids += d.ID
		q.done(hook, d.ID)
	}
	return ids
}

func filesOf(t *testing.T, q *Queue) int {
	t.Helper()
	files, err := os.ReadDir(q.dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// What is queued together lies in one file, and is as good as what is queued one by
// one: in order, each gone once it was accepted, by another process too.
func TestWhatIsQueuedTogetherIsDoneOneByOne(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	q, err := OpenQueue(t.TempDir(), logger)
	if err != nil {
		t.Fatal(err)
	}
	add := func(list ...delivery) {
		t.Helper()
		if _, err := q.add(list...); err != nil {
			t.Fatal(err)
		}
	}
	d := func(hook, id string) delivery { return delivery{Hook: hook, ID: id, Body: `{"a":"b"}`} }
	add(d("team/ci", "1"))
	add(d("team/ci", "2"), d("team/other", "3"), d("team/ci", "4"), d("team/ci", "5"))
	add(d("team/ci", "6"))
	if n := filesOf(t, q); n != 3 {
		t.Errorf("%d files", n)
	}
	for _, id := range []string{"1", "2", "4"} {
		q.done("team/ci", id)
	}
	if q, err = OpenQueue(q.dir, logger); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"team/ci": 2, "team/other": 1}, q.Waiting()); diff != "" {
		t.Errorf("after a restart wait (-want +got):\n%s", diff)
	}
	add(d("team/new", "7"))
	if err := q.Rename("team/ci", "team/new"); err != nil {
		t.Fatal(err)
	}
	if q, err = OpenQueue(q.dir, logger); err != nil {
		t.Fatal(err)
	}
	if got := waitingFor(q, "team/other") + " " + waitingFor(q, "team/new"); got != "3 567" {
		t.Errorf("after a rename wait %q", got)
	}
	if n := filesOf(t, q); n != 0 || len(q.Waiting()) != 0 {
		t.Errorf("when all is done there are %d files, and wait %v", n, q.Waiting())
	}
}

func TestWhatIsQueuedTogetherIsBoundedAsWell(t *testing.T) {
	q, err := OpenQueue(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	q.limit = 3
	var list []delivery
	for i := range 5 {
		list = append(list, delivery{Hook: "team/ci", ID: fmt.Sprint(i), Body: "{}"})
	}
	if dropped, err := q.add(list...); err != nil || dropped["team/ci"] != 2 {
		t.Errorf("dropped %v, %v", dropped, err)
	}
	if got := waitingFor(q, "team/ci"); got != "234" {
		t.Errorf("there wait %s", got)
	}
}

// Before deliveries were queued together a file was one, without the end of a line.
func TestADeliveryOfAnOlderVersionIsRead(t *testing.T) {
	dir := t.TempDir()
	for i, text := range []string{`{"hook":"team/ci","id":"1","type":"t","body":"{}"}`, "torn", `{"hook":"team/ci","id":"2","type":"t","body":"{}"}` + "\ntorn\n"} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%020d.json", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	q, err := OpenQueue(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got := waitingFor(q, "team/ci"); got != "12" || strings.Count(log.String(), "lost") != 2 || filesOf(t, q) != 0 {
		t.Errorf("read %s, %d files; log %s", got, filesOf(t, q), log.String())
	}
}
