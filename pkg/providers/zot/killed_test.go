package zot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
)

// Of a job that is killed when it has written what ocisync keeps, either
// configuration is left. Each is read right, and the next job brings it to an end.
func TestAKilledJobIsFinishedByTheNext(t *testing.T) {
	var p *Provider
	var between []byte // what ocisync keeps once the configuration is written, and not noted yet
	p, a := played(t, nowhere, func(string) string {
		b, err := os.ReadFile(p.paths.own)
		if err != nil {
			t.Error(err)
		}
		between = b
		return recordLoaded
	})
	limit := schema.Size(100)
	if err := wrote(t, p,
		makes(schema.KindNamespace, "team", &schema.Namespace{}),
		makes(schema.KindAccess, "team", &schema.Access{Users: schema.NewGrants(schema.Grant{Name: "alice", Rights: schema.Pull | schema.Push})}),
		makes(schema.KindQuota, "team", &schema.Quota{Limit: &limit}),
	); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(p.paths.data, "storage/team/app")
	digest := strings.Repeat("a", 64)
	put := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(dir, "blobs/sha256", digest), `{"layers":[],"annotations":{"x":"`+strings.Repeat("x", 200)+`"}}`)
	store := map[bool]func(){
		true: func() {
			put(filepath.Join(dir, "index.json"), fmt.Sprintf(`{"manifests":[{"digest":"sha256:%s"}]}`, digest))
		},
		false: func() { put(filepath.Join(dir, "index.json"), `{"manifests":[]}`) },
	}
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	job := func() {
		t.Helper()
		if _, err := p.Run(t.Context(), jobQuota, false); err != nil {
			t.Fatal(err)
		}
	}
	live := func() schema.State {
		t.Helper()
		st, err := p.Read(t.Context(), schema.ScopeOf(schema.KindNamespace, schema.KindAccess, schema.KindImmutable, schema.KindQuota))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	config := map[bool]string{false: read(a.config)} // by whether push is withdrawn
	want := live()
	kept := map[bool]string{}
	for _, full := range []bool{true, false} {
		store[full]()
		job()
		config[full], kept[full] = read(a.config), string(between)
	}
	if strings.Count(config[true], `"update"`) >= strings.Count(config[false], `"update"`) {
		t.Fatal("nothing is withdrawn, or given back")
	}
	for _, was := range []bool{false, true} {
		for _, is := range []bool{false, true} { // what is in the files when it is killed
			put(p.paths.own, kept[was])
			put(a.config, config[is])
			if diff := cmp.Diff(want, live()); diff != "" {
				t.Errorf("killed while full becomes %v, with the configuration of %v: %s", was, is, diff)
			}
			for _, full := range []bool{false, true} { // by the next job
				put(p.paths.own, kept[was])
				put(a.config, config[is])
				store[full]()
				job()
				if got := read(a.config); strings.TrimSpace(got) != strings.TrimSpace(config[full]) {
					t.Errorf("killed while full becomes %v, with the configuration of %v: the next job finds full %v and leaves\n%s", was, is, full, cmp.Diff(config[full], got))
				}
				if list, err := p.Withheld(t.Context()); err != nil || (len(list) > 0) != full {
					t.Errorf("withheld in %q, %v", list, err)
				}
			}
		}
	}
}
