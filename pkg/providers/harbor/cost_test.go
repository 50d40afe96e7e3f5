package harbor_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/harbor"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// team is so many projects of what a team has, with members that are there, and a robot
// whose secret is as told.
func team(projects int, secret string) []string {
	lines := []string{person("alice"), person("bob"), person("carol")}
	for n := range projects {
		lines = append(lines, fmt.Sprintf("namespace/p%03d", n),
			fmt.Sprintf(`access/p%03d {"anonymous":[],"users":{"alice":["admin"],"bob":["pull"],"carol":["pull","push"]}}`, n),
			fmt.Sprintf(`retention/p%03d {"keep":[{"newest":10}],"schedule":"@daily"}`, n),
			fmt.Sprintf(`immutable/p%03d {"rules":[]}`, n),
			fmt.Sprintf(`webhook/p%03d/ci {"url":"https://ci.example.com","events":["push"],"auth":{"env":"%s"}}`, n, providertest.SecretA),
			fmt.Sprintf(`robot/p%03d/ci {"expires":"90d","access":{"p%03d":["pull"]},"secret":{%s}}`, n, n, secret))
	}
	return lines
}

const toAFile, given = `"deliver":{"file":"/run/ocisync/x"}`, `"value":{"env":"` + providertest.SecretA + `"}`

// made makes what is wanted, and returns how many requests that takes.
func (h standIn) made(t *testing.T, p *harbor.Provider, want schema.State) int {
	t.Helper()
	changes := compared(t, p, want)
	h.Forget()
	for _, stage := range (plan.Plan{Changes: changes}).Stages(false) {
		change(t, p, stage...)
	}
	return h.Traffic().Requests
}

// proved is what does not hold of what is wanted by a proof, and how many objects that
// takes from others.
func proved(t *testing.T, p *harbor.Provider, want schema.State) (rest []plan.Change, sampled int) {
	t.Helper()
	norm, _, err := p.Normalize(want)
	if err != nil {
		t.Fatal(err)
	}
	live, sampled, err := p.Prove(t.Context(), schema.ScopeOf(norm.Kinds()...))
	if err != nil {
		t.Fatal(err)
	}
	secret := func(key schema.Key, path, _ string, ref *schema.SecretRef) plan.Match {
		switch same, err := p.Check(t.Context(), key, path, *ref); {
		case err != nil:
			return plan.Unknown
		case same:
			return plan.Equal
		}
		return plan.Different
	}
	out := plan.Diff(plan.Input{Desired: norm, Live: live, Table: p.Capabilities(), Ownership: plan.Ownership{Secret: secret}})
	return slices.DeleteFunc(out.Changes, plan.Change.Recorded), sampled
}

// since is what a provider would do for what is wanted, which asks of no secret that
// another knows to be what it was.
func since(t *testing.T, p *harbor.Provider, want schema.State, former *harbor.Provider) []plan.Change {
	t.Helper()
	return comparedBy(t, p, want, func(key schema.Key, path, _ string, ref *schema.SecretRef) plan.Match {
		value, err := providertest.Secrets{}.Resolve(t.Context(), *ref)
		if err != nil {
			t.Fatal(err)
		}
		if asOf := former.AsOf(key, path, value); !asOf.IsZero() && p.Untouched(key, asOf) {
			return plan.Equal
		}
		switch same, err := p.Check(t.Context(), key, path, *ref); {
		case err != nil:
			return plan.Unknown
		case same:
			return plan.Equal
		}
		return plan.Different
	})
}

// What a team has, project after project, costs so many requests and no more.
func TestRequestsAreCounted(t *testing.T) {
	const projects = 60
	for _, robot := range []string{toAFile, given} {
		h := newStandIn(t, harbortest.Options{})
		p := h.with(t, &courier{})
		want := objects(t, team(projects, robot)...)
		apply(t, p, person("alice"), person("bob"), person("carol"))
		// the project, three members, the policy, the webhook, the robot, and its secret
		if n := h.made(t, p, want); n > 8*projects+8 {
			t.Errorf("making it all takes %d requests, more than 8 for each of %d projects", n, projects)
		}
		rest, sampled := proved(t, p, want)
		if len(rest) > 0 || sampled != 5*(projects-10) {
			t.Errorf("the proof takes %d objects from others, and finds %s", sampled, told(rest))
		}
		if n := h.Traffic().Requests; n > 9*projects+16 {
			t.Errorf("a first apply, reading back included, takes %d requests, more than 9 for each of %d projects", n, projects)
		}
		fresh := h.with(t, &courier{})
		h.Forget()
		if rest := since(t, fresh, want, p); len(rest) > 0 {
			t.Fatalf("a second plan is not empty: %s", told(rest))
		}
		if _, err := fresh.Remarks(t.Context(), want, time.Now()); err != nil {
			t.Fatal(err)
		}
		// members, rules, webhooks and robots, and one policy; no login for a robot
		// whose secret the file gives
		const each = 5
		if n := h.Traffic(); n.Requests > each*projects+16 || n.Writes > 1 || h.count("GET", "/v2/") > 0 {
			t.Errorf("an empty plan takes %d requests, more than %d for each project; %d of them write, %d try a secret", n.Requests, each, n.Writes, h.count("GET", "/v2/"))
		}
	}
}

// A proof reads all where one that it reads is not as it was written, and sees of the
// others what the list of projects shows.
func TestAProofBySamplesReadsAllWhereOneDiffers(t *testing.T) {
	const last, first = "/projects/p029", "/projects/p000"
	for what, c := range map[string]struct {
		behind func(h standIn)
		found  string
		all    bool
	}{
		"one that is read":                     {func(h standIn) { h.rename(t, first); h.rename(t, last) }, "create webhook/p000/ci create webhook/p029/ci", true},
		"a policy that is gone":                {func(h standIn) { id, _ := policy(t, h, "p029"); h.behind(t, "DELETE", "/retentions/"+id, "") }, "create retention/p029", false},
		"a project that is public":             {func(h standIn) { h.behind(t, "PUT", last, `{"metadata":{"public":"true"}}`) }, "create access/p029", false},
		"a project that is gone":               {func(h standIn) { h.behind(t, "DELETE", last, "") }, "create namespace/p029 create access/p029 create retention/p029 create immutable/p029 create webhook/p029/ci create robot/p029/ci", false},
		"one that this run found, and changed": {func(standIn) {}, "", false},
	} {
		h := newStandIn(t, harbortest.Options{})
		p := h.with(t, &courier{})
		apply(t, p, person("alice"), person("bob"), person("carol"))
		want := objects(t, team(30, given)...)
		expect := 5 * 20
		if c.found == "" {
			h.behind(t, "POST", "/projects", `{"project_name":"p029","metadata":{"public":"false"}}`)
			expect -= 5
		}
		h.made(t, p, want)
		c.behind(h)
		rest, sampled := proved(t, p, want)
		var keys []string
		for _, x := range rest {
			keys = append(keys, string(x.Action)+" "+x.Key.String())
		}
		slices.Sort(keys)
		found := strings.Fields(c.found)
		var wanted []string
		for i := 0; i+1 < len(found); i += 2 {
			wanted = append(wanted, found[i]+" "+found[i+1])
		}
		slices.Sort(wanted)
		if !slices.Equal(keys, wanted) || c.all && sampled != 0 || c.found == "" && sampled != expect {
			t.Errorf("%s: the proof takes %d objects from others and finds %q, want %q", what, sampled, keys, wanted)
		}
	}
}

// rename gives a project's webhook another name.
func (h standIn) rename(t *testing.T, at string) {
	t.Helper()
	text := h.behind(t, "GET", at+"/webhook/policies", "")
	id := regexp.MustCompile(`"id":([0-9]+)`).FindStringSubmatch(text)[1]
	h.behind(t, "PUT", at+"/webhook/policies/"+id, strings.Replace(strings.Trim(strings.TrimSpace(text), "[]"), `"name":"ci"`, `"name":"other"`, 1))
}
