package distribution_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

func (c *collected) store(name string) string {
	return filepath.Join(c.data, "storage/docker/registry/v2", name)
}

func (c *collected) put(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(c.store(name)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.store(name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// push stores a manifest that names one blob, and returns the manifest's link
// and data.
func (c *collected) push(t *testing.T, repository string, size int) (link, data string) {
	t.Helper()
	blob := func(b []byte) (digest, data string) {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		data = "blobs/sha256/" + sum[:2] + "/" + sum + "/data"
		c.put(t, data, b)
		return "sha256:" + sum, data
	}
	layer, _ := blob([]byte(strings.Repeat("x", size)))
	digest, data := blob([]byte(`{"layers":[{"digest":"` + layer + `"}]}`))
	link = "repositories/" + repository + "/_manifests/revisions/sha256/" + strings.TrimPrefix(digest, "sha256:") + "/link"
	c.put(t, link, []byte(digest))
	return link, data
}

func limited(limit schema.Size) []schema.Resource {
	return []schema.Resource{
		{Key: schema.Key{Kind: schema.KindNamespace, Name: "team"}, Spec: &schema.Namespace{}},
		{Key: schema.Key{Kind: schema.KindQuota, Name: "team"}, Spec: &schema.Quota{Limit: &limit}},
	}
}

func (c *collected) applied(t *testing.T, objects ...schema.Resource) int {
	t.Helper()
	st := schema.State{Resources: objects, Scope: schema.ScopeOf(schema.KindNamespace, schema.KindQuota)}
	if err := st.Sort(); err != nil {
		t.Fatal(err)
	}
	n, err := providertest.DirectCycle(t.Context(), c.Provider, st)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (c *collected) measure(t *testing.T) providers.Measured {
	t.Helper()
	r, err := c.Run(t.Context(), "quota", false)
	if err != nil || len(r.Measured) != 1 {
		t.Fatal(r, err)
	}
	return r.Measured[0]
}

func (c *collected) full(t *testing.T) bool {
	t.Helper()
	list, err := c.Withheld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cmp.Equal(list, []string{"team"})
}

func TestAFullNamespaceIsToldToTheTokenService(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	c.applied(t, limited(1000)...)
	if m := c.measure(t); m.Used != 0 || m.Full {
		t.Errorf("nothing was pushed, and %+v is used", m)
	}
	one, _ := c.push(t, "team/a", 500)
	if m := c.measure(t); m.Full || m.Used < 500 || c.full(t) {
		t.Errorf("half of it is used: %+v", m)
	}
	c.push(t, "team/a", 600)
	c.push(t, "other/b", 6000)
	if r, err := c.Run(t.Context(), "quota", true); err != nil || !r.Measured[0].Full || c.full(t) {
		t.Errorf("a dry run: %+v, %v", r, err)
	}
	if m := c.measure(t); !m.Full || !m.Changed || m.Used < 1100 || m.Used > 1500 || !c.full(t) {
		t.Errorf("more than all is used: %+v", m)
	}
	if n := c.applied(t, limited(1000)...); n != 0 {
		t.Errorf("%d changes of the same", n)
	}
	notes, err := c.Remarks(t.Context(), schema.State{Resources: limited(1000)}, time.Now())
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "used, push withdrawn since") {
		t.Errorf("the plan says %v, %v", notes, err)
	}
	undeclared := slices.DeleteFunc(limited(1000), func(r schema.Resource) bool { return r.Key.Kind == schema.KindQuota })
	notes, err = c.Remarks(t.Context(), schema.State{Resources: undeclared}, time.Now())
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0].Text, "by a quota that the mode does not declare") {
		t.Errorf("the plan of a mode without the quota says %v, %v", notes, err)
	}
	if err := os.Remove(c.store(one)); err != nil {
		t.Fatal(err)
	}
	if m := c.measure(t); m.Full || !m.Changed || m.Used < 600 || c.full(t) {
		t.Errorf("one manifest of two was deleted: %+v", m)
	}
	c.push(t, "team/a", 500)
	c.measure(t)
	if n := c.applied(t, limited(5000)...); n != 1 || c.full(t) {
		t.Errorf("the quota was raised with %d changes", n)
	}
}

// TestALayerCountsByWhateverDigestAManifestNamesIt: content lies by its sha256.
func TestALayerCountsByWhateverDigestAManifestNamesIt(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	c.applied(t, limited(1000)...)
	layer := []byte(strings.Repeat("y", 700))
	by256, by512 := fmt.Sprintf("%x", sha256.Sum256(layer)), fmt.Sprintf("%x", sha512.Sum512(layer))
	manifest := []byte(`{"layers":[{"digest":"sha512:` + by512 + `"}]}`)
	sum := fmt.Sprintf("%x", sha256.Sum256(manifest))
	c.put(t, "blobs/sha256/"+by256[:2]+"/"+by256+"/data", layer)
	c.put(t, "blobs/sha256/"+sum[:2]+"/"+sum+"/data", manifest)
	c.put(t, "repositories/team/a/_layers/sha512/"+by512+"/link", []byte("sha256:"+by256))
	c.put(t, "repositories/team/a/_manifests/revisions/sha256/"+sum+"/link", []byte("sha256:"+sum))
	if m := c.measure(t); m.Used != schema.Size(len(layer)+len(manifest)) {
		t.Errorf("%d bytes are used, not %d", m.Used, len(layer)+len(manifest))
	}
}

func TestContentThatCannotBeMeasuredChangesNothingInTheTokenService(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	c.applied(t, limited(1000)...)
	link, data := c.push(t, "team/a", 1200)
	good, err := os.ReadFile(c.store(data))
	if err != nil {
		t.Fatal(err)
	}
	c.put(t, data, []byte("{"))
	if _, err := c.Run(t.Context(), "quota", false); err == nil || !strings.Contains(err.Error(), "quota/team") || c.full(t) {
		t.Errorf("a ruin is no measure: %v", err)
	}
	c.put(t, data, good)
	c.measure(t)
	for _, change := range []func() error{
		func() error { return os.Rename(filepath.Join(c.data, "storage"), filepath.Join(c.data, "away")) },
		func() error { return os.Rename(filepath.Join(c.data, "away"), filepath.Join(c.data, "storage")) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Run(t.Context(), "quota", false); !c.full(t) {
			t.Errorf("push was given back (%v)", err)
		}
	}
	if err := os.Remove(c.store(link)); err != nil {
		t.Fatal(err)
	}
	if c.measure(t); c.full(t) {
		t.Error("there is room, and push is not given back")
	}
}

func TestAQuotaOfContentElsewhereIsRefused(t *testing.T) {
	c := collecting(t, schema.DriverProcess)
	b, err := os.ReadFile(filepath.Join(c.data, "config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.Replace(string(b), "filesystem:", "inmemory:", 1))
	if err := os.WriteFile(filepath.Join(c.data, "config.yml"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	r := limited(1000)[1]
	v, err := c.Prepare(t.Context(), []plan.Change{{Action: plan.Create, Key: r.Key, After: &r}})
	if err != nil || !strings.Contains(v[0].Refused, "directory of this host") {
		t.Errorf("%+v, %v", v, err)
	}
}
