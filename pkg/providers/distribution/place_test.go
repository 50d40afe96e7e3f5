package distribution_test

import (
	"strings"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

// TestAnotherPlaceForContentWaitsForAnApproval, and the plan says what goes.
func TestAnotherPlaceForContentWaitsForAnApproval(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	c.tag(t, "team/app:1", 0)
	c.tag(t, "team/app:2", 0)
	empty, _ := running(t)
	value := func(path, json string) schema.Value { return schema.Value{Path: path, JSON: json} }
	for _, tt := range []struct {
		name   string
		values []schema.Value
		gone   string
	}{
		{"memory", []schema.Value{value("storage.inmemory", "{}")}, "storage (repositories: 2, tags: 2) is served no more, and nothing is copied to inmemory; what is pushed there is lost with each restart"},
		{"another directory", []schema.Value{value("storage.filesystem.rootdirectory", `"/srv/other"`)}, "nothing is copied to filesystem /srv/other"},
		{"a bucket", []schema.Value{value("storage.s3.bucket", `"b"`), value("storage.s3.region", `"r"`)}, "nothing is copied to s3 b r"},
		{"the same place", []schema.Value{value("storage.filesystem.maxthreads", "50")}, ""},
		{"another setting", []schema.Value{level("debug")}, ""},
	} {
		changes, verdicts := settings(t, c.Provider, tt.values...)
		if len(changes) != 1 || verdicts[0].Refused != "" {
			t.Fatalf("%s: %+v %+v", tt.name, changes, verdicts)
		}
		if got := strings.Join(verdicts[0].Impact, "\n"); (verdicts[0].Held != "") != (tt.gone != "") || !strings.HasSuffix(got, tt.gone) {
			t.Errorf("%s: held %q, impact %q", tt.name, verdicts[0].Held, got)
		}
		if _, verdicts := settings(t, empty, tt.values...); verdicts[0].Held != "" {
			t.Errorf("%s: a registry that holds nothing: held %q", tt.name, verdicts[0].Held)
		}
	}
}
