package load

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// path makes a path of the file that names it one from the directory that
// holds the modes, with slashes, and refuses one that leaves that directory. A
// path from the root of the file system stays as it is where the key is about
// the registry's own host.
func (c *checker) path(n *Node, at string) string {
	s := n.Text
	if s == "" || strings.ContainsRune(s, 0) {
		c.report(n, at, "the path is empty", "write a path from the directory of this file")
		return ""
	}
	if path.IsAbs(s) {
		if path.Clean(s) != strings.TrimSuffix(s, "/") || s == "/" {
			c.report(n, at, `"`+clip(s)+`" is not a plain path`, `write it without "..", "." and double slashes`)
		}
		if at != "registry.run.data" && at != "state.dir" {
			c.report(n, at, `"`+clip(s)+`" leaves the directory that holds the modes`, "put the file there, and write the path from this file")
		}
		return s
	}
	rel := path.Join(n.tree.dir, s)
	if !filepath.IsLocal(rel) {
		c.report(n, at, `"`+clip(s)+`" leaves the directory that holds the modes`, "put the file there, and write the path from this file")
		return ""
	}
	escapes, known := c.outside[rel]
	if !known {
		if len(c.outside) >= maxPaths {
			c.report(n, at, "too many different files are named", fmt.Sprintf("at most %d are read of a mode; split it", maxPaths))
			return ""
		}
		escapes = c.escapes(rel)
		c.outside[rel] = escapes
	}
	if escapes {
		c.report(n, at, `"`+clip(s)+`" is a link that leaves the directory that holds the modes`, "put the file itself there")
		return ""
	}
	return rel
}

// escapes reports whether an existing part of a path is a link out of the tree.
func (c *checker) escapes(rel string) bool {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return false // the tree was read from there; a race is for the reader of the file
	}
	defer root.Close()
	_, err = root.Stat(rel)
	var pe *fs.PathError
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) &&
		errors.As(err, &pe) && strings.Contains(pe.Err.Error(), "escapes")
}
