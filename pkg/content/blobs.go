package content

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/providers"
)

// brought is what is known to lie at a destination, of this run. Each blob is brought by
// one at a time: who wants it elsewhere meanwhile waits, and mounts it.
type brought struct {
	mu    sync.Mutex
	blobs map[v1.Hash]*known
}

type known struct {
	in   []string      // repositories
	busy chan struct{} // closed when who brings it is through; nil: nobody does
}

// have notes that a blob lies in a repository.
func (l *brought) have(repository string, digest v1.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.of(digest); !slices.Contains(k.in, repository) {
		k.in = append(k.in, repository)
	}
}

// knows reports whether a blob was brought anywhere, or is being.
func (l *brought) knows(digest v1.Hash) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.blobs[digest]
	return k != nil && (len(k.in) > 0 || k.busy != nil)
}

// of is what is known of a blob. The lock is held.
func (l *brought) of(digest v1.Hash) *known {
	if l.blobs == nil {
		l.blobs = map[v1.Hash]*known{}
	}
	k := l.blobs[digest]
	if k == nil {
		k = &known{}
		l.blobs[digest] = k
	}
	return k
}

// claim waits until nobody brings a blob, and says whether it lies in a repository by
// then. Where not, the caller is who brings it, and ends with done; from is another
// repository that has it, or "".
func (l *brought) claim(ctx context.Context, repository string, digest v1.Hash) (there bool, from string, err error) {
	for {
		l.mu.Lock()
		k := l.of(digest)
		switch {
		case slices.Contains(k.in, repository):
			l.mu.Unlock()
			return true, "", nil
		case k.busy == nil:
			k.busy = make(chan struct{})
			if len(k.in) > 0 {
				from = k.in[0]
			}
			l.mu.Unlock()
			return false, from, nil
		}
		busy := k.busy
		l.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return false, "", ctx.Err()
		}
	}
}

// done ends a claim.
func (l *brought) done(repository string, digest v1.Hash, brought bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.of(digest)
	if brought {
		k.in = append(k.in, repository)
	}
	close(k.busy)
	k.busy = nil
}

// bring has a blob of a repository of the source in one of the destination.
func (c *Copier) bring(ctx context.Context, source, target string, d v1.Descriptor) (err error) {
	there, from, err := c.blobs.claim(ctx, target, d.Digest)
	if err != nil || there {
		return err
	}
	defer func() {
		c.blobs.done(target, d.Digest, err == nil)
		if err == nil && c.Ledger != nil {
			c.Ledger.NoteBlob(target, d.Digest)
		}
	}()
	if from == "" && c.Ledger != nil {
		from = c.Ledger.Blob(target, d.Digest)
	}
	t := c.Progress.transfer(target, d)
	defer c.Progress.left(t)
	p := c.pools.of(d.Size)
	if err := p.enter(ctx, d.Size); err != nil {
		return err
	}
	defer p.leave()
	for n := 1; ; n++ {
		err = c.send(ctx, source, target, d, from, t)
		var b broke
		if !errors.As(err, &b) || n == attempts {
			return err
		}
		select {
		case <-time.After(max(b.after, firstWait<<(n-1))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// broke is an upload that the registry could not take now.
type broke struct {
	why   error
	after time.Duration // which it asks to be left alone
}

func (b broke) Error() string { return b.why.Error() }

func (b broke) Unwrap() error { return b.why }

// send mounts a blob or uploads it.
func (c *Copier) send(ctx context.Context, source, target string, d v1.Descriptor, from string, t *transfer) error {
	at, mounted, err := c.To.begin(ctx, target, d, from)
	if from != "" && (errors.Is(err, providers.ErrForbidden) || errors.Is(err, providers.ErrUnauthorized) || errors.Is(err, ErrAbsent)) {
		at, mounted, err = c.To.begin(ctx, target, d, "") // the account may not see that repository, or it is gone
	}
	if err != nil {
		return c.To.fail(Reference{Repository: target, Digest: d.Digest}, "opening the upload of", err)
	}
	if mounted {
		c.count(func(r *Moved) { r.Mounted++ })
		c.Progress.arrived(t, true)
		return nil
	}
	body := &stream{ended: ctx.Err, open: func(from int64) (io.ReadCloser, error) { return c.From.blob(ctx, source, d, from) }, want: d, seen: c.Progress.moves(t)}
	if c.limit != nil {
		body.wait = func(n int) error { return c.limit.WaitN(ctx, n) }
	}
	defer body.Close()
	if err := body.begin(); err != nil {
		return c.From.fail(Reference{Repository: source, Digest: d.Digest}, "reading", err)
	}
	err = c.To.upload(ctx, target, at, d, body)
	if body.err != nil { // what the registry says of what came short tells less
		return c.From.fail(Reference{Repository: source, Digest: d.Digest}, "reading", body.err)
	}
	if err != nil {
		return c.To.fail(Reference{Repository: target, Digest: d.Digest}, "uploading", err)
	}
	c.count(func(r *Moved) { r.Blobs, r.Bytes = r.Blobs+1, r.Bytes+d.Size })
	c.Progress.arrived(t, false)
	return nil
}

// upload is an upload that is open at a registry.
type upload struct {
	method string
	url    *url.URL
}

// begin opens an upload, or has the registry mount the blob. A registry that
// cannot mount answers with an upload, so that asking costs nothing (OCI distribution
// specification, "Mounting a blob from another repository"). Where nobody knows who has
// the blob, the repository itself may, left there by a copy that was cut short.
func (r *Registry) begin(ctx context.Context, target string, d v1.Descriptor, from string) (at upload, mounted bool, err error) {
	if from == "" && r.monolithic {
		u := *r.base
		u.Path, u.RawQuery = "/v2/"+target+"/blobs/uploads/", url.Values{"digest": {d.Digest.String()}}.Encode()
		return upload{http.MethodPost, &u}, false, nil
	}
	if from == "" && !r.pushOnly.Load() {
		at, mounted, err = r.open(ctx, target, d, target)
		switch {
		case errors.Is(err, providers.ErrForbidden), errors.Is(err, providers.ErrUnauthorized):
			if noProject(err) {
				return at, mounted, err
			}
			r.pushOnly.Store(true) // mounting takes pull, and this account may only push
		case !errors.Is(err, ErrAbsent): // Harbor says so of one that came, and no manifest after it
			return at, mounted, err
		}
	}
	return r.open(ctx, target, d, from)
}

func (r *Registry) open(ctx context.Context, target string, d v1.Descriptor, from string) (at upload, mounted bool, err error) {
	query, scopes := url.Values{}, r.scope(target)
	if from != "" {
		query = url.Values{"mount": {d.Digest.String()}, "from": {from}}
	}
	if from != "" && from != target {
		scopes = append(scopes, pullScope(from))
	}
	req, err := r.request(ctx, http.MethodPost, target+"/blobs/uploads/", query)
	if err != nil {
		return upload{}, false, err
	}
	req.ContentLength = 0
	resp, err := r.send(req, scopes, http.StatusAccepted, http.StatusCreated)
	if err != nil {
		return upload{}, false, err
	}
	drain(resp)
	if resp.StatusCode == http.StatusCreated {
		if from == "" {
			return upload{}, false, errors.New("it says that it stored what was not sent yet")
		}
		return upload{}, true, nil
	}
	to, err := r.base.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return upload{}, false, errors.New("it does not say where the upload goes on")
	}
	q := to.Query()
	q.Set("digest", d.Digest.String())
	to.RawQuery = q.Encode()
	return upload{http.MethodPut, to}, false, nil
}

// upload sends a blob whole. A broke tells of one that may be tried again.
func (r *Registry) upload(ctx context.Context, repository string, at upload, d v1.Descriptor, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, at.method, at.url.String(), io.NopCloser(body))
	if err != nil {
		return err
	}
	req.ContentLength = d.Size
	if d.Size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := r.send(req, r.scope(repository), http.StatusCreated, http.StatusNoContent)
	switch a := (*answer)(nil); {
	case err == nil:
		drain(resp)
		return nil
	case ctx.Err() != nil, !errors.Is(err, providers.ErrUnreachable):
		return err
	case errors.As(err, &a):
		return broke{err, a.after}
	}
	return broke{err, 0}
}

// stream reads a blob and checks it on the way: what is not whole, or not what its
// digest says, ends with an error in the place of its end, so that no registry stores
// it. A connection that breaks is opened anew where it broke.
type stream struct {
	open  func(from int64) (io.ReadCloser, error)
	ended func() error      // nil as long as it is wanted
	wait  func(n int) error // until so many bytes may have been read; nil: always
	want  v1.Descriptor
	seen  *atomic.Int64 // is told of the bytes that were read; nil: nobody is

	body  io.ReadCloser
	sum   hash.Hash
	read  int64
	tries int
	err   error // why it is not what was wanted
}

func (s *stream) begin() (err error) {
	if s.sum, err = v1.Hasher(s.want.Digest.Algorithm); err != nil {
		return fmt.Errorf("%w: %w", ErrDigest, err)
	}
	if s.want.Size == 0 {
		return s.whole()
	}
	s.body, err = s.open(0)
	return err
}

// whole checks what was read to its end.
func (s *stream) whole() error {
	if got := fmt.Sprintf("%x", s.sum.Sum(nil)); got != s.want.Digest.Hex {
		s.err = fmt.Errorf("%w: what comes has %s:%s", ErrDigest, s.want.Digest.Algorithm, got)
	}
	return s.err
}

// Read implements [io.Reader].
func (s *stream) Read(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.read == s.want.Size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), s.want.Size-s.read)]
	if s.wait != nil {
		b = b[:min(len(b), burst)]
	}
	n, err := s.body.Read(b)
	if s.wait != nil && n > 0 {
		if s.err = s.wait(n); s.err != nil {
			return 0, s.err
		}
	}
	s.read += int64(n)
	if s.seen != nil {
		s.seen.Add(int64(n))
	}
	s.sum.Write(b[:n])
	if s.read == s.want.Size {
		if err := s.whole(); err != nil {
			return 0, err // its last bytes are never sent
		}
		return n, nil
	}
	if err != nil {
		if err = s.again(err); err != nil {
			s.err = err
			return n, err
		}
	}
	return n, nil
}

// again opens it where it broke.
func (s *stream) again(why error) error {
	s.body.Close()
	for s.ended() == nil && s.tries < attempts {
		s.tries++
		body, err := s.open(s.read)
		if err == nil {
			s.body = body
			return nil
		}
		why = err
		if !errors.Is(err, providers.ErrUnreachable) {
			break
		}
	}
	s.body = io.NopCloser(nil)
	if err := s.ended(); err != nil {
		return err
	}
	if errors.Is(why, io.EOF) || errors.Is(why, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends after %d of %d bytes", ErrDigest, s.read, s.want.Size)
	}
	return why
}

// Close implements [io.Closer].
func (s *stream) Close() error {
	if s.body == nil {
		return nil
	}
	return s.body.Close()
}
