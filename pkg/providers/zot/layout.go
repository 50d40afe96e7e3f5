package zot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/measure"
	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	maxIndex    = 256 << 20 // bytes of a repository's index.json
	maxManifest = 32 << 20  // bytes; Zot takes 4 MiB
	// settleTime is how old a file's time must be to tell that it was not written
	// since: systems count it in steps.
	settleTime = 2 * time.Second
)

// layouts is Zot's content where it lies in directories of this host: an OCI
// image layout per repository. It implements [measure.Content].
type layouts struct {
	root  func(repository string) string
	roots []string
}

// layouts says where content lies; elsewhere says why it cannot be looked at
// here.
func (s *site) layouts() (l layouts, elsewhere string) {
	if s.doc == nil {
		return l, ""
	}
	const why = "its content is not in a directory of this host, where ocisync could measure it"
	at := [][]string{{"storage"}}
	for route := range s.conf.Storage.SubPaths {
		at = append(at, []string{"storage", "subPaths", route})
	}
	for _, path := range at {
		if name, ok := s.doc.Get(append(path[:len(path):len(path)], "storageDriver", "name")...); ok && strings.Trim(name, `"`) != "local" {
			return l, why
		}
	}
	l.roots = []string{s.conf.Storage.RootDirectory}
	for _, sub := range s.conf.Storage.SubPaths {
		l.roots = append(l.roots, sub.RootDirectory)
	}
	if slices.ContainsFunc(l.roots, func(r string) bool { return !filepath.IsAbs(r) }) {
		return l, why + " (storage.rootDirectory is not an absolute path)"
	}
	conf := s.conf
	l.root = conf.rootOf
	return l, ""
}

// there is an error where a root is missing, since nothing would be counted.
func (l layouts) there() error {
	for _, root := range l.roots {
		if info, err := os.Stat(root); err != nil {
			return err
		} else if !info.IsDir() {
			return fmt.Errorf("%s is no directory", root)
		}
	}
	return nil
}

func (l layouts) dir(repository string) string {
	return filepath.Join(l.root(repository), filepath.FromSlash(repository))
}

// Repositories implements [measure.Content].
func (l layouts) Repositories(namespace string) (list []string, err error) {
	root := l.root(namespace)
	err = filepath.WalkDir(filepath.Join(root, filepath.FromSlash(namespace)), func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // nothing was pushed, or it went meanwhile
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		case inLayout(d.Name()):
			return fs.SkipDir
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch _, err := os.Lstat(filepath.Join(path, "index.json")); {
		case err == nil:
			list = append(list, filepath.ToSlash(name))
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		return nil
	})
	return list, err
}

// inLayout tells the directories that are part of a repository, or Zot's own,
// from those that may hold repositories.
func inLayout(name string) bool {
	return slices.Contains([]string{"blobs", ".uploads", ".sync", "_trivy", "_notation", "_cosign"}, name)
}

// Stamp implements [measure.Content].
func (l layouts) Stamp(repository string) (string, error) {
	info, err := os.Lstat(filepath.Join(l.dir(repository), "index.json"))
	if err != nil {
		return "", err
	}
	inode := uint64(0)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	if age := time.Since(info.ModTime()); age < settleTime {
		return "", nil
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size(), inode), nil
}

// descriptors is what an index lists, of a layout or an image.
type descriptors struct {
	Manifests []struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
	} `json:"manifests"`
}

// Manifests implements [measure.Content]. Zot may list what an image index names
// in the layout's own, or not.
func (l layouts) Manifests(repository string) ([]string, error) {
	var index descriptors
	b, err := regular.Read(filepath.Join(l.dir(repository), "index.json"), maxIndex)
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	seen := map[string]bool{}
	var list []string
	var add func(d descriptors) error
	add = func(d descriptors) error {
		for _, m := range d.Manifests {
			if seen[m.Digest] {
				continue
			}
			seen[m.Digest] = true
			list = append(list, m.Digest)
			if !strings.Contains(m.MediaType, "index") && !strings.Contains(m.MediaType, "manifest.list") {
				continue
			}
			b, err := l.Manifest(repository, m.Digest)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			var inner descriptors
			if err == nil {
				err = json.Unmarshal(b, &inner)
			}
			if err == nil {
				err = add(inner)
			}
			if err != nil {
				return fmt.Errorf("manifest %s: %w", m.Digest, err)
			}
		}
		return nil
	}
	return list, add(index)
}

// Manifest implements [measure.Content].
func (l layouts) Manifest(repository, digest string) ([]byte, error) {
	name, err := l.blob(repository, digest)
	if err != nil {
		return nil, err
	}
	return regular.Read(name, maxManifest)
}

// Size implements [measure.Content].
func (l layouts) Size(repository, digest string) (int64, error) {
	name, err := l.blob(repository, digest)
	if err != nil {
		return 0, err
	}
	info, err := os.Lstat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (l layouts) blob(repository, digest string) (string, error) {
	algorithm, hex, err := measure.Split(digest)
	return filepath.Join(l.dir(repository), "blobs", algorithm, hex), err
}

var _ measure.Content = layouts{}
