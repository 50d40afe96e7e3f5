package providers_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers"
)

// stopped is a process that runs or not.
type stopped struct {
	running bool
	err     error
}

func (s stopped) Status(context.Context) (providers.ProcessStatus, error) {
	return providers.ProcessStatus{Running: s.running}, s.err
}
func (stopped) Start(context.Context) error                { return nil }
func (stopped) Stop(context.Context) error                 { return nil }
func (stopped) Log(context.Context) (io.ReadCloser, error) { return nil, errors.New("none") }

// TestNoLoginGoesToWhoAnswersForAStoppedRegistry, and whatever bears none does.
func TestNoLoginGoesToWhoAnswersForAStoppedRegistry(t *testing.T) {
	here, gone := filepath.Join(t.TempDir(), "config.json"), filepath.Join(t.TempDir(), "config.json")
	put(t, here)
	for name, test := range map[string]struct {
		process providers.Process
		file    string
		login   bool
		sent    bool
	}{
		"it runs":              {stopped{running: true}, here, true, true},
		"it does not":          {stopped{}, here, true, false},
		"it does not, no file": {stopped{}, gone, true, true},
		"nobody can tell":      {stopped{err: errors.New("away")}, here, true, true},
		"somebody else's":      {nil, here, true, true},
		"no login":             {stopped{}, here, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			heard := false
			s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { heard = true }))
			defer s.Close()
			way := providers.NewWay(http.DefaultTransport, test.process, s.URL, test.file)
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
			r.RequestURI = ""
			if test.login {
				r.SetBasicAuth("ocisync$", "secret")
			}
			resp, err := way.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			if heard != test.sent || test.sent != (err == nil) || !test.sent && !errors.Is(err, providers.ErrUnreachable) {
				t.Errorf("heard %t, %v", heard, err)
			}
		})
	}
}
