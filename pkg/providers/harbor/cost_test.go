package harbor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
)

// What a team has, project after project, costs so many requests and no more.
func TestRequestsAreCounted(t *testing.T) {
	const projects = 40
	for _, robot := range []string{`"deliver":{"file":"/run/ocisync/x"}`, `"value":{"env":"` + providertest.SecretA + `"}`} {
		h := newStandIn(t, harbortest.Options{})
		p := h.with(t, &courier{})
		lines := []string{person("alice"), person("bob"), person("carol")}
		apply(t, p, lines...)
		for n := range projects {
			lines = append(lines, fmt.Sprintf("namespace/p%d", n),
				fmt.Sprintf(`access/p%d {"anonymous":[],"users":{"alice":["admin"],"bob":["pull"],"carol":["pull","push"]}}`, n),
				fmt.Sprintf(`retention/p%d {"keep":[{"newest":10}],"schedule":"@daily"}`, n),
				fmt.Sprintf(`immutable/p%d {"rules":[]}`, n),
				fmt.Sprintf(`webhook/p%d/ci {"url":"https://ci.example.com","events":["push"],"auth":{"env":"%s"}}`, n, providertest.SecretA),
				fmt.Sprintf(`robot/p%d/ci {"expires":"90d","access":{"p%d":["pull"]},"secret":{%s}}`, n, n, robot))
		}
		want := objects(t, lines...)
		changes := compared(t, p, want)
		h.Forget()
		for _, stage := range (plan.Plan{Changes: changes}).Stages(false) {
			change(t, p, stage...)
		}
		if n := h.Traffic().Requests; n > 9*projects+8 {
			t.Errorf("the first apply takes %d requests, more than 9 for each of %d projects", n, projects)
		}
		fresh := h.with(t, &courier{})
		h.Forget()
		if rest := compared(t, fresh, want); len(rest) > 0 {
			t.Fatalf("a second plan is not empty: %s", told(rest))
		}
		if _, err := fresh.Remarks(t.Context(), want, time.Now()); err != nil {
			t.Fatal(err)
		}
		// members, rules, webhooks and robots, one policy, and one login where
		// the file gives the robot's secret
		each := 5
		if robot[1] == 'v' {
			each++
		}
		if n := h.Traffic(); n.Requests > each*projects+16 || h.Traffic().Writes > 1 {
			t.Errorf("an empty plan takes %d requests, more than %d for each project; %d of them write", n.Requests, each, n.Writes)
		}
	}
}
