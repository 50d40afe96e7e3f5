package embedded

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBrokenConnectionsFillNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := slog.NewLogLogger(newPaced(slog.NewTextHandler(&b, nil)), slog.LevelWarn)
		for range 500 {
			l.Printf("http: TLS handshake error from 192.0.2.1:1: %v", tls.AlertError(40))
		}
		if n := strings.Count(b.String(), "handshake error"); n != 10 {
			t.Errorf("%d lines of 500, want 10", n)
		}
		time.Sleep(time.Minute)
		l.Print("http: another")
		if text := b.String(); !strings.Contains(text, "http: another\" left_out=490") {
			t.Errorf("what was left out is not said:\n%s", text)
		}
	})
}
