package embedded_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func keepTags(spec schema.Retention) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &spec}}
}

const aDay = 24 * time.Hour

func (s *served) retain(t *testing.T, o embedded.RetentionOptions) embedded.RetentionReport {
	t.Helper()
	report, err := s.Client.Retention(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// verdicts is "tag why", kept ones with a +.
func verdicts(r embedded.RetentionReport) []string {
	var out []string
	for _, t := range r.Tags {
		mark := "-"
		if t.Kept {
			mark = "+"
		}
		out = append(out, fmt.Sprintf("%s%s:%s %s", mark, t.Repository, t.Tag, t.Why))
	}
	return out
}

func TestRetentionRemovesWhatNoRuleKeeps(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	for _, tag := range []string{"a", "b", "c", "v1"} {
		s.mustPush(t, "team/app:"+tag, image(t))
	}
	s.mustPush(t, "free/app:a", image(t))
	s.change(t,
		keepTags(schema.Retention{Keep: []schema.KeepRule{{Newest: 1, Tags: "?"}, {PulledWithin: 86400, Tags: "?"}}}),
		fixTags(schema.ImmutableRule{Tags: "v*"}))
	later := time.Now().Add(2 * aDay)
	want := []string{
		"-team/app:a pushed 2 days ago, never pulled; not kept by newest 1 of tags ?, nor by pulled within 1d of tags ?",
		"-team/app:b pushed 2 days ago, never pulled; not kept by newest 1 of tags ?, nor by pulled within 1d of tags ?",
		"+team/app:c newest 1 of tags ?",
		"+team/app:v1 immutable by tags v*",
	}
	preview := s.retain(t, embedded.RetentionOptions{DryRun: true, Now: later})
	if d := cmp.Diff(want, verdicts(preview)); d != "" {
		t.Error(d)
	}
	if by := preview.Tags[0].PushedBy; by != "user dev" {
		t.Errorf("pushed by %q", by)
	}
	if got := s.list(t, "team/app"); got != "a b c v1" {
		t.Fatalf("a preview left %q", got)
	}
	run := s.retain(t, embedded.RetentionOptions{Now: later})
	if d := cmp.Diff(want, verdicts(run)); d != "" || run.Kept != 2 || run.Gone != 2 || run.Failed != 0 {
		t.Errorf("kept %d, gone %d, failed %d: %s", run.Kept, run.Gone, run.Failed, d)
	}
	if got := s.list(t, "team/app"); got != "c v1" {
		t.Errorf("left %q", got)
	}
	if got := s.list(t, "free/app"); got != "a" {
		t.Errorf("left %q of another namespace", got)
	}
	again := s.retain(t, embedded.RetentionOptions{Now: later})
	if again.Gone != 0 {
		t.Errorf("the second run removed %d", again.Gone)
	}
}

func (s *served) list(t *testing.T, repository string) string {
	t.Helper()
	tags, err := remote.List(s.ref(t, repository+":x").Context(), s.as("dev")...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(tags, " ")
}

func TestPullsByTagAndByDigestCountAndHeadsDoNot(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	pulled := map[string]bool{}
	t.Run("before", func(t *testing.T) {
		s := quota(t, data, schema.Unlimited)
		images := map[string]v1.Image{}
		for _, tag := range []string{"tag", "digest", "head"} {
			images[tag] = image(t)
			s.mustPush(t, "team/app:"+tag, images[tag])
		}
		s.change(t, keepTags(schema.Retention{Keep: []schema.KeepRule{{Newest: 9}}}))
		if _, err := remote.Get(s.ref(t, "team/app:tag"), s.as("dev")...); err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Get(s.ref(t, "team/app@"+digestOf(t, images["digest"])), s.as("dev")...); err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Head(s.ref(t, "team/app:head"), s.as("dev")...); err != nil {
			t.Fatal(err)
		}
	})
	s := serve(t, data) // what is known outlives the process
	for _, tag := range s.retain(t, embedded.RetentionOptions{DryRun: true}).Tags {
		pulled[tag.Tag] = !tag.Pulled.IsZero()
		if tag.PushedBy != "user dev" {
			t.Errorf("%s was pushed by %q", tag.Tag, tag.PushedBy)
		}
	}
	if d := cmp.Diff(map[string]bool{"tag": true, "digest": true, "head": false}, pulled); d != "" {
		t.Error(d)
	}
}

func TestADirectoryWithoutTimesHasThoseOfItsLinks(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	t.Run("before", func(t *testing.T) {
		s := quota(t, data, schema.Unlimited)
		s.mustPush(t, "team/app:old", image(t))
		s.mustPush(t, "team/app:new", image(t))
		s.change(t, keepTags(schema.Retention{Keep: []schema.KeepRule{{PushedWithin: 86400}}}))
	})
	times := filepath.Join(data, "ocisync", "times.jsonl")
	link := filepath.Join(data, "docker/registry/v2/repositories/team/app/_manifests/tags/old/current/link")
	long := time.Now().Add(-30 * aDay)
	if err := os.Chtimes(link, long, long); err != nil {
		t.Fatal(err)
	}
	dir, err := embedded.OpenDirectory(data, "test", bucketFor(t, data))
	if err != nil {
		t.Fatal(err)
	}
	gone := func() string {
		r, err := dir.Retention(t.Context(), embedded.RetentionOptions{DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, tag := range r.Tags {
			if !tag.Kept {
				out = append(out, tag.Tag)
			}
		}
		return strings.Join(out, " ")
	}
	if got := gone(); got != "" {
		t.Errorf("with times, gone: %q", got)
	}
	b, err := os.ReadFile(times)
	if err != nil {
		t.Fatal(err)
	}
	// what a crash tears off counts as not written
	if err := os.WriteFile(times, append(b[:strings.Index(string(b), "\n")+20], 0, '{'), 0o600); err != nil {
		t.Fatal(err)
	}
	gone()
	if err := os.Remove(times); err != nil {
		t.Fatal(err)
	}
	if got := gone(); got != "old" {
		t.Errorf("without times, gone: %q", got)
	}
	r, err := dir.Retention(t.Context(), embedded.RetentionOptions{})
	if err != nil || r.Gone != 1 {
		t.Errorf("run while stopped: %v, gone %d", err, r.Gone)
	}
	if _, err := os.Stat(link); !os.IsNotExist(err) {
		t.Errorf("the tag is still there: %v", err)
	}
}

func TestAClockSetBackRemovesNothing(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	for i := range 5 {
		s.mustPush(t, fmt.Sprintf("team/app:%d", i), image(t))
	}
	s.change(t, keepTags(schema.Retention{Keep: []schema.KeepRule{{Newest: 1}, {PushedWithin: 60}}}))
	if r := s.retain(t, embedded.RetentionOptions{Now: time.Now().Add(-365 * aDay)}); r.Gone != 0 {
		t.Errorf("removed %v", verdicts(r))
	}
}

func TestUntaggedManifestsGoWhereTheRulesSaySo(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	child, loose := image(t), image(t)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: child})
	if err := remote.WriteIndex(s.ref(t, "team/app:index"), index, s.as("dev")...); err != nil {
		t.Fatal(err)
	}
	s.mustPush(t, "team/app:moved", loose)
	s.mustPush(t, "team/app:moved", image(t))
	keep := []schema.KeepRule{{Newest: 9}}
	later := time.Now().Add(aDay)
	s.change(t, keepTags(schema.Retention{Keep: keep}))
	if r := s.retain(t, embedded.RetentionOptions{Now: later}); len(r.Untagged) != 0 {
		t.Errorf("removed %v", r.Untagged)
	}
	yes := true
	s.change(t, keepTags(schema.Retention{Keep: keep, Untagged: &yes}))
	if r := s.retain(t, embedded.RetentionOptions{}); len(r.Untagged) != 0 {
		t.Errorf("a manifest just pushed was removed: %v", r.Untagged)
	}
	r := s.retain(t, embedded.RetentionOptions{Now: later})
	if len(r.Untagged) != 1 || r.Untagged[0].Digest.String() != digestOf(t, loose) {
		t.Errorf("removed %v, want %s", r.Untagged, digestOf(t, loose))
	}
	for d, want := range map[string]bool{digestOf(t, child): true, digestOf(t, loose): false} {
		_, err := remote.Get(s.ref(t, "team/app@"+d), s.as("dev")...)
		if (err == nil) != want {
			t.Errorf("%s: %v", d, err)
		}
	}
}

func TestRetentionBesidePushesRemovesNothingJustPushed(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	s.change(t, keepTags(schema.Retention{Keep: []schema.KeepRule{{PushedWithin: 3600}}}))
	old := image(t)
	s.mustPush(t, "team/app:base", old)
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.Client.Retention(t.Context(), embedded.RetentionOptions{}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 40 {
		if got := pushManifest(t, s, "dev", fmt.Sprintf("/v2/team/app/manifests/t%d", i%5), old); got != http.StatusCreated {
			t.Errorf("push %d: status %d", i, got)
		}
	}
	close(stop)
	all.Wait()
	if got := s.list(t, "team/app"); got != "base t0 t1 t2 t3 t4" {
		t.Errorf("left %q", got)
	}
}

func TestRetentionIsForAdminsAndNamesUnknownNamespaces(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	if _, err := s.Client.Retention(t.Context(), embedded.RetentionOptions{Namespaces: []string{"team"}}); err == nil || !strings.Contains(err.Error(), "namespace team") {
		t.Errorf("error %v", err)
	}
	if got := s.asDev(t, "POST", "/ocisync/v1/run/retention"); got != http.StatusForbidden {
		t.Errorf("status %d for a user who is no admin", got)
	}
}

func TestPoliciesThatCannotBeActedByAreRefused(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	text := func(s string) *string { return &s }
	for name, c := range map[string]embedded.Change{
		"bad glob":         keepTags(schema.Retention{Keep: []schema.KeepRule{{Newest: 1, Tags: "["}}}),
		"no condition":     keepTags(schema.Retention{Keep: []schema.KeepRule{{Tags: "v*"}}}),
		"bad schedule":     keepTags(schema.Retention{Schedule: text("often")}),
		"bad zone":         keepTags(schema.Retention{Zone: text("Mars/Phobos")}),
		"bad fixed":        fixTags(schema.ImmutableRule{Tags: "{a"}),
		"the own one":      putQuota("ocisync", 1),
		"no such parent":   putQuota("nowhere", 1),
		"negative numbers": keepTags(schema.Retention{Keep: []schema.KeepRule{{Newest: -1}}}),
	} {
		results, err := s.Change(t.Context(), []embedded.Change{c})
		if err != nil {
			t.Fatal(err)
		}
		if results[0].Err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
