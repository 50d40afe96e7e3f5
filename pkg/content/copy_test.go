package content

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// corpus is repositories that share layers: of each image one with ten repositories, one
// with its own, one with nobody.
func corpus(t *testing.T, s *served, repositories, tags int) (items []Item, pairs, blobs int) {
	t.Helper()
	f := fill{t, s}
	all := map[string]bool{}
	for r := range repositories {
		name := fmt.Sprintf("team%d/app%03d", r%7, r)
		in := map[string]bool{}
		for n := range tags {
			layers := [][]byte{layer(uint64(1_000_000+r%max(1, repositories/10)), 3000), layer(uint64(2_000_000+r), 2000), layer(uint64(r*1000+n), 1000)}
			f.image(name, fmt.Sprintf("v%d", n), layers...)
			for _, l := range layers {
				in[digestOf(l).Hex] = true
			}
			in[digestOf([]byte(`{"of":"`+name+fmt.Sprintf("v%d", n)+`"}`)).Hex] = true
		}
		maps.Copy(all, in)
		pairs += len(in)
		items = append(items, Item{Source: name, Target: "copy/" + name})
	}
	return items, pairs, len(all)
}

// same holds that both sides have the same tags with the same digests.
func same(t *testing.T, from, to *Registry, items []Item) {
	t.Helper()
	for _, i := range items {
		a, _, err := from.Tags(t.Context(), i.Source)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := to.Tags(t.Context(), i.Target)
		if err != nil || !slices.Equal(a, b) {
			t.Fatalf("%s has %q, %s %q, %v", i.Source, a, i.Target, b, err)
		}
		for _, tag := range a {
			x, _, err := from.head(t.Context(), Reference{Repository: i.Source, Tag: tag}, nil)
			if err != nil {
				t.Fatal(err)
			}
			y, _, err := to.head(t.Context(), Reference{Repository: i.Target, Tag: tag}, nil)
			if err != nil || x != y {
				t.Errorf("%s:%s is %s, and at the target %s, %v", i.Source, tag, x, y, err)
			}
		}
	}
}

// TestACopyAsksNoMoreThanItMust: of R repositories with T tags, P blobs in repositories
// and G blobs at all, lists and manifests and blobs are read once, and nothing is asked
// of a target that is new but its list.
func TestACopyAsksNoMoreThanItMust(t *testing.T) {
	from, to := serve(t), serve(t)
	const repositories, tags = 20, 5
	items, pairs, blobs := corpus(t, from, repositories, tags)
	from.forget()
	c := &Copier{From: from.open(t), To: to.open(t), AtOnce: 4}
	got := c.tally(t.Context(), items)
	if want := (Moved{Blobs: blobs, Mounted: pairs - blobs, Bytes: got.moved.Bytes}); got.err != nil || got.copied != repositories*tags || got.moved != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if want := map[string]int{"GET tags": repositories, "GET manifests": repositories * tags, "GET blobs": blobs}; !maps.Equal(from.asked, want) {
		t.Errorf("the source was asked %v, want %v", from.asked, want)
	}
	first := to.asked["HEAD manifests"] // until the first answer tells that the target is new
	delete(to.asked, "HEAD manifests")
	if want := map[string]int{"GET tags": repositories, "POST uploads": pairs, "PUT uploads": blobs, "PUT manifests": repositories * tags}; first > 4 || !maps.Equal(to.asked, want) {
		t.Errorf("the target was asked %v and %d HEADs, want %v", to.asked, first, want)
	}
	same(t, c.From, c.To, items)

	from.forget()
	to.forget()
	c = &Copier{From: from.open(t), To: to.open(t), AtOnce: 4}
	if got := c.tally(t.Context(), items); got.err != nil || got.same != repositories*tags || got.moved != (Moved{}) {
		t.Errorf("again: %+v", got)
	}
	if want := map[string]int{"GET tags": repositories, "HEAD manifests": repositories * tags}; !maps.Equal(from.asked, want) {
		t.Errorf("again the source was asked %v, want %v", from.asked, want)
	}
	if want := map[string]int{"HEAD manifests": repositories * tags}; !maps.Equal(to.asked, want) {
		t.Errorf("again the target was asked %v, want %v", to.asked, want)
	}
}
