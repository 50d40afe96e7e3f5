// Package files reads and overwrites the files of a registry that is configured
// by files.
//
// A running registry watches such a file by its inode: a new one renamed over it
// is never read, and the watch is lost. So [Write] overwrites the file where it
// is, by one write, and keeps what makes that safe beside it: NAME.prev is what
// stood there, NAME.next what shall stand there. Both are complete whenever they
// exist. While NAME.next lies there the file itself may hold a mixture, and no
// registry may be started on it: [Finish] comes first.
//
// A file never gets shorter, since a registry would see it cut off before it is
// written: what is too short is padded with newlines. They are no part of the
// content that [Read] returns and [Equal] compares, and do not add up: a file is
// as long as the longest content it ever had.
//
// Nothing here locks. Whoever writes holds the lock of the registry.
package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

// Limit is how large a file may be, in bytes. A larger one is refused before it
// is read.
const Limit = 16 << 20

// Errors to test for with errors.Is; what is returned names the file and a
// remedy.
var (
	ErrChanged = errors.New("changed by somebody else meanwhile")
	ErrUnsafe  = errors.New("not a file of its own")
)

// Read returns what the file holds, without padding. Where a write was cut it
// is what the file will hold once that is finished. No link is followed in the
// last part of the name. An absent file is an error that is fs.ErrNotExist.
func Read(name string) ([]byte, error) { return disk{}.read(name) }

// Write overwrites a file that holds was, as Read returned it, with content.
// An error means that the file holds what it held before, or says otherwise.
// Inode, mode and owner stay; the time of modification always moves on. What
// the file holds already is not written again. A write that was cut earlier is
// finished first.
// Errors: ErrChanged if the file does not hold was, fs.ErrNotExist if there is
// none: see [Create].
func Write(name string, was, content []byte) error { return disk{}.overwrite(name, was, content) }

// Create makes a file with mode 0600, of the directory's owner, that must not
// exist yet: wholly or not at all. Errors: fs.ErrExist.
func Create(name string, content []byte) error { return disk{}.create(name, content, regular.Give) }

// CreateLike is [Create] for the owner of another file, which must be a regular
// one, in the place of the directory's. It has its owner before it has its name:
// who may write in the directory cannot have another file given away.
func CreateLike(name, like string, content []byte) error {
	return disk{}.createLike(name, like, content)
}

// Unfinished reports whether a write of the file was cut, and Finish is due.
func Unfinished(name string) (bool, error) {
	_, err := os.Lstat(name + nextSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Held reports whether a write of the file was cut before the file held what
// [Read] returns, and what a registry has of it until [Finish]: what stood there
// before. A write under way is waited for.
func Held(name string) (before []byte, cut bool, err error) { return disk{}.held(name) }

// Finish does what is left of a write that was cut, and reports whether that
// was anything. It must be called before a registry starts on the file. Where
// the disk is full the previous content is put back and the error says so: a
// registry may be started after that, a second Finish has nothing to do.
// Errors: ErrChanged if somebody else changed the file after the write was cut;
// what is right then only a human can tell.
func Finish(name string) (bool, error) { return disk{}.finish(name) }

// Equal reports whether two contents are the same but for padding.
func Equal(a, b []byte) bool { return bytes.Equal(trim(a), trim(b)) }

const (
	nextSuffix = ".next"
	prevSuffix = ".prev"
	tempSuffix = ".tmp"
)

// disk is how the steps of a write reach the disk. Tests let them fail there.
type disk struct {
	step  func(what string) error                               // before each step but a write; nil in earnest
	write func(f *os.File, b []byte, offset int64) (int, error) // nil is WriteAt
}

func (d disk) at(what string) error {
	if d.step == nil {
		return nil
	}
	return d.step(what)
}

func (d disk) put(f *os.File, b []byte) error {
	write := (*os.File).WriteAt
	if d.write != nil {
		write = d.write
	}
	n, err := write(f, b, 0)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

func (d disk) sync(f *os.File, what string) error {
	if err := d.at("sync " + what); err != nil {
		return err
	}
	return f.Sync()
}

// site is a file's directory, and the file's name in it.
type site struct {
	disk
	name string // as given, for messages
	base string
	root *os.Root
}

func (d disk) open(name string) (*site, error) {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &site{d, name, filepath.Base(name), root}, nil
}

// file opens one of the site's files that must be a regular one.
func (s *site) file(base string, flag int) (*os.File, error) {
	name := filepath.Join(filepath.Dir(s.name), base)
	before, err := s.root.Lstat(base)
	if err != nil {
		return nil, named(name, err)
	}
	switch {
	case before.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%s: %w: it is a symbolic link, which a registry does not see change; name the file it leads to", name, ErrUnsafe)
	case !before.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w: it is no regular file; name one", name, ErrUnsafe)
	case before.Size() > Limit:
		return nil, fmt.Errorf("%s: it has %d bytes, more than the %d that are read; is it the right file?", name, before.Size(), Limit)
	}
	f, err := s.root.OpenFile(base, flag, 0)
	if err != nil {
		return nil, named(name, err)
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s: %w; try again", name, ErrChanged)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// named says of which file an error is, in the place of the call and the part of
// the name that it was made with.
func named(name string, err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		err = of.Err
	}
	return fmt.Errorf("%s: %w", name, err)
}

func (s *site) content(base string) ([]byte, error) {
	f, err := s.file(base, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return whole(f)
}

// whole reads a file from its beginning, without moving in it.
func whole(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(min(info.Size(), Limit)) + bytes.MinRead) // it grows while it has less room than that
	if _, err := b.ReadFrom(io.NewSectionReader(f, 0, Limit+1)); err != nil {
		return nil, err
	}
	if b.Len() > Limit {
		return nil, fmt.Errorf("%s: it has more than the %d bytes that are read; is it the right file?", f.Name(), Limit)
	}
	return b.Bytes(), nil
}

// syncDir makes names durable.
func (s *site) syncDir() error {
	f, err := s.root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return s.sync(f, "directory")
}

// giver gives a new file to whom it shall belong.
type giver func(f *os.File, in *os.Root) error

// place makes a file beside that is complete as soon as it exists, and durable.
func (s *site) place(base string, content []byte, give giver) error {
	temp := base + tempSuffix
	if err := s.remove(temp); err != nil {
		return err
	}
	err := func() error {
		if err := s.at("create " + temp); err != nil {
			return err
		}
		f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := give(f, s.root); err != nil { // who runs the registry reads it
			return err
		}
		if err := s.put(f, content); err != nil {
			return err
		}
		if err := s.sync(f, temp); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := s.at("rename " + temp); err != nil {
			return err
		}
		return s.root.Rename(temp, base)
	}()
	if err != nil {
		return errors.Join(err, s.remove(temp))
	}
	return s.syncDir()
}

// remove removes a file that may be absent.
func (s *site) remove(base string) error {
	if _, err := s.root.Lstat(base); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := s.at("remove " + base); err != nil {
		return err
	}
	if err := s.root.Remove(base); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// clear ends a write: the promise first, then what it would have needed.
func (s *site) clear() error {
	if err := s.remove(s.base + nextSuffix); err != nil {
		return err
	}
	if err := s.syncDir(); err != nil {
		return err
	}
	return s.remove(s.base + prevSuffix)
}

// cut is a write that was cut: what stood there before and shall stand there,
// both as they are on the disk.
type cut struct{ prev, next []byte }

// cut returns nil where none was.
func (s *site) cut() (*cut, error) {
	next, err := s.content(s.base + nextSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	prev, err := s.content(s.base + prevSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s%s lies beside the file without %s%s: it is not of a write of ocisync's; move it away", s.name, nextSuffix, s.base, prevSuffix)
	}
	if err != nil {
		return nil, err
	}
	if len(next) == 0 {
		return nil, fmt.Errorf("%[1]s%[2]s lies beside the file and is empty, which no write of ocisync's leaves: see that the file itself is whole, or copy %[1]s%[3]s into it; then remove %[1]s%[2]s, and %[1]s%[3]s", s.name, nextSuffix, prevSuffix)
	}
	return &cut{prev, next}, nil
}

// check refuses a file that is neither of the two nor what a cut write makes of
// them.
func (c *cut) check(name string, now []byte) error {
	next := pad(c.next, len(c.prev))
	for i, b := range now {
		switch {
		case i < len(c.prev) && b == c.prev[i]:
		case i < len(next) && b == next[i]:
		case i >= len(c.prev) && i < len(next) && b == 0: // a hole that a power failure left
		default:
			return c.refuse(name)
		}
	}
	if len(now) < len(c.prev) {
		return c.refuse(name)
	}
	return nil
}

func (c *cut) refuse(name string) error {
	return fmt.Errorf("%s: %w, after a write of it was cut; to keep it as it is remove %[3]s%[4]s, then %[3]s%[5]s; to have what was to be written copy %[3]s%[4]s into it first",
		name, ErrChanged, name, nextSuffix, prevSuffix)
}

func (d disk) read(name string) ([]byte, error) {
	s, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer s.root.Close()
	// A write beside us begins and ends between our steps. What is wrong for
	// longer than one takes is wrong.
	var b []byte
	for i := range 20 {
		var again bool
		if b, again, err = s.readOnce(); !again {
			break
		}
		time.Sleep(time.Duration(i+1) * time.Millisecond)
	}
	if err != nil {
		return nil, err
	}
	return unpad(b), nil
}

func (d disk) held(name string) ([]byte, bool, error) {
	s, err := d.open(name)
	if err != nil {
		return nil, false, err
	}
	defer s.root.Close()
	var before []byte
	var waits bool
	for i := range 20 { // as for reading
		if before, waits, err = s.heldOnce(); err == nil && !waits {
			break
		}
		time.Sleep(time.Duration(i+1) * time.Millisecond)
	}
	return before, waits, err
}

func (s *site) heldOnce() (before []byte, cut bool, err error) {
	c, err := s.cut()
	if c == nil {
		return nil, false, err
	}
	now, err := s.content(s.base)
	if err != nil || Equal(now, c.next) {
		return nil, false, err
	}
	return unpad(c.prev), true, nil
}

// readOnce reads again is true where the file may have changed under the
// reading.
func (s *site) readOnce() (b []byte, again bool, err error) {
	f, err := s.file(s.base, os.O_RDONLY)
	if err != nil {
		return nil, errors.Is(err, ErrChanged), err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	b, err = whole(f)
	if err != nil {
		return nil, false, err
	}
	c, err := s.cut()
	if err != nil {
		return nil, true, err
	}
	if c != nil {
		err := c.check(s.name, b)
		return c.next, err != nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return nil, true, fmt.Errorf("%s: %w, again and again; try again", s.name, ErrChanged)
	}
	return b, false, nil
}

func (d disk) create(name string, content []byte, give giver) error {
	if len(content) > Limit {
		return tooLarge(name, content)
	}
	s, err := d.open(name)
	if err != nil {
		return err
	}
	defer s.root.Close()
	for _, base := range []string{s.base, s.base + nextSuffix} {
		if _, err := s.root.Lstat(base); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = fmt.Errorf("%s: %w", filepath.Join(filepath.Dir(name), base), fs.ErrExist)
			}
			return err
		}
	}
	return s.place(s.base, content, give)
}

func (d disk) createLike(name, like string, content []byte) error {
	info, err := os.Lstat(like)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w: it is no regular file; name one", like, ErrUnsafe)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return d.create(name, content, regular.Give)
	}
	return d.create(name, content, func(f *os.File, _ *os.Root) error { return f.Chown(int(st.Uid), int(st.Gid)) })
}

func (d disk) overwrite(name string, was, content []byte) error {
	if len(content) > Limit {
		return tooLarge(name, content)
	}
	if len(content) == 0 { // what is promised is never empty, so that what is lost is known
		content = []byte("\n")
	}
	s, err := d.open(name)
	if err != nil {
		return err
	}
	defer s.root.Close()
	if _, err := s.finish(); err != nil {
		return err
	}
	f, err := s.file(s.base, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := whole(f)
	switch {
	case err != nil:
		return err
	case !Equal(now, was):
		return fmt.Errorf("%s: %w; read it and plan again", name, ErrChanged)
	case Equal(now, content):
		return nil
	}
	// Whatever fails here leaves the file alone, and at most what finish clears.
	if err := s.place(s.base+prevSuffix, now, regular.Give); err != nil {
		return fmt.Errorf("%s: keeping what it holds: %w; the file is as it was", name, err)
	}
	if err := s.place(s.base+nextSuffix, content, regular.Give); err != nil {
		return errors.Join(fmt.Errorf("%s: writing what it shall hold beside it: %w; the file is as it was", name, err), s.clear())
	}
	return s.carry(f, &cut{now, content})
}

func tooLarge(name string, content []byte) error {
	return fmt.Errorf("%s: %d bytes are more than the %d that a file may have", name, len(content), Limit)
}

func (d disk) finish(name string) (bool, error) {
	s, err := d.open(name)
	if err != nil {
		return false, err
	}
	defer s.root.Close()
	return s.finish()
}

func (s *site) finish() (bool, error) {
	c, err := s.cut()
	if err != nil {
		return false, err
	}
	if c == nil { // it was cut before it promised anything, or after it held
		return false, errors.Join(s.remove(s.base+nextSuffix+tempSuffix), s.remove(s.base+prevSuffix+tempSuffix), s.remove(s.base+prevSuffix))
	}
	f, err := s.file(s.base, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return false, c.refuse(s.name)
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	now, err := whole(f)
	if err != nil {
		return false, err
	}
	if err := c.check(s.name, now); err != nil {
		return false, err
	}
	return true, s.carry(f, c)
}

// carry carries out a write that is promised beside the file, or puts back what
// stood there.
func (s *site) carry(f *os.File, c *cut) error {
	before, err := f.Stat()
	if err != nil {
		return err
	}
	if err := s.replace(f, pad(c.next, len(c.prev))); err != nil {
		err = fmt.Errorf("%s: %w", s.name, err)
		if back := s.restore(f, c.prev); back != nil {
			return fmt.Errorf("%w; what it held could not be put back: %w; it lies in %s%s: make room, and run the command again", err, back, s.name, prevSuffix)
		}
		return errors.Join(fmt.Errorf("%w; the file is as it was", err), s.clear())
	}
	named, err := s.root.Lstat(s.base)
	if err != nil || !os.SameFile(named, before) {
		return errors.Join(fmt.Errorf("%s: %w: another file took its name, and was left alone; plan again", s.name, ErrChanged), s.clear())
	}
	if err := s.moveOn(f, before.ModTime()); err != nil {
		return err
	}
	return s.clear()
}

// replace overwrites the file's beginning and sees that it is there.
func (s *site) replace(f *os.File, content []byte) error {
	if err := s.put(f, content); err != nil {
		return err
	}
	if err := s.sync(f, s.base); err != nil {
		return err
	}
	if err := s.at("read back"); err != nil {
		return err
	}
	back, err := whole(f)
	if err == nil && (len(back) < len(content) || !bytes.Equal(back[:len(content)], content)) {
		err = errors.New("the disk gives back something else than was written")
	}
	return err
}

// restore puts back what the file held, length included.
func (s *site) restore(f *os.File, prev []byte) error {
	if err := s.replace(f, prev); err != nil {
		return err
	}
	if err := s.at("truncate " + s.base); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(prev))); err != nil {
		return err
	}
	return s.sync(f, s.base)
}

// moveOn sets the time of modification once the content is there: later than it
// was, for registries that go by it, and later than what the write itself left,
// for those that read too early. Two writes within a tick of the clock leave the
// same time, and some file systems count in whole seconds.
func (s *site) moveOn(f *os.File, before time.Time) error {
	for _, by := range []time.Duration{time.Millisecond, 2 * time.Second} {
		left, err := f.Stat()
		if err != nil {
			return err
		}
		t := time.Now()
		for _, other := range []time.Time{before.Add(by), left.ModTime().Add(by)} {
			if t.Before(other) {
				t = other
			}
		}
		if err := s.at("set the time"); err != nil {
			return err
		}
		// Both times, since a watcher takes the second alone for a write.
		failed := s.root.Chtimes(s.base, t, t)
		now, err := f.Stat()
		if err != nil {
			return err
		}
		if now.ModTime().After(before) || failed != nil && !now.ModTime().Equal(before) {
			return nil
		}
	}
	return fmt.Errorf("%s: it holds what it shall, but its time of modification does not move, by which a registry notices: touch it, and run the command again", s.name)
}

func pad(content []byte, length int) []byte {
	if len(content) >= length {
		return content
	}
	return append(bytes.Clone(content), bytes.Repeat([]byte{'\n'}, length-len(content))...)
}

func trim(b []byte) []byte { return bytes.TrimRight(b, "\n") }

// unpad leaves one newline at the end where there is one.
func unpad(b []byte) []byte {
	t := trim(b)
	if len(t) > 0 && len(t) < len(b) {
		return b[:len(t)+1]
	}
	return t
}
