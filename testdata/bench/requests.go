//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
)

// requests counts what the three steps ask of a served registry. It stands
// between them and the admin socket, so this is a round that is not timed.
func (b *bench) requests(ctx context.Context) ([]row, error) {
	s, err := b.site(ctx, applied(true))
	if err != nil {
		return nil, err
	}
	var rows []row
	_, err = s.while(ctx, func(*exec.Cmd) error {
		var asked atomic.Int64
		stop, err := between(ctx, filepath.Join(s.work, "data", "ocisync", "admin.sock"), &asked)
		if err != nil {
			return err
		}
		for _, step := range []struct{ what, verb, promise string }{
			{"first apply", "apply", saysApplied()}, {"empty plan", "plan", saysNone()}, {"second apply", "apply", saysNothing},
		} {
			asked.Store(0)
			if _, err := s.run(ctx, step.verb, step.promise); err != nil {
				return errors.Join(err, stop())
			}
			n := float64(asked.Load())
			if n == 0 {
				return errors.Join(errors.New("no request of "+step.verb+" was seen"), stop())
			}
			rows = append(rows, row{what: step.what + ", requests", unit: count, values: []float64{n}})
		}
		return stop()
	})
	return rows, err
}

// between takes the place of a Unix socket, counts the requests that come and
// passes them on. The function it returns puts the socket back.
func between(ctx context.Context, path string, asked *atomic.Int64) (stop func() error, err error) {
	behind := path + ".behind"
	if err := os.Rename(path, behind); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, errors.Join(err, os.Rename(behind, path))
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "ocisync"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", behind)
	}}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		proxy.ServeHTTP(w, r)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return func() error {
		err := server.Close()
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return errors.Join(err, os.Rename(behind, path))
	}, nil
}
