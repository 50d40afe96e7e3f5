package embedded

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	remembered   = 5 * time.Minute
	maxPassword  = 72 // bytes; bcrypt ignores what follows
	maxCost      = 14 // about a second; more would let one login stall the others
	unknownsHash = "$2a$10$yXQ6.ZE/P7QXNRS9GamVL.tSFB2eBzw8XTB/n4bTOaIkNJlip3/M6"
)

// HashCost is what hashing a password costs, as bcrypt counts.
const HashCost = bcrypt.DefaultCost

// HashPassword hashes a password as [Change.PasswordHash] takes it, at a cost
// that is [HashCost] but for tests.
func HashPassword(password string, cost int) (string, error) {
	if password == "" {
		return "", errors.New("an empty password is none; give one")
	}
	if len(password) > maxPassword {
		return "", fmt.Errorf("the password is longer than %d bytes, which bcrypt would ignore; choose a shorter one", maxPassword)
	}
	b, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	return string(b), err
}

func checkHash(hash string) error {
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil || len(hash) != 60 || cost > maxCost {
		return fmt.Errorf("%w: a password is kept as a bcrypt hash with a cost of at most %d", ErrInvalid, maxCost)
	}
	return nil
}

// account is one user as a login sees it. The former hashes are those of
// [RobotAccount].
type account struct {
	version string
	hash    []byte // empty: cannot log in
	former  []string
	seen    atomic.Pointer[sighting]
}

// sighting remembers that a password was right, by a keyed hash of it.
type sighting struct {
	mac   [sha256.Size]byte
	until time.Time
}

// passwords checks passwords, a few at a time. Safe for concurrent use.
type passwords struct {
	key   [32]byte // of this process
	slots chan struct{}
	now   func() time.Time
}

func newPasswords() *passwords {
	p := &passwords{slots: make(chan struct{}, runtime.GOMAXPROCS(0)), now: time.Now}
	rand.Read(p.key[:]) // never fails
	return p
}

// check reports whether the password is the account's. A nil account takes as
// long as one that exists. gate, which may be nil, is asked before a password
// is hashed, by few at a time. The error is the context's or the gate's.
func (p *passwords) check(ctx context.Context, a *account, password string, gate func() error) (bool, error) {
	m := hmac.New(sha256.New, p.key[:])
	m.Write([]byte(password))
	var mac [sha256.Size]byte
	m.Sum(mac[:0])
	if a.remembers(mac, p.now()) {
		return true, nil
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if a.remembers(mac, p.now()) { // somebody else just proved it
		return true, nil
	}
	if gate != nil {
		if err := gate(); err != nil {
			return false, err
		}
	}
	hash := []byte(unknownsHash)
	if a != nil && len(a.hash) > 0 {
		hash = a.hash
	}
	right := bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
	if !right && a != nil {
		right = slices.ContainsFunc(a.former, func(hash string) bool {
			return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
		})
	}
	if !right || a == nil || len(a.hash) == 0 || len(password) > maxPassword {
		return false, nil
	}
	a.seen.Store(&sighting{mac, p.now().Add(remembered)})
	return true, nil
}

func (a *account) remembers(mac [sha256.Size]byte, now time.Time) bool {
	if a == nil {
		return false
	}
	s := a.seen.Load()
	return s != nil && now.Before(s.until) && hmac.Equal(s.mac[:], mac[:])
}
