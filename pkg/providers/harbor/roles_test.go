package harbor

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

func roles() []int {
	return []int{api.RoleAdmin, api.RoleMaintainer, api.RoleDeveloper, api.RoleGuest, api.RoleLimitedGuest}
}

// What is known of a role is what its members are told.
func TestARoleAllowsWhatItsMembersAreTold(t *testing.T) {
	server := httptest.NewServer(harbortest.New(harbortest.Options{Fail: func(s string) { t.Error(s) }}))
	defer server.Close()
	ask := func(user, method, path, body string) string {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/api/v2.0"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, "Harbor12345")
		r.Header.Set("Content-Type", "application/json")
		w, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Body.Close()
		text, err := io.ReadAll(w.Body)
		if err != nil || w.StatusCode >= http.StatusBadRequest {
			t.Fatalf("%s %s: %s %s, %v", method, path, w.Status, text, err)
		}
		return string(text)
	}
	ask("admin", http.MethodPost, "/projects", `{"project_name":"a"}`)
	var p api.Project
	if err := json.Unmarshal([]byte(ask("admin", http.MethodGet, "/projects/a", "")), &p); err != nil {
		t.Fatal(err)
	}
	for _, role := range roles() {
		user := fmt.Sprintf("user%d", role)
		ask("admin", http.MethodPost, "/users", fmt.Sprintf(`{"username":%q,"email":"%s@example.com","realname":"x","password":"Harbor12345"}`, user, user))
		ask("admin", http.MethodPost, "/projects/a/members", fmt.Sprintf(`{"role_id":%d,"member_user":{"username":%q}}`, role, user))
		var list []api.Access
		if err := json.Unmarshal([]byte(ask(user, http.MethodGet, fmt.Sprintf("/users/current/permissions?scope=/project/%d&relative=true", p.ID), "")), &list); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(words(list), words(ofRole(role))); diff != "" {
			t.Errorf("%s (-told +known):\n%s", roleName(role), diff)
		}
	}
}

func words(list []api.Access) []string {
	var out []string
	for _, a := range list {
		if a.Resource == "." {
			a.Resource = "project"
		}
		out = append(out, a.Resource+":"+a.Action)
	}
	slices.Sort(out)
	return out
}

// Nothing that a role allows goes without a word: it is of the four rights, or told.
func TestAllThatARoleAllowsIsTold(t *testing.T) {
	told := ofRights()
	for _, p := range append(powers(), looks()...) {
		told = append(told, accesses(p.by)...)
	}
	for _, role := range roles() {
		for _, a := range ofRole(role) {
			if !listed(told, a) {
				t.Errorf("nothing tells that the role %s has %s:%s", roleName(role), a.Resource, a.Action)
			}
		}
	}
	for role, want := range map[int]string{
		api.RoleAdmin: "retention, and with it deletion of tags; members; robots, which outlast the member who makes them; " +
			"deletion of the project; the project's settings, and with them whether everybody may pull; " +
			"rules of immutable tags, also to take them away; webhooks; a look at webhooks with their auth; preheating; " +
			"the choice of a scanner; scans; labels; labels on images; descriptions of repositories; exports of vulnerabilities; " +
			"a look at members, robots, logs, labels, the quota and findings of scans",
		api.RoleMaintainer: "retention, and with it deletion of tags; rules of immutable tags, also to take them away; " +
			"a look at webhooks with their auth; scans; labels; labels on images; descriptions of repositories; " +
			"exports of vulnerabilities; a look at members, robots, labels, the quota and findings of scans",
		api.RoleDeveloper: "retention, and with it deletion of tags; labels on images; descriptions of repositories; " +
			"exports of vulnerabilities; a look at members, robots, labels, the quota and findings of scans",
		api.RoleGuest:        "a look at members, robots, labels, the quota and findings of scans",
		api.RoleLimitedGuest: "a look at the quota and findings of scans",
	} {
		if have := beyond(role); have != want {
			t.Errorf("the role %s also allows %s, want %s", roleName(role), have, want)
		}
	}
}
