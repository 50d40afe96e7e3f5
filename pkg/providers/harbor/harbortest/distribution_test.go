package harbortest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
)

func TestContentIsPushedAndPulledByWhoMay(t *testing.T) {
	_, c := start(t, harbortest.Options{})
	c.users()
	c.want(201, "POST", "/projects", `{"project_name":"team"}`)
	c.want(201, "POST", "/projects/team/members", `{"role_id":3,"member_user":{"username":"user0"}}`)
	c.want(201, "POST", "/projects/team/immutabletagrules", `{"tag_selectors":[{"kind":"doublestar","decoration":"matches","pattern":"v*"}],"scope_selectors":{"repository":[{"kind":"doublestar","decoration":"repoMatches","pattern":"**"}]}}`)
	at, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	login := func(user string) remote.Option {
		return remote.WithAuth(&authn.Basic{Username: user, Password: "Harbor12345"})
	}
	in := func(image string) name.Reference {
		r, err := name.ParseReference(at.Host+"/"+image, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := remote.Write(in("team/sub/app:v1"), image, login("admin")); err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"admin", "user0"} {
		have, err := remote.Image(in("team/sub/app:v1"), login(who))
		if err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		if d, err := have.Digest(); err != nil || d != want {
			t.Errorf("%s pulls %s %v, want %s", who, d, err, want)
		}
	}
	for _, x := range []struct {
		why string
		do  func() error
	}{
		{"a guest does not push", func() error { return remote.Write(in("team/sub/app:v2"), image, login("user0")) }},
		{"a stranger does not pull", func() error { _, err := remote.Get(in("team/sub/app:v1"), login("user1")); return err }},
		{"nobody does not pull", func() error { _, err := remote.Get(in("team/sub/app:v1")); return err }},
		{"a push makes no project", func() error { return remote.Write(in("none/app:v1"), image, login("admin")) }},
	} {
		if err := x.do(); err == nil || !strings.Contains(strings.ToUpper(err.Error()), "UNAUTHORIZED") {
			t.Errorf("%s: %v", x.why, err)
		}
	}
	other, err := random.Image(50, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(in("team/sub/app:v1"), other, login("admin")); err == nil || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("an immutable tag moves: %v", err)
	}
	var quotas []struct {
		ID  int64
		Ref struct{ Name string }
	}
	if err := json.Unmarshal([]byte(c.want(200, "GET", "/quotas?page_size=0", "")), &quotas); err != nil {
		t.Fatal(err)
	}
	for _, q := range quotas {
		if q.Ref.Name == "team" {
			c.want(200, "PUT", fmt.Sprintf("/quotas/%d", q.ID), `{"hard":{"storage":1}}`)
		}
	}
	if other, err = random.Image(70, 1); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(in("team/other:x"), other, login("admin")); err == nil || !strings.Contains(err.Error(), "subtracting 0 B") {
		t.Errorf("a push to what is full begins: %v", err)
	}
	tags, err := remote.List(in("team/sub/app:v1").Context(), login("user0"))
	if err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("tags %v %v", tags, err)
	}
	if answer := c.want(200, "GET", "/projects/team/repositories/sub%252Fapp/artifacts/v1", ""); !strings.Contains(answer, want.String()) {
		t.Error(answer)
	}
	if answer := c.want(200, "GET", "/projects/team/repositories", ""); !strings.Contains(answer, `"pull_count":`) || strings.Contains(answer, `"pull_count":0`) {
		t.Error(answer)
	}
	c.want(200, "DELETE", "/projects/team/immutabletagrules/1", "")
	c.want(200, "DELETE", "/projects/team/repositories/sub%252Fapp", "")
	if _, err := remote.Get(in("team/sub/app:v1"), login("admin")); err == nil || !strings.Contains(err.Error(), http.StatusText(http.StatusNotFound)) && !strings.Contains(err.Error(), "NOT_FOUND") {
		t.Errorf("what was deleted is pulled: %v", err)
	}
}
