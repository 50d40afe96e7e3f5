package zot

import (
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// liveKeys are what a running Zot takes over when its file is written in
// place, as long as the section they are in was there when it started: all
// else waits for a restart, and says nothing. Observed on 2.1.6 and 2.1.20.
func liveKeys() []string {
	return []string{
		"storage.gc", "storage.gcDelay", "storage.gcInterval", "storage.gcTimeWindow", "storage.dedupe", "storage.redirectBlobURL",
		"storage.subPaths.*.gc", "storage.subPaths.*.gcDelay", "storage.subPaths.*.gcInterval", "storage.subPaths.*.dedupe",
		"storage.retention",
		"http.auth.htpasswd.path",
		"http.accessControl",
		"extensions.sync",
		"extensions.search.cve",
		"extensions.scrub",
	}
}

// sections are tables that must be there, or not be there, from the start. One
// that appears is not in force although Zot says that it is loaded; one that
// goes leaves the registry closed, open, or ended.
func sections() []string {
	return []string{
		"http.auth", "http.auth.htpasswd", "http.auth.ldap", "http.auth.bearer", "http.auth.openid", "http.auth.mtls",
		"http.accessControl", "extensions", "extensions.sync", "extensions.search", "extensions.search.cve", "extensions.scrub",
	}
}

// reach says what it takes to bring a process that runs with one configuration
// to another: nothing (live), a reload or a restart.
func reach(was configuration, wasDoc *config.Document, now configuration, nowDoc *config.Document) plan.Effect {
	for _, s := range sections() {
		path := strings.Split(s, ".")
		_, before := wasDoc.Get(path...)
		_, after := nowDoc.Get(path...)
		if before != after {
			return plan.Restart
		}
	}
	if !active(was.policies()) && active(now.policies()) {
		return plan.Restart
	}
	how := plan.Live
	for _, path := range differing(wasDoc, nowDoc, nil) {
		how = plan.Reload
		if !slices.ContainsFunc(liveKeys(), func(key string) bool { return under(path, strings.Split(key, ".")) }) {
			return plan.Restart
		}
	}
	return how
}

// differing lists the paths, down to lists and values, at which two documents
// differ.
func differing(a, b *config.Document, path []string) [][]string {
	var out [][]string
	seen := map[string]bool{}
	for _, key := range append(a.Keys(path...), b.Keys(path...)...) {
		fold := strings.ToLower(key)
		if seen[fold] {
			continue
		}
		seen[fold] = true
		at := append(path[:len(path):len(path)], key)
		x, there := a.Get(at...)
		y, still := b.Get(at...)
		if there != still || strings.HasPrefix(x, "{") != strings.HasPrefix(y, "{") {
			out = append(out, at)
			continue
		}
		if strings.HasPrefix(x, "{") {
			out = append(out, differing(a, b, at)...)
			continue
		}
		if x != y {
			p, err1 := schema.CanonicalJSON([]byte(x))
			q, err2 := schema.CanonicalJSON([]byte(y))
			if err1 != nil || err2 != nil || p != q {
				out = append(out, at)
			}
		}
	}
	return out
}

func under(path, key []string) bool {
	if len(path) < len(key) {
		return false
	}
	for i, k := range key {
		if k != "*" && !strings.EqualFold(k, path[i]) {
			return false
		}
	}
	return true
}

func (c configuration) policies() []rawPolicy {
	if c.Storage.Retention == nil {
		return nil
	}
	return c.Storage.Retention.Policies
}
