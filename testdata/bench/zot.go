//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// zotSite is a Zot that ocisync runs, and what stands between it and whoever
// asks it by its URL.
type zotSite struct {
	*site
	door *door
}

// door counts requests, and notes when the probes of an apply were answered.
type door struct {
	mu          sync.Mutex
	asked       int
	first, last time.Time // of the probes

	delay time.Duration       // of each request
	heard func(*http.Request) // before it is passed on; may be nil
	conns atomic.Int32        // that were opened
}

// count starts anew and returns what was counted.
func (d *door) count() (asked int, probes time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked, probes = d.asked, d.last.Sub(d.first)
	d.asked, d.first, d.last = 0, time.Time{}, time.Time{}
	return asked, probes
}

// open serves at an address what another serves.
func (d *door) open(ctx context.Context, address, behind string) (stop func() error, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind})
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of clients that are killed, and registries that restart
	conns := func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			d.conns.Add(1)
		}
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, ConnState: conns, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		if d.heard != nil {
			d.heard(r)
		}
		time.Sleep(d.delay)
		proxy.ServeHTTP(w, r)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked++
		if strings.Contains(r.URL.Path, "/ocisync-probe-") {
			if d.first.IsZero() {
				d.first = began
			}
			d.last = time.Now()
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return func() error {
		err := server.Close()
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}

// groups is how many groups the mode for Zot has.
const groups = 200

// zotMode is 1,000 namespaces with access of several kinds and two rules of retention,
// 4 users and 200 groups.
func zotMode(program, behind string) func(b *bufio.Writer, work, address string) {
	return func(b *bufio.Writer, work, address string) {
		fmt.Fprintf(b, `version = 1
[registry]
type  = "zot"
url   = "http://%[1]s"
login = { user = "user-0", password = { env = "OCISYNC_PASSWORD" } }
[registry.run]
driver = "process"
binary = %[2]q
data   = %[3]q
listen = %[4]q
[state]
store = "dir"
dir   = %[5]q
key   = { env = "OCISYNC_STATE_KEY" }
[policy]
outside = "deny"
`, address, program, filepath.Join(work, "data"), behind, filepath.Join(work, "inventory"))
		for i := range users {
			fmt.Fprintf(b, "[user.user-%d]\nadmin = %t\npassword = { env = \"OCISYNC_PASSWORD\" }\n", i, i == 0)
		}
		for i := range groups {
			fmt.Fprintf(b, "[group.group-%d]\nusers = [\"user-%d\", \"user-%d\"]\n", i, 1+i%(users-1), 1+(i+1)%(users-1))
		}
		for i := range namespaces {
			anonymous := ""
			if i%3 == 0 {
				anonymous = `"pull"`
			}
			fmt.Fprintf(b, `[namespace.team-%[1]d]
description = "Images of team %[1]d"
[namespace.team-%[1]d.access]
anonymous     = [%[2]s]
authenticated = ["pull"]
users.user-%[3]d  = ["pull", "push", "delete"]
users.user-%[4]d  = ["pull", "push"]
groups.group-%[5]d = ["pull", "push"]
[namespace.team-%[1]d.retention]
keep = [{ newest = %[6]d, tags = "v*" }, { pushed_within = "90d" }]
`, i, anonymous, 1+i%(users-1), 1+(i+1)%(users-1), i%groups, 5+i%20)
		}
	}
}

// zotLoop is the samples of some rounds.
type zotLoop struct {
	first, plan, second, restart samples
	beyond, probes               []float64 // seconds
	asked, planned, taken        []float64 // requests, and configurations taken over
}

const zotSaid = `A new Zot v2.1.6, which ocisync runs as a process, each time: 1,000 namespaces with
access for anybody, two users and a group, and two rules of retention, 4 users with
passwords, and 200 groups. The first apply makes retention
out of nothing, which takes a restart; it is held against what ` + "`ocisync restart`" + ` takes
of the same Zot with nothing to change, and the probes that prove the rules from
outside are told apart: up to 64, each of which Zot checks a password for. Requests
are those by the registry's URL. Configurations taken over are counted in Zot's log.`

// zots measures first apply, empty plan and second apply on a real Zot.
func (b *bench) zots(ctx context.Context) error {
	program := os.Getenv("OCISYNC_ZOT")
	if program == "" {
		var err error
		if program, err = filepath.Abs(filepath.Join("bin", "servers", "zot")); err != nil {
			return err
		}
		if _, err := os.Stat(program); err != nil {
			return fmt.Errorf("%w; make servers builds it", err)
		}
	}
	var l zotLoop
	for range b.times(5) {
		if err := b.zotRound(ctx, program, &l); err != nil {
			return err
		}
	}
	b.add(section{
		title: "Zot", command: "make bench-zot", text: zotSaid,
		rows: []row{
			{what: "first apply, elapsed", unit: seconds, values: l.first.elapsed()},
			{what: "restart alone, elapsed", unit: seconds, values: l.restart.elapsed()},
			{what: "probes, elapsed", unit: seconds, values: l.probes},
			row{what: "first apply beyond restart and probes", unit: seconds, values: l.beyond}.atMost(5),
			{what: "first apply, CPU", unit: seconds, values: l.first.cpu()},
			row{what: "first apply, memory", unit: mebibytes, values: l.first.memory()}.atMost(80 << 20),
			{what: "first apply, requests", unit: count, values: l.asked},
			row{what: "first apply, configurations taken over", unit: count, values: l.taken}.atMost(1),
			row{what: "empty plan, elapsed", unit: seconds, values: l.plan.elapsed()}.atMost(1),
			{what: "empty plan, CPU", unit: seconds, values: l.plan.cpu()},
			row{what: "empty plan, memory", unit: mebibytes, values: l.plan.memory()}.atMost(80 << 20),
			row{what: "empty plan, requests", unit: count, values: l.planned}.atMost(4),
			{what: "second apply, elapsed", unit: seconds, values: l.second.elapsed()},
		},
	})
	return nil
}

func (b *bench) zotRound(ctx context.Context, program string, l *zotLoop) (err error) {
	behind, err := free(ctx)
	if err != nil {
		return err
	}
	s := &zotSite{door: &door{}}
	if s.site, err = b.site(ctx, zotMode(program, behind)); err != nil {
		return err
	}
	stop, err := s.door.open(ctx, s.address, behind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if _, err := b.ocisync(ctx, s.work, "is ready", append(s.args("up"), "--detach")...); err != nil {
		return err
	}
	defer func() {
		_, down := s.run(context.WithoutCancel(ctx), "down", "is stopped")
		err = errors.Join(err, down)
	}()
	restart, err := s.run(ctx, "restart", "is ready")
	if err != nil {
		return err
	}
	before, err := s.taken()
	if err != nil {
		return err
	}
	s.door.count()
	first, err := s.run(ctx, "apply", "and read them back")
	if err != nil {
		return err
	}
	asked, probes := s.door.count()
	after, err := s.taken()
	if err != nil {
		return err
	}
	if probes == 0 || after == before {
		return fmt.Errorf("the first apply made %d requests and Zot took nothing over: that is not what is measured", asked)
	}
	empty, err := s.run(ctx, "plan", "no changes")
	if err != nil {
		return err
	}
	planned, _ := s.door.count()
	second, err := s.run(ctx, "apply", saysNothing)
	if err != nil {
		return err
	}
	l.first, l.plan, l.second, l.restart = append(l.first, first), append(l.plan, empty), append(l.second, second), append(l.restart, restart)
	l.beyond = append(l.beyond, first.elapsed-restart.elapsed-probes.Seconds())
	l.probes, l.taken = append(l.probes, probes.Seconds()), append(l.taken, float64(after-before))
	l.asked, l.planned = append(l.asked, float64(asked)), append(l.planned, float64(planned))
	return nil
}

// taken counts the configurations that Zot's log tells of: one at each start,
// and one at each reload.
func (s *zotSite) taken() (n int, err error) {
	f, err := os.Open(filepath.Join(s.work, "data", "zot.log"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if strings.Contains(line, `"message":"configuration settings"`) || strings.Contains(line, `"message":"loaded new configuration settings"`) {
			n++
		}
		if err != nil {
			return n, nil
		}
	}
}

// free is an address that nobody listens at now.
func free(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
