//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The registries that are compared.
const (
	ours         = "ocisync"
	oursLimited  = "with quota" // the same, pushed to where a quota holds
	distribution = "Distribution"
	zot          = "Zot"
)

// names are the columns of the tables.
func names() []string { return []string{ours, oursLimited, distribution, zot} }

// The mode that ours is served from has as many rules and users as the limit
// of a decision speaks of. Two namespaces more take the pushes.
const (
	rules    = 1000
	people   = 200
	pusher   = "user-1"
	password = "a password of some length"
)

// server is a registry in a process of its own, on the loopback interface and
// with nothing in it yet.
type server struct {
	name      string
	address   string
	namespace string // the first part of its repositories' names
	user      string // "": anybody may do anything
	process   *exec.Cmd
	log       *os.File
	client    *http.Client

	ready       float64 // CPU until it answered, in seconds
	idle        float64 // resident then, in bytes
	after, peak float64 // resident before it was stopped, and the most; in bytes
}

// listening starts one of the registries in a new directory and waits until it
// answers.
func (b *bench) listening(ctx context.Context, name string) (_ *server, err error) {
	site, err := b.site(ctx, compared)
	if err != nil {
		return nil, err
	}
	s := &server{name: name, address: site.address, namespace: "bench"}
	var cmd *exec.Cmd
	switch name {
	case ours, oursLimited:
		s.user = pusher
		if name == oursLimited {
			s.namespace = "limited"
		}
		if _, err := site.run(ctx, "apply", "read them back"); err != nil {
			return nil, err
		}
		cmd = exec.CommandContext(ctx, b.bin, site.args("up")...)
		cmd.Env = b.environment(site.work)
	case distribution:
		cmd, err = other(ctx, site.work, "distribution", "serve", "config.yml", fmt.Sprintf(stock, filepath.Join(site.work, "data"), s.address))
	case zot:
		host, port, _ := strings.Cut(s.address, ":")
		cmd, err = other(ctx, site.work, "zot", "serve", "config.json",
			fmt.Sprintf(`{"distSpecVersion": "1.1.1", "storage": {"rootDirectory": %q}, "http": {"address": %q, "port": %q}}`, filepath.Join(site.work, "data"), host, port))
	}
	if err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(site.work, "server.log")); err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	s.process = cmd
	s.client = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: atOnce, DisableCompression: true, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, s.log.Close())
	}
	if err := s.awaited(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// stock is the configuration that Distribution's own package of v3.1.2 has,
// apart from its htpasswd file; deleting is allowed as well.
const stock = `version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: %q
  delete:
    enabled: true
  tag:
    concurrencylimit: 8
http:
  addr: %q
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
`

// other is the command that serves a registry which is not ours.
func other(ctx context.Context, work, name, verb, file, text string) (*exec.Cmd, error) {
	bin, err := filepath.Abs(filepath.Join("bin", "servers", name))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("%w; make servers builds it", err)
	}
	config := filepath.Join(work, file)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, verb, config)
	cmd.Env = slices.Concat(os.Environ(), []string{"HOME=" + work, "OTEL_TRACES_EXPORTER=none"})
	cmd.Dir = work
	return cmd, nil
}

// compared is the mode of ours: users, rights in each namespace, an audit log.
func compared(b *bufio.Writer, work, address string) {
	heading(b, work, address)
	fmt.Fprintf(b, "[audit]\nlog = %q\n", filepath.Join(work, "audit.log"))
	for i := range people {
		fmt.Fprintf(b, "[user.user-%d]\nadmin = %t\n", i, i == 0)
		if i < 2 {
			fmt.Fprint(b, "password = { env = \"OCISYNC_PASSWORD\" }\n")
		}
	}
	for i := range rules - 2 {
		team(b, i, 1+i%(people-1))
	}
	for _, name := range []string{"bench", "limited"} {
		fmt.Fprintf(b, "[namespace.%s]\n", name)
		if name == "limited" {
			fmt.Fprint(b, "quota = \"100GiB\"\n")
		}
		fmt.Fprintf(b, "[namespace.%s.access]\nanonymous = []\nauthenticated = [\"pull\"]\nusers.%s = [\"pull\", \"push\", \"delete\"]\n", name, pusher)
	}
}

// awaited waits until the registry answers and notes what that took.
func (s *server) awaited(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url("/v2/"), nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			s.ready = s.cpu()
			s.idle, _ = memory(s.pid(), "VmRSS:")
			return resp.Body.Close()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return fmt.Errorf("%s did not get ready\n%s", s.name, tail(s.log))
}

func (s *server) url(path string) string { return "http://" + s.address + path }
func (s *server) pid() string            { return strconv.Itoa(s.process.Process.Pid) }

// cpu is what the process has taken until now, in seconds; 0 where the system
// is not Linux. Linux counts it in ticks of 10 ms.
func (s *server) cpu() float64 {
	text, err := os.ReadFile(filepath.Join("/proc", s.pid(), "stat"))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ") // a name may hold spaces
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	var ticks float64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return ticks / 100
}

// stop ends the process. Zot exits by a signal or with 0, as it likes.
func (s *server) stop() error {
	s.after, _ = memory(s.pid(), "VmRSS:")
	s.peak, _ = memory(s.pid(), "VmHWM:")
	s.client.CloseIdleConnections()
	err := s.process.Process.Signal(syscall.SIGTERM)
	var exit *exec.ExitError
	if waited := s.process.Wait(); s.user != "" || !errors.As(waited, &exit) {
		err = errors.Join(err, waited)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", s.name, err, tail(s.log))
	}
	return errors.Join(err, s.log.Close(), os.RemoveAll(filepath.Dir(s.log.Name())))
}
