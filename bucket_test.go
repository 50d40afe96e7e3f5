//go:build integration && objectstorage

package ocisync_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ocisync/ocisync/pkg/embedded/storage/s3test"
	"github.com/ocisync/ocisync/pkg/porttest"
)

const bucketMode = people + `
[state]
store = "registry"
key = { env = "OCISYNC_STATE_KEY" }
[gc]
delay = "1h"
[namespace.team]
access    = { users = { dev = ["pull", "push", "delete"] } }
quota     = { limit = "1MiB" }
retention = { keep = [{ newest = 1 }] }
`

// TestIntegrationARegistryInABucket is the day of a registry whose content is
// in S3, with the program as it is shipped with object stores, on a real S3
// server. GCS and Azure have none that could run here: their settings are
// tested as far as the driver takes or refuses them, in pkg/embedded/storage.
func TestIntegrationARegistryInABucket(t *testing.T) {
	server := s3test.Start(t, ".")
	server.Bucket(t, "images")
	s := newSite(t, "http://"+porttest.Address(t), "")
	without := s.bin
	s.bin = filepath.Join(t.TempDir(), "ocisync")
	if out, err := exec.Command("go", "build", "-tags", "objectstorage", "-o", s.bin, "./cmd/ocisync").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	s.env = append(s.env, "OCISYNC_S3_SECRET="+s3test.Secret, "AWS_EC2_METADATA_DISABLED=true")
	storage := "[registry.run.storage]\ns3 = { region = \"us-east-1\", bucket = \"images\", regionendpoint = \"" + server.URL +
		"\", forcepathstyle = true, accesskey = \"" + s3test.Access + "\", secretkey = { env = \"OCISYNC_S3_SECRET\" }, rootdirectory = \"/team\" }\n"
	s.mode(storage + bucketMode)
	refused := func(code int, args []string, words ...string) {
		t.Helper()
		before := files(t, s.dir)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // where it serves instead
		defer cancel()
		cmd := s.command(ctx, args...)
		b, err := cmd.CombinedOutput()
		out := string(b)
		t.Logf("ocisync %s: %s", strings.Join(args, " "), out)
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("ocisync %s: exit code %d, want %d: %v", strings.Join(args, " "), got, code, err)
		}
		for _, w := range append(words, "modes/m/m.toml:", "registry.run.storage.s3") {
			if !strings.Contains(out, w) {
				t.Errorf("ocisync %s does not say %q:\n%s", strings.Join(args, " "), w, out)
			}
		}
		if strings.Contains(out, s3test.Secret) {
			t.Errorf("ocisync %s tells the secret:\n%s", strings.Join(args, " "), out)
		}
		if after := files(t, s.dir); after["data/ocisync/state.json"] != before["data/ocisync/state.json"] {
			t.Errorf("ocisync %s wrote a state", strings.Join(args, " "))
		}
	}

	// a program without object stores, a store that is down, a wrong secret
	s.bin, without = without, s.bin
	refused(4, []string{"up"}, "built without object stores", "-tags objectstorage")
	s.bin = without
	server.Stop()
	refused(1, []string{"up"}, "check that the store can be reached")
	server.Run(t)
	s.env = append(s.env, "OCISYNC_S3_SECRET=another")
	refused(1, []string{"up"}, "check the account")
	refused(1, []string{"run", "gc"}, "check the account")
	s.env = append(s.env, "OCISYNC_S3_SECRET="+s3test.Secret)

	// the state store is in the registry, and thus in the bucket
	s.must(0, "apply")
	s.must(0, "plan", "--detailed-exitcode")
	up, log := s.start()
	s.must(0, "plan", "--detailed-exitcode")

	host := strings.TrimPrefix(s.url, "http://")
	auth := remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "dev", Password: "dev's long password"}))
	transport := remote.WithTransport(&http.Transport{DisableKeepAlives: true})
	ref := func(text string) name.Reference {
		t.Helper()
		r, err := name.ParseReference(host+"/"+text, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	push := func(tag string, size int64) (v1.Image, error) {
		t.Helper()
		im, err := random.Image(size, 2)
		if err != nil {
			t.Fatal(err)
		}
		return im, remote.Write(ref("team/app:"+tag), im, auth, transport)
	}
	var last v1.Image
	for _, tag := range []string{"1", "2", "3"} {
		im, err := push(tag, 100<<10)
		if err != nil {
			t.Fatal(err)
		}
		last = im
	}
	if _, err := push("4", 2<<20); err == nil || !strings.Contains(err.Error(), "quota") {
		t.Errorf("beyond the quota: %v", err)
	}
	if out := s.must(0, "run", "retention"); !strings.Contains(out, "removed 2") {
		t.Errorf("retention: %s", out)
	}
	s.must(0, "run", "gc")
	if err := remote.Delete(ref("team/app:1"), auth, transport); err == nil {
		t.Error("retention left a tag")
	}

	// once more, after a stop
	stop := func() {
		t.Helper()
		if err := up.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := up.Wait(); err != nil {
			t.Errorf("up: %v: %s", err, log)
		}
		if strings.Contains(log.String(), s3test.Secret) {
			t.Errorf("the log tells the secret: %s", log)
		}
	}
	stop()
	if files(t, s.data)["docker"] != "" {
		t.Error("content lies on the disk")
	}
	s.must(0, "plan", "--detailed-exitcode")
	s.must(0, "run", "gc", "--dry-run")
	up, log = s.start()
	d, err := last.Digest()
	if err != nil {
		t.Fatal(err)
	}
	im, err := remote.Image(ref("team/app:3"), auth, transport)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := im.Digest(); err != nil || got != d {
		t.Errorf("pulled %s, pushed %s: %v", got, d, err)
	}
	if err := remote.Delete(ref("team/app@"+d.String()), auth, transport); err != nil {
		t.Errorf("deleting: %v", err)
	}
	if _, err := remote.Image(ref("team/app:3"), auth, transport); err == nil {
		t.Error("what was deleted is pulled")
	}
	stop()

	// another data directory
	mode := filepath.Join(s.dir, "modes/m/m.toml")
	text, err := os.ReadFile(mode)
	if err != nil {
		t.Fatal(err)
	}
	s.write("modes/m/m.toml", strings.Replace(string(text), `"../../data"`, `"../../elsewhere"`, 1))
	refused(4, []string{"up"}, "another registry keeps its content there", filepath.Join(s.dir, "data"), "name another bucket")
}
