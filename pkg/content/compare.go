package content

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/providers"
)

// Difference is a tag, or something that refers to one, that two sides do not have
// alike.
type Difference struct {
	Source, Target Reference
	Why            string
}

// Comparison is what two sides have.
type Comparison struct {
	Tags, Referrers int // that are alike
	Differences     []Difference
}

// Compare holds every tag of repositories against its copy, by digest, and what refers
// to them. It reads no content. Tags that the target has besides are no difference.
func Compare(ctx context.Context, from, to Source, items []Item, atOnce int) (Comparison, error) {
	var mu sync.Mutex
	var out Comparison
	var failed error
	each(max(atOnce, 1), items, func(item Item) {
		c, err := compareOne(ctx, from, to, item)
		mu.Lock()
		defer mu.Unlock()
		out.Tags, out.Referrers = out.Tags+c.Tags, out.Referrers+c.Referrers
		out.Differences = append(out.Differences, c.Differences...)
		if failed == nil {
			failed = err
		}
	})
	slices.SortFunc(out.Differences, func(a, b Difference) int { return strings.Compare(a.Source.String(), b.Source.String()) })
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	return out, failed
}

func compareOne(ctx context.Context, from, to Source, item Item) (Comparison, error) {
	var out Comparison
	tags, ok, err := from.Tags(ctx, item.Source)
	if err != nil || !ok {
		return out, err
	}
	have, _, err := to.Tags(ctx, item.Target)
	if err != nil && (ctx.Err() != nil || errors.Is(err, providers.ErrUnreachable)) {
		return out, err
	}
	if err != nil { // such as of a name that a registry cannot have
		out.Differences = append(out.Differences, Difference{Reference{Repository: item.Source}, Reference{Repository: item.Target}, err.Error()})
		return out, nil //nolint:nilerr // it is told as a difference
	}
	listed := map[string]bool{}
	for _, t := range tags {
		listed[t] = true
	}
	copied := map[string]bool{}
	for _, t := range have {
		copied[t] = true
	}
	seen, told := map[v1.Hash]bool{}, map[v1.Hash]bool{}
	images, indexes := []string{}, []string{} // what is missed of an image is told of the image
	for _, t := range tags {
		if _, kept := keptFor(t); kept {
			indexes = append(indexes, t)
		} else {
			images = append(images, t)
		}
	}
	for _, t := range slices.Concat(images, indexes) {
		if item.Keep != nil && !item.Keep(t) {
			continue
		}
		a, b := Reference{Repository: item.Source, Tag: t}, Reference{Repository: item.Target, Tag: t}
		is, err := from.describe(ctx, a)
		if errors.Is(err, ErrAbsent) { // deleted meanwhile
			continue
		}
		if err != nil {
			return out, err
		}
		want := is.Digest
		why, err := otherwise(ctx, from, to, a, b, want, copied)
		if err != nil {
			return out, err
		}
		if len(why.missing) > 0 {
			why.missing = slices.DeleteFunc(why.missing, func(d v1.Hash) bool { return told[d] })
			if len(why.missing) == 0 { // which its image has been told of
				continue
			}
			why.text = fmt.Sprintf("it lists %s, which is not listed there", why.missing[0])
		}
		if why.text != "" {
			out.Differences = append(out.Differences, Difference{a, b, why.text})
			continue
		}
		out.Tags++
		if seen[want] {
			continue
		}
		seen[want] = true
		family, err := partsOf(ctx, from, item.Source, is, nil, listed, 0)
		if err != nil {
			return out, err
		}
		for _, of := range append([]v1.Hash{want}, family...) {
			n, missing, err := compareReferrers(ctx, from, to, item, of, listed, copied)
			if err != nil {
				return out, err
			}
			out.Referrers += n
			for _, d := range missing {
				told[d] = true
				out.Differences = append(out.Differences, Difference{Reference{Repository: item.Source, Digest: d}, Reference{Repository: item.Target, Digest: d}, "it refers to " + t + ", and is not listed there"})
			}
		}
	}
	return out, nil
}

// unlike says why a tag is not alike on both sides: nothing where it is.
type unlike struct {
	text    string
	missing []v1.Hash // of an index of what refers to a manifest, what the target does not list
}

// otherwise compares a tag, which is want at the source. An index that clients keep of what
// refers to a manifest is compared by what it lists: registries may list that by
// themselves, and have more.
func otherwise(ctx context.Context, from, to Source, a, b Reference, want v1.Hash, copied map[string]bool) (unlike, error) {
	subject, kept := keptFor(a.Tag)
	var got v1.Hash
	there := copied[b.Tag]
	// Harbor need not list among its tags those of what belongs to an image.
	if there || attached.MatchString(b.Tag) && !kept {
		var err error
		if got, there, err = to.head(ctx, b); err != nil {
			return unlike{}, err
		}
	}
	if there && got == want {
		return unlike{}, nil
	}
	if kept {
		m, err := from.manifest(ctx, Reference{Repository: a.Repository, Digest: want})
		if err != nil {
			return unlike{}, err
		}
		if m.mediaType.IsIndex() {
			missing, err := unlisted(ctx, from, to, m, a, b, subject, there, copied)
			return unlike{missing: missing}, err
		}
	}
	if !there {
		return unlike{text: "it is not there"}, nil
	}
	return unlike{text: fmt.Sprintf("it is %s there, and %s at the source", got, want)}, nil
}

// unlisted finds what an index of what refers to a manifest lists, and the target does
// neither by itself nor in its own index.
func unlisted(ctx context.Context, from, to Source, m manifest, a, b Reference, subject v1.Hash, there bool, copied map[string]bool) (missing []v1.Hash, err error) {
	p, err := m.parts()
	if err != nil {
		return nil, from.fail(a, "reading", err)
	}
	got, err := to.referrers(ctx, b.Repository, subject, copied)
	if err != nil {
		return nil, err
	}
	if there && !hasAll(got, p.Manifests) {
		own, err := to.manifest(ctx, b)
		if err != nil {
			return nil, err
		}
		if q, err := own.parts(); err == nil {
			got = append(got, q.Manifests...)
		}
	}
	for _, d := range p.Manifests {
		if !hasAll(got, []v1.Descriptor{d}) {
			missing = append(missing, d.Digest)
		}
	}
	return missing, nil
}

// compareReferrers counts what refers to a digest at both, and lists what the target
// lacks.
func compareReferrers(ctx context.Context, from, to Source, item Item, digest v1.Hash, listed, copied map[string]bool) (n int, missing []v1.Hash, err error) {
	want, err := from.referrers(ctx, item.Source, digest, listed)
	if err != nil || len(want) == 0 {
		return 0, nil, err
	}
	got, err := to.referrers(ctx, item.Target, digest, copied)
	if err != nil {
		return 0, nil, err
	}
	for _, w := range want {
		there := slices.ContainsFunc(got, func(g v1.Descriptor) bool { return g.Digest == w.Digest })
		if !there {
			if there, err = belongsByTag(ctx, from, to, item, w.Digest); err != nil {
				return 0, nil, err
			}
		}
		if there {
			n++
		} else {
			missing = append(missing, w.Digest)
		}
	}
	return n, missing, nil
}

// belongsByTag reports whether a manifest names nothing that it refers to, and the target
// has it: Harbor lists what belongs to an image by its tag alone, others do not.
func belongsByTag(ctx context.Context, from, to Source, item Item, digest v1.Hash) (bool, error) {
	m, err := from.manifest(ctx, Reference{Repository: item.Source, Digest: digest})
	if err != nil {
		return false, err
	}
	var names struct {
		Subject *v1.Descriptor `json:"subject"`
	}
	if err := json.Unmarshal(m.bytes, &names); err != nil || names.Subject != nil {
		return false, nil //nolint:nilerr // what is no JSON is found where it is copied
	}
	_, ok, err := to.head(ctx, Reference{Repository: item.Target, Digest: digest})
	return ok, err
}

// Shard is a part of the work of several: those repositories of which it is the turn, by
// their names alone, so that no two have the same and none is left out, whoever counts.
type Shard struct {
	Index, Of int            // Index is from 0
	turn      map[string]int // of the repositories whose sizes are known
}

// Balance makes the parts alike by what the repositories have. Every shard must be told
// the same sizes: a repository that some were not told of could be left out.
func (s Shard) Balance(sizes map[string]int64) Shard {
	s.turn = map[string]int{}
	if s.Of <= 1 {
		return s
	}
	names := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), strings.Compare(a, b))
	})
	has := make([]int64, s.Of)
	for _, n := range names { // the largest first, to who has least
		least := 0
		for i := range has {
			if has[i] < has[least] {
				least = i
			}
		}
		s.turn[n] = least
		has[least] += max(sizes[n], 1)
	}
	return s
}

// Has reports whether a repository is of the shard. Which of several shards has it
// depends on its name and their number (rendezvous hashing), or on the sizes.
func (s Shard) Has(repository string) bool {
	if s.Of <= 1 {
		return true
	}
	if i, ok := s.turn[repository]; ok {
		return i == s.Index
	}
	best, at := uint64(0), -1
	for i := range s.Of {
		if w := weight(repository, i); at < 0 || w > best {
			best, at = w, i
		}
	}
	return at == s.Index
}

func weight(repository string, shard int) uint64 {
	sum := sha256.Sum256([]byte(strconv.Itoa(shard) + "/" + repository))
	return binary.BigEndian.Uint64(sum[:8])
}
