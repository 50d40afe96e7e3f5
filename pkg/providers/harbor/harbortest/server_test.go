package harbortest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

// client talks to a stand-in as admin.
type client struct {
	t    testing.TB
	url  string
	http *http.Client
}

func start(t testing.TB, options harbortest.Options) (*harbortest.Server, client) {
	t.Helper()
	harbor := harbortest.New(options)
	server := httptest.NewServer(harbor)
	t.Cleanup(server.Close)
	return harbor, client{t: t, url: server.URL, http: server.Client()}
}

// try sends a request and returns its answer, or why there was none.
func (c client) try(method, path, body string) (status int, answer string, header http.Header, err error) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+"/api/v2.0"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.SetBasicAuth("admin", "Harbor12345")
	w, err := c.http.Do(r)
	if err != nil {
		return 0, "", nil, err
	}
	defer w.Body.Close()
	raw, err := io.ReadAll(w.Body)
	return w.StatusCode, string(raw), w.Header, err
}

// want sends a request that must be answered so.
func (c client) want(status int, method, path, body string) string {
	c.t.Helper()
	have, answer, _, err := c.try(method, path, body)
	if err != nil || have != status {
		c.t.Errorf("%s %s: %d %s %v, want %d", method, path, have, answer, err, status)
	}
	return answer
}

// team makes a project with three members, retention, a webhook and a robot.
func (c client) team(name string) {
	c.t.Helper()
	c.want(201, "POST", "/projects", fmt.Sprintf(`{"project_name":%q}`, name))
	var p struct {
		ID int64 `json:"project_id"`
	}
	if err := json.Unmarshal([]byte(c.want(200, "GET", "/projects/"+name, "")), &p); err != nil {
		c.t.Error(err)
	}
	for i := range 3 {
		c.want(201, "POST", "/projects/"+name+"/members", fmt.Sprintf(`{"role_id":2,"member_user":{"username":"user%d"}}`, i))
	}
	c.want(201, "POST", "/retentions", fmt.Sprintf(`{"algorithm":"or","rules":[],"trigger":{"kind":"Schedule","settings":{"cron":"0 0 3 * * *"}},"scope":{"level":"project","ref":%d}}`, p.ID))
	c.want(201, "POST", "/projects/"+name+"/webhook/policies", `{"name":"hook","enabled":true,"event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"http://127.0.0.1:1"}]}`)
	c.want(201, "POST", "/robots", fmt.Sprintf(`{"name":"ci","level":"project","duration":30,"permissions":[{"kind":"project","namespace":%q,"access":[{"resource":"repository","action":"pull"}]}]}`, name))
}

func (c client) users() {
	c.t.Helper()
	for i := range 3 {
		c.want(201, "POST", "/users", fmt.Sprintf(`{"username":"user%d","email":"u%d@example.com","realname":"U","password":"Harbor12345"}`, i, i))
	}
}

// Seen on a real 2.15.2: the answer that made a robot has the time that lists have, each
// change moves the other one, a new secret too, and what is refused does not.
func TestEachChangeOfARobotMovesItsTime(t *testing.T) {
	now := time.Date(2026, 11, 28, 13, 39, 18, 242e6, time.UTC)
	_, c := start(t, harbortest.Options{Now: func() time.Time { return now }})
	const robot = `{"name":%q,"level":"system","duration":-1,"disable":false,"description":"d","permissions":[{"kind":"system","namespace":"/","access":[{"resource":"project","action":"list"}]}]}`
	if made := c.want(201, "POST", "/robots", fmt.Sprintf(robot, "ci")); !strings.Contains(made, `"creation_time":"2026-11-28T13:39:18.242Z"`) {
		t.Errorf("it was made at %s", made)
	}
	for _, step := range []struct {
		status             int
		method, path, body string
		moves              bool
	}{
		{200, "PATCH", "/robots/1", `{"secret":"Abcdef123"}`, true},
		{200, "PATCH", "/robots/1", `{"secret":"Abcdef123"}`, true},
		{200, "PATCH", "/robots/1", `{}`, true},
		{400, "PATCH", "/robots/1", `{"secret":"x"}`, false},
		{200, "PUT", "/robots/1", fmt.Sprintf(robot, "robot$ci"), true},
		{200, "GET", "/robots/1", "", false},
	} {
		before := now
		now = now.Add(time.Second)
		c.want(step.status, step.method, step.path, step.body)
		want := before
		if step.moves {
			want = now
		}
		if list := c.want(200, "GET", "/robots", ""); !strings.Contains(list, want.Format(`"update_time":"2006-01-02T15:04:05.000Z"`)) {
			t.Errorf("%s %s: %s, want %s", step.method, step.body, list, want)
		}
		if !step.moves {
			now = before
		}
	}
}

func TestManyAtOnceLoseNothing(t *testing.T) {
	_, c := start(t, harbortest.Options{Fail: func(s string) { t.Error(s) }})
	c.users()
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			for k := range 4 {
				c.team(fmt.Sprintf("team-%d-%d", i, k))
				c.want(200, "GET", "/projects?page_size=0", "")
				c.want(200, "GET", "/quotas?page_size=0", "")
				c.want(200, "PUT", "/configurations", `{"banner_message":"b"}`)
			}
			c.want(200, "DELETE", fmt.Sprintf("/projects/team-%d-0", i), "")
		})
	}
	wait.Wait()
	_, answer, header, err := c.try("GET", "/projects?page_size=1", "")
	if err != nil || header.Get("X-Total-Count") != "49" {
		t.Errorf("%s projects, want 49: %s %v", header.Get("X-Total-Count"), answer, err)
	}
	if _, _, header, _ := c.try("GET", "/schedules?page_size=1", ""); header.Get("X-Total-Count") != "50" {
		t.Errorf("%s schedules, want 50", header.Get("X-Total-Count"))
	}
}

func TestOneOfManyMakesTheProject(t *testing.T) {
	_, c := start(t, harbortest.Options{})
	var mu sync.Mutex
	answers := map[int]int{}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			status, _, _, err := c.try("POST", "/projects", `{"project_name":"race"}`)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[status]++
		})
	}
	wait.Wait()
	if answers[201] != 1 || answers[409] != 7 {
		t.Errorf("answers %v", answers)
	}
}

func TestWhatTheAPIDoesNotKnowIsTold(t *testing.T) {
	for _, x := range []struct{ method, path, body, told string }{
		{"GET", "/project", "", "no such path"},
		{"PATCH", "/projects/1", "{}", "no such method"},
		{"GET", "/projects?page_sise=0", "", "query page_sise"},
		{"POST", "/projects", `{"project_name":"a","visibility":"public"}`, "field visibility of ProjectReq"},
		{"POST", "/projects", `{"project_name":"a","metadata":{"public":"true","bogus":"1"}}`, "field metadata.bogus of ProjectMetadata"},
		{"PUT", "/system/gc/schedule", `{"schedule":{"type":"None","at":"0 0 0 * * *"}}`, "field schedule.at of ScheduleObj"},
		{"GET", "/projects", `{"a":1}`, "a body"},
		{"GET", "/security/summary", "", "does not do that yet"},
	} {
		var told []string
		_, c := start(t, harbortest.Options{Fail: func(s string) { told = append(told, s) }})
		if _, _, _, err := c.try(x.method, x.path, x.body); err != nil {
			t.Error(err)
		}
		if len(told) != 1 || !strings.Contains(told[0], x.told) || !strings.Contains(told[0], x.method) {
			t.Errorf("%s %s %s: told %q, want one that has %q", x.method, x.path, x.body, told, x.told)
		}
	}
}

func TestFaultsComeWhenTheyAreDue(t *testing.T) {
	harbor, c := start(t, harbortest.Options{})
	harbor.Inject(harbortest.Fault{Method: "GET", Path: "/users/{user_id}", From: 2, To: 3, Status: 429, RetryAfter: "1"})
	var have []int
	for range 4 {
		status, _, header, err := c.try("GET", "/users/1", "")
		if err != nil || status == 429 && header.Get("Retry-After") != "1" {
			t.Errorf("%d %v %v", status, header, err)
		}
		have = append(have, status)
		c.want(200, "GET", "/users/current", "")
	}
	if !slices.Equal(have, []int{200, 429, 429, 200}) {
		t.Errorf("answers %v", have)
	}

	harbor.Inject(harbortest.Fault{Path: "/api/v2.0/labels", From: 1, To: 1, Drop: true})
	if status, _, _, err := c.try("POST", "/labels", `{"name":"l","scope":"g"}`); err == nil {
		t.Errorf("a dropped answer came: %d", status)
	}
	c.want(409, "POST", "/labels", `{"name":"l","scope":"g"}`)

	harbor.Inject(harbortest.Fault{Method: "POST", Status: 503})
	c.want(503, "POST", "/labels", `{"name":"m","scope":"g"}`)
	harbor.Heal()
	c.want(201, "POST", "/labels", `{"name":"m","scope":"g"}`)
}

func TestTrafficIsCounted(t *testing.T) {
	var logins sync.Map
	var arrived, wait sync.WaitGroup
	arrived.Add(4)
	harbor, c := start(t, harbortest.Options{Latency: func(r harbortest.Request) time.Duration {
		logins.Store(r.Login, true)
		if r.Route == "/ping" { // all of them are there at one time
			arrived.Done()
			arrived.Wait()
		}
		return 20 * time.Millisecond
	}})
	for range 4 {
		wait.Go(func() { c.want(200, "GET", "/ping", "") })
	}
	wait.Wait()
	c.want(201, "POST", "/labels", `{"name":"l","scope":"g"}`)
	c.want(200, "GET", "/labels?scope=g", "")
	have := harbor.Traffic()
	if have.Requests != 6 || have.Written != 5 || have.Writes != 1 || have.MostInFlight != 4 || have.InFlight <= 1 || have.InFlight > 4 {
		t.Errorf("%+v", have)
	}
	requests := harbor.Requests()
	last := requests[len(requests)-2]
	if want := (harbortest.Request{Method: "POST", Path: "/api/v2.0/labels", Route: "/labels", Login: "password", Who: "admin", Status: 201}); last != want {
		t.Errorf("%+v, want %+v", last, want)
	}
	if _, seen := logins.Load("password"); !seen {
		t.Error("nobody asked how long a password takes")
	}
	harbor.Forget()
	if have := harbor.Traffic(); have.Requests != 0 || have.MostInFlight != 0 {
		t.Errorf("%+v after it was forgotten", have)
	}
}

func TestASessionWritesOnlyWithItsToken(t *testing.T) {
	_, c := start(t, harbortest.Options{})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	token := ""
	send := func(method, path, kind, body string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		if token != "" {
			r.Header.Set("X-Harbor-CSRF-Token", token)
		}
		w, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Body.Close()
		token = w.Header.Get("X-Harbor-CSRF-Token")
		return w.StatusCode
	}
	const form, label = "application/x-www-form-urlencoded", "/api/v2.0/labels"
	for _, x := range []struct {
		method, path, kind, body string
		forget                   bool
		want                     int
	}{
		{"GET", "/c/", "", "", false, 404},
		{"POST", "/c/login", form, "principal=admin&password=wrong", false, 401},
		{"POST", "/c/login", form, "principal=admin&password=Harbor12345", false, 200},
		{"GET", "/api/v2.0/users/current", "", "", false, 200},
		{"POST", label, "application/json", `{"name":"a","scope":"g"}`, false, 201},
		{"POST", label, "application/json", `{"name":"b","scope":"g"}`, true, 403},
		{"GET", "/c/log_out", "", "", false, 200},
		{"GET", "/api/v2.0/users/current", "", "", false, 401},
	} {
		if x.forget {
			token = ""
		}
		if have := send(x.method, x.path, x.kind, x.body); have != x.want {
			t.Errorf("%s %s: %d, want %d", x.method, x.path, have, x.want)
		}
	}
}

func TestPushKeepsLimitsAndImmutableTags(t *testing.T) {
	harbor, c := start(t, harbortest.Options{})
	c.want(201, "POST", "/projects", `{"project_name":"team","storage_limit":100}`)
	c.want(201, "POST", "/projects/team/immutabletagrules", `{"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"app/**"}]}}`)
	for _, x := range []struct {
		image harbortest.Image
		bad   string
	}{
		{harbortest.Image{Repository: "team/app/a", Tags: []string{"v1"}, Size: 60, Env: []string{"1"}}, ""},
		{harbortest.Image{Repository: "team/b", Tags: []string{"v1"}, Size: 60, Env: []string{"1"}}, ""},
		{harbortest.Image{Repository: "team/b", Tags: []string{"v1"}, Size: 30, Env: []string{"2"}}, ""},
		{harbortest.Image{Repository: "team/app/a", Tags: []string{"v1"}, Size: 1, Env: []string{"3"}}, "immutable"},
		{harbortest.Image{Repository: "team/c", Tags: []string{"v1"}, Size: 60, Env: []string{"4"}}, "upper limit of 100 B"},
		{harbortest.Image{Repository: "none/c", Tags: []string{"v1"}}, "no project"},
	} {
		err := harbor.Push(x.image)
		if x.bad == "" && err != nil || x.bad != "" && (err == nil || !strings.Contains(err.Error(), x.bad)) {
			t.Errorf("%+v: %v, want %q", x.image, err, x.bad)
		}
	}
	if answer := c.want(200, "GET", "/projects/team/summary", ""); !strings.Contains(answer, `"used":{"storage":90}`) {
		t.Error(answer)
	}
	c.want(412, "DELETE", "/projects/team/repositories/app%252Fa/artifacts/v1", "")
	c.want(412, "DELETE", "/projects/team/repositories/app%252Fa", "")
	c.want(200, "DELETE", "/projects/team/repositories/b", "")
}

func TestARemoteThatIsDownCannotBeChanged(t *testing.T) {
	state := harbortest.Healthy
	_, c := start(t, harbortest.Options{Remotes: func(r harbortest.Remote) harbortest.Health {
		if r.Kind != "registry" || r.URL != "https://hub.example" || r.Key != "me" || r.Secret != "s" {
			t.Errorf("it connects to %+v", r)
		}
		return state
	}})
	c.want(201, "POST", "/registries", `{"name":"hub","type":"docker-registry","url":"https://hub.example/","credential":{"type":"basic","access_key":"me","access_secret":"s"}}`)
	for _, x := range []struct {
		state  harbortest.Health
		status int
		shown  string
	}{{harbortest.Unreachable, 500, "healthy"}, {harbortest.Unhealthy, 400, "unhealthy"}, {harbortest.Healthy, 200, "healthy"}} {
		state = x.state
		c.want(x.status, "PUT", "/registries/1", `{"description":"d"}`)
		if answer := c.want(200, "GET", "/registries/1", ""); !strings.Contains(answer, `"status":"`+x.shown+`"`) {
			t.Errorf("in state %d: %s", x.state, answer)
		}
	}
}

// What a Harbor 2.15.2 was seen to answer beside the recordings.
func TestAnswersThatNobodyRecorded(t *testing.T) {
	const rules, rule = "/projects/library/immutabletagrules", `{"disabled":true,"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}`
	_, c := start(t, harbortest.Options{})
	for _, x := range []struct {
		status             int
		method, path, body string
		answer             string
	}{
		{201, "POST", rules, rule, ""},
		{200, "GET", rules, "", `"id":1`},
		{201, "POST", "/p2p/preheat/instances", `{"name":"p2p","vendor":"kraken","endpoint":"http://a"}`, ""},
		{409, "POST", "/p2p/preheat/instances", `{"name":"p2p","vendor":"kraken","endpoint":"http://b"}`, "instance p2p already exists"},
		{500, "POST", "/p2p/preheat/instances", `{"name":"other","vendor":"kraken","endpoint":"http://a"}`, "internal server error"},
		{201, "POST", "/projects/library/preheat/policies", `{"name":"timed","provider_id":1,"filters":"[]","trigger":"{\"trigger_setting\":{\"cron\":\"0 0 2 * * *\"}, \"type\":\"scheduled\",\"more\":1}"}`, ""},
		{200, "GET", "/projects/library/preheat/policies/timed", "", `"trigger":"{\"type\":\"scheduled\",\"trigger_setting\":{\"cron\":\"0 0 2 * * *\"}}"`},
		{500, "POST", "/projects/library/preheat/policies", `{"name":"odd","provider_id":1,"filters":"{}","trigger":"{}"}`, "internal server error"},
		{500, "POST", "/projects/library/preheat/policies", `{"name":"long","provider_id":1,"filters":"[{\"type\":\"tag\",\"value\":\"` + strings.Repeat("x", 1024) + `\"}]","trigger":"{}"}`, "internal server error"},
		{201, "POST", "/projects/library/preheat/policies", `{"name":"wide","provider_id":1,"filters":"[]","trigger":"{}","description":"` + strings.Repeat("é", 1024) + `"}`, ""},
		{409, "POST", "/projects/library/preheat/policies", `{"name":"wide","provider_id":1,"filters":"[]","trigger":"{}"}`, "policy wide already exists"},
		{500, "PUT", "/projects/library/preheat/policies/nobody", `{"id":1,"name":"wide","provider_id":1,"filters":"[]","trigger":"{}"}`, "internal server error"},
		{200, "PUT", "/projects/library/preheat/policies/nobody", `{"id":1,"name":"other","provider_id":1,"filters":"[]","trigger":"{}"}`, ""},
		{200, "GET", "/projects/library/preheat/policies/other", "", `"id":1`},
		{412, "PUT", "/p2p/preheat/instances/p2p", `{"id":1,"name":"p2p","vendor":"kraken","endpoint":"http://a","enabled":false}`, "cannot be disabled"},
		{201, "POST", "/usergroups", `{"group_name":"ops","group_type":3}`, ""},
		{409, "POST", "/usergroups", `{"group_name":"ops","group_type":3}`, "duplicate user group"},
		{500, "POST", "/usergroups", `{"group_name":"ops","group_type":2}`, "internal server error"},
		{400, "PUT", "/configurations", `{"ldap_group_search_filter":"f"}`, "ldap group name attribute can not be empty"},
		{200, "PUT", "/configurations", `{"ldap_group_search_filter":"f","ldap_group_attribute_name":"cn"}`, ""},
		{400, "PUT", "/configurations", `{"ldap_group_membership_attribute":""}`, "ldap group membership attribute can not be empty"},
		{400, "PUT", "/configurations", `{"session_timeout":10000000000}`, "the session_timeout value is over the limit value: 9999999999"},
	} {
		if answer := c.want(x.status, x.method, x.path, x.body); !strings.Contains(answer, x.answer) || strings.Contains(answer, `"disabled":true`) {
			t.Errorf("%s %s %s: %s", x.method, x.path, x.body, answer)
		}
	}
}

// What a cache is told Harbor hardly checks, and in each place otherwise; what a
// version does not know it forgets.
func TestACacheKeepsWhatItIsToldByVersion(t *testing.T) {
	const told = `"proxy_speed_kb":"bad","max_upstream_conn":"-7","proxy_cache_local_on_not_found":"yes","proxy_referrer_api":"true"`
	for version, kept := range map[string]string{
		"v2.11.2": `{"public":"false","retention_id":"1"}`,
		"v2.12.0": `{"proxy_speed_kb":"bad","public":"false","retention_id":"1"}`,
		"v2.14.0": `{"proxy_speed_kb":"bad","public":"false","retention_id":"1"}`,
		"v2.14.1": `{"max_upstream_conn":"-7","proxy_speed_kb":"bad","public":"false","retention_id":"1"}`,
		"v2.15.0": `{"max_upstream_conn":"-7","proxy_speed_kb":"bad","public":"false","retention_id":"1"}`,
		"v2.15.2": `{"max_upstream_conn":"-7","proxy_cache_local_on_not_found":"yes","proxy_speed_kb":"bad","public":"false","retention_id":"1"}`,
		"v2.16.0": `{"max_upstream_conn":"-7","proxy_cache_local_on_not_found":"yes","proxy_referrer_api":"true","proxy_speed_kb":"bad","public":"false","retention_id":"1"}`,
	} {
		_, c := start(t, harbortest.Options{Version: version})
		c.want(201, "POST", "/registries", `{"name":"hub","type":"docker-hub","url":"https://hub.docker.com"}`)
		c.want(201, "POST", "/projects", `{"project_name":"cache","registry_id":1}`)
		c.want(200, "PUT", "/projects/cache", `{"metadata":{`+told+`}}`)
		if have := c.want(200, "GET", "/projects/cache", ""); !strings.Contains(have, `"metadata":`+kept) {
			t.Errorf("%s keeps %s", version, have)
		}
	}
	_, c := start(t, harbortest.Options{Version: "v2.15.2"})
	c.want(201, "POST", "/registries", `{"name":"hub","type":"docker-hub","url":"https://hub.docker.com"}`)
	c.want(201, "POST", "/projects", `{"project_name":"cache","registry_id":1}`)
	for _, x := range []struct {
		status                     int
		method, path, body, answer string
	}{
		{400, "POST", "/projects", `{"project_name":"b","registry_id":1,"metadata":{"proxy_speed_kb":"bad"}}`, `metadata.proxy_speed_kb should by an int32, but got: 'bad'`},
		{400, "POST", "/projects", `{"project_name":"b","registry_id":1,"metadata":{"max_upstream_conn":""}}`, `metadata.max_upstream_conn should be an int, but got ''`},
		{201, "POST", "/projects", `{"project_name":"b","registry_id":1,"metadata":{"proxy_speed_kb":"-7","max_upstream_conn":"-7"}}`, ""},
		{200, "POST", "/projects/cache/metadatas/", `{"max_upstream_conn":"-9"}`, ""},
		{400, "PUT", "/projects/cache/metadatas/max_upstream_conn", `{"max_upstream_conn":"true"}`, "invalid value: true"},
		{400, "PUT", "/projects/cache/metadatas/proxy_referrer_api", `{"proxy_referrer_api":"true"}`, "invalid key: proxy_referrer_api"},
	} {
		if answer := c.want(x.status, x.method, x.path, x.body); !strings.Contains(answer, x.answer) {
			t.Errorf("%s %s %s: %s", x.method, x.path, x.body, answer)
		}
	}
	_, c = start(t, harbortest.Options{Version: "v2.16.0"})
	c.want(201, "POST", "/registries", `{"name":"hub","type":"docker-hub","url":"https://hub.docker.com"}`)
	c.want(201, "POST", "/projects", `{"project_name":"cache","registry_id":1}`)
	c.want(400, "PUT", "/projects/cache", `{"metadata":{"proxy_cache_filter_pattern":"a/**"}}`)
	c.want(400, "PUT", "/projects/cache", `{"metadata":{"proxy_cache_filter_pattern":"(","proxy_cache_filter_kind":"regex"}}`)
	c.want(200, "PUT", "/projects/cache", `{"metadata":{"proxy_cache_filter_pattern":"a/**","proxy_cache_filter_kind":"doublestar"}}`)
	c.want(400, "POST", "/projects/cache/metadatas/", `{"max_upstream_conn":"-9"}`)
}

func TestNobodyPushesToACache(t *testing.T) {
	harbor, c := start(t, harbortest.Options{})
	c.want(201, "POST", "/registries", `{"name":"hub","type":"docker-hub","url":"https://hub.docker.com"}`)
	c.want(201, "POST", "/projects", `{"project_name":"cache","registry_id":1}`)
	image := harbortest.Image{Repository: "cache/app", Tags: []string{"v1"}}
	if err := harbor.Push(image); err == nil || !strings.Contains(err.Error(), "can not push artifact to a proxy project: cache") {
		t.Errorf("a push: %v", err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/v2/cache/app/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", "Harbor12345")
	w, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	if w.StatusCode != http.StatusForbidden {
		t.Errorf("a push from outside: %d", w.StatusCode)
	}
	image.Cached = true
	if err := harbor.Push(image); err != nil {
		t.Error(err)
	}
}

// BenchmarkThousandTeams has 1,000 projects with three members, retention, a
// webhook and a robot made and read.
func BenchmarkThousandTeams(b *testing.B) {
	for b.Loop() {
		_, c := start(b, harbortest.Options{})
		c.users()
		var wait sync.WaitGroup
		for worker := range 8 {
			wait.Go(func() {
				for i := range 125 {
					c.team(fmt.Sprintf("team-%d-%d", worker, i))
				}
			})
		}
		wait.Wait()
		for _, path := range []string{"/projects", "/quotas", "/robots", "/schedules"} {
			c.want(200, "GET", path+"?page_size=0", "")
		}
	}
}
