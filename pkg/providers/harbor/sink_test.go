package harbor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/schema"
)

var (
	_ harbor.Deliverer = (*secret.Resolver)(nil)
	_ harbor.Collector = (*secret.Resolver)(nil)
)

// postman resolves the suite's secrets, and delivers to a directory.
type postman struct {
	*secret.Resolver
	providertest.Secrets
}

func (p postman) Resolve(ctx context.Context, ref schema.SecretRef) (string, error) {
	return p.Secrets.Resolve(ctx, ref)
}

// sending makes a provider that delivers below a directory, to command put too.
func (h standIn) sending(t testing.TB, dir string) *harbor.Provider {
	t.Helper()
	host := schema.Host{
		State: filepath.Join(dir, "state"), Secrets: schema.HostSecrets{Deliver: []string{dir}},
		Command: []schema.HostCommand{{Name: "put", Run: []string{"/bin/true"}}},
	}
	p, err := harbor.New(h.registry, postman{Resolver: secret.New(host, os.LookupEnv, dir)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// told is what a plan of another process says of robots, with the names of places short.
func (h standIn) told(t testing.TB, dir string, want schema.State) (out []string) {
	t.Helper()
	p := h.sending(t, dir)
	compared(t, p, want)
	notes, err := p.Remarks(t.Context(), want, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range notes {
		out = append(out, n.Key.String()+": "+strings.ReplaceAll(n.Text, dir, "DIR"))
	}
	return out
}

// renewed renews by another process, and returns the accounts that were made.
func (h standIn) renewed(t testing.TB, dir string, want schema.State) string {
	t.Helper()
	list, err := h.sending(t, dir).Renew(t.Context(), want, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, x := range list {
		if x.Err != nil {
			t.Errorf("%s: %v", x.Key, x.Err)
		}
		if x.Login != "" {
			out = append(out, x.Login)
		}
	}
	return strings.Join(out, " ")
}

// fits reports whether Harbor takes the login in a delivered file.
func (h standIn) fits(t testing.TB, path string) bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var l struct{ Username, Password string }
	if err := json.Unmarshal(text, &l); err != nil {
		t.Fatal(err)
	}
	return h.logsIn(t, l.Username, l.Password)
}

// sends is a robot whose secret goes somewhere.
func sends(t testing.TB, name string, to schema.Delivery) string {
	t.Helper()
	text, err := json.Marshal(to)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`robot/%s {"access":{"a":["pull"]},"secret":{"deliver":%s}}`, name, text)
}

// A delivered secret that does not work, or does not lie where the mode says, is told
// of, and the job that renews robots delivers another.
func TestADeliveredSecretIsLookedAfter(t *testing.T) {
	for _, name := range []string{"d", "a/d"} {
		login := "robot$" + strings.ReplaceAll(name, "/", "+")
		for _, c := range []struct {
			what    string
			spoil   func(t *testing.T, h standIn, file string)
			to      func(file string) schema.Delivery // nil: as it was
			says    string
			renewed string
		}{
			{"nothing happened", func(*testing.T, standIn, string) {}, nil, "", ""},
			{"another secret by hand", func(t *testing.T, h standIn, _ string) {
				t.Helper()
				h.behind(t, http.MethodPatch, "/robots/51", `{"secret":"ByHand12345"}`)
			}, nil, "the secret in DIR/out does not work", login + ".2"},
			{"the file is gone", func(t *testing.T, _ standIn, file string) {
				t.Helper()
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}, nil, "its secret does not lie in DIR/out on this host", login + ".2"},
			{"the file is another", func(t *testing.T, _ standIn, file string) {
				t.Helper()
				if err := os.WriteFile(file, []byte("robot$other:x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, nil, "its secret does not lie in DIR/out on this host", login + ".2"},
			{"another place", func(*testing.T, standIn, string) {}, func(file string) schema.Delivery {
				return schema.Delivery{File: file + "2"}
			}, "its secret does not lie in DIR/out2 on this host", login + ".2"},
			{"Docker's place", func(*testing.T, standIn, string) {}, func(file string) schema.Delivery {
				return schema.Delivery{DockerConfig: file + "2"}
			}, "its secret does not lie in DIR/out2 on this host", login + ".2"},
			{"a command's place", func(*testing.T, standIn, string) {}, func(string) schema.Delivery {
				return schema.Delivery{Command: "put", Args: []string{"x"}}
			}, "its secret was not delivered by command put", login + ".2"},
		} {
			t.Run(name+": "+c.what, func(t *testing.T) {
				h := newStandIn(t, harbortest.Options{FirstID: 50})
				dir := t.TempDir()
				file := filepath.Join(dir, "out")
				to := schema.Delivery{File: file}
				p := h.sending(t, dir)
				apply(t, p, "namespace/a")
				want := apply(t, p, sends(t, name, to))
				if got := h.told(t, dir, want); len(got) != 0 {
					t.Fatalf("at first a plan says %q", got)
				}
				c.spoil(t, h, file)
				if c.to != nil {
					to = c.to(file)
					want = objects(t, sends(t, name, to))
				}
				got := h.told(t, dir, want)
				if c.says == "" && len(got) > 0 || c.says != "" && (len(got) != 1 || !strings.HasPrefix(got[0], "robot/"+name+": "+c.says) || !strings.Contains(got[0], "`ocisync run robots`")) {
					t.Errorf("a plan says %q", got)
				}
				if got := h.renewed(t, dir, want); got != c.renewed {
					t.Errorf("renewed: %q", got)
				}
				if got := h.renewed(t, dir, want); got != "" {
					t.Errorf("renewed again: %q", got)
				}
				if got := h.told(t, dir, want); len(got) != 0 {
					t.Errorf("then a plan says %q", got)
				}
				if rest := compared(t, p, want); len(rest) > 0 {
					t.Errorf("the plan is not empty: %s", told(rest))
				}
				if to.File != "" && !h.fits(t, to.File) {
					t.Error("what lies there does not work")
				}
			})
		}
	}
}

// The value that the mode gave gives way to a delivery, beside which it works for
// overlap.
func TestADeliveryTakesThePlaceOfAValue(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 50})
	dir := t.TempDir()
	apply(t, h.sending(t, dir), "namespace/a")
	apply(t, h.sending(t, dir), `robot/v {"access":{"a":["pull"]},"secret":{"value":`+secretA+`}}`)
	file := filepath.Join(dir, "v")
	want := objects(t, sends(t, "v", schema.Delivery{File: file}))
	if got := h.told(t, dir, want); len(got) != 1 || !strings.Contains(got[0], "does not lie in DIR/v") {
		t.Errorf("a plan says %q", got)
	}
	if got := h.renewed(t, dir, want); got != "robot$v.2" || !h.fits(t, file) || !h.logsIn(t, "robot$v", h.password(t)) {
		t.Errorf("renewed: %q", got)
	}
}

// While the account before it still works, one whose secret somebody changed gets
// another, and no third account is made.
func TestASecretChangedWithinTheOverlapIsMadeAnew(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 50})
	dir := t.TempDir()
	file := filepath.Join(dir, "out")
	p := h.sending(t, dir)
	apply(t, p, "namespace/a")
	want := apply(t, p, sends(t, "d", schema.Delivery{File: file}))
	h.behind(t, http.MethodPatch, "/robots/51", `{"secret":"ByHand12345"}`)
	h.renewed(t, dir, want)
	h.behind(t, http.MethodPatch, "/robots/52", `{"secret":"ByHand12345"}`)
	if h.fits(t, file) {
		t.Fatal("the secret works still")
	}
	if got := h.renewed(t, dir, want); got != "robot$d.2" || !h.fits(t, file) {
		t.Errorf("renewed: %q", got)
	}
	if n := strings.Count(h.behind(t, http.MethodGet, "/robots", ""), `"name":"robot$d`); n != 2 {
		t.Errorf("there are %d accounts", n)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := h.renewed(t, dir, want); got != "robot$d.2" || !h.fits(t, file) {
		t.Errorf("of a file that is gone within the overlap there is renewed: %q", got)
	}
	if n := strings.Count(h.behind(t, http.MethodGet, "/robots", ""), `"name":"robot$d`); n != 2 {
		t.Errorf("then there are %d accounts", n)
	}
}

// A plan tries so many delivered secrets at Harbor, those of the robots that changed
// last, and says that it left out others; the job tries all.
func TestAPlanTriesTheSecretsThatChangedLast(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 50})
	dir := t.TempDir()
	p := h.sending(t, dir)
	apply(t, p, "namespace/a")
	const robots, most = 60, 50
	var lines []string
	for n := range robots {
		lines = append(lines, sends(t, fmt.Sprintf("r%02d", n), schema.Delivery{File: filepath.Join(dir, fmt.Sprint(n))}))
	}
	want := apply(t, p, lines...)
	time.Sleep(5 * time.Millisecond)
	for _, id := range []int{51, 80, 110} {
		h.behind(t, http.MethodPatch, fmt.Sprintf("/robots/%d", id), `{"secret":"ByHand12345"}`)
	}
	h.Forget()
	got := strings.Join(h.told(t, dir, want), "\n")
	if n := strings.Count(got, "does not work"); n != 3 || !strings.Contains(got, "of the 50 robots that changed last; `ocisync run robots` tries the other 10 too") {
		t.Errorf("a plan says %s", got)
	}
	tried := 0
	for _, r := range h.Requests() {
		if r.Path == "/v2/" {
			tried++
		}
	}
	if tried != most {
		t.Errorf("it tries %d", tried)
	}
	if n := len(strings.Fields(h.renewed(t, dir, want))); n != 3 {
		t.Errorf("%d were renewed", n)
	}
}

// Where it cannot be read what was delivered, nothing is known and nothing made.
func TestADeliveryThatCannotBeReadIsNotChecked(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 50})
	dir := t.TempDir()
	p := h.sending(t, dir)
	apply(t, p, "namespace/a")
	want := apply(t, p, sends(t, "d", schema.Delivery{File: filepath.Join(dir, "out")}))
	if got := h.told(t, t.TempDir(), want); len(got) != 1 || !strings.Contains(got[0], "robot/d: (secret not checked): secret.deliver: file "+dir) {
		t.Errorf("a plan says %q", got)
	}
	if got := h.renewed(t, t.TempDir(), want); got != "" {
		t.Errorf("renewed: %q", got)
	}
}

var _ providers.Secrets = postman{}

// Whether a robot is enabled is nobody's where the mode does not say; that it logs in
// nowhere is said all the same.
func TestARobotThatSomebodyDisabledIsTold(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	for declared, want := range map[string]int{"": 1, `,"enabled":false`: 0} {
		lines := []string{"namespace/a", `robot/ci {"access":{"a":["pull"]},"secret":{"value":` + secretA + `}` + declared + `}`}
		apply(t, h.open(t), lines...)
		var list []map[string]any
		if err := json.Unmarshal([]byte(h.robotsOf(t, "ci")), &list); err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		list[0]["disable"] = true
		body, err := json.Marshal(list[0])
		if err != nil {
			t.Fatal(err)
		}
		h.behind(t, "PUT", fmt.Sprintf("/robots/%.0f", list[0]["id"]), string(body))
		p, state := h.open(t), objects(t, lines...)
		compared(t, p, state)
		notes, err := p.Remarks(t.Context(), state, time.Now())
		if err != nil || len(notes) != want || want == 1 && !strings.Contains(notes[0].Text, "account robot$ci was disabled in Harbor") {
			t.Errorf("with %q the plan says %v, %v", declared, notes, err)
		}
	}
}
