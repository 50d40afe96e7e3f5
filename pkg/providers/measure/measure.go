// Package measure counts what namespaces use of a registry whose content lies
// in directories of this host: for registries that limit nothing themselves.
// Start with [Meter].
//
// It counts as the embedded registry does: the manifests of a namespace's
// repositories and the blobs that they name, each once, by the size of what is
// stored. A repository counts for the innermost namespace that it lies in.
package measure

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// Content is what a registry stores, in its own layout. fs.ErrNotExist says that
// something is not there (any more).
type Content interface {
	// Repositories lists those in a namespace, the one of its own name too.
	Repositories(namespace string) ([]string, error)
	// Stamp is another whenever the repository's manifests may be others; ""
	// where nothing tells.
	Stamp(repository string) (string, error)
	// Manifests lists the digests of all manifests of a repository, with a tag
	// or without, and of those that an index brought along.
	Manifests(repository string) ([]string, error)
	// Manifest reads one.
	Manifest(repository, digest string) ([]byte, error)
	// Size is that of a stored blob, in bytes; of a manifest too.
	Size(repository, digest string) (int64, error)
}

// maxItems bounds what a meter remembers, at some 60 bytes each.
const maxItems = 1 << 20

// Meter measures one content again and again, and remembers of it what does not
// change, so that a second time costs little. It is safe for concurrent use.
type Meter struct {
	mu        sync.Mutex
	items     int
	most      int // of items
	manifests map[name][]item
	listed    map[string]list // by repository
}

// New makes a meter that knows nothing yet.
func New() *Meter {
	m := &Meter{most: maxItems}
	m.forget()
	return m
}

// name stands for a digest of any algorithm.
type name [16]byte

func nameOf(digest string) name {
	sum := sha256.Sum256([]byte(digest))
	return name(sum[:16])
}

// item is something stored.
type item struct {
	name name
	size int64
}

// list is what a repository counted when it had a stamp.
type list struct {
	stamp string
	items []item
}

func (m *Meter) forget() {
	m.items, m.manifests, m.listed = 0, map[name][]item{}, map[string]list{}
}

// Measure counts the bytes of one of all the namespaces there are. An error
// means that nothing is known: it never returns a part.
func (m *Meter) Measure(ctx context.Context, c Content, namespace string, all map[string]bool) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	repositories, err := c.Repositories(namespace)
	if err != nil {
		return 0, err
	}
	var total int64
	counted := map[name]bool{}
	for _, r := range repositories {
		if innermost(r, all) != namespace {
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		items, err := m.repository(c, r)
		if err != nil {
			return 0, fmt.Errorf("repository %s: %w", r, err)
		}
		for _, i := range items {
			if !counted[i.name] {
				counted[i.name] = true
				total += i.size
			}
		}
	}
	return total, nil
}

// innermost is the longest of the namespaces that a repository lies in, "" for
// none.
func innermost(repository string, namespaces map[string]bool) string {
	for at := repository; at != ""; at = at[:max(strings.LastIndexByte(at, '/'), 0)] {
		if namespaces[at] {
			return at
		}
	}
	return ""
}

// repository lists what a repository counts, some of it more than once.
func (m *Meter) repository(c Content, r string) ([]item, error) {
	stamp, err := c.Stamp(r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if l := m.listed[r]; stamp != "" && l.stamp == stamp {
		return l.items, nil
	}
	digests, err := c.Manifests(r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	whole := true
	var items []item
	for _, d := range digests {
		more, ok, err := m.manifest(c, r, d)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", d, err)
		}
		whole = whole && ok
		items = append(items, more...)
	}
	if whole && stamp != "" {
		m.remember(len(items))
		m.listed[r] = list{stamp, items}
	}
	return items, nil
}

// manifest lists what a manifest counts: itself and the blobs it names, as far
// as they are there; whole says that all are.
func (m *Meter) manifest(c Content, r, digest string) (items []item, whole bool, err error) {
	if known, ok := m.manifests[nameOf(digest)]; ok {
		return known, true, nil
	}
	b, err := c.Manifest(r, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil // it was deleted meanwhile, or is a ruin that nobody can pull
	}
	if err != nil {
		return nil, false, err
	}
	blobs, err := named(b)
	if err != nil {
		return nil, false, err
	}
	items, whole = []item{{nameOf(digest), int64(len(b))}}, true
	for _, d := range blobs {
		n, err := c.Size(r, d)
		if errors.Is(err, fs.ErrNotExist) {
			whole = false
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("blob %s: %w", d, err)
		}
		items = append(items, item{nameOf(d), n})
	}
	if whole {
		m.remember(len(items))
		m.manifests[nameOf(digest)] = items
	}
	return items, whole, nil
}

// remember makes room.
func (m *Meter) remember(n int) {
	if m.items+n > m.most {
		m.forget()
	}
	m.items += n
}

// named are the blobs that a manifest is made of, sorted, each once: not the
// manifests that an index lists, which are counted for themselves. A property of
// another type than it should have, as one may be that the format does not know, is
// as one that is not there.
func named(manifest []byte) ([]string, error) {
	type descriptor struct {
		Digest string `json:"digest"`
	}
	var m struct {
		Config   *descriptor  `json:"config"`
		Layers   []descriptor `json:"layers"`
		Blobs    []descriptor `json:"blobs"`
		FSLayers []struct {
			BlobSum string `json:"blobSum"`
		} `json:"fsLayers"`
	}
	err := json.Unmarshal(manifest, &m)
	if odd := (*json.UnmarshalTypeError)(nil); err != nil && !errors.As(err, &odd) {
		return nil, fmt.Errorf("it is not one: %w", err)
	}
	var out []string
	if m.Config != nil {
		out = append(out, m.Config.Digest)
	}
	for _, l := range slices.Concat(m.Layers, m.Blobs) {
		out = append(out, l.Digest)
	}
	for _, l := range m.FSLayers {
		out = append(out, l.BlobSum)
	}
	out = slices.DeleteFunc(out, func(d string) bool { _, _, err := Split(d); return err != nil })
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Split parts a digest into what may be parts of a file's name.
func Split(digest string) (algorithm, hex string, err error) {
	algorithm, hex, ok := strings.Cut(digest, ":")
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	if !ok || len(hex) < 32 || algorithm == "" || strings.Trim(algorithm, letters) != "" || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", "", fmt.Errorf("%.80q is no digest", digest)
	}
	return algorithm, hex, nil
}
