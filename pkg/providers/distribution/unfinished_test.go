package distribution_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// A write of the accounts is killed before it reaches the file: the registry has those that
// stood there before, and each plan shows what is another, until an apply has finished it.
func TestAWriteOfAccountsThatWasCutIsShownUntilItIsFinished(t *testing.T) {
	hash, err := htpasswd.Hash("another", bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	secret := &schema.SecretRef{Env: providertest.SecretA}
	password, err := providertest.Secrets{}.Resolve(t.Context(), *secret)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		cut  func(f *htpasswd.File) error
		mode []string // the users that are declared
		want string   // what a plan shows
	}{
		"another password": {func(f *htpasswd.File) error { return f.Set("dev", hash) }, []string{"dev", "ops"}, "update user/dev"},
		"one more":         {func(f *htpasswd.File) error { return f.Set("new", hash) }, []string{"dev", "ops"}, "delete user/new"},
		"one less":         {func(f *htpasswd.File) error { f.Remove("dev"); return nil }, []string{"ops"}, "delete user/dev"},
		"none less":        {func(f *htpasswd.File) error { f.Remove("dev"); return nil }, []string{"dev", "ops"}, "update user/dev"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, file := byFile(t, providertest.Secrets{})
			changes := func() (list []plan.Change) {
				t.Helper()
				want := schema.State{Scope: schema.ScopeOf(schema.KindUser)}
				for _, name := range row.mode {
					want.Resources = append(want.Resources, schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: name}, Spec: &schema.User{Password: secret}})
				}
				live, err := p.Read(t.Context(), want.Scope)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range live.Resources {
					i := slices.IndexFunc(want.Resources, func(o schema.Resource) bool { return o.Key == r.Key })
					switch {
					case i < 0:
						list = append(list, plan.Change{Action: plan.Delete, Key: r.Key, Before: &r})
					case len(r.Unread) == 0:
						list = append(list, plan.Change{Action: plan.Update, Key: r.Key, Before: &r, After: &want.Resources[i], Fields: []plan.Field{{Path: "password"}}})
					}
				}
				return list
			}
			if err := write(t, p, []plan.Change{create(schema.KindUser, "dev", &schema.User{Password: secret}), create(schema.KindUser, "ops", &schema.User{Password: secret})}); err != nil {
				t.Fatal(err)
			}
			was, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f := htpasswd.Parse(was)
			if err := row.cut(f); err != nil {
				t.Fatal(err)
			}
			for suffix, text := range map[string][]byte{".prev": was, ".next": f.Bytes()} {
				if err := os.WriteFile(file+suffix, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			list := changes()
			if len(list) != 1 || string(list[0].Action)+" "+list[0].Key.String() != row.want {
				t.Fatalf("a plan shows %+v", list)
			}
			troubles := func() string {
				t.Helper()
				list, err := p.Troubles(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(list, func(o providers.Trouble) bool { return o.What == "files" })
				if i < 0 {
					return ""
				}
				return list[i].Text
			}
			if said := troubles(); !strings.Contains(said, "cut short") {
				t.Errorf("it says %q", said)
			}
			if err := write(t, p, list); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(file + ".next"); err == nil {
				t.Error("the promise still lies there")
			}
			if list := changes(); len(list) > 0 || troubles() != "" {
				t.Errorf("after the apply: %+v, %q", list, troubles())
			}
			for _, name := range row.mode {
				hash, _ := accounts(t, file).Hash(name)
				if ok, err := htpasswd.Verify(hash, password); !ok || err != nil {
					t.Errorf("%s cannot log in: %v", name, err)
				}
			}
		})
	}
}

// Of a robot that is gone a plan shows nothing: its job finishes the write.
func TestAJobFinishesAWriteOfAccountsThatWasCut(t *testing.T) {
	p, _, file := byFile(t, providertest.Secrets{})
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, text := range map[string]string{".prev": string(was) + "robot$old:x\n", "": string(was) + "robot$old:x\n", ".next": string(was)} {
		if err := os.WriteFile(file+suffix, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Renew(t.Context(), schema.State{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := accounts(t, file).Names(); len(got) != 1 || got[0] != "ocisync$" {
		t.Errorf("accounts %q", got)
	}
}
