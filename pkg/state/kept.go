package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keptJSON is an inventory that could not be stored, and what the store held then.
type keptJSON struct {
	Data []byte `json:"data"`
	Over []byte `json:"over,omitempty"`
}

func (m Machine) keptFile(id Identity) (dir, name string) {
	return filepath.Join(m.state, keptDir), id.fileName() + ".json"
}

// Keep puts a sealed inventory aside that the store did not take in the place of
// over, nil for nothing. Call it under the lock of [Acquire].
func (m Machine) Keep(id Identity, data, over []byte) error {
	dir, name := m.keptFile(id)
	b, err := json.Marshal(keptJSON{data, over})
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = writeFile(dir, name, b)
	}
	if err != nil {
		return fmt.Errorf("keeping the inventory of %s: %w", id, err)
	}
	return nil
}

// Kept is the inventory that was put aside, where the store still holds what it was
// to take the place of; nil for none. Whether it can be trusted [Open] says.
func (m Machine) Kept(id Identity, stored []byte) ([]byte, error) {
	dir, name := m.keptFile(id)
	b, err := readFile(dir, name, 4*MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var kept keptJSON
	if err == nil {
		err = strictJSON(b, &kept)
	}
	if err != nil {
		return nil, fmt.Errorf("the inventory that was kept in %s: %w; remove the file, and what the last apply did is taken for somebody else's", filepath.Join(dir, name), err)
	}
	if !bytes.Equal(kept.Over, stored) {
		return nil, nil
	}
	return kept.Data, nil
}

// Release forgets what was put aside. Call it under the lock of [Acquire].
func (m Machine) Release(id Identity) error {
	dir, name := m.keptFile(id)
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (m Machine) copyFile(id Identity) (dir, name string) {
	return filepath.Join(m.state, copyDir), id.fileName() + ".json"
}

// Copy keeps a sealed inventory as the store has it, for a time at which the registry
// that holds it is stopped. Call it under the lock of [Acquire].
func (m Machine) Copy(id Identity, data []byte) error {
	dir, name := m.copyFile(id)
	if have, err := readFile(dir, name, MaxSize); err == nil && bytes.Equal(have, data) {
		return nil
	}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = writeFile(dir, name, data)
	}
	if err != nil {
		return fmt.Errorf("keeping a copy of the inventory of %s: %w", id, err)
	}
	return nil
}

// Copied is what [Machine.Copy] kept last; nil for nothing. Whether it can be trusted
// [Open] says: where this machine has seen a later one, it cannot.
func (m Machine) Copied(id Identity) ([]byte, error) {
	dir, name := m.copyFile(id)
	b, err := readFile(dir, name, MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the copy of an inventory in %s: %w; let this user read it, or have the registry started", filepath.Join(dir, name), err)
	}
	return b, nil
}
