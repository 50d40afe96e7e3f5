package content

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ocisync/ocisync/pkg/content/sign"
)

// imageOf makes one that says when it was made.
func (f fill) imageOf(repository, tag, made string, layers ...[]byte) v1.Descriptor {
	f.t.Helper()
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: f.blob(repository, []byte(`{"created":"`+made+`","of":"`+tag+`"}`))}
	m.Config.MediaType = types.OCIConfigJSON
	for _, l := range layers {
		m.Layers = append(m.Layers, f.blob(repository, l))
	}
	return f.manifest(repository, tag, m)
}

func TestASelectionChoosesTheTagsThatMeetEveryCondition(t *testing.T) {
	from := serve(t)
	f := fill{t, from}
	for tag, made := range map[string]string{"1.9.0": "2026-03-01", "1.10.0": "2026-02-01", "1.11.0-rc1": "2026-04-01", "2.0.0": "2026-01-01", "edge": "2026-05-01", "old": "2020-01-01"} {
		f.imageOf("a", tag, made+"T00:00:00Z", layer(1, 100))
	}
	pinned := f.imageOf("a", "sha256-"+strings.Repeat("a", 64)+".sig", "2026-05-01T00:00:00Z", layer(2, 10))
	within, err := semver.NewConstraint(">=1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	r := from.open(t)
	tags, _, err := r.Tags(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		s    Selection
		want []string
	}{
		"all":                   {Selection{}, []string{"1.10.0", "1.11.0-rc1", "1.9.0", "2.0.0", "edge", "old"}},
		"a list":                {Selection{List: []string{"edge", "2.0.0@" + pinned.Digest.String()}}, []string{"edge", "2.0.0"}},
		"a glob":                {Selection{Glob: "1.*"}, []string{"1.10.0", "1.11.0-rc1", "1.9.0"}},
		"a regex":               {Selection{Regex: regexp.MustCompile(`^(?:e.*|old)$`)}, []string{"edge", "old"}},
		"versions":              {Selection{Semver: within}, []string{"1.10.0", "1.9.0", "2.0.0"}},
		"the newest by version": {Selection{Semver: within, Newest: 2}, []string{"1.10.0", "2.0.0"}},
		"the newest by date":    {Selection{Newest: 2}, []string{"1.11.0-rc1", "edge"}},
		"since":                 {Selection{Since: time.Date(2026, 2, 15, 0, 0, 0, 0, time.UTC)}, []string{"1.11.0-rc1", "1.9.0", "edge"}},
		"a glob and since":      {Selection{Glob: "1.*", Since: time.Date(2026, 2, 15, 0, 0, 0, 0, time.UTC), Newest: 1}, []string{"1.11.0-rc1"}},
		"nothing":               {Selection{Glob: "x*"}, nil},
	} {
		list := tags
		if tc.s.listed() {
			list = nil
		}
		got, _, err := tc.s.choose(t.Context(), r, "a", list)
		var names []string
		for _, c := range got {
			names = append(names, c.tag)
		}
		if err != nil || !slices.Equal(names, tc.want) {
			t.Errorf("%s: %q, want %q, %v", name, names, tc.want, err)
		}
	}
}

// run looks and does it.
func (m *Mirror) run(t *testing.T) (Outlook, Moved) {
	t.Helper()
	o, err := m.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owned, moved, err := m.Run(t.Context(), o, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	m.Owned = owned
	return o, moved
}

// tagsOf lists those of the target of the tests.
func tagsOf(t *testing.T, s Source) []string {
	t.Helper()
	tags, _, err := s.Tags(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	return tags
}

func (o Outlook) tags() (copied, gone []string) {
	for _, s := range o.Copy {
		copied = append(copied, s.Tag)
	}
	for _, s := range o.Gone {
		gone = append(gone, s.Tag)
	}
	return copied, gone
}

// TestAMirrorFollowsItsSource: what is new comes, what moved moves, what is gone goes
// where it was asked to, and somebody else's tags stay.
func TestAMirrorFollowsItsSource(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	base := layer(9, 5000)
	f.image("a", "v1", base, layer(1, 100))
	f.image("a", "v2", base, layer(2, 100))
	fill{t, to}.image("b", "theirs", layer(3, 100))
	m := &Mirror{From: from.open(t), To: to.open(t), Source: "a", Target: "b", Prune: true, KeepPrevious: "{tag}-prev-{date}"}

	o, err := m.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Weigh(t.Context(), &o, nil); err != nil {
		t.Fatal(err)
	}
	weighed := o
	o, moved := m.run(t)
	if copied, gone := o.tags(); !slices.Equal(copied, []string{"v1", "v2"}) || len(gone) > 0 || moved.Blobs != weighed.Blobs || moved.Bytes != weighed.Bytes || moved.Blobs != 5 {
		t.Errorf("at first %+v, moved %+v, weighed %d of %d bytes", o, moved, weighed.Blobs, weighed.Bytes)
	}
	if altered, err := m.Altered(t.Context()); err != nil || len(altered) > 0 {
		t.Errorf("altered %q, %v", altered, err)
	}
	if o, moved := m.run(t); len(o.Copy)+len(o.Gone) > 0 || len(o.Same) != 2 || moved != (Moved{}) {
		t.Errorf("again %+v, %+v", o, moved)
	}

	was := m.Owned["v1"]
	f.image("a", "v1", base, layer(4, 100))
	f.image("a", "v3", base, layer(5, 100))
	from.between(func(w http.ResponseWriter, r *http.Request) bool { // v2 is deleted at the source
		gone := strings.HasSuffix(r.URL.Path, "/tags/list")
		if gone {
			_, _ = w.Write([]byte(`{"name":"a","tags":["v1","v3"]}`))
		}
		return gone
	})
	o, _ = m.run(t)
	if copied, gone := o.tags(); !slices.Equal(copied, []string{"v1", "v3"}) || !slices.Equal(gone, []string{"v2"}) {
		t.Errorf("then %+v", o)
	}
	if got := tagsOf(t, m.To); !slices.Equal(got, []string{"theirs", "v1", "v1-prev-20261128", "v3"}) {
		t.Errorf("the target has %q", got)
	}
	if d, _, err := m.To.head(t.Context(), Reference{Repository: "b", Tag: "v1-prev-20261128"}); err != nil || d != was {
		t.Errorf("what v1 was is %s, not %s, %v", d, was, err)
	}
	if want := []string{"v1", "v3"}; !slices.Equal(slices.Sorted(maps.Keys(m.Owned)), want) {
		t.Errorf("it owns %v", m.Owned)
	}

	fill{t, to}.image("b", "v1", layer(6, 100))
	if altered, err := m.Altered(t.Context()); err != nil || !slices.Equal(altered, []string{"v1"}) {
		t.Errorf("altered %q, %v", altered, err)
	}
}

// TestASourceThatAnswersNothingDeletesNothing, and what failed keeps what would go.
func TestASourceThatAnswersNothingDeletesNothing(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	f.image("a", "v1", layer(1, 100))
	f.image("a", "v2", layer(2, 100))
	m := &Mirror{From: from.open(t), To: to.open(t), Source: "a", Target: "b", Prune: true}
	m.run(t)
	for name, tc := range map[string]struct {
		list string
		code int
		want error
	}{
		"an empty list": {`{"name":"a","tags":[]}`, http.StatusOK, ErrNothing},
		"null":          {`{"name":"a","tags":null}`, http.StatusOK, ErrNothing},
		"not there":     {`{"errors":[{"code":"NAME_UNKNOWN"}]}`, http.StatusNotFound, ErrAbsent},
		"an error":      {`oops`, http.StatusInternalServerError, nil},
	} {
		from.between(func(w http.ResponseWriter, r *http.Request) bool {
			hit := strings.HasSuffix(r.URL.Path, "/tags/list")
			if hit {
				w.WriteHeader(tc.code)
				_, _ = w.Write([]byte(tc.list))
			}
			return hit
		})
		if o, err := m.Look(t.Context()); err == nil || tc.want != nil && !errors.Is(err, tc.want) || len(o.Gone) > 0 {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	from.between(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/tags/list") {
			_, _ = w.Write([]byte(`{"name":"a","tags":["v1","v3"]}`))
			return true
		}
		if strings.HasSuffix(r.URL.Path, "/manifests/v3") && r.Method == http.MethodHead {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64)) // which nobody has
			return true
		}
		return false
	})
	o, err := m.Look(t.Context())
	if err != nil || len(o.Gone) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	owned, _, err := m.Run(t.Context(), o, time.Now())
	if err == nil || owned["v2"] == (v1.Hash{}) || !slices.Contains(tagsOf(t, m.To), "v2") {
		t.Errorf("it owns %v, the target has %q, %v", owned, tagsOf(t, m.To), err)
	}
}

// TestAMirrorCopiesWhatItLookedAt, though the tag moved meanwhile.
func TestAMirrorCopiesWhatItLookedAt(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	was := f.image("a", "v1", layer(1, 100))
	m := &Mirror{From: from.open(t), To: to.open(t), Source: "a", Target: "b", OnlyMissing: true}
	o, err := m.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.image("a", "v1", layer(2, 100))
	if m.Owned, _, err = m.Run(t.Context(), o, time.Now()); err != nil || m.Owned["v1"] != was.Digest {
		t.Fatalf("%v, %v", m.Owned, err)
	}
	if o, _ := m.run(t); len(o.Copy) > 0 || !slices.Equal(o.Same, []string{"v1"}) {
		t.Errorf("a tag that is there is copied: %+v", o)
	}
	m.OnlyMissing = false
	m.Tags.List = []string{"v1@" + was.Digest.String(), "v2@" + was.Digest.String()}
	if o, _ := m.run(t); len(o.Copy) != 1 || o.Copy[0].Tag != "v2" || m.Owned["v2"] != was.Digest {
		t.Errorf("pinned: %+v, %v", o, m.Owned)
	}
	m.Tags.List = []string{"v9"}
	if _, err := m.Look(t.Context()); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "v9") {
		t.Errorf("a tag that is not there: %v", err)
	}
}

// TestARateBoundsWhatIsRead.
func TestARateBoundsWhatIsRead(t *testing.T) {
	from, to := serve(t), serve(t)
	fill{t, from}.image("a", "v1", layer(1, 256<<10))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &Copier{From: from.open(t), To: to.open(t), Rate: 1}
	time.AfterFunc(500*time.Millisecond, cancel)
	if got := c.tally(ctx, []Item{{Source: "a", Target: "b"}}); got.copied > 0 {
		t.Errorf("256 KiB came at 1 byte per second: %+v", got)
	}
}

// multi makes an index in a of an image for each of some platforms.
func (f fill) multi(tag string, platforms ...string) v1.Descriptor {
	f.t.Helper()
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for i, text := range platforms {
		p, err := ParsePlatform(text)
		if err != nil {
			f.t.Fatal(err)
		}
		d := f.image("a", "", layer(uint64(100+i), 50), []byte(tag+text))
		d.Platform = &p
		index.Manifests = append(index.Manifests, d)
	}
	return f.manifest("a", tag, index)
}

// TestAMirrorOfSomePlatformsCopiesWhatItLookedAt: the index that is less is at no source,
// and who copies need not be who looked.
func TestAMirrorOfSomePlatformsCopiesWhatItLookedAt(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	whole := f.multi("v1", "linux/amd64", "linux/arm64")
	another := func() *Mirror {
		reads, err := Platforms(from.open(t), []string{"linux/arm64"})
		if err != nil {
			t.Fatal(err)
		}
		return &Mirror{From: reads, To: to.open(t), Source: "a", Target: "b", Referrers: true}
	}
	o, err := another().Look(t.Context())
	if err != nil || len(o.Copy) != 1 || o.Copy[0].To == whole.Digest {
		t.Fatalf("%+v, %v", o, err)
	}
	f.multi("v1", "linux/arm64", "linux/s390x") // it moves meanwhile
	m := another()
	owned, _, err := m.Run(t.Context(), o, time.Now())
	if err != nil || owned["v1"] != o.Copy[0].To {
		t.Fatalf("it owns %v, not %s: %v", owned, o.Copy[0].To, err)
	}
	if is, _, err := m.To.head(t.Context(), Reference{Repository: "b", Tag: "v1"}); err != nil || is != o.Copy[0].To {
		t.Errorf("the target has %s, not %s: %v", is, o.Copy[0].To, err)
	}
}

// TestASignatureOfOneIndexIsNoneOfAnother that has the same platforms among others.
func TestASignatureOfOneIndexIsNoneOfAnother(t *testing.T) {
	key := aKey(t, ecKey(t))
	from, to := serve(t), serve(t)
	f := fill{t, from}
	one := []string{"linux/amd64", "linux/arm64"}
	signed := f.multi("v1", one...)
	manifests := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	m, err := from.open(t).manifest(t.Context(), Reference{Repository: "a", Digest: signed.Digest})
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.parts()
	if err != nil {
		t.Fatal(err)
	}
	third := f.image("a", "", layer(7, 70))
	third.Platform = &v1.Platform{OS: "linux", Architecture: "s390x"}
	manifests.Manifests = append(p.Manifests, third)
	f.manifest("a", "v2", manifests)
	source := from.open(t)
	if err := Sign(t.Context(), source, "a", signed, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	target := to.open(t)
	for range 5 { // in whichever order they are looked at
		reads, err := Platforms(from.open(t), []string{"linux/arm64"})
		if err != nil {
			t.Fatal(err)
		}
		m := &Mirror{From: reads, To: target, Source: "a", Target: "b", Referrers: true, Prune: true, Trust: []Trust{{Keys: key.Public()}}}
		o, err := m.Look(t.Context())
		if err != nil || len(o.Copy)+len(o.Same) != 1 || len(o.Untrusted) != 1 || o.Untrusted[0].Tag != "v2" {
			t.Fatalf("%+v, %v", o, err)
		}
		owned, _, err := m.Run(t.Context(), o, time.Now())
		if !errors.Is(err, sign.ErrUntrusted) || len(owned) != 1 || owned["v1"] != o.Untrusted[0].To {
			t.Fatalf("it owns %v, %v", owned, err)
		}
	}
}

// TestATagThatTheSourceLacksStopsItselfAlone: one that is not there, a digest that is not,
// and an index without the platform.
func TestATagThatTheSourceLacksStopsItselfAlone(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	f.multi("v1", "linux/amd64", "linux/arm64")
	f.multi("v2", "linux/amd64")
	none := "sha256:" + strings.Repeat("0", 64)
	for name, platforms := range map[string][]string{"": nil, "with platforms": {"linux/arm64"}} {
		t.Run(name, func(t *testing.T) {
			m := &Mirror{From: from.open(t), To: to.open(t), Source: "a", Target: "b" + strings.ReplaceAll(name, " ", ""), Tags: Selection{List: []string{"v1", "v2", "nope", "pin@" + none}}}
			missing := []string{"nope", "pin"}
			if platforms != nil {
				var err error
				if m.From, err = Platforms(m.From, platforms); err != nil {
					t.Fatal(err)
				}
				missing = append(missing, "v2")
			}
			o, err := m.Look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Weigh(t.Context(), &o, nil); err != nil {
				t.Fatal(err)
			}
			var tags []string
			for _, r := range o.Missing {
				tags = append(tags, r.Tag)
			}
			if !slices.Equal(tags, missing) || len(o.Copy) != 4-len(missing) || o.Blobs == 0 {
				t.Errorf("it lacks %q, and copies %+v of %d blobs", tags, o.Copy, o.Blobs)
			}
			told := strings.Join(o.Lacks(), "\n")
			owned, _, err := m.Run(t.Context(), o, time.Now())
			if !errors.Is(err, ErrAbsent) || len(owned) != 4-len(missing) || owned["v1"] == (v1.Hash{}) {
				t.Errorf("it owns %v, %v", owned, err)
			}
			for _, tag := range missing {
				if !strings.Contains(told, tag+" cannot be copied: ") || strings.Count("\n"+err.Error(), "\n"+tag+": ") != 1 {
					t.Errorf("of %s is told %q, and %v", tag, told, err)
				}
			}
		})
	}
	// Where nothing of it is there that may be a mistake of its answer.
	m := &Mirror{From: from.open(t), To: to.open(t), Source: "lost", Target: "b", Tags: Selection{List: []string{"v1", "v2"}}, Owned: map[string]v1.Hash{"v0": digestOf(nil)}, Prune: true}
	if o, err := m.Look(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("%+v, %v", o, err)
	}
	// A tag that was copied and is not there any more stays, where its name is listed.
	f.imageOf("d", "v1", "2026-03-01T00:00:00Z", layer(1, 100))
	f.imageOf("d", "v2", "2026-03-01T00:00:00Z", layer(2, 100))
	m = &Mirror{From: from.open(t), To: to.open(t), Source: "d", Target: "d", Prune: true, Tags: Selection{List: []string{"v1", "v2"}}}
	m.run(t)
	from.between(func(w http.ResponseWriter, r *http.Request) bool {
		gone := strings.HasSuffix(r.URL.Path, "/manifests/v2")
		if gone {
			w.WriteHeader(http.StatusNotFound)
		}
		return gone
	})
	for range 2 {
		if o, err := m.Look(t.Context()); err != nil || len(o.Gone) > 0 || len(o.Missing) != 1 || len(o.Same) != 1 {
			t.Errorf("%+v, %v", o, err)
		}
		m.Tags.Since = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // nobody knows when it was made
	}
}

// TestMirrorsOfOneSourceSendABlobOnce, whatever repositories they copy to, and the plan
// counts what refers too.
func TestMirrorsOfOneSourceSendABlobOnce(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	image := f.multi("v1", "linux/amd64", "linux/arm64")
	key := aKey(t, ecKey(t))
	source := from.open(t)
	if err := Sign(t.Context(), source, "a", image, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	f.image("a", fallback(image.Digest)+".sig", layer(60, 60))
	var shared Brought
	others := map[v1.Hash]bool{}
	var looks []Outlook
	var mirrors []*Mirror
	for _, target := range []string{"b", "c"} {
		m := &Mirror{From: from.open(t), To: to.open(t), Source: "a", Target: target, Referrers: true, Brought: &shared}
		o, err := m.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Weigh(t.Context(), &o, others); err != nil {
			t.Fatal(err)
		}
		looks, mirrors = append(looks, o), append(mirrors, m)
	}
	to.forget()
	for i, m := range mirrors {
		_, moved, err := m.Run(t.Context(), looks[i], time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if o := looks[i]; moved.Blobs != o.Blobs || moved.Bytes != o.Bytes || moved.Mounted != o.Shared {
			t.Errorf("%s: moved %+v, and the plan counted %d of %d bytes, and %d of others", m.Target, moved, o.Blobs, o.Bytes, o.Shared)
		}
	}
	if first, second := looks[0], looks[1]; first.Blobs < 8 || first.Shared > 0 || second.Blobs > 0 || second.Shared != first.Blobs {
		t.Errorf("the first sends %d, the second %d and mounts %d", first.Blobs, second.Blobs, second.Shared)
	}
	if n := to.asked["PUT uploads"]; n != looks[0].Blobs {
		t.Errorf("%d uploads, and there are %d blobs", n, looks[0].Blobs)
	}
	if _, err := mirrors[1].To.manifest(t.Context(), Reference{Repository: "c", Tag: fallback(image.Digest) + ".sig"}); err != nil {
		t.Error(err)
	}
}

// TestATagThatAMirrorLacksIsNotItsOwn: somebody who pushes it meanwhile keeps it until
// somebody approved otherwise, and what is chosen no longer is forgotten.
func TestATagThatAMirrorLacksIsNotItsOwn(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	f.image("a", "v1", layer(1, 100))
	f.image("a", "v2", layer(2, 100))
	m := &Mirror{From: from.open(t), To: to.open(t), Source: "a", Target: "b", Prune: true, Owned: map[string]v1.Hash{"v1": {}, "v2": {}}}
	m.Tags.List = []string{"v1"}
	if altered, err := m.Altered(t.Context()); err != nil || !slices.Equal(altered, []string{"v1", "v2"}) {
		t.Errorf("altered %q, %v", altered, err)
	}
	fill{t, to}.image("b", "v1", layer(3, 100))
	fill{t, to}.image("b", "v2", layer(3, 100))
	o, _ := m.run(t)
	if !slices.Equal(o.Foreign, []string{"v1"}) || len(o.Gone) > 0 {
		t.Errorf("%+v", o)
	}
	if _, own := m.Owned["v2"]; own || m.Owned["v1"] == (v1.Hash{}) {
		t.Errorf("it owns %v", m.Owned)
	}
}
