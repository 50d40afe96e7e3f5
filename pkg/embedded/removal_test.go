package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// TestWhatJobsRemoveIsAuditedAndToldAsWhatUsersDelete has retention remove
// tags, and collection a fallback tag without its subject, in a registry that
// is served and in one that is not.
func TestWhatJobsRemoveIsAuditedAndToldAsWhatUsersDelete(t *testing.T) {
	to := newReceiver(t)
	data, log := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "audit.log")
	newest := func(n int) Change {
		return Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: n, Tags: "t*"}, {Always: true, Tags: "keep"}}}}}
	}
	orphan := "sha256-" + strings.Repeat("a", 64)
	r, stop := hooked(t, data, webhookChange(to.URL, schema.Webhook{Events: schema.NewSet("delete"), Sign: new(true)}, "the secret"), newest(3),
		Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindAudit}, Spec: &schema.Audit{Log: &log}}},
		Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindGC}, Spec: &schema.GC{Delay: new(schema.Duration(60))}}})
	for _, tag := range []string{"keep", "t1", "t2", "t3", "t4", "t5", orphan} {
		push(t, r, tag)
	}
	// retention never takes a fallback tag, collection one that is old and whose subject was deleted
	mark := filepath.Join(data, "docker/registry/v2/repositories/team/app/_deleted", strings.Replace(orphan, "-", "/", 1), "mark")
	if err := errors.Join(os.MkdirAll(filepath.Dir(mark), 0o700), os.WriteFile(mark, []byte("deleted 2020-01-01T00:00:00Z\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Retention(t.Context(), RetentionOptions{}); err != nil {
		t.Fatal(err)
	}
	told := func(deliveries []received) (out []string) {
		t.Helper()
		for _, d := range deliveries {
			var envelope struct {
				Events []struct {
					Action string
					Target struct{ Repository, Tag, Digest string }
					Actor  struct{ Name string }
				}
			}
			if err := json.Unmarshal([]byte(d.body), &envelope); err != nil || len(envelope.Events) != 1 || d.id == "" || d.signature == "" {
				t.Fatalf("%+v: %v", d, err)
			}
			e := envelope.Events[0]
			out = append(out, fmt.Sprintf("%s %s:%s%s by %s", e.Action, e.Target.Repository, e.Target.Tag, e.Target.Digest, e.Actor.Name))
		}
		return out
	}
	want := []string{"delete team/app:t1 by retention", "delete team/app:t2 by retention"}
	if d := cmp.Diff(want, told(to.wait(t, 2))); d != "" {
		t.Error(d)
	}
	old := time.Now().Add(-24 * time.Hour)
	if err := filepath.WalkDir(filepath.Join(data, "docker"), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, old, old))
	}); err != nil {
		t.Fatal(err)
	}
	// what is tagged keeps its manifest, which is the fallback tag's too
	request(t, r, http.MethodDelete, "/v2/team/app/manifests/keep", http.StatusAccepted)
	to.wait(t, 3)
	change := func(c Change) {
		t.Helper()
		if res, err := r.store.change(t.Context(), []Change{c}); err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
	}
	change(newest(2))
	stop()

	d, err := OpenDirectory(data, "ocisync test", Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Retention(t.Context(), RetentionOptions{}); err != nil {
		t.Fatal(err)
	}
	r, _ = hooked(t, data) // what was removed meanwhile is told now
	want = append(want, "delete team/app:keep by anonymous", "delete team/app:t3 by retention")
	if d := cmp.Diff(want, told(to.distinct(t, 4))); d != "" {
		t.Error(d)
	}
	for _, tag := range []string{"t4", "t5"} {
		request(t, r, http.MethodDelete, "/v2/team/app/manifests/"+tag, http.StatusAccepted)
	}
	report, err := r.collect(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if report.GC.Tags != 1 {
		t.Fatalf("collected %+v, want one fallback tag", report.GC)
	}
	events := told(to.distinct(t, 6+1+report.GC.Manifests))[6:]
	if !slices.Contains(events, "delete team/app:"+orphan+" by gc") {
		t.Errorf("collection told %q", events)
	}

	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []string
	for line := range bytes.Lines(b) {
		var l AuditLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		if l.Account == "ocisync" && l.Action == "delete" && l.Address == "local" && !l.Time.IsZero() && !strings.HasPrefix(l.Reference, "sha256:") {
			jobs = append(jobs, l.Repository+":"+l.Reference+" "+l.Result)
		}
	}
	if d := cmp.Diff([]string{"team/app:t1 ok", "team/app:t2 ok", "team/app:t3 ok", "team/app:" + orphan + " ok"}, jobs); d != "" {
		t.Errorf("the audit log (-want +got):\n%s", d)
	}
}
