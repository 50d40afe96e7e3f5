package load_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

func TestExamplesLoad(t *testing.T) {
	modes, err := load.Modes("../../examples/modes")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"dev", "local", "prod"}, modes); diff != "" {
		t.Error(diff)
	}
	for _, mode := range modes {
		cfg, err := load.Mode("../../examples/modes", mode)
		if err != nil {
			t.Error(err)
			continue
		}
		theDefaultNamespaces(t, mode, cfg)
	}
}

func TestTemplatesOfInitLoad(t *testing.T) {
	for _, mode := range []string{"dev", "prod"} {
		data, err := os.ReadFile("../../cmd/ocisync/templates/" + mode + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := load.Mode(writeMode(t, mode, map[string][]byte{mode + ".toml": data}), mode)
		if err != nil {
			t.Error(err)
			continue
		}
		theDefaultNamespaces(t, mode, cfg)
	}
}

// theDefaultNamespaces checks the namespaces that every example carries.
func theDefaultNamespaces(t *testing.T, mode string, cfg *schema.Config) {
	t.Helper()
	const all, write, read = schema.Pull | schema.Push | schema.Delete, schema.Pull | schema.Push, schema.Pull
	rows := []struct {
		name, description string
		anonymous         schema.Rights
		authenticated     schema.Rights
		users             string
		newest            int
		within            string
	}{
		{"provisioning-extensions", "Extension packages (providers, taskservs, clusters)", 0, all, "developer,provisioning", 10, "90d"},
		{"provisioning-kcl", "KCL schema packages", 0, write, "developer,provisioning", 20, "180d"},
		{"provisioning-platform", "Platform service images", 0, read, "provisioning", 5, "30d"},
		{"provisioning-test", "Test images and artifacts", read, all, "developer,provisioning,tester", 3, "7d"},
	}
	for _, row := range rows {
		get := func(k schema.Kind) schema.Spec {
			r, ok := cfg.Desired.Get(schema.Key{Kind: k, Name: row.name})
			if !ok {
				t.Fatalf("%s: no %s/%s", mode, k, row.name)
			}
			return r.Spec
		}
		if d := get(schema.KindNamespace).(*schema.Namespace).Description; d == nil || *d != row.description {
			t.Errorf("%s: description of %s", mode, row.name)
		}
		access := get(schema.KindAccess).(*schema.Access)
		if access.Anonymous == nil || *access.Anonymous != row.anonymous || *access.Authenticated != row.authenticated {
			t.Errorf("%s: access of %s: anonymous %v, authenticated %v", mode, row.name, access.Anonymous, access.Authenticated)
		}
		var users []string
		for _, g := range access.Users {
			users = append(users, g.Name)
		}
		if strings.Join(users, ",") != row.users {
			t.Errorf("%s: users of %s: %v", mode, row.name, users)
		}
		if r, _ := access.Users.Get("provisioning"); r != schema.Admin {
			t.Errorf("%s: provisioning is no admin of %s", mode, row.name)
		}
		if mode == "local" {
			continue // the embedded registry has no retention
		}
		keep := get(schema.KindRetention).(*schema.Retention).Keep
		if len(keep) < 2 || keep[0].Newest != row.newest || keep[1].PushedWithin.String() != row.within {
			t.Errorf("%s: retention of %s: %v", mode, row.name, keep)
		}
	}
	for _, user := range []string{"provisioning", "developer", "tester"} {
		if _, ok := cfg.Desired.Get(schema.Key{Kind: schema.KindUser, Name: user}); !ok {
			t.Errorf("%s: no user %s", mode, user)
		}
	}
}

func TestPathsCountFromTheFileThatNamesThem(t *testing.T) {
	cfg, err := load.Mode("../../examples/modes", "prod")
	if err != nil {
		t.Fatal(err)
	}
	want, err := filepath.Abs("../../examples/modes/prod/certs/internal-ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	if have := *cfg.Registry.TLS.CA; have != want {
		t.Errorf("registry.tls.ca is %s, want %s", have, want)
	}
	r, _ := cfg.Desired.Get(schema.Key{Kind: schema.KindTrust, Name: "provisioning-platform"})
	if diff := cmp.Diff(schema.Set{"modes/prod/certs/release.pub"}, r.Spec.(*schema.Trust).Keys); diff != "" {
		t.Error(diff)
	}
}
