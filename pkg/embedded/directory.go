package embedded

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/handlers"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/schema"
)

// Directory is the data directory of a registry that nobody serves. Reading
// takes no lock and touches nothing, not even times; writing takes the lock
// for as long as it lasts. Safe for concurrent use. Keep one for a directory:
// the first Transport starts a Distribution, which leaves a goroutine behind.
type Directory struct {
	// URL is what clients call the registry, for events alone. Set it first.
	URL string
	// Logger is told of lines that could not be written into the audit log;
	// nil tells nobody. Set it first.
	Logger *slog.Logger

	data, command string
	accounts      bool // and no content
	bucket        Bucket
	writing       sync.Mutex // one writer of this process
	starting      sync.Mutex // for those below
	storage       *storage.Storage
	claimed       bool
	app           *handlers.App
}

// Bucket is the object store that keeps a registry's content, if any.
type Bucket = storage.Bucket

// The refusals of a bucket; test with errors.Is.
var (
	ErrNotBuilt = storage.ErrNotBuilt
	ErrOwned    = storage.ErrOwned
)

// OpenDirectory names a data directory, which need not exist, and the bucket
// that keeps its content, if any; command is what the holder of the lock is
// called while it writes. The bucket is reached for when content is asked for.
func OpenDirectory(data, command string, bucket Bucket) (*Directory, error) {
	abs, err := filepath.Abs(data)
	return &Directory{data: abs, command: command, bucket: bucket}, err
}

// OpenAccounts names a directory with the accounts and rules of a registry that
// another program serves, which need not exist. It has no content.
func OpenAccounts(data, command string) (*Directory, error) {
	d, err := OpenDirectory(data, command, Bucket{})
	d.accounts = true
	return d, err
}

// content opens the storage, once; it is nil in a directory of accounts.
func (d *Directory) content(ctx context.Context) (*storage.Storage, error) {
	d.starting.Lock()
	defer d.starting.Unlock()
	return d.opened(ctx)
}

func (d *Directory) opened(ctx context.Context) (_ *storage.Storage, err error) {
	if d.storage == nil && !d.accounts {
		d.storage, err = storage.Open(context.WithoutCancel(ctx), d.data, d.bucket)
	}
	return d.storage, err
}

// own sees to it that content is this directory's to write. The caller has the
// lock.
func (d *Directory) own(ctx context.Context) error {
	d.starting.Lock()
	defer d.starting.Unlock()
	s, err := d.opened(ctx)
	if err != nil || d.claimed {
		return err
	}
	err = claim(ctx, d.data, s)
	d.claimed = err == nil
	return err
}

// IsNew reports whether the directory is absent or empty. An error means that
// this process may not look at it, that it is no directory, or that it is not
// to be used: ErrOccupied, ErrUnsafe.
func (d *Directory) IsNew() (bool, error) {
	entries, err := os.ReadDir(d.data)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err == nil {
		err = usable(d.data, d.accounts)
	}
	return err == nil && len(entries) == 0, err
}

// State returns the objects of the kinds, all where none are named.
func (d *Directory) State(_ context.Context, kinds []schema.Kind) (Live, error) {
	doc, err := loadDocument(d.data)
	return doc.live(kinds), err
}

// RobotHashes returns, by login, the hashes of the robots' accounts that one can
// log in with at a time: for a registry that has them in a file of its own.
func (d *Directory) RobotHashes(now time.Time) (map[string]string, error) {
	doc, err := loadDocument(d.data)
	if err != nil {
		return nil, err
	}
	hashes := map[string]string{}
	for _, o := range doc.Objects {
		spec, ok := o.Spec.(*schema.Robot)
		if !ok {
			continue
		}
		for _, a := range doc.Robots[o.Key.String()] {
			if a.works(spec, now) {
				hashes[a.Login] = a.Hash
			}
		}
	}
	return hashes, nil
}

// Change makes the changes, each whole or not at all, and says what became of
// each, in order. An error means that none was made; ErrHeld: by another
// process, even after waiting two seconds.
func (d *Directory) Change(ctx context.Context, changes []Change) (results []Result, err error) {
	release, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := d.resume(ctx); err != nil {
		return nil, err
	}
	s, err := openStore(d.data, "")
	if err != nil {
		return nil, err
	}
	s.contents = d.contents
	before := s.now()
	results, err = s.change(ctx, changes)
	if err == nil {
		err = d.record(changes, results, before, s.now())
	}
	return results, err
}

// record writes into the audit log what was changed, as a registry that is
// served does.
func (d *Directory) record(changes []Change, results []Result, before, after *snapshot) error {
	rec := &record{who: identity{self: true}, status: http.StatusOK, state: before}
	rec.changed(changes, results)
	return d.note(rec, before, after)
}

// note writes the lines of what was done to a directory that nobody serves.
func (d *Directory) note(rec *record, before, after *snapshot) error {
	logger := d.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	a := newAudit(logger, func(int) {}) // it says why
	a.record(rec.deeds(a.now()), true, before.audit, after.audit)
	return a.close()
}

// lock makes the caller the one writer, of this process and of all.
func (d *Directory) lock(ctx context.Context) (release func() error, err error) {
	return d.lockAs(ctx, d.command)
}

// lockAs is lock for a command that goes by another name.
func (d *Directory) lockAs(ctx context.Context, command string) (release func() error, err error) {
	d.writing.Lock()
	deadline := time.Now().Add(2 * time.Second)
	for {
		l, err := takeLock(d.data, command, d.accounts, true)
		if err == nil {
			return func() error {
				defer d.writing.Unlock()
				return l.release()
			}, nil
		}
		if !errors.Is(err, ErrHeld) || time.Now().After(deadline) {
			d.writing.Unlock()
			return nil, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			d.writing.Unlock()
			return nil, ctx.Err()
		}
	}
}

// Check reports whether the password is the user's.
func (d *Directory) Check(ctx context.Context, user, password string) (bool, error) {
	doc, err := loadDocument(d.data)
	if err != nil {
		return false, err
	}
	return newPasswords().check(ctx, attempt{account: compile(doc, "", nil).accounts[user], password: password})
}

// CheckSecret reports whether the secret is the object's.
func (d *Directory) CheckSecret(ctx context.Context, key schema.Key, secret string) (bool, error) {
	doc, err := loadDocument(d.data)
	if err == nil && key.Kind == schema.KindRobot {
		return newPasswords().check(ctx, attempt{account: compile(doc, "", nil).newest(key), password: secret})
	}
	return err == nil && doc.checkKeptSecret(key, secret), err
}

// Repositories lists the repositories that are one of the names or lie below
// one; "*" stands for all.
func (d *Directory) Repositories(ctx context.Context, names []string) ([]schema.RepositoryInfo, error) {
	s, err := d.content(ctx)
	if err != nil || s == nil {
		return nil, err
	}
	return repositories(ctx, s, names)
}

// Sizes tells the bytes of those repositories, as far as that is known.
func (d *Directory) Sizes(ctx context.Context, names []string) (map[string]int64, error) {
	s, err := d.content(ctx)
	if err != nil || s == nil {
		return nil, err
	}
	return sizes(ctx, s, names)
}

// Transport answers requests for /v2/ in this process as ocisync itself, which
// reaches its own namespace alone, unless they carry [ContentHeader]. A request that writes holds the lock for as
// long as it lasts; where it cannot have it, it is answered 503. Call release
// when done.
func (d *Directory) Transport(ctx context.Context) (_ http.RoundTripper, release func() error, err error) {
	d.starting.Lock()
	defer d.starting.Unlock()
	if d.app == nil {
		s, err := d.opened(ctx)
		if err != nil {
			return nil, nil, err
		}
		if d.app, err = newApp(context.WithoutCancel(ctx), s, ""); err != nil {
			return nil, nil, err
		}
	}
	p := newPipe(&alone{dir: d, app: d.app})
	return p, p.Close, nil
}

// alone serves a directory as ocisync itself and locks it while it writes.
type alone struct {
	dir *Directory
	app *handlers.App
}

// ServeHTTP implements [http.Handler].
func (a *alone) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		release, err := a.dir.lock(q.Context())
		if err != nil {
			ociError(w, http.StatusServiceUnavailable, "UNAVAILABLE", err.Error())
			return
		}
		defer release() //nolint:errcheck // the kernel frees it when its file is closed
		if err := a.dir.own(q.Context()); err != nil {
			ociError(w, http.StatusServiceUnavailable, "UNAVAILABLE", err.Error())
			return
		}
	}
	v := &visit{who: identity{self: true, content: q.Header.Get(ContentHeader) != ""}}
	answer := &reply{ResponseWriter: w, visit: v, failed: func(int, string) {}}
	defer answer.end()
	a.app.ServeHTTP(answer, q.WithContext(context.WithValue(q.Context(), visitKey{}, v)))
}
