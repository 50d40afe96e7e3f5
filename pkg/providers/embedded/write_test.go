package embedded_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

func TestWriteDoesWhatItCanAndNamesTheRest(t *testing.T) {
	p := newProvider(t, filepath.Join(t.TempDir(), "data"), "http://"+porttest.Address(t))
	got := write(t, p,
		create(schema.KindUser, "ok", &schema.User{}),
		create(schema.KindUser, "unset", &schema.User{Password: &schema.SecretRef{Env: "UNSET"}}),
		create(schema.KindUser, "bad:name", &schema.User{}),
		create(schema.KindNamespace, "Upper/Case", &schema.Namespace{}),
		create(schema.KindNamespace, "ocisync/x", &schema.Namespace{}),
		create(schema.KindAccess, "nowhere", &schema.Access{}),
		create(schema.KindLabel, "apps/ci", &schema.Label{}),
		plan.Change{Action: plan.Delete, Key: schema.Key{Kind: schema.KindUser, Name: "never-was"}},
	)
	want := map[string]error{
		"user/ok": nil, "user/never-was": nil, "user/bad:name": providers.ErrInvalid,
		"namespace/Upper/Case": providers.ErrInvalid, "namespace/ocisync/x": providers.ErrInvalid,
		"access/nowhere": providers.ErrNotFound, "label/apps/ci": providers.ErrUnsupported,
	}
	for k, err := range got {
		kind, known := want[k.String()]
		switch {
		case k.Name == "unset":
			if err == nil || !strings.Contains(err.Error(), "env UNSET") {
				t.Errorf("%s: %v does not name the reference", k, err)
			}
		case !known || !errors.Is(err, kind):
			t.Errorf("%s: error %v, want %v", k, err, kind)
		case err != nil && !strings.Contains(err.Error(), k.String()):
			t.Errorf("%s: error %q does not name the object", k, err)
		}
	}
	if st := read(t, p, allKinds()); len(st.Resources) != 1 {
		t.Errorf("%d objects were written, want 1", len(st.Resources))
	}
}

func TestWriteRefusesWhatSomebodyElseChanged(t *testing.T) {
	p := newProvider(t, filepath.Join(t.TempDir(), "data"), "http://"+porttest.Address(t))
	mustWrite(t, p, firstChanges()...)
	key := schema.Key{Kind: schema.KindNamespace, Name: "apps"}
	planned, _ := read(t, p, allKinds()).Get(key)
	update := func(description string) plan.Change {
		return plan.Change{Action: plan.Update, Key: key, Before: &planned, After: &schema.Resource{Key: key, Spec: &schema.Namespace{Description: &description}}}
	}
	mustWrite(t, p, update("mine"))
	mustWrite(t, p, update("mine")) // already so
	if err := write(t, p, update("theirs"))[key]; !errors.Is(err, providers.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
	stale := plan.Change{Action: plan.Delete, Key: key, Before: &planned}
	if err := write(t, p, stale)[key]; !errors.Is(err, providers.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
}

func TestPasswordIsKeptUnlessTheChangeListsIt(t *testing.T) {
	p := newProvider(t, filepath.Join(t.TempDir(), "data"), "http://"+porttest.Address(t))
	mustWrite(t, p, firstChanges()...)
	key := schema.Key{Kind: schema.KindUser, Name: "dev"}
	is := func(env string) bool {
		ok, err := p.Check(t.Context(), key, "password", schema.SecretRef{Env: env})
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	c := plan.Change{Action: plan.Update, Key: key, After: &schema.Resource{Key: key, Spec: &schema.User{Email: new("x@example.com"), Password: &schema.SecretRef{Env: "ROOT"}}}, Fields: []plan.Field{{Path: "email"}}}
	mustWrite(t, p, c)
	if !is("DEV") {
		t.Error("an update of the e-mail address changed the password")
	}
	c.Fields = []plan.Field{{Path: "password"}}
	mustWrite(t, p, c)
	if !is("ROOT") {
		t.Error("an update of the password did not change it")
	}
}

func TestAPlanNotesAQuotaBelowWhatIsUsed(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := newProvider(t, data, "http://"+porttest.Address(t))
	mustWrite(t, p, firstChanges()...)
	hex := strings.Repeat("ab", 32)
	root := filepath.Join(data, "docker/registry/v2")
	for name, content := range map[string]string{
		"blobs/sha256/ab/" + hex + "/data":                                   strings.Repeat(" ", 2048),
		"repositories/apps/one/_manifests/revisions/sha256/" + hex + "/link": "sha256:" + hex,
		"repositories/apps/two/_manifests/revisions/sha256/" + hex + "/link": "sha256:" + hex,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for limit, noted := range map[schema.Size]bool{2047: true, 2048: false, schema.Unlimited: false} {
		verdicts, err := p.Prepare(t.Context(), []plan.Change{create(schema.KindQuota, "apps", &schema.Quota{Limit: &limit})})
		if err != nil {
			t.Fatal(err)
		}
		if v := verdicts[0]; v.Refused != "" || (len(v.Notes) > 0) != noted {
			t.Errorf("limit %d: %+v", limit, v)
		}
	}
}
