package zot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// status is what is known of the process.
type status struct {
	running bool
	blind   bool   // nothing tells what it takes over
	id      string // another with each start; "" where nobody tells
	started time.Time
	version func() string // of Zot; "" where nobody tells
	deaf    string        // why nothing that listens on this host is reached by it
	// misses are the files that were replaced by others since it started, so that
	// it is not told of what is written there.
	misses misses
	doubt  string // why more processes than one count for those misses
	// ran is what it runs with where the file says something else that it is told of, nil
	// where that is not so, or not known.
	ran *config.Document
	// watches is that its process was found, and is told of what is written to its
	// configuration, as far as anything tells.
	watches bool
}

type misses struct{ config, accounts bool }

// status asks who runs the registry, or else its address.
func (p *Provider) status(ctx context.Context, s *site) (status, error) {
	st, err := p.look(ctx, s)
	st.version = sync.OnceValue(func() string { return p.version(ctx, s) })
	return st, err
}

func (p *Provider) look(ctx context.Context, s *site) (status, error) {
	if err := ctx.Err(); err != nil {
		return status{}, err
	}
	if p.process != nil {
		st, err := p.process.Status(ctx)
		if err != nil {
			return status{}, p.fail(schema.Key{}, "asking whether it runs", err, "")
		}
		out := status{running: st.Running, blind: !p.told(s), id: st.ID, started: st.Started}
		if zot, ok := p.servedBy(); st.Running && ok {
			out.seen(zot, p.paths.config, s)
		}
		return out, nil
	}
	if p.paths.data != "" && s.doc == nil {
		return status{}, nil
	}
	if zot, ok := p.servedBy(); ok { // whatever is at the URL
		out := status{running: true, id: zot.ID, started: zot.Began}
		out.seen(zot, p.paths.config, s)
		return out, nil
	}
	return status{running: p.answers(ctx)}, nil
}

// servedBy looks where Zot listens: where ocisync has it, a proxy may be at the URL.
func (p *Provider) servedBy() (providers.Server, bool) {
	at := p.url
	if p.registry.Run != nil {
		at = &url.URL{Scheme: p.url.Scheme, Host: net.JoinHostPort(p.listen())}
	}
	return providers.ServedBy(p.paths.config, at)
}

// seen notes what its process is told of. Of accounts that its configuration does not name
// it is not, and needs not be.
func (st *status) seen(zot providers.Server, config string, s *site) {
	accounts := ""
	if a := s.conf.HTTP.Auth; a != nil && a.HTPasswd != nil && a.HTPasswd.Path != "" {
		accounts = s.htpasswd
	}
	st.misses = misses{
		config:   zot.Misses(config, providers.TheFile), // later versions than 2.1.20 watch the directory of accounts alone
		accounts: accounts != "" && zot.Misses(accounts, providers.OrItsDirectory),
	}
	st.watches, st.doubt = !st.misses.config, zot.Doubt()
}

// answers reports whether anybody listens at the registry's address.
func (p *Provider) answers(ctx context.Context) bool {
	host := p.url.Host
	if p.url.Port() == "" {
		host = net.JoinHostPort(p.url.Hostname(), map[string]string{"http": "80", "https": "443"}[p.url.Scheme])
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	c, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return false
	}
	c.Close() //nolint:errcheck // somebody listens
	if time.Since(time.Unix(0, p.silent.Load())) < settles {
		return true
	}
	return !p.misdirected(ctx)
}

// misdirected reports whether it is a proxy alone that answers, and Zot does not
// run behind it.
func (p *Provider) misdirected(ctx context.Context) bool {
	_, rt, err := p.client()
	if err != nil {
		return false
	}
	defer rt.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.JoinPath("/v2/").String(), nil)
	if err != nil {
		return false
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			p.silent.Store(time.Now().UnixNano())
		}
		return false
	}
	resp.Body.Close()
	return slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, resp.StatusCode)
}

// patient is how long a proxy may take to say that nothing is behind it.
const patient = 500 * time.Millisecond

// settles is how long one that said nothing is taken for a Zot that runs without
// being waited for again, as long as it listens: a plan asks more than once.
const settles = 10 * time.Second

// inForce is the configuration that the running process took over, where that
// is another than the file; nil where the file is in force, or will be with the
// next start, or nobody can tell. What was written last tells, and the process's
// own log.
func (p *Provider) inForce(ctx context.Context, s *site, st status) *running {
	if st.running && s.cut.config && s.doc != nil {
		return p.beforeCut(ctx, s, st)
	}
	if v := p.sinceWritten(ctx, s, st); v != nil || !st.running || s.doc == nil {
		return v
	}
	if st.misses.config && !p.known(s, st) || st.misses.accounts && !p.knownAccounts(s, st) {
		return &running{s.doc, s.conf, true}
	}
	if p.known(s, st) {
		return nil
	}
	r := p.logged(ctx, s)
	if r == nil {
		return nil
	}
	if r.goesOn(s) {
		return r.running(s)
	}
	if sameRules(r.conf, s.conf) {
		return nil
	}
	conf := s.conf
	conf.HTTP.AccessControl, conf.Storage = r.conf.HTTP.AccessControl, r.conf.Storage
	return &running{s.doc, conf, true} // it does not see the file, or does not take this over while it runs
}

// ranWith is what st.ran says.
func (p *Provider) ranWith(ctx context.Context, s *site, st status) *config.Document {
	v := p.inForce(ctx, s, st)
	if v == nil || v.lost || st.misses.config {
		return nil
	}
	return v.doc
}

// known reports whether the process took over what the file says by what ocisync
// saw it take over last.
func (p *Provider) known(s *site, st status) bool {
	last := s.own.Loaded
	return last.Process == st.id && files.Equal(s.text, []byte(last.Config))
}

// knownAccounts is the same of the accounts.
func (p *Provider) knownAccounts(s *site, st status) bool {
	last := s.own.Loaded
	return last.Process == st.id && last.Accounts != "" && last.Accounts == digestOf(s.accounts)
}

// digestOf names a content. Of accounts it tells nothing: a hash of bcrypt's has
// 128 bits of salt.
func digestOf(b []byte) string {
	sum := sha256.Sum256(bytes.TrimRight(b, "\n"))
	return hex.EncodeToString(sum[:])
}

// sinceWritten is that configuration by what ocisync wrote last, and what became
// of the file since.
func (p *Provider) sinceWritten(ctx context.Context, s *site, st status) *running {
	last := s.own.Loaded
	if !st.running || s.doc == nil || last.Config == "" || p.known(s, st) {
		return nil
	}
	if st.id != last.Process { // it started since
		if !st.started.IsZero() && !s.changed.After(st.started.Add(providers.ReadsAfter)) {
			return nil // and read the file then
		}
		r := p.logged(ctx, s)
		switch {
		case r != nil && r.goesOn(s):
			return r.running(s)
		case (r == nil || r.begun == nil) && !st.started.IsZero():
			return &running{s.doc, s.conf, true} // nothing tells with what
		case files.Equal(s.text, []byte(last.Config)):
			return nil
		}
	}
	doc, conf, err := read(p.paths.config, []byte(last.Config))
	if err != nil {
		return nil
	}
	lost := s.inode != last.Inode // what it watches is gone
	if how, _ := reach(doc, s.doc); !lost && how != plan.Restart {
		return nil // written in place, which it sees
	}
	if r := p.logged(ctx, s); p.process == nil && r != nil && r.started.After(s.changed) {
		return nil
	}
	return &running{doc, conf, lost}
}

// running is what a process took over.
type running struct {
	doc  *config.Document
	conf configuration
	lost bool // it watches a file that is gone, or goes on without what the file says
}
