//go:build integration

package zot_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// push puts images of their own under tags, oldest first.
func (s *stand) push(t *testing.T, repository string, tags ...string) {
	t.Helper()
	for _, tag := range tags {
		layer, err := random.Layer(64, types.OCILayer)
		if err != nil {
			t.Fatal(err)
		}
		img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.NewTag(strings.TrimPrefix(s.registry.URL, "http://")+"/"+repository+":"+tag, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img, remote.WithContext(t.Context()), remote.WithAuth(&authn.Basic{Username: "root", Password: passwordA})); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *stand) tags(t *testing.T, repository string) string {
	t.Helper()
	ref, err := name.NewRepository(strings.TrimPrefix(s.registry.URL, "http://")+"/"+repository, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	list, err := remote.List(ref, remote.WithContext(t.Context()), remote.WithAuth(&authn.Basic{Username: "root", Password: passwordA}))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// Zot removes what the rules do not keep, and nothing of a namespace whose
// rules are none or that has none, wherever it lies.
func TestZotKeepsWhatTheRulesKeep(t *testing.T) {
	s := newStand(t)
	ns := func(name string, keep ...schema.KeepRule) []schema.Resource {
		out := []schema.Resource{object(schema.KindNamespace, name, &schema.Namespace{})}
		if keep != nil {
			out = append(out, object(schema.KindRetention, name, &schema.Retention{Keep: keep, Untagged: new(false)}))
		}
		return out
	}
	objects := []schema.Resource{
		object(schema.KindUser, "root", &schema.User{Admin: new(true), Password: secret(providertest.SecretA)}),
		object(schema.KindGC, "", &schema.GC{Schedule: new("@every 1s"), Delay: new(schema.Duration(1))}),
	}
	objects = append(objects, ns("one", schema.KeepRule{Newest: 1})...)
	objects = append(objects, ns("one/inner")...) // reached by nothing
	objects = append(objects, ns("all")...)
	objects = append(objects, object(schema.KindRetention, "all", &schema.Retention{Keep: []schema.KeepRule{}, Untagged: new(false)}))
	objects = append(objects, ns("some", schema.KeepRule{Tags: "v*", Always: true}, schema.KeepRule{Newest: 1})...)
	s.apply(t, object(schema.KindUser, "root", &schema.User{Admin: new(true), Password: secret(providertest.SecretA)}))
	for _, repository := range []string{"one/x", "one/inner/x", "all/x", "some/x"} {
		s.push(t, repository, "a", "b", "v1", "c")
	}
	time.Sleep(1100 * time.Millisecond) // the delay of collection
	s.apply(t, objects...)
	want := map[string]string{"one/x": "c", "one/inner/x": "a b c v1", "all/x": "a b c v1", "some/x": "c v1"}
	rounds := func() map[string]int {
		log, err := s.server.Log(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		return collected(t, log)
	}
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		done, have := rounds(), map[string]string{}
		all := true
		for repository := range want {
			have[repository] = s.tags(t, repository)
			all = all && done[repository] > 0
		}
		if all {
			if fmt.Sprint(have) != fmt.Sprint(want) {
				t.Errorf("there are %v, want %v", have, want)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Zot did not collect everything in time: %v; there are %v", done, have)
		}
	}
}
