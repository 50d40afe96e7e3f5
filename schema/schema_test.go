package schema_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

func TestSizesAreEqualByValueAndPrintOneWay(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "0GiB": "0", "1KiB": "1KiB", "1024KiB": "1MiB", "1536MiB": "1536MiB", "500GiB": "500GiB", "1024GiB": "1TiB", "12B": "12B", "unlimited": "unlimited",
	} {
		s, err := schema.ParseSize(text)
		if err != nil || s.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, s, err, want)
		}
		if again, err := schema.ParseSize(s.String()); err != nil || again != s {
			t.Errorf("%q printed as %q reads as %v, %v", text, s, again, err)
		}
	}
	for _, text := range []string{"", "10", "10GB", "-1GiB", "+1GiB", "1.5GiB", "GiB", "9999999999TiB", "1 GiB", "1gib"} {
		if s, err := schema.ParseSize(text); err == nil {
			t.Errorf("%q is taken as %v", text, s)
		}
	}
}

func TestDurationsAreEqualByValueAndPrintOneWay(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "90d": "90d", "2w": "14d", "24h": "1d", "1h30m": "90m", "60s": "1m", "never": "never", "1w1d": "8d",
	} {
		d, err := schema.ParseDuration(text)
		if err != nil || d.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, d, err, want)
		}
		if again, err := schema.ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q printed as %q reads as %v, %v", text, d, again, err)
		}
	}
	for _, text := range []string{"", "5", "h", "1h1h", "1m1h", "-1h", "1.5h", "99999999999999999w", "1y"} {
		if d, err := schema.ParseDuration(text); err == nil {
			t.Errorf("%q is taken as %v", text, d)
		}
	}
}

func TestDatesThatDoNotExistAreRefused(t *testing.T) {
	if d, err := schema.ParseDate("2028-02-29"); err != nil || d.String() != "2028-02-29" {
		t.Error(d, err)
	}
	for _, text := range []string{"2027-02-29", "2027-13-01", "2027-1-1", "27-01-01", ""} {
		if d, err := schema.ParseDate(text); err == nil {
			t.Errorf("%q is taken as %v", text, d)
		}
	}
}

func TestAdminHoldsTheOtherRights(t *testing.T) {
	all := schema.Pull | schema.Push | schema.Delete
	if !schema.Admin.Has(all) || schema.Pull.Has(all) || schema.Rights(0).Has(schema.Pull) {
		t.Error("Has")
	}
	r, err := schema.ParseRights([]string{"delete", "pull", "pull"})
	if err != nil || r.String() != "pull,delete" {
		t.Error(r, err)
	}
	if _, err := schema.ParseRights([]string{"write"}); err == nil {
		t.Error("write is no right")
	}
}

func TestKeysArePathsBothWays(t *testing.T) {
	for text, ns := range map[string]string{
		"gc": "", "namespace/a/b": "", "access/a/b": "namespace/a/b", "webhook/a/b/ci": "namespace/a/b", "robot/ci": "", "robot/a/ci": "namespace/a",
		"scan": "", "scan/a": "namespace/a", "label/base": "", "user/x": "",
		"repository/a/api": "namespace/a", "repository/a/backend/api": "namespace/a",
	} {
		k, err := schema.ParseKey(text)
		if err != nil || k.String() != text {
			t.Errorf("%q: %v, %v", text, k, err)
		}
		got := ""
		if parent, ok := k.Namespace(); ok {
			got = parent.String()
			if name := parent.Name + "/" + k.Child(); !k.Kind.Single() && name != k.Name {
				t.Errorf("%s is %s", text, name)
			}
		}
		if got != ns {
			t.Errorf("%s hangs on %q, want %q", text, got, ns)
		}
	}
	if _, err := schema.ParseKey("thing/x"); err == nil {
		t.Error("thing is no kind")
	}
}

// What a key is made of comes out of it, whatever slashes are in it, and no two are one.
func TestAKeyGivesBackTheNamesItIsMadeOf(t *testing.T) {
	seen := map[string]string{}
	for _, k := range schema.Kinds() {
		for _, ns := range []string{"", "a", "a/b"} {
			for _, own := range []string{"x", "b/x", "a/b/x", "b", "/x", "x/", "100%", "2F"} {
				switch {
				case k.Single() || !k.OfNamespace() && ns != "" || !k.Slashes() && strings.Contains(own, "/"):
					continue
				case k == schema.KindRepository && (ns != "a" || strings.HasPrefix(own, "/")):
					continue
				}
				key, said := schema.NewKey(k, ns, own), fmt.Sprintf("%q in %q", own, ns)
				if other, is := seen[key.String()]; is {
					t.Errorf("%s is %s and %s", key, said, other)
				}
				seen[key.String()] = said
				parent, hangs := key.Namespace()
				if key.Child() != own || parent.Name != ns || hangs != (ns != "") || !k.Keeps(own) {
					t.Errorf("%s: %s comes out as %q in %q", key, said, key.Child(), parent.Name)
				}
				if again, err := schema.ParseKey(key.String()); err != nil || again != key {
					t.Errorf("%s reads as %v, %v", key, again, err)
				}
				if moved := key.In("c"); hangs && moved != schema.NewKey(k, "c", own) || !hangs && moved != key {
					t.Errorf("%s in another namespace is %s", key, moved)
				}
			}
		}
	}
	for text, key := range map[string]schema.Key{
		"label/a/kind%2Fbug": schema.NewKey(schema.KindLabel, "a", "kind/bug"), "label/kind%2Fbug": schema.NewKey(schema.KindLabel, "", "kind/bug"),
		"remote/eu/dr": schema.NewKey(schema.KindRemote, "", "eu/dr"), "repository/a/b/c": schema.NewKey(schema.KindRepository, "a", "b/c"),
		"quota/a": schema.NewKey(schema.KindQuota, "a", ""), "webhook/a/": schema.NewKey(schema.KindWebhook, "a", ""),
		"scan": schema.NewKey(schema.KindScan, "", ""),
	} {
		if key.String() != text {
			t.Errorf("%s, want %s", key, text)
		}
	}
	for _, own := range []string{"a%2Fb", "a%2fb"} {
		if schema.KindLabel.Keeps(own) || schema.KindWebhook.Keeps(own) || !schema.KindRemote.Keeps(own) {
			t.Errorf("%s is taken for a name that a key gives back, or not", own)
		}
	}
}

// A former name is of the same namespace; with a slash it is a label's own, and the whole
// of a robot's.
func TestAFormerNameIsOfTheSameKind(t *testing.T) {
	for _, x := range [][3]string{
		{"label/a/x", "kind/bug", "label/a/kind%2Fbug"}, {"label/x", "kind/bug", "label/kind%2Fbug"}, {"webhook/a/b/x", "y", "webhook/a/b/y"},
		{"webhook/a/x", "a/y", "webhook/a/a%2Fy"}, {"robot/a/x", "y", "robot/a/y"}, {"robot/a/x", "b/y", "robot/b/y"}, {"remote/x", "eu/dr", "remote/eu/dr"},
		{"namespace/a/b", "c/d", "namespace/c/d"}, {"repository/a/x", "y", "repository/a/y"}, {"group/x", "/y", "group//y"},
	} {
		key, err := schema.ParseKey(x[0])
		if err != nil {
			t.Fatal(err)
		}
		if former, ok := (schema.Directive{Key: key, Previously: x[1]}).Former(); !ok || former.String() != x[2] {
			t.Errorf("%s was %s before, want %s", x[0], former, x[2])
		}
	}
}

func TestEveryKindHasASpecAndARank(t *testing.T) {
	last := 0
	for _, k := range schema.Kinds() {
		s, err := schema.NewSpec(k)
		if err != nil || s.Kind() != k {
			t.Errorf("%s: %v, %v", k, s, err)
		}
		if k.Rank() < last || k.Rank() > 9 {
			t.Errorf("%s has rank %d after %d", k, k.Rank(), last)
		}
		last = k.Rank()
	}
	if _, err := schema.NewSpec("thing"); err == nil {
		t.Error("thing is no kind")
	}
}

func TestAResourceReadsBackAsWrittenAndRefusesWhatItDoesNotKnow(t *testing.T) {
	text := `{"key":"access/a","spec":{"anonymous":[],"users":{"bob":["pull"],"eve":[]}},"unread":["x"],"version":"7","source":{"file":"m.toml","line":3,"col":1}}`
	var r schema.Resource
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil || string(b) != text {
		t.Errorf("%s, %v", b, err)
	}
	for _, bad := range []string{
		`{"key":"access/a","spec":{"anonimous":[]}}`, `{"key":"thing/a","spec":{}}`, `{"key":"access/a","spec":{},"more":1}`, `{"key":"access/a","spec":{"anonymous":["write"]}}`,
	} {
		if err := json.Unmarshal([]byte(bad), &r); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestOutsideTheScopeIsUnknown(t *testing.T) {
	s := schema.ScopeOf(schema.KindWebhook, schema.KindUser, schema.KindUser, schema.KindRobot)
	s.Except = []schema.Key{{Kind: schema.KindUser, Name: "x"}, {Kind: schema.KindWebhook, Name: "a/"}, {Kind: schema.KindRobot, Name: "/"}}
	for text, want := range map[string]bool{"robot/all": false, "robot/a/ci": true, "user/y": true, "user/x": false, "webhook/b/ci": true, "webhook/a/ci": false, "group/g": false} {
		k, err := schema.ParseKey(text)
		if err != nil || s.Covers(k) != want {
			t.Errorf("%s: %v, %v", text, s.Covers(k), err)
		}
	}
}

func TestCanonicalJSONSortsKeysAndKeepsNumbers(t *testing.T) {
	got, err := schema.CanonicalJSON([]byte(` { "b" : [ 1.0 , 1e2, "<é>" ], "a" : { "d":null, "c":true } } `))
	if d := cmp.Diff(`{"a":{"c":true,"d":null},"b":[1.0,1e2,"<é>"]}`, got); err != nil || d != "" {
		t.Error(d, err)
	}
	for _, bad := range []string{"", "{", "1 2", `{"a":}`} {
		if _, err := schema.CanonicalJSON([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestTheLongestRowOfATableDecides(t *testing.T) {
	table := schema.Table{
		{Kind: schema.KindRobot, Support: schema.Native},
		{Kind: schema.KindRobot, Field: "secret", Support: schema.Emulated, Reason: "a"},
		{Kind: schema.KindRobot, Field: "secret.deliver", Support: schema.Unsupported, Reason: "b"},
	}
	for field, want := range map[string]schema.Support{"": schema.Native, "expires": schema.Native, "secret.value": schema.Emulated, "secret.deliver.file": schema.Unsupported, "secrets": schema.Native} {
		if got := table.Find(schema.KindRobot, field).Support; got != want {
			t.Errorf("%q: %s, want %s", field, got, want)
		}
	}
	if got := table.Find(schema.KindUser, ""); got.Support != schema.Unsupported || got.Reason == "" {
		t.Error("a kind without a row is unsupported, with a reason")
	}
}

func TestASecretReferenceNamesOneSource(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"env":"X"}`: true, `{"command":"c","args":["a"]}`: true, `{}`: false, `{"env":"X","file":"y"}`: false, `{"env":"X","args":["a"]}`: false,
	} {
		var r schema.SecretRef
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		if (r.Check() == nil) != ok {
			t.Errorf("%s: %v", text, r.Check())
		}
	}
}
