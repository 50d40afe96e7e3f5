package distribution_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

func TestAPreviewSaysWhyEachTagStaysOrGoes(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	c.tag(t, "team/app:old", 48*time.Hour)
	c.tag(t, "team/app:new", time.Hour)
	namespace := schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}}
	rule := schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}}}
	if err := write(t, c.Provider, []plan.Change{
		{Action: plan.Create, Key: namespace.Key, After: &namespace}, {Action: plan.Create, Key: rule.Key, After: &rule},
	}); err != nil {
		t.Fatal(err)
	}
	report, err := c.Retention(t.Context(), embedded.RetentionOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tag := range report.Tags {
		got = append(got, fmt.Sprintf("%s %s:%s %t %t %s", tag.Namespace, tag.Repository, tag.Tag, tag.Pushed.IsZero(), tag.Kept, tag.Why))
	}
	if diff := cmp.Diff([]string{"team team/app:new false true newest 1", "team team/app:old false false pushed 2 days ago; not kept by newest 1"}, got); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if report.Kept != 1 || report.Gone != 1 || len(c.deleted) > 0 {
		t.Errorf("%+v, deleted %q", report, c.deleted)
	}
	if _, err := c.Retention(t.Context(), embedded.RetentionOptions{DryRun: true, Namespaces: []string{"nowhere"}}); err == nil || !strings.Contains(err.Error(), "namespace nowhere") {
		t.Errorf("a namespace without rules: %v", err)
	}
}
