//go:build unix

package main

import (
	"io"
	"net/http"
	"strings"
	"sync"
)

// toll notes at a door which blobs are sent, and tells when some requests went by.
type toll struct {
	mu           sync.Mutex
	begun, whole map[string]int // how often, by digest
	bytes        int64
	left         int // requests until due is closed; 0 is never
	due          chan struct{}
}

// after returns what is closed after some more requests, never for none.
func (t *toll) after(requests int) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left, t.due = requests, make(chan struct{})
	return t.due
}

func (t *toll) heard(r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left > 0 {
		if t.left--; t.left == 0 {
			close(t.due)
		}
	}
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") {
		digest := r.URL.Query().Get("digest")
		t.begun[digest]++
		r.Body = &weighed{ReadCloser: r.Body, toll: t, digest: digest, left: r.ContentLength}
	}
}

// count returns how many blobs were begun, and sent whole, more than once, and the bytes
// of all.
func (t *toll) count() (begun, whole int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.begun {
		begun += n - 1
	}
	for _, n := range t.whole {
		whole += n - 1
	}
	return begun, whole, t.bytes
}

// weighed is the body of an upload.
type weighed struct {
	io.ReadCloser
	toll   *toll
	digest string
	left   int64
}

// Read implements [io.Reader].
func (w *weighed) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	w.toll.mu.Lock()
	defer w.toll.mu.Unlock()
	w.toll.bytes += int64(n)
	if w.left -= int64(n); w.left == 0 && n > 0 {
		w.toll.whole[w.digest]++
	}
	return n, err
}
