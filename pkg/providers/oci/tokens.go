package oci

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// Tokens keeps the access tokens of one account by the scopes that they were asked for
// ("repository:team/app:pull,push", Docker's token specification). Its zero value holds
// none. Safe for concurrent use.
type Tokens struct {
	mu  sync.Mutex
	all map[string]*token
}

// token is one for some scopes.
type token struct {
	ready chan struct{} // closed when it is there, or err says why not
	value string
	until time.Time
	err   error
}

// margin is how long before its end a token is renewed: a request that is under way
// then must not meet it.
const margin = 10 * time.Second

// Get is the token for some scopes, fetched once for all who want it. Fetch says how
// long it is good from the moment that it was asked for; nothing is what Docker's
// specification says of such, a minute. Fresh is that this call fetched it.
func (s *Tokens) Get(ctx context.Context, scopes []string, fetch func(context.Context) (value string, lives time.Duration, err error)) (value string, fresh bool, err error) {
	k := strings.Join(scopes, " ")
	s.mu.Lock()
	t := s.all[k]
	if t != nil {
		select {
		case <-t.ready:
			if t.err != nil || time.Now().After(t.until) {
				t = nil
			}
		default:
		}
	}
	mine := t == nil
	if mine {
		t = &token{ready: make(chan struct{})}
		if s.all == nil {
			s.all = map[string]*token{}
		}
		s.all[k] = t
	}
	s.mu.Unlock()
	if mine {
		asked := time.Now()
		var lives time.Duration
		t.value, lives, t.err = fetch(ctx)
		if lives <= 0 {
			lives = time.Minute
		}
		t.until = asked.Add(lives - min(margin, lives/4))
		close(t.ready)
		return t.value, true, t.err
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
	if errors.Is(t.err, context.Canceled) && ctx.Err() == nil { // of who fetched it
		return s.Get(ctx, scopes, fetch)
	}
	return t.value, false, t.err
}

// Drop forgets a token that the registry did not take.
func (s *Tokens) Drop(scopes []string, value string) {
	k := strings.Join(scopes, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.all[k]
	if t == nil {
		return
	}
	select {
	case <-t.ready:
		if t.value == value {
			delete(s.all, k)
		}
	default:
	}
}
