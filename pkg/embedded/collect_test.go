package embedded_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// filled runs fill on a registry that is served, and returns its data
// directory when it is not any more and all in it is a day old.
func filled(t *testing.T, fill func(t *testing.T, s *served)) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	t.Run("fill", func(t *testing.T) {
		s := serve(t, data)
		s.change(t, putUser(t, "root", true))
		fill(t, s)
	})
	aged(t, data)
	return data
}

// aged makes all in a data directory a day old.
func aged(t *testing.T, data string) {
	t.Helper()
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, yesterday, yesterday))
	}); err != nil {
		t.Fatal(err)
	}
}

func putGC(spec schema.GC) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindGC}, Spec: &spec}}
}

// collected collects in a directory that nobody serves, first as a dry run,
// which must foretell the same and touch nothing.
func collected(t *testing.T, data string, spec schema.GC) embedded.Collected {
	t.Helper()
	d, err := embedded.OpenDirectory(data, "ocisync test", bucketFor(t, data))
	if err != nil {
		t.Fatal(err)
	}
	results, err := d.Change(t.Context(), []embedded.Change{putGC(spec)})
	if err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	before := tree(t, data)
	dry, err := d.Run(t.Context(), embedded.JobGC, true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, tree(t, data)); diff != "" {
		t.Errorf("a dry run changes files:\n%s", diff)
	}
	report, err := d.Run(t.Context(), embedded.JobGC, false)
	if err != nil {
		t.Fatal(err)
	}
	want := *report.GC
	want.DryRun = true
	if diff := cmp.Diff(want, *dry.GC); diff != "" {
		t.Errorf("a dry run foretells something else (-did +foretold):\n%s", diff)
	}
	return *report.GC
}

func tree(t *testing.T, data string) map[string]time.Time {
	t.Helper()
	files := map[string]time.Time{}
	if err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		files[path] = fi.ModTime()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

// has reports which manifests are pulled by digest, each with all it is made of.
func has(t *testing.T, data, repo string, digests map[string]digest.Digest) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	t.Run("pull", func(t *testing.T) {
		s := serve(t, data)
		for name, d := range digests {
			resp, b := s.request(t, "GET", "root", "/v2/"+repo+"/manifests/"+d.String(), "", nil)
			got[name] = resp.StatusCode == http.StatusOK
			if !got[name] {
				continue
			}
			var m imagespec.Manifest
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			for _, l := range append(m.Layers, m.Config) {
				if l.Digest == "" {
					continue
				}
				if resp, _ := s.request(t, "GET", "root", "/v2/"+repo+"/blobs/"+l.Digest.String(), "", nil); resp.StatusCode != http.StatusOK {
					t.Errorf("%s: blob %s: %d", name, l.Digest, resp.StatusCode)
				}
			}
		}
	})
	return got
}

// stays demands of the manifests of repository a that those are there, and no
// others, whose name begins with "kept".
func stays(t *testing.T, data string, digests map[string]digest.Digest) {
	t.Helper()
	want := map[string]bool{}
	for name := range digests {
		want[name] = strings.HasPrefix(name, "kept")
	}
	if diff := cmp.Diff(want, has(t, data, "a", digests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnEmptyStoreIsNothingToCollect(t *testing.T) {
	data := filled(t, func(*testing.T, *served) {})
	if got := collected(t, data, schema.GC{}); got.Blobs+got.Manifests+len(got.Repositories) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestCollectionRemovesWhatNothingNeeds(t *testing.T) {
	digests := map[string]digest.Digest{}
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		for _, repo := range []string{"a/x", "a/x/y", "b"} {
			s.upload(t, "root", repo, []byte("{}"))
		}
		s.upload(t, "root", "b", []byte("never named"))
		s.upload(t, "root", "c", []byte("never named either"))
		digests["tagged"], _ = s.put(t, "root", "a/x", "1", imagespec.MediaTypeImageManifest, artifact("", "tagged", ""))
		digests["untagged"], _ = s.put(t, "root", "a/x", "", imagespec.MediaTypeImageManifest, artifact("", "untagged", ""))
		for _, repo := range []string{"a/x", "a/x/y", "b"} {
			digests["deleted"], _ = s.put(t, "root", repo, "2", imagespec.MediaTypeImageManifest, artifact("", "deleted", ""))
			s.request(t, "DELETE", "root", "/v2/"+repo+"/manifests/"+digests["deleted"].String(), "", nil)
		}
	})
	got := collected(t, data, schema.GC{})
	want := embedded.Collected{Blobs: 3, Bytes: got.Bytes, Repositories: []string{"a/x/y", "b"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]bool{"tagged": true, "untagged": true, "deleted": false}, has(t, data, "a/x", digests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, repo := range []string{"a/x/y", "b", "c"} {
		if _, err := os.Stat(filepath.Join(data, "docker/registry/v2/repositories", repo)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", repo, err)
		}
	}
	if got := collected(t, data, schema.GC{}); got.Blobs+got.Manifests+len(got.Repositories) != 0 {
		t.Errorf("a second collection: %+v", got)
	}
}

// TestWhatIsLeftAloneIsNamed: what a manifest needs that cannot be read is unknown.
func TestWhatIsLeftAloneIsNamed(t *testing.T) {
	var damaged digest.Digest
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a/x", []byte("{}"))
		s.upload(t, "root", "a/x", []byte("never named"))
		damaged, _ = s.put(t, "root", "a/x", "1", imagespec.MediaTypeImageManifest, artifact("", "tagged", ""))
	})
	sum := damaged.Encoded()
	if err := os.Truncate(filepath.Join(data, "docker/registry/v2/blobs/sha256", sum[:2], sum, "data"), 10); err != nil {
		t.Fatal(err)
	}
	got := collected(t, data, schema.GC{})
	want := embedded.Collected{Repositories: []string{}, Unread: []string{"a/x@" + damaged.String()}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestYoungContentIsNotCollected(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := serve(t, data)
	s.change(t, putUser(t, "root", true))
	s.upload(t, "root", "a", []byte("its manifest is still to come"))
	report, err := s.Run(t.Context(), embedded.JobGC, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&embedded.Collected{Repositories: []string{}}, report.GC); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A client that is told that a blob is there does not send it again, however
// old it is.
func TestWhatAClientWasToldToBeThereIsNotCollected(t *testing.T) {
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		s.upload(t, "root", "a", []byte("nobody asks for it"))
	})
	s := serve(t, data)
	d := digest.FromString("{}").String()
	if resp, _ := s.request(t, "HEAD", "root", "/v2/a/blobs/"+d, "", nil); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	report, err := s.Run(t.Context(), embedded.JobGC, false)
	if err != nil || report.GC.Blobs != 1 {
		t.Fatalf("%+v, %v: want one blob removed", report.GC, err)
	}
	s.put(t, "root", "a", "1", imagespec.MediaTypeImageManifest, artifact("", "pushed without its blobs", ""))
}

// Nor does retention remove it.
func TestWhatAClientWasToldToBeThereIsNotRetiredEither(t *testing.T) {
	var told, other digest.Digest
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "team/a", []byte("{}"))
		told, _ = s.put(t, "root", "team/a", "", imagespec.MediaTypeImageManifest, artifact("", "told", ""))
		other, _ = s.put(t, "root", "team/a", "", imagespec.MediaTypeImageManifest, artifact("", "other", ""))
	})
	s := serve(t, data)
	yes := true
	s.change(t, embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}}},
		keepTags(schema.Retention{Keep: []schema.KeepRule{{Newest: 9}}, Untagged: &yes}))
	if resp, _ := s.request(t, "HEAD", "root", "/v2/team/a/manifests/"+told.String(), "", nil); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	report := s.retain(t, embedded.RetentionOptions{})
	if len(report.Untagged) != 1 || report.Untagged[0].Digest != other {
		t.Errorf("%+v", report.Untagged)
	}
	s.put(t, "root", "team/a", "1", imagespec.MediaTypeImageIndex, list(described("", told)))
}

func TestUntaggedKeepsWhatLivingManifestsNeed(t *testing.T) {
	digests := map[string]digest.Digest{}
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		put := func(name, tag string, subject digest.Digest) digest.Digest {
			digests[name], _ = s.put(t, "root", "a", tag, imagespec.MediaTypeImageManifest, artifact("", name, subject))
			return digests[name]
		}
		child := put("child", "", "")
		put("child's signature", "", child)
		index, _ := s.put(t, "root", "a", "1", imagespec.MediaTypeImageIndex, list(described("", child)))
		sbom := put("index's sbom", "", index)
		put("sbom's signature", "", sbom)
		lone := put("untagged", "", "")
		put("untagged's signature", "", lone)
	})
	got := collected(t, data, schema.GC{Untagged: new(true)})
	if got.Manifests != 2 || got.Blobs != 2 {
		t.Errorf("%+v", got)
	}
	want := map[string]bool{
		"child": true, "child's signature": true, "index's sbom": true, "sbom's signature": true,
		"untagged": false, "untagged's signature": false,
	}
	if diff := cmp.Diff(want, has(t, data, "a", digests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReferrersGoWithTheirSubject(t *testing.T) {
	digests, tags := map[string]digest.Digest{}, map[string]string{}
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		for _, name := range []string{"gone", "kept"} {
			subject, _ := s.put(t, "root", "a", name, imagespec.MediaTypeImageManifest, artifact("", name, ""))
			digests[name] = subject
			tags[name] = strings.Replace(subject.String(), ":", "-", 1)
			one, _ := s.put(t, "root", "a", "", imagespec.MediaTypeImageManifest, artifact("signature", "one", subject))
			two, _ := s.put(t, "root", "a", "", imagespec.MediaTypeImageManifest, artifact("signature", "two", subject))
			digests[name+", signature one"], digests[name+", signature two"] = one, two
			// the tag moves, as it does with clients that know no referrers API
			digests[name+", first list"], _ = s.put(t, "root", "a", tags[name], imagespec.MediaTypeImageIndex, list(described("signature", one)))
			digests[name+", list"], _ = s.put(t, "root", "a", tags[name], imagespec.MediaTypeImageIndex, list(described("signature", one), described("signature", two)))
		}
		tagged, _ := s.put(t, "root", "a", "sbom", imagespec.MediaTypeImageManifest, artifact("sbom", "has a tag", digests["gone"]))
		digests["tagged by hand"] = tagged
		s.request(t, "DELETE", "root", "/v2/a/manifests/"+digests["gone"].String(), "", nil)
	})
	got := collected(t, data, schema.GC{})
	if got.Tags != 1 || got.Manifests != 4 {
		t.Errorf("%+v", got)
	}
	want := map[string]bool{}
	for name := range digests {
		want[name] = !strings.HasPrefix(name, "gone")
	}
	if diff := cmp.Diff(want, has(t, data, "a", digests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	t.Run("tags", func(t *testing.T) {
		s := serve(t, data)
		var answer struct{ Tags []string }
		_, b := s.request(t, "GET", "root", "/v2/a/tags/list", "", nil)
		if err := json.Unmarshal(b, &answer); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"kept", "sbom", tags["kept"]}, answer.Tags); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// Signatures may be kept in a repository of their own, or come before what they
// sign.
func TestWhatIsAboutSomethingThatNeverWasThereStays(t *testing.T) {
	digests := map[string]digest.Digest{}
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		s.upload(t, "root", "sigs", []byte("{}"))
		image, _ := s.put(t, "root", "a", "1", imagespec.MediaTypeImageManifest, artifact("", "image", ""))
		put := func(name, tag, media string, body any) digest.Digest {
			digests[name], _ = s.put(t, "root", "sigs", tag, media, body)
			return digests[name]
		}
		fallback := strings.Replace(image.String(), ":", "-", 1)
		put("signature", "", imagespec.MediaTypeImageManifest, artifact("signature", "its", image))
		listed := put("listed", "", imagespec.MediaTypeImageManifest, artifact("", "listed", ""))
		put("list", fallback, imagespec.MediaTypeImageIndex, list(described("signature", listed)))
		put("cosign's first", fallback+".sig", imagespec.MediaTypeImageManifest, artifact("", "cosign 1", ""))
		put("cosign's", fallback+".sig", imagespec.MediaTypeImageManifest, artifact("", "cosign 2", ""))
		if resp, _ := s.request(t, "DELETE", "root", "/v2/a/manifests/"+image.String(), "", nil); resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status) // from another repository
		}
	})
	if got := collected(t, data, schema.GC{}); got.Manifests+got.Tags != 0 {
		t.Errorf("%+v", got)
	}
	want := map[string]bool{}
	for name := range digests {
		want[name] = true
	}
	if diff := cmp.Diff(want, has(t, data, "sigs", digests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := collected(t, data, schema.GC{Untagged: new(true)}); got.Tags != 0 {
		t.Errorf("with untagged, tags go: %+v", got)
	}
	want["signature"], want["cosign's first"] = false, false // they have no tag
	if diff := cmp.Diff(want, has(t, data, "sigs", digests)); diff != "" {
		t.Errorf("with untagged (-want +got):\n%s", diff)
	}
}

func TestCosignsTagsGoWithTheirSubjectAndNotBefore(t *testing.T) {
	digests := map[string]digest.Digest{}
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		for _, name := range []string{"gone", "kept"} {
			subject, _ := s.put(t, "root", "a", name, imagespec.MediaTypeImageManifest, artifact("", name, ""))
			digests[name] = subject
			for _, ending := range []string{".sig", ".sig", ".att", ".sbom"} {
				tag := strings.Replace(subject.String(), ":", "-", 1) + ending
				key := name + ending
				if digests[key] != "" {
					key += ", second"
				}
				digests[key], _ = s.put(t, "root", "a", tag, imagespec.MediaTypeImageManifest, artifact("", key, ""))
			}
		}
		s.request(t, "DELETE", "root", "/v2/a/manifests/gone", "", nil)
	})
	got := collected(t, data, schema.GC{})
	if got.Tags != 3 || got.Manifests != 5 {
		t.Errorf("%+v", got)
	}
	want := map[string]bool{}
	for name := range digests {
		want[name] = !strings.HasPrefix(name, "gone")
	}
	if diff := cmp.Diff(want, has(t, data, "a", digests)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Who deletes a tag means what it names, unless something else needs it.
func TestWhatATagWasDeletedOfGoesUnlessItIsNeeded(t *testing.T) {
	digests := map[string]digest.Digest{}
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		s.upload(t, "root", "emptied", []byte("{}"))
		put := func(name, tag string, subject digest.Digest) digest.Digest {
			digests[name], _ = s.put(t, "root", "a", tag, imagespec.MediaTypeImageManifest, artifact("", name, subject))
			return digests[name]
		}
		index := func(name, tag string, children ...digest.Digest) {
			var all []imagespec.Descriptor
			for _, d := range children {
				all = append(all, described("", d))
			}
			digests[name], _ = s.put(t, "root", "a", tag, imagespec.MediaTypeImageIndex, list(all...))
		}
		drop := func(repo, ref string) {
			if resp, _ := s.request(t, "DELETE", "root", "/v2/"+repo+"/manifests/"+ref, "", nil); resp.StatusCode != http.StatusAccepted {
				t.Fatal(ref, resp.Status)
			}
		}
		put("gone", "gone", "")
		put("gone with it: signature", "", digests["gone"])
		put("kept: second tag", "one", "")
		put("kept: second tag", "two", "")
		put("kept: in an index", "part", "")
		index("kept: index", "index", digests["kept: in an index"])
		put("kept: has a tagged sbom", "described", "")
		put("kept: sbom", "sbom", digests["kept: has a tagged sbom"])
		put("kept: pushed again", "again", "")
		put("kept: had the tag before", "moved", "")
		put("gone: had the tag", "moved", "")
		put("kept: never had a tag", "", "")
		shared := put("kept: in two indexes", "", "")
		index("gone index", "multi", put("gone with its index", "", ""), shared)
		index("kept: index of two", "other", shared)
		index("gone index, by digest", "", put("gone with its index, by digest", "", ""), shared)
		for _, tag := range []string{"gone", "one", "part", "described", "again", "moved", "multi", digests["gone index, by digest"].String()} {
			drop("a", tag)
		}
		put("kept: pushed again", "", "")
		if d, _ := s.put(t, "root", "emptied", "1", imagespec.MediaTypeImageManifest, artifact("", "alone", "")); d == "" {
			t.Fatal("not pushed")
		}
		drop("emptied", "1")
	})
	got := collected(t, data, schema.GC{})
	if diff := cmp.Diff([]string{"emptied"}, got.Repositories); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
	for range 2 { // the second finds no mark any more
		if got := collected(t, data, schema.GC{}); got.Blobs+got.Manifests+got.Tags != 0 {
			t.Errorf("a further collection: %+v", got)
		}
	}
	marks, err := filepath.Glob(filepath.Join(data, "docker/registry/v2/repositories/*/_deleted/sha256/*/mark"))
	if err != nil || len(marks) != 3 { // of what is still there
		t.Errorf("%d marks are left, %v: %v", len(marks), err, marks)
	}
	stays(t, data, digests)
}

// What cannot be read may need anything.
func TestAManifestOfAnUnknownFormatKeepsItsRepository(t *testing.T) {
	var odd digest.Digest
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		s.upload(t, "root", "a", []byte("{}"))
		s.upload(t, "root", "a", []byte("needed, who knows"))
		odd, _ = s.put(t, "root", "a", "1", imagespec.MediaTypeImageManifest, artifact("", "1", ""))
	})
	name := filepath.Join(data, "docker/registry/v2/blobs/sha256", odd.Encoded()[:2], odd.Encoded(), "data")
	if err := os.WriteFile(name, []byte(`{"schemaVersion":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := collected(t, data, schema.GC{Untagged: new(true)}); got.Blobs+got.Manifests != 0 {
		t.Errorf("%+v", got)
	}
}

func TestDeletingWhatCanBeNoTagFailsAsItDid(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	s.change(t, putUser(t, "root", true))
	s.upload(t, "root", "a", []byte("{}"))
	for _, tag := range []string{"v1;x", "%C3%BC", "a%20b", "%00", "sha256:zz", "none"} {
		if resp, b := s.request(t, "DELETE", "root", "/v2/a/manifests/"+tag, "", nil); resp.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s: %d %s", tag, resp.StatusCode, b)
		}
	}
}

func TestCollectionIsRefusedWhatItCannotDo(t *testing.T) {
	for _, spec := range []schema.GC{
		{Workers: new(2)}, {Delay: new(schema.Duration(59))}, {Schedule: new("sometimes")}, {Zone: new("Europe/Nowhere")},
	} {
		if err := embedded.CheckObject(putGC(spec).Object); err == nil {
			t.Errorf("%+v is taken", spec)
		}
	}
	for _, spec := range []schema.GC{{}, {Schedule: new("@every 1h")}, {Schedule: new("0 3 * * *"), Zone: new("Europe/Madrid"), Delay: new(schema.Duration(60))}} {
		if err := embedded.CheckObject(putGC(spec).Object); err != nil {
			t.Error(err)
		}
	}
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	if _, err := s.Run(context.Background(), "polish", false); !errors.Is(err, embedded.ErrUnsupported) {
		t.Errorf("an unknown job: %v", err)
	}
}
