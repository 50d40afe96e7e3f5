package ocisync_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// manyNamespaces is a mode whose apply takes long enough to be killed in.
func manyNamespaces(n int, description string) string {
	var sb strings.Builder
	sb.WriteString(signedState + "[user.root]\nadmin = true\n[user.dev]\nadmin = false\n")
	for i := range n {
		fmt.Fprintf(&sb, "[namespace.n%d]\ndescription = %q\naccess.users.root = [\"admin\"]\naccess.users.dev = [%q]\n", i, description, []string{"pull", "push"}[i%2])
	}
	return sb.String()
}

const (
	namespaces      = 40
	declaredObjects = 2 + 2*namespaces // users, namespaces with their access
)

// newKilled is a registry with something of somebody else's in it and a mode that
// has been applied once and has changed since.
func newKilled(t *testing.T) *site {
	t.Helper()
	s := newSite(t, "http://"+porttest.Address(t), manyNamespaces(namespaces/2, "first"))
	s.must(0, "apply")
	s.behind(object("user/stranger", &schema.User{Comment: new("not declared")}),
		object("namespace/other", &schema.Namespace{Description: new("not declared")}),
		object("access/other", &schema.Access{Anonymous: new(schema.Pull)}))
	s.mode(manyNamespaces(namespaces, "second"))
	return s
}

func (s *site) journal() string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "state", "ocisync", "journal", "*.jsonl"))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("journals: %v, %v", found, err)
	}
	return found[0]
}

// killWhen starts an apply and kills it as soon as when says so; it reports
// whether that was in time.
func (s *site) killWhen(when func(since time.Duration) bool) (killed bool) {
	s.t.Helper()
	cmd := s.command(s.t.Context(), "apply")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	began := time.Now()
	for {
		select {
		case err := <-ended:
			if err != nil {
				s.t.Fatalf("the apply that was to be killed failed first: %v: %s", err, out.String())
			}
			return false
		default:
		}
		if when(time.Since(began)) {
			break
		}
		time.Sleep(200 * time.Microsecond)
	}
	if err := cmd.Process.Kill(); err != nil { // SIGKILL
		return false
	}
	return <-ended != nil && cmd.ProcessState.ExitCode() < 0
}

// converges looks that the next apply finishes what was begun: all that is
// declared is there and owned, the same again is nothing, what is not declared
// is as it was, and the journal is whole.
func (s *site) converges(others map[string]string) {
	s.t.Helper()
	s.must(0, "apply")
	s.must(0, "plan", "--detailed-exitcode")
	live := s.live()
	for key, want := range others {
		if live[key] != want {
			s.t.Errorf("%s is not declared and became %q, from %q", key, live[key], want)
		}
	}
	if got, want := len(live), len(others)+declaredObjects; got != want {
		s.t.Errorf("%d objects, want %d", got, want)
	}
	for i := range namespaces {
		if got := live[fmt.Sprintf("namespace/n%d", i)]; !strings.Contains(got, "second") {
			s.t.Errorf("namespace/n%d is %s", i, got)
		}
	}
	s.owns(declaredObjects)
	f, err := os.Open(s.journal())
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if _, err := state.Verify(f, state.Mark{}); err != nil {
		s.t.Errorf("journal: %v", err)
	}
}

// owns counts what the inventory owns.
func (s *site) owns(want int) {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, "inventory", "m.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var key string
	for _, e := range s.env {
		if v, ok := strings.CutPrefix(e, "OCISYNC_STATE_KEY="); ok {
			key = v
		}
	}
	k, err := state.ParseKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	id := state.Identity{Mode: "m"}
	id.Registry.Type, id.Registry.URL = schema.TypeDistribution, s.url
	inv, trust := state.Open(data, id, k.Public(), 0)
	if !trust.MayDelete() {
		s.t.Errorf("the inventory: %s", trust)
	}
	owned := 0
	for _, o := range inv.Objects {
		if o.Owned {
			owned++
		}
	}
	if owned != want {
		s.t.Errorf("the inventory owns %d objects, want %d", owned, want)
	}
}

func (s *site) others() map[string]string {
	live, out := s.live(), map[string]string{}
	for _, k := range []string{"user/stranger", "namespace/other", "access/other"} {
		out[k] = live[k]
	}
	return out
}

// Promise 3. The same registry is killed again and again, at random times and
// whenever the journal has grown by a line, and must converge each time.
func TestApplyCanBeKilledAtAnyInstant(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	s := newKilled(t)
	others := s.others()
	began := time.Now()
	s.must(0, "apply")
	whole := time.Since(began)
	kills := 0
	for round := range 15 {
		// every other round makes the changes anew
		s.behindAll(round)
		if round%3 == 0 { // when the journal has grown
			path := s.journal()
			before := size(t, path)
			lines := random.IntN(3)
			if s.killWhen(func(time.Duration) bool { return size(t, path) > before+int64(lines)*4000 }) {
				kills++
			}
		} else {
			at := time.Duration(random.Int64N(int64(whole)))
			if s.killWhen(func(since time.Duration) bool { return since >= at }) {
				kills++
			}
		}
		s.converges(others)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	if kills < 3 {
		t.Errorf("only %d of 15 applies were killed in time", kills)
	}
}

// behindAll undoes a part of the mode, so that the next apply has work.
func (s *site) behindAll(round int) {
	s.t.Helper()
	var changes []registry.Change
	for i := range namespaces {
		name := fmt.Sprintf("n%d", i)
		if (i+round)%2 == 0 {
			c := object("namespace/"+name, nil)
			c.Delete = true
			changes = append(changes, c)
		} else {
			changes = append(changes, object("namespace/"+name, &schema.Namespace{Description: new("drifted")}))
		}
	}
	s.behind(changes...)
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// What a kill in the middle of a write can leave, at each place where one may
// happen: none of it stands in the way of the next run.
func TestWhatAKillLeavesIsNoObstacle(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(s *site){
		"half a line in the journal": func(s *site) {
			f, err := os.OpenFile(s.journal(), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				s.t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteString(`{"prev":"00`); err != nil {
				s.t.Fatal(err)
			}
		},
		"the state's new file": func(s *site) { s.write("data/ocisync/state.json.new", `{"format":1`) },
		"locks that name a holder": func(s *site) {
			s.write("data/ocisync/lock", `{"pid":1,"host":"here","command":"ocisync apply","socket":"/nowhere/admin.sock"}`)
			locks, err := fs.Glob(os.DirFS(s.dir), "state/ocisync/locks/*.lock")
			if err != nil || len(locks) == 0 {
				s.t.Fatalf("locks: %v, %v", locks, err)
			}
			s.write(locks[0], `{"pid":1,"host":"here","user":"x","command":"apply","mode":"m"}`)
		},
		"an inventory that was not saved": func(s *site) {
			inventory := filepath.Join(s.dir, "inventory", "m.json")
			old, err := os.ReadFile(inventory)
			if err != nil {
				s.t.Fatal(err)
			}
			s.must(0, "apply")
			seen, err := filepath.Glob(filepath.Join(s.dir, "state", "ocisync", "seen", "*"))
			if err != nil || len(seen) != 1 {
				s.t.Fatalf("seen: %v, %v", seen, err)
			}
			// a kill before the save leaves both as they were
			s.write("inventory/m.json", string(old))
			s.write(strings.TrimPrefix(seen[0], s.dir+"/"), `{"serial":1}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newKilled(t)
			others := s.others()
			leave(s)
			s.converges(others)
		})
	}
}

// A kill between writing the inventory and remembering its serial leaves the
// machine's memory behind, which is no reason for distrust.
func TestAnInventoryNewerThanRememberedIsTrusted(t *testing.T) {
	t.Parallel()
	s := newKilled(t)
	seen, err := filepath.Glob(filepath.Join(s.dir, "state", "ocisync", "seen", "*"))
	if err != nil || len(seen) != 1 {
		t.Fatalf("seen: %v, %v", seen, err)
	}
	before, err := os.ReadFile(seen[0])
	if err != nil {
		t.Fatal(err)
	}
	s.must(0, "apply")
	if err := os.WriteFile(seen[0], before, 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := s.plan()
	if d := cmp.Diff(0, len(p.Changes)+len(p.Notes)); d != "" {
		t.Errorf("the plan: %+v", p)
	}
}
