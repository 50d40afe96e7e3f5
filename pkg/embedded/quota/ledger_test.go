package quota

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestAnUploadUnderWayMakesRoomForItselfAlone: of two uploads of one digest, one of a
// byte that only says it is the layer, the other must fit all the same.
func TestAnUploadUnderWayMakesRoomForItselfAlone(t *testing.T) {
	const limit = 100
	manifest, layer := digest.FromString("manifest"), digest.FromString("layer")
	l := newLedger("team", nil, newUploads())
	// a manifest that counts 40 bytes and names a layer that has not come
	l.manifest("team/app", manifest, []Item{{manifest, 40}, {layer, 0}})
	if err := l.beginBlob(limit, layer, 1); err != nil {
		t.Fatalf("one byte of 60: %v", err)
	}
	if err := l.beginBlob(limit, layer, 61); !errors.As(err, new(*Error)) {
		t.Errorf("61 bytes beside the one that is under way, of 60: %v", err)
	}
	if err := l.beginBlob(limit, layer, 60); err != nil {
		t.Errorf("all of the 60: %v", err)
	}
	if l.used != 100 {
		t.Errorf("used: %d", l.used)
	}
	l.EndBlob("team/app", layer, "", 0)
	l.EndBlob("team/app", layer, "", 0)
	if l.used != 40 {
		t.Errorf("used after both did not come: %d", l.used)
	}
}
