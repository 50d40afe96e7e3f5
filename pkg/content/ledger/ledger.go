// Package ledger keeps what a copy learned of the registry that it copies to, for the
// next one: where a blob lies, so that it need not be sent again, and what a tag was
// made, so that it need not be asked for.
//
// What it says are hints. One of a blob is put to the test by the registry itself, which
// mounts it or takes it anew, so that a wrong one costs nothing. One of a tag holds as
// long as nobody else moves that tag: whoever cannot rely on that copies without a
// ledger, which asks.
//
// [Open] reads the file; what is learned later is added to it line by line, so that a
// process that is killed loses nothing that it noted.
package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	format = 1
	// largest bounds the file, in bytes: some two million blobs.
	largest = 256 << 20
	// kept is how many repositories are kept of a blob: one is enough to mount it from,
	// and may be deleted.
	kept = 2
)

// ErrOther is a ledger of another registry.
var ErrOther = errors.New("it is of another registry")

// line is one of a file: the first, which says what it is, a repository that has a blob,
// or what a tag is, and with an empty digest that nobody knows.
type line struct {
	Ledger     int    `json:"ledger,omitempty"` // the format
	Target     string `json:"target,omitempty"`
	Blob       string `json:"blob,omitempty"`
	Repository string `json:"in,omitempty"`
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"is,omitempty"`
}

type tag struct{ repository, name string }

// File is a ledger. It is safe for use by several goroutines, and several processes may
// add to one file.
type File struct {
	mu    sync.Mutex
	f     *os.File
	err   error // of the first line that could not be added; no other is
	blobs map[v1.Hash][]string
	tags  map[tag]v1.Hash
	names map[string]string // repositories, each kept once
}

// Open reads the ledger of a target in a file, which is made unless it is there. A line
// that is none is passed over; a file that is no ledger, or one of another target
// ([ErrOther]), is refused.
func Open(name, target string) (*File, error) {
	l := &File{blobs: map[v1.Hash][]string{}, tags: map[tag]v1.Hash{}, names: map[string]string{}}
	dir, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	base := filepath.Base(name)
	text, err := regular.ReadOwn(dir, base, largest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, regular.ErrLarge):
		return nil, fmt.Errorf("%s: larger than %d MiB: delete it, and the next copy makes a new one", name, largest>>20)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if l.f, err = dir.OpenFile(base, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	if len(text) == 0 {
		l.add(line{Ledger: format, Target: target})
	} else {
		err = l.read(text, target)
	}
	if err = errors.Join(err, l.err); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), l.f.Close())
	}
	return l, nil
}

func (l *File) read(text []byte, target string) error {
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	var of line
	switch err := json.Unmarshal(head, &of); {
	case err != nil || of.Ledger == 0:
		return errors.New("it is no ledger; name a file that is new, or was made by --ledger")
	case of.Ledger != format:
		return fmt.Errorf("format %d, and this ocisync reads format %d: delete it, and the next copy makes a new one", of.Ledger, format)
	case of.Target != target:
		return fmt.Errorf("%w, %s; name another file for %s", ErrOther, of.Target, target)
	}
	for text := range bytes.Lines(rest) {
		var e line
		if json.Unmarshal(text, &e) != nil || !bytes.HasSuffix(text, []byte("\n")) {
			continue // somebody was stopped in the middle of it
		}
		if d, err := v1.NewHash(e.Blob); err == nil {
			l.hasBlob(e.Repository, d)
		}
		if e.Tag == "" {
			continue
		}
		of := tag{l.name(e.Repository), e.Tag}
		if d, err := v1.NewHash(e.Digest); err == nil {
			l.tags[of] = d
		} else if e.Digest == "" {
			delete(l.tags, of)
		}
	}
	if !bytes.HasSuffix(text, []byte("\n")) { // what is added begins a line
		_, err := l.f.WriteString("\n")
		return err
	}
	return nil
}

func (l *File) name(repository string) string {
	if _, ok := l.names[repository]; !ok {
		l.names[repository] = repository
	}
	return l.names[repository]
}

// hasBlob notes it, and reports whether that is news worth keeping.
func (l *File) hasBlob(repository string, digest v1.Hash) bool {
	in := l.blobs[digest]
	if len(in) == kept || slices.Contains(in, repository) {
		return false
	}
	l.blobs[digest] = append(in, l.name(repository))
	return true
}

// add writes a line. The lock is held, or nobody else has the ledger yet.
func (l *File) add(next line) {
	if l.err != nil {
		return
	}
	b, err := json.Marshal(next)
	if err == nil {
		_, err = l.f.Write(append(b, '\n')) // whole, so that lines of others stay apart
	}
	l.err = err
}

// Blob returns a repository that had a blob, the given one if that is known to; "" where
// none is known.
func (l *File) Blob(repository string, digest v1.Hash) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch in := l.blobs[digest]; {
	case len(in) == 0:
		return ""
	case slices.Contains(in, repository):
		return repository
	default:
		return in[0]
	}
}

// Tag returns what a tag was made, or seen to be.
func (l *File) Tag(repository, name string) (v1.Hash, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.tags[tag{repository, name}]
	return d, ok
}

// NoteBlob notes that a repository has a blob.
func (l *File) NoteBlob(repository string, digest v1.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hasBlob(repository, digest) {
		l.add(line{Blob: digest.String(), Repository: repository})
	}
}

// NoteTag notes what a tag is.
func (l *File) NoteTag(repository, name string, digest v1.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := tag{l.name(repository), name}
	if l.tags[key] != digest {
		l.tags[key] = digest
		l.add(line{Repository: repository, Tag: name, Digest: digest.String()})
	}
}

// ForgetTag notes that what is noted of a tag was found wrong: the next copy asks.
func (l *File) ForgetTag(repository, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := tag{repository, name}
	if _, ok := l.tags[key]; ok {
		delete(l.tags, key)
		l.add(line{Repository: repository, Tag: name})
	}
}

// Close ends it, and says why something could not be added: what was copied is there all
// the same.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.f.Close())
}
