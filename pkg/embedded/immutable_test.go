package embedded_test

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func fixTags(rules ...schema.ImmutableRule) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindImmutable, Name: "team"}, Spec: &schema.Immutable{Rules: rules}}}
}

func digestOf(t *testing.T, im interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestImmutableTagsAreNeitherMovedNorDeleted(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	first, second := image(t), image(t)
	s.mustPush(t, "team/app:v1", first)
	s.mustPush(t, "team/app:v2", first)
	s.mustPush(t, "team/app:latest", second)
	s.mustPush(t, "team/play/app:v1", first)
	s.change(t, fixTags(schema.ImmutableRule{Tags: "v*", Repositories: "app"}, schema.ImmutableRule{Disabled: true}))

	if err := s.push(t, "team/app:v1", second); denied(err) == nil || !strings.Contains(err.Error(), "tag v1 is immutable by tags v* in repositories app") {
		t.Errorf("moving a fixed tag: error %v", err)
	}
	// the same again; a client that asks first would not send it
	if got := pushManifest(t, s, "dev", "/v2/team/app/manifests/v1", first); got != http.StatusCreated {
		t.Errorf("the same digest again: status %d", got)
	}
	s.mustPush(t, "team/app:v3", second)      // a new one
	s.mustPush(t, "team/app:latest", first)   // not fixed
	s.mustPush(t, "team/play/app:v1", second) // another repository
	manifests := "/v2/team/app/manifests/"
	layers, err := first.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]int{
		manifests + "v1": 403, manifests + digestOf(t, first): 403, "/v2/team/app/blobs/" + digestOf(t, layers[0]): 403,
		manifests + "latest": 202, manifests + "v9": 404, "/v2/team/play/app/manifests/v1": 202,
	} {
		if got := s.asDev(t, "DELETE", what); got != want {
			t.Errorf("DELETE %s: status %d, want %d", what, got, want)
		}
	}
	if _, err := remote.Image(s.ref(t, "team/app:v1"), s.as("dev")...); err != nil {
		t.Error(err)
	}
	s.change(t, fixTags())
	s.mustPush(t, "team/app:v1", second) // the rule is gone, at once
}

func TestWhatAFixedIndexConsistsOfStays(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	child := image(t)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: child})
	if err := remote.WriteIndex(s.ref(t, "team/app:v1"), index, s.as("dev")...); err != nil {
		t.Fatal(err)
	}
	s.change(t, fixTags(schema.ImmutableRule{Tags: "v*"}))
	if got := s.asDev(t, "DELETE", "/v2/team/app/manifests/"+digestOf(t, child)); got != http.StatusForbidden {
		t.Errorf("status %d, want 403", got)
	}
}

// A property that means nothing, of whatever type, takes a manifest out of no rule.
func TestAnOddPropertyTakesAManifestOutOfNoRule(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 10_000_000)
	subject := image(t)
	s.mustPush(t, "team/app:subject", subject)
	s.change(t, fixTags(schema.ImmutableRule{Tags: "v*"}))
	config := []byte("{}")
	s.upload(t, "dev", "team/app", config)
	for i, odd := range []string{`"blobs":5`, `"fsLayers":"x"`, `"artifactType":5`, `"annotations":{"a":"b"},"platform":7`} {
		layer := []byte(odd)
		s.upload(t, "dev", "team/app", layer)
		before := s.usage(t).Used
		body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,%s,"config":{"mediaType":"x/y","digest":%q,"size":2},"layers":[{"mediaType":"x/y","digest":%q,"size":%d}],"subject":{"mediaType":%[1]q,"digest":%[6]q,"size":1,"data":"_-no base64"}}`,
			imagespec.MediaTypeImageManifest, odd, digest.FromBytes(config), digest.FromBytes(layer), len(layer), digestOf(t, subject))
		resp, b := s.request(t, "PUT", "dev", fmt.Sprintf("/v2/team/app/manifests/v%d", i), imagespec.MediaTypeImageManifest, []byte(body))
		if resp.StatusCode != http.StatusCreated || resp.Header.Get("OCI-Subject") != digestOf(t, subject) {
			t.Errorf("%s: pushed: %d %s, subject %q", odd, resp.StatusCode, b, resp.Header.Get("OCI-Subject"))
		}
		if got := s.asDev(t, "DELETE", "/v2/team/app/blobs/"+digest.FromBytes(layer).String()); got != http.StatusForbidden {
			t.Errorf("%s: its layer is deleted: %d", odd, got)
		}
		if more := s.usage(t).Used - before; more < schema.Size(len(body)+len(layer)) {
			t.Errorf("%s: of a quota %d bytes more are used", odd, more)
		}
	}
}

func TestFallbackTagsCanBeOverwrittenUnderAnyRule(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	s.change(t, fixTags(schema.ImmutableRule{Tags: "*"}))
	tag := "team/app:sha256-" + strings.Repeat("a", 64)
	s.mustPush(t, tag, image(t))
	s.mustPush(t, tag, image(t))
}

func TestOfTwoPushesToANewImmutableTagOneWins(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), schema.Unlimited)
	s.change(t, fixTags(schema.ImmutableRule{Tags: "v*"}))
	images := make([]v1.Image, 8)
	for i := range images {
		images[i] = image(t)
		s.mustPush(t, "team/app:warm", images[i])
	}
	status := make(chan int, len(images))
	for _, im := range images {
		raw, err := im.RawManifest()
		if err != nil {
			t.Fatal(err)
		}
		media, err := im.MediaType()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+s.Addr()+"/v2/team/app/manifests/v1", bytes.NewReader(raw))
			if err != nil {
				status <- 0
				return
			}
			req.SetBasicAuth("dev", "pw-dev")
			req.Header.Set("Content-Type", string(media))
			resp, err := s.http.Do(req)
			if err != nil {
				status <- 0
				return
			}
			defer resp.Body.Close()
			status <- resp.StatusCode
		}()
	}
	got := map[int]int{}
	for range images {
		got[<-status]++
	}
	if got[201] != 1 || got[403] != len(images)-1 {
		t.Errorf("statuses %v, want one 201 and the rest 403", got)
	}
}
