package content

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
)

// Endpoint says how a registry is reached.
type Endpoint struct {
	URL       string
	Transport http.RoundTripper // of [oci.Transport]; Open confines it
	// Auth is the account, nil for none. Its words go to the registry's own host and
	// to those of Realms, token services that the operator named.
	Auth   authn.Authenticator
	Realms []string
	// RealmHint says how the operator names one, with {realm} in it; "" where he cannot.
	RealmHint string
	// InFlight bounds the requests under way at once; 0 is 16. Fewer are where the
	// registry says that it has too many.
	InFlight int
	// Hint says what to do where the registry does not take the login; "" is to log in as
	// docker does.
	Hint string
	// Plain says what to do where the registry speaks http, and is asked by https; "" is
	// to write its address so.
	Plain string
	// Push says that content is written there: tokens are asked for pull and push.
	Push bool
	// Progress counts the requests, as of the target where Push is set; nil is nobody's.
	Progress *Progress
	// Monolithic is of registries that take a blob with the POST that would open its
	// upload (OCI distribution specification, "Single POST"), as Zot does.
	Monolithic bool
	// Untag deletes a tag and nothing else, of registries whose /v2/ cannot; nil where
	// it can.
	Untag func(ctx context.Context, repository, tag string) error
	// List is that of a [providers.Lister], of registries that tell of many repositories
	// at once; nil where it cannot.
	List func(ctx context.Context, repositories []string) (map[string]providers.Listed, error)
}

// Registry is one that content is read from or written to. It is safe for use by
// several goroutines.
type Registry struct {
	base       *url.URL
	client     *http.Client
	logins     *logins
	gate       *gate
	hint       string
	plain      string
	push       bool
	monolithic bool
	deleteTag  func(ctx context.Context, repository, tag string) error
	holdings   func(ctx context.Context, repositories []string) (map[string]providers.Listed, error)
	refers     atomic.Int32 // how it keeps what refers to a manifest
	probing    sync.Mutex   // held while that is asked
	keeping    brought      // claimed of a manifest while what refers to it is noted
	pushOnly   atomic.Bool  // its account may not mount from where it pushes to
}

// hubRealm is the token service of Docker Hub, which lies on a host of its own.
const hubRealm = "https://auth.docker.io/token"

// Open makes the connection. It asks nothing yet.
func Open(e Endpoint) (*Registry, error) {
	base, err := oci.ParseURL(e.URL)
	if err != nil {
		return nil, err
	}
	r := &Registry{base: base, hint: e.Hint, plain: e.Plain, push: e.Push, monolithic: e.Monolithic, deleteTag: e.Untag, holdings: e.List}
	realms := e.Realms
	if base.Host == name.DefaultRegistry {
		realms = append(slices.Clone(realms), hubRealm)
	}
	inner, err := oci.Confine(e.Transport, e.URL, realms...)
	if err != nil {
		return nil, err
	}
	r.client = &http.Client{Transport: e.Progress.counted(inner, e.Push)}
	r.logins = &logins{base: base, client: r.client, auth: e.Auth, realms: realms, hint: e.RealmHint}
	r.gate = newGate(cmp.Or(e.InFlight, defaultInFlight))
	return r, nil
}

// String is its URL.
func (r *Registry) String() string { return r.base.String() }

func (r *Registry) fail(ref Reference, doing string, err error) error {
	var own *providers.Error
	if err == nil || errors.As(err, &own) || errors.Is(err, context.Canceled) {
		return err
	}
	if ref.Repository != "" {
		doing += " " + ref.String()
	}
	remedy := ""
	switch a := (*answer)(nil); {
	case noProject(err):
		remedy = "make that project first: declare it as a namespace of that registry, and apply"
	case errors.As(err, &a) && a.says("will exceed", "read only"): // Harbor's quota, and its mode
	case errors.Is(err, providers.ErrUnauthorized) && doing == listing:
		remedy = "log in there as an administrator, or at Harbor as a robot with catalog:read, or name the repositories"
	case errors.Is(err, providers.ErrUnauthorized):
		remedy = cmp.Or(r.hint, "log in there: docker login "+r.base.Host)
	case errors.As(err, &a) && a.code == http.StatusUnsupportedMediaType:
		remedy = `it takes no manifest of that type; Zot takes Docker's with http.compat = ["docker2s2"] among its settings`
	case errors.Is(err, providers.ErrForbidden):
		remedy = "give the account pull there, and push where it copies to"
	}
	return &providers.Error{Registry: r.base.String(), Doing: doing, Err: err, Remedy: remedy}
}

// answer is what a registry said, its body read as far as it tells of an error.
type answer struct {
	code   int
	errors []apiError
	text   string
	after  time.Duration // which it asks to be left alone
}

// apiError is one of the errors of a registry's answer (OCI distribution
// specification, "Error Codes").
type apiError struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Detail  json.RawMessage `json:"detail"`
}

func (a *answer) Error() string {
	const most = 5
	s := fmt.Sprintf("it answers %d", a.code)
	for _, e := range a.errors[:min(len(a.errors), most)] {
		s += " " + printable(e.Code)
		if e.Message != "" {
			s += " (" + printable(e.Message) + ")"
		}
	}
	if len(a.errors) == 0 && a.text != "" {
		s += ": " + a.text
	}
	return s
}

// says reports whether one of the errors has any of some words.
func (a *answer) says(words ...string) bool {
	return slices.ContainsFunc(a.errors, func(e apiError) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(e.Message, w) })
	})
}

// noProject reports whether Harbor lacks the project of a repository, of which it says
// that nobody may see it. It tells so in answers that have a body.
func noProject(err error) bool {
	var a *answer
	return errors.As(err, &a) && a.code == http.StatusUnauthorized && slices.ContainsFunc(a.errors, func(e apiError) bool {
		return strings.HasPrefix(e.Message, "project ") && strings.Contains(e.Message, " not found")
	})
}

// Unwrap says which kind of failure it is.
func (a *answer) Unwrap() error {
	switch a.code {
	case http.StatusUnauthorized:
		return providers.ErrUnauthorized
	case http.StatusForbidden:
		return providers.ErrForbidden
	case http.StatusNotFound:
		return ErrAbsent
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return providers.ErrUnreachable
	}
	return nil
}

// maxAnswer bounds what is read of an answer that tells of an error, in bytes.
const maxAnswer = 64 << 10

// refusal reads an answer that is none of those hoped for. The caller still closes it.
func refusal(resp *http.Response) *answer {
	a := &answer{code: resp.StatusCode}
	if asked, _ := retryAfter(resp.Header); asked <= longest {
		a.after = asked
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a
	}
	var said struct {
		Errors []apiError `json:"errors"`
	}
	if json.Unmarshal(body, &said) == nil && len(said.Errors) > 0 {
		a.errors = said.Errors
		return a
	}
	if readable(resp) {
		a.text = printable(string(body))
	}
	return a
}

// readable reports whether an answer tells people of an error: what comes with success, or
// as anything but text, may be somebody's content.
func readable(resp *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return resp.StatusCode >= 300 && (strings.HasPrefix(kind, "text/") || kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// printable is the beginning of a text, on one line.
func printable(text string) string {
	const few = 300
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text[:min(len(text), few)])
	return strings.Join(strings.Fields(text), " ")
}

// request makes one below /v2/.
func (r *Registry) request(ctx context.Context, method, path string, query url.Values) (*http.Request, error) {
	u := *r.base
	u.Path, u.RawQuery = "/v2/"+path, query.Encode()
	return http.NewRequestWithContext(ctx, method, u.String(), nil)
}

// ask sends a request without a body and returns one of the answers hoped for; the
// caller closes it.
func (r *Registry) ask(ctx context.Context, method, path string, query url.Values, header http.Header, scopes []string, hoped ...int) (*http.Response, error) {
	req, err := r.request(ctx, method, path, query)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	return r.send(req, scopes, hoped...)
}

// ofAny says what to do about a registry that may be no mode's.
func (r *Registry) ofAny(kind error, remedy string) string {
	if r.plain != "" && errors.Is(kind, oci.ErrPlain) {
		return r.plain
	}
	return strings.NewReplacer("registry.url", "its address", "registry.tls.ca", "--ca, or as tls.ca where a mode names it").Replace(remedy)
}

// send sends a request and returns one of the answers hoped for; the caller closes it.
func (r *Registry) send(req *http.Request, scopes []string, hoped ...int) (*http.Response, error) {
	req.Header.Set("User-Agent", "ocisync")
	resp, err := r.gate.through(req, func() (*http.Response, error) { return r.logins.send(req, scopes) })
	if err != nil {
		kind, remedy := oci.Connection(err, r.base)
		if errors.Is(kind, context.Canceled) {
			return nil, kind
		}
		return nil, &providers.Error{Registry: r.base.String(), Doing: req.Method + " " + req.URL.Path, Err: kind, Remedy: r.ofAny(kind, remedy)}
	}
	if slices.Contains(hoped, resp.StatusCode) {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

// scope is what a token is asked for that is to serve in a repository.
func (r *Registry) scope(repository string) []string {
	if r.push {
		return []string{"repository:" + repository + ":pull,push"}
	}
	return []string{pullScope(repository)}
}

func pullScope(repository string) string { return "repository:" + repository + ":pull" }

// maxList bounds one page of a list, in bytes.
const maxList = 8 << 20

// list reads the pages of a list, each with the one before it. What is not there is
// not ok.
func (r *Registry) list(ctx context.Context, path string, scopes []string, page func([]byte) error) (ok bool, err error) {
	at, query := path, url.Values{"n": {"1000"}}
	for range 100_000 {
		resp, err := r.ask(ctx, http.MethodGet, at, query, nil, scopes, http.StatusOK)
		if errors.Is(err, ErrAbsent) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		body, err := bounded(resp, maxList)
		if err != nil {
			return false, err
		}
		if err := page(body); err != nil {
			return false, err
		}
		next, more, err := following(resp.Header, r.base)
		if err != nil || !more {
			return true, err
		}
		rest, under := strings.CutPrefix(next.Path, "/v2/")
		if !under || rest != path || next.RawQuery == query.Encode() {
			return false, fmt.Errorf("its list goes on at %q, which is not the same list", next.Path)
		}
		query = next.Query()
	}
	return false, errors.New("its list does not end")
}

// following is where a list goes on (RFC 5988, as the OCI distribution specification
// uses it); more is false where it ends.
func following(h http.Header, base *url.URL) (next *url.URL, more bool, err error) {
	link := h.Get("Link")
	target, rest, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.HasPrefix(link, "<") || !strings.Contains(rest, "next") {
		return nil, false, nil
	}
	if next, err = base.Parse(target); err != nil {
		return nil, false, fmt.Errorf("its list goes on at %q, which is no address", target)
	}
	return next, true, nil
}

// bounded reads an answer whole, closes it, and refuses a longer one.
func bounded(resp *http.Response, most int64) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("%w: its answer broke off", providers.ErrUnreachable)
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("its answer has more than %d bytes", most)
	}
	return body, nil
}

// Tags lists those of a repository, sorted; ok is false where there is none of that
// name.
func (r *Registry) Tags(ctx context.Context, repository string) (tags []string, ok bool, err error) {
	ok, err = r.list(ctx, repository+"/tags/list", r.scope(repository), func(body []byte) error {
		var page struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("its list of tags is not JSON: %w", err)
		}
		tags = append(tags, page.Tags...)
		return nil
	})
	if noProject(err) {
		return nil, false, nil
	}
	slices.Sort(tags)
	return slices.Compact(tags), ok, r.fail(Reference{Repository: repository}, "listing the tags of", err)
}

// Repositories lists those that the account sees, sorted.
func (r *Registry) Repositories(ctx context.Context) ([]string, error) {
	var list []string
	ok, err := r.list(ctx, "_catalog", []string{"registry:catalog:*"}, func(body []byte) error {
		var page struct {
			Repositories []string `json:"repositories"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("its catalogue is not JSON: %w", err)
		}
		list = append(list, page.Repositories...)
		return nil
	})
	if err == nil && !ok {
		err = errors.New("it has no catalogue; name the repositories")
	}
	slices.Sort(list)
	return slices.Compact(list), r.fail(Reference{}, listing, err)
}

const listing = "listing its repositories"

// accepted are the manifests that are asked for: with all of them a registry converts
// none.
func accepted() http.Header {
	return http.Header{"Accept": {strings.Join([]string{
		string(types.OCIImageIndex), string(types.OCIManifestSchema1), string(types.DockerManifestList), string(types.DockerManifestSchema2), "*/*",
	}, ", ")}}
}

// head asks what a reference is; ok is false where it is not there. A registry that
// does not say its digest gives an empty one.
func (r *Registry) head(ctx context.Context, ref Reference) (digest v1.Hash, ok bool, err error) {
	resp, err := r.ask(ctx, http.MethodHead, ref.Repository+"/manifests/"+ref.name(), nil, accepted(), r.scope(ref.Repository), http.StatusOK)
	if errors.Is(err, ErrAbsent) {
		return v1.Hash{}, false, nil
	}
	if err != nil {
		return v1.Hash{}, false, r.fail(ref, "asking for", err)
	}
	resp.Body.Close()
	digest, _ = v1.NewHash(resp.Header.Get("Docker-Content-Digest")) // empty where it does not say
	return digest, true, nil
}

// describe asks what a reference is. A registry that does not say all of it is asked for
// the manifest.
func (r *Registry) describe(ctx context.Context, ref Reference) (v1.Descriptor, error) {
	resp, err := r.ask(ctx, http.MethodHead, ref.Repository+"/manifests/"+ref.name(), nil, accepted(), r.scope(ref.Repository), http.StatusOK)
	if err != nil {
		return v1.Descriptor{}, r.fail(ref, "asking for", err)
	}
	resp.Body.Close()
	digest, err := v1.NewHash(resp.Header.Get("Docker-Content-Digest"))
	kind, _, unsaid := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && unsaid == nil && resp.ContentLength > 0 {
		return v1.Descriptor{MediaType: types.MediaType(kind), Digest: digest, Size: resp.ContentLength}, nil
	}
	m, err := r.manifest(ctx, ref)
	return m.descriptor(), err
}

// manifest gets one, and checks that it is what its digest says.
func (r *Registry) manifest(ctx context.Context, ref Reference) (manifest, error) {
	resp, err := r.ask(ctx, http.MethodGet, ref.Repository+"/manifests/"+ref.name(), nil, accepted(), r.scope(ref.Repository), http.StatusOK)
	if err != nil {
		return manifest{}, r.fail(ref, "reading", err)
	}
	body, err := bounded(resp, maxManifest)
	if err != nil {
		return manifest{}, r.fail(ref, "reading", err)
	}
	m, err := parse(resp.Header, body, ref.Digest)
	return m, r.fail(ref, "reading", err)
}

// parse makes a manifest of an answer. Of a reference by tag the digest is that of what
// came; where the registry says another, something on the way changed it.
func parse(h http.Header, body []byte, want v1.Hash) (manifest, error) {
	said, err := v1.NewHash(h.Get("Docker-Content-Digest"))
	if want == (v1.Hash{}) && err == nil {
		want = said
	}
	algorithm := "sha256"
	if want != (v1.Hash{}) {
		algorithm = want.Algorithm
	}
	got, err := hashOf(algorithm, body)
	if err != nil {
		return manifest{}, err
	}
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	var named struct {
		MediaType     types.MediaType `json:"mediaType"`
		SchemaVersion int             `json:"schemaVersion"`
	}
	switch err := json.Unmarshal(body, &named); {
	case kind == "text/html" || err != nil:
		return manifest{}, fmt.Errorf("%w: what comes is %s, not JSON", ErrManifest, cmp.Or(kind, "something"))
	case want != v1.Hash{} && got != want:
		return manifest{}, fmt.Errorf("%w: what comes has %s", ErrDigest, got)
	case named.MediaType != "":
		kind = string(named.MediaType)
	}
	return manifest{types.MediaType(kind), got, body}, nil
}

func hashOf(algorithm string, b []byte) (v1.Hash, error) {
	h, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("%w: %w", ErrDigest, err)
	}
	h.Write(b)
	return v1.Hash{Algorithm: algorithm, Hex: fmt.Sprintf("%x", h.Sum(nil))}, nil
}

// put stores a manifest. An *answer tells of one that is refused.
func (r *Registry) put(ctx context.Context, ref Reference, m manifest) error {
	req, err := r.request(ctx, http.MethodPut, ref.Repository+"/manifests/"+ref.name(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", string(m.mediaType))
	req.ContentLength = int64(len(m.bytes))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.bytes)), nil }
	if req.Body, err = req.GetBody(); err != nil {
		return err
	}
	resp, err := r.send(req, r.scope(ref.Repository), http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if said, err := v1.NewHash(resp.Header.Get("Docker-Content-Digest")); err == nil && said != m.digest && said.Algorithm == m.digest.Algorithm {
		return fmt.Errorf("%w: the registry stored it as %s", ErrDigest, said)
	}
	return nil
}

// blob opens one from a place on; the caller closes it. size is that of the rest.
func (r *Registry) blob(ctx context.Context, repository string, d v1.Descriptor, from int64) (body io.ReadCloser, err error) {
	header, hoped := http.Header{}, []int{http.StatusOK}
	if from > 0 {
		header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		hoped = append(hoped, http.StatusPartialContent)
	}
	resp, err := r.ask(ctx, http.MethodGet, repository+"/blobs/"+d.Digest.String(), nil, header, r.scope(repository), hoped...)
	if err != nil {
		return nil, err
	}
	again := int64(0) // bytes that were read before, of a registry that has no ranges (RFC 9110, "Range")
	if resp.StatusCode == http.StatusOK {
		again = from
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/html" {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: a web page comes in its place", ErrDigest)
	}
	if n := resp.ContentLength; n >= 0 && n != d.Size-from+again {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %d bytes come, and it should have %d", ErrDigest, n+from-again, d.Size)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, again); err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: its answer broke off: %w", providers.ErrUnreachable, err)
	}
	return resp.Body, nil
}

// untag has the registry delete a tag, and leave what it names to the other tags of it
// (OCI distribution specification, "Deleting tags"). An *answer tells of one that does
// not.
func (r *Registry) untag(ctx context.Context, ref Reference) error {
	if r.deleteTag != nil {
		return r.deleteTag(ctx, ref.Repository, ref.Tag)
	}
	resp, err := r.ask(ctx, http.MethodDelete, ref.Repository+"/manifests/"+ref.name(), nil, nil, []string{"repository:" + ref.Repository + ":pull,delete"}, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

// Commit implements [Target]: a registry shows what came at once.
func (r *Registry) Commit(context.Context) error { return nil }
