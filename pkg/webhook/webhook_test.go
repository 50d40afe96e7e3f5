package webhook

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

func TestTheQueueIsBoundedAndDropsTheOldest(t *testing.T) {
	var log bytes.Buffer
	q, err := OpenQueue(t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	q.limit = 3
	sum := 0
	for i := range 5 {
		dropped, err := q.add(delivery{Hook: "team/ci", ID: fmt.Sprint(i), Body: "{}"})
		if err != nil {
			t.Fatal(err)
		}
		sum += dropped
	}
	if d, _, ok := q.first("team/ci"); !ok || d.ID != "2" || sum != 2 {
		t.Errorf("the first is %q, %d dropped", d.ID, sum)
	}
	if err := os.WriteFile(filepath.Join(q.dir, "00000000000000000004.json"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := OpenQueue(q.dir, q.logger)
	if err != nil {
		t.Fatal(err)
	}
	if n := again.Waiting()["team/ci"]; n != 2 || !strings.Contains(log.String(), "lost") {
		t.Errorf("%d wait after one file was damaged; log %q", n, log.String())
	}
	if _, err := again.add(delivery{Hook: "team/ci", ID: "5", Body: "{}"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2", "4", "5"} {
		d, name, _ := again.first("team/ci")
		if d.ID != want {
			t.Errorf("got %q, want %q", d.ID, want)
		}
		again.done("team/ci", name)
	}
}

func TestAWebhookFollowsNoRedirectAndTellsNobodyItsAddress(t *testing.T) {
	told := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told++ }))
	defer elsewhere.Close()
	from := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer from.Close()
	h := &Engine{checked: hookClient(false)}
	defer h.checked.CloseIdleConnections()
	url := from.URL + "/?token=hush"
	err := h.send(t.Context(), Hook{Spec: &schema.Webhook{URL: &url}, Secret: "x"}, delivery{ID: "1", Body: "{}"})
	if err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("a redirect: %v", err)
	}
	from.Close()
	if err = h.send(t.Context(), Hook{Spec: &schema.Webhook{URL: &url}}, delivery{ID: "1", Body: "{}"}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("nobody there: %v", err)
	}
	if told != 0 {
		t.Errorf("the redirect was followed %d times", told)
	}
}

func TestBackoffGrowsToAnEnd(t *testing.T) {
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 50: maxBackoff, 1 << 40: maxBackoff} {
		if got := Backoff(n, maxBackoff); got < want*4/5 || got > want*6/5 {
			t.Errorf("after %d failures: %s, want about %s", n, got, want)
		}
	}
}

func TestDroppedDeliveriesAreToldOfTogether(t *testing.T) {
	var d drops
	now, told, lines := time.Unix(1e9, 0), 0, 0
	for range 1200 {
		if n := d.add("team/ci", 1, now); n > 0 {
			told, lines = told+n, lines+1
		}
		now = now.Add(time.Second)
	}
	if lines != 2 || told != 601 {
		t.Errorf("%d lines tell of %d", lines, told)
	}
}
