package zot_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// inData is a provider of a registry that ocisync runs in a directory.
func inData(t testing.TB, data string) *zot.Provider {
	t.Helper()
	p, err := zot.New(schema.Registry{
		Type: schema.TypeZot, URL: "http://127.0.0.1:9", Run: &schema.Run{Driver: schema.DriverProcess, Data: data},
	}, nil, providertest.Secrets{}, nil, zot.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// crew is a desired state of many kinds; each version differs in all of them.
func crew(t testing.TB, version int) schema.State {
	t.Helper()
	pull, env := schema.Pull, []string{providertest.SecretA, providertest.SecretB}[version]
	ref := &schema.SecretRef{Env: env}
	user := []string{"alice", "bob"}[version]
	st := schema.State{}
	add := func(kind schema.Kind, name string, spec schema.Spec) {
		st.Resources = append(st.Resources, schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec})
	}
	for _, u := range []string{"alice", "bob"} {
		add(schema.KindUser, u, &schema.User{Admin: new(u == user), Password: ref})
	}
	add(schema.KindGroup, "team", &schema.Group{Users: schema.NewSet(user)})
	add(schema.KindNamespace, "apps", &schema.Namespace{Description: &user})
	add(schema.KindAccess, "apps", &schema.Access{Authenticated: &pull, Users: schema.NewGrants(schema.Grant{Name: user, Rights: schema.Push})})
	add(schema.KindRetention, "apps", &schema.Retention{Keep: []schema.KeepRule{{Newest: 3 + version}}})
	add(schema.KindRobot, "ci", &schema.Robot{Secret: &schema.RobotSecret{Value: ref}, Access: schema.NewGrants(schema.Grant{Name: "apps", Rights: []schema.Rights{schema.Pull, schema.Push}[version]})})
	add(schema.KindRemote, "up", &schema.Remote{Type: new("oci"), URL: new("https://up.example.com"), Login: &schema.Login{User: &user, Password: ref}})
	add(schema.KindReplication, "copy", &schema.Replication{From: new("up"), Namespace: new("apps"), Trigger: &schema.Trigger{Schedule: []string{"@every 1h", "@every 2h"}[version]}})
	add(schema.KindGC, "", &schema.GC{Delay: new(schema.Duration(3600 * (2 + version)))})
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	st.Scope = schema.ScopeOf(st.Kinds()...)
	return st
}

func cycle(t testing.TB, p *zot.Provider, st schema.State) int {
	t.Helper()
	n, err := providertest.DirectCycle(t.Context(), p, st)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The files of a registry, in the order in which a write changes them.
func inOrder() []string {
	return []string{"ocisync/zot.json", "sync-credentials.json", "htpasswd", "config.json"}
}

func snapshot(t testing.TB, data string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range inOrder() {
		b, err := os.ReadFile(filepath.Join(data, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		out[name] = b
	}
	return out
}

// Each file is written wholly or not; a write that was killed between two of
// them is mended by the next, also one that goes back.
func TestAWriteKilledBetweenTwoFilesConverges(t *testing.T) {
	for cut := range len(inOrder()) + 1 {
		for _, then := range []int{1, 0} {
			data := filepath.Join(t.TempDir(), "data")
			p := inData(t, data)
			cycle(t, p, crew(t, 0))
			before := snapshot(t, data)
			cycle(t, p, crew(t, 1))
			after := snapshot(t, data)
			for i, name := range inOrder() {
				b := before[name]
				if i < cut {
					b = after[name]
				}
				if err := os.WriteFile(filepath.Join(data, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p = inData(t, data)
			n := cycle(t, p, crew(t, then))
			if settled := cut == 0 && then == 0 || cut == len(inOrder()) && then == 1; settled != (n == 0) {
				t.Errorf("cut after %d files, then version %d: %d changes", cut, then, n)
			}
			if n := cycle(t, p, crew(t, then)); n != 0 {
				t.Errorf("cut after %d files, then version %d: the same again makes %d changes", cut, then, n)
			}
			want := map[int]map[string][]byte{0: before, 1: after}[then]
			have := snapshot(t, data)
			if diff := cmp.Diff(strings.TrimRight(string(want["config.json"]), "\n"), strings.TrimRight(string(have["config.json"]), "\n")); diff != "" {
				t.Errorf("cut after %d files, then version %d: the configuration is another (-want +have):\n%s", cut, then, diff)
			}
		}
	}
}

// What ocisync keeps beside the files is a help, not the truth.
func TestWithoutWhatOcisyncKeepsTheRulesAreStillRead(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	p := inData(t, data)
	st := crew(t, 0)
	cycle(t, p, st)
	before := snapshot(t, data)
	if err := os.Remove(filepath.Join(data, "ocisync", "zot.json")); err != nil {
		t.Fatal(err)
	}
	live := readEverything(t, p)
	for _, key := range []schema.Key{
		{Kind: schema.KindUser, Name: "alice"}, {Kind: schema.KindGroup, Name: "team"}, {Kind: schema.KindNamespace, Name: "apps"},
		{Kind: schema.KindAccess, Name: "apps"}, {Kind: schema.KindRetention, Name: "apps"}, {Kind: schema.KindRobot, Name: "ci"},
	} {
		if _, ok := live.Get(key); !ok {
			t.Errorf("%s is not read", key)
		}
	}
	cycle(t, p, st)
	if n := cycle(t, p, st); n != 0 {
		t.Errorf("the same again makes %d changes", n)
	}
	after := snapshot(t, data)
	for _, name := range []string{"config.json"} {
		if diff := cmp.Diff(string(before[name]), string(after[name])); diff != "" {
			t.Errorf("%s changed:\n%s", name, diff)
		}
	}
}

func TestOurOwnFileIsNotWrittenOverWhenItCannotBeRead(t *testing.T) {
	for text, says := range map[string]string{
		"{":                            "restore it",
		`{"format": 2}`:                "newer",
		`{"format": 1, "surprise": 1}`: "surprise",
	} {
		data := filepath.Join(t.TempDir(), "data")
		p := inData(t, data)
		cycle(t, p, crew(t, 0))
		name := filepath.Join(data, "ocisync", "zot.json")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Read(t.Context(), schema.ScopeOf(schema.KindUser)); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := providertest.DirectCycle(t.Context(), p, crew(t, 1)); err == nil {
			t.Errorf("%s: it was written over", text)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != text {
			t.Errorf("%s: holds %s, %v", text, b, err)
		}
	}
}

// Nothing but what the mode manages changes in twenty hand-written
// configurations: not a byte of any other value, nor their order.
func TestTwentyConfigurationsKeepWhatIsNotManaged(t *testing.T) {
	names, err := filepath.Glob("config/testdata/*.json")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d configurations, %v", len(names), err)
	}
	pull := schema.Pull
	st := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindGroup, Name: "ocisync-crew"}, Spec: &schema.Group{Users: schema.NewSet("somebody")}},
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "ocisync-apps"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindAccess, Name: "ocisync-apps"}, Spec: &schema.Access{Anonymous: &pull}},
		{Key: schema.Key{Kind: schema.KindRetention, Name: "ocisync-apps"}, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: 3}}}},
	}}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	managed := [][]string{{"http", "accesscontrol", "repositories", "ocisync-apps/**"}, {"http", "accesscontrol", "repositories", "**"}, {"http", "accesscontrol", "repositories", "ocisync/**"}, {"http", "accesscontrol", "groups", "ocisync-crew"}, {"storage", "retention", "policies"}}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			p, file := placed(t, string(b), "")
			text := strings.ReplaceAll(string(b), "/etc/zot/htpasswd", filepath.Dir(file)+"/htpasswd")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			st := st
			if strings.Contains(text, `"bearer"`) && !strings.Contains(text, `"oidc"`) { // where rules are refused
				st.Resources = slices.DeleteFunc(slices.Clone(st.Resources), func(r schema.Resource) bool {
					return r.Key.Kind == schema.KindGroup || r.Key.Kind == schema.KindAccess
				})
			}
			cycle(t, p, st)
			after, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			before, err := config.Parse(file, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			now, err := config.Parse(file, after)
			if err != nil {
				t.Fatal(err)
			}
			compareUnmanaged(t, before, now, nil, managed)
			if n := cycle(t, p, st); n != 0 {
				t.Errorf("the same again makes %d changes", n)
			}
		})
	}
}

func compareUnmanaged(t *testing.T, before, after *config.Document, path []string, managed [][]string) {
	t.Helper()
	folded := make([]string, len(path))
	for i, p := range path {
		folded[i] = strings.ToLower(p)
	}
	if slices.ContainsFunc(managed, func(m []string) bool { return slices.Equal(m, folded) }) {
		return
	}
	above := slices.ContainsFunc(managed, func(m []string) bool { return len(m) > len(folded) && slices.Equal(m[:len(folded)], folded) })
	was, _ := before.Get(path...)
	is, _ := after.Get(path...)
	if !above || !strings.HasPrefix(was, "{") {
		if was != is && was != "" {
			t.Errorf("%s was %s and is %s", strings.Join(path, "."), was, is)
		}
		return
	}
	old, now := before.Keys(path...), after.Keys(path...)
	if kept := slices.DeleteFunc(slices.Clone(now), func(k string) bool { return !slices.Contains(old, k) }); !slices.Equal(kept, old) {
		t.Errorf("%s: the keys were %q and are %q", strings.Join(path, "."), old, now)
	}
	for _, k := range old {
		compareUnmanaged(t, before, after, append(slices.Clip(path), k), managed)
	}
}
