package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
)

// logins sends requests as an account. What a registry asks for is known from the first
// answer that asks: one that lets anybody in costs no request.
type logins struct {
	base   *url.URL
	client *http.Client
	auth   authn.Authenticator

	mu     sync.Mutex
	said   *authn.AuthConfig // what auth says; a program may have been asked
	asks   oci.Info          // what the registry asked for
	tokens map[string]*token
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

// send sends a request with what the registry asked for, and once more where it asks
// for something else, or for a new token.
func (l *logins) send(req *http.Request, scopes []string) (*http.Response, error) {
	if err := l.authorize(req, scopes); err != nil {
		return nil, err
	}
	sent := req.Header.Get("Authorization")
	resp, err := l.client.Do(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	asks, ok := oci.Challenge(resp.Header.Values("Www-Authenticate"))
	again := req.Clone(req.Context())
	switch {
	case !ok, asks.Auth == "basic" && (l.auth == nil || sent != ""):
		return resp, nil
	case req.GetBody == nil && req.Body != nil:
		return resp, nil
	case req.GetBody != nil:
		if again.Body, err = req.GetBody(); err != nil {
			resp.Body.Close()
			return nil, err
		}
	}
	l.learn(asks, scopes, sent)
	if err := l.authorize(again, scopes); err != nil {
		resp.Body.Close()
		return nil, err
	}
	if again.Header.Get("Authorization") == sent {
		return resp, nil
	}
	drain(resp)
	return l.client.Do(again)
}

// drain reads the little that is left of an answer, so that its connection serves
// again, and closes it.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	resp.Body.Close()
}

// learn notes what a registry asks for, and drops a token that it does not take.
func (l *logins) learn(asks oci.Info, scopes []string, sent string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asks = asks
	if t := l.tokens[key(scopes)]; t != nil && sent == "Bearer "+t.value {
		delete(l.tokens, key(scopes))
	}
}

func key(scopes []string) string { return strings.Join(scopes, " ") }

// authorize puts into a request what the registry asks for.
func (l *logins) authorize(req *http.Request, scopes []string) error {
	l.mu.Lock()
	asks := l.asks
	l.mu.Unlock()
	switch {
	case asks.Auth == "bearer":
		value, err := l.token(req.Context(), asks, scopes)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+value)
	case l.auth != nil: // one that is open to anybody in part would answer with that part
		words, err := l.words(req.Context())
		if err != nil {
			return err
		}
		switch {
		case words.RegistryToken != "":
			req.Header.Set("Authorization", "Bearer "+words.RegistryToken)
		case words.Username != "":
			req.SetBasicAuth(words.Username, words.Password)
		}
	}
	return nil
}

// words are what the account says of itself.
func (l *logins) words(ctx context.Context) (*authn.AuthConfig, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said != nil {
		return l.said, nil
	}
	said, err := authn.Authorization(ctx, l.auth)
	if err != nil {
		return nil, fmt.Errorf("%w: asking for the login: %w", providers.ErrUnauthorized, err)
	}
	l.said = said
	return said, nil
}

// token is one for some scopes, fetched once for all who want it.
func (l *logins) token(ctx context.Context, asks oci.Info, scopes []string) (string, error) {
	k := key(scopes)
	l.mu.Lock()
	t := l.tokens[k]
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
		if l.tokens == nil {
			l.tokens = map[string]*token{}
		}
		l.tokens[k] = t
	}
	l.mu.Unlock()
	if mine {
		t.value, t.until, t.err = l.fetch(ctx, asks, scopes)
		close(t.ready)
		return t.value, t.err
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if errors.Is(t.err, context.Canceled) && ctx.Err() == nil { // of who fetched it
		return l.token(ctx, asks, scopes)
	}
	return t.value, t.err
}

// fetch asks the token service (Docker's token specification, and OAuth 2 as
// registries have it).
func (l *logins) fetch(ctx context.Context, asks oci.Info, scopes []string) (string, time.Time, error) {
	strict := []name.Option{name.StrictValidation}
	if l.base.Scheme == "http" {
		strict = append(strict, name.Insecure)
	}
	reg, err := name.NewRegistry(l.base.Host, strict...)
	if err != nil {
		return "", time.Time{}, err
	}
	auth := l.auth
	if auth == nil {
		auth = authn.Anonymous
	}
	asked := time.Now()
	tok, err := transport.Exchange(ctx, reg, auth, l.client.Transport, slices.Clone(scopes), &transport.Challenge{
		Scheme: "bearer", Insecure: l.base.Scheme == "http",
		Parameters: map[string]string{"realm": asks.Realm, "service": asks.Service},
	})
	if err != nil {
		return "", time.Time{}, err
	}
	value := tok.Token
	if value == "" {
		value = tok.AccessToken
	}
	lives := time.Duration(tok.ExpiresIn) * time.Second
	if lives <= 0 {
		lives = time.Minute // Docker's token specification
	}
	return value, asked.Add(lives - min(margin, lives/4)), nil
}
