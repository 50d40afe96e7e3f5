package storage

import (
	"slices"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"pgregory.net/rapid"
)

// TestRepositoriesComeInTheOrderOfTheirParts: a page begins where the last one ended.
func TestRepositoriesComeInTheOrderOfTheirParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[ab.\-0]{0,3}(/[ab.\-0]{0,3}){0,3}`)
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		if want := slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) > 0; after(a, b) != want {
			t.Errorf("%q after %q: %t, want %t", a, b, !want, want)
		}
		if odd := rapid.StringMatching(`[ab/ :\x00é._-]{0,4}`).Draw(t, "name"); !strings.Contains(odd, "/") && plain(odd) != storagedriver.PathRegexp.MatchString("/"+odd) {
			t.Errorf("%q is plain: %t", odd, plain(odd))
		}
	})
}
