package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func key(t *testing.T, s string) schema.Key {
	t.Helper()
	k, err := schema.ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rename is a change that leaves the object as it is.
func rename(t *testing.T, from, to string, spec schema.Spec) embedded.Change {
	t.Helper()
	former := key(t, from)
	return embedded.Change{Object: schema.Resource{Key: key(t, to), Spec: spec}, From: &former}
}

func (s *served) keys(t *testing.T) []string {
	t.Helper()
	live, err := s.State(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range live.Objects {
		out = append(out, o.Key.String())
	}
	return out
}

// pulls fails the test unless the tag is that very image.
func (s *served) pulls(t *testing.T, user, ref string, im v1.Image) {
	t.Helper()
	got, err := remote.Image(s.ref(t, ref), s.as(user)...)
	if err != nil {
		t.Fatal(err)
	}
	want, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := got.Digest(); err != nil || d != want {
		t.Errorf("%s is %v (%v), want %v", ref, d, err, want)
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Compressed() // hashed as it is read
		if err == nil {
			_, err = r.Read(make([]byte, 1))
			err = errors.Join(err, r.Close())
		}
		if err != nil {
			t.Errorf("a layer of %s: %v", ref, err)
		}
	}
}

func TestARenamedNamespaceKeepsItsContentAndWhoMayDoWhat(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	access := schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push})}
	limit := schema.Size(1 << 20)
	s.change(t, putUser(t, "dev", false), putNamespace("old"), putAccess("old", access), putNamespace("old/inner"), putAccess("old/inner", access), putNamespace("older"), putAccess("older", access),
		embedded.Change{Object: schema.Resource{Key: key(t, "quota/old"), Spec: &schema.Quota{Limit: &limit}}},
		embedded.Change{Object: schema.Resource{Key: key(t, "retention/old"), Spec: &schema.Retention{Keep: []schema.KeepRule{{PulledWithin: 86400}}}}})
	images := map[string]v1.Image{}
	for _, ref := range []string{"old/app:1", "old/app:2", "old/deep/app:1", "old/inner/app:1", "older/app:1", "old:1"} {
		images[ref] = image(t)
		if err := remote.Write(s.ref(t, ref), images[ref], s.as("dev")...); err != nil {
			t.Fatal(err)
		}
	}
	s.pulls(t, "dev", "old/app:1", images["old/app:1"]) // it is pulled, the others are not
	used, err := s.Usage(t.Context(), []string{"old"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds it done
		s.change(t, rename(t, "namespace/old", "namespace/new/home", &schema.Namespace{}))
	}
	want := []string{"user/dev", "namespace/new/home", "namespace/old/inner", "namespace/older", "access/new/home", "access/old/inner", "access/older", "quota/new/home", "retention/new/home"}
	slices.Sort(want)
	got := s.keys(t)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for ref, im := range images {
		to := ref
		if ref == "old:1" || strings.HasPrefix(ref, "old/app") || strings.HasPrefix(ref, "old/deep") {
			to = "new/home" + strings.TrimPrefix(ref, "old")
			if resp := s.do(t, "GET", "dev", "/v2/"+strings.Replace(ref, ":", "/manifests/", 1)); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s answers %d", ref, resp.StatusCode)
			}
		}
		if to != "new/home/app:2" { // pulling makes it stay
			s.pulls(t, "dev", to, im)
		}
	}
	repositories, err := s.Repositories(t.Context(), []string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]schema.RepositoryInfo{{Name: "new/home", Tags: 1}, {Name: "new/home/app", Tags: 2}, {Name: "new/home/deep/app", Tags: 1}, {Name: "old/inner/app", Tags: 1}, {Name: "older/app", Tags: 1}}, repositories); d != "" {
		t.Error(d)
	}
	now, err := s.Usage(t.Context(), []string{"new/home"})
	if err != nil || now[0].Used != used[0].Used || now[0].Limit != limit {
		t.Errorf("usage %+v (%v), was %+v", now, err, used)
	}
	if _, err := s.Run(t.Context(), embedded.JobGC, false); err != nil {
		t.Fatal(err)
	}
	s.pulls(t, "dev", "new/home/deep/app:1", images["old/deep/app:1"])
}

func TestARenameCarriesWhenTagsWerePulled(t *testing.T) {
	for _, how := range []string{"served", "stopped"} {
		t.Run(how, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			s := serve(t, data)
			s.change(t, putUser(t, "dev", false), putNamespace("team"), putAccess("team", schema.Access{Authenticated: rights(schema.Pull | schema.Push)}),
				keepTags(schema.Retention{Keep: []schema.KeepRule{{PulledWithin: 86400}}}))
			im := image(t)
			for _, tag := range []string{"pulled", "forgotten"} {
				if err := remote.Write(s.ref(t, "team/app:"+tag), im, s.as("dev")...); err != nil {
					t.Fatal(err)
				}
			}
			s.pulls(t, "dev", "team/app:pulled", im)
			change := rename(t, "namespace/team", "namespace/crew", &schema.Namespace{})
			if how == "served" {
				s.change(t, change)
			} else {
				s.stop(t)
				d, err := embedded.OpenDirectory(data, "test", bucketFor(t, data))
				if err != nil {
					t.Fatal(err)
				}
				results, err := d.Change(t.Context(), []embedded.Change{change})
				if err != nil || results[0].Err != nil {
					t.Fatal(err, results)
				}
				s = serve(t, data)
			}
			report := s.retain(t, embedded.RetentionOptions{DryRun: true})
			if d := cmp.Diff(2, len(report.Tags)); d != "" {
				t.Fatal(d, report.Tags)
			}
			for _, tag := range report.Tags {
				if tag.Repository != "crew/app" || tag.Pulled.IsZero() == (tag.Tag == "pulled") || tag.PushedBy != "user dev" {
					t.Errorf("%+v", tag)
				}
			}
		})
	}
}

func TestARenameThatCannotBeChangesNothing(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := serve(t, data)
	s.change(t, putUser(t, "root", true), putUser(t, "dev", false), putNamespace("a"), putNamespace("b"), putNamespace("c/app"))
	for _, ref := range []string{"a/app:1", "free/app:1"} {
		if err := remote.Write(s.ref(t, ref), image(t), s.as("root")...); err != nil {
			t.Fatal(err)
		}
	}
	state := func() string {
		b, err := os.ReadFile(filepath.Join(data, "ocisync", "state.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := state()
	for name, c := range map[string]struct {
		from, to string
		want     error
		says     string
	}{
		"to a name that is taken":         {"namespace/a", "namespace/b", embedded.ErrConflict, "choose a name that is free"},
		"to where a repository is":        {"namespace/a", "namespace/free", embedded.ErrConflict, "repository a/app cannot become free/app, which exists"},
		"to where it falls to another":    {"namespace/a", "namespace/c", embedded.ErrConflict, "fall to namespace c/app"},
		"into itself":                     {"namespace/a", "namespace/a/sub", embedded.ErrInvalid, "into itself"},
		"of what is not there":            {"namespace/gone", "namespace/d", embedded.ErrMissing, "plan again"},
		"to another kind":                 {"namespace/a", "user/new", embedded.ErrInvalid, "cannot become it"},
		"to the registry's own":           {"namespace/a", "namespace/ocisync/x", embedded.ErrInvalid, "ocisync's own"},
		"of an account to a taken name":   {"user/dev", "user/root", embedded.ErrConflict, "choose a name that is free"},
		"of an account to no name at all": {"user/dev", "user/a b", embedded.ErrInvalid, "printable"},
	} {
		t.Run(name, func(t *testing.T) {
			to := key(t, c.to)
			spec, err := schema.NewSpec(to.Kind)
			if err != nil {
				t.Fatal(err)
			}
			results, err := s.Change(t.Context(), []embedded.Change{rename(t, c.from, c.to, spec)})
			if err != nil {
				t.Fatal(err)
			}
			if !errors.Is(results[0].Err, c.want) || !strings.Contains(results[0].Err.Error(), c.says) {
				t.Errorf("error %v, want %v that says %q", results[0].Err, c.want, c.says)
			}
			if after := state(); after != before {
				t.Errorf("the state became %s", after)
			}
		})
	}
}

func TestARenamedAccountKeepsItsPasswordItsGroupsAndItsRights(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "dev", false), putGroup("ops", "dev", "other"), putNamespace("own"), putNamespace("shared"),
		putAccess("own", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull})}),
		putAccess("shared", schema.Access{Groups: schema.NewGrants(schema.Grant{Name: "ops", Rights: schema.Pull})}))
	s.change(t, rename(t, "user/dev", "user/developer", &schema.User{}), rename(t, "group/ops", "group/operations", &schema.Group{Users: schema.NewSet("developer", "other")}))
	get := func(user, path string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(user, "pw-dev")
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for path, want := range map[string]int{"/v2/": 200, "/v2/own/x/tags/list": 404, "/v2/shared/x/tags/list": 404, "/v2/else/x/tags/list": 403} {
		if got := get("developer", path); got != want {
			t.Errorf("developer at %s: status %d, want %d", path, got, want)
		}
	}
	if got := get("dev", "/v2/"); got != 401 {
		t.Errorf("the former name logs in: status %d", got)
	}
}

func TestARobotKeepsItsLoginThroughRenames(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	robot := &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "team", Rights: schema.Pull})}
	account := &embedded.AccountChange{Login: "robot$team+ci", Hash: quickHash(t, "pw"), Delivered: true}
	s.change(t, putNamespace("team"), embedded.Change{Object: schema.Resource{Key: key(t, "robot/team/ci"), Spec: robot}, Account: account})
	s.change(t, rename(t, "namespace/team", "namespace/crew", &schema.Namespace{}))
	login := func(name string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/v2/crew/x/tags/list", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(name, "pw")
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := login("robot$team+ci"); got != 404 {
		t.Errorf("its login answers %d", got)
	}
	// nobody else may get that login while it works
	if err := s.Acknowledge(t.Context(), []schema.Key{key(t, "namespace/crew")}); err != nil {
		t.Fatal(err)
	}
	s.change(t, putNamespace("team"))
	results, err := s.Change(t.Context(), []embedded.Change{{Object: schema.Resource{Key: key(t, "robot/team/ci"), Spec: robot}, Account: account}})
	if err != nil || !errors.Is(results[0].Err, embedded.ErrConflict) || !strings.Contains(results[0].Err.Error(), "robot/crew/ci") {
		t.Errorf("another robot got its login: %v, %v", results, err)
	}
	live := &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "crew", Rights: schema.Pull})}
	s.change(t, embedded.Change{Object: schema.Resource{Key: key(t, "robot/crew/ci"), Spec: live}, Account: &embedded.AccountChange{Login: "robot$crew+ci", Hash: quickHash(t, "pw"), Delivered: true}})
	if old, renewed := login("robot$team+ci"), login("robot$crew+ci"); old != 401 || renewed != 404 {
		t.Errorf("renewed, the old login answers %d and the new one %d", old, renewed)
	}
}

func TestARenamedWebhookDeliversWhatWaits(t *testing.T) {
	var mu sync.Mutex
	up, got := false, []string{}
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !up {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		got = append(got, q.Header.Get("Authorization"))
	}))
	defer target.Close()
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	spec := &schema.Webhook{URL: &target.URL, Events: schema.NewSet("push")}
	s.change(t, putUser(t, "dev", false), putNamespace("team"), putAccess("team", schema.Access{Authenticated: rights(schema.Pull | schema.Push)}),
		embedded.Change{Object: schema.Resource{Key: key(t, "webhook/team/w"), Spec: spec}, Secret: "Bearer x"})
	if err := remote.Write(s.ref(t, "team/app:1"), image(t), s.as("dev")...); err != nil {
		t.Fatal(err)
	}
	s.change(t, rename(t, "namespace/team", "namespace/crew", &schema.Namespace{}))
	s.change(t, rename(t, "webhook/crew/w", "webhook/crew/told", spec))
	mu.Lock()
	up = true
	mu.Unlock()
	s.change(t, rename(t, "webhook/crew/told", "webhook/crew/teller", spec)) // wakes it, too
	deadline := time.Now().Add(time.Minute)
	for {
		mu.Lock()
		done := slices.Contains(got, "Bearer x")
		mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing came with the webhook's auth: %q", got)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// cutShort is a data directory in which the rename of namespace/old, with a
// webhook, to namespace/new was killed: state.json bears the new name, and one
// of two repositories does.
func cutShort(t *testing.T) (data string, im v1.Image) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	s := serve(t, data)
	url := "https://told.example.com"
	s.change(t, putUser(t, "root", true), putNamespace("old"),
		embedded.Change{Object: schema.Resource{Key: key(t, "webhook/old/w"), Spec: &schema.Webhook{URL: &url, Events: schema.NewSet("delete")}}, Secret: "Bearer x"})
	im = image(t)
	for _, ref := range []string{"old/a:1", "old/b:1"} {
		if err := remote.Write(s.ref(t, ref), im, s.as("root")...); err != nil {
			t.Fatal(err)
		}
	}
	s.stop(t)
	name := filepath.Join(data, "ocisync", "state.json")
	var doc map[string]json.RawMessage
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal([]byte(strings.NewReplacer(`"namespace/old"`, `"namespace/new"`, `"webhook/old/w"`, `"webhook/new/w"`).Replace(string(b))), &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	doc["moves"] = json.RawMessage(`[{"from":"namespace/old","to":"namespace/new"}]`)
	if b, err = json.Marshal(doc); err == nil {
		err = os.WriteFile(name, b, 0o600)
	}
	below := filepath.Join(data, "docker", "registry", "v2", "repositories")
	if err := errors.Join(err, os.MkdirAll(filepath.Join(below, "new"), 0o750), os.Rename(filepath.Join(below, "old", "a"), filepath.Join(below, "new", "a"))); err != nil {
		t.Fatal(err)
	}
	return data, im
}

func openDirectory(t *testing.T, data string) *embedded.Directory {
	t.Helper()
	d, err := embedded.OpenDirectory(data, "test", bucketFor(t, data))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// told is a registry, however it is reached.
type told interface {
	State(context.Context, []schema.Kind) (embedded.Live, error)
}

// checkRenamed fails unless those renames, as "FROM > TO", wait to be
// acknowledged.
func checkRenamed(t *testing.T, r told, want ...string) {
	t.Helper()
	live, err := r.State(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range live.Renamed {
		got = append(got, m.From.String()+" > "+m.To.String())
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("renames that wait to be acknowledged (-want +got):\n%s", d)
	}
}

func TestAMoveThatACrashCutShortIsFinished(t *testing.T) {
	for _, how := range []string{"by up", "by the rename", "by another change"} {
		t.Run(how, func(t *testing.T) {
			data, im := cutShort(t)
			if how != "by up" {
				d := openDirectory(t, data)
				checkRenamed(t, d, "namespace/old > namespace/new")
				live, err := d.State(t.Context(), []schema.Kind{schema.KindNamespace, schema.KindWebhook})
				if err != nil || len(live.Objects) != 2 || live.Objects[0].Key != key(t, "namespace/new") || live.Objects[1].Key != key(t, "webhook/new/w") || len(live.Objects[1].Unread) != 1 {
					t.Errorf("live has %v, %v", live.Objects, err)
				}
				if same, err := d.CheckSecret(t.Context(), key(t, "webhook/new/w"), "Bearer x"); err != nil || !same {
					t.Errorf("the webhook's secret is another: %v", err)
				}
				change := putNamespace("other")
				if how == "by the rename" {
					change = rename(t, "namespace/old", "namespace/new", &schema.Namespace{})
					change.IfVersion = live.Objects[0].Version
				}
				if results, err := d.Change(t.Context(), []embedded.Change{change}); err != nil || results[0].Err != nil {
					t.Fatal(err, results)
				}
			}
			s := serve(t, data)
			checkRenamed(t, s, "namespace/old > namespace/new") // whoever asked for it knows nothing of that
			for _, ref := range []string{"new/a:1", "new/b:1"} {
				s.pulls(t, "root", ref, im)
			}
			if _, err := remote.Image(s.ref(t, "old/b:1"), remote.WithAuth(&authn.Basic{Username: "root", Password: "pw-root"})); err == nil {
				t.Error("the former name still answers")
			}
			if _, err := os.Stat(filepath.Join(data, "docker", "registry", "v2", "repositories", "old")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the former directory is still there: %v", err)
			}
			if err := s.Acknowledge(t.Context(), []schema.Key{key(t, "namespace/new")}); err != nil {
				t.Error(err)
			}
			checkRenamed(t, s)
		})
	}
}

func TestAMoveThatACrashCutShortIsTakenBack(t *testing.T) {
	for _, how := range []string{"stopped", "served"} {
		t.Run(how, func(t *testing.T) {
			data, im := cutShort(t)
			var r interface {
				told
				Renamable(ctx context.Context, from, to schema.Key) error
				Change(context.Context, []embedded.Change) ([]embedded.Result, error)
				Acknowledge(context.Context, []schema.Key) error
			} = openDirectory(t, data)
			if how == "served" {
				r = serve(t, data)
			}
			// a repository of which half has moved is not two
			below := filepath.Join(data, "docker", "registry", "v2", "repositories")
			if how == "stopped" {
				err := os.MkdirAll(filepath.Join(below, "old", "a"), 0o750)
				if err := errors.Join(err, os.Rename(filepath.Join(below, "new", "a", "_manifests"), filepath.Join(below, "old", "a", "_manifests"))); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Renamable(t.Context(), key(t, "namespace/new"), key(t, "namespace/old")); err != nil {
				t.Error(err)
			}
			live, err := r.State(t.Context(), []schema.Kind{schema.KindNamespace})
			if err != nil {
				t.Fatal(err)
			}
			back := rename(t, "namespace/new", "namespace/old", &schema.Namespace{Description: new("again")})
			back.IfVersion = live.Objects[0].Version
			if results, err := r.Change(t.Context(), []embedded.Change{back}); err != nil || results[0].Err != nil {
				t.Fatal(err, results)
			}
			checkRenamed(t, r, "namespace/old > namespace/new", "namespace/new > namespace/old")
			if err := r.Acknowledge(t.Context(), []schema.Key{key(t, "namespace/old")}); err != nil {
				t.Error(err)
			}
			checkRenamed(t, r)
			s, ok := r.(*served)
			if !ok {
				s = serve(t, data)
			}
			for _, ref := range []string{"old/a:1", "old/b:1"} {
				s.pulls(t, "root", ref, im)
			}
			if d := cmp.Diff([]string{"user/root", "namespace/old", "webhook/old/w"}, s.keys(t), cmpopts.SortSlices(strings.Compare)); d != "" {
				t.Error(d)
			}
			if _, err := os.Stat(filepath.Join(below, "new")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something is left under the new name: %v", err)
			}
		})
	}
}

func TestARenameIsRememberedUntilItIsAcknowledged(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	url := "https://told.example.com"
	hook := &schema.Webhook{URL: &url, Events: schema.NewSet("push")}
	robot := &schema.Robot{Access: schema.NewGrants(schema.Grant{Name: "a", Rights: schema.Pull})}
	s.change(t, putUser(t, "dev", false), putUser(t, "other", false), putGroup("ops", "dev"), putNamespace("a"),
		embedded.Change{Object: schema.Resource{Key: key(t, "webhook/a/w"), Spec: hook}},
		embedded.Change{Object: schema.Resource{Key: key(t, "robot/ci"), Spec: robot}})
	s.change(t, rename(t, "user/dev", "user/developer", &schema.User{}))
	s.change(t, rename(t, "group/ops", "group/operations", &schema.Group{Users: schema.NewSet("developer")}))
	s.change(t, rename(t, "robot/ci", "robot/cd", robot))
	s.change(t, rename(t, "webhook/a/w", "webhook/a/told", hook))
	s.change(t, rename(t, "namespace/a", "namespace/b", &schema.Namespace{}))
	s.change(t, rename(t, "namespace/b", "namespace/c", &schema.Namespace{}))
	all := []string{"user/dev > user/developer", "group/ops > group/operations", "robot/ci > robot/cd", "webhook/a/w > webhook/a/told", "namespace/a > namespace/b", "namespace/b > namespace/c"}
	checkRenamed(t, s, all...)
	if live, err := s.State(t.Context(), []schema.Kind{schema.KindUser}); err != nil || len(live.Renamed) != 3 {
		t.Errorf("of users it tells %v, %v", live.Renamed, err)
	}
	// nobody else gets a name that may be wanted back
	for name, c := range map[string]embedded.Change{
		"made":    putUser(t, "dev", false),
		"made so": rename(t, "user/other", "user/dev", &schema.User{}),
		"first":   putNamespace("a"),
		"middle":  putNamespace("b"),
		"child":   {Object: schema.Resource{Key: key(t, "webhook/c/w"), Spec: hook}},
	} {
		results, err := s.Change(t.Context(), []embedded.Change{c})
		if err != nil || !errors.Is(results[0].Err, embedded.ErrConflict) || !strings.Contains(results[0].Err.Error(), "cut short") {
			t.Errorf("%s: %v, %v", name, results, err)
		}
	}
	acknowledge := func(names ...string) {
		t.Helper()
		var keys []schema.Key
		for _, n := range names {
			keys = append(keys, key(t, n))
		}
		if err := s.Acknowledge(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
	}
	acknowledge("user/dev", "namespace/b", "user/other") // none of them is a name by now
	checkRenamed(t, s, all...)
	acknowledge("webhook/c/told", "user/developer", "robot/cd")
	checkRenamed(t, s, all[1], all[4], all[5])
	s.change(t, putUser(t, "dev", false), embedded.Change{Object: schema.Resource{Key: key(t, "namespace/c")}, Delete: true}) // what is gone needs no reminder
	checkRenamed(t, s, all[1])
	s.change(t, putNamespace("a"))
}

// A push that began before a rename, and whose body ends after it, is told to
// come again: what it was about is elsewhere now.
func TestAPushDuringARenameIsToldToComeAgain(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "dev", false), putNamespace("old"), putAccess("old", schema.Access{Authenticated: rights(schema.Pull | schema.Push)}))
	im := image(t)
	if err := remote.Write(s.ref(t, "old/app:1"), im, s.as("dev")...); err != nil {
		t.Fatal(err)
	}
	manifest, err := im.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	start := s.do(t, http.MethodPost, "dev", "/v2/old/app/blobs/uploads/")
	if start.StatusCode != http.StatusAccepted {
		t.Fatal(start.Status)
	}
	type sending struct {
		path  string
		body  string
		rest  *io.PipeWriter
		reply chan *http.Response
	}
	const blob = "the first half and the other"
	location, err := start.Location()
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	defer client.CloseIdleConnections()
	requests := map[string]*sending{
		http.MethodPatch: {path: location.RequestURI(), body: blob},
		http.MethodPut:   {path: "/v2/old/app/manifests/2", body: string(manifest)},
	}
	for method, r := range requests {
		body, rest := io.Pipe()
		r.rest, r.reply = rest, make(chan *http.Response, 1)
		reads := make(chan struct{})
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(reads) }})
		req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr()+r.path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("dev", "pw-dev")
		req.Header.Set("Expect", "100-continue")
		req.ContentLength = int64(len(r.body))
		req.Header.Set("Content-Type", "application/octet-stream")
		if method == http.MethodPut {
			req.Header.Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
		}
		go func() {
			defer close(r.reply)
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			r.reply <- resp
		}()
		<-reads // it is past the authorizer
		if _, err := io.WriteString(rest, r.body[:8]); err != nil {
			t.Fatal(err)
		}
	}
	s.change(t, rename(t, "namespace/old", "namespace/new", &schema.Namespace{}))
	for method, r := range requests {
		if _, err := io.WriteString(r.rest, r.body[8:]); err != nil {
			t.Fatal(err)
		}
		if err := r.rest.Close(); err != nil {
			t.Fatal(err)
		}
		resp, ok := <-r.reply
		if !ok {
			continue
		}
		if code := ociCode(t, resp); resp.StatusCode != http.StatusServiceUnavailable || code != "UNAVAILABLE" || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: status %d, code %s, Retry-After %q", method, resp.StatusCode, code, resp.Header.Get("Retry-After"))
		}
		resp.Body.Close()
	}
	list, err := s.Repositories(t.Context(), []string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]schema.RepositoryInfo{{Name: "new/app", Tags: 1}}, list); d != "" {
		t.Error(d)
	}
	if err := remote.Write(s.ref(t, "new/app:2"), im, s.as("dev")...); err != nil {
		t.Error(err)
	}
	// what is left of the upload is nothing in the way
	if resp := s.do(t, http.MethodPost, "dev", "/v2/new/app/blobs/uploads/"); resp.StatusCode != http.StatusAccepted {
		t.Error(resp.Status)
	}
	if err := s.Renamable(t.Context(), key(t, "namespace/new"), key(t, "namespace/old")); err != nil {
		t.Error(err)
	}
	s.change(t, rename(t, "namespace/new", "namespace/old", &schema.Namespace{}))
	s.pulls(t, "dev", "old/app:2", im)
}
