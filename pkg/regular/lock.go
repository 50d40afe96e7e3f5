package regular

import (
	"os"
	"syscall"

	"github.com/gofrs/flock"
)

// Lock is the lock of a file that is made where it is absent. The directory may be
// of another user: no link is followed, so that nothing is made elsewhere (the error
// is ELOOP), and a pipe does not block.
func Lock(path string) *flock.Flock {
	return flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK), flock.SetPermissions(0o600))
}
