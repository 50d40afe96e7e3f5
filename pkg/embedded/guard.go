package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/quota"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/schema"
)

// guard stands before Distribution: it refuses what a quota or an immutable tag
// forbids, and writes down who pushed and when what was pulled. A refusal is
// 403 with code DENIED, which Docker, containerd, crane and skopeo take as
// final and print with its message; 413 says the same to none of them.
type guard struct {
	storage *storage.Storage
	ledgers *quota.Ledgers
	times   *times
	store   *store
	locks   *tagLocks
	now     func() time.Time
	logger  *slog.Logger
	collect func(context.Context) bool // collects garbage soon, and waits for that; may be nil
}

// openGuard starts to keep times. The caller holds the directory's lock.
func openGuard(ctx context.Context, data string, s *storage.Storage, st *store, logger *slog.Logger) (*guard, error) {
	g := &guard{
		storage: s, store: st, locks: newTagLocks(), now: time.Now, times: newTimes(data, logger),
		ledgers: quota.NewLedgers(s), logger: logger,
	}
	return g, openTimes(context.WithoutCancel(ctx), g.times, s)
}

func (g *guard) close() error { return g.times.close(context.Background(), g.storage) }

// serve answers a request whose login was checked. Whether it is allowed at
// all is for next to say: where the visitor lacks the right, nothing is looked
// at here.
func (g *guard) serve(w http.ResponseWriter, q *http.Request, v *visit, next http.Handler) {
	t := v.target
	if t.repository == "" || access.In(access.Reserved, t.repository) {
		next.ServeHTTP(w, q)
		return
	}
	p := &passage{guard: g, visit: v, next: next, w: &answer{ResponseWriter: w, logger: g.logger}, q: q, at: g.store.now(), began: g.now()}
	p.namespace, p.policy = p.at.policyOf(t.repository)
	may := func(right schema.Rights) bool { return v.who.may(v.rules, right, t.repository) }
	if p.policy.limited && q.Method != http.MethodGet && may(schema.Pull|schema.Push) {
		depart := p.ledgers.Of(p.namespace, true).Arrive(p.sender())
		defer func() { depart(p.w.status == http.StatusForbidden && !p.mayComeAgain() || p.cut) }()
	}
	switch {
	case t.of == "manifest" && q.Method == http.MethodGet:
		p.pull()
	case v.pushed != nil && may(schema.Pull|schema.Push):
		p.putManifest()
	case t.of == "manifest" && q.Method == http.MethodDelete && may(schema.Delete):
		p.deleteManifest()
	case t.of == "blob" && q.Method == http.MethodDelete && may(schema.Delete):
		p.deleteBlob()
	case t.of == "blob" && q.Method == http.MethodHead && p.policy.limited && may(schema.Pull|schema.Push):
		p.lookForBlob()
	case t.of == "upload" && t.upload == "" && q.Method == http.MethodPost && may(schema.Pull|schema.Push):
		p.mount(v.rules)
	case t.upload != "" && may(schema.Pull|schema.Push):
		p.goOn()
	default:
		p.pass()
	}
	v.short, v.again = p.w.short, p.mayComeAgain()
}

// passage is one request on its way past the guard.
type passage struct {
	*guard
	*visit
	next      http.Handler
	w         *answer
	q         *http.Request
	at        *snapshot
	namespace string
	policy    policy
	// of an upload: how much there is of it, as far as is known, how much there
	// will be if that was announced, and whether it was removed
	stored, announced int64
	abandoned         bool
	cut               bool // its sender broke it off
	began             time.Time
}

// sender is who sends the request.
func (p *passage) sender() quota.Sender {
	s := quota.Sender{Account: p.who.String(), Address: clientOf(p.q), Repository: p.repository}
	if p.who.token {
		s.Token = sha256.Sum256([]byte(p.q.Header.Get("Authorization")))
	}
	return s
}

// mayComeAgain reports whether the request was refused for want of room that a
// collection makes, and can be answered anew.
func (p *passage) mayComeAgain() bool {
	return p.w.yields && p.q.ContentLength == 0 && !p.retried
}

// lookForBlob tells who may push whether a blob is there, which he will not send then.
func (p *passage) lookForBlob() {
	if d, err := digest.Parse(p.reference); err == nil {
		if d, err = p.storage.Content(context.WithoutCancel(p.q.Context()), p.repository, d); err == nil {
			p.ledgers.Of(p.namespace, true).Relies(p.sender(), d, p.began)
		}
	}
	p.pass()
}

func (p *passage) pass() {
	// before each part Distribution asks how much is stored, which a bucket
	// tells only of parts that are complete
	if p.of == "upload" && p.q.ContentLength != 0 && !p.storage.InBucket() {
		p.q.Body = bulk{p.q.Body, p.q.ContentLength}
	}
	p.next.ServeHTTP(p.w, p.q)
}

// answer notes the status, and replaces a failure by the refusal that is its
// cause.
type answer struct {
	http.ResponseWriter
	status  int
	refusal func() error // may be nil, and return nil
	refused bool
	short   bool // for want of room
	yields  bool // that a collection makes
	logger  *slog.Logger
}

// Unwrap lets [http.ResponseController] reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	if a.status != 0 || a.refused {
		return
	}
	if status >= http.StatusBadRequest && a.refusal != nil {
		if err := a.refusal(); err != nil {
			a.refuse(err)
			return
		}
	}
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 && !a.refused {
		a.WriteHeader(http.StatusOK)
	}
	if a.refused {
		return len(b), nil
	}
	return a.ResponseWriter.Write(b)
}

// refuse answers with the reason: 403 and DENIED, 400 of an index, 500 for a failure.
func (a *answer) refuse(err error) {
	a.refused = true
	a.status = http.StatusForbidden
	var short *quota.Error
	var fixed fixedError
	var incomplete incompleteError
	type entry struct {
		Code    string     `json:"code"`
		Message string     `json:"message"`
		Detail  *refusalOf `json:"detail,omitempty"`
	}
	e := entry{Code: "DENIED", Message: err.Error()}
	switch {
	case errors.As(err, &short):
		a.short, a.yields = true, short.Yields
		e.Detail = &refusalOf{Reason: "quota", Namespace: short.Namespace, Limit: short.Limit, Used: short.Used, Waiting: short.Waiting, Uploading: short.Uploading, Needs: short.Needs}
	case errors.As(err, &fixed):
		e.Detail = &refusalOf{Reason: "immutable", Tag: fixed.tag}
	case errors.As(err, &incomplete):
		a.status, e.Code = http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN"
	default:
		a.logger.Error("the storage cannot be looked at", "error", err)
		a.status = http.StatusInternalServerError
		e = entry{Code: "UNKNOWN", Message: "the registry could not look at its storage"}
	}
	writeJSON(a.ResponseWriter, a.status, struct {
		Errors []entry `json:"errors"`
	}{[]entry{e}})
}

// refusalOf is the detail of a refusal; sizes are bytes.
type refusalOf struct {
	Reason    string `json:"reason"`
	Namespace string `json:"namespace,omitempty"`
	Limit     int64  `json:"limit,omitempty"`
	Used      int64  `json:"used,omitempty"`
	Waiting   int64  `json:"waiting,omitempty"`
	Uploading int64  `json:"uploading,omitempty"`
	Needs     int64  `json:"needs,omitempty"`
	Tag       string `json:"tag,omitempty"`
}

// ledger returns the namespace's ledger, nil where no quota holds, and the
// function to call when the request is over.
func (p *passage) ledger() (l *quota.Ledger, over func()) {
	if p.policy.limited {
		l = p.ledgers.Of(p.namespace, true)
	}
	return l, func() {
		now := p.store.now()
		switch other := p.ledgers.Of(now.rules.Namespace(p.repository), false); {
		case now.names != p.at.names:
			p.ledgers.Forget() // it may belong to another namespace now
		case l == nil && other != nil:
			other.Forget() // a quota was set meanwhile
		}
	}
}

// putManifest checks that the tag may be moved and that there is room.
func (p *passage) putManifest() {
	d := digest.FromBytes(p.pushed.body)
	tag := p.reference
	if strings.Contains(tag, ":") {
		tag = ""
	}
	defer p.locks.push(p.repository, tag)()
	ctx := context.WithoutCancel(p.q.Context())
	if tag != "" {
		if err := p.mayMove(ctx, tag, d); err != nil {
			p.w.refuse(err)
			return
		}
	}
	if err := p.complete(ctx, tag); err != nil {
		p.w.refuse(err)
		return
	}
	l, over := p.ledger()
	defer over()
	if l != nil {
		items, err := l.BeginManifest(ctx, p.at.view(), p.policy.limit, p.repository, d, int64(len(p.pushed.body)), p.pushed.manifest)
		if err != nil {
			p.w.refuse(err)
			return
		}
		defer func() { l.EndManifest(p.sender(), items, p.w.status == http.StatusCreated) }()
	}
	if err := p.storage.Mend(ctx, d, p.pushed.body); err != nil {
		p.w.refuse(err)
		return
	}
	name := d
	if named, err := digest.Parse(p.reference); err == nil {
		name = named
	}
	if err := p.storage.Keep(ctx, p.repository, name); err != nil {
		p.w.refuse(err)
		return
	}
	p.pass()
	if tag != "" && p.w.status == http.StatusCreated {
		linked, _, err := p.storage.TagMade(ctx, p.repository, tag)
		if err != nil {
			linked = time.Time{} // it is compared with the push time then
		}
		p.times.pushed(p.repository, tag, d, p.who.String(), p.now(), linked)
	}
}

// complete refuses an index of which the repository has not all that it lists:
// who pushes it may have been told that all is there, before a collection. An
// index that lists referrers for older clients also lists those that are gone.
func (p *passage) complete(ctx context.Context, tag string) error {
	if subject, _ := storage.FallbackSubject(tag); subject != "" {
		return nil
	}
	for _, d := range p.pushed.manifest.Children() {
		if _, ok, err := p.storage.Manifest(ctx, p.repository, d); err != nil {
			return err
		} else if !ok {
			return incompleteError{d}
		}
	}
	return nil
}

// deleteManifest removes a tag, or a manifest with all its tags.
func (p *passage) deleteManifest() {
	defer p.locks.remove(p.repository)()
	ctx := context.WithoutCancel(p.q.Context())
	d, err := digest.Parse(p.reference)
	if err != nil {
		if err := p.mayMove(ctx, p.reference, ""); err != nil {
			p.w.refuse(err)
			return
		}
		is, err := p.tag(ctx, p.reference)
		if err == nil {
			err = p.removeNoted(ctx, is)
		}
		if err != nil {
			p.fail(err)
			return
		}
		if p.w.status == http.StatusAccepted {
			p.times.removed(p.repository, p.reference)
		}
		return
	}
	if err := p.mayRemove(ctx, d); err != nil {
		p.w.refuse(err)
		return
	}
	l, over := p.ledger()
	defer over()
	if l != nil { // to know what goes
		if err := l.Known(ctx, p.at.view()); err != nil {
			p.w.refuse(err)
			return
		}
	}
	if err := p.removeNoted(ctx, d); err != nil {
		p.fail(err)
		return
	}
	if p.w.status != http.StatusAccepted {
		return
	}
	p.times.removedDigest(p.repository, d)
	if l != nil {
		p.freed = l.DropManifest(p.policy.limit, p.repository, d)
	}
}

// removeNoted lets a deletion pass, and notes it; of what is "", it does not.
func (p *passage) removeNoted(ctx context.Context, d digest.Digest) error {
	if d == "" {
		p.pass()
		return nil
	}
	return p.storage.NoteDeletion(ctx, p.repository, d, func() error {
		p.pass()
		return nil
	})
}

// fail answers with a failure unless there is an answer.
func (p *passage) fail(err error) {
	if p.w.status == 0 {
		p.w.refuse(err)
	}
}

// tag returns what a tag names, "" if there can be no such tag.
func (p *passage) tag(ctx context.Context, tag string) (digest.Digest, error) {
	name, err := reference.WithName(p.repository)
	if err != nil {
		return "", nil //nolint:nilerr // Distribution says what is wrong with it
	}
	if _, err := reference.WithTag(name, tag); err != nil {
		return "", nil //nolint:nilerr // as above
	}
	is, err := p.storage.Tag(ctx, p.repository, tag)
	if errors.Is(err, storage.ErrDamaged) {
		err = nil
	}
	return is, err
}

// deleteBlob unlinks a blob, whose content stays until a collection.
func (p *passage) deleteBlob() {
	defer p.locks.remove(p.repository)()
	d, err := digest.Parse(p.reference)
	if err == nil {
		if err := p.mayRemove(context.WithoutCancel(p.q.Context()), d); err != nil {
			p.w.refuse(err)
			return
		}
	}
	l, over := p.ledger()
	defer over()
	if l != nil && err == nil {
		if d, err = p.storage.Content(context.WithoutCancel(p.q.Context()), p.repository, d); err != nil {
			p.w.refuse(err)
			return
		}
	}
	p.pass()
	if l != nil && p.w.status == http.StatusAccepted {
		l.Unlink(d)
	}
}

// pull writes down that a manifest was pulled, by tag or by digest.
func (p *passage) pull() {
	p.pass()
	if p.w.status != http.StatusOK && p.w.status != http.StatusNotModified {
		return
	}
	p.times.pulled(p.repository, p.reference, p.now())
}

// fixedError says that a tag is immutable.
type fixedError struct{ tag, rule, doing string }

func (e fixedError) Error() string {
	return fmt.Sprintf("tag %s is %s: it cannot be %s; use another tag", e.tag, e.rule, e.doing)
}

// incompleteError says what a repository lacks of an index.
type incompleteError struct{ missing digest.Digest }

func (e incompleteError) Error() string {
	return fmt.Sprintf("the index lists %s, which the repository does not have; push that first", e.missing)
}

// tagLocks keep pushes and removals of one repository apart: pushes of
// different tags go on beside each other, a removal is alone.
type tagLocks struct {
	seed  maphash.Seed
	repos [256]sync.RWMutex
	tags  [256]sync.Mutex
}

func newTagLocks() *tagLocks { return &tagLocks{seed: maphash.MakeSeed()} }

func (l *tagLocks) push(repository, tag string) (unlock func()) {
	r := &l.repos[maphash.String(l.seed, repository)%256]
	r.RLock()
	if tag == "" {
		return r.RUnlock
	}
	t := &l.tags[maphash.String(l.seed, repository+":"+tag)%256]
	t.Lock()
	return func() {
		t.Unlock()
		r.RUnlock()
	}
}

func (l *tagLocks) remove(repository string) (unlock func()) {
	r := &l.repos[maphash.String(l.seed, repository)%256]
	r.Lock()
	return r.Unlock
}
