package zot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/schema"
)

// TestARestartOntoAnotherPlaceForContentWaitsForAnApproval: somebody wrote it into the
// file, of which Zot takes over nothing until it starts again. What puts it right waits
// for nothing.
func TestARestartOntoAnotherPlaceForContentWaitsForAnApproval(t *testing.T) {
	for name, edit := range map[string]func(text, data string) string{
		"the root": func(text, data string) string {
			return strings.Replace(text, filepath.Join(data, "storage"), filepath.Join(data, "storagex"), 1)
		},
		"a sub path": func(text, data string) string {
			root := `"rootDirectory": "` + filepath.Join(data, "storage") + `"`
			return strings.Replace(text, root, root+`, "subPaths": {"/team": {"rootDirectory": "`+filepath.Join(data, "team")+`"}}`, 1)
		},
		"nothing of that": func(text, _ string) string { return strings.Replace(text, `"info"`, `"debug"`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			p, a := withContent(t)
			a.elsewhere(t, func(text string) string { return edit(text, p.paths.data) })
			prepared := func(values ...schema.Value) (held string, impact []string) {
				t.Helper()
				changes := p.differs(t, values...)
				v, err := p.Prepare(t.Context(), changes)
				want := plan.Restart
				if name == "the root" { // it runs with what is put back
					want = plan.Reload
				}
				if err != nil || len(v) != 1 || v[0].Effect != want {
					t.Fatalf("%+v of %+v, %v", v, changes, err)
				}
				return v[0].Held, v[0].Impact
			}
			if held, impact := prepared(); held != "" || len(impact) > 0 { // it is known where it was
				t.Errorf("held: %q, %q", held, impact)
			}
			if held, _ := prepared(schema.Value{Path: "storage.rootDirectory", JSON: `"` + filepath.Join(p.paths.data, "storage") + `"`}); held != "" {
				t.Errorf("where the mode has the root as it was, held: %q", held)
			}
			one := makes(schema.KindUser, "new", &schema.User{})
			v, err := p.Prepare(t.Context(), []plan.Change{one})
			if moved := name != "nothing of that"; err != nil || strings.Contains(v[0].Held, a.config) != moved || strings.Contains(strings.Join(v[0].Impact, "\n"), "repositories: 1, tags: 1") != moved {
				t.Errorf("another change by itself: %+v, %v", v, err)
			}
		})
	}
}

// withContent is a Zot that an actor plays, with an image, of which an apply was
// written.
func withContent(t *testing.T) (*Provider, *actor) {
	t.Helper()
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(p.paths.data, "storage", "team", "one")
	if err := os.MkdirAll(filepath.Join(layout, "blobs", "sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(layout, "index.json"), []byte(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, a
}

// elsewhere edits the configuration as somebody does by hand; Zot takes nothing of it
// over while it runs.
func (a *actor) elsewhere(t *testing.T, edit func(text string) string) {
	t.Helper()
	a.says = func(string) string { return "" }
	text := edit(a.text())
	if text == a.text() {
		t.Fatalf("nothing is changed in %s", text)
	}
	if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNothingRestartsZotOntoAnotherPlaceForContent: of a file that is not in force every
// write becomes a restart, so that all waits with what is held.
func TestNothingRestartsZotOntoAnotherPlaceForContent(t *testing.T) {
	sub := `"subPaths": {"/team": {"rootDirectory": "` + t.TempDir() + `"}}, "rootDirectory"`
	for name, others := range map[string][]plan.Change{
		"an account":     {makes(schema.KindUser, "new", &schema.User{})},
		"a rule":         {makes(schema.KindNamespace, "n", &schema.Namespace{}), makes(schema.KindAccess, "n", &schema.Access{Anonymous: new(schema.Pull)})},
		"collection":     {updates(makes(schema.KindGC, "", &schema.GC{Schedule: new("@every 3h")}))},
		"what Zot lacks": {makes(schema.KindNamespace, "n", &schema.Namespace{Description: new("x")})},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := withContent(t)
			a.elsewhere(t, func(text string) string { return strings.Replace(text, `"rootDirectory"`, sub, 1) })
			settings := p.differs(t)
			v, err := p.Prepare(t.Context(), others)
			if err != nil {
				t.Fatal(err)
			}
			for i := range v {
				if !strings.Contains(v[i].Held, a.config) || v[i].Effect != plan.Restart {
					t.Errorf("change %d: %+v", i, v[i])
				}
			}
			if err := wrote(t, p, others...); !errors.Is(err, providers.ErrPending) || !strings.Contains(err.Error(), "repositories: 1, tags: 1") {
				t.Errorf("written by themselves: %v", err)
			}
			if s, err := p.load(t.Context()); err != nil || a.began != 1 || len(s.own.Objects) != 1 {
				t.Errorf("%d starts, and kept is %+v, %v", a.began, s.own.Objects, err)
			}
			if err := wrote(t, p, append(settings, others...)...); err != nil || a.began != 2 {
				t.Errorf("with what puts it right: %d starts, %v", a.began, err)
			}
			if left := p.differs(t); len(left) > 0 {
				t.Errorf("after an apply there is left %+v", left)
			}
		})
	}
}

func updates(c plan.Change) plan.Change {
	c.Action = plan.Update
	return c
}

// TestWhatIsDeclaredElsewhereHoldsNothingElse: it is not in the file.
func TestWhatIsDeclaredElsewhereHoldsNothingElse(t *testing.T) {
	p, a := withContent(t)
	changes := append(p.differs(t, schema.Value{Path: "storage.rootDirectory", JSON: `"` + filepath.Join(p.paths.data, "storagex") + `"`}),
		makes(schema.KindNamespace, "n", &schema.Namespace{}), makes(schema.KindRetention, "n", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}}))
	v, err := p.Prepare(t.Context(), changes)
	if err != nil || v[0].Held == "" || v[1].Held != "" || v[2].Held != "" {
		t.Fatalf("%+v, %v", v, err)
	}
	if err := wrote(t, p, changes[1:]...); err != nil || a.began != 2 || strings.Contains(a.text(), "storagex") {
		t.Errorf("%d starts, %v", a.began, err)
	}
}

// differs is what a plan has of the settings where the mode has these.
func (p *Provider) differs(t *testing.T, values ...schema.Value) []plan.Change {
	t.Helper()
	want, _, err := p.Normalize(schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: values}}}})
	if err != nil {
		t.Fatal(err)
	}
	live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(plan.Diff(plan.Input{Desired: want, Live: live, Table: p.Capabilities()}).Changes, func(c plan.Change) bool { return c.Recorded() })
}

// TestTheRootThatOcisyncSetIsDriftByName: whether Zot runs with what somebody wrote there
// or not. What lies there by then, and is served, waits for an approval.
func TestTheRootThatOcisyncSetIsDriftByName(t *testing.T) {
	for name, tc := range map[string]struct{ restarted, filled bool }{
		"before a restart": {false, false}, "after a restart": {true, false}, "pushed to since": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := withContent(t)
			is, other := p.storage(), filepath.Join(p.paths.data, "storagex")
			a.elsewhere(t, func(text string) string { return strings.Replace(text, is, other, 1) })
			starts := 1
			if tc.restarted {
				starts++
				if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			if tc.filled {
				if err := os.CopyFS(other, os.DirFS(is)); err != nil {
					t.Fatal(err)
				}
			}
			changes := p.differs(t)
			if len(changes) != 1 || !slices.ContainsFunc(changes[0].Fields, func(f plan.Field) bool { return f.Path == "values."+rootPath }) {
				t.Fatalf("the plan has %+v", changes)
			}
			v, err := p.Prepare(t.Context(), changes)
			want := plan.Reload // it runs with what is put back
			if tc.restarted {
				want = plan.Restart
			}
			if err != nil || (v[0].Held != "") != tc.filled || v[0].Effect != want {
				t.Errorf("%+v, %v", v, err)
			}
			if err := wrote(t, p, changes...); err != nil || strings.Contains(a.text(), other) || tc.restarted && a.began != starts+1 {
				t.Errorf("%d starts, %v; it holds %s", a.began, err, a.text())
			}
			if left := p.differs(t); len(left) > 0 {
				t.Errorf("after an apply there is left %+v", left)
			}
		})
	}
	p, _ := withContent(t)
	for _, path := range []string{rootPath, "storage.storageDriver.name"} {
		want, _, err := p.Normalize(schema.State{Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: schema.Values{{Path: path, JSON: `"s3"`}}}}}})
		if err != nil || strings.Contains(string(encoded(want)), p.storage()) {
			t.Errorf("%s is declared: %+v, %v", path, want, err)
		}
	}
}

// bucketed is a configuration of whose content somebody wrote that it lies in a bucket.
func bucketed(text string) string {
	return strings.Replace(text, `"rootDirectory"`, `"storageDriver": {"name": "s3", "bucket": "b"}, "rootDirectory"`, 1)
}

// TestADriverThatSomebodyWroteIsDriftByName: what lies in its bucket by then, and is
// served, waits for an approval.
func TestADriverThatSomebodyWroteIsDriftByName(t *testing.T) {
	for name, restarted := range map[string]bool{"before a restart": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			p, a := withContent(t)
			a.elsewhere(t, bucketed)
			if restarted {
				if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			changes := p.differs(t)
			if len(changes) != 1 || !slices.ContainsFunc(changes[0].Fields, func(f plan.Field) bool { return f.Path == "values."+driverPath }) {
				t.Fatalf("the plan has %+v", changes)
			}
			v, err := p.Prepare(t.Context(), changes)
			if err != nil || (v[0].Held != "") != restarted || v[0].Effect != plan.Restart {
				t.Errorf("%+v, %v", v, err)
			}
			if restarted && !strings.Contains(strings.Join(v[0].Impact, "\n"), "s3 b") {
				t.Errorf("%+v", v)
			}
			if err := wrote(t, p, changes...); err != nil || strings.Contains(a.text(), "s3") {
				t.Errorf("%v; it holds %s", err, a.text())
			}
			if left := p.differs(t); len(left) > 0 {
				t.Errorf("after an apply there is left %+v", left)
			}
		})
	}
	p, a := withContent(t)
	a.elsewhere(t, bucketed)
	one := makes(schema.KindUser, "new", &schema.User{})
	if err := wrote(t, p, one); !errors.Is(err, providers.ErrPending) || !strings.Contains(err.Error(), "storageDriver") {
		t.Errorf("another change by itself: %v", err)
	}
	declared := []schema.Value{{Path: "storage.storageDriver.name", JSON: `"s3"`}, {Path: "storage.storageDriver.bucket", JSON: `"b"`}}
	if changes := p.differs(t, declared...); len(changes) != 1 {
		t.Errorf("where the mode has it, the plan has %+v", changes)
	} else if v, err := p.Prepare(t.Context(), changes); err != nil || v[0].Held == "" {
		t.Errorf("where the mode has it, %+v, %v", v, err)
	}
}

// TestWhatSomebodyWroteAndDoesNotStartGoesBackToWhatRan, and is kept.
func TestWhatSomebodyWroteAndDoesNotStartGoesBackToWhatRan(t *testing.T) {
	p, a := withContent(t)
	ran := a.text()
	a.elsewhere(t, func(text string) string { return strings.Replace(text, `"info"`, `"debug"`, 1) })
	starts := a.starts
	a.starts = func(text string) error {
		if strings.Contains(text, `"debug"`) {
			return errors.New("it ends at once")
		}
		return starts(text)
	}
	err := wrote(t, p, append(p.differs(t), makes(schema.KindUser, "new", &schema.User{}))...)
	if err == nil || !strings.Contains(err.Error(), "the old one was put back and it runs with that") || !strings.Contains(err.Error(), "config.json.refused") {
		t.Errorf("%v", err)
	}
	kept, kerr := os.ReadFile(a.config + ".refused")
	if kerr != nil || !strings.Contains(string(kept), `"debug"`) || !files.Equal([]byte(a.text()), []byte(ran)) || !a.running {
		t.Errorf("runs: %v; it holds %s; kept is %s, %v", a.running, a.text(), kept, kerr)
	}
}

// TestASubPathThatSomebodyWroteIsDriftByName: what lies in it by then, and is served,
// waits for an approval.
func TestASubPathThatSomebodyWroteIsDriftByName(t *testing.T) {
	for name, tc := range map[string]struct{ restarted, filled, declared bool }{
		"before a restart": {false, false, false}, "after a restart": {true, false, false}, "pushed to since": {true, true, false},
		"as the mode has it": {true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := withContent(t)
			keep := makes(schema.KindRetention, "team", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}})
			if err := wrote(t, p, makes(schema.KindNamespace, "team", &schema.Namespace{}), keep); err != nil {
				t.Fatal(err)
			}
			before := a.text()
			sub := filepath.Join(p.paths.data, "sub")
			a.elsewhere(t, func(text string) string {
				return strings.Replace(text, `"rootDirectory"`, `"subPaths": {"/team": {"rootDirectory": "`+sub+`"}}, "rootDirectory"`, 1)
			})
			if tc.filled {
				if err := os.CopyFS(sub, os.DirFS(p.storage())); err != nil {
					t.Fatal(err)
				}
			}
			if tc.restarted {
				if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			if tc.declared {
				if changes := p.differs(t, schema.Value{Path: `storage.subPaths."/team".rootDirectory`, JSON: `"` + sub + `"`}); len(changes) > 0 {
					t.Errorf("the plan has %+v", changes)
				}
				return
			}
			changes := p.differs(t)
			if len(changes) != 1 || !slices.ContainsFunc(changes[0].Fields, func(f plan.Field) bool { return f.Path == "values."+placesPath }) {
				t.Fatalf("the plan has %+v", changes)
			}
			v, err := p.Prepare(t.Context(), changes)
			if err != nil || (v[0].Held != "") != tc.filled || v[0].Effect != plan.Restart {
				t.Errorf("%+v, %v", v, err)
			}
			keep.Action, keep.Before = plan.Update, nil // a plan misses it where the sub path is in force
			if live, err := p.Read(t.Context(), schema.ScopeOf(schema.KindRetention)); err != nil {
				t.Fatal(err)
			} else if len(live.Resources) == 0 {
				keep.Action = plan.Create
				changes = append(changes, keep)
			}
			if err := wrote(t, p, changes...); err != nil || !sameText(a.text(), before) {
				t.Errorf("%v; it holds %s", err, a.text())
			}
			if left := p.differs(t); len(left) > 0 {
				t.Errorf("after an apply there is left %+v", left)
			}
		})
	}
}

// sameText compares two configurations without their spelling.
func sameText(a, b string) bool {
	clean := strings.NewReplacer(" ", "", "\n", "", "\t", "")
	return clean.Replace(a) == clean.Replace(b)
}

// TestAnotherPlaceInsideWhatTheModeSaysIsDriftByName: by a key that the mode leaves out.
func TestAnotherPlaceInsideWhatTheModeSaysIsDriftByName(t *testing.T) {
	for name, tc := range map[string]struct {
		declared schema.Values
		was, is  string
	}{
		"a driver's": {
			schema.Values{{Path: "storage.storageDriver.name", JSON: `"s3"`}, {Path: "storage.storageDriver.bucket", JSON: `"b"`}},
			`"bucket": "b"`, `"bucket": "b", "rootdirectory": "/elsewhere"`,
		},
		"a sub path's": {
			schema.Values{{Path: `storage.subPaths."/loc".rootDirectory`, JSON: `"/loc"`}},
			`"rootDirectory": "/loc"`, `"rootDirectory": "/loc", "storageDriver": {"name": "s3", "bucket": "elsewhere"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := withContent(t)
			if err := wrote(t, p, p.differs(t, tc.declared...)...); err != nil {
				t.Fatal(err)
			}
			before := a.text()
			says := a.says
			a.elsewhere(t, func(text string) string { return strings.Replace(text, tc.was, tc.is, 1) })
			a.says = says
			if v, err := p.Prepare(t.Context(), p.differs(t, tc.declared...)); err != nil || len(v) != 1 || v[0].Held != "" {
				t.Errorf("before a restart: %+v, %v", v, err)
			}
			if err := errors.Join(a.Stop(t.Context()), a.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			changes := p.differs(t, tc.declared...)
			if len(changes) != 1 || !slices.ContainsFunc(changes[0].Fields, func(f plan.Field) bool { return f.Path == "values."+placesPath }) {
				t.Fatalf("the plan has %+v", changes)
			}
			v, err := p.Prepare(t.Context(), changes)
			if err != nil || v[0].Held == "" || !strings.Contains(strings.Join(v[0].Impact, "\n"), "elsewhere") {
				t.Errorf("%+v, %v", v, err)
			}
			if err := wrote(t, p, changes...); err != nil || !sameText(a.text(), before) {
				t.Errorf("%v; it holds %s", err, a.text())
			}
			if left := p.differs(t, tc.declared...); len(left) > 0 {
				t.Errorf("after an apply there is left %+v", left)
			}
		})
	}
}

// TestRetentionGoesWithItsStore: the policies of a namespace are written where its
// content lies from then on.
func TestRetentionGoesWithItsStore(t *testing.T) {
	keep := makes(schema.KindRetention, "loc", &schema.Retention{Keep: []schema.KeepRule{{Newest: 5}}})
	namespace := makes(schema.KindNamespace, "loc", &schema.Namespace{})
	sub := schema.Value{Path: `storage.subPaths."/loc".rootDirectory`, JSON: `"/loc"`}
	for name, before := range map[string]bool{"at once": false, "with rules that were there": true} {
		t.Run(name, func(t *testing.T) {
			p, a := withContent(t)
			if before {
				if err := wrote(t, p, namespace, keep); err != nil {
					t.Fatal(err)
				}
			}
			changes := p.differs(t, sub)
			if !before {
				changes = append(changes, namespace, keep)
			}
			if err := wrote(t, p, changes...); err != nil {
				t.Fatal(err)
			}
			st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindRetention))
			if err != nil || len(st.Resources) != 1 || st.Resources[0].Key != keep.Key {
				t.Errorf("there is %+v, %v, in %s", st.Resources, err, a.text())
			}
			if n := strings.Count(a.text(), `"loc/**"`); n != 1 {
				t.Errorf("%d policies in %s", n, a.text())
			}
		})
	}
}
