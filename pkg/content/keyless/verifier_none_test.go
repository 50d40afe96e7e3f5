//go:build !keyless

package keyless

import (
	"errors"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

// TestProgramWithoutItSaysWhatToInstall, and takes nothing for signed.
func TestProgramWithoutItSaysWhatToInstall(t *testing.T) {
	v, err := New([]byte("{}"), []schema.Identity{{Issuer: "https://issuer.example.com", Subject: "dev@example.com"}})
	const want = "this ocisync was built without keyless verification, which identities need; install one that has it: go install -tags keyless github.com/ocisync/ocisync/cmd/ocisync@latest"
	if !errors.Is(err, ErrNotBuilt) || err.Error() != want || v != nil {
		t.Errorf("%v, %v\nwant %s", v, err, want)
	}
	if err := v.Bundle(nil, "sha256", ""); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("a bundle: %v", err)
	}
	if err := v.Simple(nil, nil, "sha256", ""); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("the older form: %v", err)
	}
}
