package embedded_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/providers/embedded"
	"github.com/ocisync/ocisync/schema"
)

// certificate writes a certificate for 127.0.0.1 that signs itself, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
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
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestAnotherHostChecksTheCertificate(t *testing.T) {
	cert, key := certificate(t)
	data := filepath.Join(t.TempDir(), "data")
	mustWrite(t, newProvider(t, data, "http://"+porttest.Address(t)), firstChanges()...)
	r, err := registry.Open(t.Context(), registry.Options{Data: data, Listen: "127.0.0.1:0", TLSCert: cert, TLSKey: key})
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
	if err := os.Rename(data, data+".away"); err != nil { // as on another host
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(data+".away", data); err != nil {
			t.Error(err)
		}
	}()
	other, _ := certificate(t)
	for what, tt := range map[string]struct {
		tls  *schema.TLS
		says string // "" for no error
	}{
		"its authority":        {&schema.TLS{CA: &cert}, ""},
		"no check":             {&schema.TLS{Insecure: new(true)}, ""},
		"another authority":    {&schema.TLS{CA: &other}, "check registry.url and registry.tls"},
		"the system's":         {nil, "check registry.url and registry.tls"},
		"a file that is no CA": {&schema.TLS{CA: &key}, "registry.tls.ca"},
	} {
		p, err := embedded.New(schema.Registry{
			URL: "https://" + r.Addr(), TLS: tt.tls, Run: &schema.Run{Driver: schema.DriverEmbedded, Data: data},
			Login: &schema.Login{User: new("root"), Password: &schema.SecretRef{Env: "ROOT"}},
		}, testSecrets(), nil)
		if err != nil {
			t.Fatal(err)
		}
		st, err := p.Read(t.Context(), allKinds())
		switch {
		case tt.says == "":
			if err != nil || len(st.Resources) != 5 {
				t.Errorf("%s: %d objects, %v", what, len(st.Resources), err)
			}
		case err == nil || !strings.Contains(err.Error(), tt.says):
			t.Errorf("%s: error %v does not say %q", what, err, tt.says)
		}
	}
}
