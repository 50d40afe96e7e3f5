package content

import (
	"cmp"
	"context"
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

// logins sends requests as an account. What a registry asks for is known from its
// answer to nobody, which is asked for once where there is an account; without one it is
// known from the first answer that asks, so that one that lets anybody in costs no request.
type logins struct {
	base   *url.URL
	client *http.Client
	auth   authn.Authenticator
	realms []string // token services of other hosts that may see the account
	hint   string   // what to do about one that may not, with {realm} in it; "" for none

	greeting sync.Mutex
	greeted  bool

	mu     sync.Mutex
	said   *authn.AuthConfig // what auth says; a program may have been asked
	asks   oci.Info          // what the registry asked for
	tokens oci.Tokens
}

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
	case !ok, asks.Auth == "basic" && (l.auth == nil || sent != "" && !strings.HasPrefix(sent, bearer)):
		return resp, nil
	case req.GetBody == nil && req.Body != nil:
		return resp, nil
	case req.GetBody != nil:
		if again.Body, err = req.GetBody(); err != nil {
			resp.Body.Close()
			return nil, err
		}
	}
	if asks.Auth == "basic" && sent != "" { // as Harbor does for its catalogue, which it shows no token
		err = l.password(again)
	} else {
		l.learn(asks, scopes, sent)
		err = l.authorize(again, scopes)
	}
	if err != nil {
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
	l.asks = asks
	l.mu.Unlock()
	if value, ok := strings.CutPrefix(sent, bearer); ok {
		l.tokens.Drop(scopes, value)
	}
}

const bearer = "Bearer "

// authorize puts into a request what the registry asks for.
func (l *logins) authorize(req *http.Request, scopes []string) error {
	l.greet(req.Context())
	l.mu.Lock()
	asks := l.asks
	l.mu.Unlock()
	switch {
	case asks.Auth == "bearer":
		value, _, err := l.tokens.Get(req.Context(), scopes, func(ctx context.Context) (string, time.Duration, error) {
			return l.fetch(ctx, asks, scopes)
		})
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", bearer+value)
	case l.auth != nil: // one that is open to anybody in part would answer with that part
		return l.password(req)
	}
	return nil
}

// password puts into a request what the account says of itself.
func (l *logins) password(req *http.Request) error {
	words, err := l.words(req.Context())
	if err != nil {
		return err
	}
	switch {
	case words.RegistryToken != "":
		req.Header.Set("Authorization", bearer+words.RegistryToken)
	case words.Username != "":
		req.SetBasicAuth(words.Username, words.Password)
	}
	return nil
}

// greet asks what the registry asks for, before it is sent a password: to check one with
// each request may cost it half a second, and it takes tokens then as well. One that gives
// tokens where the account may not go, or does not answer, is sent the password.
func (l *logins) greet(ctx context.Context) {
	if l.auth == nil {
		return
	}
	l.greeting.Lock()
	defer l.greeting.Unlock()
	if l.greeted {
		return
	}
	asks, _ := oci.Ping(ctx, l.base.String(), l.client.Transport) // whatever else is wrong, the request itself will tell
	l.greeted = ctx.Err() == nil
	if asks.Auth == "bearer" && asks.Within(l.base, l.realms...) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asks = asks
	}
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

// fetch asks the token service (Docker's token specification, and OAuth 2 as
// registries have it).
func (l *logins) fetch(ctx context.Context, asks oci.Info, scopes []string) (string, time.Duration, error) {
	realm, err := url.Parse(asks.Realm)
	if err != nil || realm.Host == "" {
		return "", 0, fmt.Errorf("the token service that it names is no URL: %s", printable(asks.Realm))
	}
	if !asks.Within(l.base, l.realms...) && realm.Scheme+l.base.Scheme != "httphttps" {
		realm.RawQuery, realm.Fragment, realm.User = "", "", nil
		service := printable(realm.String())
		return "", 0, &providers.Error{
			Registry: l.base.String(), Err: fmt.Errorf("%w: it sends us on to the token service %s of another host, which is not to see the login", providers.ErrForbidden, service),
			Remedy: cmp.Or(strings.ReplaceAll(l.hint, "{realm}", service), "let the token service be reached under the registry's own host"),
		}
	}
	strict := []name.Option{name.StrictValidation}
	if l.base.Scheme == "http" {
		strict = append(strict, name.Insecure)
	}
	// The exchange refuses private addresses but that of the registry that it is told: of
	// a service that was named, or has the registry's host, that is its own.
	reg, err := name.NewRegistry(realm.Host, strict...)
	if err != nil {
		return "", 0, err
	}
	auth := l.auth
	if auth == nil {
		auth = authn.Anonymous
	}
	tok, err := transport.Exchange(ctx, reg, auth, l.client.Transport, slices.Clone(scopes), &transport.Challenge{
		Scheme: "bearer", Insecure: l.base.Scheme == "http",
		Parameters: map[string]string{"realm": asks.Realm, "service": asks.Service},
	})
	if err != nil {
		return "", 0, err
	}
	value := tok.Token
	if value == "" {
		value = tok.AccessToken
	}
	return value, time.Duration(tok.ExpiresIn) * time.Second, nil
}
