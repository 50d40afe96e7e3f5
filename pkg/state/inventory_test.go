package state

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
	"pgregory.net/rapid"
)

const canary = "c4nary-Zq81-do-not-print"

func key(t testing.TB, s string) schema.Key {
	t.Helper()
	k, err := schema.ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func object(t testing.TB, s string) Object {
	t.Helper()
	k := key(t, s)
	spec, err := schema.NewSpec(k.Kind)
	if err != nil {
		t.Fatal(err)
	}
	return Object{Key: k, Spec: spec, Owned: true}
}

func sample(t testing.TB) Inventory {
	t.Helper()
	inv := Inventory{
		Mode:      "prod",
		Registry:  plan.Registry{Type: "harbor", URL: "https://registry.example.com"},
		Serial:    7,
		Run:       "r1",
		Revision:  "abc",
		Actor:     "ci",
		Time:      time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Protected: []string{"namespace/*"},
		Pruned:    []schema.Kind{schema.KindWebhook},
		Approvals: []Approval{{"sha256:1", time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), "r0"}},
	}
	env := "OCISYNC_PW"
	u := object(t, "user/ann")
	u.Spec = &schema.User{Email: &env, Password: &schema.SecretRef{Env: env}}
	inv.Put(u, object(t, "namespace/team-a"), object(t, "webhook/team-a/ci"), object(t, "access/team-a"))
	return inv
}

func TestInventoryReadsBackAsWritten(t *testing.T) {
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	inv := sample(t)
	inv.Put(func() Object {
		o, _ := inv.Get(key(t, "user/ann"))
		o.Hashes = []Hash{k.Hash(o.Key, "password", "x", time.Time{}), k.Hash(o.Key, "token", "y", inv.Time)}
		return o
	}())
	b, err := Seal(inv, k)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Seal(inv, k)
	if err != nil || string(again) != string(b) {
		t.Fatalf("two seals of one inventory differ: %v", err)
	}
	have, trust := Open(b, inv.Identity(), k.Public(), 7)
	if trust.Level != Signed || !trust.MayDelete() {
		t.Fatalf("trust = %+v", trust)
	}
	inv.Format = Format
	if d := cmp.Diff(inv, have); d != "" {
		t.Errorf("(-wrote +read)\n%s", d)
	}
}

func TestPutDropKeepObjectsSortedAndUnique(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var inv Inventory
		want := map[schema.Key]string{}
		for step := range rapid.IntRange(1, 20).Draw(rt, "steps") {
			var batch []Object
			for range rapid.IntRange(0, 4).Draw(rt, "n") {
				k := schema.Key{Kind: schema.KindUser, Name: rapid.StringMatching("[a-d]").Draw(rt, "name")}
				o := Object{Key: k, Spec: &schema.User{}, Instance: fmt.Sprint(step, len(batch))}
				batch = append(batch, o)
			}
			if rapid.Bool().Draw(rt, "drop") && len(batch) > 0 {
				inv.Drop(batch[0].Key)
				delete(want, batch[0].Key)
				continue
			}
			inv.Put(batch...)
			for _, o := range batch {
				want[o.Key] = o.Instance
			}
		}
		if len(inv.Objects) != len(want) {
			rt.Fatalf("%d objects, want %d", len(inv.Objects), len(want))
		}
		for k, instance := range want {
			if o, ok := inv.Get(k); !ok || o.Instance != instance {
				rt.Fatalf("%s: have %q %v, want %q", k, o.Instance, ok, instance)
			}
		}
		if !slices.IsSortedFunc(inv.Objects, func(a, b Object) int { return a.Key.Compare(b.Key) }) {
			rt.Fatal("not sorted")
		}
	})
}

func TestRenameMovesANamespaceWithItsChildren(t *testing.T) {
	inv := sample(t)
	inv.Put(object(t, "namespace/team-a/sub"), object(t, "webhook/team-a/sub/ci"), object(t, "robot/team-a/bot"))
	if err := inv.Rename(key(t, "namespace/team-a"), key(t, "namespace/z/new")); err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, o := range inv.Objects {
		have = append(have, o.Key.String())
		if !inv.Owns(o.Key) {
			t.Errorf("%s: ownership lost", o.Key)
		}
	}
	want := []string{"access/z/new", "namespace/team-a/sub", "namespace/z/new", "robot/z/new/bot",
		"user/ann", "webhook/team-a/sub/ci", "webhook/z/new/ci"}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("(-want +have)\n%s", d)
	}
	if err := inv.Rename(key(t, "namespace/z/new"), key(t, "namespace/team-a/sub")); err == nil {
		t.Error("a rename onto a recorded object was accepted")
	}
	if d := cmp.Diff(7, len(inv.Objects)); d != "" {
		t.Errorf("a refused rename changed the inventory: %s", d)
	}
}

func TestOwnershipIsOfOneInstance(t *testing.T) {
	inv := sample(t)
	inv.Instance = "east"
	if inv.Owns(key(t, "user/ann")) {
		t.Error("an object of another instance counts as owned")
	}
}

func TestInventoryRefusesASecret(t *testing.T) {
	text := func(s string) *string { return &s }
	cases := map[string]struct {
		key  string
		spec schema.Spec
	}{
		"password in a URL":        {"webhook/team-a/ci", &schema.Webhook{URL: text("https://bot:" + canary + "@example.com/h")}},
		"password in a nested URL": {"settings", &schema.Settings{Values: schema.Values{{Path: "http.proxy", JSON: `"http://u:` + canary + `@p"`}}}},
		"literal native secret":    {"settings", &schema.Settings{Values: schema.Values{{Path: "storage.s3.secretkey", JSON: `"` + canary + `"`}}}},
		"literal ldap password":    {"settings", &schema.Settings{Values: schema.Values{{Path: "ldap_search_password", JSON: `"` + canary + `"`}}}},
		"secret as variable name":  {"user/ann", &schema.User{Password: &schema.SecretRef{Env: canary}}},
		"empty reference":          {"user/ann", &schema.User{Password: &schema.SecretRef{}}},
		"nested reference":         {"robot/ci", &schema.Robot{Secret: &schema.RobotSecret{Value: &schema.SecretRef{Env: canary}}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inv := sample(t)
			inv.Put(Object{Key: key(t, c.key), Spec: c.spec})
			b, err := Seal(inv, Key{})
			if err == nil {
				t.Fatalf("sealed: %s", b)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error holds the secret: %v", err)
			}
			if !strings.Contains(err.Error(), c.key) {
				t.Errorf("the error does not name %s: %v", c.key, err)
			}
		})
	}
}

func TestInventoryTakesWhatOnlyLooksLikeASecret(t *testing.T) {
	text := func(s string) *string { return &s }
	inv := sample(t)
	inv.Put(
		Object{Key: key(t, "settings"), Spec: &schema.Settings{Values: schema.Values{
			{Path: "http.auth.credentialsFile", JSON: `"/etc/zot/cred.json"`},
			{Path: "oidc_client_secret", JSON: `{"env":"OCISYNC_OIDC"}`},
			{Path: "token_expiration", JSON: `30`},
		}}},
		Object{Key: key(t, "remote/hub"), Spec: &schema.Remote{URL: text("https://user@example.com/a:b@c")}},
	)
	if _, err := Seal(inv, Key{}); err != nil {
		t.Error(err)
	}
}

// Every field marked secret, in every kind, has a type that can hold only a
// reference; so no value can reach the inventory through it.
func TestSecretFieldsAreReferences(t *testing.T) {
	found := 0
	var walk func(typ reflect.Type, path string)
	walk = func(typ reflect.Type, path string) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(typ.Elem(), path)
		case reflect.Struct:
			for f := range typ.Fields() {
				if f.Tag.Get("sync") == "secret" {
					found++
					if f.Type != reflect.TypeFor[*schema.SecretRef]() {
						t.Errorf("%s.%s is %s", path, f.Name, f.Type)
					}
					continue
				}
				walk(f.Type, path+"."+f.Name)
			}
		}
	}
	for _, k := range schema.Kinds() {
		spec, err := schema.NewSpec(k)
		if err != nil {
			t.Fatal(err)
		}
		walk(reflect.TypeOf(spec), string(k))
	}
	if found < 6 {
		t.Errorf("only %d secret fields found", found)
	}
}

func TestUnsignedInventoryHoldsNoHashes(t *testing.T) {
	inv := sample(t)
	o := object(t, "user/bob")
	o.Hashes = []Hash{{Path: "password", HMAC: "00"}}
	inv.Put(o)
	have, trust := Open(seal(t, inv, Key{}), inv.Identity(), "", 0)
	if bob, ok := have.Get(o.Key); !ok || len(bob.Hashes) > 0 {
		t.Errorf("%+v, %v", bob, trust)
	}
	if bob, _ := inv.Get(o.Key); len(bob.Hashes) != 1 {
		t.Error("Seal changed the inventory it was given")
	}
}

func TestObjectRefusesUnknownFields(t *testing.T) {
	for _, text := range []string{
		`{"key":"user/ann","spec":{"shoe_size":3}}`,
		`{"key":"user/ann","spec":{},"more":1}`,
		`{"key":"shoe/ann","spec":{}}`,
	} {
		var o Object
		if err := json.Unmarshal([]byte(text), &o); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}
