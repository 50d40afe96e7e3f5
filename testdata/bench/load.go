//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	tags         = 50
	layers       = 2
	layerBytes   = 8 << 10
	largeBytes   = 1 << 30
	heads        = 1000
	atOnce       = 8 // requests, where several are under way
	repositories = 2000
	page         = 100 // what a client gets that does not ask for more
)

// blob is content of which some is in memory or all in a file.
type blob struct {
	digest digest.Digest
	data   []byte
	file   string
	size   int64
}

func blobOf(data []byte) blob {
	return blob{digest: digest.FromBytes(data), data: data, size: int64(len(data))}
}

// image is a manifest and what it names, the configuration last.
type image struct {
	manifest []byte
	digest   digest.Digest
	blobs    []blob
}

func imageOf(blobs ...blob) (image, error) {
	config := blobOf(fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, blobs[0].digest))
	m := imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
		Config: imagespec.Descriptor{MediaType: imagespec.MediaTypeImageConfig, Digest: config.digest, Size: config.size},
	}
	for _, b := range blobs {
		m.Layers = append(m.Layers, imagespec.Descriptor{MediaType: imagespec.MediaTypeImageLayer, Digest: b.digest, Size: b.size})
	}
	body, err := json.Marshal(m)
	return image{body, digest.FromBytes(body), append(blobs, config)}, err
}

// images are n of small layers, no two alike: the seed decides.
func images(n int, seed uint64) ([]image, error) {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	out := make([]image, n)
	for i := range out {
		var blobs []blob
		for range layers {
			data := make([]byte, layerBytes)
			random.Read(data) //nolint:errcheck // never fails
			blobs = append(blobs, blobOf(data))
		}
		var err error
		if out[i], err = imageOf(blobs...); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// large writes a blob of some bytes, another one for each seed.
func large(name string, bytes int64, seed byte) (blob, error) {
	f, err := os.Create(name)
	if err != nil {
		return blob{}, err
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{seed})
	d := digest.Canonical.Digester()
	n, err := io.CopyN(io.MultiWriter(f, d.Hash()), random, bytes)
	return blob{digest: d.Digest(), file: name, size: n}, errors.Join(err, f.Sync())
}

// reader is of a body; its length lies beside it.
func (b blob) reader() (io.ReadCloser, error) {
	if b.file != "" {
		return os.Open(b.file)
	}
	return io.NopCloser(bytes.NewReader(b.data)), nil
}

// tagged is the tag of an image of several.
func tagged(i int) string { return fmt.Sprintf("t%d", i) }

// ask sends one request and fails if the answer is not the one that is due.
// The body is the caller's to close.
func (s *server) ask(ctx context.Context, method, location string, body *blob, header http.Header, due int) (*http.Response, error) {
	if strings.HasPrefix(location, "/") {
		location = s.url(location)
	}
	req, err := http.NewRequestWithContext(ctx, method, location, nil)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	if body != nil {
		if req.Body, err = body.reader(); err != nil {
			return nil, err
		}
		req.ContentLength = body.size
	}
	if s.user != "" {
		req.SetBasicAuth(s.user, password)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	if resp.StatusCode != due {
		said, err := io.ReadAll(io.LimitReader(resp.Body, 2000))
		return nil, errors.Join(fmt.Errorf("%s: %s %s: %s instead of %d: %s", s.name, method, location, resp.Status, due, said), err, resp.Body.Close())
	}
	return resp, nil
}

// told is ask for an answer whose body is of no interest.
func (s *server) told(ctx context.Context, method, location string, body *blob, header http.Header, due int) (http.Header, error) {
	resp, err := s.ask(ctx, method, location, body, header, due)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.Header, errors.Join(err, resp.Body.Close())
}

// pushBlob does as clients do: is it there, begin, send, commit.
func (s *server) pushBlob(ctx context.Context, repository string, b blob) error {
	if _, err := s.told(ctx, http.MethodHead, "/v2/"+repository+"/blobs/"+b.digest.String(), nil, nil, http.StatusNotFound); err != nil {
		return err
	}
	header, err := s.told(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil, nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	header, err = s.told(ctx, http.MethodPatch, header.Get("Location"), &b, http.Header{"Content-Type": {"application/octet-stream"}}, http.StatusAccepted)
	if err != nil {
		return err
	}
	at, err := url.Parse(header.Get("Location"))
	if err != nil {
		return err
	}
	query := at.Query()
	query.Set("digest", b.digest.String())
	at.RawQuery = query.Encode()
	_, err = s.told(ctx, http.MethodPut, at.String(), nil, nil, http.StatusCreated)
	return err
}

func (s *server) pushManifest(ctx context.Context, repository, tag string, m image) error {
	body := blob{data: m.manifest, size: int64(len(m.manifest))}
	_, err := s.told(ctx, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, &body, http.Header{"Content-Type": {imagespec.MediaTypeImageManifest}}, http.StatusCreated)
	return err
}

func (s *server) push(ctx context.Context, repository, tag string, m image) error {
	for _, b := range m.blobs {
		if err := s.pushBlob(ctx, repository, b); err != nil {
			return err
		}
	}
	return s.pushManifest(ctx, repository, tag, m)
}

// accept is what clients take as a manifest.
func accept() http.Header {
	return http.Header{"Accept": {
		imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageIndex,
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	}}
}

// pull gets the manifest by its tag, then what it names, and checks all of it.
func (s *server) pull(ctx context.Context, repository, tag string, m image) error {
	if err := s.get(ctx, "/v2/"+repository+"/manifests/"+tag, accept(), blob{digest: m.digest, size: int64(len(m.manifest))}); err != nil {
		return err
	}
	for _, b := range m.blobs {
		if err := s.get(ctx, "/v2/"+repository+"/blobs/"+b.digest.String(), nil, b); err != nil {
			return err
		}
	}
	return nil
}

// get reads content and checks it: by its size alone where it is large, since
// what the client does is measured with the rest.
func (s *server) get(ctx context.Context, path string, header http.Header, want blob) error {
	resp, err := s.ask(ctx, http.MethodGet, path, nil, header, http.StatusOK)
	if err != nil {
		return err
	}
	var sum hash.Hash
	to := io.Discard
	if want.size < largeBytes {
		sum = digest.Canonical.Hash()
		to = sum
	}
	// Without ReadFrom, so that it is this buffer which is used.
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, resp.Body, make([]byte, min(want.size+1, 256<<10)))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if n != want.size || sum != nil && digest.NewDigest(digest.Canonical, sum) != want.digest {
		return fmt.Errorf("%s: GET %s: %d bytes, and not what was pushed", s.name, path, n)
	}
	return nil
}

// head asks for manifests by their tags, n times, by some clients at once.
func (s *server) head(ctx context.Context, repository string, all []image, n, clients int) error {
	return side(clients, n, func(i int) error {
		m := all[i%len(all)]
		header, err := s.told(ctx, http.MethodHead, "/v2/"+repository+"/manifests/"+tagged(i%len(all)), nil, accept(), http.StatusOK)
		if err == nil && header.Get("Docker-Content-Digest") != m.digest.String() {
			err = fmt.Errorf("%s: HEAD: digest %s, not %s", s.name, header.Get("Docker-Content-Digest"), m.digest)
		}
		return err
	})
}

// side does n things, some at once, and returns the first error of each who
// does them.
func side(clients, n int, do func(i int) error) error {
	errs := make([]error, clients)
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := c; i < n && errs[c] == nil; i += clients {
				errs[c] = do(i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// fill makes the repositories of the catalogue, all of one image.
func (s *server) fill(ctx context.Context, m image) error {
	base := s.namespace + "/base"
	if err := s.push(ctx, base, "t0", m); err != nil {
		return err
	}
	return side(atOnce, repositories-1, func(i int) error {
		name := fmt.Sprintf("%s/of-%d/app-%04d", s.namespace, i%7, i)
		for _, b := range m.blobs {
			mount := url.Values{"mount": {b.digest.String()}, "from": {base}}
			if _, err := s.told(ctx, http.MethodPost, "/v2/"+name+"/blobs/uploads/?"+mount.Encode(), nil, nil, http.StatusCreated); err != nil {
				return err
			}
		}
		return s.pushManifest(ctx, name, "t0", m)
	})
}

// catalogue lists all repositories, page by page, and fails unless there are
// as many as were made, or more, each once.
func (s *server) catalogue(ctx context.Context) error {
	var found []string
	for next := fmt.Sprintf("/v2/_catalog?n=%d", page); next != ""; {
		resp, err := s.ask(ctx, http.MethodGet, next, nil, nil, http.StatusOK)
		if err != nil {
			return err
		}
		var list struct {
			Repositories []string `json:"repositories"`
		}
		err = json.NewDecoder(resp.Body).Decode(&list)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		found = append(found, list.Repositories...)
		next = ""
		if link, _, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">"); ok {
			at, err := resp.Request.URL.Parse(link)
			if err != nil {
				return err
			}
			next = at.String()
		}
	}
	n := len(found)
	slices.Sort(found)
	if found = slices.Compact(found); n < repositories || len(found) != n {
		return fmt.Errorf("%s: the catalogue lists %d repositories, %d different ones; at least %d are there", s.name, n, len(found), repositories)
	}
	return nil
}
