package zot

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// pair makes a certificate and its key.
func pair(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestAZotThatWouldNotStartIsNotStopped(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	cert, key := pair(t, t.TempDir())
	otherCert, _ := pair(t, t.TempDir())
	p.registry.TLS = &schema.TLS{Cert: &cert, Key: &key}
	face := func() string { return string(encoded(schema.Values(p.front()))) }
	good, err := os.ReadFile(p.paths.config)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		before, err := os.ReadFile(p.paths.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Precheck(t.Context(), face()); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
		if after, err := os.ReadFile(p.paths.config); err != nil || string(after) != string(before) {
			t.Errorf("it was changed: %v", err)
		}
	}
	check("")
	if err := os.WriteFile(p.paths.config, []byte("{ \"half\": ["), 0o600); err != nil {
		t.Fatal(err)
	}
	check("mend the file")
	if err := os.WriteFile(p.paths.config, good, 0o600); err != nil {
		t.Fatal(err)
	}
	p.registry.TLS.Cert = &otherCert
	check("does not match")
	p.registry.TLS.Cert = &cert
	if err := p.BeforeStart(t.Context(), face()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	check(key)

	// an apply that would restart it stops nothing either
	s, err := p.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	over := a.over
	if err := p.restart(t.Context(), s, texts{config: append(s.text, '\n', '\n')}); err == nil || !strings.Contains(err.Error(), "runs as before") {
		t.Errorf("restart: %v", err)
	}
	if st, err := a.Status(t.Context()); err != nil || !st.Running || a.over != over {
		t.Errorf("it was stopped: %+v, %v", st, err)
	}
	if err := os.Remove(p.paths.config); err != nil { // the first start would fail as well
		t.Fatal(err)
	}
	p.registry.TLS.Key = &key
	if err := p.Precheck(t.Context(), face()); err == nil {
		t.Error("a new one without a key is let start")
	}
}

// A Zot in a container runs as the owner of its data, and may put there what it
// likes in the place of ocisync's own files.
func TestWhatZotPutsInPlaceOfOurFilesIsRefused(t *testing.T) {
	p, _ := played(t, nowhere, func(string) string { return recordLoaded })
	dir, elsewhere := filepath.Dir(p.paths.own), t.TempDir()
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Symlink(elsewhere, dir)); err != nil {
		t.Fatal(err)
	}
	face := string(encoded(schema.Values(p.front())))
	_, read := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
	wrote := p.Write(t.Context(), nil, func(schema.Key, error) {})
	for verb, err := range map[string]error{
		"reading": read, "writing": wrote, "starting": p.BeforeStart(t.Context(), face), "asking": p.Precheck(t.Context(), face),
	} {
		if !errors.Is(err, regular.ErrUnsafe) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
		t.Errorf("elsewhere: %v, %v", entries, err)
	}
}

// The directory of a file that somebody else runs Zot with may be Zot's own user's.
func TestALinkOrPipeForOurFilesIsNeitherFollowedNorWaitedFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for name, tt := range map[string]struct {
		file  func(p *Provider) string
		plant func(elsewhere, name string) error
	}{
		"the lock a link":  {func(p *Provider) string { return p.paths.own + ".lock" }, os.Symlink},
		"the lock a pipe":  {func(p *Provider) string { return p.paths.own + ".lock" }, func(_, name string) error { return syscall.Mkfifo(name, 0o600) }},
		"our file a link":  {func(p *Provider) string { return p.paths.own }, os.Symlink},
		"our file a pipe":  {func(p *Provider) string { return p.paths.own }, func(_, name string) error { return syscall.Mkfifo(name, 0o600) }},
		"our file another": {func(p *Provider) string { return p.paths.own }, os.Link},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := played(t, nowhere, func(string) string { return recordLoaded })
			elsewhere := filepath.Join(t.TempDir(), "root's")
			if strings.HasPrefix(name, "our file") {
				if err := os.WriteFile(elsewhere, []byte("root's secret"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			at := tt.file(p)
			if err := errors.Join(os.RemoveAll(at), tt.plant(elsewhere, at)); err != nil {
				t.Fatal(err)
			}
			err := p.Write(ctx, nil, func(schema.Key, error) {})
			if ctx.Err() != nil || name != "the lock a pipe" && err == nil || err != nil && strings.Contains(err.Error(), "'r'") {
				t.Errorf("error %v", err)
			}
			if b, err := os.ReadFile(elsewhere); strings.HasPrefix(name, "the lock") && err == nil || err == nil && string(b) != "root's secret" {
				t.Errorf("elsewhere: %q, %v", b, err)
			}
		})
	}
}
