package distribution_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

// restarts has the registry looked after, and reports whether that restarted it.
func restarts(t *testing.T, p *distribution.Provider, f *fake, quiet time.Duration) bool {
	t.Helper()
	f.did = nil
	if err := p.Tend(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	if len(f.did) > 0 && fmt.Sprint(f.did) != "[stop start]" {
		t.Fatalf("it did %q", f.did)
	}
	return len(f.did) > 0
}

func troubles(t *testing.T, p *distribution.Provider) string {
	t.Helper()
	list, err := p.Troubles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(list)
}

// TestARegistryForgetsAFormerKeyInTime has it restarted once the last tokens of a
// former key have expired, and nobody has another: a restart refuses whoever has.
func TestARegistryForgetsAFormerKeyInTime(t *testing.T) {
	p, f := running(t)
	data := filepath.Dir(f.config)
	now := time.Now()
	public := filepath.Join(data, "jwks.json")
	keys, err := token.OpenKeys(filepath.Join(data, "ocisync", "keys.json"), public, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if text := troubles(t, p); text != "[]" || restarts(t, p, f, time.Hour) {
		t.Fatalf("before a rotation: %s", text)
	}
	f.started = now.Add(-time.Hour)
	written := func(ago time.Duration) {
		t.Helper()
		at := time.Now().Add(-ago)
		if err := errors.Join(os.Chtimes(public, at, at), os.Chtimes(f.config, f.started, f.started)); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys.Rotate(); err != nil {
		t.Fatal(err)
	}
	written(5 * time.Minute)
	if restarts(t, p, f, time.Hour) {
		t.Error("tokens of the former key were not let live")
	}
	if text := troubles(t, p); !strings.Contains(text, "{keys the keys of its tokens were rotated") || !strings.Contains(text, " true}") {
		t.Errorf("it says %s", text)
	}
	now = now.Add(token.Life + token.Leeway + time.Second)
	if err := keys.Tidy(); err != nil {
		t.Fatal(err)
	}
	written(0)
	const good = token.Life + token.Leeway
	if restarts(t, p, f, good-time.Second) {
		t.Error("it was restarted while clients have tokens")
	}
	if text := troubles(t, p); !strings.Contains(text, "until it is restarted it would take another one of whoever has that key") || !strings.Contains(text, " true}") {
		t.Errorf("it says %s", text)
	}
	f.started = now.Add(-9 * 24 * time.Hour)
	written(8 * 24 * time.Hour)
	if restarts(t, p, f, good-time.Second) {
		t.Error("it was restarted while clients have tokens, after a week")
	}
	if text := troubles(t, p); !strings.Contains(text, "ocisync restart at once false}") {
		t.Errorf("after a week it says %s", text)
	}
	written(0) // with what a token lives, seven of the ten minutes
	if !restarts(t, p, f, good) {
		t.Error("it knows the former key though nobody has a token")
	}
	if text := troubles(t, p); text != "[]" || restarts(t, p, f, time.Hour) {
		t.Errorf("after the restart: %s", text)
	}
}

// pair writes a certificate for a time and its key.
func pair(t *testing.T, cert, key string, from, to time.Time) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(from.UnixNano()), DNSNames: []string{"localhost"}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

// TestARenewedCertificateIsShownAfterARestart at a quiet moment, and the plan and
// status say until then which one is.
func TestARenewedCertificateIsShownAfterARestart(t *testing.T) {
	dir := t.TempDir()
	cert, key, data := filepath.Join(dir, "s.pem"), filepath.Join(dir, "s.key"), filepath.Join(dir, "data")
	now := time.Now()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(&strings.Builder{}, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair(t, cert, key, now.Add(-time.Hour), now.Add(time.Hour))}}
	server.StartTLS()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{config: filepath.Join(data, "config.yml")}
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "https://localhost:" + port, TLS: &schema.TLS{Cert: &cert, Key: &key},
		Run: &schema.Run{Driver: schema.DriverProcess, Data: data, Listen: server.Listener.Addr().String()},
	}, f, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.BeforeStart(t.Context(), ""), f.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	if text := troubles(t, p); text != "[]" || restarts(t, p, f, time.Hour) {
		t.Errorf("with the certificate of the file: %s", text)
	}
	pair(t, cert, key, now.Add(-2*time.Hour), now.Add(-time.Hour))
	if text := troubles(t, p); !strings.Contains(text, "{certificate what lies in "+cert+" is not valid now") || restarts(t, p, f, time.Hour) {
		t.Errorf("with an expired one: %s", text)
	}
	pair(t, cert, key, now.Add(-time.Hour), now.Add(24*time.Hour))
	if err := os.WriteFile(key, []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := troubles(t, p); !strings.Contains(text, "are not a certificate and its key") || strings.Contains(text, "half") || restarts(t, p, f, time.Hour) {
		t.Errorf("with half of a key: %s", text)
	}
	pair(t, cert, key, now.Add(-time.Hour), now.Add(24*time.Hour))
	if text := troubles(t, p); !strings.Contains(text, "{certificate it shows the certificate from before, until ") {
		t.Errorf("with a new one: %s", text)
	}
	notes, err := p.Remarks(t.Context(), schema.State{}, now)
	if err != nil || !strings.Contains(fmt.Sprint(notes), "it shows the certificate from before") {
		t.Errorf("the plan says %v, %v", notes, err)
	}
	if restarts(t, p, f, time.Second) {
		t.Error("it was restarted while clients ask for tokens")
	}
	if !restarts(t, p, f, time.Minute) {
		t.Error("it was not restarted at a quiet moment")
	}
	if restarts(t, p, f, time.Minute) {
		t.Error("it was restarted again, though that did not help")
	}
	long := now.Add(-time.Hour)
	if err := os.Chtimes(cert, long, long); err != nil {
		t.Fatal(err)
	}
	if !restarts(t, p, f, time.Second) {
		t.Error("it waits for a quiet moment for ever")
	}
}
