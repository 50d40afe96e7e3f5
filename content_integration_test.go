//go:build integration

package ocisync_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/porttest"
	"github.com/ocisync/ocisync/pkg/runtime/enginetest"
)

// contentMode has a mirror with prune and an artifact.
const contentMode = `
[state]
store = "dir"
dir = "../../inventory"
key = { env = "OCISYNC_STATE_KEY" }
[user.root]
admin = true
password = { env = "OCISYNC_ROOT" }
[namespace.team.access]
anonymous = ["pull"]
authenticated = []
[artifact.notes]
to = "team/notes:1"
files = ["notes/*.txt"]
[mirror.app]
from = "%[1]s/team0/app0"
to = "team/app"
prune = true
[mirror.part]
from = "%[1]s/team0/multi"
to = "team/part"
platforms = ["linux/arm64"]
referrers = true
`

// TestIntegrationContentOfEachRegistry: what a mode says of content is brought, drifts,
// is put right, and moves to another registry with every digest as it was.
func TestIntegrationContentOfEachRegistry(t *testing.T) {
	zot, distribution := enginetest.Servers(t, ".")
	source := newFilled(t)
	source.fill(t, 1)
	host := strings.TrimPrefix(source.URL, "http://")
	// Zot takes what is of the OCI alone
	for _, tag := range []string{"v1", "v2"} {
		push(t, host+"/team0/app0:"+tag)
	}
	multi(t, host+"/team0/multi:v1")
	sites := map[string]*site{}
	for typ, program := range map[string]string{"zot": zot, "distribution": distribution} {
		s := newSite(t, "http://"+porttest.Address(t), "")
		s.env = append(s.env, "OCISYNC_ROOT=root's long password")
		token := ""
		if typ == "distribution" {
			url := "http://" + porttest.Address(t)
			token = fmt.Sprintf("[registry.token]\nurl = %q\nlisten = %q\n", strings.Replace(url, "127.0.0.1", "localhost", 1), strings.TrimPrefix(url, "http://"))
		}
		s.mode("")
		text := fmt.Sprintf("version = 1\n[registry]\ntype = %q\nurl = %q\nlogin = { user = \"root\", password = { env = \"OCISYNC_ROOT\" } }\n[registry.run]\ndriver = \"process\"\nbinary = %q\ndata = %q\n%s[remote.source]\ntype = \"oci\"\nurl = %q\n%s",
			typ, s.url, program, s.data, token, source.URL, fmt.Sprintf(contentMode, host))
		s.write("modes/m/m.toml", text)
		s.write("modes/m/notes/a.txt", "one")
		s.must(0, "up", "--detach")
		t.Cleanup(func() {
			if out, err := s.command(context.Background(), "down").CombinedOutput(); err != nil {
				t.Errorf("down: %v: %s", err, out)
			}
		})
		s.must(0, "apply")
		s.must(0, "plan", "--detailed-exitcode")
		s.write("modes/m/notes/a.txt", "two")
		s.must(2, "plan", "--detailed-exitcode")
		s.must(0, "apply")
		s.must(0, "plan", "--detailed-exitcode")
		push(t, strings.TrimPrefix(s.url, "http://")+"/team/part:v1", remote.WithAuth(&authn.Basic{Username: "root", Password: "root's long password"}))
		if out := s.must(2, "plan", "--detailed-exitcode"); !strings.Contains(out, `altered ["v1"]`) {
			t.Errorf("%s: %s", typ, out)
		}
		s.must(0, "apply")
		s.must(0, "plan", "--detailed-exitcode")
		push(t, host+"/team0/app0:v3")
		if out := s.must(0, "run", "mirror"); !strings.Contains(out, "1 copied (v3)") {
			t.Errorf("%s: %s", typ, out)
		}
		if err := remote.Delete(reference(t, host+"/team0/app0:v3")); err != nil {
			t.Fatal(err)
		}
		if out := s.must(0, "run", "mirror"); !strings.Contains(out, "1 deleted (v3)") {
			t.Errorf("%s: %s", typ, out)
		}
		s.must(0, "plan", "--detailed-exitcode")
		sites[typ] = s
	}
	for from, to := range map[string]string{"zot": "distribution", "distribution": "zot"} {
		both := sites[to]
		both.write("modes/other/m.toml", sites[from].modeText())
		both.write("modes/other/notes/a.txt", "two")
		if out := both.must(0, "migrate", "--from", "other", "--to", "m", "--verify", "--yes"); !strings.Contains(out, "4 tags and 0 referrers are alike, 0 differ") {
			t.Errorf("%s to %s: %s", from, to, out)
		}
	}
}

// modeText is the mode of the site, for another one.
func (s *site) modeText() string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "modes", "m", "m.toml"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Replace(string(text), "../../inventory", "../../inventory-other", 1)
}

func reference(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// push makes an image of the OCI's own types.
func push(t *testing.T, ref string, o ...remote.Option) {
	t.Helper()
	image, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	image = mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if err := remote.Write(reference(t, ref), image, o...); err != nil {
		t.Fatal(err)
	}
}

// multi makes an index of two platforms.
func multi(t *testing.T, ref string) {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := random.Image(1000, 2)
		if err != nil {
			t.Fatal(err)
		}
		image = mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := remote.WriteIndex(reference(t, ref), index); err != nil {
		t.Fatal(err)
	}
}
