package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// The places that are no registries, by skopeo's names.
const (
	ociLayout  = "oci"
	ociArchive = "oci-archive"
)

// layoutHelp says how those are written.
const layoutHelp = `oci:DIR and oci-archive:FILE are an OCI layout in a directory, and in a tar. With
:REPOSITORY:TAG, :TAG or :REPOSITORY behind it (a word is a tag, and a repository
where several tags are meant) it is what is named so in it; a layout holds any
number of repositories. DIR and FILE have no colon in them. A layout that is written
stays as it was until all is there; an archive is written whole, as its suffix says:
.tar, .tar.gz, .tgz or .tar.zst. One that is read may be any of them, and what docker
save of Docker 25 or later wrote; where it is compressed it takes its whole size once
more in the temporary directory.
`

// reach is how content is reached.
type reach struct {
	*options
	realms []string
	ca     string
}

func (c *reach) reachFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&c.realms, "realm", nil, "`URL` of a token service of another host that may see the login; may stand several times")
	f.StringVar(&c.ca, "ca", "", "PEM `file` of the authority that certificates are checked against besides the system's")
}

// place is what somebody named: a registry, a repository in it, a tag or digest of that.
type place struct {
	host, url    string // of a registry
	kind         string // which that is, as schema.TypeZot; "" is not said
	layout, path string // "oci" or "oci-archive", and where that lies
	repository   string
	reference    string // ":tag", "@digest", or ""
}

// base is the registry or layout.
func (p place) base() string {
	if p.layout != "" {
		return p.layout + ":" + p.path
	}
	return p.host
}

// of is how a reference in it is written.
func (p place) of(ref content.Reference) string {
	switch {
	case ref == content.Reference{}:
		return p.base()
	case p.layout != "":
		return p.base() + ":" + ref.String()
	}
	return p.base() + "/" + ref.String()
}

// ref is what it names.
func (p place) ref() content.Reference {
	r := content.Reference{Repository: p.repository}
	if digest, ok := strings.CutPrefix(p.reference, "@"); ok {
		r.Digest, _ = v1.NewHash(digest) // parsePlace saw that it is one
	}
	r.Tag, _ = strings.CutPrefix(p.reference, ":")
	if r.Digest != (v1.Hash{}) {
		r.Tag = ""
	}
	return r
}

// String is how it is written.
func (p place) String() string { return p.of(p.ref()) }

// parsePlace reads HOST, HOST/REPOSITORY, HOST/REPOSITORY:TAG, HOST/REPOSITORY@DIGEST,
// oci:DIR:REF or oci-archive:FILE:REF. A REF that is one word is a repository where
// several tags are meant, and a tag elsewhere.
func parsePlace(s string, several bool) (place, error) {
	for _, layout := range []string{ociLayout, ociArchive} {
		if rest, ok := strings.CutPrefix(s, layout+":"); ok {
			return parseLayout(layout, rest, several)
		}
	}
	fail := func(format string, args ...any) (place, error) {
		return place{}, fmt.Errorf("%s: %s; write HOST/REPOSITORY:TAG, HOST/REPOSITORY or HOST", quote(s), fmt.Sprintf(format, args...))
	}
	scheme, rest, ok := strings.Cut(s, "://")
	kind, after, typed := strings.Cut(scheme, "+")
	switch {
	case !ok:
		scheme, rest, kind = "https", s, ""
	case !typed:
		kind = ""
	case !slices.Contains([]string{schema.TypeZot, schema.TypeHarbor, schema.TypeDistribution}, kind):
		return fail("%s is no type of registry; it may be zot, harbor or distribution", quote(kind))
	default:
		scheme = after
	}
	switch {
	case scheme != "http" && scheme != "https":
		return fail("%s is no way to reach a registry", scheme)
	}
	host, path, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	reg, err := name.NewRegistry(host, name.StrictValidation)
	if err != nil || host == "" || strings.Contains(host, "@") {
		return fail("it names no host")
	}
	p := place{host: reg.RegistryStr(), url: scheme + "://" + reg.RegistryStr(), kind: kind}
	if path == "" {
		return p, nil
	}
	p.repository, p.reference = cutReference(path)
	if why := wrong(p.repository, p.reference); why != "" {
		return fail("%s", why)
	}
	return p, nil
}

// cutReference takes the tag or digest from a name.
func cutReference(s string) (repository, reference string) {
	if i := strings.IndexByte(s, '@'); i >= 0 {
		return s[:i], s[i:]
	}
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		return s[:i], s[i:]
	}
	return s, ""
}

// wrong says what is wrong with a name, "" for nothing.
func wrong(repository, reference string) string {
	in := "host.example/" + repository
	if _, err := name.NewRepository(in, name.StrictValidation); err != nil {
		return quote(repository) + " is no name of a repository"
	}
	switch {
	case strings.HasPrefix(reference, "@"):
		if _, err := name.NewDigest(in+reference, name.StrictValidation); err != nil {
			return quote(reference[1:]) + " is no digest"
		}
	case reference != "":
		if _, err := name.NewTag(in+reference, name.StrictValidation); err != nil {
			return quote(reference[1:]) + " is no tag"
		}
	}
	return ""
}

// parseLayout reads DIR:REF or FILE:REF.
func parseLayout(layout, s string, several bool) (place, error) {
	p := place{layout: layout}
	var ref string
	if p.path, ref, _ = strings.Cut(s, ":"); p.path == "" {
		return place{}, fmt.Errorf("%s: it names no file; write oci:DIR, oci-archive:FILE, or one of them with :REPOSITORY:TAG behind it", quote(layout+":"+s))
	}
	p.path = filepath.Clean(p.path)
	p.repository, p.reference = cutReference(ref)
	if p.reference == "" && !several && !strings.Contains(ref, "/") && ref != "" {
		p.repository, p.reference = "", ":"+ref
	}
	if why := wrong(cmp.Or(p.repository, "none"), p.reference); why != "" {
		return place{}, fmt.Errorf("%s: %s; write REPOSITORY:TAG, TAG or REPOSITORY behind the second colon", quote(layout+":"+s), why)
	}
	return p, nil
}

// open reaches the registry of a place, as the account that the user's Docker
// configuration has for it.
func (c *reach) open(p place, push bool) (*content.Registry, error) {
	tls := schema.TLS{}
	if c.ca != "" {
		tls.CA = &c.ca
	}
	rt, err := oci.Transport(tls)
	if err != nil {
		return nil, err
	}
	rt.MaxIdleConnsPerHost, rt.ReadBufferSize, rt.WriteBufferSize = 64, 64<<10, 64<<10
	reg, err := name.NewRegistry(p.host, name.StrictValidation)
	if err != nil {
		return nil, err
	}
	auth, err := authn.DefaultKeychain.Resolve(reg)
	if err != nil {
		return nil, fmt.Errorf("the user's Docker configuration: %w; mend it, or run docker login %s", err, p.host)
	}
	if auth == authn.Anonymous {
		auth = nil
	}
	return content.Open(content.Endpoint{URL: p.url, Transport: rt, Auth: auth, Realms: c.realms, RealmHint: "where it may, name it: --realm {realm}", Push: push, Progress: c.counts(), Monolithic: push && p.kind == schema.TypeZot})
}

// source opens a place to read from; the function ends its use.
func (c *reach) source(ctx context.Context, p place) (content.Source, func() error, error) {
	if p.layout == "" {
		r, err := c.open(p, false)
		return r, func() error { return nil }, err
	}
	l, err := layoutAt(ctx, p, false)
	if err != nil {
		return nil, nil, err
	}
	return l, l.Close, nil
}

// target opens a place to write to; the function ends its use.
func (c *reach) target(ctx context.Context, p place) (content.Target, func() error, error) {
	if p.layout == "" {
		r, err := c.open(p, true)
		return r, func() error { return nil }, err
	}
	l, err := layoutAt(ctx, p, true)
	if err != nil {
		return nil, nil, err
	}
	return l, l.Close, nil
}

func layoutAt(ctx context.Context, p place, write bool) (*content.Layout, error) {
	if p.layout == ociArchive {
		return content.Archive(ctx, p.path, write)
	}
	return content.LayoutDir(ctx, p.path, write)
}

// settle finds what a layout has by a tag alone, or without a name.
func settle(ctx context.Context, in content.Source, p place) (place, error) {
	if p.layout == "" || p.repository != "" || strings.HasPrefix(p.reference, "@") {
		return p, nil
	}
	repositories, err := in.Repositories(ctx)
	if err != nil {
		return p, err
	}
	var found []place
	for _, r := range repositories {
		tags, _, err := in.Tags(ctx, r)
		if err != nil {
			return p, err
		}
		for _, tag := range tags {
			if p.reference == "" || p.reference == ":"+tag {
				found = append(found, place{layout: p.layout, path: p.path, repository: r, reference: ":" + tag})
			}
		}
	}
	switch {
	case len(found) == 1, len(found) > 0 && found[0].repository == "" && p.reference != "":
		return found[0], nil
	case len(found) == 0:
		return p, fmt.Errorf("%s is not there; ocisync repo list %s tells what is", p, p.base())
	}
	names := make([]string, 0, few)
	for _, f := range found[:min(len(found), few)] {
		names = append(names, f.String())
	}
	return p, fmt.Errorf("%s may be any of %d: name one (%s), or say --all-tags", p, len(found), strings.Join(names, ", "))
}

// few is how many of something an error names.
const few = 5
