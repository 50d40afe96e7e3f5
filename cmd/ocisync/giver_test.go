package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/porttest"
)

// distribution has the world's mode be one of a Distribution whose [registry] has
// this line too.
func (w *robotWorld) distribution(t *testing.T, line string) {
	t.Helper()
	write(t, w.file, fmt.Sprintf(`version = 1
[registry]
type  = "distribution"
url   = "http://%s"
run   = { driver = "process", binary = "/bin/false", data = "../../data" }
%s
[state]
store = "dir"
dir   = "../../state"
`, w.address, line))
}

// options are those of a command on the world's mode that says what it says in log.
func (w *robotWorld) options(log io.Writer) *options {
	o := &options{streams: streams{in: strings.NewReader(""), out: io.Discard, err: log, getenv: func(name string) (string, bool) { v, ok := w.env[name]; return v, ok }}}
	o.mode, o.modes, o.hostFile = "test", w.env["OCISYNC_MODES"], w.env["OCISYNC_HOST_FILE"]
	return o
}

// tokensAt is the line that has tokens given at an address.
func tokensAt(listen string) string {
	return fmt.Sprintf("token = { url = %q, listen = %q }", "http://localhost:9", listen)
}

// TestTokensAreGivenWhereAnApplyHasThem: at another address, or as before where
// that cannot be, by the same process.
func TestTokensAreGivenWhereAnApplyHasThem(t *testing.T) {
	w := newRobotWorld(t)
	declare := func(listen string) embedded.Giving {
		t.Helper()
		w.distribution(t, tokensAt(listen))
		return embedded.Giving{Registry: "http://" + w.address, Service: w.address, URL: "http://localhost:9", Listen: listen}
	}
	answers := func(address string) bool {
		resp, err := http.Get("http://" + address + "/token?service=" + w.address)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	}
	first, second := porttest.Address(t), porttest.Address(t)
	before := declare(first)
	log := &transcript{}
	o := w.options(log)
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	g, err := o.giver(t.Context(), cfg, "ocisync up")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	anew := func(ctx context.Context, wanted embedded.Giving, try bool) error {
		c, err := embedded.Dial(ctx, w.data)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Anew(ctx, wanted, try)
	}
	if err := g.beside(t.Context(), cfg, func(ctx context.Context) error {
		if !answers(first) {
			t.Error("it gives none to begin with")
		}
		other := before
		other.Listen = second
		if err := anew(ctx, other, false); err == nil || !strings.Contains(err.Error(), "reads mode test from "+o.modes) || !strings.Contains(err.Error(), first) {
			t.Errorf("asked for what its mode does not say: %v", err)
		}
		if err := anew(ctx, declare(taken.Addr().String()), false); err == nil || !strings.Contains(err.Error(), "already in use") || !strings.Contains(err.Error(), "registry.token.listen") {
			t.Errorf("asked for an address that is taken: %v", err)
		}
		if err := anew(ctx, declare(second), true); err != nil || !answers(first) || answers(second) {
			t.Errorf("asked whether it could: %v, at the first %t", err, answers(first))
		}
		if err := anew(ctx, other, false); err != nil {
			t.Error(err)
		}
		if err := embedded.AwaitGiving(ctx, w.data, other); err != nil || answers(first) || !answers(second) {
			t.Errorf("moved: %v, at the first %t, at the second %t", err, answers(first), answers(second))
		}
		return ctx.Err()
	}); err != nil {
		t.Error(err)
	}
	if answers(second) {
		t.Error("it goes on though its work has ended")
	}
	if text := log.String(); !strings.Contains(text, "giving tokens for http://"+w.address+" at "+second+" now") {
		t.Errorf("it says\n%s", text)
	}
}

// TestNoRegistryIsStoppedWhoseTokensNobodyCouldGiveAfter: what restart and the jobs
// ask of a registry that nobody supervises any more.
func TestNoRegistryIsStoppedWhoseTokensNobodyCouldGiveAfter(t *testing.T) {
	w := newRobotWorld(t)
	declare := func(token string) *options {
		t.Helper()
		w.distribution(t, token)
		return w.options(&transcript{})
	}
	ask := func(o *options) error {
		t.Helper()
		cfg, err := o.config()
		if err != nil {
			t.Fatal(err)
		}
		return o.canGive(t.Context(), cfg)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := declare(tokensAt(taken.Addr().String()))
	if err := ask(o); err == nil || !strings.Contains(err.Error(), "already in use") || !strings.Contains(err.Error(), "registry.token.listen") {
		t.Errorf("its address is taken: %v", err)
	}
	if err := ask(declare(fmt.Sprintf("files = { htpasswd = %q }", filepath.Join(w.data, "htpasswd")))); err != nil {
		t.Errorf("of one that needs no tokens: %v", err)
	}
	o = declare(tokensAt(porttest.Address(t)))
	if err := ask(o); err != nil {
		t.Errorf("its address is free: %v", err)
	}
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	g, err := o.giver(t.Context(), cfg, "ocisync auth serve")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.beside(t.Context(), cfg, func(context.Context) error { return ask(o) }); err != nil {
		t.Errorf("somebody gives them: %v", err)
	}
}

// TestTokensAreTakenOverFromWhoEnds: who was to give them while another process did
// does so when that one has ended, where the mode has them by then; and up, which
// waits for that, fails while nobody does.
func TestTokensAreTakenOverFromWhoEnds(t *testing.T) {
	w := newRobotWorld(t)
	w.distribution(t, tokensAt(porttest.Address(t)))
	log := &transcript{}
	o := w.options(log)
	cfg, err := o.config()
	if err != nil {
		t.Fatal(err)
	}
	s := &served{o, cfg}
	if err := s.given(t.Context()); err == nil || !strings.Contains(err.Error(), "gives no tokens") || !strings.Contains(err.Error(), "ocisync down, then ocisync up") {
		t.Errorf("nobody gives tokens, and up says %v", err)
	}
	other, err := o.giver(t.Context(), cfg, "ocisync auth serve")
	if err != nil {
		t.Fatal(err)
	}
	serving, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- other.beside(serving, cfg, untilDone) }()
	if err := s.given(t.Context()); err != nil {
		t.Error(err)
	}
	if err := o.withTokens(t.Context(), cfg, commandUp, func(ctx context.Context) error {
		if who, err := s.giving(ctx); err != nil || !strings.Contains(who, "auth serve") {
			t.Errorf("beside another: %s, %v", who, err)
		}
		second := porttest.Address(t)
		w.distribution(t, tokensAt(second))
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := s.given(ctx); err != nil {
			t.Error(err)
		}
		if who, err := s.giving(ctx); err != nil || !strings.Contains(who, "("+commandUp+")") {
			t.Errorf("after it: %s, %v", who, err)
		}
		resp, err := http.Get("http://" + second + "/token?service=" + w.address)
		if err != nil {
			t.Error(err)
		} else if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Errorf("a client gets %s", resp.Status)
		}
		return ctx.Err()
	}); err != nil {
		t.Error(err)
	}
	if _, err := s.giving(t.Context()); err == nil {
		t.Error("it goes on though its work has ended")
	}
	if text := log.String(); !strings.Contains(text, "are given already") || !strings.Contains(text, "now, since nobody else does") {
		t.Errorf("it says\n%s", text)
	}
}
