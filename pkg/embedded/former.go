package embedded

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// maxFormer bounds the former secrets of an account.
const maxFormer = 1000

// FormerSecret is a secret that was made for an account before its newest, and
// that may have been delivered. It works no longer than the account would have
// with it: each expires by its own time.
type FormerSecret struct {
	Secret string    // its digest, or hash; never told
	Made   time.Time // zero of one that an older version kept: before the account's newest
}

// MarshalText implements [encoding.TextMarshaler]: the secret, "@" and the time.
func (f FormerSecret) MarshalText() ([]byte, error) {
	if f.Made.IsZero() {
		return []byte(f.Secret), nil
	}
	return []byte(f.Secret + "@" + f.Made.Format(time.RFC3339Nano)), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. Without a time it is what an
// older version kept.
func (f *FormerSecret) UnmarshalText(b []byte) (err error) {
	secret, made, timed := strings.Cut(string(b), "@")
	if f.Secret = secret; timed {
		f.Made, err = time.Parse(time.RFC3339Nano, made)
	}
	return err
}

// working are the former secrets of an account that have not ended.
func (a RobotAccount) working(spec *schema.Robot, now time.Time) (list []FormerSecret) {
	if !a.FormerEnds.IsZero() && !now.Before(a.FormerEnds) {
		return nil
	}
	for _, f := range a.Former {
		f.Made = cmp.Or(f.Made, a.Made)
		if !(RobotAccount{Made: f.Made}).ended(spec, now) {
			list = append(list, f)
		}
	}
	return list
}

// secret is what an account's secret is among former ones, once it is one.
func (a RobotAccount) secret() string { return cmp.Or(a.Digest, a.Hash) }

// formerly is an account's secret and its former ones, newest first, as those of
// the account that takes its place under its login. What has ended does not come back
// with it, nor what another account has replaced.
func (a RobotAccount) formerly(spec *schema.Robot, now time.Time) []FormerSecret {
	if a.Delivered && !a.Ends.IsZero() || a.ended(spec, now) {
		return nil
	}
	list := append([]FormerSecret{{a.secret(), a.Made}}, a.working(spec, now)...)
	return list[:min(len(list), maxFormer)]
}

// sweepFormer drops former secrets that have ended, and has one that a clock that
// was ahead made begin now.
func (a *RobotAccount) sweepFormer(spec *schema.Robot, now time.Time) (did bool) {
	left := a.working(spec, now)
	if !a.FormerEnds.IsZero() && a.Ahead(now) {
		left = nil
	}
	did = len(left) != len(a.Former)
	for i, f := range left {
		if f.Made.After(now.Add(clockSlack)) {
			left[i].Made, did = now, true
		}
	}
	if !did {
		return false
	}
	if a.Former = left; len(left) == 0 {
		a.FormerEnds = time.Time{}
	}
	return true
}

func secretsOf(list []FormerSecret) (out []string) {
	for _, f := range list {
		out = append(out, f.Secret)
	}
	return out
}

// without is the account of a login with those former secrets alone that work now.
func (l *robotLogin) without(now time.Time) *account {
	left := secretsOf(l.about.working(l.spec, now))
	if slices.Equal(left, l.former) {
		return &l.account
	}
	return &account{version: l.version, hash: l.hash, secret: l.secret, former: left} // remembers no login
}
