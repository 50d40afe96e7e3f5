package embedded

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a certificate of 127.0.0.1 with a serial number, and its key.
func writePair(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	writePairOf(t, cert, key, serial, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

// writePairOf writes one that is valid from a time to another.
func writePairOf(t *testing.T, cert, key string, serial int64, from, to time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: from, NotAfter: to,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if name == "" {
			continue
		}
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACertificateChangesWhileTheRegistryRuns(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, 1)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	c, err := loadCertificate(cert, key, logger)
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	c.now = func() time.Time { return clock }
	serial := func() int64 {
		t.Helper()
		leaf, err := x509.ParseCertificate(c.get().Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	writePair(t, cert, key, 2)
	clock = clock.Add(recheck / 2)
	if got := serial(); got != 1 {
		t.Errorf("looked again after %s: serial %d", recheck/2, got)
	}
	clock = clock.Add(recheck)
	if got := serial(); got != 2 {
		t.Errorf("serial %d after the pair changed, want 2", got)
	}
	writePair(t, cert, "", 3) // no pair with the key that is there
	for range 3 {
		clock = clock.Add(recheck)
		if got := serial(); got != 2 {
			t.Errorf("serial %d while the files are no pair, want 2", got)
		}
	}
	if n := strings.Count(log.String(), "no pair"); n != 1 {
		t.Errorf("a pair that does not fit is logged %d times, want once:\n%s", n, log.String())
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(recheck)
	if got := serial(); got != 2 {
		t.Errorf("serial %d without a file, want 2", got)
	}
	writePair(t, cert, key, 4)
	clock = clock.Add(recheck)
	if got := serial(); got != 4 {
		t.Errorf("serial %d after a pair is there again, want 4", got)
	}
}

func TestAnOutdatedCertificateTakesNotThePlaceOfAValidOne(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var log bytes.Buffer
	clock := time.Now().Truncate(time.Second)
	at := func(hours int) time.Time { return clock.Add(time.Duration(hours) * time.Hour) }
	writePairOf(t, cert, key, 1, at(-2), at(-1))
	c, err := loadCertificate(cert, key, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c.now = func() time.Time { return clock }
	step := func(what string, serial int64, lines ...string) {
		t.Helper()
		for range 3 { // said once
			clock = clock.Add(recheck)
			leaf, err := x509.ParseCertificate(c.get().Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			if got := leaf.SerialNumber.Int64(); got != serial {
				t.Errorf("%s: serial %d, want %d", what, got, serial)
			}
		}
		said := log.String()
		log.Reset()
		for _, want := range lines {
			if strings.Count(said, want) != 1 {
				t.Errorf("%s: want one line with %q in\n%s", what, want, said)
			}
		}
		if n := strings.Count(said, "\n"); n != len(lines) {
			t.Errorf("%s: %d lines, want %d:\n%s", what, n, len(lines), said)
		}
	}
	step("expired from the start", 1, "expired at")
	writePairOf(t, cert, key, 2, at(-3), at(-1))
	step("expired too", 2, "are in force")
	writePairOf(t, cert, key, 3, at(-1), at(5))
	step("valid", 3, "are in force")
	writePairOf(t, cert, key, 4, at(-3), at(-1))
	step("expired", 3, "expired at")
	writePairOf(t, cert, key, 5, at(2), at(10))
	step("not valid yet", 3, "not valid before")
	clock = clock.Add(3 * time.Hour)
	step("valid by now", 5, "are in force")
	clock = clock.Add(20 * time.Hour)
	step("expired in force", 5, "expired at")
}

func TestTheRegistrySpeaksHTTP2ByTLS12OrLaterAndReloads(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, 1)
	r, err := Open(t.Context(), Options{Data: filepath.Join(dir, "data"), Listen: "127.0.0.1:0", TLSCert: cert, TLSKey: key})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	defer func() {
		stop()
		if err := errors.Join(<-done, r.Close()); err != nil {
			t.Error(err)
		}
	}()
	get := func(most uint16) (proto int, serial int64, err error) {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: most}}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("https://" + r.Addr() + "/healthz")
		if err != nil {
			return 0, 0, err
		}
		defer resp.Body.Close()
		return resp.ProtoMajor, resp.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
	}
	proto, serial, err := get(0)
	if err != nil {
		t.Fatal(err)
	}
	if proto != 2 || serial != 1 {
		t.Errorf("HTTP/%d with certificate %d, want HTTP/2 with 1", proto, serial)
	}
	if _, _, err := get(tls.VersionTLS12); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	// a client that would, and asks for no HTTP/2, which needs more
	old, err := tls.Dial("tcp", r.Addr(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		t.Error("TLS 1.1 is spoken")
		if err := old.Close(); err != nil {
			t.Error(err)
		}
	}
	writePair(t, cert, key, 2)
	deadline := time.Now().Add(time.Minute)
	for {
		if _, serial, err = get(0); err != nil {
			t.Fatal(err)
		}
		if serial == 2 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not served")
		}
		time.Sleep(50 * time.Millisecond)
	}
}
