package embedded_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func putQuota(namespace string, limit schema.Size) embedded.Change {
	return embedded.Change{Object: schema.Resource{Key: schema.Key{Kind: schema.KindQuota, Name: namespace}, Spec: &schema.Quota{Limit: &limit}}}
}

// quota serves a registry with the namespace team, a quota, and user dev.
func quota(t *testing.T, data string, limit schema.Size) *served {
	t.Helper()
	s := serve(t, data)
	all := schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push | schema.Delete})}
	s.change(t, putUser(t, "dev", false), putNamespace("team"), putAccess("team", all), putNamespace("free"), putAccess("free", all), putQuota("team", limit))
	return s
}

func imageOf(t *testing.T, size int64, layers int64) v1.Image {
	t.Helper()
	im, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// bytesOf is what an image counts.
func bytesOf(t *testing.T, im v1.Image) schema.Size {
	t.Helper()
	m, err := im.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	n, err := im.Size()
	if err != nil {
		t.Fatal(err)
	}
	n += m.Config.Size
	for _, l := range m.Layers {
		n += l.Size
	}
	return schema.Size(n)
}

func (s *served) push(t *testing.T, ref string, im v1.Image) error {
	t.Helper()
	return remote.Write(s.ref(t, ref), im, append(s.as("dev"), remote.WithJobs(1))...)
}

func (s *served) mustPush(t *testing.T, ref string, im v1.Image) {
	t.Helper()
	if err := s.push(t, ref, im); err != nil {
		t.Fatal(err)
	}
}

func (s *served) usage(t *testing.T) embedded.Usage {
	t.Helper()
	list, err := s.Usage(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 {
		t.Fatalf("usage of %d namespaces, want 1", len(list))
	}
	return list[0]
}

func (s *served) wantUsed(t *testing.T, what string, want schema.Size) {
	t.Helper()
	if u := s.usage(t); u.Used != want {
		t.Errorf("%s: %d bytes used, want %d", what, u.Used, want)
	}
}

// asDev sends a request of dev and returns what became of it.
func (s *served) asDev(t *testing.T, method, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("dev", "pw-dev")
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusForbidden && ociCode(t, resp) != "DENIED" {
		t.Errorf("%s %s: 403 with another code than DENIED", method, path)
	}
	return resp.StatusCode
}

// denied returns the refusal that a push met, nil for another error.
func denied(err error) *transport.Diagnostic {
	var e *transport.Error
	if errors.As(err, &e) && e.StatusCode == http.StatusForbidden && len(e.Errors) == 1 && e.Errors[0].Code == transport.DeniedErrorCode {
		return &e.Errors[0]
	}
	return nil
}

func TestPushBeyondTheQuotaIsDeniedWithLimitAndUse(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 64<<10)
	first := imageOf(t, 40<<10, 1)
	s.mustPush(t, "team/app:1", first)
	s.wantUsed(t, "after a push", bytesOf(t, first))
	err := s.push(t, "team/other:1", imageOf(t, 40<<10, 1))
	d := denied(err)
	if d == nil || !strings.Contains(d.Message, "quota of 65536 bytes (64.0 KiB)") {
		t.Fatalf("error %v", err)
	}
	detail, ok := d.Detail.(map[string]any)
	if !ok || detail["limit"] != float64(64<<10) || detail["used"] != float64(bytesOf(t, first)) || detail["reason"] != "quota" {
		t.Errorf("detail %v", d.Detail)
	}
	s.wantUsed(t, "after a refusal", bytesOf(t, first))
	s.mustPush(t, "free/app:1", imageOf(t, 100<<10, 1))
	if _, err := remote.Get(s.ref(t, "team/other:1"), s.as("dev")...); err == nil {
		t.Error("the refused image is there")
	}
}

func TestABlobCountsOnceHoweverManyTagsAndRepositoriesHaveIt(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 64<<10)
	im := imageOf(t, 50<<10, 1)
	size := bytesOf(t, im)
	s.mustPush(t, "free/app:1", im)
	for _, ref := range []string{"team/app:1", "team/app:2", "team/app:1", "team/deep/er:1"} {
		s.mustPush(t, ref, im) // uploads or is there already
		s.wantUsed(t, ref, size)
	}
	mounted, err := remote.Image(s.ref(t, "free/app:1"), s.as("dev")...)
	if err != nil {
		t.Fatal(err)
	}
	s.mustPush(t, "team/mounted:1", mounted)
	s.wantUsed(t, "a mount", size)
	if u := s.usage(t); u.Waiting != 0 {
		t.Errorf("%d bytes wait for a manifest", u.Waiting)
	}
	other := imageOf(t, 50<<10, 1)
	s.mustPush(t, "free/other:1", other)
	other, err = remote.Image(s.ref(t, "free/other:1"), s.as("dev")...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.push(t, "team/mounted:2", other); denied(err) == nil {
		t.Errorf("a mount beyond the quota: error %v", err)
	}
}

// TestABlobCountsByWhateverDigestAManifestNamesIt: Distribution keeps all by sha256.
func TestABlobCountsByWhateverDigestAManifestNamesIt(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := quota(t, data, 1_000_000)
	config, layer := []byte("{}"), bytes.Repeat([]byte("layer"), 50_000)
	s.upload(t, "dev", "team/app", config)
	named := digest.SHA512.FromBytes(layer)
	resp, b := s.request(t, "POST", "dev", "/v2/team/app/blobs/uploads/?digest="+named.String(), "application/octet-stream", layer)
	if resp.StatusCode == http.StatusAccepted {
		at, err := resp.Location()
		if err != nil {
			t.Fatal(err)
		}
		resp, b = s.request(t, "PUT", "dev", at.RequestURI()+"&digest="+named.String(), "application/octet-stream", layer)
	}
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("uploaded: %d %s", resp.StatusCode, b)
	}
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x/y","digest":%q,"size":2},"layers":[{"mediaType":"x/y","digest":%q,"size":%d}]}`,
		imagespec.MediaTypeImageManifest, digest.FromBytes(config), named, len(layer))
	if resp, b := s.request(t, "PUT", "dev", "/v2/team/app/manifests/1", imagespec.MediaTypeImageManifest, []byte(body)); resp.StatusCode != http.StatusCreated {
		t.Fatalf("pushed: %d %s", resp.StatusCode, b)
	}
	want := schema.Size(len(body) + len(config) + len(layer))
	s.wantUsed(t, "at once", want)
	if got := s.asDev(t, "POST", "/v2/free/app/blobs/uploads/?mount="+named.String()+"&from=team/app"); got != http.StatusAccepted {
		t.Errorf("a mount of what Distribution cannot: %d", got)
	}
	s.stop(t)
	s = serve(t, data)
	s.wantUsed(t, "after a restart", want)
}

// oneOfTwo pushes two images at once, each to its reference, and returns the one that
// is there. The other must have been denied.
func (s *served) oneOfTwo(t *testing.T, round int, images [2]v1.Image, refs [2]string) v1.Image {
	t.Helper()
	var errs [2]error
	var all sync.WaitGroup
	for i, im := range images {
		ref := s.ref(t, refs[i])
		all.Go(func() { errs[i] = remote.Write(ref, im, s.as("dev")...) })
	}
	all.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("round %d: errors %v and %v; want exactly one", round, errs[0], errs[1])
	}
	if denied(errors.Join(errs[:]...)) == nil {
		t.Errorf("round %d: %v", round, errors.Join(errs[:]...))
	}
	done := images[0]
	if errs[0] != nil {
		done = images[1]
	}
	s.wantUsed(t, "after both", bytesOf(t, done))
	return done
}

func TestOfTwoPushesThatDoNotFitTogetherOneDoes(t *testing.T) {
	for round := range 5 {
		s := quota(t, filepath.Join(t.TempDir(), "data"), 100<<10)
		s.oneOfTwo(t, round, [2]v1.Image{imageOf(t, 15<<10, 4), imageOf(t, 15<<10, 4)}, [2]string{"team/app0:1", "team/app1:1"})
	}
}

// What refused pushes sent is no reason to refuse another, however many were: of many
// layers each, or of so few that their second is refused before any manifest comes.
func TestOfTwoPushesOneDoesAfterManyThatDidNot(t *testing.T) {
	for _, layers := range []int64{4, 2} {
		t.Run(fmt.Sprint(layers, " layers"), func(t *testing.T) {
			s := quota(t, filepath.Join(t.TempDir(), "data"), 300<<10)
			for round := range 12 {
				images := [2]v1.Image{imageOf(t, (200<<10)/layers, layers), imageOf(t, (200<<10)/layers, layers)}
				done := s.oneOfTwo(t, round, images, [2]string{"team/app:0", "team/app:1"})
				if got := s.asDev(t, "DELETE", "/v2/team/app/manifests/"+digestOf(t, done)); got != http.StatusAccepted {
					t.Fatalf("round %d: deleted: %d", round, got)
				}
			}
		})
	}
}

func TestDeletionGivesSpaceBackAndUseSurvivesARestart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	im, second := imageOf(t, 40<<10, 1), imageOf(t, 40<<10, 2)
	d, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("before", func(t *testing.T) {
		s := quota(t, data, 100<<10)
		s.mustPush(t, "team/app:1", im)
		if err := s.push(t, "team/app:2", second); denied(err) == nil {
			t.Fatalf("error %v", err)
		}
		if got := s.asDev(t, "DELETE", "/v2/team/app/manifests/"+d.String()); got != http.StatusAccepted {
			t.Fatalf("status %d", got)
		}
		s.wantUsed(t, "after a deletion", 0)
		s.mustPush(t, "team/app:2", second)
		s.wantUsed(t, "after the next push", bytesOf(t, second))
	})
	t.Run("after", func(t *testing.T) {
		s := serve(t, data)
		s.wantUsed(t, "after a restart", bytesOf(t, second))
		if err := s.push(t, "team/app:1", im); denied(err) == nil {
			t.Errorf("error %v", err)
		}
		s.change(t, putQuota("team", 1)) // below what is used
		s.wantUsed(t, "with a smaller quota", bytesOf(t, second))
		s.mustPush(t, "team/app:same", second) // adds nothing
		if err := s.push(t, "team/app:3", imageOf(t, 10, 1)); denied(err) == nil {
			t.Errorf("error %v", err)
		}
		s.change(t, putQuota("team", schema.Unlimited))
		s.mustPush(t, "team/app:1", im)
		s.change(t, putQuota("team", 200<<10))
		s.wantUsed(t, "counted anew", bytesOf(t, second)+bytesOf(t, im))
	})
	dir, err := embedded.OpenDirectory(data, "test", bucketFor(t, data))
	if err != nil {
		t.Fatal(err)
	}
	list, err := dir.Usage(t.Context(), nil)
	if err != nil || len(list) != 1 || list[0].Used != bytesOf(t, second)+bytesOf(t, im) {
		t.Errorf("usage while stopped: %v, %v", list, err)
	}
}

func TestCollectionGivesTheSpaceOfDeletedTagsBack(t *testing.T) {
	byHand, byRetention, stays := imageOf(t, 20<<10, 1), imageOf(t, 20<<10, 1), imageOf(t, 20<<10, 1)
	all := bytesOf(t, byHand) + bytesOf(t, byRetention) + bytesOf(t, stays)
	data := filled(t, func(t *testing.T, s *served) {
		t.Helper()
		dev := schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push | schema.Delete})}
		s.change(t, putUser(t, "dev", false), putNamespace("team"), putAccess("team", dev), putQuota("team", all+100))
		s.mustPush(t, "team/app:old", byHand)
		s.mustPush(t, "team/app:older", byRetention)
		s.mustPush(t, "team/app:keep", stays)
	})
	s := serve(t, data)
	s.wantUsed(t, "at first", all)
	err := s.push(t, "team/app:new", imageOf(t, 20<<10, 1))
	if d := denied(err); d == nil || !strings.Contains(d.Message, "ocisync run gc") {
		t.Fatalf("the refusal does not say how space comes back: %v", err)
	}
	if got := s.asDev(t, "DELETE", "/v2/team/app/manifests/old"); got != http.StatusAccepted {
		t.Fatal(got)
	}
	s.change(t, embedded.Change{Object: schema.Resource{
		Key: schema.Key{Kind: schema.KindRetention, Name: "team"}, Spec: &schema.Retention{Keep: []schema.KeepRule{{Tags: "keep", Always: true}}},
	}})
	for _, job := range []string{embedded.JobRetention, embedded.JobGC} {
		if _, err := s.Run(t.Context(), job, false); err != nil {
			t.Fatal(err)
		}
	}
	s.wantUsed(t, "after retention and collection", bytesOf(t, stays))
	s.mustPush(t, "team/app:new", imageOf(t, 20<<10, 1))
}

func TestANamespaceWithinANamespaceCountsForItself(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100<<10)
	im, inner := imageOf(t, 30<<10, 1), imageOf(t, 30<<10, 1)
	s.mustPush(t, "team/app:1", im)
	s.mustPush(t, "team/inner/app:1", inner)
	s.wantUsed(t, "both", bytesOf(t, im)+bytesOf(t, inner))
	s.change(t, putNamespace("team/inner"))
	s.wantUsed(t, "without the inner namespace", bytesOf(t, im))
	s.change(t, embedded.Change{Delete: true, Object: schema.Resource{Key: schema.Key{Kind: schema.KindNamespace, Name: "team/inner"}}})
	s.wantUsed(t, "with it again", bytesOf(t, im)+bytesOf(t, inner))
}

// uploadInParts sends one blob as clients do, by POST, PATCH and PUT, and returns the
// status that ended it.
func (s *served) uploadInParts(t *testing.T, repository string, blob []byte, chunked bool) int {
	t.Helper()
	send := func(method, path string, body []byte) (status int, location string) {
		var r io.Reader = bytes.NewReader(body)
		if chunked {
			r = io.MultiReader(r) // hides the length
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, r)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.SetBasicAuth("dev", "pw-dev")
		req.Header.Set("Content-Type", "application/octet-stream")
		resp, err := s.http.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Location")
	}
	status, location := send(http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil)
	if status != http.StatusAccepted {
		return status
	}
	if status, location = send(http.MethodPatch, location, blob); status != http.StatusAccepted {
		return status
	}
	status, _ = send(http.MethodPut, location+"&digest="+digest.FromBytes(blob).String(), nil)
	return status
}

func TestAHundredUploadsOfOneBlobCountOnce(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100<<10)
	blob := bytes.Repeat([]byte("x"), 90<<10)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if got := s.uploadInParts(t, fmt.Sprintf("team/app%d", i%7), blob, i%2 == 0); got != http.StatusCreated {
				t.Errorf("upload %d: status %d", i, got)
			}
		})
	}
	all.Wait()
	if u := s.usage(t); u.Used != 0 || u.Waiting != 90<<10 {
		t.Errorf("%d bytes used and %d waiting, want 0 and %d", u.Used, u.Waiting, 90<<10)
	}
}

func TestUploadsThatCannotFitAreRefusedEarly(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		s := quota(t, filepath.Join(t.TempDir(), "data"), 100<<10)
		if got := s.uploadInParts(t, "team/app", bytes.Repeat([]byte("y"), 200<<10), chunked); got != http.StatusForbidden {
			t.Errorf("chunked %v: status %d, want 403", chunked, got)
		}
		if left, err := filepath.Glob(filepath.Join(s.data, "docker/registry/v2/repositories/team/app/_uploads/*/data")); err != nil || len(left) > 0 {
			t.Errorf("chunked %v: left behind: %v, %v", chunked, left, err)
		}
	}
}

func TestBlobsWithoutManifestTakeNoMoreThanAsMuchAgain(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100<<10)
	var got []int
	for i := range 4 {
		got = append(got, s.uploadInParts(t, "team/app", bytes.Repeat([]byte{byte(i)}, 60<<10), false))
	}
	if want := []int{201, 201, 201, 403}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("statuses %v, want %v", got, want)
	}
}

func TestAManifestCannotTakeBlobsOfAnotherNamespace(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100<<10)
	s.change(t, putUser(t, "root", true), putNamespace("secret"))
	im := image(t)
	if err := remote.Write(s.ref(t, "secret/app:1"), im, s.as("root")...); err != nil {
		t.Fatal(err)
	}
	if got := pushManifest(t, s, "dev", "/v2/team/app/manifests/stolen", im); got != http.StatusBadRequest { // MANIFEST_BLOB_UNKNOWN
		t.Errorf("a manifest that names a foreign image's blobs: status %d, want 400", got)
	}
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.asDev(t, "POST", "/v2/team/app/blobs/uploads/?mount="+d.String()+"&from=secret/app"); got == http.StatusCreated {
		t.Error("a blob of another namespace was mounted")
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: im})
	if err := s.pushIndex(t, "team/app:index", index); err == nil {
		child, err := im.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.asDev(t, "GET", "/v2/team/app/blobs/"+d.String()); got != http.StatusNotFound {
			t.Errorf("the layer of %s can be read: status %d", child, got)
		}
	}
	if u := s.usage(t); u.Waiting != 0 {
		t.Errorf("%d bytes of another namespace wait", u.Waiting)
	}
}

// pushIndex puts an index whose children are not there.
func (s *served) pushIndex(t *testing.T, ref string, index v1.ImageIndex) error {
	t.Helper()
	n, err := name.ParseReference(s.Addr()+"/"+ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return remote.Put(n, index, s.as("dev")...)
}
