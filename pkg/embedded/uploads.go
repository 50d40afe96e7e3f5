package embedded

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/quota"
	"github.com/ocisync/ocisync/schema"
)

// What a refused client may still send before it is cut off: most read an
// answer only after they have sent all.
const (
	maxDrain  = 16 << 20
	drainTime = 10 * time.Second
)

// mount counts a blob that comes from another repository. Where the visitor
// may not pull it there, or it is not there, an upload starts, or none does.
func (p *passage) mount(rules *access.Rules) {
	d, err := digest.Parse(p.q.URL.Query().Get("mount"))
	from := p.q.URL.Query().Get("from")
	if err == nil && d.Algorithm() != digest.Canonical {
		// Distribution would say that it is mounted, and mount nothing.
		p.q = p.q.Clone(p.q.Context())
		query := p.q.URL.Query()
		query.Del("mount")
		query.Del("from")
		p.q.URL.RawQuery, p.q.Form = query.Encode(), nil
		p.pass()
		return
	}
	l, over := p.ledger()
	defer over()
	if err != nil || l == nil || !p.who.may(rules, schema.Pull, from) {
		p.pass()
		return
	}
	ctx := context.WithoutCancel(p.q.Context())
	size, there, err := p.mountable(ctx, from, d)
	switch {
	case err != nil:
		p.w.refuse(err)
		return
	case !there:
		p.pass()
		return
	}
	if err := l.BeginBlob(ctx, p.at.view(), p.policy.limit, d, size); err != nil {
		p.w.refuse(err)
		return
	}
	p.pass()
	var stored digest.Digest
	if p.w.status == http.StatusCreated {
		stored = d
		l.Relies(p.sender(), d, p.began)
	}
	l.EndBlob(p.repository, d, stored, size)
}

func (p *passage) mountable(ctx context.Context, from string, d digest.Digest) (int64, bool, error) {
	if _, ok, err := p.storage.Layer(ctx, from, d); err != nil || !ok {
		return 0, false, err
	}
	b, ok, err := p.storage.Blob(ctx, d)
	return b.Size, ok, err
}

// unfinished is the upload that the request is about.
func (p *passage) unfinished() quota.Upload {
	return quota.Upload{Repository: p.repository, ID: p.upload}
}

// goOn passes on a request about an upload that has begun, and keeps count of
// it.
func (p *passage) goOn() {
	uploads := p.ledgers.Uploads
	k := p.unfinished()
	sends := p.patch
	switch p.q.Method {
	case http.MethodPatch:
	case http.MethodPut:
		sends = p.commit
	case http.MethodDelete:
		p.cancel()
		if p.w.status < http.StatusBadRequest {
			uploads.End(k)
		}
		return
	default:
		p.pass()
		return
	}
	if !uploads.Begin(k, p.sender()) {
		ociError(p.w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "the upload was left alone and gave way to others; begin it anew")
		return
	}
	sent := &sentBody{ReadCloser: p.q.Body}
	p.q.Body = sent
	sends()
	if p.w.status == http.StatusInternalServerError && sent.size > 0 && !sent.cut { // the disk may be full: what came of it serves nobody
		p.abandon()
	}
	p.cut = sent.cut
	size := p.stored
	if !p.storage.InBucket() {
		if n, err := p.storage.Uploaded(context.WithoutCancel(p.q.Context()), p.repository, p.upload); err == nil {
			size = n
		}
	}
	if size > 0 && p.w.status != http.StatusCreated && !p.abandoned {
		uploads.Leave(k, size)
	} else { // an upload without content is no burden, and is known again when it goes on
		uploads.End(k)
	}
}

// sentBody tells whether the client is the reason where a body was not stored.
type sentBody struct {
	io.ReadCloser
	size int64
	cut  bool // reading it failed
}

// Read implements [io.Reader].
func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.size += int64(n)
	b.cut = b.cut || err != nil && !errors.Is(err, io.EOF)
	return n, err
}

// cancel ends an upload, also for a client that does not know how much of it came:
// after a part that failed it has no other address than the former one, which
// Distribution checks to be the upload's before it refuses the size in it.
func (p *passage) cancel() {
	answer := &afterwards{ResponseWriter: p.w}
	p.next.ServeHTTP(answer, p.q)
	if answer.status != http.StatusRequestedRangeNotSatisfiable {
		answer.send()
		return
	}
	p.w.Header().Del("Content-Type")
	if err := p.storage.RemoveUpload(context.WithoutCancel(p.q.Context()), p.repository, p.upload); err != nil {
		p.w.refuse(err)
		return
	}
	p.w.WriteHeader(http.StatusNoContent)
}

// patch lets no more of a blob in than there can be room for; whether there is
// is known when the blob's digest is.
func (p *passage) patch() {
	l, over := p.ledger()
	defer over()
	if l == nil {
		p.pass()
		return
	}
	if came, ok := p.arrived(l); ok {
		p.bound(l, came, nil)
	}
}

// arrived returns how much of the upload there is.
func (p *passage) arrived(l *quota.Ledger) (int64, bool) {
	ctx := context.WithoutCancel(p.q.Context())
	came, err := p.storage.Uploaded(ctx, p.repository, p.upload)
	if err == nil {
		err = l.Known(ctx, p.at.view())
	}
	if err != nil {
		p.w.refuse(err)
	}
	return came, err == nil
}

// bound passes the request on with a body that ends with an error where it
// would grow beyond what there can be room for, or where whole, which is told
// how much there is when all of it has come and may be nil, has one.
func (p *passage) bound(l *quota.Ledger, came int64, whole func(size int64) error) {
	full := func(needs int64) error { return l.TooLarge(p.policy.limit, needs) }
	body := p.q.Body
	p.stored = came
	if n := p.q.ContentLength; n >= 0 {
		if total := came + n; total > l.Room(p.policy.limit, total) && !p.continues(l, came, total) {
			p.w.Header().Set("Connection", "close")
			p.drain(body)
			p.abandon()
			p.w.refuse(full(total))
			return
		}
	}
	b := &bounded{ReadCloser: body, came: came, room: l.Room(p.policy.limit, 0), most: math.MaxInt64, whole: whole}
	b.more = func() int64 { return l.Room(p.policy.limit, -1) }
	if n := p.q.ContentLength; n > 0 {
		b.most, p.announced = came+n, came+n
	}
	if p.q.ContentLength != 0 { // it takes its room as it comes: a slow one holds no more than it sent
		b.admit = func(size int64) error {
			p.stored = size
			return p.admitted(l, size)
		}
	}
	p.q.Body = b
	p.w.refusal = func() error {
		if b.full != nil {
			p.drain(body)
			return b.full
		}
		if !b.over {
			return nil
		}
		p.drain(body)
		return full(b.came)
	}
	p.pass()
	if b.over || b.full != nil && (came == 0 || whole != nil) {
		p.abandon()
	}
}

const (
	// uploadPatience is how long an upload waits for room.
	uploadPatience = 30 * time.Second
	// maxCollections is how often one part of it has garbage collected.
	maxCollections = 3
)

// admitted waits until an upload has room for so many bytes in all, or returns
// [*quota.Error].
func (p *passage) admitted(l *quota.Ledger, size int64) error {
	ctx, cancel := context.WithTimeout(p.q.Context(), uploadPatience)
	defer cancel()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for tries := 0; ; {
		next := p.ledgers.Uploads.Next()
		wait, gone, short := l.Admit(p.at.view(), p.policy.limit, p.unfinished(), size, p.announced, tries < maxCollections)
		if short == nil {
			return nil
		}
		if len(gone) > 0 && p.remove(gone) {
			continue
		}
		if short.Yields {
			tries++
			if p.collect != nil && p.collect(ctx) {
				if err := l.Known(context.WithoutCancel(p.q.Context()), p.at.view()); err != nil {
					return err
				}
				continue
			}
		}
		err := error(short)
		if !wait {
			return err
		}
		select {
		case <-next:
		case <-look.C:
		case <-ctx.Done():
			return err
		}
	}
}

// remove removes uploads that give way, and reports whether all have gone.
func (p *passage) remove(gone []quota.Upload) bool {
	all := true
	for _, k := range gone {
		if err := p.storage.RemoveUpload(context.WithoutCancel(p.q.Context()), k.Repository, k.ID); err != nil {
			p.ledgers.Uploads.Keep(k)
			all = false
			continue
		}
		p.ledgers.Uploads.End(k)
	}
	return all
}

// abandon removes an upload that was refused. What stays behind goes with a
// collection, when it is a day old.
func (p *passage) abandon() {
	p.abandoned = true
	p.storage.RemoveUpload(context.WithoutCancel(p.q.Context()), p.repository, p.upload) //nolint:errcheck // purged later
}

// continues reports whether a part of an upload may be part of a blob that the
// namespace has: one that came whole would have its size.
func (p *passage) continues(l *quota.Ledger, came, total int64) bool {
	partly := came > 0 || p.q.Header.Get("Content-Range") != ""
	return partly && total <= l.Room(p.policy.limit, -1)
}

// drain reads on for a while, so that the client gets to read the answer.
func (p *passage) drain(body io.Reader) {
	if p.q.Header.Get("Expect") != "" {
		return // it waits for the answer, and sends nothing
	}
	done := make(chan struct{})
	enough := time.AfterFunc(drainTime, func() { // whatever deadline reading sets itself
		defer close(done)
		http.NewResponseController(p.w).SetReadDeadline(p.now()) //nolint:errcheck // then it is only the size that bounds
	})
	io.CopyN(io.Discard, body, maxDrain) //nolint:errcheck // the client is refused anyway
	if !enough.Stop() {
		<-done
	}
}

// bounded is a body that fails once an upload is larger than there is room.
type bounded struct {
	io.ReadCloser
	came, room int64
	more       func() int64 // the room where it may be a blob that is there
	asked      bool
	over       bool
	most       int64 // as announced
	// admit is asked before more is read. It may wait: after the last byte the reader is in the gate.
	admit    func(size int64) error
	admitted int64
	whole    func(size int64) error // is told of the end; may be nil
	full     error                  // that admit or whole returned
}

// Read implements [io.Reader].
func (b *bounded) Read(p []byte) (int, error) {
	if to := min(b.came+int64(len(p)), b.room, b.most); b.admit != nil && to > b.admitted {
		if b.full = b.admit(to); b.full != nil {
			return 0, io.ErrUnexpectedEOF
		}
		b.admitted = to
	}
	n, err := b.ReadCloser.Read(p)
	b.came += int64(n)
	if b.came > b.room && !b.asked {
		b.asked, b.room = true, b.more()
	}
	if b.came > b.room {
		b.over = true
		return 0, io.ErrUnexpectedEOF
	}
	if errors.Is(err, io.EOF) && b.whole != nil {
		whole := b.whole
		b.whole = nil
		if b.full = whole(b.came); b.full != nil {
			return 0, io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// bulk is a body of which so much is passed on at once as the connection has,
// up to 256 KiB; Distribution by itself takes 32 KiB.
type bulk struct {
	io.ReadCloser
	size int64 // below 0: unknown
}

// WriteTo implements [io.WriterTo].
func (b bulk) WriteTo(w io.Writer) (int64, error) {
	n := int64(256 << 10)
	if b.size >= 0 {
		n = min(n, b.size+1) // one more, to see the end
	}
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{b.ReadCloser}, make([]byte, n))
}

// commit makes room for a blob whose digest is known now. What it announces it
// may never send: that takes its room as it comes, and becomes a blob that waits
// when all of it has. What was sent before does so at once.
func (p *passage) commit() {
	d, err := digest.Parse(p.q.URL.Query().Get("digest"))
	l, over := p.ledger()
	defer over()
	if err != nil || l == nil {
		p.pass()
		return
	}
	came, ok := p.arrived(l)
	if !ok {
		return
	}
	ctx := context.WithoutCancel(p.q.Context())
	var size int64
	begun := false
	whole := func(all int64) error {
		if err := l.BeginBlob(ctx, p.at.view(), p.policy.limit, d, all); err != nil {
			return err
		}
		size, begun = all, true
		p.ledgers.Uploads.Take(p.unfinished(), 0) // it is counted as waiting
		return nil
	}
	later := whole
	if p.q.ContentLength == 0 {
		err, later = whole(came), nil
	} else {
		err = l.MayHold(p.policy.limit, d, came+max(p.q.ContentLength, 0))
	}
	if err != nil {
		p.w.refuse(err)
		if !p.mayComeAgain() {
			p.drain(p.q.Body)
			p.abandon()
		}
		return
	}
	p.bound(l, came, later)
	if !begun {
		return
	}
	var stored digest.Digest
	if p.w.status == http.StatusCreated {
		stored = d
		if is, err := digest.Parse(p.w.Header().Get("Docker-Content-Digest")); err == nil {
			stored = is // of another algorithm than the client's
		}
		if b, ok, err := p.storage.Blob(ctx, stored); err == nil && ok {
			size = b.Size
		}
	}
	if stored != "" {
		l.Relies(p.sender(), stored, p.began)
	}
	l.EndBlob(p.repository, d, stored, size)
}
