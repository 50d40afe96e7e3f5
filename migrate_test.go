package ocisync_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// filled is a registry that counts how often each tag is written.
type filled struct {
	*httptest.Server
	mu    sync.Mutex
	tags  map[string]int
	first chan struct{} // closed when a tag was written
	once  sync.Once
}

func newFilled(t *testing.T) *filled {
	t.Helper()
	f := &filled{tags: map[string]int{}, first: make(chan struct{})}
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		repository, tag, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
		if !ok || r.Method != http.MethodPut || strings.Contains(tag, ":") {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.tags[repository+":"+tag]++
		f.once.Do(func() { close(f.first) })
	}))
	t.Cleanup(f.Close)
	return f
}

// written tells how often each tag was.
func (f *filled) written() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.tags)
}

// fill makes repositories with two tags each.
func (f *filled) fill(t *testing.T, repositories int) {
	t.Helper()
	for i := range repositories {
		for _, tag := range []string{"v1", "v2"} {
			layer := make([]byte, 64<<10)
			if _, err := rand.Read(layer); err != nil {
				t.Fatal(err)
			}
			image, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer, types.DockerLayer))
			if err != nil {
				t.Fatal(err)
			}
			ref, err := name.ParseReference(fmt.Sprintf("%s/team%d/app%d:%s", strings.TrimPrefix(f.URL, "http://"), i%3, i, tag), name.Insecure)
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Write(ref, image); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// migrates runs a part of a migration.
func migrates(t *testing.T, from, to *filled, more ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/modes", 0o700); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"migrate", "--modes", dir + "/modes", "--yes", "--from", from.URL, "--to", to.URL}, more...)
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, args...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}, &out, &out
	return cmd, &out
}

// TestShardsMoveARegistryTogether: four at once, one of which is killed and run again,
// bring all there is, and none writes what is another's.
func TestShardsMoveARegistryTogether(t *testing.T) {
	from, to := newFilled(t), newFilled(t)
	const repositories, shards = 24, 4
	from.fill(t, repositories)
	var wait sync.WaitGroup
	for i := range shards {
		// the last one reads so slowly that it is killed in the middle
		more := []string{"--shard", fmt.Sprintf("%d/%d", i, shards)}
		if i == shards-1 {
			more = append(more, "--rate", "100KiB")
		}
		cmd, out := migrates(t, from, to, more...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			if i < shards-1 {
				if err := cmd.Wait(); err != nil {
					t.Errorf("shard %d: %v: %s", i, err, out)
				}
				return
			}
			select {
			case <-to.first:
			case <-time.After(time.Minute):
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			if cmd.Wait() == nil {
				t.Errorf("shard %d ended before it was killed", i)
			}
		})
	}
	wait.Wait()
	if n := len(to.written()); n >= 2*repositories {
		t.Fatalf("%d tags are there though one shard was killed", n)
	}
	last, out := migrates(t, from, to, "--shard", fmt.Sprintf("%d/%d", shards-1, shards))
	if err := last.Run(); err != nil {
		t.Fatalf("again: %v: %s", err, out)
	}
	for tag, n := range to.written() {
		if n != 1 {
			t.Errorf("%s was written %d times", tag, n)
		}
	}
	whole, out := migrates(t, from, to, "--verify")
	if err := whole.Run(); err != nil || !strings.Contains(out.String(), fmt.Sprintf("0 copied, %d there already", 2*repositories)) || !strings.Contains(out.String(), "0 differ") {
		t.Errorf("the whole: %v: %s", err, out)
	}
}

// TestAMigrationThatIsKilledIsBroughtToItsEnd, however often and whenever.
func TestAMigrationThatIsKilledIsBroughtToItsEnd(t *testing.T) {
	from := newFilled(t)
	from.fill(t, 12)
	for kill := range 6 {
		to := newFilled(t)
		cmd, _ := migrates(t, from, to, "--rate", "2MiB")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(kill) * 60 * time.Millisecond)
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		again, out := migrates(t, from, to, "--verify")
		if err := again.Run(); err != nil || !strings.Contains(out.String(), "24 tags and 0 referrers are alike, 0 differ") {
			t.Errorf("killed after %d ms, and again: %v: %s", kill*60, err, out)
		}
		to.Close()
	}
}
