package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/schema"
)

// moments copies a data directory at some lines of the log, as a process that is
// killed then leaves it.
type moments struct {
	slog.Handler
	t     *testing.T
	data  string
	at    []int // by the number of tags that are removed by then
	then  func(removed int)
	mu    sync.Mutex
	count int
	kept  []string
}

func (m *moments) Enabled(context.Context, slog.Level) bool { return true }

func (m *moments) Handle(_ context.Context, line slog.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if line.Message == "retention removed a tag" {
		m.count++
		if slices.Contains(m.at, m.count) {
			m.kept = append(m.kept, copied(m.t, m.data))
		}
		if m.then != nil {
			m.then(m.count)
		}
	}
	return nil
}

// copied is a copy of the files of a data directory.
func copied(t *testing.T, data string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		rel, bad := filepath.Rel(data, path)
		at := filepath.Join(to, rel)
		switch {
		case err != nil || bad != nil:
			return errors.Join(err, bad)
		case e.IsDir():
			return os.Mkdir(at, 0o700)
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(at, b, 0o600)
		}
		info, bad := e.Info()
		if err = errors.Join(err, bad); err == nil {
			err = os.Chtimes(at, info.ModTime(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// waitingIn lists what webhooks of a directory that nobody serves are still to be
// told, in order.
func waitingIn(t *testing.T, data string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, ownDir, queueDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			if line[0] != '{' { // dropped
				continue
			}
			var d struct{ Body string }
			var body struct {
				Events []struct {
					Action string
					Target struct{ Tag, Digest string }
				}
			}
			if err := json.Unmarshal(line, &d); err != nil {
				t.Fatalf("%v: %.200q", err, line)
			}
			if err := json.Unmarshal([]byte(d.Body), &body); err != nil || len(body.Events) != 1 {
				t.Fatal(err, d.Body)
			}
			e := body.Events[0]
			if e.Target.Tag != "" {
				e.Target.Digest = ""
			}
			out = append(out, e.Action+" "+e.Target.Tag+e.Target.Digest)
		}
	}
	return out
}

// auditedIn lists what the log says was deleted, and forgets it.
func auditedIn(t *testing.T, log string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var l AuditLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		if l.Action == "delete" && l.Result == "ok" {
			out = append(out, "delete "+l.Reference)
		}
	}
	if err := os.Truncate(log, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// opened is a registry that serves nobody: what waits stays.
func opened(t *testing.T, data string, logger *slog.Logger) *Registry {
	t.Helper()
	r, err := Open(t.Context(), Options{Data: data, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// announcing is a data directory with so many tags, of a manifest each, a webhook
// that wants what is told of them, and an audit log.
func announcing(t *testing.T, tags int, events ...string) (data, log string) {
	t.Helper()
	data, log = filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "audit.log")
	_, stop := hooked(t, data,
		webhookChange("http://127.0.0.1:1/", schema.Webhook{Events: schema.NewSet(events...)}, ""),
		Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{Keep: []schema.KeepRule{{Newest: 2}}}}},
		Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindGC}, Spec: &schema.GC{Delay: new(schema.Duration(60)), Untagged: new(true)}}},
		Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindAudit}, Spec: &schema.Audit{Log: &log}}})
	stop()
	r := opened(t, data, nil)
	for i := range tags {
		if status := put(t, r, i); status != http.StatusCreated {
			t.Fatal(status)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	auditedIn(t, log)
	return data, log
}

func put(t *testing.T, r *Registry, n int) int {
	t.Helper()
	body := strings.TrimSuffix(emptyIndex, "}") + fmt.Sprintf(`,"annotations":{"n":"%d"}}`, n)
	q := httptest.NewRequestWithContext(context.Background(), http.MethodPut, fmt.Sprintf("/v2/team/app/manifests/t%03d", n), strings.NewReader(body))
	q.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w.Code
}

// deletions lists what was told of tags up to a number.
func deletions(tags int) (out []string) {
	for i := range tags {
		out = append(out, fmt.Sprintf("delete t%03d", i))
	}
	return out
}

// TestWhatRetentionRemovesIsToldWhereverItIsKilled kills it before the first tag
// of a batch goes, on the way, and when all are gone and nobody is told yet.
func TestWhatRetentionRemovesIsToldWhereverItIsKilled(t *testing.T) {
	data, log := announcing(t, 207, "delete")
	m := &moments{t: t, data: data, at: []int{1, 100, 200, 201, 205}}
	r := opened(t, data, slog.New(m))
	if _, err := r.Retention(t.Context(), RetentionOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	all := deletions(205)
	check := func(what string, data string, want []string, audited []string) {
		t.Helper()
		if d := cmp.Diff(want, waitingIn(t, data)); d != "" {
			t.Errorf("%s: waiting (-want +got):\n%s", what, d)
		}
		if d := cmp.Diff(audited, auditedIn(t, log)); d != "" {
			t.Errorf("%s: audited (-want +got):\n%s", what, d)
		}
	}
	check("uncut", data, all, all)
	for i, killed := range m.kept {
		n := m.at[i]
		told := deletions(n)[n/201*200:] // those of the first batch were audited before
		what := fmt.Sprintf("killed after %d", n)
		if i%2 == 0 {
			if err := opened(t, killed, nil).Close(); err != nil {
				t.Fatal(err)
			}
			check(what, killed, all[:n], told)
			told = nil
		}
		d, err := OpenDirectory(killed, "ocisync test", Bucket{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Retention(t.Context(), RetentionOptions{}); err != nil {
			t.Fatal(err)
		}
		check(what+", and run again", killed, all, append(told, all[n:]...))
	}
}

// A change of a registry that nobody serves may move what was removed before it.
func TestWhatWasRemovedIsToldBeforeAnythingChanges(t *testing.T) {
	data, log := announcing(t, 4, "delete")
	m := &moments{t: t, data: data, at: []int{2}}
	if _, err := opened(t, data, slog.New(m)).Retention(t.Context(), RetentionOptions{}); err != nil {
		t.Fatal(err)
	}
	auditedIn(t, log)
	half := filepath.Join(m.kept[0], "docker/registry/v2/repositories/team/app/_manifests/tags/t001")
	if err := os.MkdirAll(filepath.Join(half, "index"), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDirectory(m.kept[0], "ocisync test", Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Change(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(deletions(2), waitingIn(t, m.kept[0])); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a removal left of a tag is still there: %v", err)
	}
}

// TestATagThatIsPutAnewIsToldAfterItsRemoval pushes while retention has removed a
// tag and has not told of it.
func TestATagThatIsPutAnewIsToldAfterItsRemoval(t *testing.T) {
	data, _ := announcing(t, 150, "delete", "push")
	pushed := make(chan int, 1)
	m := &moments{t: t, data: data}
	r := opened(t, data, slog.New(m))
	m.then = func(removed int) {
		if removed == 1 {
			go func() { pushed <- put(t, r, 0) }()
		}
	}
	before := len(waitingIn(t, data))
	if _, err := r.Retention(t.Context(), RetentionOptions{}); err != nil {
		t.Fatal(err)
	}
	if status := <-pushed; status != http.StatusCreated {
		t.Fatal(status)
	}
	got := waitingIn(t, data)[before:]
	if d := cmp.Diff(append(deletions(148), "push t000"), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// TestWhatCollectionRemovesIsToldWhereverItIsKilled kills it when it has announced
// what goes, and when that is gone and nobody is told yet.
func TestWhatCollectionRemovesIsToldWhereverItIsKilled(t *testing.T) {
	const tags = 207
	data, log := announcing(t, tags, "delete")
	r := opened(t, data, nil)
	for i := range tags {
		q := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, fmt.Sprintf("/v2/team/app/manifests/t%03d", i), http.NoBody)
		w := httptest.NewRecorder()
		if r.ServeHTTP(w, q); w.Code != http.StatusAccepted {
			t.Fatal(w.Code)
		}
	}
	auditedIn(t, log)
	what := collectingBy(r.store.now().doc.gc(), false)
	what.heralded(t.Context(), r.herald())
	announce, tell := what.announce, what.tell
	var kept []string
	what.announce = func(list []removal) { announce(list); kept = append(kept, copied(t, data)) }
	what.tell = func(list []removal) { kept = append(kept, copied(t, data)); tell(list) }
	before := len(waitingIn(t, data))
	if _, err := collect(t.Context(), r.storage, r.gate, what, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	all := sorted(waitingIn(t, data)[before:])
	if len(all) != tags || len(slices.Compact(slices.Clone(all))) != tags || len(auditedIn(t, log)) != tags || len(kept) < 4 {
		t.Fatalf("collection removes %d manifests and tells %d", tags, len(all))
	}
	for i, killed := range kept {
		r := opened(t, killed, nil)
		left, err := r.storage.Manifests(t.Context(), "team/app")
		if err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(all), func(told string) bool {
			return slices.ContainsFunc(left, func(l storage.Link) bool { return told == "delete "+l.Name.String() })
		})
		if d := cmp.Diff(want, sorted(waitingIn(t, killed)[before:]), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("moment %d (-want +got):\n%s", i, d)
		}
		what := collectingBy(r.store.now().doc.gc(), false)
		what.heralded(t.Context(), r.herald())
		if _, err := collect(t.Context(), r.storage, r.gate, what, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(all, sorted(waitingIn(t, killed)[before:])); d != "" {
			t.Errorf("moment %d, and run again (-want +got):\n%s", i, d)
		}
	}
}

// TestWhatCannotBeToldIsToldOnceItCan: neither the audit log nor the queue can be
// written while a job removes, and the process ends.
func TestWhatCannotBeToldIsToldOnceItCan(t *testing.T) {
	const tags = 407
	for name, place := range map[string]func(data, log string) string{
		"the audit log": func(_, log string) string { return log },
		"the queue":     func(data, _ string) string { return filepath.Join(data, ownDir, queueDir) },
	} {
		for _, served := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, served %t", name, served), func(t *testing.T) {
				data, log := announcing(t, tags, "delete")
				at := place(data, log)
				run := func(meanwhile func() error) {
					t.Helper()
					var job interface {
						Retention(context.Context, RetentionOptions) (RetentionReport, error)
					}
					end := func() error { return nil }
					if served {
						r := opened(t, data, nil)
						job, end = r, r.Close
					} else {
						d, err := OpenDirectory(data, "ocisync test", Bucket{})
						if err != nil {
							t.Fatal(err)
						}
						job = d
					}
					if err := meanwhile(); err != nil {
						t.Fatal(err)
					}
					_, failed := job.Retention(t.Context(), RetentionOptions{})
					if err := errors.Join(failed, end()); err != nil {
						t.Log(err)
					}
				}
				run(func() error { return errors.Join(os.Rename(at, at+".away"), blocked(at)) })
				if err := errors.Join(os.RemoveAll(at), os.Rename(at+".away", at)); err != nil {
					t.Fatal(err)
				}
				run(func() error { return nil })
				all := deletions(tags - 2)
				for what, got := range map[string][]string{"waiting": waitingIn(t, data), "audited": auditedIn(t, log)} {
					slices.Sort(got)
					if d := cmp.Diff(all, slices.Compact(got)); d != "" {
						t.Errorf("%s (-want +got):\n%s", what, d)
					}
				}
				if _, err := os.Stat(filepath.Join(data, ownDir, announcedFile)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("it is announced still: %v", err)
				}
			})
		}
	}
}

// TestWhatWaitsToBeToldIsToldOnceAndNoPushIsUndone has either place blocked while
// retention removes; what it removed is put anew, and jobs run on.
func TestWhatWaitsToBeToldIsToldOnceAndNoPushIsUndone(t *testing.T) {
	const tags = 5
	for name, place := range map[string]func(data, log string) string{
		"the audit log": func(_, log string) string { return log },
		"the queue":     func(data, _ string) string { return filepath.Join(data, ownDir, queueDir) },
	} {
		t.Run(name, func(t *testing.T) {
			data, log := announcing(t, tags, "delete")
			r := opened(t, data, nil)
			at := place(data, log)
			if err := errors.Join(os.Rename(at, at+".away"), blocked(at)); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Retention(t.Context(), RetentionOptions{}); err != nil {
				t.Fatal(err)
			}
			for i := range tags - 2 {
				put(t, r, i)
			}
			run := func() {
				t.Helper()
				for range 2 {
					if _, err := r.collect(t.Context(), false); err != nil {
						t.Fatal(err)
					}
				}
				for i := range tags {
					if d, err := r.storage.Tag(t.Context(), "team/app", fmt.Sprintf("t%03d", i)); d == "" || err != nil {
						t.Errorf("t%03d was put and is gone: %v", i, err)
					}
				}
			}
			run()
			if err := errors.Join(os.Remove(at), os.Rename(at+".away", at)); err != nil {
				t.Fatal(err)
			}
			run()
			all := deletions(tags - 2)
			for what, got := range map[string][]string{"waiting": waitingIn(t, data), "audited": auditedIn(t, log)} {
				if d := cmp.Diff(all, got); d != "" {
					t.Errorf("%s (-want +got):\n%s", what, d)
				}
			}
		})
	}
}

// TestWhatAJobAnnouncedAndLeftIsNobodysNews: somebody deletes it before the job can.
func TestWhatAJobAnnouncedAndLeftIsNobodysNews(t *testing.T) {
	data, log := announcing(t, 2, "delete")
	r := opened(t, data, nil)
	h := r.herald()
	if err := h.resume(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	h.announce(JobGC, []removal{{Repository: "team/app", Reference: "t000"}, {Repository: "team/app", Reference: "t001"}})
	for _, tag := range []string{"t000", "t001"} {
		if err := r.storage.RemoveTag(t.Context(), "team/app", tag); err != nil {
			t.Fatal(err)
		}
	}
	h.removed(t.Context(), []removal{{Repository: "team/app", Reference: "t000"}})
	if err := errors.Join(h.resume(t.Context(), false), r.Close(), opened(t, data, nil).Close()); err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string][]string{"waiting": waitingIn(t, data), "audited": auditedIn(t, log)} {
		if d := cmp.Diff(deletions(1), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
}

// TestRemovalsThatFindNoRoomInAQueueWaitForIt, and no delivery is dropped for them:
// first nobody listens, and then somebody does.
func TestRemovalsThatFindNoRoomInAQueueWaitForIt(t *testing.T) {
	const gone, room = 2500, 1000
	for name, served := range map[string]bool{"served": true, "not served": false} {
		t.Run(name, func(t *testing.T) {
			data, log := announcing(t, 2, "delete", "push")
			r := opened(t, data, nil)
			had := waitingIn(t, data)
			var list []removal
			want := had
			for i := range gone {
				list = append(list, removal{Repository: "team/app", Reference: fmt.Sprintf("x%04d", i)})
				want = append(want, fmt.Sprintf("delete x%04d", i))
			}
			remove := func(h herald) error {
				h.announce(JobRetention, list)
				h.removed(t.Context(), list)
				return nil
			}
			if served {
				if err := remove(r.herald()); err != nil {
					t.Fatal(err)
				}
			} else {
				doc, s := r.store.now().doc, r.storage
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				d, err := OpenDirectory(data, "ocisync test", Bucket{})
				if err != nil {
					t.Fatal(err)
				}
				if err := d.heralding(t.Context(), doc, s, remove); err != nil {
					t.Errorf("what waits for room is an error: %v", err)
				}
				r = opened(t, data, nil)
			}
			if n := len(auditedIn(t, log)); n != gone {
				t.Errorf("%d are audited", n)
			}
			if d := cmp.Diff(want[:room], waitingIn(t, data)); d != "" {
				t.Errorf("waiting (-want +got):\n%s", d)
			}
			var mu sync.Mutex
			var got []string
			target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
				var body struct {
					Events []struct {
						Action string
						Target struct{ Tag string }
					}
				}
				if err := json.NewDecoder(q.Body).Decode(&body); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, e := range body.Events {
					got = append(got, e.Action+" "+e.Target.Tag)
				}
			}))
			defer target.Close()
			if _, err := r.store.change(t.Context(), []Change{webhookChange(target.URL, schema.Webhook{Events: schema.NewSet("delete", "push")}, "")}); err != nil {
				t.Fatal(err)
			}
			r.hooks.Backoff = func(int) time.Duration { return 10 * time.Millisecond }
			stop := r.hooks.Start(t.Context())
			defer stop()
			told := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(got)
			}
			for end := time.Now().Add(20 * time.Second); told() < len(want) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				r.herald().tellRest(t.Context())
			}
			mu.Lock()
			defer mu.Unlock()
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("told (-want +got):\n%s", d)
			}
			if wait := r.herald().tellRest(t.Context()); wait != lookAgain {
				t.Errorf("it looks again in %s", wait)
			}
		})
	}
}

// TestABookThatCannotBeReadIsPutAside: it tells less, and nothing stands still.
func TestABookThatCannotBeReadIsPutAside(t *testing.T) {
	for name, text := range map[string]string{"cut": `[{"repo`, "of another form": `{"removals":[]}`, "empty entry": `[null]`} {
		t.Run(name, func(t *testing.T) {
			data, _ := announcing(t, 1, "delete")
			file := filepath.Join(data, ownDir, announcedFile)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := opened(t, data, nil)
			if _, err := r.collect(t.Context(), false); err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(file + ".damaged"); string(b) != text {
				t.Errorf("put aside is %q, %v", b, err)
			}
		})
	}
}

// blocked has something at a path that is neither a file nor a directory.
func blocked(path string) error { return os.Symlink(filepath.Join(path, "loop"), path) }

// TestACopyOfADirectoryIsServedByNobody, though its lock's file names whom the
// directory that it was copied from is served by.
func TestACopyOfADirectoryIsServedByNobody(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	hooked(t, data)
	c, err := Dial(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), copied(t, data)); !errors.Is(err, ErrNotServed) {
		t.Errorf("of the copy: %v", err)
	}
}
