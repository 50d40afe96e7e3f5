package embedded_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// slow serves a registry in which dev may do everything in team, and other
// nothing.
func slow(t *testing.T, o embedded.Options) *served {
	t.Helper()
	o.Data = filepath.Join(t.TempDir(), "data")
	s := serveWith(t, o)
	s.change(t, putUser(t, "dev", false), putUser(t, "other", false), putNamespace("team"),
		putAccess("team", schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push | schema.Delete})}))
	return s
}

// send begins a request by hand, and sends so much of its body.
func (s *served) send(t *testing.T, method, user, path, media string, size int, body string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	login := ""
	if user != "" {
		login = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":pw-"+user)) + "\r\n"
	}
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", method, path, login, media, size, body); err != nil {
		t.Fatal(err)
	}
	return c
}

// answered reads the answer on a connection, within a time.
func answered(t *testing.T, c net.Conn, within time.Duration) (*http.Response, error) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil {
		t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

// patience is how long an answer may take that waits for nothing, on a machine that
// has much else to do.
const patience = 15 * time.Second

const form = "application/x-www-form-urlencoded"

func TestASlowBodyHoldsUpNeitherCollectionNorPushes(t *testing.T) {
	s := slow(t, embedded.Options{})
	if err := remote.Write(s.ref(t, "team/app:1"), image(t), s.as("dev")...); err != nil {
		t.Fatal(err)
	}
	some := digest.FromString("some").String()
	upload := s.do(t, "POST", "dev", "/v2/team/app/blobs/uploads/").Header.Get("Location")
	requests := []string{"PUT /v2/team/app/manifests/2", "PATCH " + upload, "PUT " + upload + "&digest=" + some}
	for _, path := range []string{
		"/v2/team/app/manifests/1", "/v2/team/app/blobs/" + some, "/v2/team/app/tags/list", "/v2/team/app/blobs/uploads/abc", "/v2/team/app/blobs/uploads/",
		"/v2/", "/v2/_catalog", "/v2/team/app/referrers/" + some, "/v2/team/app/blobs/uploads/?mount=" + some + "&from=team/other",
	} {
		requests = append(requests, "POST "+path, "DELETE "+path)
	}
	for _, user := range []string{"", "other", "dev"} {
		for _, q := range requests {
			method, path, _ := strings.Cut(q, " ")
			s.send(t, method, user, path, form, 1_000_000, "a")
		}
	}
	time.Sleep(50 * time.Millisecond) // all are being answered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Run(ctx, embedded.JobGC, false); err != nil {
		t.Fatalf("a collection beside slow clients: %v", err)
	}
	if err := remote.Write(s.ref(t, "team/app:3"), image(t), append(s.as("dev"), remote.WithContext(ctx))...); err != nil {
		t.Errorf("a push after it: %v", err)
	}
}

// A client that takes its answer slowly is not waited for either: this one is
// told of so many blobs that are not there that it fits no buffer.
func TestASlowReaderHoldsUpNoCollection(t *testing.T) {
	s := slow(t, embedded.Options{})
	var b strings.Builder
	b.WriteString(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"` + digest.FromString("{}").String() + `"},"layers":[`)
	for i := range 38_000 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"mediaType":"a","size":1,"digest":"%s"}`, digest.FromString(fmt.Sprint(i)))
	}
	b.WriteString(`]}`)
	if b.Len() > 4<<20 {
		t.Fatalf("%d bytes are no manifest", b.Len())
	}
	c := s.send(t, "PUT", "dev", "/v2/team/app/manifests/1", "application/vnd.oci.image.manifest.v1+json", b.Len(), "")
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // it is being answered
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Run(ctx, embedded.JobGC, false); err != nil {
		t.Fatalf("a collection beside a slow reader: %v", err)
	}
}

func TestARefusalComesBeforeTheBodyAndClosesTheConnection(t *testing.T) {
	s := slow(t, embedded.Options{})
	for _, tt := range []struct {
		user, method, path string
		status             int
	}{
		{"", "PUT", "/v2/team/app/manifests/1", 401},
		{"", "PATCH", "/v2/team/app/blobs/uploads/1", 401},
		{"", "POST", "/v2/team/app/blobs/uploads/", 401},
		{"", "POST", "/v2/", 401},
		{"stranger", "PUT", "/v2/team/app/manifests/1", 401},
		{"other", "PUT", "/v2/team/app/manifests/1", 403},
		{"other", "PATCH", "/v2/team/app/blobs/uploads/1", 403},
		{"dev", "POST", "/v2/team/app/manifests/1", 405},
		{"dev", "PATCH", "/v2/team/app/tags/list", 405},
		{"dev", "PUT", "/v2/Team/app/manifests/1", 400},
		{"dev", "POST", "/v2/", 200},
		{"dev", "POST", "/v2/team/app/blobs/uploads/", 202},
		{"", "POST", "/healthz", 200},
	} {
		for _, size := range []int{1000, 100_000, 10_000_000} {
			// a body that nobody wants is waited for as long as that, each time
			const prompt = 2 * time.Second
			var resp *http.Response
			err := io.EOF
			for try := 0; try < 5 && err != nil; try++ {
				resp, err = answered(t, s.send(t, tt.method, tt.user, tt.path, "application/octet-stream", size, "a"), prompt)
			}
			if err != nil {
				t.Fatalf("%q %s %s of %d bytes: %v", tt.user, tt.method, tt.path, size, err)
			}
			if resp.StatusCode != tt.status || !resp.Close {
				t.Errorf("%q %s %s of %d bytes: %d, closes %v; want %d", tt.user, tt.method, tt.path, size, resp.StatusCode, resp.Close, tt.status)
			}
		}
	}
}

// Closed for want of a body, and not because somebody closes everything.
func TestAnAnswerToAWholeRequestKeepsTheConnection(t *testing.T) {
	s := slow(t, embedded.Options{})
	for _, tt := range [][3]string{{"", "GET", "/v2/"}, {"dev", "POST", "/v2/team/app/blobs/uploads/"}, {"other", "DELETE", "/v2/team/app/manifests/1"}} {
		resp, err := answered(t, s.send(t, tt[1], tt[0], tt[2], "", 0, ""), patience)
		if err != nil || resp.Close {
			t.Errorf("%v: closes (%v)", tt, err)
		}
	}
	body := "{}"
	resp, err := answered(t, s.send(t, "PUT", "dev", "/v2/team/app/manifests/1", "application/vnd.oci.image.manifest.v1+json", len(body), body), patience)
	if err != nil || resp.StatusCode < 400 || resp.Close {
		t.Errorf("a manifest that is none: %v %+v", err, resp)
	}
}

// drip sends a body in parts until its answer comes, and returns its status, 0
// where the connection is cut.
func drip(t *testing.T, c net.Conn, part string, every time.Duration, parts int) int {
	t.Helper()
	go func() {
		for range parts {
			time.Sleep(every)
			if _, err := io.WriteString(c, part); err != nil {
				return
			}
		}
	}()
	resp, err := answered(t, c, 5*time.Second)
	if err != nil {
		return 0
	}
	return resp.StatusCode
}

// A byte now and then keeps no connection, whoever sends it; a line that is
// slow and steady is served.
func TestABodyThatComesTooSlowlyIsCut(t *testing.T) {
	s := slow(t, embedded.Options{Limits: &embedded.Limits{
		Account: embedded.DefaultLimits().Account, Address: embedded.DefaultLimits().Address, Failures: embedded.DefaultLimits().Failures,
		Slowest: embedded.Pace{Bytes: 1000, Within: 400 * time.Millisecond},
	}})
	upload := s.do(t, "POST", "dev", "/v2/team/app/blobs/uploads/").Header.Get("Location")
	began := time.Now()
	c := s.send(t, "PATCH", "dev", upload, "application/octet-stream", 100_000, "")
	if got := drip(t, c, "0123456789", 20*time.Millisecond, 200); got != 0 && got < 400 || time.Since(began) > 3500*time.Millisecond {
		t.Errorf("500 bytes a second: %d after %s, want the end after 0.4 s", got, time.Since(began))
	}
	upload = s.do(t, "POST", "dev", "/v2/team/app/blobs/uploads/").Header.Get("Location")
	c = s.send(t, "PATCH", "dev", upload, "application/octet-stream", 60*2000, "")
	if got := drip(t, c, strings.Repeat("x", 2000), 20*time.Millisecond, 60); got != http.StatusAccepted {
		t.Errorf("100 kB a second for 1.2 s: %d, want 202", got)
	}
}

func TestOneAddressHasABoundedNumberOfConnections(t *testing.T) {
	limits := embedded.DefaultLimits()
	limits.Connections = 6
	s := slow(t, embedded.Options{Limits: &limits})
	s.http.CloseIdleConnections()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func(c net.Conn, path string) int {
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return 0
		}
		resp, err := answered(t, c, patience)
		if err != nil {
			return 0
		}
		return resp.StatusCode
	}
	// their clients send nothing more
	for range 6 {
		if _, err := io.WriteString(dial(), "GET /v2/ HTTP/1.1\r\nHost: x\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(dial(), "/healthz"); got != 200 {
		t.Errorf("the registry's health, when all are in use: %d", got)
	}
	if got := ask(dial(), "/v2/"); got != http.StatusTooManyRequests {
		t.Errorf("something else, when all are in use: %d", got)
	}
	for range 10 { // there are spare ones, and not many
		dial()
	}
	deadline := time.Now().Add(5 * time.Second)
	for ask(dial(), "/healthz") != 0 {
		if time.Now().After(deadline) {
			t.Fatal("there is no end of connections")
		}
	}
	if _, err := s.Run(t.Context(), embedded.JobGC, true); err != nil {
		t.Errorf("the admin socket beside it: %v", err)
	}
}
