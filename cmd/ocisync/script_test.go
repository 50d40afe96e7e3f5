package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ocisync/ocisync/pkg/porttest"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

// TestMain makes the test binary also the programs that scripts run: ocisync
// itself; code, which prints the exit code of another; push and pull, a
// registry's client that is not ocisync.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ocisync": main,
		"code":    runForCode,
		"push":    func() { client(push) },
		"pull":    func() { client(pull) },
	})
}

// TestScripts runs every script of testdata/script: what the commands print,
// their exit codes, and what they leave behind.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "script"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			root, err := filepath.Abs(filepath.Join("..", ".."))
			if err != nil {
				return err
			}
			e.Setenv("ROOT", root)
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "machine"))
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			e.Setenv("OCISYNC_ACTOR", "script")
			e.Values[snapshots{}] = map[string]string{}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "tmpfs":
				return canMount(), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     cmdExits,
			"extract":   cmdExtract,
			"expand":    cmdExpand,
			"replace":   cmdReplace,
			"freeport":  cmdFreePort,
			"ready":     cmdReady,
			"await":     cmdAwait,
			"at-last":   cmdAtLast,
			"http":      cmdHTTP,
			"server":    cmdServer,
			"snapshot":  cmdSnapshot,
			"untouched": cmdUntouched,
			"copydir":   cmdCopyDir,
			"small":     cmdSmall,
		},
	})
}

// cmdExits runs a program and demands an exit code: exits 4 ocisync apply.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [args...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, not %s", got, args[0])
	}
}

// cmdExtract puts what a pattern's group matched into a variable: extract
// DIGEST stdout '(sha256:[0-9a-f]+)'.
func cmdExtract(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: extract variable file pattern")
	}
	m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) != 2 {
		ts.Fatalf("%s does not match %s", args[1], args[2])
	}
	ts.Setenv(args[0], m[1])
}

// cmdExpand writes the values of variables into files: ${PORT} and $WORK.
func cmdExpand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand file...")
	}
	for _, f := range args {
		text := regexp.MustCompile(`\$\{(\w+)\}`).ReplaceAllStringFunc(ts.ReadFile(f), func(v string) string {
			return ts.Getenv(v[2 : len(v)-1])
		})
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(text), 0o600))
	}
}

// cmdReplace changes a file: replace file pattern text, where \n is a new line.
func cmdReplace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace file pattern text")
	}
	old := ts.ReadFile(args[0])
	text := regexp.MustCompile("(?m)"+args[1]).ReplaceAllString(old, strings.ReplaceAll(args[2], `\n`, "\n"))
	if text == old {
		ts.Fatalf("%s does not match %s", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func cmdFreePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freeport variable")
	}
	address, err := porttest.Free(context.Background())
	ts.Check(err)
	_, port, err := net.SplitHostPort(address)
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// eventually tries until it succeeds or 20 seconds are over.
func eventually(ts *testscript.TestScript, what string, try func() bool) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if try() {
			return
		}
	}
	ts.Fatalf("%s did not happen", what)
}

// cmdReady waits until a registry is healthy: ready $PORT.
func cmdReady(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, "health of the registry", func() bool {
		resp, err := http.Get("http://127.0.0.1:" + args[0] + "/healthz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// cmdAwait waits until a file exists.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

// cmdAtLast runs a program until it succeeds: at-last pull host/name:tag.
func cmdAtLast(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: at-last program [argument...]")
	}
	eventually(ts, strings.Join(args, " "), func() bool { return ts.Exec(args[0], args[1:]...) == nil })
}

// cmdHTTP sends a request and demands a status: http 200 GET url [user:password] [body].
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: http status method url [user:password [body]]")
	}
	body := ""
	if len(args) > 4 {
		body = args[4]
	}
	req, err := http.NewRequest(args[1], args[2], strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	if len(args) > 3 && args[3] != "" {
		user, password, _ := strings.Cut(args[3], ":")
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	_, err = ts.Stdout().Write(b)
	ts.Check(err)
	if strconv.Itoa(resp.StatusCode) != args[0] {
		ts.Fatalf("%s %s: %s, not %s", args[1], args[2], resp.Status, args[0])
	}
}

// cmdServer starts a server that is no registry of ocisync: server port what.
func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: server variable html|nothing|unauthorized|zot")
	}
	// What cannot be sent, the client that asked reports.
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch args[1] {
		case "html":
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprint(w, "<html><body>Welcome to nginx!</body></html>")
		case "nothing":
			http.NotFound(w, r)
		case "unauthorized":
			w.WriteHeader(http.StatusUnauthorized)
		case "zot":
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprint(w, "{}")
		}
	}))
	ts.Defer(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}

type snapshots struct{}

// cmdSnapshot remembers directories as they are, with modes, times and
// contents: snapshot directory...
func cmdSnapshot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: snapshot directory...")
	}
	for _, dir := range args {
		ts.Value(snapshots{}).(map[string]string)[dir] = listing(ts, dir)
	}
}

// cmdUntouched demands that directories are as they were at their snapshot.
func cmdUntouched(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range args {
		want, ok := ts.Value(snapshots{}).(map[string]string)[dir]
		if neg || !ok {
			ts.Fatalf("usage: snapshot directory... and later untouched directory...")
		}
		if d := cmp.Diff(want, listing(ts, dir)); d != "" {
			ts.Fatalf("%s was touched (-before +now):\n%s", dir, d)
		}
	}
}

func listing(ts *testscript.TestScript, dir string) string {
	var b strings.Builder
	root := os.DirFS(ts.MkAbs(dir))
	ts.Check(fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %d", path, info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			data, err := fs.ReadFile(root, path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(data))
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// cmdCopyDir makes a directory a copy of another.
func cmdCopyDir(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: copydir from to")
	}
	ts.Check(os.RemoveAll(ts.MkAbs(args[1])))
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(ts.MkAbs(args[0]))))
}

// cmdSmall mounts a disk of 64 KiB on a directory until the script's end.
func cmdSmall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: small directory")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	unmount, err := mountSmall(dir)
	ts.Check(err)
	ts.Defer(func() { ts.Check(unmount()) })
}

// runForCode runs a program, hands an interrupt on to it, and prints its exit
// code as the last line.
func runForCode() {
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	_ = cmd.Wait()
	fmt.Printf("exit code %d\n", cmd.ProcessState.ExitCode())
}

// client runs push or pull: push reference [user:password].
func client(do func(name.Reference, ...remote.Option) error) {
	ref, err := name.ParseReference(os.Args[1], name.Insecure)
	auth := authn.Anonymous
	if len(os.Args) > 2 {
		user, password, _ := strings.Cut(os.Args[2], ":")
		auth = &authn.Basic{Username: user, Password: password}
	}
	if err == nil {
		err = do(ref, remote.WithAuth(auth))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func push(ref name.Reference, o ...remote.Option) error {
	text := "hello"
	if other := os.Getenv("TEXT"); other != "" {
		text = other
	}
	image, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte(text+"\n"), types.OCIUncompressedLayer))
	if err != nil {
		return err
	}
	platforms := strings.Fields(os.Getenv("PLATFORMS"))
	if len(platforms) == 0 {
		return remote.Write(ref, image, o...)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		one, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte(text+" of "+p+"\n"), types.OCIUncompressedLayer))
		if err != nil {
			return err
		}
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			return err
		}
		one = mutate.ConfigMediaType(mutate.MediaType(one, types.OCIManifestSchema1), types.OCIConfigJSON)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: one, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return remote.WriteIndex(ref, index, o...)
}

func pull(ref name.Reference, o ...remote.Option) error {
	image, err := remote.Image(ref, o...)
	if err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}
