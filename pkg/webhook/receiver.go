package webhook

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxPost is the longest post that is read, in bytes: Zot's has a manifest in
	// it, of 4 MiB at most, as a text.
	maxPost = 8 << 20
	// reading is how many are read at once.
	reading = 4
	// look is how often the inbox is looked at while nobody posts.
	look = 100 * time.Millisecond
	// again is how soon an address that is taken is tried once more.
	again = 5 * time.Second

	asking = 5 * time.Second
	// hearing is how long a receiver may take until it listens where a new inbox
	// says.
	hearing = time.Second
)

// ReceiverOptions say what a receiver receives.
type ReceiverOptions struct {
	Inbox string // the file
	// Read finds the events in a post, with the repository of each and no
	// namespace; none is no error. What it does not want it leaves out.
	Read func(header http.Header, body []byte) ([]Event, error)
	// Namespace decides for a repository; nil goes by the inbox.
	Namespace func(repository string) string
	// Engine is told. Nil makes one for the webhooks of the inbox, that is started
	// with the receiver: of Queue and URL.
	Engine *Engine
	Queue  *Queue
	URL    string
	Logger *slog.Logger
}

// Receiver takes the events that a registry posts, at the address that its inbox
// names and for as long as it names one, and tells an engine of them. Only who
// has the inbox's secret may post. What was answered with 202 is on disk.
type Receiver struct {
	options ReceiverOptions
	box     *mailbox
	engine  *Engine
	owns    bool // the engine
	since   time.Time
	last    atomic.Int64 // when the registry posted, in seconds since 1970; 0 for never
	posts   *rate.Limiter
	refused *rate.Limiter // lines of the log
	slots   chan struct{}
}

// NewReceiver makes a receiver that listens nowhere before Run.
func NewReceiver(o ReceiverOptions) *Receiver {
	r := &Receiver{
		since: time.Now(), options: o, box: &mailbox{name: o.Inbox, logger: o.Logger}, engine: o.Engine,
		posts: rate.NewLimiter(2000, 10000), refused: rate.NewLimiter(rate.Every(time.Minute), 1),
		slots: make(chan struct{}, reading),
	}
	if r.engine == nil {
		r.owns = true
		r.engine = New(Options{Queue: o.Queue, Logger: o.Logger, Hooks: r.box.of, URL: func() string { return o.URL }})
	}
	if r.options.Namespace == nil {
		r.options.Namespace = r.box.namespace
	}
	return r
}

// Run receives until the context is done. An address that it cannot have is
// logged, and tried again.
func (r *Receiver) Run(ctx context.Context) {
	read := r.box.look()
	if r.owns {
		defer r.engine.Start(context.WithoutCancel(ctx))()
	}
	var at string // where it listens
	var failed time.Time
	stop := func() {}
	defer func() { stop() }()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if want := r.box.now().Listen; want != at && time.Since(failed) > again {
			stop()
			at, stop = "", func() {}
			if want != "" {
				end, err := r.serve(ctx, want)
				if err != nil {
					remedy := "stop the program that has the address"
					if errors.Is(err, syscall.EADDRNOTAVAIL) { // its network is gone; with the next one comes another
						remedy = "ocisync restart gives it one of this host"
					}
					failed = time.Now()
					r.options.Logger.Error("the registry's events cannot be received", "address", want, "error", err, "remedy", remedy)
				} else {
					at, stop = want, end
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := r.box.look(); now != read {
			read, failed = now, time.Time{}
			r.engine.Refresh()
		}
	}
}

// serve listens at an address until end.
func (r *Receiver) serve(ctx context.Context, address string) (end func(), err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &http.Server{
		Handler: r, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(r.options.Logger.Handler(), slog.LevelWarn),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			r.options.Logger.Error("the registry's events are not received any more", "error", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), asking)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			s.Close() //nolint:errcheck // nothing is left to be done about it
		}
		<-done
	}, nil
}

// Received says of a receiver what it has to tell.
type Received struct {
	// Inbox is the file whose events are received.
	Inbox string `json:"inbox"`
	// Waiting counts deliveries by webhook.
	Waiting map[string]int `json:"waiting"`
	// Since is when it began; Last is when the registry posted last, zero where it
	// did not since.
	Since time.Time `json:"since"`
	Last  time.Time `json:"last,omitzero"`
}

// ServeHTTP takes a post, and answers who asks with GET what waits.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.box.look() // a secret that was just written counts
	switch {
	case !r.knows(q):
		if r.refused.Allow() {
			r.options.Logger.Warn("somebody posts events without the registry's secret", "address", q.RemoteAddr)
		}
		http.Error(w, "this is for the registry alone", http.StatusUnauthorized)
	case q.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(r.received()) //nolint:errcheck,errchkjson // whoever asked is gone
	case q.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "post events", http.StatusMethodNotAllowed)
	default:
		r.last.Store(time.Now().Unix())
		status, why := r.take(w, q)
		if status != http.StatusAccepted {
			r.options.Logger.Warn("an event of the registry is not taken", "status", status, "error", why)
			if status == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", "1")
			}
			http.Error(w, why, status)
			return
		}
		w.WriteHeader(status)
	}
}

func (r *Receiver) received() Received {
	said := Received{Inbox: absolute(r.options.Inbox), Waiting: r.engine.Waiting(), Since: r.since.UTC()}
	if last := r.last.Load(); last != 0 {
		said.Last = time.Unix(last, 0).UTC()
	}
	return said
}

// knows reports whether a request has the secret: as a bearer's token, or as the
// password of a login of any name.
func (r *Receiver) knows(q *http.Request) bool {
	secret := r.box.now().Secret
	_, said, ok := q.BasicAuth()
	if !ok {
		said, ok = strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	}
	have, want := sha256.Sum256([]byte(said)), sha256.Sum256([]byte(secret))
	return ok && secret != "" && subtle.ConstantTimeCompare(have[:], want[:]) == 1
}

// take reads a post and tells of what is in it.
func (r *Receiver) take(w http.ResponseWriter, q *http.Request) (status int, why string) {
	if !r.posts.Allow() {
		return http.StatusTooManyRequests, "too many events at once"
	}
	if q.ContentLength > maxPost {
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("an event has at most %d MiB", maxPost>>20)
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-q.Context().Done():
		return http.StatusServiceUnavailable, "the registry gave up"
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, maxPost))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("an event has at most %d MiB", maxPost>>20)
	}
	if err != nil {
		return http.StatusBadRequest, err.Error()
	}
	events, err := r.options.Read(q.Header, body)
	if err != nil {
		return http.StatusBadRequest, err.Error()
	}
	for _, e := range events {
		e.Namespace = r.options.Namespace(e.Target.Repository)
		if err := r.engine.Tell(e); err != nil {
			return http.StatusServiceUnavailable, "it cannot be kept"
		}
	}
	return http.StatusAccepted, ""
}

// ErrDeaf says that nobody receives what a registry posts.
var ErrDeaf = errors.New("nobody receives the registry's events")

// errElsewhere says that the receiver of another directory does, of which this one is
// a copy.
var errElsewhere = errors.New("those of another directory are received")

// Ask asks the receiver of an inbox what waits. ErrDeaf: there is none.
func Ask(ctx context.Context, box Inbox) (Received, error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+box.Listen+"/", nil)
	if err != nil {
		return Received{}, err
	}
	req.Header.Set("Authorization", "Bearer "+box.Secret)
	t := &http.Transport{DisableKeepAlives: true} // no proxy: the secret is for the receiver
	resp, err := t.RoundTrip(req)
	if err != nil {
		return Received{}, fmt.Errorf("%w at %s; start ocisync up, which does", ErrDeaf, box.Listen)
	}
	defer resp.Body.Close()
	var out Received
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPost)).Decode(&out); err != nil || resp.StatusCode != http.StatusOK {
		return Received{}, fmt.Errorf("%w: another program has the address %s; end that, and start ocisync up", ErrDeaf, box.Listen)
	}
	if out.Inbox != "" && box.file != "" && !sameDirectory(out.Inbox, box.file) {
		return Received{}, fmt.Errorf("%w: %w at %s, of which this one is a copy: %s; ocisync restart gives this one an address and a secret of its own", ErrDeaf, errElsewhere, box.Listen, filepath.Dir(out.Inbox))
	}
	return out, nil
}

func sameDirectory(a, b string) bool {
	infoA, errA := os.Stat(filepath.Dir(a))
	infoB, errB := os.Stat(filepath.Dir(b))
	return a == b || errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// Await waits until the receiver of an inbox that was just written listens, so
// that a registry may begin to post. ErrDeaf: there is none.
func Await(ctx context.Context, box Inbox) error {
	for end := time.Now().Add(hearing); ; {
		_, err := Ask(ctx, box)
		if err == nil || ctx.Err() != nil || time.Now().After(end) {
			return err
		}
		time.Sleep(look / 4)
	}
}
