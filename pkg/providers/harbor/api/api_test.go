package api_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

const password = "Canary7Bird-password"

type secrets struct{}

func (secrets) Resolve(context.Context, schema.SecretRef) (string, error) { return password, nil }

func user(name string) *schema.Login {
	return &schema.Login{User: &name, Password: &schema.SecretRef{Env: "OCISYNC_X"}}
}

func robot(name string) *schema.Login {
	return &schema.Login{Robot: &name, Password: &schema.SecretRef{Env: "OCISYNC_X"}}
}

// server answers as Harbor does to whoever logs in, and leaves the rest to more.
// Of a login it knows the robots of names and, by a form with its guard, admin.
type server struct {
	*httptest.Server
	names []string
	more  http.HandlerFunc

	mu   sync.Mutex
	seen []string
}

func serve(t *testing.T, more http.HandlerFunc, names ...string) *server {
	t.Helper()
	s := &server{names: names, more: more}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	name, given, _ := r.BasicAuth()
	known := slices.Contains(s.names, name) && given == password
	if c, err := r.Cookie("sid"); err == nil && c.Value == "session" {
		known = true
	}
	http.SetCookie(w, &http.Cookie{Name: "sid", Value: "of-nobody", Path: "/"})
	switch {
	case r.URL.Path == "/c/login" && r.Method == http.MethodGet:
		http.SetCookie(w, &http.Cookie{Name: "_gorilla_csrf", Value: "guard", Path: "/"})
		w.Header().Set("X-Harbor-CSRF-Token", "token")
		w.WriteHeader(http.StatusMethodNotAllowed)
	case r.URL.Path == "/c/login":
		guard, err := r.Cookie("_gorilla_csrf")
		if err != nil || guard.Value != "guard" || r.Header.Get("X-Harbor-CSRF-Token") != "token" {
			refuse(w, http.StatusForbidden, "FORBIDDEN", "CSRF token not found in request")
			return
		}
		if r.FormValue("principal") != "admin" || r.FormValue("password") != password {
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "invalid")
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: "session", Path: "/"})
	case r.URL.Path == "/api/v2.0/systeminfo":
		info := map[string]string{"auth_mode": "db_auth"}
		if known {
			info["harbor_version"] = "v2.15.2-080b0220"
		}
		answer(w, info)
	case r.URL.Path == "/api/v2.0/users/current" && known:
		answer(w, map[string]string{"username": "admin"})
	default:
		if !known {
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "unauthorized")
			return
		}
		if c, err := r.Cookie("sid"); err == nil && r.Method != http.MethodGet && (r.Header.Get("X-Harbor-CSRF-Token") == "" || c.Value != "session") {
			refuse(w, http.StatusForbidden, "FORBIDDEN", "CSRF token not found in request")
			return
		}
		s.more(w, r)
	}
}

func answer[T any](w http.ResponseWriter, v T) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

func open(t *testing.T, s *server, login, admin *schema.Login) (*api.Client, error) {
	t.Helper()
	c, err := api.Open(t.Context(), api.Options{Registry: schema.Registry{URL: s.URL, Login: login, Admin: admin}, Secrets: secrets{}})
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

// Harbor takes a wrong login for nobody, and answers 200 with what is public.
func TestALoginThatHarborDoesNotTakeIsNeverBelieved(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, []api.Project{{ID: 1, Name: "library"}}) }, "robot$ocisync")
	for name, login := range map[string]*schema.Login{"robot": robot("another"), "user": user("somebody"), "none": nil} {
		_, err := open(t, s, login, nil)
		if !errors.Is(err, providers.ErrUnauthorized) || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := open(t, s, robot("ocisync"), nil); err != nil {
		t.Error(err)
	}
	if _, err := open(t, s, robot("robot$ocisync"), nil); err != nil {
		t.Error(err)
	}
}

// A password costs Harbor half a second: it is sent once, and a session after it.
func TestAUserLogsInOnceAndWritesWithTheSessionsToken(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _, sent := r.BasicAuth(); sent {
			t.Error("the password was sent again")
		}
		w.WriteHeader(http.StatusCreated)
	})
	c, err := open(t, s, user("admin"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := c.CreateProject(t.Context(), api.NewProject{Name: "team"}); err != nil {
			t.Fatal(err)
		}
	}
	logins := 0
	for _, r := range s.seen {
		if r == "POST /c/login" {
			logins++
		}
	}
	if logins != 1 || c.Version != "v2.15.2-080b0220" {
		t.Errorf("%d logins at %s", logins, c.Version)
	}
}

func TestWhatARobotMayNotDoNeedsAnAdministrator(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]api.Setting{}) }, "robot$ocisync")
	c, err := open(t, s, robot("ocisync"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Settings(t.Context()); !errors.Is(err, api.ErrNoAdmin) || !errors.Is(err, providers.ErrForbidden) || !strings.Contains(err.Error(), "reading settings: ") || !strings.Contains(err.Error(), "registry.admin") {
		t.Errorf("%v", err)
	}
	if c, err = open(t, s, robot("ocisync"), user("admin")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Settings(t.Context()); err != nil {
		t.Error(err)
	}
}

// A login is one of the requests of which there are not too many at once.
func TestALoginIsCountedWithTheOthers(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v2.0/configurations" {
			answer(w, map[string]api.Setting{})
			return
		}
		answer(w, []api.User{})
	}, "robot$ocisync")
	var flying, highest atomic.Int32
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if now := flying.Add(1); now > highest.Load() {
			highest.Store(now)
		}
		defer flying.Add(-1)
		time.Sleep(5 * time.Millisecond)
		s.ServeHTTP(w, r)
	})
	c, err := open(t, s, robot("ocisync"), user("admin"))
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			var err error
			if i == 20 {
				_, err = c.Settings(t.Context())
			} else {
				_, err = c.Users(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := highest.Load(); n > 16 {
		t.Errorf("%d at once", n)
	}
}

// Rows move between pages while others write.
func TestAListIsWholeAlthoughRowsMove(t *testing.T) {
	var rounds atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		page, err := strconv.Atoi(r.URL.Query().Get("page"))
		if err != nil || r.URL.Query().Get("page_size") != "100" {
			t.Errorf("asked for %s", r.URL)
		}
		if page == 1 {
			rounds.Add(1)
		}
		const total = 250
		w.Header().Set("X-Total-Count", strconv.Itoa(total))
		var rows []api.User
		for i := (page-1)*100 + 1; i <= min(page*100, total); i++ {
			id := i
			if rounds.Load() == 1 && page == 2 { // one row came before, and moved the rest
				id--
			}
			rows = append(rows, api.User{ID: int64(id)})
		}
		answer(w, rows)
	}, "robot$ocisync")
	c, err := open(t, s, robot("ocisync"), nil)
	if err != nil {
		t.Fatal(err)
	}
	users, err := c.Users(t.Context())
	if err != nil || len(users) != 250 || rounds.Load() != 2 {
		t.Errorf("%d users in %d rounds, %v", len(users), rounds.Load(), err)
	}
}

func TestABusyServerIsAskedAgainAndAWriteThatMayHaveBeenDoneIsNot(t *testing.T) {
	var asked atomic.Int32
	var status atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "0")
			refuse(w, int(status.Load()), "BUSY", "later")
			return
		}
		answer(w, []api.User{})
	}, "robot$ocisync")
	c, err := open(t, s, robot("ocisync"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		status int
		write  bool
		tries  int32
	}{
		{http.StatusTooManyRequests, true, 2},
		{http.StatusServiceUnavailable, true, 2},
		{http.StatusBadGateway, true, 1},
		{http.StatusBadGateway, false, 2},
		{http.StatusInternalServerError, false, 1},
	} {
		asked.Store(0)
		status.Store(int32(tc.status))
		if tc.write {
			_, err = c.CreateProject(t.Context(), api.NewProject{Name: "team"})
		} else {
			_, err = c.Users(t.Context())
		}
		if asked.Load() != tc.tries || (err == nil) != (tc.tries > 1) {
			t.Errorf("%d, write %v: %d tries, %v", tc.status, tc.write, asked.Load(), err)
		}
	}
}

func TestAnErrorQuotesHarborAndSaysWhatToDo(t *testing.T) {
	var reply atomic.Pointer[http.HandlerFunc]
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { (*reply.Load())(w, r) }, "robot$ocisync")
	c, err := open(t, s, robot("ocisync"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		reply http.HandlerFunc
		kind  error
		words []string
	}{
		"a mistake": {func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusBadRequest, "BAD_REQUEST", "the registry is unhealthy")
		}, providers.ErrInvalid, []string{"400", "the registry is unhealthy"}},
		"read-only": {func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusForbidden, "DENIED", "The system is in read only mode. Any modification is prohibited.")
		}, providers.ErrReadOnly, []string{"read_only"}},
		"nothing said": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, nil, []string{"500", "says nothing", "log"}},
		"a page": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = fmt.Fprint(w, "<html>")
		}, providers.ErrNotRegistry, []string{"web page"}},
		"a page with 200": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/api/v2.0/projects/7")
			w.WriteHeader(http.StatusFound)
		}, nil, []string{"302"}},
	} {
		reply.Store(&tc.reply)
		err := c.DeleteUser(t.Context(), 1)
		if err == nil || tc.kind != nil && !errors.Is(err, tc.kind) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, word := range append(tc.words, s.URL) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s does not say %q: %v", name, word, err)
			}
		}
	}
}

// Harbor says nothing of a session that ended: the token that it gives then is nobody's.
func TestATokenIsAskedForAnewWhereASessionEnded(t *testing.T) {
	jwt := func(claims string) string {
		return strings.Join([]string{
			base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)), base64.RawURLEncoding.EncodeToString([]byte(claims)), "c2ln",
		}, ".")
	}
	asked := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Query().Get("service") != "harbor-registry" || !slices.Equal(r.URL.Query()["scope"], []string{"repository:a/b:pull"}) {
			t.Errorf("it asks for %s", r.URL)
		}
		claims := `{"iss":"harbor-token-issuer","access":[]}`
		if asked > 1 {
			claims = `{"iss":"harbor-token-issuer","sub":"admin"}`
		}
		answer(w, struct {
			Token string `json:"token"`
			Lives int    `json:"expires_in"`
		}{jwt(claims), 1800})
	})
	c, err := open(t, s, user("admin"), nil)
	if err != nil {
		t.Fatal(err)
	}
	value, lives, err := c.Token(t.Context(), []string{"repository:a/b:pull"})
	if err != nil || value != jwt(`{"iss":"harbor-token-issuer","sub":"admin"}`) || lives != 30*time.Minute {
		t.Errorf("%q for %s, %v", value, lives, err)
	}
	logins := 0
	for _, r := range s.seen {
		if r == "POST /c/login" {
			logins++
		}
	}
	if asked != 2 || logins != 2 {
		t.Errorf("%d tokens were asked for, with %d logins", asked, logins)
	}
}
