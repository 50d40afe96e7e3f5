package declared

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// secrets has one answer to all.
type secrets string

func (s secrets) Resolve(context.Context, schema.SecretRef) (string, error) { return string(s), nil }

// A mirror whose source has its token service on another host names that, and the login
// goes there as carefully as to the source.
func TestTheTokenServiceOfASourceIsNamedByItsMirror(t *testing.T) {
	var logins []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		logins = append(logins, user)
		_, _ = fmt.Fprint(w, `{"token":"t","expires_in":300}`)
	}))
	defer service.Close()
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s"`, service.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprint(w, `{"name":"a/b","tags":["v1"]}`)
	}))
	defer source.Close()
	host := strings.TrimPrefix(source.URL, "http://")
	from, key := host+"/a/b", schema.Key{Kind: schema.KindMirror, Name: "m"}
	login := &schema.Login{User: new("u"), Password: &schema.SecretRef{Env: "X"}}
	remote := schema.Remote{URL: &source.URL, Login: login}
	ask := func(d Deps, realms ...string) error {
		d.Secrets = secrets("p")
		p := New(d)
		p.remotes = []schema.Remote{remote}
		r, end, err := p.source(t.Context(), key, &schema.Mirror{From: &from, Realms: realms}, host)
		if err != nil {
			return err
		}
		defer end()
		_, _, err = r.Tags(t.Context(), "a/b")
		return err
	}
	if err := ask(Deps{}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("name it in the mirror: realms = [%q]", service.URL+"/token")) || len(logins) > 0 {
		t.Errorf("not named: %q, %v", logins, err)
	}
	if err := ask(Deps{}, service.URL); err != nil || len(logins) != 1 || logins[0] != "u" {
		t.Errorf("named: %q, %v", logins, err)
	}
	permit := func(registry string) error {
		if registry != source.URL {
			return fmt.Errorf("%s is not permitted", registry)
		}
		return nil
	}
	if err := ask(Deps{Permit: permit}, service.URL); err == nil || !strings.Contains(err.Error(), service.URL+" is not permitted") {
		t.Errorf("the host file does not permit it: %v", err)
	}
	applied := []Applied{{Key: schema.Key{Kind: schema.KindRemote, Name: "r"}, Spec: &remote}, {Key: key, Spec: &schema.Mirror{From: &from}}}
	careful := Deps{
		Careful:  func(string) bool { return false },
		Applied:  func() []Applied { return applied },
		MayPrune: func() (bool, string) { return true, "" },
	}
	if err := ask(careful, service.URL); err == nil || !strings.Contains(err.Error(), service.URL+": ") || len(logins) != 1 {
		t.Errorf("none was applied for it: %q, %v", logins, err)
	}
	applied[1].Spec = &schema.Mirror{From: &from, Realms: schema.Set{service.URL}}
	if err := ask(careful, service.URL); err != nil || len(logins) != 2 {
		t.Errorf("one was applied for it: %q, %v", logins, err)
	}
}

// A schedule that nothing of ocisync's goes by is told, with what is to be run instead.
func TestAScheduleThatNobodyGoesByIsTold(t *testing.T) {
	declared := schema.State{Resources: []schema.Resource{
		{Key: schema.Key{Kind: schema.KindMirror, Name: "none"}, Spec: &schema.Mirror{Schedule: new("none")}},
		{Key: schema.Key{Kind: schema.KindMirror, Name: "nightly"}, Spec: &schema.Mirror{Schedule: new("0 3 * * *")}},
		{Key: schema.Key{Kind: schema.KindMirror, Name: "other"}, Spec: &schema.Mirror{}},
	}}
	for by, want := range map[string]string{
		"":                   "",
		"ocisync run mirror": "mirror/nightly: its schedule (0 3 * * *) is run by nobody, since ocisync does not run this registry; have cron run ocisync run mirror nightly",
	} {
		d := Deps{Applied: func() []Applied { return nil }}
		if by != "" {
			d.Cron = func(mirror string) string { return by + " " + mirror }
		}
		notes, err := New(d).Remarks(t.Context(), declared, time.Now())
		var got []string
		for _, n := range notes {
			got = append(got, n.Key.String()+": "+n.Text)
		}
		if strings.Join(got, "\n") != want || err != nil {
			t.Errorf("%q: %q, %v", by, got, err)
		}
	}
}
