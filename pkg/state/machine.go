package state

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Machine is the directory in which this computer keeps what is its own:
// journals, the serials it saw, and locks.
type Machine struct{ state, locks string }

// NewMachine finds the directories: what the host file names, else
// $XDG_STATE_HOME/ocisync, else /var/lib/ocisync for root and
// ~/.local/state/ocisync for others. Nothing is made yet.
func NewMachine(host schema.Host, lookup func(string) (string, bool)) (Machine, error) {
	m := Machine{host.State, host.Lock}
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
	return m, nil
}

// Locks is the directory for [Acquire].
func (m Machine) Locks() string { return m.locks }

// Journal is the path of the journal for [OpenJournal].
func (m Machine) Journal(id Identity) string {
	return filepath.Join(m.state, "journal", id.fileName()+".jsonl")
}

// Seen returns the highest serial that [Machine.Remember] was given; 0 for none.
func (m Machine) Seen(id Identity) (Seen, error) {
	dir, name := m.seenFile(id)
	b, err := readFile(dir, name, 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("the last serial seen of %s: %w; let this user read it, or set state in the host file", id, err)
	}
	var s seenJSON
	if err = strictJSON(b, &s); err == nil && s.Serial < 0 {
		err = errors.New("a negative serial")
	}
	if err != nil {
		return 0, fmt.Errorf("the last serial seen of %s, in %s: %w; delete the file if the inventory is known to be the newest",
			id, filepath.Join(dir, name), err)
	}
	return Seen(s.Serial), nil
}

type seenJSON struct {
	Serial int64 `json:"serial"`
}

// Remember keeps a serial that was written or found trustworthy; a lower one
// than before changes nothing. Call it under the lock of [Acquire].
func (m Machine) Remember(id Identity, serial int64) error {
	have, err := m.Seen(id)
	if err != nil {
		return err
	}
	if serial <= int64(have) {
		return nil
	}
	dir, name := m.seenFile(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remembering the serial of %s: %w; set state in the host file", id, err)
	}
	if err := writeFile(dir, name, fmt.Appendf(nil, "{\"serial\":%d}\n", serial)); err != nil {
		return fmt.Errorf("remembering the serial of %s: %w", id, err)
	}
	return nil
}

func (m Machine) seenFile(id Identity) (dir, name string) {
	return filepath.Join(m.state, "seen"), id.fileName() + ".json"
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
