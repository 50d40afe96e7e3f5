package embedded

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// A tag that was pushed again has the time of that push, also where a crash took
// what was known of it: its link tells.
func TestAPushThatACrashTookHasItsLinksTime(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(data, ownDir, timesFile)
	r, stop := hooked(t, data)
	tags := []string{"t1", "t2", "t3"}
	for i, tag := range tags {
		at := time.Now().Add(time.Duration(i-100) * 24 * time.Hour)
		r.guard.now = func() time.Time { return at }
		push(t, r, tag)
	}
	stop()
	for i, tag := range tags { // as if pushed then
		link := filepath.Join(data, "docker/registry/v2/repositories/team/app/_manifests/tags", tag, "current/link")
		at := time.Now().Add(time.Duration(i-100) * 24 * time.Hour)
		if err := os.Chtimes(link, at, at); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, stop = hooked(t, data)
	push(t, r, "t1")
	stop()
	if err := os.WriteFile(file, before, 0o600); err != nil { // the crash
		t.Fatal(err)
	}
	r, _ = hooked(t, data)
	if got := keptBy(t, r, schema.KeepRule{PushedWithin: 86400}); !slices.Equal(got, []string{"t1"}) {
		t.Errorf("pushed within a day: %v", got)
	}
	// a copy has such links too, in any order: neither pushes the other out
	if got := keptBy(t, r, schema.KeepRule{Newest: 1}); !slices.Equal(got, []string{"t1", "t3"}) {
		t.Errorf("newest: %v", got)
	}
	push(t, r, "t2")
	if got := keptBy(t, r, schema.KeepRule{Newest: 1}); !slices.Equal(got, []string{"t2"}) {
		t.Errorf("newest after another push: %v", got)
	}
}

// A clock that was ahead for a moment says nothing of what is pushed after it.
func TestAClockThatWasAheadAgesLaterPushes(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	r, stop := hooked(t, data)
	push(t, r, "before")
	r.guard.now = func() time.Time { return time.Now().Add(year) }
	push(t, r, "ahead")
	r.guard.now = time.Now
	for _, tag := range []string{"c", "b", "a"} {
		push(t, r, tag)
	}
	check := func(when string, r *Registry) {
		t.Helper()
		for _, rule := range []schema.KeepRule{{Newest: 1}, {PushedWithin: 86400}} {
			change := Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{Keep: []schema.KeepRule{rule}}}}
			if res, err := r.store.change(t.Context(), []Change{change}); err != nil || res[0].Err != nil {
				t.Fatal(err, res)
			}
			at := time.Now()
			want := []string{"a", "ahead"}
			if rule.Newest == 0 {
				at, want = at.Add(30*24*time.Hour), []string{"ahead"}
			}
			report, err := r.Retention(t.Context(), RetentionOptions{DryRun: true, Now: at})
			if err != nil {
				t.Fatal(err)
			}
			var kept []string
			for _, tag := range report.Tags {
				if tag.Kept {
					kept = append(kept, tag.Tag)
				}
				if tag.Tag == "ahead" && !strings.Contains(tag.Why, "is still to come") {
					t.Errorf("%s: kept for %q", when, tag.Why)
				}
			}
			if !slices.Equal(kept, want) {
				t.Errorf("%s: %+v keeps %v, want %v", when, rule, kept, want)
			}
		}
	}
	check("while the process runs", r)
	stop()
	r, stop = hooked(t, data)
	check("after a restart", r)
	stop()
}

func TestADamagedTagHoldsUpNobody(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	keep := Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{Untagged: new(true), Keep: []schema.KeepRule{{PushedWithin: 60}}}}}
	fixed := Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindImmutable, Name: "team"}, Spec: &schema.Immutable{Rules: []schema.ImmutableRule{{Tags: "v*"}}}}}
	r, _ := hooked(t, data, keep, fixed)
	for _, tag := range []string{"old", "v1"} {
		push(t, r, tag)
	}
	link := filepath.Join(data, "docker/registry/v2/repositories/team/app/_manifests/tags/v1/current/link")
	if err := os.Truncate(link, 0); err != nil {
		t.Fatal(err)
	}
	report, err := r.Retention(t.Context(), RetentionOptions{Now: time.Now().Add(time.Hour)})
	if err != nil || report.Gone != 1 || report.Kept != 1 || len(report.Untagged) != 0 || !strings.Contains(report.Tags[1].Why, "damaged") {
		t.Fatalf("%+v, %v", report, err)
	}
	request(t, r, http.MethodDelete, "/v2/team/app/manifests/v1", http.StatusForbidden)
	push(t, r, "v1") // as the error recommends
	request(t, r, http.MethodGet, "/v2/team/app/manifests/v1", http.StatusOK)
}
