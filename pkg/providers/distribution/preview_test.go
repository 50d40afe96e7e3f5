package distribution_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
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

// TestRetentionIsRefusedWhereTheFilesOfTheRegistryAreNot: it would keep all, and
// whoever has a timer there would believe that it is done.
func TestRetentionIsRefusedWhereTheFilesOfTheRegistryAreNot(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	config := filepath.Join(t.TempDir(), "host", "config.yml")
	for name, r := range map[string]schema.Registry{
		"of a registry that ocisync runs": {Run: &schema.Run{Driver: schema.DriverProcess, Data: filepath.Dir(config), Binary: c.binary}, Token: &schema.TokenService{URL: "http://localhost:9"}},
		"of one that somebody else runs":  {Files: &schema.FilePaths{Config: config}, Token: &schema.TokenService{URL: "http://localhost:9"}},
	} {
		r.Type, r.URL = schema.TypeDistribution, c.url
		p, err := distribution.New(r, nil, providertest.Secrets{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, dry := range []bool{true, false} {
			report, err := p.Run(t.Context(), "retention", dry)
			if !errors.Is(err, providers.ErrUnsupported) || !strings.Contains(err.Error(), "on another host") || !strings.Contains(err.Error(), "run `ocisync run retention` there") {
				t.Errorf("%s, dry %v: %+v, %v", name, dry, report.Retained, err)
			}
		}
		if _, err := os.Lstat(filepath.Dir(config)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: what is not of this host is made there: %v", name, err)
		}
	}
}
