package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ownerObject tells whose a bucket is; it lies beside Distribution's tree.
const ownerObject = "/ocisync/owner"

// ErrOwned means that a bucket belongs to another data directory.
var ErrOwned = errors.New("another registry keeps its content there")

// Owner is a data directory. Two on one bucket would collect what the other
// is pushed, and know nothing of each other's rights.
type Owner struct {
	ID    string    `json:"id"` // which no other directory has
	Data  string    `json:"data"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// Claim makes the bucket the owner's, for ever. ErrOwned: it is another's. On
// a disk it does nothing. Who claims a bucket at the same time as another is
// refused, or the other is; that both are is possible, that none is is not, as
// far as the store shows a write to who reads after it.
func (s *Storage) Claim(ctx context.Context, o Owner) error {
	if s.bucket == "" {
		return nil
	}
	have, ok, err := s.owner(ctx)
	if err != nil {
		return err
	}
	if !ok {
		b, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if err := s.put(ctx, ownerObject, append(b, '\n')); err != nil {
			return err
		}
		if have, _, err = s.owner(ctx); err != nil {
			return err
		}
	}
	if have.ID == o.ID {
		return nil
	}
	return fmt.Errorf("%s: %w: data directory %s on %s since %s; serve it from there, or name another bucket or rootdirectory; if that directory is gone for good, remove the object ocisync/owner",
		s.bucket, ErrOwned, have.Data, have.Host, have.Since.Format(time.RFC3339))
}

func (s *Storage) owner(ctx context.Context) (o Owner, ok bool, err error) {
	b, ok, err := s.get(ctx, ownerObject)
	if err != nil || !ok {
		return Owner{}, false, err
	}
	if json.Unmarshal(b, &o) != nil || o.ID == "" {
		return Owner{}, false, fmt.Errorf("%s: the object ocisync/owner is not of ocisync; remove it if nobody else keeps anything there", s.bucket)
	}
	return o, true, nil
}

// clockObject is written to learn the store's time.
const clockObject = "/ocisync/clock"

// Skew is how far the clock that says when content was made is ahead of this
// host's: in a bucket it is the store's own, and rounds. What that leaves open
// makes content seem younger, not older.
func (s *Storage) Skew(ctx context.Context) (time.Duration, error) {
	if s.bucket == "" {
		return 0, nil
	}
	if err := s.put(ctx, clockObject, []byte("\n")); err != nil {
		return 0, err
	}
	b, ok, err := s.stat(ctx, clockObject)
	if err == nil && !ok {
		err = fmt.Errorf("%s: what was just written is not there; use a store that shows writes at once", s.bucket)
	}
	return time.Until(b.Made) - time.Second, err
}
