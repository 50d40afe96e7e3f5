package content

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/bmatcuk/doublestar/v4"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// Selection chooses tags of a repository: those that meet every condition. The zero
// value chooses all.
type Selection struct {
	// List names them, with TAG@DIGEST one as it was when it had that digest.
	List   []string
	Glob   string // of doublestar
	Regex  *regexp.Regexp
	Semver *semver.Constraints
	// Newest of those that are left: by version where all are versions, else by when
	// they were made. 0 is all.
	Newest int
	// Since is the time since which they were made; zero is any.
	Since time.Time
}

// attached matches the tags under which clients keep what belongs to a digest
// (OCI distribution specification, "Referrers Tag Schema"; cosign adds a suffix). They
// come along with what they belong to, and are chosen by nobody.
var attached = regexp.MustCompile(`^sha(256|512)-[0-9a-f]{64,128}(\.(sig|att|sbom))?$`)

// choice is a tag that was chosen.
type choice struct {
	tag string
	pin v1.Hash // empty: as it is now
}

// in is what is read of it.
func (c choice) in(repository string) Reference {
	if c.pin != (v1.Hash{}) {
		return Reference{Repository: repository, Digest: c.pin}
	}
	return Reference{Repository: repository, Tag: c.tag}
}

// listed reports whether the selection names its tags, so that no list is needed.
func (s Selection) listed() bool { return len(s.List) > 0 }

// choose picks from the tags of a repository; of a selection that names its own,
// tags are nil. lost are those that nobody can tell when they were made.
func (s Selection) choose(ctx context.Context, from Source, repository string, tags []string) (list []choice, lost []Refused, err error) {
	if s.listed() {
		for _, text := range s.List {
			c := choice{tag: text}
			if tag, digest, ok := strings.Cut(text, "@"); ok {
				pin, err := v1.NewHash(digest)
				if err != nil {
					return nil, nil, fmt.Errorf("%s is no tag with its digest; write TAG@sha256:…", text)
				}
				c = choice{tag, pin}
			}
			list = append(list, c)
		}
	}
	for _, t := range tags {
		if !attached.MatchString(t) {
			list = append(list, choice{tag: t})
		}
	}
	list = slices.DeleteFunc(list, func(c choice) bool { return !s.names(c.tag) })
	if s.Since.IsZero() && s.Newest == 0 {
		return list, nil, nil
	}
	return s.latest(ctx, from, repository, list)
}

// Names reports whether a tag may be one that the selection chooses, by its name.
func (s Selection) Names(tag string) bool {
	if s.listed() {
		return slices.ContainsFunc(s.List, func(x string) bool { name, _, _ := strings.Cut(x, "@"); return name == tag }) && s.names(tag)
	}
	return !attached.MatchString(tag) && s.names(tag)
}

// names reports whether a tag's name meets the conditions that speak of names.
func (s Selection) names(tag string) bool {
	if s.Semver != nil {
		v, err := semver.NewVersion(tag)
		if err != nil || !s.Semver.Check(v) {
			return false
		}
	}
	return (s.Glob == "" || doublestar.MatchUnvalidated(s.Glob, tag)) && (s.Regex == nil || s.Regex.MatchString(tag))
}

// latest keeps those that were made since a time, and the newest of them.
func (s Selection) latest(ctx context.Context, from Source, repository string, list []choice) (out []choice, lost []Refused, err error) {
	type dated struct {
		choice
		version *semver.Version
		made    time.Time
		lost    error
	}
	all := make([]dated, len(list))
	versions := true
	for i, c := range list {
		all[i].choice = c
		var err error
		if all[i].version, err = semver.NewVersion(c.tag); err != nil {
			versions = false
		}
	}
	if !s.Since.IsZero() || !versions {
		asking, ctx := errgroup.WithContext(ctx)
		asking.SetLimit(smallAtOnce)
		for i := range all {
			asking.Go(func() (err error) {
				if all[i].made, err = createdAt(ctx, from, all[i].in(repository)); ofOne(err) {
					all[i].lost, err = err, nil
				}
				return err
			})
		}
		if err := asking.Wait(); err != nil {
			return nil, nil, err
		}
	}
	all = slices.DeleteFunc(all, func(d dated) bool {
		if d.lost != nil {
			lost = append(lost, Refused{Step{Tag: d.tag, To: d.pin}, d.lost})
		}
		return d.lost != nil
	})
	if !s.Since.IsZero() {
		all = slices.DeleteFunc(all, func(d dated) bool { return d.made.Before(s.Since) })
	}
	slices.SortStableFunc(all, func(a, b dated) int {
		if versions {
			return cmp.Or(b.version.Compare(a.version), strings.Compare(a.tag, b.tag))
		}
		return cmp.Or(b.made.Compare(a.made), strings.Compare(a.tag, b.tag))
	})
	if s.Newest > 0 && len(all) > s.Newest {
		all = all[:s.Newest]
	}
	for _, d := range all {
		out = append(out, d.choice)
	}
	slices.SortFunc(out, func(a, b choice) int { return strings.Compare(a.tag, b.tag) })
	return out, lost, nil
}

// maxConfig bounds the configuration of an image, in bytes.
const maxConfig = 4 << 20

// createdAt tells when content was made, as it says itself (OCI image specification,
// "Annotations" and "Image Configuration"); the zero time where it does not say.
func createdAt(ctx context.Context, from Source, ref Reference) (time.Time, error) {
	m, err := from.manifest(ctx, ref)
	for depth := 0; err == nil; depth++ {
		var said struct {
			Annotations map[string]string `json:"annotations"`
			Config      *v1.Descriptor    `json:"config"`
			Manifests   []v1.Descriptor   `json:"manifests"`
		}
		if err := json.Unmarshal(m.bytes, &said); err != nil {
			return time.Time{}, from.fail(ref, "reading", fmt.Errorf("%w: %w", ErrManifest, err))
		}
		if t, err := time.Parse(time.RFC3339, said.Annotations["org.opencontainers.image.created"]); err == nil {
			return t, nil
		}
		switch {
		case len(said.Manifests) > 0 && depth < deepest:
			m, err = from.manifest(ctx, Reference{Repository: ref.Repository, Digest: said.Manifests[0].Digest})
			continue
		case said.Config == nil, said.Config.MediaType != types.OCIConfigJSON && said.Config.MediaType != types.DockerConfigJSON, said.Config.Size > maxConfig:
			return time.Time{}, nil
		}
		return configured(ctx, from, ref.Repository, *said.Config)
	}
	return time.Time{}, err
}

// configured reads when an image was made from its configuration.
func configured(ctx context.Context, from Source, repository string, d v1.Descriptor) (time.Time, error) {
	ref := Reference{Repository: repository, Digest: d.Digest}
	body, err := from.blob(ctx, repository, d, 0)
	if err != nil {
		return time.Time{}, from.fail(ref, "reading", err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxConfig))
	if err != nil {
		return time.Time{}, from.fail(ref, "reading", err)
	}
	if got, err := hashOf(d.Digest.Algorithm, b); err != nil || got != d.Digest {
		return time.Time{}, from.fail(ref, "reading", errors.Join(ErrDigest, err))
	}
	var said struct {
		Created time.Time `json:"created"`
	}
	if json.Unmarshal(b, &said) != nil { // of something else under that type
		return time.Time{}, nil
	}
	return said.Created, nil
}
