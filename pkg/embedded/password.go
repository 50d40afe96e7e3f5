package embedded

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	remembered   = 5 * time.Minute
	maxPassword  = 72 // bytes; bcrypt ignores what follows
	maxCost      = 14 // about a second; more would let one login stall the others
	unknownsHash = "$2a$10$yXQ6.ZE/P7QXNRS9GamVL.tSFB2eBzw8XTB/n4bTOaIkNJlip3/M6"
	// turn is how long a login may wait for its turn.
	turn     = 10 * time.Second
	maxWrong = 4 << 10 // wrong passwords that are remembered
)

var errBusy = errors.New("the login could not be checked in time")

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
	secret  string // what the hash is among former ones, once it is one
	former  []string
	seen    atomic.Pointer[sighting]
}

// sighting remembers that a password was right, by a keyed hash of it.
type sighting struct {
	mac   [sha256.Size]byte
	until time.Time
}

// passwords checks passwords, with half of the processors at most. Safe for
// concurrent use.
type passwords struct {
	key   [32]byte // of this process
	slots chan struct{}
	now   func() time.Time

	mu    sync.Mutex
	wrong map[[sha256.Size]byte]time.Time // until when by a keyed hash of account and password
}

func newPasswords() *passwords {
	p := &passwords{slots: make(chan struct{}, (runtime.GOMAXPROCS(0)+1)/2), now: time.Now, wrong: map[[sha256.Size]byte]time.Time{}}
	rand.Read(p.key[:]) // never fails
	return p
}

// attempt is a login to check. Its account is nil where none has the name.
type attempt struct {
	account        *account
	name, password string
	// hashes is how many are compared with a wrong password, where the account has
	// not more: as many for each name that could be one.
	hashes int
	// gate, which may be nil, is asked before the password is hashed, by few at
	// a time: it refuses with an error, or says how long to wait and ask again.
	gate func() (wait time.Duration, err error)
	// failed, which may be nil, is told of a password that was hashed and is
	// wrong: not of one that was wrong a moment ago, which says nothing new.
	failed func()
}

// check reports whether a password is its account's. A nil account takes as
// long as one that exists, of the same number of hashes. The error is errBusy, the context's or the gate's;
// *limitedError where the gate asks for too long a wait.
func (p *passwords) check(ctx context.Context, t attempt) (bool, error) {
	mac := p.mac([]byte(t.password))
	if t.account.remembers(mac, p.now()) {
		return true, nil
	}
	miss := p.miss(t)
	if p.missed(miss) {
		return false, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, turn, errBusy)
	defer cancel()
	for {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		wait, done, right, err := p.try(t, mac, miss)
		<-p.slots
		if done || err != nil {
			return right, err
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) < wait {
			return false, &limitedError{wait: wait}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// try checks a password, or says how long to wait before it is tried again.
func (p *passwords) try(t attempt, mac, miss [sha256.Size]byte) (wait time.Duration, done, right bool, err error) {
	if t.account.remembers(mac, p.now()) { // somebody else just proved it
		return 0, true, true, nil
	}
	if p.missed(miss) {
		return 0, true, false, nil
	}
	if t.gate != nil {
		if wait, err = t.gate(); wait > 0 || err != nil {
			return wait, false, false, err
		}
	}
	if right = t.account.matches(t.password, t.hashes); right {
		t.account.seen.Store(&sighting{mac, p.now().Add(remembered)})
		return 0, true, true, nil
	}
	p.note(miss)
	if t.failed != nil {
		t.failed()
	}
	return 0, true, false, nil
}

// mac is a keyed hash that no other process can make.
func (p *passwords) mac(parts ...[]byte) (mac [sha256.Size]byte) {
	m := hmac.New(sha256.New, p.key[:])
	for _, b := range parts { // each with its length: where it ends counts
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		m.Write(b)
	}
	m.Sum(mac[:0])
	return mac
}

// miss stands for a wrong password of an account as it is now.
func (p *passwords) miss(t attempt) [sha256.Size]byte {
	parts := [][]byte{[]byte("wrong"), []byte(t.name), []byte(t.password)}
	if a := t.account; a != nil {
		parts = append(parts, []byte(a.version), a.hash)
		for _, f := range a.former {
			parts = append(parts, []byte(f))
		}
	}
	return p.mac(parts...)
}

func (p *passwords) missed(miss [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.wrong[miss]
	return ok && p.now().Before(until)
}

func (p *passwords) note(miss [sha256.Size]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if len(p.wrong) >= maxWrong {
		maps.DeleteFunc(p.wrong, func(_ [sha256.Size]byte, until time.Time) bool { return !now.Before(until) })
	}
	if len(p.wrong) >= maxWrong {
		clear(p.wrong)
	}
	p.wrong[miss] = now.Add(remembered)
}

// matches compares the password with the account's secrets, and hashes a wrong one
// so many times at least.
func (a *account) matches(password string, least int) bool {
	right := slices.ContainsFunc(a.secrets(least), func(secret string) bool { return isSecret(secret, password) })
	return right && a != nil && len(a.hash) > 0 && len(password) <= maxPassword
}

// proof is what a token is signed with that is given for a password, so that it
// is good no longer than that.
func (a *account) proof(password string) []byte {
	for _, f := range a.former {
		if isDigest(f) && isSecret(f, password) {
			return []byte(f)
		}
	}
	return []byte(a.secret)
}

// proofs are those of the passwords that are good; none where nobody can log in.
func (a *account) proofs() (list [][]byte) {
	if a == nil || len(a.hash) == 0 {
		return nil
	}
	for _, s := range append([]string{a.secret}, a.former...) {
		list = append(list, []byte(s))
	}
	return list
}

// secrets are the hashes and digests that a password is compared with, and so many
// hashes at least.
func (a *account) secrets(least int) []string {
	list := []string{unknownsHash}
	if a != nil {
		if len(a.hash) > 0 {
			list[0] = string(a.hash)
		}
		list = append(list, a.former...)
	}
	for n := slow(list); n < least; n++ {
		list = append(list, unknownsHash)
	}
	return list
}

// slow is how many of them take the time of a hash.
func slow(secrets []string) (n int) {
	for _, s := range secrets {
		if !isDigest(s) {
			n++
		}
	}
	return n
}

func (a *account) remembers(mac [sha256.Size]byte, now time.Time) bool {
	if a == nil {
		return false
	}
	s := a.seen.Load()
	return s != nil && now.Before(s.until) && hmac.Equal(s.mac[:], mac[:])
}
