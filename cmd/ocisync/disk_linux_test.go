package main

import (
	"errors"
	"os"
	"syscall"
)

// mountSmall mounts a disk that is full after 64 KiB.
func mountSmall(dir string) (unmount func() error, err error) {
	return func() error { return syscall.Unmount(dir, 0) }, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700")
}

func canMount() bool {
	dir, err := os.MkdirTemp("", "ocisync-mount-")
	if err != nil {
		return false
	}
	unmount, err := mountSmall(dir)
	if err == nil {
		err = unmount()
	}
	return errors.Join(err, os.Remove(dir)) == nil
}
