package harbor_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

const (
	hub   = `remote/hub {"type":"harbor","url":"https://hub.example.com"}`
	cache = `namespace/cache {"proxy_of":"hub","proxy":{"rate":"1MiB","connections":5,"serve_gone":true,"referrers":true,"repositories":"library/**"}}`
)

func TestEachChangeOfACacheByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{Version: newest, FirstID: 40})
	p := h.open(t)
	want := apply(t, p, hub, cache)
	const all = `"proxy_speed_kb":"8192","max_upstream_conn":"5","proxy_cache_local_on_not_found":"true","proxy_referrer_api":"true","proxy_cache_filter_pattern":"library/**","proxy_cache_filter_kind":"doublestar"`
	project := h.behind(t, http.MethodGet, "/projects/cache", "")
	for _, part := range strings.Split(all, ",") {
		if !strings.Contains(project, part) {
			t.Errorf("the project has no %s: %s", part, project)
		}
	}
	for metadata, lines := range map[string]string{
		`"proxy_speed_kb":"7"`:                                         `proxy.rate: "896B" -> "1MiB"`,
		`"proxy_speed_kb":"-1"`:                                        `proxy.rate: "unlimited" -> "1MiB"`,
		`"proxy_speed_kb":"bad"`:                                       `proxy.rate: "unlimited" -> "1MiB"`,
		`"max_upstream_conn":"1"`:                                      `proxy.connections: 1 -> 5`,
		`"max_upstream_conn":"-7"`:                                     `proxy.connections: 0 -> 5`,
		`"proxy_cache_local_on_not_found":"no"`:                        `proxy.serve_gone: false -> true`,
		`"proxy_referrer_api":"false"`:                                 `proxy.referrers: false -> true`,
		`"proxy_cache_filter_pattern":"","proxy_cache_filter_kind":""`: `proxy.repositories: "**" -> "library/**"`,
		`"proxy_cache_filter_pattern":"library/.+","proxy_cache_filter_kind":"regex"`:  `proxy.repositories: "**" -> "library/**"` + "\n" + `  proxy.repositories_regex: "library/.+" -> ""`,
		`"proxy_cache_filter_pattern":"team/*","proxy_cache_filter_kind":"doublestar"`: `proxy.repositories: "team/*" -> "library/**"`,
	} {
		h.behind(t, http.MethodPut, "/projects/cache", `{"metadata":{`+metadata+`}}`)
		drifts(t, p, want, "update namespace/cache", "  "+lines)
	}
	// and nothing limits what says so
	apply(t, p, `namespace/cache {"proxy":{"rate":"0","connections":0,"repositories":"**"}}`)
	for _, part := range []string{`"proxy_speed_kb":"-1"`, `"max_upstream_conn":"-1"`, `"proxy_cache_filter_pattern":""`, `"proxy_referrer_api":"true"`} {
		if have := h.behind(t, http.MethodGet, "/projects/cache", ""); !strings.Contains(have, part) {
			t.Errorf("the project has no %s: %s", part, have)
		}
	}
}

// Harbor has one filter, and a mode two words for it: all by the one is not what the
// other chooses.
func TestAllThatACacheMayHoldIsAllByEitherWord(t *testing.T) {
	h := newStandIn(t, harbortest.Options{Version: newest})
	p := h.open(t)
	filter := func(pattern, kind string) string {
		return `"proxy_cache_filter_kind":"` + kind + `","proxy_cache_filter_pattern":"` + pattern + `"`
	}
	const glob, regex, noRegex = `proxy.repositories: "only/**" -> "**"`, `proxy.repositories_regex: "x.*" -> ""`, `proxy.repositories_regex: "x.*" -> "y"`
	for _, c := range []struct{ declared, byHand, line string }{
		{`"repositories":"**"`, filter("x.*", "regex"), regex},
		{`"repositories":"**"`, filter("only/**", "doublestar"), glob},
		{`"repositories_regex":""`, filter("only/**", "doublestar"), glob},
		{`"repositories_regex":""`, filter("x.*", "regex"), regex},
		{`"repositories_regex":"y"`, filter("x.*", "regex"), noRegex},
		{`"repositories_regex":"y"`, filter("only/**", "doublestar"), glob + "\n  " + `proxy.repositories_regex: "" -> "y"`},
	} {
		want := apply(t, p, hub, `namespace/cache {"proxy_of":"hub","proxy":{`+c.declared+`}}`)
		h.behind(t, http.MethodPut, "/projects/cache", `{"metadata":{`+c.byHand+`}}`)
		drifts(t, p, want, "update namespace/cache", "  "+c.line)
	}
	// and so where the file changes from one word to the other
	for _, declared := range []string{`"repositories":"lib/**"`, `"repositories_regex":"lib/.+"`, `"repositories":"**"`, `"repositories_regex":"lib/.+"`, `"repositories":"lib/**"`, `"repositories_regex":""`} {
		apply(t, p, `namespace/cache {"proxy":{`+declared+`}}`)
	}
	if have := h.behind(t, http.MethodGet, "/projects/cache", ""); !strings.Contains(have, `"proxy_cache_filter_pattern":""`) {
		t.Errorf("what is chosen is %s", have)
	}
}

// A project that is no proxy has what Harbor kept of one: nobody speaks of it.
func TestOnlyACacheIsToldOfCaching(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a")
	h.behind(t, http.MethodPut, "/projects/a", `{"metadata":{"proxy_cache_local_on_not_found":"true"}}`)
	live, _ := read(t, p, schema.KindNamespace).Get(schema.Key{Kind: schema.KindNamespace, Name: "a"})
	if spec, ok := live.Spec.(*schema.Namespace); !ok || spec.Proxy != nil {
		t.Errorf("it reads %+v", live.Spec)
	}
	left, err := p.Left(t.Context(), schema.State{})
	if err != nil || len(left) != 1 || !strings.Contains(left[0].Why, "proxy_cache_local_on_not_found") {
		t.Errorf("it leaves %+v, %v", left, err)
	}
}
