package harbor_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/schema"
)

// A label of the registry and one of a project may have one name, an update clears
// what it leaves out, and colours have no case.
func TestLabelsOfTheRegistryAndOfProjects(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 1000})
	p := h.open(t)
	apply(t, p, "namespace/team-a", `label/base {"color":"#1565c0","description":"d"}`)
	want := apply(t, p, `label/base {"color":"#1565c0","description":"d"}`, `label/team-a/base {"color":"#2E7D32","description":"e"}`)
	h.behind(t, http.MethodPut, "/labels/1001", `{"name":"base","color":"#FFFFFF","description":"d"}`)
	drifts(t, p, want, "update label/base", `  color: "#FFFFFF" -> "#1565C0"`)
	h.behind(t, http.MethodPut, "/labels/1002", `{"name":"base","color":"#2e7d32"}`)
	drifts(t, p, want, "update label/team-a/base", `  description: "" -> "e"`)
	// only the colour is managed: the description stays
	apply(t, p, `label/base {"color":"#000000"}`)
	if have := h.behind(t, http.MethodGet, "/labels/1001", ""); !strings.Contains(have, `"description":"d"`) {
		t.Errorf("the label is %s", have)
	}
	key := schema.Key{Kind: schema.KindLabel, Name: "base"}
	live, _ := read(t, p, schema.KindLabel).Get(key)
	change(t, p, plan.Change{Action: plan.Delete, Key: key, Before: &live})
	left := read(t, p, schema.KindLabel)
	if _, still := left.Get(key); still {
		t.Error("the registry's label is there")
	}
	if _, still := left.Get(schema.Key{Kind: schema.KindLabel, Name: "team-a/base"}); !still {
		t.Error("the project's label went with the registry's")
	}
}

func TestLabelsThatOneMayNotSeeAreUnknown(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/team-a", `label/team-a/x {"color":"#000000"}`)
	h.Inject(harbortest.Fault{Method: http.MethodGet, Path: "/api/v2.0/labels", From: 2, Status: http.StatusForbidden})
	st := read(t, h.open(t), schema.KindLabel)
	if st.Scope.Covers(schema.Key{Kind: schema.KindLabel, Name: "team-a/x"}) {
		t.Errorf("what was not read is taken for absent: %+v", st.Scope)
	}
	if !st.Scope.Covers(schema.Key{Kind: schema.KindLabel, Name: "x"}) {
		t.Errorf("what was read is unknown: %+v", st.Scope)
	}
}

func TestOnlySignedIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	want := apply(t, p, "namespace/team-a", `trust/team-a {"keys":["certs/a.pem"],"required":true}`)
	h.behind(t, http.MethodPut, "/projects/team-a", `{"metadata":{"enable_content_trust_cosign":"false"}}`)
	drifts(t, p, want, "update trust/team-a", `  required: false -> true`)
	h.behind(t, http.MethodPut, "/projects/team-a", `{"metadata":{"enable_content_trust":"true"}}`)
	drifts(t, p, want) // nobody declares it
	want = objects(t, "namespace/team-a", `trust/team-a {"keys":["certs/a.pem"],"required":true,"notation":false}`)
	drifts(t, p, want, "update trust/team-a", `  notation: true -> false`)
	apply(t, p, `trust/team-a {"notation":true}`)
	if text := h.behind(t, http.MethodGet, "/projects/team-a", ""); !strings.Contains(text, `"enable_content_trust":"true","enable_content_trust_cosign":"true"`) {
		t.Errorf("the project is %s", text)
	}
	// Harbor ignores it of a proxy, without a word
	apply(t, p, hub, `namespace/cache {"proxy_of":"hub"}`, `trust/cache {"required":true}`)
	for _, want := range [][]string{{`trust/cache {"notation":true}`}, {`namespace/other {"proxy_of":"hub"}`, `trust/other {"notation":true}`}} {
		changes := compared(t, p, objects(t, want...))
		v, err := p.Prepare(t.Context(), changes)
		if last := len(v) - 1; err != nil || last < 0 || !strings.Contains(v[last].Refused, "take notation out") {
			t.Errorf("%s says %+v, %v", want, v, err)
		}
	}
	_, notes, err := p.Normalize(want)
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "whose it is ocisync checks of what mirrors copy there") {
		t.Errorf("notes %v, %v", notes, err)
	}
}

// Harbor makes a repository with the first push, and keeps what is said of it as
// HTML.
func TestADescriptionWaitsForItsRepository(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/team-a")
	const said = `repository/team-a/api {"description":"a \"b\" <c> & d's"}`
	if v := verdict(t, p, objects(t, said)); v.Refused != "" || len(v.Notes) != 1 {
		t.Errorf("what waits is %+v", v)
	}
	says(t, failed(t, p, compared(t, p, objects(t, said))...), providers.ErrPending, "repository/team-a/api", "push to it")
	for _, name := range []string{"team-a/api", "team-a/deep/down/app"} {
		if err := h.Push(harbortest.Image{Repository: name, Tags: []string{"v1"}}); err != nil {
			t.Fatal(err)
		}
	}
	want := apply(t, p, said)
	h.behind(t, http.MethodPut, "/projects/team-a/repositories/api", `{"description":"other"}`)
	drifts(t, p, want, "update repository/team-a/api", `  description: "other" -> "a \"b\" <c> & d's"`)

	deep := schema.Key{Kind: schema.KindRepository, Name: "team-a/deep/down/app"}
	live, ok := read(t, p, schema.KindRepository).Get(deep)
	if !ok {
		t.Fatal("a repository further down is not read")
	}
	gone := plan.Change{Action: plan.Delete, Key: deep, Before: &live}
	v, err := p.Prepare(t.Context(), []plan.Change{gone})
	if err != nil || v[0].Held == "" {
		t.Errorf("deleting content is not held: %+v, %v", v, err)
	}
	change(t, p, gone)
	if _, still := read(t, p, schema.KindRepository).Get(deep); still {
		t.Error("it is there")
	}
}
