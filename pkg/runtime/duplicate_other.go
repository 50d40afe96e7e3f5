//go:build !linux

package runtime

import (
	"os"
	"syscall"
)

// duplicate has a file write where another one does.
func duplicate(from, to *os.File) error { return syscall.Dup2(int(from.Fd()), int(to.Fd())) }
