package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func TestSecondProcessIsToldWhoHoldsTheDirectory(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	for what, o := range map[string]embedded.Options{
		"another address":  {Data: s.data, Listen: "127.0.0.1:0"},
		"the same address": {Data: s.data, Listen: s.Addr()},
	} {
		_, err := embedded.Open(t.Context(), o)
		if !errors.Is(err, embedded.ErrHeld) {
			t.Fatalf("%s: error %v, want ErrHeld", what, err)
		}
		for _, want := range []string{s.data, "ocisync test", "process ", "stop that one"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not say %q", what, err, want)
			}
		}
	}
	d, err := embedded.OpenDirectory(s.data, "second", bucketFor(t, s.data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Change(t.Context(), []embedded.Change{putNamespace("x")}); !errors.Is(err, embedded.ErrHeld) {
		t.Errorf("writing beside the holder: error %v, want ErrHeld", err)
	}
}

func TestLockOfADeadHolderIsFree(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	own := filepath.Join(data, "ocisync")
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	// what a killed process leaves behind
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(own, "admin.sock")})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	holder := `{"pid":1,"host":"h","command":"dead","socket":"` + filepath.Join(own, "admin.sock") + `"}`
	if err := os.WriteFile(filepath.Join(own, "lock"), []byte(holder), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Dial(t.Context(), data); !errors.Is(err, embedded.ErrNotServed) {
		t.Errorf("dialling a dead holder: %v", err)
	}
	serve(t, data).change(t, putNamespace("x"))
}

func TestTakenAddressLeavesNothingBehind(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := filepath.Join(t.TempDir(), "data")
	_, err = embedded.Open(t.Context(), embedded.Options{Data: data, Listen: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "run.listen") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a data directory was made: %v", err)
	}
}

func TestDataDirectoryThatIsNoneIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{file, filepath.Join(file, "below"), ""} {
		_, err := embedded.Open(t.Context(), embedded.Options{Data: data, Listen: "127.0.0.1:0"})
		if err == nil || !strings.Contains(err.Error(), "run.data") {
			t.Errorf("%q: error %v", data, err)
		}
	}
}

func TestLongPathHasItsSocketElsewhere(t *testing.T) {
	data := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "data")
	s := serve(t, data)
	s.change(t, putNamespace("x"))
	info, err := s.Info(t.Context())
	if err != nil || info.Data != data {
		t.Errorf("info %+v, %v", info, err)
	}
}

func TestSecretsAndSocketAreForTheOwnerAlone(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "dev", false))
	for name, want := range map[string]fs.FileMode{"": 0o700 | fs.ModeDir, "state.json": 0o600, "lock": 0o600, "admin.sock": 0o600 | fs.ModeSocket} {
		info, err := os.Stat(filepath.Join(s.data, "ocisync", name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("ocisync/%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestDamagedStateIsRefusedWithARemedy(t *testing.T) {
	for state, want := range map[string]string{
		`{"format":2}`: "a newer one",
		`{"format":1`:  "backup",
		`{"format":1,"revision":1,"objects":[],"passwords":{},"more":1}`:                                               "more",
		`{"format":1,"revision":1,"objects":[{"key":"user/a","spec":{}},{"key":"user/a","spec":{}}]}`:                  "twice",
		`{"format":1,"revision":1,"objects":[{"key":"namespace/ocisync","spec":{}}]}`:                                  "ocisync's own",
		`{"format":1,"revision":1,"objects":[{"key":"webhook/a/b","spec":{}}]}`:                                        "webhook/a/b",
		`{"format":1,"revision":1,"objects":[{"key":"user/a","spec":{"password":{"env":"X"}}}]}`:                       "user/a",
		`{"format":1,"revision":1,"objects":[{"key":"user/a","spec":{}}],"passwords":{"a":"plain"}}`:                   "bcrypt",
		`{"format":1,"revision":1,"objects":[],"passwords":{"a":""}}`:                                                  `"a"`,
		`{"format":1,"revision":1,"objects":[{"key":"settings","spec":{"values":{"policy.outside":"maybe"}}}]}`:        "deny or leave",
		`{"format":1,"revision":1,"objects":[{"key":"settings","spec":{"values":{"policy.outside":5}}}]}`:              "deny or leave",
		`{"format":1,"revision":1,"objects":[{"key":"access/a","spec":{"anonymous":["pull"],"conditions":["true"]}}]}`: "conditions",
	} {
		data := t.TempDir()
		path := filepath.Join(data, "ocisync", "state.json")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := embedded.Open(t.Context(), embedded.Options{Data: data})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "state.json") {
			t.Errorf("%s: error %v does not say %q", state, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "plain") {
			t.Errorf("error %q tells a password", err)
		}
		if b, _ := os.ReadFile(path); string(b) != state {
			t.Errorf("%s became %s", state, b)
		}
	}
}

func TestStateThatCannotBeWrittenStaysAsItWas(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putNamespace("a"))
	// in the way of the new file, and not to be removed
	if err := os.MkdirAll(filepath.Join(s.data, "ocisync", "state.json.new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Change(t.Context(), []embedded.Change{putNamespace("b")}); err == nil || !strings.Contains(err.Error(), "state") {
		t.Errorf("error %v", err)
	}
	live, err := s.State(t.Context(), nil)
	if err != nil || len(live.Objects) != 1 {
		t.Errorf("live has %v (%v), want namespace/a alone", live.Objects, err)
	}
}

func TestStateSurvivesARestart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	var before embedded.Live
	t.Run("first", func(t *testing.T) {
		s := serve(t, data)
		s.change(t, putUser(t, "dev", true), putNamespace("a"), putAccess("a", schema.Access{Anonymous: rights(schema.Pull)}))
		if err := remote.Write(s.ref(t, "a/app:1"), image(t), s.as("dev")...); err != nil {
			t.Fatal(err)
		}
		var err error
		if before, err = s.State(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	})
	s := serve(t, data)
	after, err := s.State(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, after); d != "" {
		t.Error(d)
	}
	if _, err := remote.Image(s.ref(t, "a/app:1"), s.as("")...); err != nil {
		t.Error(err)
	}
}

func TestContentCopiedFromAStockDistributionIsServed(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	t.Run("fill", func(t *testing.T) {
		s := serve(t, data)
		s.change(t, putUser(t, "root", true))
		if err := remote.Write(s.ref(t, "library/app:1"), image(t), s.as("root")...); err != nil {
			t.Fatal(err)
		}
	})
	copied := t.TempDir() // a stock registry has docker/ at the root of its storage and nothing else
	if err := os.CopyFS(filepath.Join(copied, "docker"), os.DirFS(filepath.Join(data, "docker"))); err != nil {
		t.Fatal(err)
	}
	s := serve(t, copied)
	s.change(t, putNamespace("library"), putAccess("library", schema.Access{Anonymous: rights(schema.Pull)}))
	if _, err := remote.Image(s.ref(t, "library/app:1"), s.as("")...); err != nil {
		t.Error(err)
	}
}

func TestServeLetsUploadsInFlightFinish(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	d, err := embedded.OpenDirectory(data, "test", bucketFor(t, data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Change(t.Context(), []embedded.Change{putNamespace("a"), putAccess("a", schema.Access{Anonymous: rights(schema.Pull | schema.Push)})}); err != nil {
		t.Fatal(err)
	}
	r, err := embedded.Open(t.Context(), embedded.Options{Data: data, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	start, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.Addr()+"/v2/a/app/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(start)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// half an upload, then the end of Serve, then the other half
	if _, err := fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf", resp.Header.Get("Location")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	stop()
	time.Sleep(50 * time.Millisecond)
	if _, err := c.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := c.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 202") {
		t.Errorf("the upload in flight got %q, %v", b[:n], err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
