package embedded

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// unread is a body that nobody should look at.
type unread struct {
	t    *testing.T
	what string
}

func (u unread) Read([]byte) (int, error) {
	u.t.Errorf("%s: the body is read", u.what)
	return 0, errors.New("read")
}

// What a body says is looked at only once it is known that its sender may send
// it; what is none of a body's business, such as the source of a mount, is read
// of the URL alone.
func TestNoBodyIsReadOfWhoMayNotSendIt(t *testing.T) {
	r := openInside(t)
	some := digest.FromString("some").String()
	paths := []string{
		"/v2/team/app/manifests/1", "/v2/team/app/blobs/" + some, "/v2/team/app/tags/list", "/v2/team/app/referrers/" + some,
		"/v2/team/app/blobs/uploads/", "/v2/team/app/blobs/uploads/abc", "/v2/team/app/blobs/uploads/abc?digest=" + some, "/v2/", "/v2", "/v2/_catalog",
		"/v2/team//app", "/v2/team/%zz/manifests/1", "/ocisync/v1/changes", "/ocisync/v1/run", "/metrics", "/healthz", "/else",
	}
	for _, user := range []string{"", "other", "nobody"} {
		for _, path := range paths {
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS", "BREW"} {
				for _, media := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json", ""} {
					what := strings.Join([]string{user, method, path, media}, " ")
					if w := r.ask(method, user, path, media, unread{t, what}); w.Code >= http.StatusInternalServerError {
						t.Errorf("%s: %d %s", what, w.Code, w.Body)
					}
				}
			}
		}
	}
	what := "dev PUT a manifest of 5 MiB"
	large := httptest.NewRequest(http.MethodPut, "/v2/team/app/manifests/1", unread{t, what})
	large.ContentLength = 5 << 20
	large.SetBasicAuth("dev", "pw-dev")
	w := httptest.NewRecorder()
	if r.ServeHTTP(w, large); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("%s: %d %s", what, w.Code, w.Body)
	}
	// who may send one has it read where it belongs, and not for a form
	for _, media := range []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		for _, q := range [][2]string{
			{"POST", "/v2/team/app/blobs/uploads/"}, {"POST", "/v2/team/app/blobs/uploads/?mount=" + some + "&from=team/other"},
			{"POST", "/v2/team/app/manifests/1"}, {"PUT", "/v2/team/app/tags/list"}, {"DELETE", "/v2/team/app/manifests/1"}, {"PUT", "/v2/team/app/blobs/uploads/abc?digest=" + some},
		} {
			what := strings.Join([]string{"dev", q[0], q[1], media}, " ")
			if w := r.ask(q[0], "dev", q[1], media, unread{t, what}); w.Code >= http.StatusInternalServerError {
				t.Errorf("%s: %d %s", what, w.Code, w.Body)
			}
		}
	}
}
