package embedded

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// untagged removes the manifests of a repository that no tag reaches. In a dry
// run the tags that would go count as gone.
func (j *retentionJob) untagged(ctx context.Context, name string, stay map[string]digest.Digest) error {
	loose, err := j.storage.Loose(ctx, name, stay, j.young(name, 0))
	if err != nil || len(loose) == 0 {
		return err
	}
	young := j.young(name, 0)
	if !j.dry {
		skew, err := j.storage.Skew(ctx)
		if err != nil {
			return err
		}
		defer j.lock(name)()
		if stay, err = j.tagged(ctx, name); errors.Is(err, storage.ErrDamaged) {
			return nil
		} else if err != nil {
			return err
		}
		young = j.young(name, skew)
		if loose, err = j.storage.Loose(ctx, name, stay, young); err != nil {
			return err
		}
	}
	// what somebody was told of just now stays
	loose = slices.DeleteFunc(loose, func(d digest.Digest) bool { return young(storage.Link{Name: d}) })
	for some := range slices.Chunk(loose, batchSize) {
		rows, list := make([]ManifestReport, len(some)), make([]removal, len(some))
		for i, d := range some {
			rows[i].Repository, rows[i].Digest = name, d
			list[i] = removal{Repository: name, Reference: d.String()}
		}
		if !j.dry {
			j.together(ctx, list, func(i int) error {
				err := j.storage.RemoveManifest(ctx, name, some[i], time.Time{})
				if err != nil {
					rows[i].Error = err.Error()
				}
				j.times.removed(name, some[i].String())
				return err
			})
		}
		j.report.Untagged = append(j.report.Untagged, rows...)
	}
	return nil
}

func (j *retentionJob) tagged(ctx context.Context, name string) (map[string]digest.Digest, error) {
	tags, err := j.storage.Tags(ctx, name)
	out := map[string]digest.Digest{}
	for _, tag := range tags {
		if out[tag], err = j.storage.Tag(ctx, name, tag); err != nil {
			return nil, err
		}
	}
	return out, err
}

// young reports whether a manifest is too young to go, as collection has it, by
// the storage's time: it was put there, or said to be there, a short while ago.
func (j *retentionJob) young(name string, skew time.Duration) func(storage.Link) bool {
	delay := collectingBy(j.state().doc.gc(), j.dry).delay
	return func(l storage.Link) bool {
		return j.now.Add(skew).Sub(l.Made) < delay || j.now.Sub(j.seen(name, l.Name)) < delay
	}
}
