package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProgramSaysWhereItIsAndStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-ca", ca, "-listen", "127.0.0.1:0", "-password", "Other12345", "-push", "library/app:v1", "-robot", "helper:Robot12345"}, write)
	}()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(line, " at ")
	address, login, _ := strings.Cut(strings.TrimSpace(rest), ",")
	if !strings.Contains(login, "admin") || !strings.Contains(login, "Other12345") {
		t.Errorf("it said %q", line)
	}
	certificate, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(certificate)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	ask := func(method, path, user, password string, status int) string {
		r, err := http.NewRequestWithContext(t.Context(), method, address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, password)
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != status {
			t.Errorf("%s %s: status %d", method, path, answer.StatusCode)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	ask(http.MethodDelete, trafficPath, "", "", http.StatusNoContent)
	ask(http.MethodGet, "/api/v2.0/projects/library/repositories/app", "admin", "Other12345", http.StatusOK)
	ask(http.MethodGet, "/api/v2.0/users", "robot$helper", "Robot12345", http.StatusOK)
	if told := ask(http.MethodGet, trafficPath, "", "", http.StatusOK); !strings.Contains(told, `"Requests":2,"Writes":0`) {
		t.Errorf("of its traffic it said %s", told)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
