package harbor_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// A Harbor that is not as it should be, or is asked for what it does not do, is an
// error that names the registry and what was at hand, quotes Harbor, and says what
// to do.
func TestWhatGoesWrongIsSaid(t *testing.T) {
	namespaces := func(t *testing.T, h standIn) error {
		t.Helper()
		_, err := h.open(t).Read(t.Context(), schema.ScopeOf(schema.KindNamespace, schema.KindAccess))
		return err
	}
	makes := func(lines ...string) func(*testing.T, standIn) error {
		return func(t *testing.T, h standIn) error {
			t.Helper()
			want := objects(t, lines...)
			var changes []plan.Change
			for _, r := range want.Resources {
				changes = append(changes, plan.Change{Action: plan.Create, Key: r.Key, After: &r, Fields: fields(r)})
			}
			for _, err := range write(t, h.open(t), changes...) {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	answers := func(status int, media, body string) func(*testing.T, *standIn) {
		return func(t *testing.T, h *standIn) {
			t.Helper()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", media)
				w.WriteHeader(status)
				_, _ = fmt.Fprint(w, body)
			}))
			t.Cleanup(s.Close)
			h.registry.URL = s.URL
		}
	}
	fault := func(f harbortest.Fault) func(*testing.T, *standIn) {
		return func(_ *testing.T, h *standIn) { f.RetryAfter = "0"; h.Inject(f) }
	}
	robot := func(access string) func(*testing.T, *standIn) {
		return func(t *testing.T, h *standIn) {
			t.Helper()
			apply(t, h.open(t), "namespace/a", `robot/weak {"access":{"a":[`+access+`]},"secret":{"value":`+secretA+`}}`)
			name := "weak"
			h.registry.Login = &schema.Login{Robot: &name, Password: h.registry.Login.Password}
		}
	}
	const page = "<html><title>Sign in</title></html>"
	// instead answers some requests with a page in Harbor's place
	instead := func(method, path string) func(*testing.T, *standIn) {
		return func(t *testing.T, h *standIn) {
			t.Helper()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != method || r.URL.Path != path {
					h.ServeHTTP(w, r)
					return
				}
				_, _ = fmt.Fprint(w, page)
			}))
			t.Cleanup(s.Close)
			h.registry.URL = s.URL
		}
	}
	sends := func(t *testing.T, h *standIn) {
		t.Helper()
		s := httptest.NewServer(http.RedirectHandler("https://login.example.com/?back=x", http.StatusFound))
		t.Cleanup(s.Close)
		h.registry.URL = s.URL
	}
	for name, c := range map[string]struct {
		is   func(*testing.T, *standIn)
		do   func(*testing.T, standIn) error
		kind error
		says []string
	}{
		"away": {func(t *testing.T, h *standIn) {
			t.Helper()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			h.registry.URL = "http://" + l.Addr().String()
			_ = l.Close()
		}, namespaces, providers.ErrUnreachable, []string{"connection refused"}},
		"half up":                {fault(harbortest.Fault{Path: "/projects", Status: http.StatusServiceUnavailable}), namespaces, providers.ErrUnreachable, []string{"reading projects", "503: Service Unavailable", "Harbor's log"}},
		"half up from the start": {fault(harbortest.Fault{Status: http.StatusBadGateway}), namespaces, providers.ErrUnreachable, []string{"asking who it is", "502: Bad Gateway", "Harbor's log"}},
		"a dead part":            {fault(harbortest.Fault{Path: "/projects/{project_name_or_id}/members", Status: http.StatusInternalServerError}), namespaces, nil, []string{"namespace/library", "reading members", "500: Internal Server Error", "log says more"}},
		"read-only": {func(t *testing.T, h *standIn) {
			t.Helper()
			h.behind(t, http.MethodPut, "/configurations", `{"read_only":true}`)
		}, makes("namespace/a"), providers.ErrReadOnly, []string{"namespace/a", "403: The system is in read only mode", "read_only = false"}},
		"another thing":                      {answers(http.StatusOK, "application/json", `{"version":"3"}`), namespaces, providers.ErrNotRegistry, []string{"correct registry.url"}},
		"an old Harbor":                      {answers(http.StatusNotFound, "application/json", `{"errors":[{"code":"NOT_FOUND","message":"path /api/v2.0/systeminfo was not found"}]}`), namespaces, providers.ErrNotRegistry, []string{"404: path /api/v2.0/systeminfo was not found", "2.10"}},
		"a page":                             {answers(http.StatusOK, "text/html", page), namespaces, providers.ErrNotRegistry, []string{"web page"}},
		"a page in the place of a list":      {instead(http.MethodGet, "/api/v2.0/projects"), namespaces, providers.ErrNotRegistry, []string{"reading projects", "GET /projects with a web page (200)"}},
		"a page in the place of a login":     {instead(http.MethodPost, "/c/login"), namespaces, providers.ErrNotRegistry, []string{"logging in", "POST /c/login with a web page (200)"}},
		"a page in the place of a success":   {instead(http.MethodPost, "/api/v2.0/labels"), makes("label/base"), providers.ErrUnanswered, []string{"label/base", "POST /labels with a web page (200)", "nothing else answers in its place"}},
		"a proxy that sends elsewhere":       {sends, namespaces, providers.ErrNotRegistry, []string{"GET /systeminfo by sending elsewhere (302), to login.example.com", "correct registry.url"}},
		"a group that the directory has not": {func(*testing.T, *standIn) {}, makes(`group/ops {"type":"ldap","ldap_dn":"cn=ops,dc=example,dc=com"}`), providers.ErrInvalid, []string{"group/ops", "400: LDAP Group DN is not found: DN:cn=ops,dc=example,dc=com", "ldap_dn names a group in it"}},
		"a page of a proxy":                  {answers(http.StatusBadGateway, "text/html; charset=utf-8", page), namespaces, providers.ErrNotRegistry, []string{"web page (502)", "nothing else answers in its place"}},
		"http where it speaks https": {func(t *testing.T, h *standIn) {
			t.Helper()
			s := httptest.NewTLSServer(h.Server)
			t.Cleanup(s.Close)
			h.registry.URL = strings.Replace(s.URL, "https:", "http:", 1)
		}, namespaces, providers.ErrNotRegistry, []string{"400: Client sent an HTTP request to an HTTPS server.", "write registry.url with https://"}},
		"self-signed": {func(t *testing.T, h *standIn) {
			t.Helper()
			s := httptest.NewTLSServer(h.Server)
			t.Cleanup(s.Close)
			h.registry.URL = s.URL
		}, namespaces, providers.ErrUnreachable, []string{"certificate", "registry.tls.ca"}},
		"another password": {func(_ *testing.T, h *standIn) {
			h.registry.Login = &schema.Login{User: h.registry.Login.User, Password: &schema.SecretRef{Env: providertest.SecretB}}
		}, namespaces, providers.ErrUnauthorized, []string{"admin (registry.login)", "401 and says nothing", "see that the name and the password"}},
		"a robot that is disabled": {func(t *testing.T, h *standIn) {
			t.Helper()
			admin := *h
			robot(`"pull"`)(t, h)
			apply(t, admin.open(t), `robot/weak {"enabled":false}`)
		}, namespaces, providers.ErrUnauthorized, []string{"robot$weak (registry.login)", "neither disabled nor expired"}},
		"a robot without rights":   {robot(`"pull"`), makes(person("x")), providers.ErrForbidden, []string{"user/x", "403: robot$weak", "registry.admin"}},
		"a robot and its members":  {robot(`"pull"`), makes(`access/a {"anonymous":["pull"]}`), providers.ErrForbidden, []string{"access/a", "403: ", "registry.admin"}},
		"an endpoint that is down": {func(*testing.T, *standIn) {}, makes(`remote/down {"type":"harbor","url":"https://down.example.com"}`), providers.ErrInvalid, []string{"remote/down", "400: the registry is unhealthy", "see that it answers"}},
		"a group whose name another type has": {func(t *testing.T, h *standIn) {
			t.Helper()
			h.behind(t, http.MethodPost, "/usergroups", `{"group_name":"ops","group_type":3}`)
		}, makes(`group/ops {"type":"http"}`), nil, []string{"group/ops", "500: internal server error", "one group of a name"}},
		"an endpoint that refuses Harbor": {func(*testing.T, *standIn) {}, makes(`remote/far {"type":"harbor","url":"https://refuses.example.com"}`), providers.ErrInvalid, []string{"remote/far", "401: authentication required", "see that it answers"}},
		"an endpoint of a robot that may make none": {func(t *testing.T, h *standIn) {
			t.Helper()
			robot(`"pull"`)(t, h)
		}, makes(`remote/far {"type":"harbor","url":"https://refuses.example.com"}`), providers.ErrForbidden, []string{"remote/far", "403: robot$weak", "registry.admin"}},
		"an endpoint that moves to one that is down": {func(t *testing.T, h *standIn) {
			t.Helper()
			apply(t, h.open(t), `remote/dr {"type":"harbor","url":"https://dr.example.com"}`)
		}, func(t *testing.T, h standIn) error {
			t.Helper()
			return failed(t, h.open(t), compared(t, h.open(t), objects(t, `remote/dr {"url":"https://down.example.com"}`))...)
		}, providers.ErrInvalid, []string{"remote/dr: changing it", "400: the registry is unhealthy", "see that it answers"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := map[string]harbortest.Health{"down.example.com": harbortest.Unhealthy, "refuses.example.com": harbortest.Refusing}
			h := newStandIn(t, harbortest.Options{Remotes: elsewhere(bad)})
			c.is(t, &h)
			err := c.do(t, h)
			says(t, err, c.kind, append(c.says, h.registry.URL)...)
		})
	}
}

// What somebody else did since the plan is told with the registry, as all else is.
func TestWhatIsGoneByNowIsToldWithTheAddress(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", `webhook/a/ci {"url":"https://a.example.com","events":["push"]}`)
	late := compared(t, p, objects(t, `webhook/a/ci {"url":"https://b.example.com","events":["push"]}`))
	h.behind(t, http.MethodDelete, "/projects/a", "")
	if err, want := failed(t, p, late...), h.registry.URL+": webhook/a/ci: not found: it is gone by now; plan again"; err.Error() != want {
		t.Errorf("it says %q, want %q", err, want)
	}
}

// When Harbor asked to be called again is told where that is longer than one waits.
func TestWhenHarborAskedToBeCalledAgainIsTold(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	changes := compared(t, p, objects(t, "namespace/a"))
	for text, want := range map[string]string{
		"3600": "; try again in 1h0m0s, as Harbor asks, and look at its log",
		time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat): "; try again in ",
	} {
		h.Inject(harbortest.Fault{Method: http.MethodPost, Path: "/api/v2.0/projects", Status: http.StatusTooManyRequests, RetryAfter: text})
		says(t, failed(t, p, changes...), providers.ErrUnreachable, "namespace/a", "Harbor answers 429", want, "as Harbor asks")
		h.Heal()
	}
}

// TestWhatHarborWouldRefuseHalfWayThePlanRefuses: each of these an apply would come upon
// with other things done already.
func TestWhatHarborWouldRefuseHalfWayThePlanRefuses(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", `scan/a {"scanner":""}`) // none is there, and none is wanted
	apply(t, p, `scanner/trivy {"url":"http://trivy:8080"}`, `scan/a {"scanner":"trivy"}`)
	hook := `webhook/a/w {"url":"http://x:1","events":["push"]}`
	apply(t, p, hook, "quota/a")
	for _, c := range []struct {
		key, why string
		lines    []string
	}{
		{"scan/a", "there is no scanner/nope; declare it as [scanner.nope]", []string{`scan/a {"scanner":"nope"}`}},
		{"scan/a", "Harbor takes no scanner from a project", []string{`scan/a {"scanner":""}`}},
		{"scan/b", "there is no scanner/nope", []string{"namespace/b", `scan/b {"scanner":"nope"}`}},
		{"scan/b", "Harbor takes no scanner from a project", []string{"namespace/b", `scan/b {"scanner":""}`}},
		{"scan/b", "", []string{"namespace/b", `scan/b {"scanner":"other"}`, `scanner/other {"url":"http://other:8080"}`}},
		{"scan/b", "", []string{"namespace/b", `scan/b {"on_push":true}`}},
		{"scan", "there is no scanner/nope", []string{`scan {"default":"nope"}`}},
		{"scan", "", []string{`scanner/other {"url":"http://other:8080"}`, `scan {"default":"other"}`}},
		{"quota/a", "no limit of nothing", []string{`quota/a {"limit":"0B"}`}},
		{"quota/a", "", []string{`quota/a {"limit":"1B"}`}},
		{"quota/b", "no limit of nothing", []string{"namespace/b", `quota/b {"limit":"0B"}`}},
		{"webhook/a/w", "no webhook without events", []string{`webhook/a/w {"url":"http://x:1","events":[]}`}},
		{"webhook/a/n", "no webhook without events", []string{`webhook/a/n {"url":"http://x:1","events":[]}`}},
	} {
		changes := compared(t, p, objects(t, c.lines...))
		i := slices.IndexFunc(changes, func(x plan.Change) bool { return x.Key.String() == c.key })
		if i < 0 {
			t.Errorf("%s: it is not planned: %s", c.lines, told(changes))
			continue
		}
		if have := refusals(t, p, changes)[i]; !strings.Contains(have, c.why) || c.why == "" && have != "" {
			t.Errorf("%s is refused for %q, want %q", c.lines, have, c.why)
		}
	}
	// one that the same run takes away
	gone := append(deleting(t, p, schema.KindScanner), compared(t, p, objects(t, "namespace/b", `scan/b {"scanner":"trivy"}`))...)
	if have := refusals(t, p, gone); !strings.Contains(strings.Join(have, " "), "scanner/trivy goes in the same run") {
		t.Errorf("a scanner that goes: %q", have)
	}
}
