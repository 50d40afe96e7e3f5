// Package token is the token service of registries that know accounts and no
// rights: it tells who may do what by tokens that the registry checks by
// signature alone. It is also that of a registry which knows both, and whose
// clients want to ask for tokens all the same ([Own]). The protocol is that of the
// CNCF Distribution project
// (docs/content/spec/auth/{token,oauth,jwt,scope}.md in its repository).
//
// Start with [New]: a [Service] answers clients, by the accounts and rules that
// [Accounts] gives it and signing with [Keys]. It keeps nothing between two
// requests but its keys.
package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
)

const (
	// Path is where a service answers clients.
	Path = "/token"
	// Issuer is the name of every service of ours; what tells two of them
	// apart are the keys.
	Issuer = "ocisync"
	// Life is how long a token is good for.
	Life = 5 * time.Minute
	// Leeway is how much longer Distribution takes a token
	// (registry/auth/token/token.go).
	Leeway = time.Minute
	// RefreshLife is how long a refresh token is good for, while its account
	// stays as it is.
	RefreshLife = 30 * 24 * time.Hour
	// RotateEvery is how long a key signs where nothing else is said.
	RotateEvery = 30 * 24 * time.Hour
	// askAgain is the pause after a rotation by time that could not be made.
	askAgain = time.Hour
)

// Accounts is what a service asks of whoever keeps accounts and rules.
type Accounts interface {
	// Login checks the credentials of a request, and returns a proof of the
	// password: what is another when that is. A [RefusedError] says why they are
	// not accepted, and any other error that they could not be checked.
	Login(r *http.Request, account, password string) (who access.Subject, proof []byte, err error)
	// Find returns who an account is, and the proofs of the passwords that it
	// has now: none of one that nobody can log in with.
	Find(account string) (who access.Subject, proofs [][]byte)
	// Rules are those in force now.
	Rules() *access.Rules
}

// RefusedError is why a client gets no token.
type RefusedError struct {
	Status int           // of HTTP: 400, 401 or 429
	Reason string        // for the client
	Wait   time.Duration // with 429
}

func (r *RefusedError) Error() string { return r.Reason }

// Options are what a service is made of.
type Options struct {
	// Service is the registry's name, by which its tokens are told from those
	// of others; "" is any.
	Service string
	// Keys sign tokens for a registry that checks them by signature alone, and
	// Own are those of one that gives them itself: one of the two. With Own there
	// are no refresh tokens, and no keys to tend.
	Keys     *Keys
	Own      *Own
	Accounts Accounts
	// Known asks the registry whether it takes a token. Without it keys are
	// changed without asking.
	Known func(ctx context.Context, token string) (bool, error)
	// Every is how long a key signs before the next one does by itself; 0 is
	// for ever.
	Every time.Duration
	// Granted is told of each grant, by the request's goroutine; may be nil.
	Granted func(Grant)
	// Logger may be nil.
	Logger *slog.Logger
}

// Grant is a token that was given, for an audit log.
type Grant struct {
	Account string // "" for anonymous clients
	Address string
	// Asked and Granted are scopes, the first cut where it is long.
	Asked, Granted string
}

// Service is an [http.Handler] for [Path]. Safe for concurrent use.
type Service struct {
	o   Options
	now func() time.Time
}

// New makes a service.
func New(o Options) *Service {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Own != nil {
		return &Service{o: o, now: o.Own.now}
	}
	return &Service{o: o, now: o.Keys.now}
}

// ErrUnknownKey means that the registry has not read the next key yet.
var ErrUnknownKey = errors.New("the registry does not know the next key yet")

// Rotate signs with the next key from now on and makes another to follow it.
// Tokens of the former key are good until they expire. A registry reads keys
// when it starts, so that it must have been started since the rotation before:
// if it was not, that is ErrUnknownKey, and nothing is changed.
func (s *Service) Rotate(ctx context.Context) error {
	if s.o.Known != nil {
		probe, err := s.o.Keys.probe(s.o.Service)
		if err != nil {
			return err
		}
		known, err := s.o.Known(ctx, probe)
		if err != nil {
			return fmt.Errorf("asking the registry for the next key: %w", err)
		}
		if !known {
			return fmt.Errorf("%w: it reads %s when it starts; restart it, then rotate again", ErrUnknownKey, s.o.Keys.Published())
		}
	}
	if err := s.o.Keys.Rotate(); err != nil {
		return err
	}
	s.o.Logger.Info("keys rotated", "current", s.o.Keys.Current())
	return nil
}

// Tend does of the keys what is due: it forgets former ones when the last of
// their tokens has expired, and rotates when the current one has signed for as
// long as it is to.
func (s *Service) Tend(ctx context.Context) error {
	if err := s.o.Keys.Tidy(); err != nil {
		return fmt.Errorf("former keys stay where they are: %w", err)
	}
	since := s.o.Keys.Since()
	if s.o.Every <= 0 || s.now().Sub(since) < s.o.Every {
		return nil
	}
	if err := s.Rotate(ctx); err != nil {
		return fmt.Errorf("the key that signs since %s stays: %w", since.Format(time.RFC3339), err)
	}
	return nil
}

// Upkeep tends the keys until the context is done.
func (s *Service) Upkeep(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	var failed time.Time
	for {
		if now := s.now(); now.Sub(failed).Abs() >= askAgain {
			failed = time.Time{}
			if err := s.Tend(ctx); err != nil && ctx.Err() == nil {
				failed = now
				s.o.Logger.Warn("keys are not tended", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
