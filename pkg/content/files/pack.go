// Package files makes a layer of a directory, and files and directories of layers that
// somebody else made, whom nobody trusts.
package files

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Compression is how a tar is made smaller.
type Compression string

// The compressions.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
	None Compression = "none"
)

// Pack writes a directory as a tar whose names begin with one that is given. It is the
// same for the same files wherever they lie: sorted, of nobody, without times, and of
// modes only whether a file may be run. A link that leads out of the directory is
// refused, and what is neither file, directory nor link.
func Pack(ctx context.Context, w io.Writer, dir, name string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(at string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = add(t, root, at, path.Join(name, at))
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", path.Join(dir, at), cause(err))
		}
		return err
	})
	return errors.Join(err, t.Close())
}

// add writes one file, directory or link.
func add(t *tar.Writer, root *os.Root, at, name string) error {
	info, err := root.Lstat(at)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: modeOf(info.Mode()), ModTime: time.Unix(0, 0)}
	switch info.Mode().Type() {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return t.WriteHeader(h)
	case fs.ModeSymlink:
		if _, err := root.Stat(at); err != nil {
			return errors.New("it is a link that leads nowhere in the directory; remove it, or make it a file")
		}
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = root.Readlink(at); err != nil {
			return err
		}
		return t.WriteHeader(h)
	case 0:
		f, err := root.Open(at)
		if err != nil {
			return err
		}
		defer f.Close()
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err = io.CopyN(t, f, h.Size)
		return err
	}
	return errors.New("it is neither a file nor a directory nor a link")
}

// modeOf is a mode as far as it is kept: whether a file may be run.
func modeOf(m fs.FileMode) int64 {
	if m.IsDir() || m&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// cause is an error without the name of the file, which is told already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Compress makes smaller what is written through it. Close ends it, and leaves open what
// it writes to.
func Compress(w io.Writer, how Compression) (io.WriteCloser, error) {
	switch how {
	case Gzip:
		return gzip.NewWriter(w), nil
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return plain{w}, nil
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// maxWindow bounds what a zstd stream may have its reader keep, in bytes: what
// zstd --long writes, and what others read.
const maxWindow = 128 << 20

// Decompress reads what is gzip or zstd or neither, as its first bytes say.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	b := bufio.NewReader(r)
	start, _ := b.Peek(4) // what is shorter is neither
	switch {
	case len(start) >= 2 && start[0] == 0x1f && start[1] == 0x8b:
		z, err := gzip.NewReader(b)
		return z, Gzip, err
	case string(start) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, Zstd, err
		}
		return z.IOReadCloser(), Zstd, nil
	}
	return io.NopCloser(b), None, nil
}
