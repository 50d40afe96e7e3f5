package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/ocisync/ocisync/schema"
)

// told is one event in the words of these tests: "push team/app".
func told(_ http.Header, body []byte) ([]Event, error) {
	action, repository, ok := strings.Cut(string(body), " ")
	if !ok {
		return nil, errors.New("no event")
	}
	e := NewEvent(action, "")
	e.About(repository, "1", "", "http://registry")
	return []Event{e}, nil
}

// inboxAt is an inbox with a webhook for each name NAMESPACE/WEBHOOK.
func inboxAt(t *testing.T, names ...string) (file string, box Inbox) {
	t.Helper()
	file = InboxFile(t.TempDir())
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	box = NewInbox(FreeAddress("127.0.0.1", 0))
	to := "http://127.0.0.1:9" // where nobody is
	for _, name := range names {
		key := schema.Key{Kind: schema.KindWebhook, Name: name}
		ns, _ := key.Namespace()
		box.Namespaces = append(box.Namespaces, ns.Name)
		box.Hooks = append(box.Hooks, Posted{Key: key, Spec: &schema.Webhook{URL: &to, Events: schema.NewSet("push", "delete")}})
	}
	if err := box.Save(file); err != nil {
		t.Fatal(err)
	}
	return file, box
}

func receiverOf(t *testing.T, file string) *Receiver {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	q, err := OpenQueue(filepath.Join(filepath.Dir(file), "webhooks"), logger)
	if err != nil {
		t.Fatal(err)
	}
	return NewReceiver(ReceiverOptions{Inbox: file, Read: told, Queue: q, URL: "http://registry", Logger: logger})
}

func post(h http.Handler, authorization string, body io.Reader) int {
	q := httptest.NewRequest(http.MethodPost, "/", body)
	q.Header.Set("Authorization", authorization)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w.Code
}

func TestOnlyWhoKnowsTheSecretPosts(t *testing.T) {
	file, box := inboxAt(t, "team/ci")
	r := receiverOf(t, file)
	basic := httptest.NewRequest(http.MethodPost, "/", nil)
	basic.SetBasicAuth("ocisync", box.Secret)
	for authorization, want := range map[string]int{
		"": 401, "Bearer": 401, "Bearer ": 401, "Bearer x": 401, box.Secret: 401, "Bearer " + box.Secret[1:]: 401,
		"Bearer " + box.Secret: 202, basic.Header.Get("Authorization"): 202,
	} {
		if got := post(r, authorization, strings.NewReader("push team/app")); got != want {
			t.Errorf("with %q: %d, want %d", authorization, got, want)
		}
	}
	if n := r.engine.Waiting()["team/ci"]; n != 2 {
		t.Errorf("%d wait, want the two that were posted by the registry", n)
	}
	if err := (Inbox{}).Save(file); err != nil {
		t.Fatal(err)
	}
	for _, authorization := range []string{"Bearer ", "Bearer " + box.Secret} {
		if got := post(r, authorization, strings.NewReader("push team/app")); got != 401 {
			t.Errorf("without an inbox, with %q: %d", authorization, got)
		}
	}
}

func TestAPostIsBoundedBeforeItIsRead(t *testing.T) {
	file, box := inboxAt(t, "team/ci")
	r := receiverOf(t, file)
	read := 0
	r.options.Read = func(_ http.Header, body []byte) ([]Event, error) {
		read = max(read, len(body))
		return nil, nil
	}
	login := "Bearer " + box.Secret
	for _, c := range []struct {
		size, want int
		hide       bool // how long it is
	}{{maxPost, 202, false}, {maxPost + 1, 413, false}, {maxPost, 202, true}, {maxPost + 1, 413, true}} {
		var body io.Reader = bytes.NewReader(make([]byte, c.size))
		if c.hide {
			body = io.MultiReader(body)
		}
		if got := post(r, login, body); got != c.want {
			t.Errorf("%d bytes, hidden %v: %d, want %d", c.size, c.hide, got, c.want)
		}
	}
	if read != maxPost {
		t.Errorf("up to %d bytes were read", read)
	}
	r.options.Read = told
	if got := post(r, login, strings.NewReader("nonsense")); got != 400 {
		t.Errorf("no event: %d", got)
	}
	r.posts = rate.NewLimiter(0, 1)
	if one, two := post(r, login, strings.NewReader("push team/app")), post(r, login, strings.NewReader("push team/app")); one != 202 || two != 429 {
		t.Errorf("beyond the limit: %d, %d", one, two)
	}
}

func TestAnEventIsToldToTheInnermostNamespaceAlone(t *testing.T) {
	file, box := inboxAt(t, "team/ci", "team/inner/ci")
	r := receiverOf(t, file)
	for _, body := range []string{"push team/app", "push team", "push teamwork/app", "push team/inner/app", "pull team/app", "delete team/inner", "push other/team/app"} {
		if got := post(r, "Bearer "+box.Secret, strings.NewReader(body)); got != 202 {
			t.Errorf("%s: %d", body, got)
		}
	}
	if got := r.engine.Waiting(); len(got) != 2 || got["team/ci"] != 2 || got["team/inner/ci"] != 2 {
		t.Errorf("there wait %v", got)
	}
}

func TestWhatCannotBeKeptIsNotTaken(t *testing.T) {
	file, box := inboxAt(t, "team/ci")
	r := receiverOf(t, file)
	if err := os.Remove(r.options.Queue.dir); err != nil {
		t.Fatal(err)
	}
	if got := post(r, "Bearer "+box.Secret, strings.NewReader("push team/app")); got != 503 {
		t.Errorf("it answers %d", got)
	}
}

func TestAReceiverDoesAsItsInboxSaysAndForgetsNothingInBetween(t *testing.T) {
	got := make(chan string, 10)
	to := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		var e struct {
			Events []struct {
				Action string
				Target struct{ Repository string }
			}
		}
		if err := json.NewDecoder(q.Body).Decode(&e); err != nil || len(e.Events) != 1 {
			t.Errorf("%+v, %v", e, err)
		}
		got <- e.Events[0].Action + " " + e.Events[0].Target.Repository
	}))
	defer to.Close()
	file, box := inboxAt(t, "team/ci")
	send := func(body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+box.Listen, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+box.Secret)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %s", body, resp.Status)
		}
	}
	run := func() (stop func()) {
		t.Helper()
		r := receiverOf(t, file)
		r.engine.Backoff = func(int) time.Duration { return time.Hour }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.Run(ctx) }()
		if err := Await(ctx, box); err != nil {
			t.Fatal(err)
		}
		return func() { cancel(); <-done }
	}
	want := func(what string) {
		t.Helper()
		select {
		case s := <-got:
			if s != what {
				t.Errorf("it was told %q, want %q", s, what)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("it was not told %q", what)
		}
	}
	stop := run()
	send("push team/1")
	send("push team/2")
	if said, err := Ask(t.Context(), box); err != nil || said.Waiting["team/ci"] != 2 {
		t.Errorf("it says %v, %v", said, err)
	}
	stop()
	if _, err := Ask(t.Context(), box); !errors.Is(err, ErrDeaf) {
		t.Errorf("nobody there: %v", err)
	}
	stop = run()
	defer func() { stop() }()
	box.Hooks[0].Spec.URL = &to.URL // no pause holds it up, whoever notices first
	if err := box.Save(file); err != nil {
		t.Fatal(err)
	}
	if _, err := Ask(t.Context(), box); err != nil {
		t.Fatal(err)
	}
	want("push team/1")
	want("push team/2")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil { // what cannot be read changes nothing
		t.Fatal(err)
	}
	time.Sleep(2 * look)
	send("delete team/1")
	want("delete team/1")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := (Inbox{}).Save(file); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := Ask(t.Context(), box); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it listens without an inbox")
		}
	}
}

func TestAReceiverTellsWhetherTheRegistryPosted(t *testing.T) {
	file, box := inboxAt(t, "team/ci")
	r := receiverOf(t, file)
	post(r, "Bearer guessed", strings.NewReader("push team/app"))
	if said := r.received(); said.Since.IsZero() || !said.Last.IsZero() {
		t.Errorf("before the first post: %+v", said)
	}
	post(r, "Bearer "+box.Secret, strings.NewReader("push other/app")) // of which nobody is told
	if said := r.received(); said.Last.Before(said.Since.Truncate(time.Second)) {
		t.Errorf("after it: %+v", said)
	}
}

func TestAnInboxMovesToAnotherHost(t *testing.T) {
	box := NewInbox(FreeAddress("127.0.0.1", 0))
	_, port, err := net.SplitHostPort(box.Listen)
	if err != nil {
		t.Fatal(err)
	}
	was := box
	if box.Move("127.0.0.1") || box.Listen != was.Listen {
		t.Errorf("it moved from %s to %s", was.Listen, box.Listen)
	}
	if !box.Move("::1") || box.Listen != "[::1]:"+port || box.Host() != "::1" || box.Secret != was.Secret {
		t.Errorf("it moved from %s to %s", was.Listen, box.Listen)
	}
	taken, err := net.Listen("tcp", was.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if !box.Move("127.0.0.1") || box.Listen == was.Listen || box.Host() != "127.0.0.1" {
		t.Errorf("it moved to %s, which another has", box.Listen)
	}
	if none := (Inbox{}); none.Move("127.0.0.1") || none.Host() != "" {
		t.Errorf("one without an address: %+v", none)
	}
}

// copied is an inbox in a copy of its directory.
func copied(t *testing.T, file string) (string, Inbox) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := InboxFile(t.TempDir())
	if err := errors.Join(os.MkdirAll(filepath.Dir(other), 0o700), os.WriteFile(other, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	box, err := ReadInbox(other)
	if err != nil {
		t.Fatal(err)
	}
	return other, box
}

func TestACopiedInboxIsRenewed(t *testing.T) {
	file, was := inboxAt(t, "team/ci")
	own, err := ReadInbox(file)
	if err != nil || own.Copied(t.Context()) {
		t.Errorf("where it was made: %+v, %v", own, err)
	}
	other, box := copied(t, file)
	if !box.Copied(t.Context()) {
		t.Errorf("a copy: %+v", box)
	}
	if err := box.Save(other); err != nil { // with other webhooks, say
		t.Fatal(err)
	}
	if box, err = ReadInbox(other); err != nil || !box.Copied(t.Context()) {
		t.Errorf("a copy that was written: %+v, %v", box, err)
	}
	box.Renew("127.0.0.1:9")
	if err := box.Save(other); err != nil {
		t.Fatal(err)
	}
	box, err = ReadInbox(other)
	if err != nil || box.Copied(t.Context()) || box.Secret == was.Secret || box.Listen != "127.0.0.1:9" || len(box.Hooks) != 1 {
		t.Errorf("renewed: %+v, %v", box, err)
	}
}

// TestAReceiverOfAnotherDirectoryIsNobodys, though it has the same secret.
func TestAReceiverOfAnotherDirectoryIsNobodys(t *testing.T) {
	file, box := inboxAt(t, "team/ci")
	box.Place = "" // as an earlier ocisync wrote it
	text, err := json.Marshal(box)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		receiverOf(t, file).Run(ctx)
	}()
	defer func() {
		end()
		<-done
	}()
	own, err := ReadInbox(file)
	for deadline := time.Now().Add(time.Minute); err == nil; time.Sleep(time.Millisecond) {
		if _, asked := Ask(t.Context(), own); asked == nil || time.Now().After(deadline) {
			err = asked
			break
		}
	}
	if err != nil || own.Copied(t.Context()) {
		t.Fatalf("its own: %v", err)
	}
	_, other := copied(t, file)
	if _, err := Ask(t.Context(), other); !errors.Is(err, ErrDeaf) || !strings.Contains(err.Error(), filepath.Dir(file)) || !strings.Contains(err.Error(), "ocisync restart") {
		t.Errorf("of a copy: %v", err)
	}
	if !other.Copied(t.Context()) {
		t.Error("that it is a copy is not seen by who receives")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(filepath.Dir(file)), link); err != nil {
		t.Fatal(err)
	}
	linked, err := ReadInbox(InboxFile(link))
	if err == nil {
		_, err = Ask(t.Context(), linked)
	}
	if err != nil {
		t.Errorf("by another way: %v", err)
	}
}

func TestAnInboxThatIsNoneIsSaidWithoutItsSecrets(t *testing.T) {
	name := filepath.Join(t.TempDir(), "events.json")
	for _, text := range []string{
		`{"format":1,"listen":"127.0.0.1:1","secret":"hush","more":1}`, `{"secret":"hush"`, `{"format":2,"secret":"hush"}`,
		`{"format":1,"listen":"127.0.0.1:1"}`, `{"format":1,"listen":"127.0.0.1:1","secret":"hush","hooks":[{"key":"user/x","auth":"hush","spec":{}}]}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadInbox(name)
		if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "; ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
