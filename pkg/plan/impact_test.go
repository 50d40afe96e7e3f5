package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

func TestAPlanListsTheRepositoriesThatClose(t *testing.T) {
	live := schema.State{
		Resources: []schema.Resource{{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}}},
		Repositories: []schema.RepositoryInfo{
			{Name: "alone", Tags: 2}, {Name: "new/api", Tags: 3}, {Name: "newer/api", Tags: 5}, {Name: "ocisync/state", Tags: 1}, {Name: "team/web", Tags: 7},
		},
	}
	closes := Change{Action: Update, Key: schema.Key{Kind: schema.KindSettings}, Fields: []Field{{Path: "values.policy.outside", Old: `"leave"`, New: `"deny"`}}}
	made := Change{Action: Create, Key: schema.Key{Kind: schema.KindNamespace, Name: "new"}}
	p := Plan{Changes: []Change{closes, made}}
	if d := cmp.Diff([]string{"*", "new"}, Needs(p).Repositories); d != "" {
		t.Error(d)
	}
	live.Scope.Repositories = Needs(p).Repositories
	got := WithImpact(p, live)
	if d := cmp.Diff([]string{"closes to all but admins what lies in no namespace: alone, new/api, newer/api"}, got.Changes[0].Impact); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"1 repository, 3 tags there already come under it"}, got.Changes[1].Impact); d != "" {
		t.Error(d)
	}
	if p.Changes[0].Impact != nil {
		t.Error("the plan given was changed")
	}
	opens := Plan{Changes: []Change{{Action: Update, Key: closes.Key, Fields: []Field{{Path: "values.policy.outside", Old: `"deny"`, New: `"leave"`}}}}}
	if len(Needs(opens).Repositories) > 0 || WithImpact(opens, live).Changes[0].Impact != nil {
		t.Error("opening closes nothing")
	}
}

func TestAPlanSaysWhenWhatGoesWasUsedLast(t *testing.T) {
	team := schema.Key{Kind: schema.KindNamespace, Name: "team"}
	live := schema.State{
		Resources: []schema.Resource{{Key: team, Spec: &schema.Namespace{}}},
		Scope:     schema.Scope{Repositories: []string{"team"}},
		Repositories: []schema.RepositoryInfo{
			{Name: "team/a", Tags: 1, Bytes: 1 << 20, Pushed: schema.Date{Year: 2026, Month: 3, Day: 9}, Pulled: schema.Date{Year: 2026, Month: 11, Day: 20}},
			{Name: "team/b", Tags: 2, Bytes: 1 << 20, Pushed: schema.Date{Year: 2026, Month: 10, Day: 1}},
			{Name: "teams", Tags: 3, Pushed: schema.Date{Year: 2027, Month: 1, Day: 1}},
		},
	}
	got := WithImpact(Plan{Changes: []Change{{Action: Delete, Key: team}}}, live)
	if d := cmp.Diff([]string{"2 repositories, 3 tags, 2.0 MiB, last push 2026-10-01, last pull 2026-11-20"}, got.Changes[0].Impact); d != "" {
		t.Error(d)
	}
}
