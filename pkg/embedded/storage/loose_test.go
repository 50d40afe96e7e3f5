package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// shelf is a directory with manifests of one repository.
type shelf struct {
	t   *testing.T
	dir string
}

// put stores a manifest that is as old as that.
func (s shelf) put(text string, age time.Duration) digest.Digest {
	s.t.Helper()
	d := digest.FromString(text)
	link := filepath.Join(s.dir, linkIn(revisionsDir("team/app"), d))
	for name, text := range map[string]string{link: d.String(), filepath.Join(s.dir, blobData(d)): text} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	made := time.Now().Add(-age)
	if err := os.Chtimes(link, made, made); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// TestOnlyManifestsThatNothingReachesAreLoose: neither what an index lists, nor
// what is about a manifest that stays, nor what a young index may yet need.
func TestOnlyManifestsThatNothingReachesAreLoose(t *testing.T) {
	s := shelf{t, t.TempDir()}
	const old, young = 2 * time.Hour, time.Minute
	image := func(name, more string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"config":{},"annotations":{"name":%q}%s}`, name, more)
	}
	index := func(of ...digest.Digest) string {
		var list []string
		for _, d := range of {
			list = append(list, fmt.Sprintf(`{"digest":%q}`, d))
		}
		return fmt.Sprintf(`{"schemaVersion":2,"manifests":[%s]}`, strings.Join(list, ","))
	}
	about := func(d digest.Digest) string { return fmt.Sprintf(`,"subject":{"digest":%q}`, d) }

	child := s.put(image("child", ""), old)
	tagged := s.put(index(child), old)
	s.put(image("signature", about(child)), old)
	next := s.put(image("next", ""), old)
	s.put(index(next), young) // whose tag is on its way
	s.put(image("fresh", ""), young)
	former := s.put(image("former", ""), old)
	lost := s.put(image("lost signature", about(former)), old)
	listed := s.put(index(lost), old) // by the fallback tag of what has gone
	signed := s.put(index(s.put(image("attestation", ""), old)), old)

	storage, err := Open(t.Context(), s.dir, Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]digest.Digest{"1": tagged, fallbackName(former): listed, fallbackName(child): signed}
	got, err := storage.Loose(t.Context(), "team/app", tags, func(l Link) bool { return time.Since(l.Made) < old/2 })
	if err != nil {
		t.Fatal(err)
	}
	want := []digest.Digest{former, lost, listed}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("loose (-want +got):\n%s", diff)
	}
	if err := os.Truncate(filepath.Join(s.dir, blobData(tagged)), 20); err != nil {
		t.Fatal(err)
	}
	got, err = storage.Loose(t.Context(), "team/app", tags, func(Link) bool { return false })
	if err != nil || len(got) > 0 {
		t.Errorf("loose beside a tagged index of which the half is lost: %v, %v", got, err)
	}
}
