//go:build integration

package ocisync_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// client pushes to and pulls from one registry.
type client struct {
	t       *testing.T
	host    string
	options []remote.Option
}

func newClient(t *testing.T, url string, login authn.Authenticator) *client {
	t.Helper()
	rt := &http.Transport{}
	t.Cleanup(rt.CloseIdleConnections)
	return &client{t, strings.TrimPrefix(url, "http://"), []remote.Option{remote.WithAuth(login), remote.WithTransport(rt), remote.WithContext(t.Context())}}
}

func (c *client) ref(ref string) name.Reference {
	c.t.Helper()
	r, err := name.ParseReference(c.host+"/"+ref, name.Insecure)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *client) must(doing string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", doing, err)
	}
}

func (c *client) image(ref string) v1.Image {
	c.t.Helper()
	im, err := random.Image(2048, 2)
	c.must(ref, err)
	c.must(ref, remote.Write(c.ref(ref), im, c.options...))
	return im
}

// sign pushes an artifact about what a reference names. Where the registry has
// no referrers API the client lists it under a tag.
func (c *client) sign(repo string, subject partial.Describable) v1.Hash {
	c.t.Helper()
	about, err := partial.Descriptor(subject)
	c.must("describing", err)
	layer, err := random.Layer(64, types.OCILayer)
	c.must("a layer", err)
	im, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
	c.must("an artifact", err)
	im = mutate.ConfigMediaType(im, "application/vnd.example.signature")
	signed, ok := mutate.Subject(im, *about).(v1.Image)
	if !ok {
		c.t.Fatal("no image")
	}
	d, err := signed.Digest()
	c.must("a digest", err)
	c.must("signing", remote.Write(c.ref(repo+"@"+d.String()), signed, c.options...))
	return d
}

// pull gets what a reference names, all of it, and hashes it.
func (c *client) pull(ref string) error {
	c.t.Helper()
	d, err := remote.Get(c.ref(ref), c.options...)
	if err != nil {
		return err
	}
	if d.MediaType.IsIndex() {
		x, err := d.ImageIndex()
		if err != nil {
			return err
		}
		return validate.Index(x)
	}
	im, err := d.Image()
	if err != nil {
		return err
	}
	return validate.Image(im)
}

func (c *client) catalog() []string {
	c.t.Helper()
	reg, err := name.NewRegistry(c.host, name.Insecure)
	c.must("a registry", err)
	list, err := remote.Catalog(c.t.Context(), reg, c.options...)
	c.must("the catalogue", err)
	slices.Sort(list)
	return list
}

func digestOf(t *testing.T, x partial.WithRawManifest) string {
	t.Helper()
	b, err := x.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := v1.SHA256(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// stock runs the registry of CNCF Distribution on a directory.
type stock struct {
	bin, config, url string
}

func newStock(t *testing.T, data string) *stock {
	t.Helper()
	s := &stock{bin: filepath.Join(scratch, "distribution"), config: filepath.Join(t.TempDir(), "config.yml"), url: "http://" + porttest.Address(t)}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-modfile=tools/distribution.mod", "-o", s.bin, "github.com/distribution/distribution/v3/cmd/registry").CombinedOutput(); err != nil {
		t.Fatalf("go build distribution: %v: %s", err, out)
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: %q, draintimeout: 60s}\n", data, strings.TrimPrefix(s.url, "http://"))
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stock) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.bin, args...)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	return cmd
}

func (s *stock) serve(t *testing.T) (stop func()) {
	t.Helper()
	var log bytes.Buffer
	cmd := s.command(t, "serve", s.config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(s.url + "/v2/")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("Distribution serves nothing: %s", &log)
		}
	}
	return func() {
		t.Helper()
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Errorf("Distribution: %v: %s", err, &log)
		}
	}
}

const stockMode = signedState + people + `
[gc]
delay = "1h"
[namespace.library]
access = { anonymous = ["pull"] }
retention = { keep = [{ newest = 1 }], untagged = false }
[namespace.team]
access = { anonymous = ["pull"] }
`

// TestADirectoryOfAStockDistributionJustWorksAndGoesBack fills a directory by
// the registry of CNCF Distribution itself, serves a copy with ocisync up, has
// it collected and its tags removed by rules, and gives it back.
func TestADirectoryOfAStockDistributionJustWorksAndGoesBack(t *testing.T) {
	original := filepath.Join(t.TempDir(), "stock")
	first := newStock(t, original)
	stop := first.serve(t)
	anonymous := newClient(t, first.url, authn.Anonymous)
	pushed := map[string]bool{} // references to whether they must be there
	keep := func(refs ...string) {
		for _, r := range refs {
			pushed[r] = true
		}
	}

	old, next := anonymous.image("library/app:1"), anonymous.image("library/app:2")
	signed := anonymous.sign("library/app", old)
	ofOld := []string{"library/app:1", "library/app@" + digestOf(t, old), "library/app@" + signed.String()}
	keep("library/app:2")
	keep(ofOld...)
	deep := anonymous.image("team/a/deep/app:latest")
	keep("team/a/deep/app:latest", "team/a/deep/app@"+digestOf(t, deep))
	moved := anonymous.image("team/moved:1")
	anonymous.image("team/moved:1")
	keep("team/moved:1", "team/moved@"+digestOf(t, moved))
	children := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: old}, mutate.IndexAddendum{Add: next})
	anonymous.must("an index", remote.WriteIndex(anonymous.ref("team/multi:1"), children, anonymous.options...))
	signature := anonymous.sign("team/multi", children)
	second := anonymous.sign("team/multi", children)
	keep("team/multi:1", "team/multi@"+digestOf(t, old), "team/multi@"+signature.String(), "team/multi@"+second.String())
	gone := anonymous.image("team/gone:1")
	lost := anonymous.sign("team/gone", gone)
	anonymous.must("deleting", remote.Delete(anonymous.ref("team/gone@"+digestOf(t, gone)), anonymous.options...))
	pushed["team/gone@"+digestOf(t, gone)] = false
	catalog := anonymous.catalog()
	stop()

	s := newSite(t, "http://"+porttest.Address(t), stockMode)
	if err := os.CopyFS(s.data, os.DirFS(original)); err != nil {
		t.Fatal(err)
	}
	// a day old, library/app:1 an hour older than :2
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := filepath.WalkDir(s.data, func(path string, _ fs.DirEntry, err error) error {
		at := yesterday
		if strings.Contains(path, "library/app/_manifests/tags/1/") {
			at = at.Add(-time.Hour)
		}
		return errors.Join(err, os.Chtimes(path, at, at))
	}); err != nil {
		t.Fatal(err)
	}
	s.must(0, "apply")
	up, log := s.start()
	ours := newClient(t, s.url, authn.Anonymous)
	root := newClient(t, s.url, &authn.Basic{Username: "root", Password: "root's long password"})
	check := func(when string, c *client) {
		t.Helper()
		for ref, there := range pushed {
			if err := c.pull(ref); (err == nil) != there {
				t.Errorf("%s: %s: %v, want it there: %v", when, ref, err, there)
			}
		}
	}
	check("served by ocisync", ours)
	if d := cmp.Diff(catalog, root.catalog()); d != "" {
		t.Errorf("the catalogue: %s", d)
	}
	listed := func(c *client, ref string) (out []string) {
		t.Helper()
		d, ok := c.ref(ref).(name.Digest)
		if !ok {
			t.Fatal(ref)
		}
		x, err := remote.Referrers(d, c.options...)
		c.must("referrers", err)
		m, err := x.IndexManifest()
		c.must("referrers", err)
		for _, r := range m.Manifests {
			out = append(out, r.Digest.String())
		}
		slices.Sort(out)
		return out
	}
	want := []string{signature.String(), second.String()}
	slices.Sort(want)
	if d := cmp.Diff(want, listed(ours, "team/multi@"+digestOf(t, children))); d != "" {
		t.Errorf("the referrers API does not list what the fallback tag does: %s", d)
	}
	s.must(0, "plan", "--detailed-exitcode") // fallback tags are nobody's drift

	// what the stock registry deleted it left no note of: what was about it stays
	keep("team/gone@" + lost.String())
	s.must(0, "run", "gc")
	check("after a collection", ours)
	out := s.must(0, "run", "retention")
	if !strings.Contains(out, "removed 1, kept ") || !strings.Contains(out, "library/app:1") {
		t.Errorf("run retention: %s", out)
	}
	for _, ref := range ofOld {
		pushed[ref] = false
	}
	out = s.must(0, "run", "gc")
	if !strings.Contains(out, "1 fallback tag") {
		t.Errorf("run gc: %s", out)
	}
	check("after retention", ours)

	// what is pushed now, the stock registry has too
	root.image("team/new:1")
	third := root.sign("team/multi", children)
	keep("team/new:1", "team/multi@"+third.String())
	want = append(want, third.String())
	slices.Sort(want)
	if d := cmp.Diff(want, listed(ours, "team/multi@"+digestOf(t, children))); d != "" {
		t.Errorf("with one pushed by the referrers API: %s", d)
	}
	catalog = append(catalog, "team/new")
	slices.Sort(catalog)
	if err := errors.Join(up.Process.Signal(syscall.SIGTERM), up.Wait()); err != nil {
		t.Fatalf("ocisync up: %v: %s", err, log)
	}

	back := newStock(t, s.data)
	if out, err := back.command(t, "garbage-collect", back.config).CombinedOutput(); err != nil {
		t.Errorf("the stock registry's own collection: %v: %s", err, out)
	}
	stop = back.serve(t)
	defer stop()
	anonymous = newClient(t, back.url, authn.Anonymous)
	check("served by the stock registry again", anonymous)
	if d := cmp.Diff(catalog, anonymous.catalog()); d != "" {
		t.Errorf("the stock registry's catalogue: %s", d)
	}
	anonymous.image("team/last:1")
	if err := anonymous.pull("team/last:1"); err != nil {
		t.Error(err)
	}
}
