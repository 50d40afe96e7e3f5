package embedded

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	// announcedFile, below ownDir, holds what a job is removing, and what was removed
	// and could not be told.
	announcedFile = "removing.json"
	// maxAnnounced bounds how many removals wait to be told.
	maxAnnounced = 10_000
)

// place is where a removed tag or manifest was.
type place struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference"`
}

// outcome is what became of it.
type outcome string

const (
	unsure    outcome = ""          // announced, and not said to be gone
	gone      outcome = "gone"      //
	failed    outcome = "failed"    // it should go and could not
	untouched outcome = "untouched" // of no interest to anybody
)

// entry is a removal that is announced or is to be told.
type entry struct {
	place
	Job     string    `json:"job"`
	Outcome outcome   `json:"outcome,omitempty"`
	Time    time.Time `json:"time,omitzero"` // of the outcome
	Audited bool      `json:"audited,omitempty"`
	Queued  bool      `json:"queued,omitempty"` // for all webhooks that want it
	Told    []string  `json:"told,omitempty"`   // webhooks that it is queued for
}

// removals is the book that a [herald] keeps. The process goes by what it remembers;
// the file tells the next one. Safe for concurrent use, of which there is none but of
// looking on: jobs run one at a time.
type removals struct {
	dir string

	mu     sync.Mutex
	loaded bool
	stuck  bool     // the last could not be told, and not for want of room in a queue
	list   []*entry // in the order of their announcement
}

func newRemovals(data string) *removals {
	return &removals{dir: filepath.Join(data, ownDir)}
}

func (b *removals) file() string { return filepath.Join(b.dir, announcedFile) }

// load reads, once, what the last process left.
func (b *removals) load() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loaded {
		return nil
	}
	text, err := regular.Read(b.file(), maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		b.loaded = true
		return nil
	}
	if err != nil {
		return err
	}
	var left []*entry
	if err := json.Unmarshal(text, &left); err != nil || slices.Contains(left, nil) {
		aside := b.file() + ".damaged"
		if moved := os.Rename(b.file(), aside); moved != nil {
			return errors.Join(err, moved)
		}
		b.loaded = true
		return fmt.Errorf("what it says cannot be read, and is not told; it lies in %s now (%w)", aside, cmp.Or(err, errDamaged))
	}
	b.list, b.loaded = append(left, b.list...), true
	return nil
}

var errDamaged = errors.New("an entry says nothing")

// announce writes down what a job is about to remove.
func (b *removals) announce(job string, list []removal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range list {
		b.list = append(b.list, &entry{place: place{x.Repository, x.Reference}, Job: job})
	}
	return b.save()
}

// settle says what became of all that is announced, and returns what is to be told.
func (b *removals) settle(became map[place]outcome, now time.Time) (list []*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = slices.DeleteFunc(b.list, func(x *entry) bool {
		if x.Outcome != unsure {
			return false
		}
		x.Outcome, x.Time = became[x.place], now
		if x.Outcome == unsure {
			return true
		}
		list = append(list, x)
		return false
	})
	return list
}

// review settles what a killed process had announced.
func (b *removals) review(of func(place) (outcome, error), now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var unknown []error
	n := len(b.list)
	b.list = slices.DeleteFunc(b.list, func(x *entry) bool {
		if x.Outcome != unsure {
			return false
		}
		is, err := of(x.place)
		unknown = append(unknown, err)
		if is != unsure {
			x.Outcome, x.Time = is, now
		}
		return is == untouched
	})
	if len(b.list) < n {
		unknown = append(unknown, b.save())
	}
	return errors.Join(unknown...)
}

// untold lists what is gone, or failed to go, and is to be told.
func (b *removals) untold() (list []*entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.list {
		if x.Outcome != unsure {
			list = append(list, x)
		}
	}
	return list
}

// blocked reports whether the last could not be told, but for a queue that is full.
func (b *removals) blocked() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stuck
}

// keep drops what is told, and the oldest of what is too much, and writes the rest.
func (b *removals) keep(stuck bool) (lost int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stuck = stuck
	b.list = slices.DeleteFunc(b.list, func(x *entry) bool { return x.Outcome != unsure && x.Audited && x.Queued })
	if lost = max(0, len(b.list)-maxAnnounced); lost > 0 {
		b.list = slices.Delete(b.list, 0, lost)
	}
	return lost, b.save()
}

// save has the file say what is remembered.
func (b *removals) save() error {
	if len(b.list) == 0 {
		err := os.Remove(b.file())
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	text, err := json.Marshal(b.list)
	if err != nil {
		return err
	}
	return regular.Replace(b.dir, announcedFile, text)
}
