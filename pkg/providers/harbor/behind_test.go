package harbor_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// behind does something at the registry as somebody else would, and returns the
// answer's body. The path is below the API's root.
func (h standIn) behind(t testing.TB, method, path, body string) string {
	t.Helper()
	status, answer := h.asked(t, "admin", h.password(t), method, "/api/v2.0"+path, body)
	if status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	return answer
}

func (h standIn) password(t testing.TB) string {
	t.Helper()
	text, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (h standIn) asked(t testing.TB, user, password, method, path, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.registry.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	req.Header.Set("X-Is-Resource-Name", "true")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// objects makes a state of lines of a key and its spec as JSON.
func objects(t testing.TB, lines ...string) schema.State {
	t.Helper()
	var st schema.State
	for _, l := range lines {
		key, spec, ok := strings.Cut(l, " ")
		if !ok {
			spec = "{}"
		}
		var r schema.Resource
		if err := json.Unmarshal(fmt.Appendf(nil, `{"key":%q,"spec":%s}`, key, spec), &r); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		st.Resources = append(st.Resources, r)
	}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	st.Scope = schema.ScopeOf(st.Kinds()...)
	return st
}

// compared are the changes between what is desired and what is live.
func compared(t testing.TB, p providers.Provider, want schema.State) []plan.Change {
	t.Helper()
	return comparedBy(t, p, want, func(key schema.Key, path, _ string, ref *schema.SecretRef) plan.Match {
		c, ok := p.(providers.Checker)
		if !ok || ref == nil {
			return plan.Unknown
		}
		same, err := c.Check(t.Context(), key, path, *ref)
		switch {
		case err != nil:
			return plan.Unknown
		case same:
			return plan.Equal
		}
		return plan.Different
	})
}

// comparedBy has secrets compared so, once all is read.
func comparedBy(t testing.TB, p providers.Provider, want schema.State, secret func(schema.Key, string, string, *schema.SecretRef) plan.Match) []plan.Change {
	t.Helper()
	norm, _, err := p.Normalize(want)
	if err != nil {
		t.Fatal(err)
	}
	live := read(t, p, norm.Kinds()...)
	var out []plan.Change
	for _, c := range plan.Diff(plan.Input{Desired: norm, Live: live, Table: p.Capabilities(), Ownership: plan.Ownership{Secret: secret}}).Changes {
		if !c.Recorded() {
			out = append(out, c)
		}
	}
	return out
}

// apply makes what is desired, rank by rank, and looks that nothing is left to do.
func apply(t testing.TB, p providers.Provider, lines ...string) schema.State {
	t.Helper()
	want := objects(t, lines...)
	for _, stage := range (plan.Plan{Changes: compared(t, p, want)}).Stages(false) {
		change(t, p, stage...)
	}
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Errorf("a second plan is not empty: %s", told(rest))
	}
	return want
}

// told are changes as lines.
func told(changes []plan.Change) string {
	var out []string
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%s %s", c.Action, c.Key))
		for _, f := range c.Fields {
			if c.Action != plan.Create {
				out = append(out, fmt.Sprintf("  %s: %s -> %s", f.Path, f.Old, f.New))
			}
		}
	}
	return strings.Join(out, "\n")
}

// drifts looks that a plan shows these lines and no other, makes it, and looks that
// nothing is left to do.
func drifts(t testing.TB, p providers.Provider, want schema.State, lines ...string) {
	t.Helper()
	changes := compared(t, p, want)
	if diff := cmp.Diff(strings.Join(lines, "\n"), told(changes)); diff != "" {
		t.Errorf("the plan (-want +have):\n%s", diff)
	}
	for _, stage := range (plan.Plan{Changes: changes}).Stages(false) {
		change(t, p, stage...)
	}
	if rest := compared(t, p, want); len(rest) > 0 {
		t.Errorf("a second plan is not empty: %s", told(rest))
	}
}

// verdict is what Prepare says of the one change that makes a declared object.
func verdict(t testing.TB, p providers.Provider, want schema.State) providers.Verdict {
	t.Helper()
	changes := compared(t, p, want)
	if len(changes) != 1 {
		t.Fatalf("there is not one change: %s", told(changes))
	}
	v, err := p.Prepare(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	return v[0]
}

// count is how many requests began so since the stand-in forgot.
func (h standIn) count(method, path string) int {
	n := 0
	for _, r := range h.Requests() {
		if r.Method == method && strings.HasPrefix(strings.TrimPrefix(r.Path, "/api/v2.0"), path) {
			n++
		}
	}
	return n
}
