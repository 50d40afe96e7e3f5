package embedded

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

// recheck is how often, at most, a certificate's files are looked at.
const recheck = time.Second

// maxPEM bounds each of the files, in bytes.
const maxPEM = 4 << 20

// certificate is a pair of PEM files that may be exchanged while it is in use.
// A handshake looks at the files, at most once in recheck; while they do not
// belong together, or cannot be read, the pair loaded last stays in force, and
// while that is valid and they are not, too.
type certificate struct {
	cert, key string
	logger    *slog.Logger
	now       func() time.Time
	current   atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // held by the handshake that looks
	looked  time.Time
	seen    [2]fs.FileInfo // as they were when last read, valid or not
	aged    bool           // what is in force is outdated, as was logged
	failing string         // what was logged last, "" while all is well
}

// loadCertificate fails where the files are no pair to begin with.
func loadCertificate(cert, key string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, logger: logger, now: time.Now}
	c.looked = c.now()
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("the registry's certificate: %w; tls.cert and tls.key name PEM files that belong together", err)
	}
	c.age(c.looked)
	return c, nil
}

// age warns, once, of a certificate in force that clients will not take.
func (c *certificate) age(now time.Time) {
	err := outdated(c.current.Load(), now)
	if err != nil && !c.aged {
		c.logger.Warn("clients refuse the certificate in force; put a new pair in its place", "cert", c.cert, "error", err)
	}
	c.aged = err != nil
}

// outdated is nil for a certificate that is valid now.
func outdated(pair *tls.Certificate, now time.Time) error {
	leaf := pair.Leaf
	switch {
	case leaf == nil:
		return nil
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("it is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// config serves HTTP/2 and HTTP/1.1 by TLS 1.2 or later.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
}

func (c *certificate) get() *tls.Certificate {
	if c.mu.TryLock() { // whoever comes meanwhile takes what there is
		defer c.mu.Unlock()
		if now := c.now(); now.Sub(c.looked) >= recheck || now.Before(c.looked) {
			c.looked = now
			c.reload()
			c.age(now)
		}
	}
	return c.current.Load()
}

func (c *certificate) reload() {
	files, err := c.stat()
	if err == nil && same(files[0], c.seen[0]) && same(files[1], c.seen[1]) {
		return
	}
	if err == nil {
		err = c.load()
	}
	switch {
	case err == nil:
		c.failing = ""
		c.logger.Info("the certificate's files changed and are in force", "cert", c.cert)
	case c.failing != err.Error():
		c.failing = err.Error()
		c.logger.Error("the certificate's files changed and are no pair that is valid; the former stays in force", "cert", c.cert, "key", c.key, "error", err)
	}
}

func (c *certificate) stat() (files [2]fs.FileInfo, err error) {
	for i, name := range []string{c.cert, c.key} {
		if files[i], err = os.Stat(name); err != nil {
			return files, err
		}
	}
	return files, nil
}

// load looks at the files first, so that what changes while they are read is
// found the next time. What could not be read is read again then: it may be that
// only who may read it changes, by which no file looks another.
func (c *certificate) load() error {
	files, err := c.stat()
	if err != nil {
		return err
	}
	cert, err := regular.Read(c.cert, maxPEM)
	if err != nil {
		return err
	}
	key, err := regular.Read(c.key, maxPEM)
	if err != nil {
		return err
	}
	c.seen = files
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	if err := outdated(&pair, c.now()); err != nil {
		if former := c.current.Load(); former != nil && outdated(former, c.now()) == nil {
			c.seen = [2]fs.FileInfo{} // it may become valid, or the former outdated
			return err
		}
	}
	c.current.Store(&pair)
	return nil
}

func same(a, b fs.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
