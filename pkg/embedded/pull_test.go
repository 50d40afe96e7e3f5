package embedded

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

func TestBlobsAreAnsweredAsDistributionAnswers(t *testing.T) {
	r, err := Open(t.Context(), Options{Data: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	admin := true
	root := schema.Resource{Key: schema.Key{Kind: schema.KindUser, Name: "root"}, Spec: &schema.User{Admin: &admin}}
	if _, err := r.store.change(t.Context(), []Change{{Object: root}}); err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, user string, header map[string]string, body io.Reader) (*http.Request, *visit) {
		q := httptest.NewRequestWithContext(t.Context(), method, path, body)
		for k, v := range header {
			q.Header.Set(k, v)
		}
		v := &visit{target: targetOf(q.URL.Path), rules: r.store.now().rules}
		if user != "" {
			v.who = identity{subject: access.User(user), login: user}
		}
		return q.WithContext(context.WithValue(q.Context(), visitKey{}, v)), v
	}
	content := bytes.Repeat([]byte("0123456789"), 1000)
	d := digest.FromBytes(content)
	q, v := ask(http.MethodPost, "/v2/a/blobs/uploads/", "root", nil, nil)
	w := httptest.NewRecorder()
	r.serveVisit(w, q, v)
	q, v = ask(http.MethodPut, w.Header().Get("Location")+"&digest="+d.String(), "root", nil, bytes.NewReader(content))
	w = httptest.NewRecorder()
	r.serveVisit(w, q, v)
	if w.Code != http.StatusCreated {
		t.Fatalf("the push was answered with %d: %s", w.Code, w.Body)
	}

	blob := "/v2/a/blobs/" + d.String()
	for _, tt := range []struct {
		path, user string
		header     map[string]string
		answers    bool
	}{
		{blob, "root", nil, true},
		{blob, "root", map[string]string{"Range": "bytes=10-19"}, true},
		{blob, "root", map[string]string{"Range": "bytes=-5"}, true},
		{blob, "root", map[string]string{"Range": "bytes=9990-20000"}, true},
		{blob, "root", map[string]string{"Range": "bytes=20000-"}, true},
		{blob, "root", map[string]string{"If-None-Match": `"` + d.String() + `"`}, true},
		{blob, "root", map[string]string{"If-None-Match": `"other"`}, true},
		{blob, "", nil, false},
		{blob, "nobody", nil, false},
		{"/v2/b/blobs/" + d.String(), "root", nil, false},
		{"/v2/A/blobs/" + d.String(), "root", nil, false},
		{"/v2/a/blobs/" + digest.FromString("absent").String(), "root", nil, false},
		{"/v2/a/blobs/sha256:short", "root", nil, false},
		{"/v2/a/_layers/blobs/" + d.String(), "root", nil, false},
	} {
		q, v := ask(http.MethodGet, tt.path, tt.user, tt.header, nil)
		got := httptest.NewRecorder()
		if answers := r.serveBlob(got, q, v); answers != tt.answers {
			t.Errorf("%s %v as %q: answered by itself is %v", tt.path, tt.header, tt.user, answers)
			continue
		}
		if !tt.answers {
			if len(got.Header()) > 0 || got.Body.Len() > 0 {
				t.Errorf("%s as %q: something is answered, and left to Distribution: %v", tt.path, tt.user, got.Header())
			}
			continue
		}
		want := httptest.NewRecorder()
		r.app.ServeHTTP(want, q)
		if diff := cmp.Diff(want.Code, got.Code) + cmp.Diff(maps.Clone(want.Header()), maps.Clone(got.Header())) + cmp.Diff(want.Body.String(), got.Body.String()); diff != "" {
			t.Errorf("%s %v: %s", tt.path, tt.header, diff)
		}
	}
}

// taker takes a body whole, as a connection takes a file.
type taker struct {
	httptest.ResponseRecorder
	parts []int64
}

func (w *taker) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if _, file := limited.R.(*strings.Reader); !ok || !file {
		return 0, io.ErrUnexpectedEOF
	}
	w.parts = append(w.parts, limited.N)
	return io.Copy(&w.ResponseRecorder, src)
}

func TestAConnectionMayTakeAFileByItself(t *testing.T) {
	const size = 5<<20 + 7
	for _, reader := range []func() io.Reader{
		func() io.Reader { return strings.NewReader(strings.Repeat("x", size)) },
		func() io.Reader { return io.LimitReader(strings.NewReader(strings.Repeat("x", size+1)), size) },
	} {
		under := &taker{ResponseRecorder: httptest.ResponseRecorder{Body: &bytes.Buffer{}}}
		w := &observed{ResponseWriter: under, record: &record{}, control: http.NewResponseController(under)}
		n, err := w.ReadFrom(reader())
		if err != nil || n != size || under.Body.Len() != size || w.record.sent != size || w.record.status != http.StatusOK {
			t.Errorf("%d bytes, %d noted, status %d: %v", n, w.record.sent, w.record.status, err)
		}
		if len(under.parts) < 5 {
			t.Errorf("taken in %d parts: a slow client would seem to have stalled", len(under.parts))
		}
	}
}
