package embedded

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/schema"
)

const year = 365 * 24 * time.Hour

// keptBy are the tags that rules keep, as retention judges now.
func keptBy(t *testing.T, r *Registry, rule schema.KeepRule) (kept []string) {
	t.Helper()
	c := Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{Keep: []schema.KeepRule{rule}}}}
	if res, err := r.store.change(t.Context(), []Change{c}); err != nil || res[0].Err != nil {
		t.Fatal(err, res)
	}
	report, err := r.Retention(t.Context(), RetentionOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range report.Tags {
		if tag.Kept {
			kept = append(kept, tag.Tag)
		}
	}
	slices.Sort(kept)
	return kept
}

func TestWhatIsPushedByAClockSetBackIsTheNewestWhenItIsRight(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	r, stop := hooked(t, data)
	push(t, r, "before")
	r.guard.now = func() time.Time { return time.Now().Add(-year) }
	push(t, r, "meanwhile")
	check := func(when string, r *Registry) {
		t.Helper()
		for _, tt := range []struct {
			rule schema.KeepRule
			want []string
		}{
			{schema.KeepRule{Newest: 1}, []string{"meanwhile"}},
			{schema.KeepRule{PushedWithin: 90 * 86400}, []string{"before", "meanwhile"}},
		} {
			if d := cmp.Diff(tt.want, keptBy(t, r, tt.rule)); d != "" {
				t.Errorf("%s: %+v keeps (-want +got):\n%s", when, tt.rule, d)
			}
		}
	}
	check("while the process runs", r)
	stop()
	r, _ = hooked(t, data)
	check("after a restart", r)
	r.guard.now = func() time.Time { return time.Now().Add(-year) }
	push(t, r, "again")
	if got := keptBy(t, r, schema.KeepRule{Newest: 1}); !slices.Equal(got, []string{"again"}) {
		t.Errorf("the newest is %v", got)
	}
}

func TestContentFromTheFutureIsYoung(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	r, stop := hooked(t, data)
	push(t, r, "1")
	request(t, r, http.MethodDelete, "/v2/team/app/manifests/1", http.StatusAccepted)
	stop()
	when := func(at time.Time) {
		t.Helper()
		if err := filepath.WalkDir(filepath.Join(data, "docker"), func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(path, at, at))
		}); err != nil {
			t.Fatal(err)
		}
	}
	d, err := OpenDirectory(data, "ocisync test", Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	results, err := d.Change(t.Context(), []Change{{Object: schema.Resource{Key: schema.Key{Kind: schema.KindGC}, Spec: &schema.GC{Untagged: new(true)}}}})
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	for _, tt := range []struct {
		at   time.Time
		want int
	}{{time.Now().Add(year), 0}, {time.Now().Add(time.Minute), 0}, {time.Now().Add(-year), 1}} {
		when(tt.at)
		report, err := d.Run(t.Context(), JobGC, false)
		if err != nil || report.GC.Manifests != tt.want {
			t.Errorf("content of %s: %+v, %v, want %d manifests gone", tt.at, report.GC, err, tt.want)
		}
	}
}

// setClock has a registry that may be serving believe that it is so much later.
func setClock(r *Registry, later time.Duration) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	r.store.clock = func() time.Time { return time.Now().Add(later) }
}

// A robot whose account was made, or whose former account ends, in what is now
// the future works: a clock set back cuts nobody off.
func TestARobotWorksThroughAClockSetBack(t *testing.T) {
	day := schema.Duration(86400)
	ci := schema.Key{Kind: schema.KindRobot, Name: "ci"}
	spec := schema.Robot{Expires: new(30 * day)}
	r, _ := hooked(t, filepath.Join(t.TempDir(), "data"),
		robotChange(t, ci, spec, &AccountChange{Login: "robot$ci", Hash: "first", Delivered: true}),
		robotChange(t, ci, spec, &AccountChange{Login: "robot$ci.2", Hash: "second", Delivered: true, Overlap: 3600}))
	setClock(r, -year)
	for login, secret := range map[string]string{"robot$ci": "first", "robot$ci.2": "second"} {
		if got := as(t, r, login, secret, "/v2/"); got != http.StatusOK {
			t.Errorf("%s: %d", login, got)
		}
	}
	setClock(r, 2*time.Hour)
	if got := as(t, r, "robot$ci", "first", "/v2/"); got != http.StatusUnauthorized {
		t.Errorf("after the overlap, by a clock that is right: %d", got)
	}
}

// Five minutes are counted by the clock that nobody can set, which a time
// shows as m=.
func TestAPasswordIsNotRememberedLongerByAClockSetBack(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	a := &account{hash: hash}
	if right, err := newPasswords().check(t.Context(), attempt{account: a, password: "right"}); err != nil || !right {
		t.Fatal(right, err)
	}
	if until := a.seen.Load().until.String(); !strings.Contains(until, " m=+") {
		t.Errorf("remembered until %s, by a clock that may be set", until)
	}
}
