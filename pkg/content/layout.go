package content

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/providers"
)

// The files of a layout, and its annotations (OCI image specification, "Image Layout"
// and "Pre-Defined Annotation Keys").
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	// A name is repository:tag, or a tag alone as other tools write it.
	nameAnnotation = "org.opencontainers.image.ref.name"
	// imageAnnotation is containerd's and Docker's, which put a tag alone into the other.
	imageAnnotation = "io.containerd.image.name"
	// What has no tag is kept by its repository, and found by what it refers to.
	repositoryAnnotation = "dev.ocisync.repository"
	subjectAnnotation    = "dev.ocisync.subject"
)

// maxIndex bounds the index of a layout, in bytes: some 200,000 tags.
const maxIndex = 64 << 20

// ErrLayout is what is no OCI image layout that can be read.
var ErrLayout = errors.New("it is no OCI layout")

// Layout is an OCI image layout, with several repositories in it: each name in its index
// is repository:tag. What other tools name by a tag alone lies in the repository "".
// It is safe for use by several goroutines.
//
// Blobs are stored once for all repositories, and are there as soon as they came; the
// index is written by [Layout.Commit] alone.
type Layout struct {
	files Files

	mu      sync.Mutex
	begun   bool                // its first file is there
	entries []entry             // of its index
	changes map[label]*entry    // of this run; nil: removed
	loose   map[label]entry     // manifests that came without a tag, by digest
	named   map[v1.Hash]bool    // by an index that came
	gone    map[label]bool      // manifests without a tag that are to go, by digest
	subject map[v1.Hash][]entry // what refers to each; nil: nobody asked
}

// label is one in an index: a tag of a repository, or what it keeps without one.
type label struct{ repository, tag string }

// entry is one of an index.
type entry struct {
	label
	raw     json.RawMessage
	d       v1.Descriptor
	ours    bool // its annotations say to what it refers
	subject string
	err     error // why it cannot be used
}

// OpenLayout reads what lies in a layout. One that is to be written need not be there
// yet.
func OpenLayout(ctx context.Context, files Files, write bool) (*Layout, error) {
	l := &Layout{files: files, changes: map[label]*entry{}, loose: map[label]entry{}, named: map[v1.Hash]bool{}, gone: map[label]bool{}}
	fail := func(err error) (*Layout, error) {
		return nil, l.fail(Reference{}, "reading the layout", err)
	}
	b, err := l.read(ctx, layoutFile, maxManifest)
	if errors.Is(err, fs.ErrNotExist) && write {
		return l, nil
	}
	var version struct {
		V string `json:"imageLayoutVersion"`
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(fmt.Errorf("%w: it has no file %s", ErrLayout, layoutFile))
	case err != nil:
		return fail(fmt.Errorf("%s: %w", layoutFile, err))
	case json.Unmarshal(b, &version) != nil || !strings.HasPrefix(version.V, "1."):
		return fail(fmt.Errorf("%w of a version 1", ErrLayout))
	}
	l.begun = true
	_, l.entries, err = l.index(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		if write {
			return l, nil
		}
		err = fmt.Errorf("%w: it has no file %s; what wrote it was stopped and may be run again", ErrLayout, indexFile)
	}
	if err != nil {
		return fail(err)
	}
	return l, nil
}

// LayoutDir opens a layout in a directory. One that is to be written need not be there;
// a directory that holds other things is none. Close ends its use.
func LayoutDir(ctx context.Context, path string, write bool) (_ *Layout, err error) {
	d, err := OpenDir(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if write {
		empty, err := d.Empty()
		if _, missing := d.Stat(ctx, layoutFile); err == nil && !empty && errors.Is(missing, fs.ErrNotExist) {
			err = &providers.Error{Registry: path, Doing: "opening the layout", Err: fmt.Errorf("%w: it has no file %s, and other files", ErrLayout, layoutFile), Remedy: "name a directory that is empty or not there"}
		}
		if err != nil {
			return nil, err
		}
		if err := d.Tidy(time.Now()); err != nil {
			return nil, err
		}
	}
	return OpenLayout(ctx, d, write)
}

// Close ends its use. What was not committed is not in it.
func (l *Layout) Close() error {
	if c, ok := l.files.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// String is how people name it.
func (l *Layout) String() string { return l.files.String() }

func (l *Layout) fail(ref Reference, doing string, err error) error {
	var own *providers.Error
	if err == nil || errors.As(err, &own) || errors.Is(err, context.Canceled) {
		return err
	}
	if ref != (Reference{}) {
		doing += " " + ref.String()
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrAbsent
	}
	return &providers.Error{Registry: l.String(), Doing: doing, Err: err}
}

// read reads a file whole, and refuses a longer one.
func (l *Layout) read(ctx context.Context, file string, most int64) ([]byte, error) {
	f, err := l.files.Open(ctx, file, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("it has more than %d bytes", most)
	}
	return b, err
}

// index reads its index: all of it as it stands, and its entries.
func (l *Layout) index(ctx context.Context) (all map[string]json.RawMessage, list []entry, err error) {
	b, err := l.read(ctx, indexFile, maxIndex)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, nil, fmt.Errorf("%w: %s is not JSON: %w", ErrLayout, indexFile, err)
	}
	if len(all["manifests"]) > 0 {
		if err := json.Unmarshal(all["manifests"], &raw); err != nil {
			return nil, nil, fmt.Errorf("%w: what %s names is no list: %w", ErrLayout, indexFile, err)
		}
	}
	by := map[label]int{}
	for i, r := range raw {
		e := parseEntry(r, i)
		list = append(list, e)
		if e.tag == "" {
			continue
		}
		first, twice := by[e.label]
		switch {
		case !twice:
			by[e.label] = i
		case list[first].d.Digest != e.d.Digest:
			list[first].err = fmt.Errorf("%w: %s says two times what it is: %s and %s", ErrLayout, indexFile, list[first].d.Digest, e.d.Digest)
		}
	}
	return all, list, nil
}

// Names of repositories and tags (OCI distribution specification, "Pulling manifests").
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// parseEntry reads the nth entry of an index. One that cannot be used gets a name of its
// own, so that it is told of in its turn.
func parseEntry(raw json.RawMessage, n int) entry {
	e := entry{raw: raw}
	bad := func(format string, args ...any) entry {
		e.label, e.err = label{tag: fmt.Sprintf("entry-%d", n+1)}, fmt.Errorf("%w: entry %d of %s: %s", ErrLayout, n+1, indexFile, fmt.Sprintf(format, args...))
		return e
	}
	var d struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return bad("%v", err)
	}
	said, image := d.Annotations[nameAnnotation], d.Annotations[imageAnnotation]
	if path, ok := strings.CutSuffix(image, ":"+said); ok && said != "" {
		said = withoutHost(path) + ":" + said
	}
	if i := strings.LastIndexByte(said, ':'); i >= 0 {
		e.repository, e.tag = said[:i], said[i+1:]
	} else {
		e.tag = said
	}
	own, ours := d.Annotations[repositoryAnnotation]
	if e.ours = ours; ours && e.tag == "" {
		e.repository = own
	}
	e.subject = d.Annotations[subjectAnnotation]
	switch {
	case e.tag == "" && said != "", e.tag != "" && !tagName.MatchString(e.tag), e.repository != "" && !repositoryName.MatchString(e.repository):
		return bad("its name %q is no repository:tag", cmp.Or(said, own))
	}
	err := json.Unmarshal(raw, &e.d)
	if err == nil && (e.d.Digest == v1.Hash{} || e.d.Size < 0) {
		err = errors.New("it names nothing")
	}
	switch {
	case err != nil && e.tag == "":
		return bad("%v", err)
	case err != nil:
		e.err = fmt.Errorf("%w: entry %d of %s: %w", ErrLayout, n+1, indexFile, err)
	}
	return e
}

// withoutHost is the path of an image's name.
func withoutHost(image string) string {
	host, path, ok := strings.Cut(image, "/")
	if ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return path
	}
	return image
}

// now are its entries with what this run made of them. The lock is held.
func (l *Layout) now() map[label]entry {
	all := map[label]entry{}
	for _, e := range l.entries {
		if _, twice := all[e.label]; e.tag != "" && !twice {
			all[e.label] = e
		}
	}
	for n, e := range l.changes {
		delete(all, n)
		if e != nil {
			all[n] = *e
		}
	}
	return all
}

// Repositories implements [Source].
func (l *Layout) Repositories(context.Context) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]bool{}
	for n := range l.now() {
		all[n.repository] = true
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// Tags implements [Source].
func (l *Layout) Tags(_ context.Context, repository string) (tags []string, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.now() {
		if n.repository == repository {
			tags = append(tags, n.tag)
		}
	}
	slices.Sort(tags)
	return tags, len(tags) > 0, nil
}

// find is what the index has for a reference.
func (l *Layout) find(ref Reference) (entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := label{ref.Repository, ref.Tag}
	if ref.Tag == "" {
		if e, ok := l.loose[label{ref.Repository, ref.Digest.String()}]; ok {
			return e, true
		}
		i := slices.IndexFunc(l.entries, func(e entry) bool { return e.repository == ref.Repository && e.d.Digest == ref.Digest && e.err == nil })
		if i < 0 {
			return entry{}, false
		}
		return l.entries[i], true
	}
	if e, changed := l.changes[n]; changed {
		if e == nil {
			return entry{}, false
		}
		return *e, true
	}
	i := slices.IndexFunc(l.entries, func(e entry) bool { return e.label == n })
	if i < 0 {
		return entry{}, false
	}
	return l.entries[i], true
}

// file is where a blob lies.
func file(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

// head says what its index has, and lies there as well: what nothing in the index
// reaches might be lost.
func (l *Layout) head(ctx context.Context, ref Reference) (v1.Hash, bool, error) {
	e, ok := l.find(ref)
	if !ok || e.err != nil {
		return v1.Hash{}, false, l.fail(ref, "asking for", e.err)
	}
	if there, err := l.there(ctx, e.d); err != nil || !there {
		return v1.Hash{}, false, l.fail(ref, "asking for", err)
	}
	return e.d.Digest, true, nil
}

func (l *Layout) describe(ctx context.Context, ref Reference) (v1.Descriptor, error) {
	m, err := l.manifest(ctx, ref)
	return m.descriptor(), err
}

// there asks whether a blob lies there with its length.
func (l *Layout) there(ctx context.Context, d v1.Descriptor) (bool, error) {
	size, err := l.files.Stat(ctx, file(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && size == d.Size, err
}

func (l *Layout) manifest(ctx context.Context, ref Reference) (m manifest, err error) {
	defer func() { err = l.fail(ref, "reading", err) }()
	e, ok := l.find(ref)
	switch {
	case ok && e.err != nil:
		return manifest{}, e.err
	case !ok && ref.Tag != "":
		return manifest{}, ErrAbsent
	case !ok:
		e.d.Digest = ref.Digest
	}
	b, err := l.read(ctx, file(e.d.Digest), maxManifest)
	if err != nil {
		return manifest{}, err
	}
	if ok && int64(len(b)) != e.d.Size {
		return manifest{}, fmt.Errorf("%w: it has %d bytes, and should have %d", ErrDigest, len(b), e.d.Size)
	}
	if m, err = parse(http.Header{"Content-Type": {string(e.d.MediaType)}}, b, e.d.Digest); err == nil && m.mediaType == "" {
		m.mediaType = types.OCIManifestSchema1
		if p, err := m.parts(); err == nil && p.Manifests != nil {
			m.mediaType = types.OCIImageIndex
		}
	}
	return m, err
}

func (l *Layout) blob(ctx context.Context, _ string, d v1.Descriptor, from int64) (io.ReadCloser, error) {
	size, err := l.files.Stat(ctx, file(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrAbsent
	}
	if err == nil && size != d.Size {
		err = fmt.Errorf("%w: it has %d bytes, and should have %d", ErrDigest, size, d.Size)
	}
	if err != nil {
		return nil, err
	}
	return l.files.Open(ctx, file(d.Digest), from)
}

// referrers lists what refers to a manifest: what the index says so of, what others
// wrote into it that says so itself, and what lies under the tag for it.
func (l *Layout) referable(string, v1.Hash, map[string]bool) bool { return true }

func (l *Layout) referrers(ctx context.Context, repository string, digest v1.Hash, _ map[string]bool) (list []v1.Descriptor, err error) {
	all, err := l.subjects(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range all[digest] {
		if e.repository == repository || e.repository == "" {
			d := e.d
			d.Annotations = nil
			list = append(list, d)
		}
	}
	tag := Reference{Repository: repository, Tag: fallback(digest)}
	if _, ok := l.find(tag); ok {
		m, err := l.manifest(ctx, tag)
		if err != nil {
			return nil, err
		}
		p, err := m.parts()
		if err != nil {
			return nil, l.fail(tag, "reading", err)
		}
		list = append(list, p.Manifests...)
	}
	seen := map[v1.Hash]bool{}
	return slices.DeleteFunc(list, func(d v1.Descriptor) bool {
		again := seen[d.Digest]
		seen[d.Digest] = true
		return again
	}), nil
}

// subjects finds what each entry refers to. Entries of others are read for it, once; one
// that cannot be read is told of where it is copied.
func (l *Layout) subjects(ctx context.Context) (map[v1.Hash][]entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subject != nil {
		return l.subject, nil
	}
	found := map[v1.Hash][]entry{}
	for _, e := range l.entries {
		if e.err != nil {
			continue
		}
		said := e.subject
		if !e.ours {
			b, err := l.read(ctx, file(e.d.Digest), maxManifest)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				continue
			}
			said = subjectOf(b).String()
		}
		if d, err := v1.NewHash(said); err == nil {
			found[d] = append(found[d], e)
		}
	}
	l.subject = found
	return found, nil
}

// subjectOf is what a manifest refers to, empty for nothing.
func subjectOf(manifest []byte) v1.Hash {
	var m struct {
		Subject v1.Descriptor `json:"subject"`
	}
	if json.Unmarshal(manifest, &m) != nil {
		return v1.Hash{}
	}
	return m.Subject.Digest
}

// has leaves the answer to begin, which knows how long the blob has to be.
func (l *Layout) has(context.Context, string, v1.Hash) (bool, error) { return false, nil }

func (l *Layout) begin(ctx context.Context, _ string, d v1.Descriptor, _ string) (upload, bool, error) {
	there, err := l.there(ctx, d)
	return upload{}, there, err
}

func (l *Layout) upload(ctx context.Context, _ string, _ upload, d v1.Descriptor, body io.Reader) error {
	if err := l.first(ctx); err != nil {
		return err
	}
	return l.files.Put(ctx, file(d.Digest), d.Size, body)
}

// first writes the file that makes it a layout.
func (l *Layout) first(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun {
		return nil
	}
	const text = `{"imageLayoutVersion":"1.0.0"}`
	err := l.files.Put(ctx, layoutFile, int64(len(text)), strings.NewReader(text))
	l.begun = err == nil
	return err
}

func (l *Layout) put(ctx context.Context, ref Reference, m manifest) error {
	e := entry{label: label{ref.Repository, ref.Tag}, ours: true, d: v1.Descriptor{MediaType: m.mediaType, Digest: m.digest, Size: int64(len(m.bytes))}}
	if s := subjectOf(m.bytes); s != (v1.Hash{}) {
		e.subject = s.String()
	}
	p, err := m.parts()
	if err != nil {
		return err
	}
	if have, err := l.read(ctx, file(m.digest), maxManifest); err != nil || !bytes.Equal(have, m.bytes) {
		if err = l.first(ctx); err == nil {
			err = l.files.Put(ctx, file(m.digest), e.d.Size, bytes.NewReader(m.bytes))
		}
		if err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range p.Manifests {
		l.named[d.Digest] = true
	}
	if ref.Tag == "" {
		l.loose[label{ref.Repository, m.digest.String()}] = e
		return nil
	}
	l.changes[e.label] = &e
	return nil
}

// keepReferrers has nothing to do: what refers to something came without a tag, and
// stays in the index.
func (l *Layout) keepReferrers(context.Context, string, v1.Hash, []v1.Descriptor, sourceIndex) (v1.Hash, bool, error) {
	return v1.Hash{}, false, nil
}

func (l *Layout) leaves(context.Context, Reference) (bool, error) { return false, nil }

// untag takes a tag out of the index; its blobs stay.
func (l *Layout) untag(_ context.Context, ref Reference) error {
	if _, ok := l.find(ref); !ok {
		return ErrAbsent
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes[label{ref.Repository, ref.Tag}] = nil
	return nil
}

// Commit writes the index: what was there with what came. Until then a layout is as it
// was, but for blobs that nothing names yet.
func (l *Layout) Commit(ctx context.Context) error {
	return l.fail(Reference{}, "writing "+indexFile, l.commit(ctx))
}

func (l *Layout) commit(ctx context.Context) error {
	if err := l.first(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all, list, err := l.index(ctx) // anew: somebody else may have written it
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if missing {
		all = map[string]json.RawMessage{"schemaVersion": json.RawMessage("2"), "mediaType": json.RawMessage(`"` + types.OCIImageIndex + `"`)}
	}
	merged, changed := l.merge(list)
	if !changed && !missing {
		return nil
	}
	raw := make([]json.RawMessage, len(merged))
	for i, e := range merged {
		if raw[i] = e.raw; raw[i] == nil {
			if raw[i], err = json.Marshal(e.described()); err != nil {
				return err
			}
		}
	}
	if all["manifests"], err = json.Marshal(raw); err != nil {
		return err
	}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if len(b) > maxIndex {
		return fmt.Errorf("it would have more than %d bytes; split what it holds over several layouts", maxIndex)
	}
	if err := l.files.Put(ctx, indexFile, int64(len(b)), bytes.NewReader(b)); err != nil {
		return err
	}
	l.entries, l.subject = merged, nil
	l.changes, l.loose, l.gone = map[label]*entry{}, map[label]entry{}, map[label]bool{}
	return nil
}

// merge makes the entries of what was there and what came: what stays keeps its place,
// what is new follows, sorted. The lock is held.
func (l *Layout) merge(was []entry) (list []entry, changed bool) {
	had := map[label]bool{}
	for _, e := range was {
		n := e.label
		if n.tag == "" {
			n.tag = e.d.Digest.String()
		}
		c, touched := l.changes[e.label]
		switch {
		case e.tag == "" && l.gone[n]:
			changed = true
		case !touched || c != nil && c.d.Digest == e.d.Digest && e.err == nil:
			had[n] = true
			list = append(list, e)
		default:
			changed = true
		}
	}
	var fresh []entry
	for n, e := range l.changes {
		if e != nil && !had[n] {
			fresh = append(fresh, *e)
		}
	}
	for n, e := range l.loose {
		if !had[n] && (e.subject != "" || !l.named[e.d.Digest]) {
			fresh = append(fresh, e)
		}
	}
	slices.SortFunc(fresh, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.repository, b.repository), cmp.Compare(a.tag, b.tag), cmp.Compare(a.d.Digest.Hex, b.d.Digest.Hex))
	})
	return append(list, fresh...), changed || len(fresh) > 0
}

// described is an entry as the index has it.
func (e entry) described() v1.Descriptor {
	d := e.d
	d.Annotations = map[string]string{repositoryAnnotation: e.repository}
	switch {
	case e.tag != "" && e.repository != "":
		d.Annotations[nameAnnotation] = e.repository + ":" + e.tag
	case e.tag != "":
		d.Annotations[nameAnnotation] = e.tag
	}
	if e.subject != "" {
		d.Annotations[subjectAnnotation] = e.subject
	}
	return d
}
