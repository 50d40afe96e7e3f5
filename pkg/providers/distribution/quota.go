package distribution

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/measure"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// Distribution limits no bytes. A job measures what the namespaces with a quota
// use and tells the token service, which gives no token to push in one that is
// not below its limit, but to admin users.

const (
	// quotaEvery is how often that is done while the token service is served.
	quotaEvery  = time.Minute
	maxManifest = 32 << 20 // bytes; Distribution takes 4 MiB
	maxLink     = 1 << 10  // bytes; a digest
)

var (
	_ providers.Withholder = (*Provider)(nil)
	_ providers.Attendant  = (*Provider)(nil)
)

// revisions is Distribution's content in a directory of this host. It
// implements [measure.Content].
type revisions struct{ root string } // with repositories and blobs

func (r revisions) dir(repository string) string {
	return filepath.Join(r.root, "repositories", filepath.FromSlash(repository))
}

// Repositories implements [measure.Content].
func (r revisions) Repositories(namespace string) (list []string, err error) {
	err = filepath.WalkDir(r.dir(namespace), func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // nothing was pushed, or it went meanwhile
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		case d.Name() == "_manifests":
			below, err := filepath.Rel(r.dir(namespace), filepath.Dir(name))
			if err != nil {
				return err
			}
			list = append(list, path.Join(namespace, filepath.ToSlash(below)))
		}
		if strings.HasPrefix(d.Name(), "_") { // no part of a repository's name
			return fs.SkipDir
		}
		return nil
	})
	return list, err
}

// Stamp implements [measure.Content]: a manifest that is deleted leaves no trace
// above it.
func (revisions) Stamp(string) (string, error) { return "", nil }

// Manifests implements [measure.Content].
func (r revisions) Manifests(repository string) (list []string, err error) {
	root := filepath.Join(r.dir(repository), "_manifests", "revisions")
	algorithms, err := entries(root)
	if err != nil {
		return nil, err
	}
	for _, a := range algorithms {
		sums, err := entries(filepath.Join(root, a))
		if err != nil {
			return nil, err
		}
		for _, hex := range sums {
			switch _, err := os.Lstat(filepath.Join(root, a, hex, "link")); {
			case err == nil:
				list = append(list, a+":"+hex)
			case !errors.Is(err, fs.ErrNotExist): // it is there until somebody deletes it
				return nil, err
			}
		}
	}
	return list, nil
}

// entries lists a directory's names; one that is not there has none.
func entries(dir string) (names []string, err error) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, nil
}

// Manifest implements [measure.Content].
func (r revisions) Manifest(_, digest string) ([]byte, error) {
	name, err := r.blob(digest)
	if err != nil {
		return nil, err
	}
	in, err := os.OpenRoot(r.root)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return regular.ReadIn(in, name, maxManifest)
}

// Size implements [measure.Content]. Distribution keeps all content by sha256, and
// links to it by the digest that a client named.
func (r revisions) Size(repository, digest string) (int64, error) {
	algorithm, hex, err := measure.Split(digest)
	if err != nil {
		return 0, err
	}
	if algorithm != "sha256" {
		in, err := os.OpenRoot(r.root)
		if err != nil {
			return 0, err
		}
		defer in.Close()
		target, err := regular.ReadIn(in, filepath.Join("repositories", filepath.FromSlash(repository), "_layers", algorithm, hex, "link"), maxLink)
		if err != nil {
			return 0, err
		}
		digest = string(target)
	}
	name, err := r.blob(digest)
	if err != nil {
		return 0, err
	}
	info, err := os.Lstat(filepath.Join(r.root, name))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// blob is where the bytes lie, below the root.
func (revisions) blob(digest string) (string, error) {
	algorithm, hex, err := measure.Split(digest)
	if err != nil {
		return "", err
	}
	return filepath.Join("blobs", algorithm, hex[:2], hex, "data"), nil
}

// content is the directory of content on this host, "" where it lies elsewhere.
// That of a registry without a configuration is where it will be made.
func (p *Provider) content() string {
	if root := p.filesystem(); root != "" || p.registry.Run == nil {
		return root
	}
	if _, err := p.file(); errors.Is(err, fs.ErrNotExist) {
		return p.storage()
	}
	return ""
}

// unmeasured says why a quota cannot be kept here, or "".
func (p *Provider) unmeasured() string {
	switch {
	case p.place.Data == "":
		return "ocisync measures where the content of the registry lies; write the quota where it runs"
	case p.content() == "":
		return "its content is not in a directory of this host, where ocisync could measure it"
	}
	return ""
}

// Attend implements [providers.Attendant]: it measures.
func (p *Provider) Attend(ctx context.Context) (time.Duration, error) {
	if p.accounts == nil || p.place.Data == "" {
		return quotaEvery, nil
	}
	report, err := p.run(ctx, jobQuota, nil, false)
	for _, m := range report.Measured {
		if m.Changed {
			p.logger.Warn("quota measured", "namespace", m.Namespace, "used", m.Used.Human(), "quota", m.Limit.Human(), "push", m.Push())
		}
	}
	return quotaEvery, err
}

// Withheld implements [providers.Withholder].
func (p *Provider) Withheld(ctx context.Context) (list []string, err error) {
	if p.accounts == nil {
		return nil, nil
	}
	_, full, _, err := p.accounts.Quotas(ctx)
	for ns := range full {
		list = append(list, ns)
	}
	slices.Sort(list)
	return list, err
}

// fullNotes tell of the quotas of what is declared that are used up.
func (p *Provider) fullNotes(ctx context.Context, desired schema.State) (notes []plan.Note, err error) {
	if !slices.Contains(desired.Kinds(), schema.KindNamespace) {
		return nil, nil
	}
	limits, full, _, err := p.accounts.Quotas(ctx)
	for _, ns := range slices.Sorted(maps.Keys(full)) {
		if note, ok := providers.FullNote(desired, ns, full[ns].Used, limits[ns], full[ns].Since); ok {
			notes = append(notes, note)
		}
	}
	return notes, err
}

// enforce measures the namespaces that have a quota, and tells the token
// service. Of one that cannot be measured nothing changes.
func (p *Provider) enforce(ctx context.Context, dry bool) (list []providers.Measured, err error) {
	if p.accounts == nil {
		return nil, p.jobError(jobQuota, fmt.Errorf("it has no rules: %w", providers.ErrUnsupported), "name its token service in registry.token")
	}
	limits, full, namespaces, err := p.accounts.Quotas(ctx)
	if err != nil || len(limits) == 0 {
		return nil, err
	}
	root := p.content()
	var away error
	if root == "" {
		away = errors.New(p.unmeasured())
	} else if _, away = os.Stat(root); away != nil && errors.Is(away, fs.ErrNotExist) {
		away = fmt.Errorf("%w: is it mounted?", away)
	}
	content := revisions{filepath.Join(root, contentDir)}
	all := map[string]bool{}
	for _, ns := range namespaces {
		all[ns] = true
	}
	used := map[string]schema.Size{}
	for _, ns := range slices.Sorted(maps.Keys(limits)) {
		before, was := full[ns]
		m := providers.Measured{Namespace: ns, Limit: limits[ns], Used: before.Used, Full: was}
		n, failed := int64(0), away
		if failed == nil {
			n, failed = p.meter.Measure(ctx, content, ns, all)
		}
		if failed != nil {
			m.Error = failed.Error()
			err = errors.Join(err, &providers.Error{
				Registry: p.registry.URL, Key: schema.Key{Kind: schema.KindQuota, Name: ns}, Doing: "measuring", Err: failed,
				Remedy: "what may be pushed stays as it is until it can be measured",
			})
		} else {
			m.Used = schema.Size(n)
			m.Full = m.Used >= m.Limit
			m.Changed = m.Full != was
			if m.Changed || m.Full && m.Used != before.Used {
				used[ns] = m.Used
			}
		}
		list = append(list, m)
	}
	if dry || len(used) == 0 {
		return list, err
	}
	return list, errors.Join(err, p.accounts.Measured(ctx, used))
}

var _ measure.Content = revisions{}
