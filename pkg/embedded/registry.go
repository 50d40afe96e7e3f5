// Package embedded is the registry that comes with ocisync: the handlers of
// CNCF Distribution in this process, with accounts and access rules per
// namespace that change while it runs.
//
// Start with [Open], which takes a data directory, and [Registry.Serve]. Clients
// log in with a password, or with a token that the registry gives them. With
// [Options.Tokens] the same accounts, rules and admin API are those of a registry
// that another program serves.
// Other processes read and change a served registry through [Dial], and one
// that nobody serves through [OpenDirectory].
//
// A data directory, or the bucket of an object store, holds images in the layout
// of a stock Distribution, so that one copied from there works; and a data
// directory holds below ocisync/ what is ocisync's own:
// state.json (accounts and rules; it, and no mode's file, is what the registry
// does), secrets.json (what webhooks authenticate with), webhooks/ (deliveries
// that wait), removing.json (what a job is removing, so that it is told at least
// once), times.jsonl (when tags were pushed and pulled), jobs.json (when
// jobs ran and run next), uploads.key (what signs the state of uploads, and
// tokens), owner (what a bucket knows it by), latest (after which no manifest was
// noted as deleted), lock and admin.sock. Beside the manifests of a repository,
// _referrers and _deleted are ocisync's own too.
package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/distribution/distribution/v3/registry/handlers"
	"golang.org/x/time/rate"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/pkg/webhook"
)

// Options say how a registry is run.
type Options struct {
	// Data is the data directory; it is made where it is missing.
	Data string
	// Bucket keeps content in the place of Data, if it is given. It belongs to
	// one data directory.
	Bucket Bucket
	// Listen is the TCP address to serve at, such as 127.0.0.1:5000. With ""
	// the registry is reached by its admin socket and its Handler alone.
	Listen string
	// TLSCert and TLSKey are PEM files; both or neither. A pair put in their
	// place while the registry runs is in force a second later.
	TLSCert, TLSKey string
	// URL is what clients call the registry, Version what ocisync is, Command
	// what the holder of the lock is called ("": this program's name); all for
	// messages only.
	URL, Version, Command string
	// Tokens makes this the token service of a registry that another program
	// serves: accounts, rules and the admin API, and no content.
	Tokens *Tokens
	// Anew tells why a token service cannot begin again as is wanted; without try
	// it is then to do so, and what Serve serves is to be closed. May be nil.
	Anew func(wanted Giving, try bool) error
	// Limits bound what one client may ask; nil is DefaultLimits.
	Limits *Limits
	// Outside is the policy while the state does not say; "" is deny.
	Outside access.Outside
	// Drain is how long requests in flight may take once Serve is told to
	// stop; 0 is 30 seconds.
	Drain time.Duration
	// Renew renews the robots that are due and says when others will be; it is
	// called while Serve runs, again and again: then, or after an error sooner,
	// if the pause that doubles with each error ends before. The registry knows accounts, and not where their secrets go. May be nil.
	Renew func(context.Context) (again time.Duration, err error)
	// Logger may be nil.
	Logger *slog.Logger
}

// Registry is a data directory held and served by this process.
type Registry struct {
	options   Options
	logger    *slog.Logger
	lock      *lock
	store     *store
	passwords *passwords
	metrics   *metrics
	audit     *audit
	removals  *removals
	hooks     *webhook.Engine
	accounts  *limiter[string]
	addresses *limiter[netip.Addr]
	failures  *limiter[guessing]
	logins    *limiter[netip.Addr]
	asked     *limiter[netip.Addr] // for tokens
	slowest   Pace
	conns     *connections  // at the address
	reads     chan struct{} // one for each manifest that is being read
	crowds    *rate.Limiter
	app       *handlers.App // nil without content, as guard and upkeep are
	storage   *storage.Storage
	guard     *guard
	gate      *gate
	jobs      *scheduler    // nil where content is nobody's, or another's who runs no jobs
	resting   chan struct{} // closed by Rest
	rest      func()
	starting  sync.Mutex     // while Serve begins what work counts
	work      sync.WaitGroup // jobs and upkeep, while it is served
	robots    *robotMetrics
	upkeep    *upkeep
	health    *health // nil without content
	tokens    *token.Service
	own       *token.Own            // the tokens that are taken; nil without content
	tending   func(context.Context) // nil but beside a registry that is looked after
	listener  net.Listener          // nil without Options.Listen
	socket    *socket
	close     func() error
}

// Open takes the data directory and the address, and serves nothing yet. On
// error nothing is held. ErrHeld: another process has the directory.
func Open(ctx context.Context, o Options) (_ *Registry, err error) {
	r := &Registry{options: o, logger: o.Logger, passwords: newPasswords(), gate: newGate(), resting: make(chan struct{})}
	r.rest = sync.OnceFunc(func() { close(r.resting) })
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	if r.options.Drain == 0 {
		r.options.Drain = 30 * time.Second
	}
	if o.Command == "" {
		o.Command = filepath.Base(os.Args[0])
	}
	if o.Data == "" {
		return nil, errors.New("the embedded registry has no data directory; name one in run.data")
	}
	if o.Outside != "" && !o.Outside.Valid() {
		return nil, fmt.Errorf("policy.outside %q is no policy; write deny or leave", o.Outside)
	}
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", o.Data, err)
	}
	r.options.Data = data
	var undo []func() error
	r.close = sync.OnceValue(func() error {
		var errs []error
		for i := len(undo) - 1; i >= 0; i-- {
			errs = append(errs, undo[i]())
		}
		return errors.Join(errs...)
	})
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	// the address first: if it is taken, nothing is written
	if o.Listen != "" {
		if r.listener, err = listen(ctx, o, r.logger); err != nil {
			if _, held := dialSocket(ctx, data); held == nil {
				return nil, heldError(data)
			}
			return nil, err
		}
		undo = append(undo, closer(r.listener))
	}
	if r.lock, err = waitLock(ctx, data, o.Command, o.Tokens != nil, r.logger); err != nil {
		return nil, err
	}
	undo = append(undo, r.lock.release)
	if r.store, err = openStore(data, o.Outside); err != nil {
		return nil, err
	}
	limits := o.limits()
	r.accounts, r.addresses = newLimiter[string](limits.Account), newLimiter[netip.Addr](limits.Address)
	r.failures, r.logins = newLimiter[guessing](limits.Failures), newLimiter[netip.Addr](limits.Logins)
	r.asked = newLimiter[netip.Addr](limits.Tokens)
	r.slowest, r.crowds = limits.Slowest, rate.NewLimiter(rate.Every(time.Minute), 1)
	r.conns = newConnections(limits.Connections, descriptors(), r.crowded)
	if o.Tokens == nil {
		if r.storage, err = storage.Open(context.WithoutCancel(ctx), data, o.Bucket); err != nil {
			return nil, err
		}
		if err = claim(ctx, data, r.storage); err != nil {
			return nil, err
		}
	}
	r.reads = make(chan struct{}, manifestReads(r.storage != nil && r.storage.InBucket()))
	r.metrics = newMetrics(r.storage)
	r.robots = newRobotMetrics(r.store.now, r.metrics)
	undo = append(undo, r.metrics.close)
	r.removals = newRemovals(data)
	r.audit = newAudit(r.logger, func(lines int) { r.metrics.auditErrors.Add(float64(lines)) })
	undo = append(undo, r.audit.close)
	deliveries, err := openQueue(data, r.logger)
	if err != nil {
		return nil, err
	}
	r.hooks = newWebhooks(deliveries, r.logger, r.store.now, r.home)
	r.hooks.Count(r.metrics.registered)
	if o.Tokens != nil {
		undo = append(undo, r.issue(deliveries))
	} else if err = r.openContent(ctx, deliveries, &undo); err != nil {
		return nil, err
	}
	if r.storage != nil {
		if err := r.herald().resume(ctx, true); err != nil {
			r.logger.Error("webhooks and the audit log wait for news", "error", err)
		}
	}
	if _, err = r.store.change(ctx, nil); err != nil { // finish a rename that was cut short
		return nil, err
	}
	if r.socket, err = listenSocket(ctx, data); err != nil {
		return nil, err
	}
	undo = append(undo, r.socket.close)
	r.lock.holder.Socket = r.socket.path
	if err = r.lock.tell(); err != nil {
		return nil, fmt.Errorf("data directory %s: %w; %s", data, err, remedy(err, data))
	}
	return r, nil
}

// openContent starts what serves content and looks after it.
func (r *Registry) openContent(ctx context.Context, deliveries *webhook.Queue, undo *[]func() error) (err error) {
	data := r.options.Data
	r.health = newHealth(r.storage, r.logger)
	key, err := uploadKey(data)
	if err != nil {
		return err
	}
	if r.app, err = newApp(context.WithoutCancel(ctx), r.storage, key); err != nil {
		return err
	}
	*undo = append(*undo, r.app.Shutdown)
	r.own = token.NewOwn(tokenKey(key), func() time.Time { return r.store.clock() })
	r.tokens = token.New(token.Options{Own: r.own, Logger: r.logger, Accounts: issuer{r}})
	r.jobs = newScheduler(data, r.logger, r.jobList, func(ctx context.Context) time.Duration { return r.herald().tellRest(ctx) })
	if r.guard, err = openGuard(ctx, data, r.storage, r.store, r.logger); err != nil {
		return err
	}
	r.guard.collect = func(ctx context.Context) bool { return r.collectSoon(ctx, roomPatience) }
	*undo = append(*undo, r.guard.close)
	r.store.contents = func(context.Context) (*contents, error) {
		return &contents{
			storage: r.storage, gate: r.gate, times: r.guard.times, queue: deliveries,
			close: func(context.Context) error { r.guard.ledgers.Forget(); return nil },
		}, nil
	}
	r.upkeep = newUpkeep(r)
	return nil
}

func closer(l net.Listener) func() error {
	return func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

func listen(ctx context.Context, o Options, logger *slog.Logger) (net.Listener, error) {
	var conf *tls.Config
	if o.TLSCert != "" || o.TLSKey != "" {
		cert, err := loadCertificate(o.TLSCert, o.TLSKey, logger)
		if err != nil {
			return nil, err
		}
		conf = cert.config()
	}
	key := "registry.run.listen"
	if o.Tokens != nil {
		key = "registry.token.listen"
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("address %s: %w; stop the program that uses it, or name another in %s", o.Listen, err, key)
	case err != nil:
		return nil, fmt.Errorf("address %s: %w; name another in %s", o.Listen, err, key)
	case conf != nil:
		l = tls.NewListener(l, conf)
	}
	return l, nil
}

// Addr is the address the registry listens at, "" without one.
func (r *Registry) Addr() string {
	if r.listener == nil {
		return ""
	}
	return r.listener.Addr().String()
}

// Handler is what the registry serves at its address.
func (r *Registry) Handler() http.Handler { return r }

// url is what clients call the registry.
func (r *Registry) url() string {
	switch {
	case r.options.URL != "" || r.listener == nil:
		return r.options.URL
	case r.options.TLSCert != "":
		return "https://" + r.Addr()
	}
	return "http://" + r.Addr()
}

// home is the URL of the registry whose events webhooks are told of.
func (r *Registry) home() string {
	if t := r.options.Tokens; t != nil {
		return t.URL
	}
	return r.url()
}

func (r *Registry) info() Info {
	return Info{
		Name: "ocisync", Version: r.options.Version, PID: os.Getpid(), Data: r.options.Data, URL: r.url(),
		Command: r.lock.holder.Command, Started: r.lock.holder.Started, Giving: r.giving(),
	}
}

// Rest has what is done by time end while clients are served, and returns when
// it has.
func (r *Registry) Rest() {
	r.rest()
	r.starting.Lock() // a WaitGroup at zero must not be added to beside its Wait
	defer r.starting.Unlock()
	r.work.Wait()
}

// Serve serves until the context is done, lets requests in flight finish, and
// returns nil then. It may be called once.
func (r *Registry) Serve(ctx context.Context) error {
	type pair struct {
		server   *http.Server
		listener net.Listener
	}
	all := []pair{{r.server(asSelf(r)), r.socket.listener}}
	if r.listener != nil {
		front := r.server(r)
		front.ConnContext, front.ConnState = r.conns.begin, r.conns.state
		all = append(all, pair{front, r.listener})
	}
	defer r.hooks.Start(context.WithoutCancel(ctx))() // after the last request is answered
	defer r.receive(ctx)()
	defer r.begin(ctx)()
	failed := make(chan error, len(all))
	for _, p := range all {
		go func() { failed <- p.server.Serve(p.listener) }()
	}
	var err error
	running := len(all)
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.options.Drain)
	defer cancel()
	for i := len(all) - 1; i >= 0; i-- { // clients first, the admin socket last
		if all[i].server.Shutdown(drain) != nil {
			err = errors.Join(err, all[i].server.Close())
			r.logger.Warn("requests were cut off", "after", r.options.Drain)
		}
	}
	for range running {
		if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("serving the embedded registry: %w", err)
	}
	return nil
}

// begin begins what is done by time, unless Rest was called. What it returns
// ends it, and waits until it has ended.
func (r *Registry) begin(ctx context.Context) func() {
	r.starting.Lock()
	defer r.starting.Unlock()
	jobs, end := context.WithCancel(ctx)
	select {
	case <-r.resting:
		return end
	default:
	}
	if r.jobs != nil {
		r.work.Go(func() { r.jobs.serve(jobs) })
	}
	r.work.Go(func() { r.renew(jobs) })
	r.work.Go(func() { r.sweep(jobs) })
	if r.options.Tokens != nil {
		r.work.Go(func() { r.tokens.Upkeep(jobs) })
	}
	if r.tending != nil {
		r.work.Go(func() { r.tending(jobs) })
	}
	r.work.Go(func() {
		select {
		case <-r.resting:
			end()
		case <-jobs.Done():
		}
	})
	return func() {
		end()
		r.work.Wait()
	}
}

func (r *Registry) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(newPaced(r.logger.Handler()), slog.LevelWarn),
	}
}

// crowded notes that a connection was refused, or an idle one cut for it. Their log is one line a minute.
func (r *Registry) crowded(from netip.Addr) {
	r.metrics.limited.WithLabelValues("connections").Inc()
	if r.crowds.AllowN(time.Now(), 1) {
		r.logger.Warn("too many connections; idle ones are closed, or else new ones", "address", from)
	}
}

// Close gives the address and the data directory back. Call it after Serve.
func (r *Registry) Close() error { return r.close() }
