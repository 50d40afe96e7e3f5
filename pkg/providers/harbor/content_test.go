package harbor_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

func TestContentIsReadFromLists(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, "namespace/a", "namespace/b", "namespace/c", "namespace/ab")
	for _, x := range []harbortest.Image{
		{Repository: "a/app", Tags: []string{"v1", "v2"}, Size: 100, Env: []string{"1"}},
		{Repository: "a/app", Tags: []string{"v3"}, Size: 50, Env: []string{"2"}},
		{Repository: "a/sub/dir/app", Size: 7, Env: []string{"3"}},
		{Repository: "ab/app", Tags: []string{"v1"}, Size: 9, Env: []string{"4"}},
		{Repository: "b/app", Tags: []string{"v1"}, Size: 1, Env: []string{"5"}},
	} {
		if err := h.Push(x); err != nil {
			t.Fatal(err)
		}
	}
	h.Forget()
	for name, want := range map[string]string{"a": "a/app 3 150, a/sub/dir/app 0 7", "none": "", "c": "", "*": "a/app 3 150, a/sub/dir/app 0 7, ab/app 1 9, b/app 1 1"} {
		st, err := p.Read(t.Context(), schema.Scope{Repositories: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, r := range st.Repositories {
			if r.Pushed == (schema.Date{}) || r.Pulled != (schema.Date{}) {
				t.Errorf("%s was pushed on %s and pulled on %s", r.Name, r.Pushed, r.Pulled)
			}
			have = append(have, strings.Join([]string{r.Name, strconv.Itoa(r.Tags), strconv.Itoa(int(r.Bytes))}, " "))
		}
		if diff := cmp.Diff(want, strings.Join(have, ", ")); diff != "" {
			t.Errorf("%s (-want +have):\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{name}, st.Scope.Repositories); diff != "" {
			t.Errorf("the scope of %s (-want +have):\n%s", name, diff)
		}
	}
	for _, r := range h.Requests() {
		if r.Method != http.MethodGet && r.Method != http.MethodPost || strings.Contains(r.Path, "/v2/a/") {
			t.Errorf("it asks %s %s", r.Method, r.Path)
		}
	}
}

func TestTheInventoryHasAPrivateProjectOfItsOwn(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	rt, release, err := p.Transport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	s, err := oci.NewStore(oci.Options{URL: h.registry.URL, Transport: rt}, "prod")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	h.Forget()
	if _, err := s.Load(ctx); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first: %v", err)
	}
	if n := h.Traffic().Writes; n != 0 {
		t.Errorf("to look for it writes %d times", n)
	}
	if err := s.Save(ctx, []byte(`{"a":1}`), nil); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Load(ctx); err != nil || string(b) != `{"a":1}` {
		t.Errorf("it reads %s, %v", b, err)
	}
	if text := h.behind(t, "GET", "/projects/ocisync", ""); !strings.Contains(text, `"public":"false"`) {
		t.Errorf("the project is %s", text)
	}
	// it is no object of any mode
	st := read(t, p, schema.KindNamespace, schema.KindAccess, schema.KindQuota, schema.KindRetention, schema.KindImmutable, schema.KindWebhook)
	for _, r := range st.Resources {
		if r.Key.Name == schema.Reserved || strings.HasPrefix(r.Key.Name, schema.Reserved+"/") {
			t.Errorf("%s is shown", r.Key)
		}
	}
}

// ocisync's own project that somebody made, or made public, is never used while
// everybody may read it: nothing is read there, and nothing written.
func TestStateIsNotKeptWhereEverybodyReadsIt(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	h.behind(t, "POST", "/projects", `{"project_name":"ocisync","metadata":{"public":"true"}}`)
	kept := func() (load, save error) {
		rt, release, err := h.open(t).Transport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		s, err := oci.NewStore(oci.Options{URL: h.registry.URL, Transport: rt}, "prod")
		if err != nil {
			t.Fatal(err)
		}
		_, load = s.Load(t.Context())
		return load, s.Save(t.Context(), []byte(`{}`), nil)
	}
	h.Forget()
	load, save := kept()
	says(t, load, providers.ErrForbidden, "the project is public", "make it private")
	says(t, save, providers.ErrForbidden, "the project is public", "make it private")
	for _, r := range h.Requests() {
		if strings.HasPrefix(r.Path, "/v2/ocisync/") || r.Method == http.MethodPut || r.Method == http.MethodPost && r.Path != "/c/login" {
			t.Errorf("it asks %s %s", r.Method, r.Path)
		}
	}
	h.behind(t, "PUT", "/projects/ocisync", `{"metadata":{"public":"false"}}`)
	if load, save = kept(); !errors.Is(load, fs.ErrNotExist) || save != nil {
		t.Errorf("once it is private: %v, %v", load, save)
	}
}

// Of a repository that an account may not see Harbor says 401, though it knows who asks.
func TestStateThatARobotMayNotReachSaysWhatItLacks(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	apply(t, h.open(t), "namespace/a", `robot/weak {"access":{"a":["pull"]},"secret":{"value":`+secretA+`}}`)
	h.behind(t, http.MethodPost, "/projects", `{"project_name":"ocisync","metadata":{"public":"false"}}`)
	name := "weak"
	h.registry.Login = &schema.Login{Robot: &name, Password: h.registry.Login.Password}
	rt, release, err := h.open(t).Transport(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	s, err := oci.NewStore(oci.Options{URL: h.registry.URL, Transport: rt}, "prod")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Load(t.Context())
	says(t, err, providers.ErrForbidden, "unauthorized to access repository: ocisync/state, action: pull", "give the account pull and push on ocisync/state")
}
