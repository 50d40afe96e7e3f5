package harbor

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// What a project that is a proxy is told of caching, in its metadata.
const (
	metaSpeed       = "proxy_speed_kb"
	metaConnections = "max_upstream_conn"
	metaGone        = "proxy_cache_local_on_not_found"
	metaReferrers   = "proxy_referrer_api"
	metaFilter      = "proxy_cache_filter_pattern"
	metaFilterKind  = "proxy_cache_filter_kind"
)

func metaProxy() []string {
	return []string{metaSpeed, metaConnections, metaGone, metaReferrers, metaFilter, metaFilterKind}
}

// asRegex is the kind of a filter that is no glob.
const asRegex = "regex"

// proxyOf is how a project caches. What is not there, and what Harbor does not
// understand, limits nothing.
func proxyOf(metadata map[string]string) *schema.Proxy {
	number := func(name string) int64 {
		n, err := strconv.ParseInt(metadata[name], 10, 32)
		if err != nil {
			return 0
		}
		return max(n, 0)
	}
	out := &schema.Proxy{
		Rate: new(rateOf(number(metaSpeed))), Connections: new(int(number(metaConnections))),
		ServeGone: new(yes(metadata[metaGone])), Referrers: new(yes(metadata[metaReferrers])),
		Repositories: new(everything), RepositoriesRegex: new(""),
	}
	switch filter := strings.TrimSpace(metadata[metaFilter]); {
	case filter == "":
	case metadata[metaFilterKind] == asRegex:
		out.RepositoriesRegex = &filter
	default:
		out.Repositories = &filter
	}
	return out
}

// normalProxy says both words of a filter where one is said: Harbor has one filter,
// and what the one chooses the other does not.
func normalProxy(n *normal, key schema.Key, p *schema.Proxy) *schema.Proxy {
	if p == nil {
		return nil
	}
	out := *p
	out.Rate = normalRate(n, key, "proxy.rate", p.Rate)
	if p.Repositories == nil && p.RepositoriesRegex == nil {
		return &out
	}
	// trimmed as Harbor reads it
	out.Repositories = new(cmp.Or(strings.TrimSpace(of(p.Repositories, "")), everything))
	out.RepositoriesRegex = new(strings.TrimSpace(of(p.RepositoriesRegex, "")))
	return &out
}

// unproxied says why a project cannot cache as a change says, or "".
func (s *site) unproxied(c plan.Change) string {
	want, ok := c.After.Spec.(*schema.Namespace)
	if !ok || want.Proxy == nil || !touches(c, "proxy") {
		return ""
	}
	p := want.Proxy
	if of(want.ProxyOf, "") == "" {
		return "proxy is for a namespace that caches a remote; name that in proxy_of, or take proxy out"
	}
	for _, x := range []struct {
		field string
		set   bool
		since []int
	}{
		{"proxy.rate", of(p.Rate, schema.Unlimited) > 0, []int{2, 12}},
		{"proxy.connections", of(p.Connections, 0) > 0, []int{2, 14, 1}},
		{"proxy.serve_gone", of(p.ServeGone, false), []int{2, 15, 1}},
		{"proxy.referrers", of(p.Referrers, false), []int{2, 16}},
		{"proxy.repositories", of(p.Repositories, everything) != everything, []int{2, 16}},
		{"proxy.repositories_regex", of(p.RepositoriesRegex, "") != "", []int{2, 16}},
	} {
		if x.set && touches(c, x.field) && s.c.Before(x.since...) {
			return fmt.Sprintf("this Harbor (%s) has no %s, and says nothing: %s and later have; take it out", s.c.Version, x.field, strings.Trim(strings.ReplaceAll(fmt.Sprint(x.since), " ", "."), "[]"))
		}
	}
	if strings.HasPrefix(of(p.Repositories, ""), excludes) {
		return "Harbor caches what matches, and has no all but that; write proxy.repositories without !"
	}
	if touches(c, "proxy.rate") {
		return tooFast(p.Rate)
	}
	return ""
}

// proxyMetadata is what a change says of caching, as a project's metadata. Harbor
// takes the two halves of a filter together alone.
func proxyMetadata(c plan.Change, p *schema.Proxy) map[string]string {
	out := map[string]string{}
	if p == nil {
		return out
	}
	if p.Rate != nil && touches(c, "proxy.rate") {
		out[metaSpeed] = strconv.FormatInt(speedFor(*p.Rate), 10)
	}
	if p.Connections != nil && touches(c, "proxy.connections") {
		out[metaConnections] = "-1"
		if *p.Connections > 0 {
			out[metaConnections] = strconv.Itoa(*p.Connections)
		}
	}
	if p.ServeGone != nil && touches(c, "proxy.serve_gone") {
		out[metaGone] = strconv.FormatBool(*p.ServeGone)
	}
	if p.Referrers != nil && touches(c, "proxy.referrers") {
		out[metaReferrers] = strconv.FormatBool(*p.Referrers)
	}
	if !touches(c, "proxy.repositories", "proxy.repositories_regex") {
		return out
	}
	if regex := of(p.RepositoriesRegex, ""); regex != "" && touches(c, "proxy.repositories_regex") {
		out[metaFilter], out[metaFilterKind] = regex, asRegex
	} else if p.Repositories != nil {
		out[metaFilter], out[metaFilterKind] = *p.Repositories, "doublestar"
	}
	if out[metaFilter] == everything {
		out[metaFilter] = ""
	}
	return out
}
