package providertest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

func checkSecrets(t testing.TB, h Harness) {
	p, want := filled(t, h)
	norm, notes, err := p.Normalize(want)
	if err != nil {
		t.Fatal(err)
	}
	live := readAll(t, p)
	said := []string{marshal(t, live), fmt.Sprintf("%+v", live), fmt.Sprint(notes)}
	for _, r := range norm.Resources {
		have, _ := live.Get(r.Key)
		if refs := schema.Secrets(have.Spec); len(refs) > 0 {
			t.Errorf("%s: the live object holds the reference %s", r.Key, refs[0].Ref)
		}
		if !slices.IsSorted(have.Unread) {
			t.Errorf("%s: Unread is not sorted: %q", r.Key, have.Unread)
		}
		for _, f := range schema.Secrets(r.Spec) {
			if !slices.Contains(have.Unread, f.Path) {
				t.Errorf("%s: %s is not among what exists and cannot be read: %q", r.Key, f.Path, have.Unread)
			}
			if canCheck(t, p, r, f.Path) {
				wantSecret(t, p, r, f.Path)
			}
			_, err := providers.ReadOnly(p).(providers.Checker).Check(t.Context(), r.Key, f.Path, schema.SecretRef{Env: SecretMissing})
			said = append(said, fmt.Sprint(err))
		}
		// An update that names a secret, of an object that is gone, makes errors.
		gone := r
		gone.Key.Name += "-gone"
		var fields []plan.Field
		for _, f := range schema.Secrets(r.Spec) {
			fields = append(fields, plan.Field{Path: f.Path, Sensitive: true})
		}
		bad := []plan.Change{{Action: plan.Update, Key: gone.Key, Before: &gone, After: &gone, Fields: fields}}
		verdicts, err := p.Prepare(t.Context(), bad)
		said = append(said, fmt.Sprint(verdicts, err), fmt.Sprint(write(t.Context(), p, bad)))
	}
	for _, text := range said {
		if strings.Contains(text, canary) {
			t.Errorf("a secret shows in %s", text)
		}
	}
}

func checkSecretKept(t testing.TB, h Harness) {
	p, _ := filled(t, h)
	live := readAll(t, p)
	for _, s := range h.subjects() {
		for _, f := range s.fields {
			whole, err := s.object(p.Capabilities(), f.path, f.Valid)
			if err != nil {
				t.Fatal(err)
			}
			have, exists := live.Get(s.key)
			if !exists || !isReference(whole.Spec, f.path) || !canCheck(t, p, whole, f.path) {
				continue
			}
			other, err := s.only(f.path, f.Other)
			if err != nil {
				t.Fatal(err)
			}
			after := have
			if after.Spec, err = overlay(have.Spec, other.Spec); err != nil {
				t.Fatal(err)
			}
			unnamed := plan.Change{Action: plan.Update, Key: s.key, Before: &have, After: &after}
			if err := write(t.Context(), p, []plan.Change{unnamed}); err != nil {
				t.Errorf("%s: %v", s.key, err)
			}
			wantSecret(t, p, whole, f.path)
		}
	}
}

// canCheck reports whether the provider can compare a live secret.
func canCheck(t testing.TB, p providers.Provider, r schema.Resource, path string) bool {
	t.Helper()
	c, ok := p.(providers.Checker)
	if !ok {
		return false
	}
	for _, f := range schema.Secrets(r.Spec) {
		if f.Path == path {
			_, err := c.Check(t.Context(), r.Key, path, f.Ref)
			return !errors.Is(err, providers.ErrUnsupported)
		}
	}
	return false
}

// wantSecret looks that the live secret is the one an object refers to, and
// not the other one.
func wantSecret(t testing.TB, p providers.Provider, r schema.Resource, path string) {
	t.Helper()
	c, ok := p.(providers.Checker)
	if !ok {
		return
	}
	for _, f := range schema.Secrets(r.Spec) {
		for _, name := range []string{SecretA, SecretB} {
			if f.Path != path {
				continue
			}
			equal, err := c.Check(t.Context(), r.Key, path, schema.SecretRef{Env: name})
			if err != nil || equal != (name == f.Ref.Env) {
				t.Errorf("%s: the live %s is %s: %v, %v; it should be %s", r.Key, path, name, equal, err, f.Ref)
			}
		}
	}
}

func checkReopen(t testing.TB, h Harness) {
	p, want := filled(t, h)
	before := readAll(t, p)
	if h.Reopen == nil {
		t.Fatal("the harness cannot reopen the registry; give it Reopen")
	}
	p = h.Reopen(t, p)
	after := readAll(t, p)
	if diff := cmp.Diff(marshal(t, unversioned(before)), marshal(t, unversioned(after))); diff != "" {
		t.Errorf("what was written did not last (-before +after):\n%s", diff)
	}
	if n, err := h.Cycle(t.Context(), p, want); err != nil || n != 0 {
		t.Errorf("after reopening, the same again makes %d changes: %v", n, err)
	}
}

func unversioned(s schema.State) schema.State {
	s.Resources = slices.Clone(s.Resources)
	for i := range s.Resources {
		s.Resources[i].Version = ""
	}
	return s
}

func checkChange(t testing.TB, h Harness) {
	if h.Change == nil {
		return // the registry has no way in but the provider
	}
	table := h.New(t).Capabilities() // one: a real registry takes its share of what a host has
	for _, s := range h.subjects() {
		for _, f := range s.fields {
			if table.Find(s.key.Kind, f.path).Support == schema.Unsupported {
				continue
			}
			changeBehind(t, h, s, f)
		}
	}
}

func changeBehind(t testing.TB, h Harness, s subject, f aField) {
	t.Helper()
	p := h.New(t)
	whole, err := s.object(p.Capabilities(), f.path, f.Valid)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.object(p.Capabilities(), f.path, f.Other)
	if err != nil {
		t.Fatal(err)
	}
	want, err := desired(p.Capabilities(), whole)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Cycle(t.Context(), p, want); err != nil {
		t.Fatalf("creating %s: %v", s.key, err)
	}
	if isReference(whole.Spec, f.path) && !canCheck(t, p, whole, f.path) || fileAlone(t, p, want, s.key, f.path) || unseen(readAll(t, p), s.key, whole.Spec, f.path) {
		return
	}
	before, _ := readAll(t, p).Get(s.key)
	h.Change(t, p, other)
	after, _ := readAll(t, p).Get(s.key)
	if before.Version != "" && before.Version == after.Version {
		t.Errorf("%s: %s changed and the version is still %s", s.key, f.path, after.Version)
	}
	for i, wantChanges := range []int{1, 0} {
		if n, err := h.Cycle(t.Context(), p, want); err != nil || n != wantChanges {
			t.Errorf("%s: %s was changed; run %d makes %d changes, want %d: %v", s.key, f.path, i+1, n, wantChanges, err)
		}
	}
}

// spoil overwrites all that a spec points at.
func spoil(s schema.Spec) { spoilValue(reflect.ValueOf(s).Elem()) }

func spoilValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			spoilValue(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			spoilValue(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			spoilValue(v.Index(i))
		}
	case reflect.String:
		v.SetString(v.String() + " spoiled")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8:
		v.SetUint(v.Uint() ^ 1)
	}
}
