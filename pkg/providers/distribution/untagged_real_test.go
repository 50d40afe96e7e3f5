//go:build integration

package distribution_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	reference "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// TestIntegrationManifestsThatNoTagReachesGoAnHourLater, and neither what an
// index lists nor what is about an image that stays.
func TestIntegrationManifestsThatNoTagReachesGoAnHourLater(t *testing.T) {
	s, _ := launched(t)
	serveTokens(t, s)
	provider := openSite(t, s)
	objects, _ := decisions(t)
	for _, ns := range []string{"team", "team/secret"} {
		key := schema.Key{Kind: schema.KindRetention, Name: ns}
		objects = append(objects, plan.Change{Action: plan.Create, Key: key, After: &schema.Resource{Key: key, Spec: &schema.Retention{
			Keep: []schema.KeepRule{{Always: true}}, Untagged: new(ns == "team"),
		}}})
	}
	if err := write(t, provider, objects); err != nil {
		t.Fatal(err)
	}
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	root := remote.WithAuth(&authn.Basic{Username: "root", Password: password})
	at := func(name string) reference.Reference {
		ref, err := reference.ParseReference(strings.TrimPrefix(s.registry.URL, "http://")+"/"+name, reference.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	made := func(subject v1.Image) v1.Image {
		image, err := random.Image(500, 1)
		if err != nil {
			t.Fatal(err)
		}
		image = mutate.MediaType(image, types.OCIManifestSchema1)
		if subject != nil {
			of, err := describe(subject)
			if err != nil {
				t.Fatal(err)
			}
			with, ok := mutate.Subject(image, of).(v1.Image)
			if !ok {
				t.Fatal("no image")
			}
			image = with
		}
		return image
	}
	name := func(repository string, what interface{ Digest() (v1.Hash, error) }) string {
		d, err := what.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return repository + "@" + d.String()
	}
	push := func(where string, image v1.Image) v1.Image {
		t.Helper()
		if err := remote.Write(at(where), image, root); err != nil {
			t.Fatal(err)
		}
		return image
	}
	former := push("team/app:1", made(nil))
	stays := push("team/app:1", made(nil)) // the tag moves on
	elsewhere := push("team/secret/app:1", made(nil))
	push("team/secret/app:1", made(nil)) // where nothing is said of what has no tag
	child := made(nil)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: child})
	if err := remote.WriteIndex(at("team/app:2"), index, root); err != nil {
		t.Fatal(err)
	}
	signature, lost := made(stays), made(former)
	push(name("team/app", signature), signature) // with a fallback tag, as clients do
	push(name("team/app", lost), lost)
	fresh := made(nil)
	// all of it is two hours old
	age := func() {
		t.Helper()
		before := time.Now().Add(-2 * time.Hour)
		if err := filepath.WalkDir(filepath.Join(s.registry.Run.Data, "storage"), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Base(path) == "link" {
				err = os.Chtimes(path, before, before)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	age()
	push(name("team/app", fresh), fresh)
	has := func(name string) bool {
		t.Helper()
		_, err := remote.Get(at(name), root)
		return err == nil
	}
	fallback := func(subject v1.Image) string {
		return strings.Replace(strings.Replace(name("team/app", subject), ":", "-", 1), "@", ":", 1)
	}
	list, err := remote.Get(at(fallback(former)), root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{name("team/app", former), name("team/app", lost), "team/app@" + list.Digest.String()}
	slices.Sort(want)
	for _, dry := range []bool{true, false, false} {
		report, err := provider.Run(t.Context(), "retention", dry)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range report.Retained.Gone {
			got = append(got, g.Name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("dry %v: gone (-want +got):\n%s", dry, diff)
		}
		for _, gone := range []string{name("team/app", former), name("team/app", lost), fallback(former)} {
			if has(gone) != dry {
				t.Errorf("dry %v: %s is there: %v", dry, gone, !dry)
			}
		}
		if !dry {
			want = nil
		}
	}
	for _, there := range []string{name("team/app", stays), name("team/app", child), name("team/app", index), name("team/app", signature), name("team/app", fresh), name("team/secret/app", elsewhere), "team/app:1", "team/app:2", fallback(stays)} {
		if !has(there) {
			t.Errorf("%s is gone", there)
		}
	}
}

func describe(image v1.Image) (d v1.Descriptor, err error) {
	if d.MediaType, err = image.MediaType(); err != nil {
		return d, err
	}
	if d.Size, err = image.Size(); err != nil {
		return d, err
	}
	d.Digest, err = image.Digest()
	return d, err
}

// TestIntegrationReferrersGoWithTheirSubject: a fallback tag is no tag to count,
// to judge or to delete while its subject is there, and goes, with what it lists,
// once that is gone.
func TestIntegrationReferrersGoWithTheirSubject(t *testing.T) {
	s, _ := launched(t, withFile)
	p := openSite(t, s)
	if err := write(t, p, []plan.Change{
		create(schema.KindUser, "dev", &schema.User{Password: &schema.SecretRef{Env: providertest.SecretA}}),
		create(schema.KindNamespace, "team", &schema.Namespace{}),
		create(schema.KindRetention, "team", &schema.Retention{Keep: []schema.KeepRule{{Newest: 2}}}),
		create(schema.KindGC, "", &schema.GC{Untagged: new(true)}),
	}); err != nil {
		t.Fatal(err)
	}
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	login := remote.WithAuth(&authn.Basic{Username: "dev", Password: password})
	at := func(name string) reference.Reference {
		ref, err := reference.ParseReference(strings.TrimPrefix(s.registry.URL, "http://")+"/team/app"+name, reference.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	push := func(name string, subject *v1.Descriptor) v1.Descriptor {
		t.Helper()
		image, err := random.Image(500, 1)
		if err != nil {
			t.Fatal(err)
		}
		image = mutate.MediaType(image, types.OCIManifestSchema1)
		if subject != nil {
			image, _ = mutate.Subject(image, *subject).(v1.Image)
		}
		of, err := describe(image)
		if err != nil {
			t.Fatal(err)
		}
		if name == "" {
			name = "@" + of.Digest.String()
		}
		if err := remote.Write(at(name), image, login); err != nil {
			t.Fatal(err)
		}
		return of
	}
	signed := []v1.Descriptor{push(":1", nil), push(":2", nil)}
	fallbacks := map[string]v1.Descriptor{}
	for _, subject := range signed {
		fallbacks[":"+strings.Replace(subject.Digest.String(), ":", "-", 1)] = push("", &subject)
	}
	left := func() (tags, signatures int) {
		t.Helper()
		for name, signature := range fallbacks {
			if _, err := remote.Get(at(name), login); err == nil {
				tags++
			}
			if _, err := remote.Get(at("@"+signature.Digest.String()), login); err == nil {
				signatures++
			}
		}
		return tags, signatures
	}
	want := func(when string, n int) {
		t.Helper()
		if tags, signatures := left(); tags != n || signatures != n {
			t.Errorf("%s: %d fallback tags and %d signatures, want %d", when, tags, signatures, n)
		}
	}
	want("pushed", 2)
	st, err := p.Read(t.Context(), schema.Scope{Repositories: []string{"team"}})
	if err != nil || len(st.Repositories) != 1 || st.Repositories[0].Tags != 2 {
		t.Errorf("%+v, %v: fallback tags are counted", st.Repositories, err)
	}
	before := time.Now().Add(-48 * time.Hour)
	links, err := filepath.Glob(filepath.Join(s.registry.Run.Data, "storage/docker/registry/v2/repositories/team/app/_manifests/tags/*/current/link"))
	if err != nil || len(links) != 4 {
		t.Fatalf("%q, %v", links, err)
	}
	for _, link := range links {
		if err := os.Chtimes(link, before, before); err != nil {
			t.Fatal(err)
		}
	}
	for _, job := range []string{"retention", "gc"} {
		if report, err := p.Run(t.Context(), job, false); err != nil {
			t.Fatalf("%s: %+v, %v", job, report, err)
		}
		want("after "+job, 2)
	}
	if err := remote.Delete(at("@"+signed[0].Digest.String()), login); err != nil {
		t.Fatal(err)
	}
	if report, err := p.Run(t.Context(), "gc", true); err != nil || report.Collected.Tags != 1 {
		t.Errorf("%+v, %v", report.Collected, err)
	}
	want("after a dry collection", 2)
	if report, err := p.Run(t.Context(), "gc", false); err != nil || report.Collected.Tags != 1 {
		t.Errorf("%+v, %v", report.Collected, err)
	}
	want("after the subject of one is gone", 1)
}
