package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

func TestARegistryDoesNotListenWhereItsEventsAreReceived(t *testing.T) {
	box := NewInbox("127.0.0.1:5001")
	for address, taken := range map[string]bool{"127.0.0.1:5001": true, "0.0.0.0:5001": true, ":5001": true, "127.0.0.1:5000": false, "": false} {
		if why := box.Takes(address); strings.Contains(why, "port 5001") != taken {
			t.Errorf("%q: %q", address, why)
		}
	}
	if why := (Inbox{}).Takes("127.0.0.1:5001"); why != "" {
		t.Error(why)
	}
}

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
		sum += dropped["team/ci"]
	}
	if d, ok := q.first("team/ci"); !ok || d.ID != "2" || sum != 2 {
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
		d, _ := again.first("team/ci")
		if d.ID != want {
			t.Errorf("got %q, want %q", d.ID, want)
		}
		again.done("team/ci", d.ID)
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

// received is one delivery of an engine to a server of the test.
func received(t *testing.T, client func(*httptest.Server) *http.Client, spec schema.Webhook, secret string) (http.Header, string) {
	t.Helper()
	var header http.Header
	var body []byte
	at := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		header = q.Header.Clone()
		body, _ = io.ReadAll(q.Body)
	}))
	at.Start()
	defer at.Close()
	h := &Engine{checked: client(at)}
	defer h.checked.CloseIdleConnections()
	if spec.URL == nil {
		spec.URL = &at.URL
	}
	if err := h.send(t.Context(), Hook{Spec: &spec, Secret: secret}, delivery{ID: "1", Type: "application/json", Body: `{"events": []}`}); err != nil {
		t.Fatal(err)
	}
	return header, string(body)
}

func direct(*httptest.Server) *http.Client { return hookClient(false) }

// Whoever sees the header of one delivery must not be able to sign others.
func TestASecretThatSignsIsNeverSent(t *testing.T) {
	const secret = "the webhook's secret"
	away := "http://hooks.example.com/" // reached in the clear
	to := func(at *httptest.Server) *http.Client {
		address := strings.TrimPrefix(at.URL, "http://")
		return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}}}
	}
	for name, tt := range map[string]struct {
		client func(*httptest.Server) *http.Client
		spec   schema.Webhook
		secret string
		signs  bool
		sends  string
	}{
		"no auth":              {direct, schema.Webhook{Sign: new(true)}, "", false, ""},
		"auth alone":           {direct, schema.Webhook{}, secret, false, secret},
		"sign":                 {direct, schema.Webhook{Sign: new(true)}, secret, true, ""},
		"in the clear":         {to, schema.Webhook{URL: &away}, secret, true, ""},
		"sign in the clear":    {to, schema.Webhook{URL: &away, Sign: new(true)}, secret, true, ""},
		"no auth in the clear": {to, schema.Webhook{URL: &away}, "", false, ""},
	} {
		header, _ := received(t, tt.client, tt.spec, tt.secret)
		if got := header.Get(SignatureHeader) != ""; got != tt.signs {
			t.Errorf("%s: signed: %v", name, got)
		}
		if got := header.Get("Authorization"); got != tt.sends {
			t.Errorf("%s: the Authorization header is %q", name, got)
		}
	}
}

// The documentation says how a receiver checks a signature.
func TestTheDocumentedCheckOfASignatureHolds(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl here")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "run.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```sh\n# check a delivery\n")
	script, _, ended := strings.Cut(rest, "```")
	if !ok || !ended {
		t.Fatal("docs/run.md shows no check of a delivery")
	}
	const secret = "the webhook's secret"
	header, body := received(t, direct, schema.Webhook{Sign: new(true)}, secret)
	for what, tt := range map[string]struct {
		body, signature string
		want            bool
	}{
		"what was sent": {body, header.Get(SignatureHeader), true},
		"another body":  {body + " ", header.Get(SignatureHeader), false},
		"no signature":  {body, "", false},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "body"), []byte(tt.body), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "SECRET="+secret, "SIGNATURE="+tt.signature)
		if err := cmd.Run(); (err == nil) != tt.want {
			t.Errorf("%s: %v", what, err)
		}
	}
}
