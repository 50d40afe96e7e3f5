package embedded

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// lateReader is the connection of a client that takes nothing until it may.
type lateReader struct {
	*httptest.ResponseRecorder
	asked, may chan struct{}
	once       sync.Once
}

func (w *lateReader) Write(b []byte) (int, error) {
	w.once.Do(func() {
		w.asked <- struct{}{}
		<-w.may
	})
	return w.ResponseRecorder.Write(b)
}

func TestAnswersThatNobodyReadsTakeNoMemoryAndHoldUpNobody(t *testing.T) {
	r := openInside(t)
	config := "{}"
	d := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(config)))
	if w := r.ask("POST", "dev", "/v2/team/app/blobs/uploads/?digest="+d, "", nil); w.Code == http.StatusAccepted {
		at := strings.TrimPrefix(w.Header().Get("Location"), "http://x")
		if w := r.ask("PUT", "dev", at+"&digest="+d, "application/octet-stream", strings.NewReader(config)); w.Code != http.StatusCreated {
			t.Fatal(w.Code, w.Body)
		}
	}
	text := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"a":%q}}`,
		imagespec.MediaTypeImageManifest, d, strings.Repeat("x", 1<<20))
	if w := r.ask("PUT", "dev", "/v2/team/app/manifests/large", imagespec.MediaTypeImageManifest, strings.NewReader(text)); w.Code != http.StatusCreated {
		t.Fatal(w.Code, w.Body)
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	clients := cap(r.reads) + 8
	asked, may := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			q := httptest.NewRequest(http.MethodGet, "http://x/v2/team/app/manifests/large", nil)
			q.SetBasicAuth("dev", "pw-dev")
			w := &lateReader{ResponseRecorder: httptest.NewRecorder(), asked: asked, may: may}
			r.ServeHTTP(w, q)
			if digest.FromBytes(w.Body.Bytes()) != digest.FromString(text) {
				t.Errorf("%d, and %d bytes of something else", w.Code, w.Body.Len())
			}
		})
	}
	for range clients {
		<-asked
	}
	if more := int64(heap()) - int64(before); more > int64(clients)<<18 {
		t.Errorf("%d answers of 1 MiB hold %d MiB", clients, more>>20)
	}
	close(may)
	all.Wait()
	if w := r.ask("HEAD", "dev", "/v2/team/app/manifests/large", "", nil); w.Code != http.StatusOK || w.Header().Get("Content-Length") != fmt.Sprint(len(text)) {
		t.Error(w.Code, w.Header())
	}
}
