package harbortest

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
)

// chain is a run of recordings that depend on each other in this order, and
// on the chains after which they come, and on nothing else.
type chain struct {
	name  string
	runs  [][2]int // from and to
	after []string
	// alone are those that nothing else may come between, because they change
	// what others see.
	alone bool
}

// chains are all of the first Harbor that was recorded, in the order in which
// it was; 521 to 540 were recorded before 201.
func chains() []chain {
	return []chain{
		{name: "initial", runs: [][2]int{{1, 21}}, alone: true},
		{name: "settings", runs: [][2]int{{22, 42}}, after: []string{"initial"}, alone: true},
		{name: "users", runs: [][2]int{{61, 77}}, after: []string{"settings"}},
		{name: "groups", runs: [][2]int{{78, 83}}, after: []string{"settings"}},
		{name: "projects", runs: [][2]int{{84, 136}}, after: []string{"settings"}},
		{name: "quotas", runs: [][2]int{{137, 144}}, after: []string{"projects"}},
		{name: "members", runs: [][2]int{{145, 160}}, after: []string{"users", "groups", "projects"}},
		{name: "sessions", runs: [][2]int{{521, 531}}, after: []string{"projects"}},
		{name: "errors", runs: [][2]int{{532, 540}}, after: []string{"members"}},
		{name: "robots", runs: [][2]int{{201, 230}}, after: []string{"projects", "errors"}},
		{name: "prefix", runs: [][2]int{{231, 233}}, after: []string{"robots"}, alone: true},
		{name: "retention", runs: [][2]int{{234, 263}}, after: []string{"projects", "errors"}},
		{name: "immutable", runs: [][2]int{{264, 276}}, after: []string{"projects"}},
		{name: "webhooks", runs: [][2]int{{277, 293}}, after: []string{"projects"}},
		{name: "registries", runs: [][2]int{{311, 333}}, after: []string{"initial"}},
		{name: "replication", runs: [][2]int{{334, 350}}, after: []string{"registries"}},
		{name: "proxy", runs: [][2]int{{351, 358}}, after: []string{"registries", "retention", "errors", "quotas"}},
		{name: "gc", runs: [][2]int{{359, 371}}, after: []string{"initial"}},
		{name: "purge", runs: [][2]int{{372, 379}}, after: []string{"initial"}},
		{name: "scan all without a scanner", runs: [][2]int{{380, 384}, {386, 389}}, after: []string{"initial"}},
		{name: "scanners", runs: [][2]int{{390, 403}}, after: []string{"scan all without a scanner", "projects"}},
		{name: "schedules", runs: [][2]int{{385, 385}}, after: []string{"retention", "replication", "proxy", "gc", "purge"}, alone: true},
		{name: "cves", runs: [][2]int{{404, 408}}, after: []string{"initial"}},
		{name: "labels", runs: [][2]int{{409, 420}}, after: []string{"projects"}},
		{name: "preheat", runs: [][2]int{{421, 436}}, after: []string{"projects"}},
		{name: "content", runs: [][2]int{{451, 477}}, after: []string{"retention", "immutable", "labels", "replication", "proxy", "gc", "scanners", "schedules", "quotas", "errors", "prefix"}},
		{name: "scan all", runs: [][2]int{{601, 610}}, after: []string{"content"}},
		{name: "more scanners", runs: [][2]int{{611, 622}}, after: []string{"scan all"}},
		{name: "more gc", runs: [][2]int{{623, 628}}, after: []string{"content"}},
		{name: "more robots", runs: [][2]int{{629, 633}}, after: []string{"prefix", "content"}},
		{name: "deleted project", runs: [][2]int{{634, 648}}, after: []string{"more robots", "content", "webhooks"}, alone: true},
		{name: "deleted user and group", runs: [][2]int{{649, 661}}, after: []string{"members", "deleted project", "more scanners"}},
		{name: "read-only", runs: [][2]int{{662, 668}}, after: []string{"content"}, alone: true},
		{name: "vanished member", runs: [][2]int{{701, 706}}, after: []string{"members", "deleted user and group"}},
		{name: "leftovers", runs: [][2]int{{707, 708}}, after: []string{"deleted project", "schedules", "scan all", "more gc"}},
		{name: "pages", runs: [][2]int{{709, 710}}, after: []string{"vanished member", "leftovers"}, alone: true},
		{name: "made by a robot", runs: [][2]int{{731, 733}}, after: []string{"pages"}, alone: true},
		{name: "robots once more", runs: [][2]int{{761, 765}}, after: []string{"made by a robot"}},
		{name: "metadata", runs: [][2]int{{766, 772}, {782, 782}}, after: []string{"pages"}},
		{name: "quota below use", runs: [][2]int{{773, 775}}, after: []string{"pages"}},
		{name: "more settings", runs: [][2]int{{776, 781}}, after: []string{"pages"}},
		{name: "many projects' robots", runs: [][2]int{{783, 783}}, after: []string{"pages"}},
		{name: "nowhere", runs: [][2]int{{784, 788}}, after: []string{"made by a robot", "users"}},
		{name: "disabled rule", runs: [][2]int{{789, 790}}, after: []string{"pages"}},
		{name: "more webhooks", runs: [][2]int{{791, 793}}, after: []string{"pages"}},
		{name: "deletions", runs: [][2]int{{794, 806}}, after: []string{"disabled rule", "more webhooks", "metadata", "quota below use"}},
		{name: "token", runs: [][2]int{{807, 807}}, after: []string{"settings"}},
	}
}

// second are the recordings of the other Harbor, in their order.
func second() []chain {
	return []chain{
		{name: "by a robot", runs: [][2]int{{821, 838}}, alone: true},
		{name: "small things", runs: [][2]int{{851, 864}}, after: []string{"by a robot"}, alone: true},
		{name: "robots by name", runs: [][2]int{{871, 875}}, after: []string{"small things"}},
	}
}

// gaps are what happened between recordings and was not recorded, by the
// recording before which it is done.
func gaps() map[int]func(*player) {
	const app = "team-a/app"
	return map[int]func(*player){
		451: func(p *player) {
			p.push(Image{Repository: "library/x", Tags: []string{"v1"}, Size: 712, Env: []string{"S=x1"}})
			p.push(Image{Repository: "library/x", Tags: []string{"v2"}, Size: 712, Env: []string{"S=x2"}})
			p.push(Image{Repository: app, Tags: []string{"v1"}, Size: 712, Env: []string{"S=s1"}, Digest: digest1})
			p.push(Image{Repository: app, Tags: []string{"v2"}, Size: 712, Env: []string{"S=s2"}, Digest: digest2})
			p.push(Image{Repository: app, Tags: []string{"min1"}, Size: 712, Env: []string{"S=s3"}, Digest: digest3})
			p.push(Image{Repository: "team-a/sub/dir/app", Tags: []string{"latest"}, Size: 712, Env: []string{"S=s3"}, Digest: digest3})
		},
		// hooks and schedules had run
		467: func(p *player) { p.use("execution", 31) },
		// a second scanner was started
		611: func(p *player) { p.moreScanners = true },
		// scanners make robots of their own, and delete them
		630: func(p *player) { p.use("robot", 10) },
		// six wanted to make one project at once
		701: func(p *player) {
			for range 6 {
				p.ask("POST", "/projects", `{"project_name":"race"}`)
			}
		},
		709: func(p *player) {
			for i := range 120 {
				p.ask("POST", "/projects", fmt.Sprintf(`{"project_name":"bulk-%03d"}`, i))
			}
		},
		732: func(p *player) {
			p.t.Helper()
			post := func(path, body string) {
				if w := p.do("POST", base+path, body, "robot$reconciler", p.secrets[731], nil); w.Code >= 300 {
					p.t.Errorf("POST %s: %d %s", path, w.Code, w.Body)
				}
			}
			post("/projects", `{"project_name":"by-robot","metadata":{"public":"false","auto_scan":"true"}}`)
			post("/projects/by-robot/members", `{"role_id":2,"member_user":{"username":"bob"}}`)
			post("/projects/by-robot/webhook/policies", `{"name":"h","event_types":["PUSH_ARTIFACT"],"targets":[{"type":"http","address":"http://127.0.0.1:18099/x"}]}`)
			post("/robots", `{"name":"r","level":"project","duration":1,"permissions":[{"kind":"project","namespace":"by-robot","access":[{"resource":"repository","action":"pull"}]}]}`)
		},
		// the second Harbor had a robot that may do everything
		821: func(p *player) {
			all := map[string]any{"name": "probe", "level": "system", "duration": -1, "permissions": []any{
				map[string]any{"kind": "system", "namespace": "/", "access": catalogue("system")},
				map[string]any{"kind": "project", "namespace": "*", "access": catalogue("project")},
			}}
			body, err := json.Marshal(all)
			if err != nil {
				p.t.Fatal(err)
			}
			var said struct {
				Secret string `json:"secret"`
			}
			w := p.ask("POST", "/robots", string(body))
			if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil {
				p.t.Fatal(err)
			}
			p.secrets[820] = said.Secret
			p.push(Image{Repository: "library/x", Tags: []string{"v1"}, Size: 712})
		},
		832: func(p *player) {
			p.ask("PUT", "/projects/probe-a", `{"cve_allowlist":{"items":[{"cve_id":"CVE-2020-0001"}]}}`)
		},
	}
}

// digests of what was pushed
const (
	digest1 = "sha256:9ccc26ebceaeaf5df40207685ecc796ffecbdb5d5b6b144d7ed8ef0506cebc9d"
	digest2 = "sha256:f00031876ae7557b3c81f86400e8733242ef2be901139a35cc29709001e6fe7f"
	digest3 = "sha256:23815680f3c9800ccfb0c7d6909d4c8a39fdebd2bb0c625657e2c0b32eeeaaa5"
)

// push fills in what nobody recorded.
func (p *player) push(image Image) {
	p.t.Helper()
	if err := p.server.Push(image); err != nil {
		p.t.Error(err)
	}
}

// ask does as admin what nobody recorded.
func (p *player) ask(method, path, body string) *httptest.ResponseRecorder {
	p.t.Helper()
	return p.do(method, base+path, body, "admin", "Harbor12345", nil)
}

// use takes ids of a sequence away, up to one.
func (p *player) use(sequence string, last int64) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	for p.server.ids[sequence] < p.ids.first+last {
		p.server.next(sequence)
	}
}

// leftOut are recordings that are not played, and why.
func leftOut() map[int]string {
	return map[int]string{
		4:   "jobservice and registryctl were not up yet",
		21:  "jobservice, which makes two schedules when it starts, was not up yet",
		470: "the run had ended; the stand-in's go on for ever",
		473: "how far a run has come is the jobservice's",
		475: "how far a run has come is the jobservice's",
		476: "the log tells of robots that scanners made",
	}
}
