package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/schema"
)

// launcher is a provider that says how its registry is started, and no more.
type launcher struct {
	providers.Provider
	err error
}

func (l launcher) Launch(context.Context) (providers.Launch, error) {
	return providers.Launch{
		Args: []string{"serve"}, Env: []string{"A=1"}, Port: 5000, Grace: time.Second,
		Mounts: []providers.Mount{{Path: "/data", Writable: true}},
	}, l.err
}

func (l launcher) BeforeStart(context.Context, string) error { return l.err }

func TestAProviderSaysHowItsRegistryIsStarted(t *testing.T) {
	cfg := &schema.Config{Mode: "m", Registry: schema.Registry{Type: "zot", Run: &schema.Run{Driver: "process"}}}
	ask := func(p providers.Provider, err error) (runtime.Launch, error) {
		return launches(starter(cfg, func() (providers.Provider, error) { return p, err }))(t.Context())
	}
	got, err := ask(launcher{}, nil)
	want := runtime.Launch{
		Args: []string{"serve"}, Env: []string{"A=1"}, Port: 5000, Grace: time.Second,
		Mounts: []runtime.Mount{{Path: "/data", Writable: true}},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	broken := errors.New("no configuration")
	if _, err := ask(launcher{err: broken}, nil); !errors.Is(err, broken) {
		t.Errorf("a launch that fails: %v", err)
	}
	if _, err := ask(nil, broken); !errors.Is(err, broken) {
		t.Errorf("a provider that fails: %v", err)
	}
	for name, open := range map[string]func() (providers.Provider, error){
		"no launcher":  func() (providers.Provider, error) { return struct{ providers.Provider }{}, nil },
		"no provider":  func() (providers.Provider, error) { return nil, providers.ErrUnsupported },
		"none at hand": func() (providers.Provider, error) { return nil, nil },
	} {
		var coded codedError
		if _, err := launches(starter(cfg, open))(t.Context()); !errors.As(err, &coded) || coded.code != exitRefused || !strings.Contains(err.Error(), `ocisync devel does not run registries of type "zot"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARegistryIsReadyWhenItAnswersAsOne(t *testing.T) {
	answer := func(status int, header, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if header != "" {
				w.Header().Set("WWW-Authenticate", header)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	open, login, page := answer(200, "", "{}"), answer(401, `Basic realm="r"`, ""), answer(200, "", "<!doctype html>")
	for name, c := range map[string]struct {
		url, listen string
		ready       bool
	}{
		"open":                       {"http://" + open, "", true},
		"with a login":               {"http://" + login, "", true},
		"a web page":                 {"http://" + page, "", false},
		"nobody":                     {"http://127.0.0.1:1", "", false},
		"behind a server with https": {"https://registry.example.com", open, true},
		"where it listens":           {"http://127.0.0.1:1", login, true},
	} {
		err := ready(schema.Registry{Type: "zot", URL: c.url, Run: &schema.Run{Driver: "process", Listen: c.listen}})(t.Context(), schema.Registry{URL: c.url, Run: &schema.Run{Listen: c.listen}}.Address())
		if (err == nil) != c.ready {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALogGivesATerminalNoOrders(t *testing.T) {
	var b bytes.Buffer
	w := &safeWriter{to: &b}
	for _, part := range []string{"one\nt\x1b[3", "1mwo\n", "three"} {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != "one\nt\\u001B[31mwo\nthree" {
		t.Errorf("%q", got)
	}
}

func TestAPullIsToldNowAndThen(t *testing.T) {
	var b bytes.Buffer
	o := &options{streams: streams{err: &b, getenv: func(string) (string, bool) { return "", false }}}
	tell := o.pulling()
	for i := range int64(100) {
		tell(i<<20, 100<<20)
	}
	tell(0, 0)
	if got := b.String(); got != "pulling: 0 B of 100.0 MiB\n" {
		t.Errorf("%q", got)
	}
}

// ranAs is a runner of a registry that was started so.
type ranAs struct {
	launched
	made *runtime.Made
	err  error
}

func (r ranAs) Made(context.Context) (*runtime.Made, error) { return r.made, r.err }

// TestARegistryIsAskedWhereItRuns and not where the mode has it by now, as after an
// apply that was taken back.
func TestARegistryIsAskedWhereItRuns(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("{}"))
	}))
	defer s.Close()
	at := strings.TrimPrefix(s.URL, "http://")
	mode := schema.Registry{Type: "zot", URL: "https://127.0.0.1:1", Run: &schema.Run{Driver: "process"}}
	failed := errors.New("no engine")
	for name, c := range map[string]struct {
		by    runner
		ready bool
	}{
		"elsewhere":           {ranAs{made: &runtime.Made{Listen: at}}, true},
		"as the mode says":    {ranAs{made: &runtime.Made{Listen: "127.0.0.1:1"}}, false},
		"nothing is known":    {ranAs{}, false},
		"that cannot be told": {ranAs{err: failed}, false},
		"in this program":     {&served{}, false},
	} {
		if err := answers(t.Context(), mode, c.by); (err == nil) != c.ready || name == "that cannot be told" && !errors.Is(err, failed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhatCannotBeLookedAtIsNotWell: health names it, and does not say ok before it.
func TestWhatCannotBeLookedAtIsNotWell(t *testing.T) {
	w := newRobotWorld(t)
	t.Setenv("DOCKER_HOST", "unix:///no/such/engine")
	write(t, w.file, "version = 1\n[registry]\ntype = \"distribution\"\nurl = \"http://"+w.address+"\"\nrun = { driver = \"docker\", image = \"distribution:3\", data = \"../../data\" }\n[state]\nstore = \"dir\"\ndir = \"../../state\"\n")
	var out bytes.Buffer
	code := w.ocisync(t.Context(), &out, "health")
	if code != exitFailed || !strings.Contains(out.String(), "note    files ") || strings.Contains(out.String(), "ok      files") {
		t.Errorf("exit code %d:\n%s", code, &out)
	}
}
