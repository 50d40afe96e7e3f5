package content

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ocisync/ocisync/pkg/providers"
)

// tells is a registry that lists itself as it is, until a test has it list otherwise.
type tells struct {
	*Registry
	asked atomic.Int32
	edit  func(map[string]providers.Listed) error
}

func (s *served) tells(t *testing.T) *tells {
	t.Helper()
	r := &tells{Registry: s.open(t), edit: func(map[string]providers.Listed) error { return nil }}
	plain := s.open(t)
	r.holdings = func(ctx context.Context, repositories []string) (map[string]providers.Listed, error) {
		r.asked.Add(1)
		out := map[string]providers.Listed{}
		for _, name := range repositories {
			tags, ok, err := plain.Tags(ctx, name)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			is := providers.Listed{Tags: map[string]string{}, Referred: map[string]bool{}}
			for _, tag := range tags {
				digest, _, err := plain.head(ctx, Reference{Repository: name, Tag: tag})
				if err != nil {
					return nil, err
				}
				if is.Tags[tag] = digest.String(); slices.Contains(tags, fallback(digest)) {
					is.Referred[digest.String()] = true
				}
			}
			out[name] = is
		}
		return out, r.edit(out)
	}
	return r
}

func names(items []Item) (sources, targets []string) {
	for _, i := range items {
		sources, targets = append(sources, i.Source), append(targets, i.Target)
	}
	return sources, targets
}

// Of what both sides told, nothing is asked: neither tags nor what refers to them. Where
// one told, the other is asked for each tag, as it would be anyway.
func TestWhatARegistryToldIsNotAskedFor(t *testing.T) {
	from, to := serve(t), serve(t)
	const repositories, tags = 8, 5
	items, _, _ := corpus(t, from, repositories, tags)
	sources, targets := names(items)
	source, target := from.tells(t), to.tells(t)
	c := &Copier{From: source.Registry, To: target.Registry, Referrers: true}
	if got := c.tally(t.Context(), items); got.err != nil || got.copied != repositories*tags {
		t.Fatalf("%+v", got)
	}
	none, heads := map[string]int{}, map[string]int{"HEAD manifests": repositories * tags}
	for what, c := range map[string]struct {
		from         Source
		to           Target
		source, dest map[string]int
	}{
		"both told":       {source.Look(t.Context(), sources), target.Look(t.Context(), targets), none, none},
		"the source told": {source.Look(t.Context(), sources), target.Registry, none, heads},
		"the target told": {source.Registry, target.Look(t.Context(), targets), map[string]int{"GET tags": repositories, "HEAD manifests": repositories * tags}, none},
	} {
		from.forget()
		to.forget()
		copier := &Copier{From: c.from, To: c.to, Referrers: what != "the target told"}
		if got := copier.tally(t.Context(), items); got.err != nil || got.same != repositories*tags {
			t.Errorf("%s: %+v", what, got)
		}
		if !maps.Equal(from.asked, c.source) || !maps.Equal(to.asked, c.dest) {
			t.Errorf("%s: the source was asked %v, want %v; the target %v, want %v", what, from.asked, c.source, to.asked, c.dest)
		}
	}
}

// What a copy wrote is known as it wrote it, whatever was told before.
func TestWhatACopyWroteIsNotAsItWasTold(t *testing.T) {
	from, to := serve(t), serve(t)
	items, _, _ := corpus(t, from, 2, 3)
	sources, targets := names(items)
	source, target := from.tells(t), to.tells(t)
	c := &Copier{From: source.Registry, To: target.Registry}
	if got := c.tally(t.Context(), items); got.err != nil {
		t.Fatalf("%+v", got)
	}
	told := target.Look(t.Context(), targets)
	moved := fill{t, from}.image(sources[0], "v1", layer(77, 500))
	fill{t, from}.image(sources[0], "v9", layer(78, 500))
	for round, want := range []int{2, 0} {
		c = &Copier{From: source.Look(t.Context(), sources), To: told}
		if got := c.tally(t.Context(), items); got.err != nil || got.copied != want || got.same != 7-want {
			t.Errorf("round %d: %+v", round, got)
		}
	}
	same(t, source.Registry, told, items)
	if is, ok, err := told.head(t.Context(), Reference{Repository: targets[0], Tag: "v1"}); err != nil || !ok || is != moved.Digest {
		t.Errorf("v1 is %s, %t, %v", is, ok, err)
	}
	if err := told.untag(t.Context(), Reference{Repository: targets[0], Digest: moved.Digest}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := told.head(t.Context(), Reference{Repository: targets[0], Tag: "v1"}); err != nil || ok {
		t.Errorf("v1 is deleted, and there: %v", err)
	}
}

// What refers to an image comes along where it was told that something does, with the
// tags that hold it, which a list of images may not have.
func TestWhatRefersToAnImageComesAlongThoughNoListHasIt(t *testing.T) {
	from, to := serve(t), serve(t)
	f := fill{t, from}
	image := f.image("a", "v1", layer(1, 100))
	f.image("a", "v2", layer(2, 100))
	m := v1.Manifest{SchemaVersion: 2, MediaType: image.MediaType, Config: f.blob("a", []byte("{}")), Layers: []v1.Descriptor{f.blob("a", layer(3, 50))}, Subject: &image}
	signature := f.manifest("a", "", m)
	f.manifest("a", fallback(image.Digest), v1.IndexManifest{SchemaVersion: 2, MediaType: "application/vnd.oci.image.index.v1+json", Manifests: []v1.Descriptor{signature}})
	f.image("a", fallback(image.Digest)+".sig", layer(4, 50))
	hide := func(told map[string]providers.Listed) error {
		for _, is := range told {
			maps.DeleteFunc(is.Tags, func(tag, _ string) bool { return attached.MatchString(tag) })
		}
		return nil
	}
	source, target := from.tells(t), to.tells(t)
	source.edit, target.edit = hide, hide
	items := []Item{{Source: "a", Target: "b"}}
	for round := range 3 {
		wrote := to.asked["PUT manifests"]
		c := &Copier{From: source.Look(t.Context(), []string{"a"}), To: target.Look(t.Context(), []string{"b"}), Referrers: true, OnlyMissing: round == 2}
		got := c.tally(t.Context(), items)
		if got.err != nil || got.copied+got.same != 4 || round > 0 && (got.copied > 0 || to.asked["PUT manifests"] > wrote) {
			t.Errorf("round %d: %+v", round, got)
		}
		same(t, source.Registry, target.Registry, items)
		// once the image is gone, nothing says that the repository has such tags
		target.edit = func(told map[string]providers.Listed) error {
			for name, is := range told {
				is.Referred = nil
				told[name] = is
			}
			return hide(told)
		}
	}
}

// A registry that fails to tell is itself, and what it tells that cannot be is not
// believed.
func TestAListThatIsWrongIsDoneWithout(t *testing.T) {
	from, to := serve(t), serve(t)
	items, _, _ := corpus(t, from, 2, 3)
	sources, _ := names(items)
	source := from.tells(t)
	for what, edit := range map[string]func(map[string]providers.Listed) error{
		"it fails":     func(map[string]providers.Listed) error { return errors.New("it broke off") },
		"no digest":    func(told map[string]providers.Listed) error { told[sources[0]].Tags["v1"] = "latest"; return nil },
		"one is empty": func(told map[string]providers.Listed) error { delete(told, sources[0]); return nil },
	} {
		source.edit = edit
		look := source.Look(t.Context(), sources)
		if _, told := look.(*looked); told != (what != "it fails") {
			t.Errorf("%s: it is %T", what, look)
		}
		from.forget()
		if tags, ok, err := look.Tags(t.Context(), sources[0]); err != nil || !ok || strings.Join(tags, " ") != "v0 v1 v2" || from.asked["GET tags"] != 1 {
			t.Errorf("%s: %q, %t, %v, %v", what, tags, ok, err, from.asked)
		}
	}
	if look := source.Look(t.Context(), nil); look != Target(source.Registry) {
		t.Errorf("of nothing it is %T", look)
	}
	if _, ok := to.open(t).Look(t.Context(), sources).(*Registry); !ok {
		t.Error("a registry that cannot tell is none")
	}
}
