package oci

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// asked plays a registry with a token service and notes what it is asked.
func asked(t *testing.T, realm func(own string) string, status func(r *http.Request) int) (base string, requests *[]string) {
	t.Helper()
	requests = &[]string{}
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*requests = append(*requests, r.Method)
		switch user, password, _ := r.BasicAuth(); {
		case r.URL.Path == "/token" && user != "" && password != "right":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/token":
			text := user + " " + r.URL.Query().Get("service") + " " + strings.Split(r.URL.Query().Get("scope"), ":")[2]
			if err := json.NewEncoder(w).Encode(map[string]string{"token": text}); err != nil {
				t.Error(err)
			}
		case realm != nil && !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer "):
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm(s.URL)+`",service="svc"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(status(r))
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

func confinedTo(t *testing.T, base string) *http.Client {
	t.Helper()
	rt, err := Confine(&http.Transport{DisableKeepAlives: true}, base)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: rt}
}

func TestAProbeTakesForAnAnswerOnlyWhatIsOne(t *testing.T) {
	for status, want := range map[int]Answer{
		200: {200, true, true}, 400: {400, true, true}, 404: {404, true, true}, 405: {405, true, true},
		401: {401, false, true}, 403: {403, false, true},
		201: {201, false, false}, 202: {202, false, false}, 302: {302, false, false}, 429: {429, false, false}, 500: {500, false, false}, 503: {503, false, false},
	} {
		for _, right := range []schema.Rights{schema.Pull, schema.Push, schema.Delete} {
			base, requests := asked(t, nil, func(r *http.Request) int {
				user, password, _ := r.BasicAuth()
				if user != "ann" || password != "right" || !strings.HasPrefix(r.URL.Path, "/v2/team/ocisync-probe-") || r.ContentLength > 0 {
					t.Errorf("%s %s as %s, %d bytes", r.Method, r.URL, user, r.ContentLength)
				}
				return status
			})
			got, err := Probe{"team", "ann", "right", right}.Ask(t.Context(), confinedTo(t, base), base)
			if err != nil || got != want {
				t.Errorf("%d to %s: %+v, %v; want %+v", status, right, got, err, want)
			}
			if method := map[schema.Rights]string{schema.Pull: "GET", schema.Push: "PUT", schema.Delete: "DELETE"}[right]; strings.Join(*requests, " ") != method {
				t.Errorf("%s is asked by %v", right, *requests)
			}
		}
	}
}

func TestAProbeFetchesTheTokenThatIsWanted(t *testing.T) {
	own := func(own string) string { return own + "/token" }
	base, _ := asked(t, own, func(r *http.Request) int {
		switch r.Header.Get("Authorization") {
		case "Bearer ann svc pull,push", "Bearer  svc pull":
			return http.StatusNotFound
		}
		return http.StatusUnauthorized
	})
	for _, c := range []struct {
		probe Probe
		want  Answer
	}{
		{Probe{"team", "ann", "right", schema.Push}, Answer{404, true, true}},
		{Probe{"team", "ann", "right", schema.Delete}, Answer{401, false, true}},
		{Probe{"team", "ann", "wrong", schema.Push}, Answer{401, false, true}},
		{Probe{"team", "", "", schema.Pull}, Answer{404, true, true}},
		{Probe{"team", "", "", schema.Push}, Answer{401, false, true}},
	} {
		if got, err := c.probe.Ask(t.Context(), confinedTo(t, base), base); err != nil || got != c.want {
			t.Errorf("%+v: %+v, %v; want %+v", c.probe, got, err, c.want)
		}
	}
}

func TestAProbesPasswordGoesToNoTokenServiceThatTheServerAloneNames(t *testing.T) {
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the stranger was sent %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(stranger.Close)
	base, _ := asked(t, func(string) string { return stranger.URL + "/token" }, func(*http.Request) int { return 200 })
	if got, err := (Probe{"team", "ann", "right", schema.Push}).Ask(t.Context(), confinedTo(t, base), base); !errors.Is(err, providers.ErrForbidden) || got.Known {
		t.Errorf("%+v, %v", got, err)
	}
}
