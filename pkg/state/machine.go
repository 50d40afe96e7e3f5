package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Machine is the directory in which this computer keeps what is its own:
// journals, the serials it saw, and locks.
type Machine struct {
	state, locks string
	verify       []string // the keys that the operator trusts
}

// NewMachine finds the directories: what the host file names, else
// $XDG_STATE_HOME/ocisync, else /var/lib/ocisync for root and
// ~/.local/state/ocisync for others. Nothing is made yet. It refuses a
// directory that everybody may write, and with it what this machine saw.
func NewMachine(host schema.Host, lookup func(string) (string, bool)) (Machine, error) {
	m := Machine{host.State, host.Lock, host.Verify}
	if m.state == "" {
		home, _ := lookup("HOME")
		xdg, _ := lookup("XDG_STATE_HOME")
		switch {
		case filepath.IsAbs(xdg):
			m.state = filepath.Join(xdg, "ocisync")
		case os.Geteuid() == 0:
			m.state = "/var/lib/ocisync"
		case filepath.IsAbs(home):
			m.state = filepath.Join(home, ".local", "state", "ocisync")
		default:
			return Machine{}, errors.New("no place for ocisync's state: HOME is not set; set state in the host file")
		}
	}
	if m.locks == "" {
		m.locks = filepath.Join(m.state, "locks")
	}
	for _, dir := range []string{m.state, filepath.Join(m.state, journalDir), filepath.Join(m.state, seenDir), filepath.Join(m.state, keptDir), filepath.Join(m.state, copyDir)} {
		if err := private(dir); err != nil {
			return Machine{}, err
		}
	}
	return m, nil
}

const (
	journalDir = "journal" // below state
	seenDir    = "seen"
	keptDir    = "kept"
	copyDir    = "copy"
)

// private refuses a directory that everybody may write. One that is not there,
// or cannot be looked at, is for whoever uses it.
func private(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("ocisync's state in %s has mode %04o, so that everybody could change what this machine saw and did; look at what it holds, then run chmod o-w %[1]s, or set state in the host file", dir, info.Mode().Perm())
	}
	return nil
}

// Dir is the directory itself.
func (m Machine) Dir() string { return m.state }

// Lends reports whether a mode may keep its inventory in a directory of this
// machine's: it is the state directory or lies below it, and is none that
// ocisync keeps for itself.
func (m Machine) Lends(dir string) bool {
	if !within(m.state, dir) {
		return false
	}
	for _, own := range []string{filepath.Join(m.state, journalDir), filepath.Join(m.state, seenDir), filepath.Join(m.state, keptDir), filepath.Join(m.state, copyDir), m.locks} {
		if within(own, dir) {
			return false
		}
	}
	return true
}

// within reports whether a path is a directory, or lies below it, by its text.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// Locks is the directory for [Acquire].
func (m Machine) Locks() string { return m.locks }

// Journal is the path of the journal for [OpenJournal].
func (m Machine) Journal(id Identity) string {
	return filepath.Join(m.state, journalDir, id.fileName()+".jsonl")
}

// Seen returns the highest serial that [Machine.Remember] was given; 0 for none.
func (m Machine) Seen(id Identity) (Seen, error) {
	s, err := m.seen(id)
	return Seen(s.Serial), err
}

// seenJSON is what this machine saw last of a mode and registry.
type seenJSON struct {
	Serial int64 `json:"serial"`
	// Registry is its URL.
	Registry string `json:"registry,omitempty"`
	Journal  Mark   `json:"journal,omitzero"` // its last line
	Source   Source `json:"source,omitzero"`
}

// Source is where a signed inventory comes from, and of what. All of it can be
// changed by whoever can change the mode's files.
type Source struct {
	Verify string `json:"verify"`         // the public key it is checked with
	Store  string `json:"store"`          // in the words of its user; equal for the same place
	Data   string `json:"data,omitempty"` // the registry's data directory, "" where it has none here
	// First says that it was believed at first sight, and that no delete by it
	// was approved since.
	First bool `json:"first,omitempty"`
}

// Strange says that a mode's inventory came from elsewhere when this machine
// last believed one, "" where it did not, or never believed a signed one. Of a
// registry that it never saw the mode with, it says whether it knows that, or
// else the mode, by other keys alone: the mode may be an old one by another
// name, the registry by another URL. A key that the host file has is known.
func (m Machine) Strange(id Identity, now Source) (why string, err error) {
	s, err := m.seen(id)
	switch was := s.Source; {
	case err != nil || now.Verify == "":
	case was == Source{} && s.Serial == 0:
		return m.otherKey(id, now)
	case was == Source{}:
	case was.Verify != now.Verify:
		why = fmt.Sprintf("this machine knows it as signed by another key (%s) than state.verify names now (%s)", was.Verify, now.Verify)
	case was.Store != now.Store:
		why = fmt.Sprintf("this machine knows it in another place (%s) than state names now (%s)", was.Store, now.Store)
	}
	return why, err
}

func (m Machine) seen(id Identity) (seenJSON, error) {
	dir, name := m.seenFile(id)
	s, err := m.read(dir, name)
	switch malformed := (malformedError{}); {
	case errors.Is(err, fs.ErrNotExist):
		return seenJSON{}, nil
	case errors.As(err, &malformed):
		return seenJSON{}, fmt.Errorf("the last serial seen of %s, in %s: %w; delete the file if the inventory is known to be the newest",
			id, filepath.Join(dir, name), err)
	case err != nil:
		return seenJSON{}, fmt.Errorf("the last serial seen of %s: %w; let this user read it, or set state in the host file", id, err)
	}
	return s, nil
}

type malformedError struct{ error }

func (Machine) read(dir, name string) (s seenJSON, err error) {
	b, err := readFile(dir, name, 16<<10)
	if err != nil {
		return s, err
	}
	if err = strictJSON(b, &s); err == nil && (s.Serial < 0 || s.Journal.Seq < 0) {
		err = errors.New("a negative number")
	}
	if err != nil {
		return seenJSON{}, malformedError{err}
	}
	return s, nil
}

// FirstSight reports whether this machine has no more than a signed inventory's
// own word for whose it is: it never believed one of the mode and registry, or
// no delete by it was approved here since, and the host file has not its key.
func (m Machine) FirstSight(id Identity, now Source) (bool, error) {
	s, err := m.seen(id)
	return !slices.Contains(m.verify, now.Verify) && (s.Source == Source{} || s.Source.First), err
}

// otherKey looks for the registry in other modes, else for the mode at other
// registries.
func (m Machine) otherKey(id Identity, now Source) (why string, err error) {
	dir, own := m.seenFile(id)
	mode := own[:len(own)-len(registryHash(id.Registry, id.Mode)+".json")]
	files, err := os.ReadDir(dir)
	if err != nil || slices.Contains(m.verify, now.Verify) {
		return "", nil //nolint:nilerr // nothing was seen
	}
	var here, there []Source
	for _, f := range files {
		s, err := m.read(dir, f.Name())
		switch {
		case err != nil || s.Source.Verify == "":
		case sameRegistry(s.Registry, id.Registry.URL) || now.Data != "" && s.Source.Data == now.Data:
			here = append(here, s.Source)
		case len(f.Name()) == len(own) && strings.HasPrefix(f.Name(), mode):
			there = append(there, s.Source)
		}
	}
	what, known := "this registry, as another mode or by another URL", here
	if len(here) == 0 {
		what, known = "mode "+id.Mode+", at another registry or by another URL", there
	}
	for _, s := range known {
		switch {
		case s.Verify != now.Verify:
			why = fmt.Sprintf("this machine knows %s, as signed by another key (%s) than state.verify names now (%s)", what, s.Verify, now.Verify)
		case !s.First: // at first sight a key vouches for nothing
			return "", nil
		}
	}
	return why, nil
}

func sameRegistry(a, b string) bool {
	one, ok := schema.Origin(a)
	other, also := schema.Origin(b)
	return ok && also && one == other
}

// Remember keeps the serial of an inventory that was written or found
// trustworthy, unless it knows a higher one, and from where it came if it is
// signed: the zero Source changes nothing. Call it under the lock of [Acquire].
func (m Machine) Remember(id Identity, serial int64, from Source) error {
	have, err := m.seen(id)
	if err != nil {
		return err
	}
	next := have
	next.Serial = max(have.Serial, serial)
	if (from != Source{}) {
		next.Source, next.Registry = from, id.Registry.URL
	}
	if next == have {
		return nil
	}
	return m.remember(id, next)
}

// Approve says that somebody approved a delete by the mode's inventory, which
// is therefore the right one. Call it under the lock of [Acquire].
func (m Machine) Approve(id Identity) error {
	have, err := m.seen(id)
	if err != nil || !have.Source.First {
		return err
	}
	have.Source.First = false
	return m.remember(id, have)
}

// Forget lets inventories of the mode come from anywhere again. Call it under
// the lock of [Acquire].
func (m Machine) Forget(id Identity) error {
	have, err := m.seen(id)
	if err != nil || have.Source == (Source{}) {
		return err
	}
	have.Source = Source{}
	return m.remember(id, have)
}

// RememberJournal keeps the last line that a run wrote. Call it under the lock
// of [Acquire].
func (m Machine) RememberJournal(id Identity, last Mark) error {
	have, err := m.seen(id)
	if err != nil || have.Journal == last {
		return err
	}
	have.Journal = last
	return m.remember(id, have)
}

func (m Machine) remember(id Identity, s seenJSON) error {
	dir, name := m.seenFile(id)
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remembering what was seen of %s: %w; set state in the host file", id, err)
	}
	if err := writeFile(dir, name, append(b, '\n')); err != nil {
		return fmt.Errorf("remembering what was seen of %s: %w", id, err)
	}
	return nil
}

// CheckJournal says what is wrong with the journal, "" if nothing: a line that
// was changed or is missing, or an end that this machine wrote and that is
// gone. What a crash leaves is not wrong. Call it under the lock of [Acquire].
func (m Machine) CheckJournal(id Identity) (damage string, err error) {
	s, err := m.seen(id)
	if err != nil {
		return "", err
	}
	const meaning = "; what it says of former runs cannot be relied on: keep it as evidence and move it away, a new one begins by itself"
	path := m.Journal(id)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.Journal.Seq > 0:
		return fmt.Sprintf("journal %s: it is gone, and with it %d lines that this machine wrote; find out who took it away, and restore it from a backup", path, s.Journal.Seq), nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil: // opening it to write says so
		return "", nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	lines, err := Verify(f, s.Journal)
	broken := (*ChainError)(nil)
	switch {
	case errors.As(err, &broken) && broken.Why == unfinished && int64(lines) >= s.Journal.Seq:
		return "", nil
	case err != nil:
		return fmt.Sprintf("journal %s: %v%s", path, err, meaning), nil
	}
	return "", nil
}

func (m Machine) seenFile(id Identity) (dir, name string) {
	return filepath.Join(m.state, seenDir), id.fileName() + ".json"
}

// fileName is readable and distinct for each mode and registry.
func (id Identity) fileName() string {
	mode := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, id.Mode)
	return mode[:min(len(mode), 64)] + "-" + registryHash(id.Registry, id.Mode)
}

func registryHash(r plan.Registry, more ...string) string {
	parts := append([]string{r.Type, strings.TrimSuffix(r.URL, "/")}, more...)
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:10])
}
