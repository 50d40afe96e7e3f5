package embedded

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// receiver is a service that webhooks tell, which can be down.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	down bool
	lose bool // takes a delivery, and the answer gets lost
	got  []received
}

type received struct {
	id, signature, authorization, contentType, body string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, err := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil || r.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.got = append(r.got, received{
			q.Header.Get(webhook.DeliveryHeader), q.Header.Get(webhook.SignatureHeader), q.Header.Get("Authorization"), q.Header.Get("Content-Type"), string(b),
		})
		if r.lose {
			r.lose = false
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(down, lose bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down, r.lose = down, lose
}

// wait returns what was received once it is n deliveries.
func (r *receiver) wait(t *testing.T, n int) []received {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		got := append([]received(nil), r.got...)
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d deliveries, want %d", len(got), n)
		}
	}
}

// distinct returns the first n deliveries once n came, each once: one that was
// under way when its registry stopped comes again.
func (r *receiver) distinct(t *testing.T, n int) []received {
	t.Helper()
	for all := n; ; all++ {
		seen := map[string]bool{}
		got := slices.DeleteFunc(r.wait(t, all), func(d received) bool {
			again := seen[d.id]
			seen[d.id] = true
			return again
		})
		if len(got) >= n {
			return got
		}
	}
}

func webhookChange(url string, spec schema.Webhook, secret string) Change {
	spec.URL = &url
	if spec.Events == nil {
		spec.Events = schema.NewSet("push", "delete")
	}
	return Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindWebhook, Name: "team/ci"}, Spec: &spec}, Secret: secret}
}

// hooked serves a registry with a namespace open to all and a webhook, until
// stop.
func hooked(t *testing.T, data string, changes ...Change) (r *Registry, stop func()) {
	t.Helper()
	r, err := Open(t.Context(), Options{Data: data, Listen: "127.0.0.1:0", URL: "https://registry.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	r.hooks.Backoff = func(int) time.Duration { return 10 * time.Millisecond }
	all := schema.Pull | schema.Push | schema.Delete
	results, err := r.store.change(t.Context(), append([]Change{
		{Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}}},
		{Object: schema.Resource{Key: schema.Key{Kind: schema.KindAccess, Name: "team"}, Spec: &schema.Access{Anonymous: &all}}},
	}, changes...))
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range results {
		if res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, r.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return r, stop
}

// push puts an empty index, which needs no blobs.
func push(t *testing.T, r *Registry, tag string) {
	t.Helper()
	request(t, r, http.MethodPut, "/v2/team/app/manifests/"+tag, http.StatusCreated)
}

const emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

func request(t *testing.T, r *Registry, method, path string, want int) {
	t.Helper()
	body := ""
	if method == http.MethodPut {
		body = emptyIndex
	}
	q, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []string{"Content-Type", "Accept"} {
		q.Header.Set(h, "application/vnd.oci.image.index.v1+json")
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s: status %d, want %d: %s (%v)", method, path, resp.StatusCode, want, b, err)
	}
}

func tagOf(t *testing.T, body string) (action, tag string) {
	t.Helper()
	var envelope struct {
		Events []struct {
			ID, Action string
			Target     struct{ Repository, Tag, Digest, URL, MediaType string }
		}
	}
	if err := json.Unmarshal([]byte(body), &envelope); err != nil || len(envelope.Events) != 1 {
		t.Fatalf("%s: %v", body, err)
	}
	e := envelope.Events[0]
	if e.ID == "" || e.Target.Repository != "team/app" {
		t.Errorf("the event is %+v", e)
	}
	if e.Action == "push" && (e.Target.MediaType != "application/vnd.oci.image.index.v1+json" ||
		e.Target.URL != "https://registry.example.com/v2/team/app/manifests/"+e.Target.Digest) {
		t.Errorf("the target is %+v", e.Target)
	}
	return e.Action, e.Target.Tag
}

func TestAWebhookIsToldSignedAndOncePerEvent(t *testing.T) {
	to := newReceiver(t)
	const secret = "the webhook's secret"
	r, _ := hooked(t, filepath.Join(t.TempDir(), "data"), webhookChange(to.URL, schema.Webhook{Sign: new(true)}, secret))
	push(t, r, "1")
	request(t, r, http.MethodGet, "/v2/team/app/manifests/1", http.StatusOK) // not asked for
	request(t, r, http.MethodPut, "/v2/other/app/manifests/1", http.StatusUnauthorized)
	request(t, r, http.MethodDelete, "/v2/team/app/manifests/1", http.StatusAccepted)
	got := to.wait(t, 2)
	var told []string
	for _, d := range got {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(d.body))
		if want := "sha256=" + hex.EncodeToString(m.Sum(nil)); d.signature != want {
			t.Errorf("signature %q, want %q", d.signature, want)
		}
		if d.authorization != "" || d.contentType != "application/vnd.docker.distribution.events.v2+json" || d.id == "" {
			t.Errorf("headers of %+v", d)
		}
		action, tag := tagOf(t, d.body)
		told = append(told, action+" "+tag)
	}
	if d := cmp.Diff([]string{"push 1", "delete 1"}, told); d != "" {
		t.Error(d)
	}
	if got[0].id == got[1].id {
		t.Error("two deliveries have one identifier")
	}
}

func TestADeadReceiverHoldsUpNoPushAndGetsAllInOrderLater(t *testing.T) {
	to := newReceiver(t)
	to.set(true, false)
	data := filepath.Join(t.TempDir(), "data")
	r, stop := hooked(t, data, webhookChange(to.URL, schema.Webhook{}, ""))
	start := time.Now()
	for i := range 10 {
		push(t, r, fmt.Sprint("t", i))
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("ten pushes took %s", took)
	}
	if n := r.hooks.Waiting()["team/ci"]; n != 10 {
		t.Errorf("%d deliveries wait, want 10", n)
	}
	stop() // and what waits outlives the process
	r, _ = hooked(t, data)
	if n := r.hooks.Waiting()["team/ci"]; n != 10 {
		t.Errorf("%d deliveries wait after a restart, want 10", n)
	}
	to.set(false, true) // the answer to the first one gets lost
	got := to.wait(t, 11)
	if got[0].id != got[1].id || got[0].body != got[1].body {
		t.Error("the second attempt is not the same delivery")
	}
	for i, d := range got[1:] {
		if _, tag := tagOf(t, d.body); tag != fmt.Sprint("t", i) {
			t.Errorf("delivery %d is of tag %s", i, tag)
		}
		if d.signature != "" || d.authorization != "" {
			t.Errorf("signed without a secret: %+v", d)
		}
	}
	for deadline := time.Now().Add(time.Minute); len(r.hooks.Waiting()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was delivered still waits")
		}
	}
	files, err := os.ReadDir(filepath.Join(data, ownDir, queueDir))
	if err != nil || len(files) != 0 {
		t.Errorf("files %v, %v", files, err)
	}
	scrape := httptest.NewRecorder()
	r.metrics.handler.ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{"ocisync_webhook_delivered_total 10\n", "ocisync_webhook_queue 0\n", "ocisync_webhook_dropped_total 0\n"} {
		if !strings.Contains(scrape.Body.String(), want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
}

func TestAWebhookThatWasDisabledOrDeletedIsToldNothing(t *testing.T) {
	to := newReceiver(t)
	to.set(true, false)
	r, _ := hooked(t, filepath.Join(t.TempDir(), "data"), webhookChange(to.URL, schema.Webhook{}, ""))
	push(t, r, "1")
	change := func(c Change) {
		t.Helper()
		if res, err := r.store.change(t.Context(), []Change{c}); err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
		r.hooks.Refresh()
	}
	change(webhookChange(to.URL, schema.Webhook{Enabled: new(false)}, ""))
	for r.hooks.Working() > 0 { // an attempt under way may end
		time.Sleep(time.Millisecond)
	}
	to.set(false, false)
	push(t, r, "2")
	time.Sleep(100 * time.Millisecond)
	to.wait(t, 0)
	to.mu.Lock()
	if len(to.got) != 0 {
		t.Errorf("a disabled webhook was told %v", to.got)
	}
	to.mu.Unlock()
	change(webhookChange(to.URL, schema.Webhook{Format: new("cloudevents")}, ""))
	to.wait(t, 1) // what waited when it was disabled
	push(t, r, "3")
	got := to.wait(t, 2)
	var ce struct {
		Specversion, ID, Source, Subject string
		Data                             struct{ Account string }
	}
	if err := json.Unmarshal([]byte(got[1].body), &ce); err != nil || got[1].contentType != "application/cloudevents+json" ||
		ce.Specversion != "1.0" || ce.ID == "" || ce.Subject != "team/app:3" || ce.Data.Account != "anonymous" || ce.Source != "https://registry.example.com" {
		t.Errorf("not a CloudEvent: %+v (%v)", got[1], err)
	}
	to.set(true, false)
	push(t, r, "4")
	change(Change{Delete: true, Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}}})
	for deadline := time.Now().Add(time.Minute); len(r.hooks.Waiting()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("deliveries of a deleted webhook still wait")
		}
	}
}

func TestSecretsSurviveACrashBetweenTheTwoFiles(t *testing.T) {
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, ownDir), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := openStore(data, "")
	if err != nil {
		t.Fatal(err)
	}
	key := schema.Key{Kind: schema.KindWebhook, Name: "team/ci"}
	put := func(secret string) {
		t.Helper()
		ns := Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}}}
		res, err := s.change(t.Context(), []Change{ns, webhookChange("https://ci.example.com", schema.Webhook{}, secret)})
		if err != nil || res[1].Err != nil {
			t.Fatal(err, res)
		}
	}
	put("first")
	first := s.now().doc
	put("") // keeps it
	put("first")
	if s.now().doc.Revision != first.Revision {
		t.Error("the same secret again is a change")
	}
	live := first.live(nil)
	if d := cmp.Diff([]string{"auth"}, live.Objects[1].Unread); d != "" {
		t.Error(d)
	}
	state, err := os.ReadFile(filepath.Join(data, ownDir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	put("second")
	secrets, err := os.ReadFile(filepath.Join(data, ownDir, secretsFile))
	if err != nil || bytes.Contains(secrets, []byte("first")) || !bytes.Contains(secrets, []byte("second")) {
		t.Errorf("the secrets are %s, %v", secrets, err)
	}
	// a crash after the secrets were written, and before the state was
	if err := s.now().doc.saveSecrets(data, first); err != nil {
		t.Fatal(err)
	}
	if err := regular.Replace(filepath.Join(data, ownDir), stateFile, state); err != nil {
		t.Fatal(err)
	}
	before, err := loadDocument(data)
	if err != nil || !before.checkKeptSecret(key, "first") || before.checkKeptSecret(key, "second") || before.checkKeptSecret(key, "") {
		t.Errorf("after the crash: %v", err)
	}
	info, err := os.Stat(filepath.Join(data, ownDir, secretsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if bytes.Contains(state, []byte("first")) {
		t.Error("state.json holds a secret")
	}
	if err := os.Remove(filepath.Join(data, ownDir, secretsFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := loadDocument(data); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("without the secrets: %v", err)
	}
	res, err := s.change(t.Context(), []Change{{Delete: true, Object: schema.Resource{Key: key}}})
	if err != nil || res[0].Err != nil || len(s.now().doc.values) != 0 || len(s.now().doc.Secrets) != 0 {
		t.Errorf("after the webhook went: %v %v", err, res)
	}
}
