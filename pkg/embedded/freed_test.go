package embedded_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

// Who pushes and deletes in turn within the quota never runs out of it, nor fills
// the disk, though nobody collects by a schedule.
func TestPushingAndDeletingGoesOnWithinTheQuota(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
	for i := range 8 {
		im := imageOf(t, 60_000, 1)
		s.mustPush(t, "team/app:t", im)
		if got := s.asDev(t, "DELETE", "/v2/team/app/manifests/"+digestOf(t, im)); got != http.StatusAccepted {
			t.Fatalf("deletion %d: %d", i, got)
		}
		if u := s.usage(t); u.Used != 0 || u.Waiting > 25_000 {
			t.Fatalf("after deletion %d: %+v", i, u)
		}
	}
}

// What was left behind before, by deletions whose collection a crash prevented, keeps
// no push out, though the delay is not over.
func TestAPushHasWhatWasDeletedCollected(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	t.Run("without a quota", func(t *testing.T) {
		s := quota(t, data, -1)
		for range 3 {
			im := imageOf(t, 60_000, 1)
			s.mustPush(t, "team/app:t", im)
			s.asDev(t, "DELETE", "/v2/team/app/manifests/"+digestOf(t, im))
		}
	})
	s := quota(t, data, 100_000)
	if u := s.usage(t); u.Waiting < 180_000 {
		t.Fatalf("waiting: %+v", u)
	}
	s.mustPush(t, "team/app:t", imageOf(t, 60_000, 1))
	if u := s.usage(t); u.Waiting > 100_000 {
		t.Errorf("still waiting: %+v", u)
	}
}

// A blob that somebody sent, or was told to be there, after the manifest that is
// deleted now was stored, waits for his own.
func TestWhatAPushReliesOnIsNotFreed(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
	im := imageOf(t, 60_000, 1)
	s.mustPush(t, "team/app:t", im)
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.asDev(t, "HEAD", "/v2/team/app/blobs/"+digestOf(t, layers[0])); got != http.StatusOK {
		t.Fatal(got)
	}
	s.asDev(t, "DELETE", "/v2/team/app/manifests/"+digestOf(t, im))
	if _, err := s.Run(t.Context(), embedded.JobGC, false); err != nil {
		t.Fatal(err)
	}
	if got := s.asDev(t, "HEAD", "/v2/team/app/blobs/"+digestOf(t, layers[0])); got != http.StatusOK {
		t.Errorf("the layer that a pusher was told of: %d", got)
	}
	s.mustPush(t, "team/app:again", im)
	if _, err := remote.Get(s.ref(t, "team/app:again"), s.as("dev")...); err != nil {
		t.Error(err)
	}
}

// foreign is an image of which the layers are elsewhere, as their URLs say.
func foreign(t *testing.T, s *served, repo string, layers ...[]byte) imagespec.Manifest {
	t.Helper()
	s.upload(t, "dev", repo, []byte("{}"))
	m := imagespec.Manifest{MediaType: imagespec.MediaTypeImageManifest, Config: imagespec.DescriptorEmptyJSON}
	m.SchemaVersion = 2
	for _, l := range layers {
		m.Layers = append(m.Layers, imagespec.Descriptor{
			MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", URLs: []string{"https://example.com/layer"},
			Digest: digest.FromBytes(l), Size: int64(len(l)),
		})
	}
	return m
}

// What manifests name counts once it is there, whenever it comes: also after them, as
// a foreign layer may, or again after it was deleted.
func TestWhatComesAfterItsManifestFitsTheQuotaToo(t *testing.T) {
	var layers [][]byte
	for i := range 6 {
		layers = append(layers, bytes.Repeat([]byte{byte(i)}, 40_000))
	}
	sends := func(t *testing.T, s *served) (got []int) {
		t.Helper()
		for i, l := range layers {
			got = append(got, s.uploadInParts(t, "team/app", l, i%2 == 0))
		}
		return got
	}
	t.Run("foreign layers", func(t *testing.T) {
		data := filepath.Join(t.TempDir(), "data")
		s := quota(t, data, 100_000)
		s.put(t, "dev", "team/app", "t", imagespec.MediaTypeImageManifest, foreign(t, s, "team/app", layers...))
		if got := sends(t, s); fmt.Sprint(got) != "[201 201 403 403 403 403]" {
			t.Errorf("of six layers that a manifest names, two of which fit: %v", got)
		}
		if got := s.uploadInParts(t, "team/other", layers[1], false); got != http.StatusCreated {
			t.Errorf("one that is there: %d", got)
		}
		s.stop(t)
		s = quota(t, data, 100_000)
		if u := s.usage(t); u.Used < 80_000 || u.Used > 100_000 || u.Waiting != 0 {
			t.Errorf("counted anew: %+v", u)
		}
		if got := sends(t, s); fmt.Sprint(got) != "[201 201 403 403 403 403]" {
			t.Errorf("after a restart: %v", got)
		}
	})
	t.Run("one of two uploads at once", func(t *testing.T) {
		s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
		s.put(t, "dev", "team/app", "t", imagespec.MediaTypeImageManifest, foreign(t, s, "team/app", layers...))
		before := s.usage(t).Used
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() { s.uploadInParts(t, "team/app", layers[i%4], i%3 == 0) })
		}
		all.Wait()
		if u := s.usage(t); u.Used != before+80_000 {
			t.Errorf("of four layers at once, two of which fit: %+v, %d before", u, before)
		}
	})
	t.Run("under a digest that others claim", func(t *testing.T) {
		s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
		s.put(t, "dev", "team/app", "t", imagespec.MediaTypeImageManifest, foreign(t, s, "team/app", layers...))
		before := s.usage(t).Used
		done := make(chan struct{})
		var claims, all sync.WaitGroup
		for _, l := range layers {
			for range 2 {
				claims.Go(func() { // one byte, said to be the layer
					for {
						select {
						case <-done:
							return
						default:
							s.claim(t, "team/app", digest.FromBytes(l))
						}
					}
				})
			}
		}
		for i := range layers {
			all.Go(func() {
				for range 5 {
					s.uploadInParts(t, "team/app", layers[i], false)
				}
			})
		}
		all.Wait()
		close(done)
		claims.Wait()
		if u := s.usage(t); u.Used > 100_000 || u.Used < before {
			t.Errorf("%+v of 100000", u)
		}
	})
	t.Run("deleted and sent again", func(t *testing.T) {
		s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
		for i, l := range layers {
			s.upload(t, "dev", "team/app", []byte("{}"))
			if got := s.uploadInParts(t, "team/app", l, false); got != http.StatusCreated {
				if i < 2 {
					t.Fatalf("layer %d: %d", i, got)
				}
				break
			}
			m := artifact("a", fmt.Sprint(i), "")
			m.Layers = []imagespec.Descriptor{{MediaType: "application/x", Digest: digest.FromBytes(l), Size: int64(len(l))}}
			if resp, _ := s.request(t, "PUT", "dev", fmt.Sprintf("/v2/team/app/manifests/t%d", i), imagespec.MediaTypeImageManifest, marshalled(t, m)); resp.StatusCode != http.StatusCreated && i < 2 {
				t.Fatalf("manifest %d: %d", i, resp.StatusCode)
			}
			s.asDev(t, "DELETE", "/v2/team/app/blobs/"+digest.FromBytes(l).String())
		}
		for range 2 {
			sends(t, s)
			if u := s.usage(t); u.Used > 100_000 || u.Used+u.Waiting > 200_000 {
				t.Errorf("%+v of 100000 bytes", u)
			}
			if _, err := s.Run(t.Context(), embedded.JobGC, false); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A blob that was deleted stays on the disk until a collection: no disk is filled by
// sending and deleting blobs in turn.
func TestABlobThatWasDeletedWaitsForACollection(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
	var got []int
	for i := range 6 {
		b := bytes.Repeat([]byte{byte(i)}, 60_000)
		got = append(got, s.uploadInParts(t, "team/app", b, false))
		s.asDev(t, "DELETE", "/v2/team/app/blobs/"+digest.FromBytes(b).String())
	}
	if want := "[201 201 201 403 403 403]"; fmt.Sprint(got) != want {
		t.Errorf("sent and deleted: %v, want %s", got, want)
	}
}

// Deletions have garbage collected each time they left a quarter of the limit, not
// each one after the first quarter.
func TestDeletionsCollectOnceAQuarter(t *testing.T) {
	log := &kept{}
	s := serveWith(t, embedded.Options{Data: filepath.Join(t.TempDir(), "data"), Logger: slog.New(slog.NewTextHandler(log, nil))})
	all := schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push | schema.Delete})}
	s.change(t, putUser(t, "dev", false), putNamespace("team"), putAccess("team", all), putQuota("team", 100_000))
	var digests []string
	for i := range 45 {
		im := imageOf(t, 1_000, 1)
		s.mustPush(t, fmt.Sprintf("team/app:%d", i), im)
		digests = append(digests, digestOf(t, im))
	}
	for _, d := range digests {
		if got := s.asDev(t, "DELETE", "/v2/team/app/manifests/"+d); got != http.StatusAccepted {
			t.Fatal(got)
		}
	}
	used := strings.Count(log.String(), "job=gc")
	if used < 1 || used > 4 {
		t.Errorf("%d collections for %d deletions of 2 kB", used, len(digests))
	}
}

// kept is a log that is read while it is written.
type kept struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (k *kept) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.b.Write(b)
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.b.String()
}

func marshalled(t *testing.T, m any) []byte {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// claim sends one byte as if it were a blob, and is refused at the end.
func (s *served) claim(t *testing.T, repository string, d digest.Digest) {
	t.Helper()
	resp, _ := s.sendPart(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil)
	if resp.StatusCode != http.StatusAccepted {
		return
	}
	if resp, _ = s.sendPart(t, http.MethodPatch, resp.Header.Get("Location"), []byte("x")); resp.StatusCode != http.StatusAccepted {
		return
	}
	if resp, _ = s.sendPart(t, http.MethodPut, resp.Header.Get("Location")+"&digest="+d.String(), nil); resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusForbidden {
		t.Errorf("one byte as a layer: %d", resp.StatusCode)
	}
}

// What a client deleted by itself goes though a manifest names it still: nobody can
// pull it, and it counts for no quota. What is linked to stays.
func TestABlobThatWasDeletedGoesThoughAManifestNamesIt(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
	im, stays := imageOf(t, 30_000, 1), imageOf(t, 30_000, 1)
	s.mustPush(t, "team/app:t", im)
	s.mustPush(t, "team/app:stays", stays)
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d := digestOf(t, layers[0])
	if got := s.asDev(t, "DELETE", "/v2/team/app/blobs/"+d); got != http.StatusAccepted {
		t.Fatal(got)
	}
	hex := strings.TrimPrefix(d, "sha256:")
	file := filepath.Join(s.data, "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
	collect := func() {
		t.Helper()
		if _, err := s.Run(t.Context(), embedded.JobGC, false); err != nil {
			t.Fatal(err)
		}
	}
	collect()
	if u := s.usage(t); u.Used < 60_000 {
		t.Errorf("before it goes: %+v", u)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("within the delay: %v", err)
	}
	old := time.Now().Add(-24 * time.Hour)
	if err := filepath.WalkDir(filepath.Join(s.data, "docker"), func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(name, old, old))
	}); err != nil {
		t.Fatal(err)
	}
	collect()
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the delay: %v", err)
	}
	if u := s.usage(t); u.Used > 60_000 {
		t.Errorf("after it went: %+v", u)
	}
	got, err := remote.Image(s.ref(t, "team/app:stays"), s.as("dev")...)
	if err == nil {
		err = validate.Image(got)
	}
	if err != nil {
		t.Error(err)
	}
}

// Deletions are the first that is heard of a namespace after a restart.
func TestDeletionsAfterARestartCollect(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := quota(t, data, 100_000)
	var digests []string
	for i := range 3 {
		im := imageOf(t, 28_000, 1)
		s.mustPush(t, fmt.Sprintf("team/app:%d", i), im)
		digests = append(digests, digestOf(t, im))
	}
	s.stop(t)
	s = serve(t, data)
	for _, d := range digests {
		if got := s.asDev(t, "DELETE", "/v2/team/app/manifests/"+d); got != http.StatusAccepted {
			t.Fatal(got)
		}
	}
	blobs, err := filepath.Glob(filepath.Join(data, "docker/registry/v2/blobs/sha256/*/*/data"))
	if err != nil || len(blobs) > 6 {
		t.Errorf("%d blobs of nine are left, %v", len(blobs), err)
	}
}

// What a refused push sent gives way to the next, but for what another relies on: of
// two images with a layer in common one is refused, and the other's manifest comes
// after others have needed the room.
func TestWhatAnotherPushReliesOnStaysThoughOneIsRefused(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
	all := schema.Access{Users: schema.NewGrants(schema.Grant{Name: "dev", Rights: schema.Pull | schema.Push | schema.Delete}, schema.Grant{Name: "eve", Rights: schema.Pull | schema.Push})}
	s.change(t, putUser(t, "eve", false), putAccess("team", all))
	common, own, more := bytes.Repeat([]byte("c"), 20_000), bytes.Repeat([]byte("o"), 60_000), bytes.Repeat([]byte("m"), 60_000)
	for _, b := range [][]byte{common, own, more, []byte("{}")} {
		s.upload(t, "eve", "team/app", b)
	}
	if got := s.asDev(t, "HEAD", "/v2/team/app/blobs/"+digest.FromBytes(common).String()); got != http.StatusOK {
		t.Fatal(got)
	}
	layer := func(b []byte) imagespec.Descriptor {
		return imagespec.Descriptor{MediaType: "application/x", Digest: digest.FromBytes(b), Size: int64(len(b))}
	}
	both, one := artifact("a", "both", ""), artifact("a", "one", "")
	both.Layers, one.Layers = []imagespec.Descriptor{layer(common), layer(own), layer(more)}, []imagespec.Descriptor{layer(common)}
	if resp, b := s.request(t, "PUT", "eve", "/v2/team/app/manifests/both", imagespec.MediaTypeImageManifest, marshalled(t, both)); resp.StatusCode != http.StatusForbidden {
		t.Fatalf("the refused: %d %s", resp.StatusCode, b)
	}
	s.mustPush(t, "team/other:full", imageOf(t, 70_000, 1)) // fits what is left of 200 kB without one of the refused
	if u := s.usage(t); u.Waiting != 80_002 {
		t.Errorf("beside the layer of another: %+v", u)
	}
	s.upload(t, "dev", "team/app", []byte("{}"))
	s.put(t, "dev", "team/app", "one", imagespec.MediaTypeImageManifest, one)
	if got := s.asDev(t, "HEAD", "/v2/team/app/blobs/"+digest.FromBytes(common).String()); got != http.StatusOK {
		t.Errorf("the common layer: %d", got)
	}
}

// Two pushes of one account from one address to one repository are two: the end of one
// takes no layer of the other's.
func TestTheEndOfAPushTakesNothingOfAnotherOfTheSameAccount(t *testing.T) {
	s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
	var pushes [2]*remote.Pusher
	var layers [2]digest.Digest
	repository := s.ref(t, "team/app").Context()
	for i := range pushes {
		p, err := remote.NewPusher(s.as("dev")...)
		if err != nil {
			t.Fatal(err)
		}
		layer := static.NewLayer(bytes.Repeat([]byte{byte(i)}, 60_000), types.OCILayer)
		d, err := layer.Digest()
		if err := errors.Join(err, p.Upload(t.Context(), repository, layer)); err != nil {
			t.Fatal(err)
		}
		pushes[i], layers[i] = p, digest.Digest(d.String())
	}
	large := static.NewLayer(bytes.Repeat([]byte("x"), 120_000), types.OCILayer)
	if err := pushes[1].Upload(t.Context(), repository, large); denied(err) == nil {
		t.Fatalf("what is too large: %v", err)
	}
	s.mustPush(t, "team/other:1", imageOf(t, 95_000, 1))
	for i, want := range []int{http.StatusOK, http.StatusNotFound} {
		if got := s.asDev(t, "HEAD", "/v2/team/app/blobs/"+layers[i].String()); got != want {
			t.Errorf("the layer of push %d: %d, want %d", i, got, want)
		}
	}
}

// Of what deleted tags left, used until a collection, a refused push has gone what is
// older than the delay; nobody need order it.
func TestARefusedPushHasWhatDeletedTagsLeftCollected(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	t.Run("before", func(t *testing.T) {
		s := quota(t, data, 100_000)
		s.mustPush(t, "team/app:t", imageOf(t, 60_000, 1))
		if got := s.asDev(t, "DELETE", "/v2/team/app/manifests/t"); got != http.StatusAccepted {
			t.Fatal(got)
		}
	})
	old := time.Now().Add(-24 * time.Hour)
	if err := filepath.WalkDir(data, func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(name, old, old))
	}); err != nil {
		t.Fatal(err)
	}
	s := serve(t, data)
	im := imageOf(t, 60_000, 1)
	if err := s.push(t, "team/app:t", im); denied(err) == nil {
		t.Fatalf("the push: %v", err)
	}
	for end := time.Now().Add(20 * time.Second); s.usage(t).Used > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still used: %+v", s.usage(t))
		}
	}
	s.mustPush(t, "team/app:t", im)
}

// However a blob comes, it has what refused pushes left give way.
func TestEveryWayToSendABlobHasRoomMade(t *testing.T) {
	blob := bytes.Repeat([]byte("b"), 60_000)
	for name, send := range map[string]func(t *testing.T, s *served) int{
		"in parts": func(t *testing.T, s *served) int { t.Helper(); return s.uploadInParts(t, "team/app", blob, true) },
		"at once": func(t *testing.T, s *served) int {
			t.Helper()
			resp, _ := s.sendPart(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil)
			resp, _ = s.sendPart(t, http.MethodPut, resp.Header.Get("Location")+"&digest="+digest.FromBytes(blob).String(), blob)
			return resp.StatusCode
		},
		"mounted": func(t *testing.T, s *served) int {
			t.Helper()
			s.upload(t, "dev", "free/app", blob)
			return s.asDev(t, "POST", "/v2/team/app/blobs/uploads/?mount="+digest.FromBytes(blob).String()+"&from=free/app")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := quota(t, filepath.Join(t.TempDir(), "data"), 100_000)
			for i := range 3 {
				s.upload(t, "dev", "team/app", bytes.Repeat([]byte{byte(i)}, 60_000))
			}
			if got := s.uploadInParts(t, "team/app", bytes.Repeat([]byte("x"), 120_000), false); got != http.StatusForbidden {
				t.Fatalf("what is too large: %d", got)
			}
			if got := send(t, s); got != http.StatusCreated {
				t.Errorf("%d: %+v", got, s.usage(t))
			}
		})
	}
}
