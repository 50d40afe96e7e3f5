package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// cut answers a request for a blob with what the blob has from a place on, and breaks
// off after some bytes of it.
func cut(body []byte, after int) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
		}
		rest := body[from:]
		w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(rest[:min(after, len(rest))])
		if after < len(rest) {
			panic(http.ErrAbortHandler)
		}
	}
}

// TestABlobThatBreaksOffGoesOnWhereItBroke: the upload is not begun anew.
func TestABlobThatBreaksOffGoesOnWhereItBroke(t *testing.T) {
	from, to := serve(t), serve(t)
	body := layer(1, 100_000)
	fill{t, from}.image("a", "v1", body)
	var asked atomic.Int64
	from.between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digestOf(body).String()) {
			return false
		}
		asked.Add(1)
		cut(body, 40_000)(w, r)
		return true
	})
	c := &Copier{From: from.open(t), To: to.open(t)}
	items := []Item{{Source: "a", Target: "b"}}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 1 || asked.Load() != 3 || to.asked["PUT uploads"] != 2 {
		t.Errorf("%+v: asked %d times, uploaded %d", got, asked.Load(), to.asked["PUT uploads"])
	}
	same(t, c.From, c.To, items)
}

// TestWhatIsNotWhatItsDigestSaysIsNotTagged, and the rest goes on.
func TestWhatIsNotWhatItsDigestSaysIsNotTagged(t *testing.T) {
	body := layer(1, 5000)
	answer := func(b []byte, length int) func(w http.ResponseWriter, r *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(length))
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			_, _ = w.Write(b)
		}
	}
	for name, tc := range map[string]struct {
		blob bool
		with func(w http.ResponseWriter, r *http.Request)
		want error
	}{
		"other bytes":        {true, answer(layer(2, 5000), 5000), ErrDigest},
		"fewer":              {true, answer(body[:4000], 4000), ErrDigest},
		"fewer than it says": {true, answer(body[:4000], 5000), nil},
		"more":               {true, answer(layer(1, 6000), 6000), ErrDigest},
		"more than it says": {true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Transfer-Encoding", "chunked")
			_, _ = w.Write(append(layer(3, 5000), 'x'))
		}, ErrDigest},
		"a web page": {true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprint(w, "<html>sign in")
		}, ErrDigest},
		"nothing": {true, func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }, ErrAbsent},
		"a web page for all": {false, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprint(w, "<html>sign in")
		}, ErrManifest},
		"another manifest": {false, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", digestOf(body).String())
			_, _ = fmt.Fprint(w, `{"schemaVersion":2,"config":null,"layers":[]}`)
		}, ErrDigest},
		"a number": {false, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `7`) }, ErrManifest},
		"Docker's first": {false, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema1))
			_, _ = fmt.Fprint(w, `{"schemaVersion":1,"fsLayers":[]}`)
		}, ErrManifest},
		"one that is endless": {false, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(zeros{}, maxManifest+2))
		}, nil},
		"negative lengths": {false, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"size":-1},"layers":[]}`, types.OCIManifestSchema1, digestOf(body))
		}, ErrManifest},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := serve(t), serve(t)
			fill{t, from}.image("a", "v1", body)
			fill{t, from}.image("a", "v2", layer(7, 100))
			from.between(func(w http.ResponseWriter, r *http.Request) bool {
				hit := strings.HasSuffix(r.URL.Path, digestOf(body).String())
				if !tc.blob {
					hit = r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/manifests/v1")
				}
				if hit {
					tc.with(w, r)
				}
				return hit
			})
			c := &Copier{From: from.open(t), To: to.open(t)}
			got := c.tally(t.Context(), []Item{{Source: "a", Target: "b"}})
			if got.copied != 1 || len(got.failed) != 1 || got.failed[0].Source.Tag != "v1" || tc.want != nil && !errors.Is(got.err, tc.want) {
				t.Fatalf("%+v", got)
			}
			err := got.err
			var own *providers.Error
			if !errors.As(err, &own) || own.Registry != from.URL || !strings.Contains(err.Error(), " a") {
				t.Errorf("the error does not say what: %v", err)
			}
			if tags, _, err := c.To.Tags(t.Context(), "b"); err != nil || len(tags) != 1 || tags[0] != "v2" {
				t.Errorf("the target has %q, %v", tags, err)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// TestATargetThatTakesNothingIsSaid, once for each tag, with what it answered.
func TestATargetThatTakesNothingIsSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		method string
		code   int
		body   string
		says   string
	}{
		"read-only": {http.MethodPost, http.StatusMethodNotAllowed, `{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}`, "UNSUPPORTED"},
		"denied":    {http.MethodPost, http.StatusForbidden, `{"errors":[{"code":"DENIED"}]}`, "DENIED"},
		"full":      {http.MethodPut, http.StatusInsufficientStorage, "no space left on device", "no space left"},
		"a quota":   {http.MethodPut, http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"quota of 1 MiB"}]}`, "quota of 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := serve(t), serve(t)
			fill{t, from}.image("a", "v1", layer(1, 100))
			to.between(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == tc.method {
					w.WriteHeader(tc.code)
					_, _ = fmt.Fprint(w, tc.body)
				}
				return r.Method == tc.method
			})
			c := &Copier{From: from.open(t), To: to.open(t)}
			got := c.tally(t.Context(), []Item{{Source: "a", Target: "b"}, {Source: "gone", Target: "c"}})
			err := got.err
			if got.copied > 0 || len(got.failed) != 2 || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), to.URL) {
				t.Errorf("%+v, %v", got, err)
			}
			if !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "gone") {
				t.Errorf("a repository that is not there is not said: %v", err)
			}
		})
	}
}

// TestTooManyRequestsAreAskedAgain, with fewer at once, and nothing is sent twice that
// was stored.
func TestTooManyRequestsAreAskedAgain(t *testing.T) {
	from, to := serve(t), serve(t)
	items, _, blobs := corpus(t, from, 4, 3)
	storm := func() func(w http.ResponseWriter, r *http.Request) bool {
		var n atomic.Int64
		var refused sync.Map // a request that is refused again and again is given up
		return func(w http.ResponseWriter, r *http.Request) bool {
			times, _ := refused.LoadOrStore(r.Method+r.URL.Path, new(atomic.Int64))
			count, ok := times.(*atomic.Int64)
			if n.Add(1)%3 != 0 || !ok || count.Add(1) > 3 {
				return false
			}
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
	}
	from.between(storm())
	to.between(storm())
	c := &Copier{From: from.open(t), To: to.open(t)}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 12 || got.moved.Blobs != blobs {
		t.Errorf("%+v", got)
	}
	from.between(nil)
	to.between(nil)
	same(t, c.From, c.To, items)
}

// TestACopyThatEndsAnywhereIsBroughtToItsEnd: whatever request is the last one, the
// next run completes.
func TestACopyThatEndsAnywhereIsBroughtToItsEnd(t *testing.T) {
	from := serve(t)
	items, _, _ := corpus(t, from, 2, 2)
	for last := 1; ; last++ {
		to := serve(t)
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		to.between(func(http.ResponseWriter, *http.Request) bool {
			if n.Add(1) >= int64(last) {
				cancel()
			}
			return false
		})
		first := (&Copier{From: from.open(t), To: to.open(t)}).tally(ctx, items)
		over := first.copied == 4
		if first.err != nil {
			t.Fatalf("after %d requests: %v", last, first.err)
		}
		cancel()
		to.between(nil)
		c := &Copier{From: from.open(t), To: to.open(t)}
		if again := c.tally(t.Context(), items); again.err != nil || again.copied+again.same != 4 {
			t.Fatalf("after %d requests, again: %+v", last, again)
		}
		same(t, c.From, c.To, items)
		if over {
			break
		}
	}
}

// TestALoginStaysWithItsHost: a registry that names a token service elsewhere, or sends
// an upload elsewhere, gets nothing from us there.
func TestALoginStaysWithItsHost(t *testing.T) {
	var seen atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		t.Errorf("somebody else is asked %s %s with %q", r.Method, r.URL, r.Header.Get("Authorization"))
	}))
	defer thief.Close()
	from, to := serve(t), serve(t)
	fill{t, from}.image("a", "v1", layer(1, 100))
	rt, err := oci.Transport(schema.TLS{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.CloseIdleConnections()
	for name, between := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"a token service": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Www-Authenticate", `Bearer realm="`+thief.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		},
		"an upload": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			w.Header().Set("Location", thief.URL+"/v2/b/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
			return true
		},
	} {
		to.between(between)
		target, err := Open(Endpoint{URL: to.URL, Transport: rt, Auth: &authn.Basic{Username: "u", Password: "secret-word"}})
		if err != nil {
			t.Fatal(err)
		}
		got := (&Copier{From: from.open(t), To: target}).tally(t.Context(), []Item{{Source: "a", Target: "b"}})
		if got.err == nil || got.copied > 0 || seen.Load() > 0 || strings.Contains(got.err.Error(), "secret-word") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestIndexesAndWhatRefersToThemComeAlong, with every digest as it was.
func TestIndexesAndWhatRefersToThemComeAlong(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Annotations: map[string]string{"a": "b"}}
	for n := range 3 {
		index.Manifests = append(index.Manifests, f.image("a", fmt.Sprintf("part%d", n), layer(uint64(n), 500)))
	}
	outer := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{f.manifest("a", "", index), index.Manifests[0]}}
	f.manifest("a", "all", outer)
	c := &Copier{From: from.open(t), To: to.open(t)}
	items := []Item{{Source: "a", Target: "deep/er/b", Tags: []string{"all"}}}
	got := c.tally(t.Context(), items)
	if got.err != nil || got.copied != 1 || got.moved.Blobs != 6 || to.asked["PUT manifests"] != 5 {
		t.Errorf("%+v, %v", got, to.asked)
	}
	if tags, _, err := c.To.Tags(t.Context(), "deep/er/b"); err != nil || len(tags) != 1 {
		t.Errorf("%q, %v", tags, err)
	}
}

// A source that knows no ranges sends all of a blob again: what came before is not sent
// twice.
func TestASourceWithoutRangesIsReadFromTheStart(t *testing.T) {
	from, to := serve(t), serve(t)
	body := layer(1, 100_000)
	fill{t, from}.image("a", "v1", body)
	var asked atomic.Int64
	from.between(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digestOf(body).String()) {
			return false
		}
		r.Header.Del("Range")
		after := 40_000
		switch asked.Add(1) {
		case 2:
			after = 30_000 // before it comes to what is new
		case 3:
			after = len(body)
		}
		cut(body, after)(w, r)
		return true
	})
	c := &Copier{From: from.open(t), To: to.open(t)}
	items := []Item{{Source: "a", Target: "b"}}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != 1 || asked.Load() != 3 || to.asked["PUT uploads"] != 2 {
		t.Errorf("%+v: asked %d times, uploaded %d", got, asked.Load(), to.asked["PUT uploads"])
	}
	same(t, c.From, c.To, items)
}

// No error has the content of somebody's blob in it, whatever a source answers in its place.
func TestAnErrorHasNoContentOfABlob(t *testing.T) {
	body := append([]byte("private words "), layer(1, 5000)...)
	for name, with := range map[string]func(w http.ResponseWriter, r *http.Request){
		"cut each time": func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			cut(body, 3000)(w, r)
		},
		"with another status": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
			_, _ = w.Write(body)
		},
		"as an error": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write(body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := serve(t), serve(t)
			fill{t, from}.image("a", "v1", body)
			from.between(func(w http.ResponseWriter, r *http.Request) bool {
				hit := strings.HasSuffix(r.URL.Path, digestOf(body).String())
				if hit {
					with(w, r)
				}
				return hit
			})
			c := &Copier{From: from.open(t), To: to.open(t)}
			got := c.tally(t.Context(), []Item{{Source: "a", Target: "b"}})
			if got.err == nil || strings.Contains(got.err.Error(), "private") || len(got.err.Error()) > 500 {
				t.Errorf("%v", got.err)
			}
		})
	}
}

// What a registry says of an error is told in few printable words.
func TestWhatARegistrySaysIsToldInFewWords(t *testing.T) {
	from := serve(t)
	for kind, says := range map[string]string{
		"application/json": `{"errors":[{"code":"DENIED","message":"no\u001b[31m way ` + strings.Repeat("x", 5000) + `"}]}`,
		"text/plain":       "no\x1b[31m way \xff" + strings.Repeat("x", 5000),
	} {
		from.between(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, says)
			return true
		})
		_, _, err := from.open(t).Tags(t.Context(), "a")
		if err == nil || !strings.Contains(err.Error(), " way xxx") || strings.Contains(err.Error(), "\x1b") || !utf8.ValidString(err.Error()) || len(err.Error()) > 500 {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
