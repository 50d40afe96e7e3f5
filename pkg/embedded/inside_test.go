package embedded

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/schema"
)

// inside is a registry without an address whose handler tests call. dev may do
// everything in team and in fixed, where every tag is immutable; other may
// nothing.
type inside struct{ *Registry }

func openInside(t testing.TB, change ...Change) inside {
	t.Helper()
	r, err := Open(t.Context(), Options{Data: filepath.Join(t.TempDir(), "data"), Command: "ocisync test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	object := func(kind schema.Kind, name string, spec schema.Spec) Change {
		return Change{Object: schema.Resource{Key: schema.Key{Kind: kind, Name: name}, Spec: spec}}
	}
	all := schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push | schema.Delete})
	changes := []Change{
		object(schema.KindNamespace, "team", &schema.Namespace{}), object(schema.KindNamespace, "fixed", &schema.Namespace{}),
	}
	for _, name := range []string{"dev", "other"} {
		hash, err := bcrypt.GenerateFromPassword([]byte("pw-"+name), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		c := object(schema.KindUser, name, &schema.User{})
		c.PasswordHash = string(hash)
		changes = append(changes, c)
	}
	changes = append(changes, object(schema.KindAccess, "team", &schema.Access{Users: all}), object(schema.KindAccess, "fixed", &schema.Access{Users: all}))
	results, err := r.store.change(t.Context(), append(changes, change...))
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range results {
		if res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	return inside{r}
}

// ask sends one request through the handler.
func (r inside) ask(method, user, target, media string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	q := httptest.NewRequest(method, "http://x/v2/", body)
	path, query, _ := bytes.Cut([]byte(target), []byte("?"))
	q.URL.Path, q.URL.RawQuery = string(path), string(query)
	if media != "" {
		q.Header.Set("Content-Type", media)
	}
	if user != "" {
		q.SetBasicAuth(user, "pw-"+user)
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w
}

var _ http.Handler = inside{}
