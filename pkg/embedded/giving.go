package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Giving is where a token service gives tokens, and to whom: what changes of it is
// in force from its next beginning.
type Giving struct {
	// Registry is the URL of the registry, and Service its name in tokens.
	Registry string `json:"registry"`
	Service  string `json:"service"`
	// URL is what clients call the service, Listen the address that it has.
	URL    string `json:"url"`
	Listen string `json:"listen"`
	// Cert and Key are its PEM files, "" without TLS.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// String is the same for people, on one line.
func (g Giving) String() string {
	if g == (Giving{}) {
		return "by another version of ocisync, which does not say where"
	}
	s := fmt.Sprintf("for %s at %s, which is %s", g.Service, g.URL, g.Listen)
	if g.Cert != "" {
		s += ", with " + g.Cert + " and " + g.Key
	}
	return s
}

// giving is what this process does; nil where it gives none.
func (r *Registry) giving() *Giving {
	t := r.options.Tokens
	if t == nil {
		return nil
	}
	return &Giving{
		Registry: t.URL, Service: t.Service, URL: r.options.URL, Listen: r.options.Listen,
		Cert: r.options.TLSCert, Key: r.options.TLSKey,
	}
}

// anewRequest is what POST anew wants.
type anewRequest struct {
	Giving Giving `json:"giving"`
	// Try asks whether it could.
	Try bool `json:"try,omitempty"`
}

func (r *Registry) serveAnew(w http.ResponseWriter, q *http.Request) {
	var request anewRequest
	if !readJSON(w, q, maxCheckBytes, &request) {
		return
	}
	if r.options.Tokens == nil || r.options.Anew == nil {
		ociError(w, http.StatusNotFound, "NOT_FOUND", "what serves here does not begin anew")
		return
	}
	err := r.options.Anew(request.Giving, true)
	if err == nil {
		err = r.room(q.Context(), request.Giving)
	}
	if err == nil && !request.Try {
		err = r.options.Anew(request.Giving, false)
	}
	if !request.Try {
		recordOf(q).ran("anew", err)
	}
	if err != nil {
		ociError(w, http.StatusConflict, "UNKNOWN", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

// room tells why this token service could not begin anew so.
func (r *Registry) room(ctx context.Context, g Giving) error {
	if g.Listen != r.options.Listen {
		return Room(ctx, g)
	}
	if g.Cert == "" {
		return nil
	}
	_, err := loadCertificate(g.Cert, g.Key, slog.New(slog.DiscardHandler))
	return err
}

// Room tells why no token service could begin so: its address is taken, or its
// certificate cannot be used.
func Room(ctx context.Context, g Giving) error {
	l, err := listen(ctx, Options{Listen: g.Listen, TLSCert: g.Cert, TLSKey: g.Key, Tokens: &Tokens{}}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return l.Close()
}

// Anew has a token service begin anew, which must do so then; with try it is only
// asked whether it could. [AwaitGiving] waits until it has.
func (c *Client) Anew(ctx context.Context, g Giving, try bool) error {
	var none struct{}
	return call(ctx, c, http.MethodPost, "anew", nil, anewRequest{g, try}, &none)
}

// anewWait is how long a token service may take to begin anew: it lets requests in
// flight finish.
const anewWait = time.Minute

// AwaitGiving waits until a data directory's tokens are given so.
func AwaitGiving(ctx context.Context, data string, wanted Giving) error {
	ctx, cancel := context.WithTimeout(ctx, anewWait)
	defer cancel()
	var last error
	for {
		last = gives(ctx, data, wanted)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func gives(ctx context.Context, data string, wanted Giving) error {
	c, err := Dial(ctx, data)
	if err != nil {
		return err
	}
	info, err := c.Info(ctx)
	if err = errors.Join(err, c.Close()); err == nil && (info.Giving == nil || *info.Giving != wanted) {
		err = fmt.Errorf("process %d (%s) goes on as before; its log says why", info.PID, info.Command)
	}
	return err
}
