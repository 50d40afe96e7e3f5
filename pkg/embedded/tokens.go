package embedded

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/pkg/webhook"
)

// Tokens says for what registry a token service speaks.
type Tokens struct {
	Keys *token.Keys
	// Service is the registry's name, as it stands in its configuration.
	Service string
	// URL is the registry's, of whose events webhooks are told; Inbox is the file
	// that says where it posts them, "" where it does not.
	URL, Inbox string
	// Known asks the registry whether it takes a token; nil does not ask.
	Known func(ctx context.Context, token string) (bool, error)
	// Every is how long a key signs before the next one does; 0 is for ever.
	Every time.Duration
	// Job does a job of the registry that is due, JobGC, or JobRetention of some
	// namespaces, by the schedules of the accounts' rules. nil: none is done.
	Job func(ctx context.Context, name string, namespaces []string) error
	// Tend is called every few seconds while Serve runs, to look after the
	// registry; quiet is for how long nobody was given a token. May be nil.
	Tend func(ctx context.Context, quiet time.Duration) error
}

const (
	tendFirst = 3 * time.Second // after Serve began
	tendEvery = 15 * time.Second
)

// tend calls the one of the options until the context is done. What goes wrong
// is logged, and tried again less and less often.
func (r *Registry) tend(ctx context.Context, g *grants) {
	began, next := time.Now(), tendFirst
	pause := tendEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
		next = tendEvery
		if err := r.options.Tokens.Tend(ctx, time.Since(g.since(began))); err != nil && ctx.Err() == nil {
			r.logger.Error("looking after the registry failed", "error", err)
			next, pause = pause, min(2*pause, time.Hour)
			continue
		}
		pause = tendEvery
	}
}

// job is one of a registry that another program serves.
func (t *Tokens) job(name string, namespaces []string) func(context.Context, bool) (Report, error) {
	return func(ctx context.Context, _ bool) (Report, error) {
		return Report{Job: name}, t.Job(ctx, name, namespaces)
	}
}

// issue makes this a token service.
func (r *Registry) issue(deliveries *webhook.Queue) (end func() error) {
	o := r.options.Tokens
	granted := &grants{logger: r.logger, now: time.Now}
	if o.Tend != nil {
		r.tending = func(ctx context.Context) { r.tend(ctx, granted) }
	}
	r.tokens = token.New(token.Options{
		Service: o.Service, Keys: o.Keys, Known: o.Known, Every: o.Every, Logger: r.logger, Accounts: issuer{r}, Granted: granted.note,
	})
	if o.Job != nil {
		r.jobs = newScheduler(r.options.Data, r.logger, r.jobList, func(context.Context) time.Duration { return lookAgain })
	}
	r.store.contents = func(context.Context) (*contents, error) {
		return &contents{
			gate: r.gate, times: newTimes(r.options.Data, r.logger), queue: deliveries,
			close: func(context.Context) error { return nil },
		}, nil
	}
	return granted.close
}

// grants is the audit log of tokens: a line for each that an account gets. Of
// those that anonymous clients get, who ask as often as they like, one of each
// address, and then how many there were.
type grants struct {
	logger *slog.Logger
	now    func() time.Time

	last atomic.Int64 // when the last one was, in Unix nanoseconds; 0 for never

	mu    sync.Mutex
	folds folds
}

// since is when the last grant was, or the beginning.
func (g *grants) since(began time.Time) time.Time {
	if last := g.last.Load(); last != 0 {
		return time.Unix(0, last)
	}
	return began
}

// note writes what was granted, or counts it.
func (g *grants) note(t token.Grant) {
	g.last.Store(g.now().UnixNano())
	account := t.Account
	if account == "" {
		account = "anonymous"
		if !g.first(t.Address) {
			return
		}
	}
	g.logger.Info("token granted", "account", account, "address", t.Address, "asked", t.Asked, "granted", t.Granted)
}

func (g *grants) first(address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.tell(g.folds.over(now))
	first := g.folds.first(AuditLine{Time: now, Account: "anonymous", Address: address, Action: "token", Status: http.StatusOK, Result: "ok"}, now)
	if first {
		g.folds.wake(g.sumUp)
	}
	return first
}

func (g *grants) sumUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tell(g.folds.over(g.now()))
	g.folds.wake(g.sumUp)
}

func (g *grants) tell(sums []AuditLine) {
	for _, s := range sums {
		g.logger.Info("tokens granted", "account", "anonymous", "address", s.Address, "more", s.Count, "until", s.Time.UTC().Format(time.RFC3339))
	}
}

func (g *grants) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tell(g.folds.all())
	return nil
}

// issuer is what the token service knows of accounts and rules.
type issuer struct{ *Registry }

// Login implements [token.Accounts].
func (i issuer) Login(q *http.Request, name, password string) (access.Subject, []byte, error) {
	who, a, err := i.authenticate(q, name, password)
	if err == nil {
		return who.subject, a.proof(password), nil
	}
	limited := (*limitedError)(nil)
	switch {
	case errors.As(err, &limited):
		err = &token.RefusedError{Status: http.StatusTooManyRequests, Reason: limited.Error(), Wait: limited.wait}
	case errors.Is(err, errWrongLogin):
		err = &token.RefusedError{Status: http.StatusUnauthorized, Reason: err.Error()}
	}
	return access.Subject{}, nil, err
}

// Find implements [token.Accounts].
func (i issuer) Find(name string) (access.Subject, [][]byte) {
	a, who := i.store.now().login(name, i.store.clock())
	return who, a.proofs()
}

// Rules implements [token.Accounts].
func (i issuer) Rules() *access.Rules { return i.store.now().rules }

func (r *Registry) serveToken(w http.ResponseWriter, q *http.Request) {
	if err := r.asked.take(clientOf(q)); err != nil {
		r.limit(q, "tokens", err)
		login(w, err, errAskPassword)
		return
	}
	q.Form, q.PostForm = nil, nil // a token may be asked for by a form, which is bounded
	r.tokens.ServeHTTP(w, q)
}

func (r *Registry) serveRotate(w http.ResponseWriter, q *http.Request) {
	if r.options.Tokens == nil {
		ociError(w, http.StatusNotFound, "NOT_FOUND", "this registry has no keys of a token service")
		return
	}
	if !readJSON(w, q, maxCheckBytes, &struct{}{}) {
		return
	}
	err := r.tokens.Rotate(q.Context())
	recordOf(q).ran("rotate", err)
	status := http.StatusOK
	if errors.Is(err, token.ErrUnknownKey) {
		status = http.StatusConflict
	} else if err != nil {
		r.logger.Error("rotating keys failed", "error", err)
		status = http.StatusInternalServerError
	}
	if err != nil {
		ociError(w, status, "UNKNOWN", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

// Rotate has a token service sign with its next key from now on. It is an
// error where the registry does not know that key.
func (c *Client) Rotate(ctx context.Context) error {
	var none struct{}
	return call(ctx, c, http.MethodPost, "rotate", nil, struct{}{}, &none)
}
