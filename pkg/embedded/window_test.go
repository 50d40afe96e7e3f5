package embedded

import (
	"fmt"
	"hash/maphash"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/schema"
)

// Both pushes are decided before either manifest is stored: the first is held
// in between.
func TestAPushUnderWayCountsForTheNext(t *testing.T) {
	limit := schema.Size(1000)
	r := openInside(t, Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindQuota, Name: "team"}, Spec: &schema.Quota{Limit: &limit}}})
	push := func(i int, next http.Handler) int {
		body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","manifests":[],"annotations":{"n":"%s"}}`, imagespec.MediaTypeImageIndex, strings.Repeat(fmt.Sprint(i), 600))
		path := fmt.Sprintf("/v2/team/app%d/manifests/1", i)
		q := httptest.NewRequest(http.MethodPut, path, strings.NewReader(body))
		q.Header.Set("Content-Type", imagespec.MediaTypeImageIndex)
		_, dev := r.store.now().login("dev", r.store.clock())
		v := &visit{target: targetOf(path), who: identity{subject: dev, login: "dev"}, rules: r.store.now().rules}
		w := httptest.NewRecorder()
		r.routeContent(w, q, v, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.guard.serve(w, q, v, next) }))
		return w.Code
	}
	stored := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Content-Digest", digest.FromString("x").String())
		w.WriteHeader(http.StatusCreated)
	})
	inside, goOn, first := make(chan struct{}), make(chan struct{}), make(chan int)
	go func() {
		first <- push(1, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			close(inside)
			<-goOn
			stored.ServeHTTP(w, q)
		}))
	}()
	<-inside
	other := 2 // whose tag does not happen to wait for the first's
	lock := func(i int) uint64 {
		return maphash.String(r.guard.locks.seed, fmt.Sprintf("team/app%d:1", i)) % uint64(len(r.guard.locks.tags))
	}
	for lock(other) == lock(1) {
		other++
	}
	second := push(other, stored)
	close(goOn)
	if one := <-first; one != http.StatusCreated || second != http.StatusForbidden {
		t.Errorf("the first push: %d, the second meanwhile: %d; want 201 and 403", one, second)
	}
}
