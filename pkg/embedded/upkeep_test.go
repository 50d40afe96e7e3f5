package embedded_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// age makes all that is stored a day old, but for what a collection takes meanwhile.
func age(t *testing.T, data string) {
	t.Helper()
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := filepath.WalkDir(filepath.Join(data, "docker"), func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Chtimes(path, yesterday, yesterday)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestCollectionGivesTheRoomOfBlobsThatWaitBack(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := quota(t, data, 100<<10)
	for i := range 3 { // 180 KiB of twice 100 that used and waiting may be
		if got := s.uploadInParts(t, "team/app", slices.Repeat([]byte{byte(i)}, 60<<10), false); got != 201 {
			t.Fatalf("blob %d: %d", i, got)
		}
	}
	im := imageOf(t, 60<<10, 1)
	if err := s.push(t, "team/app:1", im); denied(err) == nil {
		t.Fatalf("there is room before the collection: %v", err)
	}
	age(t, data)
	report, err := s.Run(t.Context(), embedded.JobGC, false)
	if err != nil {
		t.Fatal(err)
	}
	if report.GC.Blobs > 3 { // the refusal has one begin too, which may take some of them
		t.Errorf("%d blobs collected, want 3 at most", report.GC.Blobs)
	}
	for i := range 3 {
		if d := digest.FromBytes(slices.Repeat([]byte{byte(i)}, 60<<10)); s.asDev(t, "HEAD", "/v2/team/app/blobs/"+d.String()) != 404 {
			t.Errorf("blob %d is there after the collection", i)
		}
	}
	if u := s.usage(t); u.Waiting != 0 {
		t.Errorf("%d bytes wait after the collection", u.Waiting)
	}
	s.mustPush(t, "team/app:1", im)
}

func TestMetricsTellOfJobsAndQuotas(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := quota(t, data, 100<<10)
	s.change(t, putUser(t, "root", true))
	im := imageOf(t, 1<<10, 1)
	s.mustPush(t, "team/app:old", im)
	s.mustPush(t, "team/app:new", im)
	s.change(t, keepTags(schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}}))
	if got := s.uploadInParts(t, "team/app", make([]byte, 4<<10), false); got != 201 {
		t.Fatal(got)
	}
	age(t, data)
	for _, job := range []string{embedded.JobRetention, embedded.JobGC} {
		for _, dry := range []bool{true, false} {
			if _, err := s.Run(t.Context(), job, dry); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := metrics(t, s.do(t, "GET", "root", "/metrics"))
	for name, want := range map[string]string{
		`ocisync_quota_limit_bytes{namespace="team"}`:             "102400",
		`ocisync_quota_used_bytes{namespace="team"}`:              fmt.Sprint(int64(bytesOf(t, im))),
		`ocisync_job_runs_total{job="gc",result="ok"}`:            "1",
		`ocisync_job_runs_total{job="retention",result="ok"}`:     "1",
		`ocisync_job_removed_total{job="gc",what="blobs"}`:        "1",
		`ocisync_job_removed_total{job="retention",what="tags"}`:  "1",
		`ocisync_job_removed_total{job="gc",what="manifests"}`:    "0",
		`ocisync_gc_removed_bytes_total`:                          "4096",
		`ocisync_quota_limit_bytes{namespace="free"}`:             "",
		`ocisync_job_runs_total{job="retention",result="failed"}`: "",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if got[`ocisync_job_success_timestamp_seconds{job="gc"}`] == "" {
		t.Error("the metrics do not say when a collection last ended well")
	}
}

func TestRetentionRunsByTheScheduleOfItsNamespace(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := quota(t, data, schema.Unlimited)
	s.mustPush(t, "team/app:old", imageOf(t, 100, 1))
	age(t, data)
	often := "@every 1s"
	s.change(t, keepTags(schema.Retention{Keep: []schema.KeepRule{{PushedWithin: 1}}, Schedule: &often}))
	for start := time.Now(); s.asDev(t, "GET", "/v2/team/app/manifests/old") != 404; time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("the tag is still there")
		}
	}
	var jobs map[string]struct {
		Schedule string    `json:"schedule"`
		Next     time.Time `json:"next"`
	}
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(data, "ocisync", "jobs.json"))
		if err == nil && json.Unmarshal(b, &jobs) == nil && jobs["retention/team"].Schedule == often {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("jobs.json: %s %v", b, err)
		}
	}
	if j := jobs["retention"]; j.Schedule != "" || !j.Next.IsZero() {
		t.Errorf("retention of all namespaces has a schedule: %+v", j)
	}
}
