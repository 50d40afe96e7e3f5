package embedded

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/schema"
)

const (
	// clockSlack is how far a clock may go back without anybody being suspicious.
	clockSlack = 5 * time.Minute
	// sweepEvery is how often a registry that is served looks for accounts that
	// have ended.
	sweepEvery = time.Second

	digestPrefix = "sha256:"
)

// SecretDigest is the digest of a secret that nobody can guess, which an
// [AccountChange] takes beside its hash: a thousand of them are checked at once.
func SecretDigest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return digestPrefix + hex.EncodeToString(sum[:])
}

func isDigest(s string) bool {
	rest, ok := strings.CutPrefix(s, digestPrefix)
	b, err := hex.DecodeString(rest)
	return ok && err == nil && len(b) == sha256.Size
}

// isSecret reports whether a password is that of a digest or hash.
func isSecret(former, password string) bool {
	if isDigest(former) {
		return subtle.ConstantTimeCompare([]byte(former), []byte(SecretDigest(password))) == 1
	}
	return bcrypt.CompareHashAndPassword([]byte(former), []byte(password)) == nil
}

// same reports whether two are one account and its secret, at two times.
func (a RobotAccount) same(b RobotAccount) bool {
	return a.Login == b.Login && a.Hash == b.Hash && a.Made.Equal(b.Made)
}

// sweep returns the document with what has ended by now written down, so that
// no clock that is set back brings it to life: accounts that another took the
// place of go, former secrets too, and one that has expired is marked. Over, which may be nil, knows
// logins that were seen to have ended.
func (d document) sweep(now time.Time, over func(RobotAccount) bool) document {
	next := map[string][]RobotAccount{}
	for _, o := range d.Objects {
		if spec, ok := o.Spec.(*schema.Robot); ok {
			name := o.Key.String()
			if list, did := sweep(d.Robots[name], spec, now, over); did {
				next[name] = list
			}
		}
	}
	if len(next) == 0 {
		return d
	}
	d.Robots = maps.Clone(d.Robots)
	maps.Copy(d.Robots, next)
	d.Revision++
	return d
}

func sweep(accounts []RobotAccount, spec *schema.Robot, now time.Time, over func(RobotAccount) bool) (list []RobotAccount, did bool) {
	for _, a := range accounts {
		if a.Replaced.After(now.Add(clockSlack)) { // by a clock that was ahead: the overlap begins now
			a.Ends = now.Add(a.Ends.Sub(a.Replaced))
			a.Replaced, did = now, true
		}
		did = a.sweepFormer(spec, now) || did
		if a.ended(spec, now) || over != nil && over(a) {
			if !a.Ends.IsZero() {
				did = true
				continue
			}
			did = did || !a.Ended
			a.Ended = true
		}
		list = append(list, a)
	}
	return list, did
}

// revive takes back that a robot's accounts have expired where its change says
// anew when they do.
func (c Change) revive(next *document, before schema.Spec) {
	old, _ := before.(*schema.Robot)
	spec, ok := c.Object.Spec.(*schema.Robot)
	if !ok || old == nil || value(old.Expires) == value(spec.Expires) {
		return
	}
	name := c.Object.Key.String()
	list := slices.Clone(next.Robots[name])
	for i := range list {
		list[i].Ended = false
	}
	if list != nil {
		next.Robots[name] = list
	}
}

// sweep writes down what has ended. The caller holds s.mu.
func (s *store) sweep(now time.Time) error {
	at := s.now()
	return s.replace(at.doc.sweep(now, func(a RobotAccount) bool {
		l := at.robots[a.Login]
		return l != nil && l.about.same(a) && l.over.Load()
	}))
}

// sweep writes down what has ended, soon after it does, until the context is
// done.
func (r *Registry) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for failed := false; ; {
		r.store.mu.Lock()
		err := r.store.sweep(r.store.clock().UTC())
		r.store.mu.Unlock()
		if err != nil && !failed {
			r.logger.Error("noting which accounts of robots have ended failed; they end all the same unless the clock is set back", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
