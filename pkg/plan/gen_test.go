package plan

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"github.com/ocisync/ocisync/schema"
)

// nativeTable is of a registry that can do everything.
func nativeTable() schema.Table {
	var t schema.Table
	for _, k := range schema.Kinds() {
		t = append(t, schema.Capability{Kind: k, Support: schema.Native})
	}
	return t
}

func genText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "b", "none", "never", "0", "a.b", `"q"`, "a,b", "line\nline", "\x1b[31m", "\u202e", "`@team`<img>"}),
		rapid.String(),
	)
}

// genSpec draws a spec by its struct. A live one holds no secrets and nothing
// that is ocisync's alone; the paths of its secrets are returned in unread.
func genSpec(t *rapid.T, k schema.Kind, live bool) (spec schema.Spec, unread []string) {
	spec, err := schema.NewSpec(k)
	if err != nil {
		t.Fatal(err)
	}
	genTable(t, reflect.ValueOf(spec).Elem(), shapeOf(reflect.TypeOf(spec).Elem(), "", nil), live, &unread)
	slices.Sort(unread)
	return spec, unread
}

func genTable(t *rapid.T, v reflect.Value, s shape, live bool, unread *[]string) {
	for i, p := range s {
		if !rapid.Bool().Draw(t, p.path) {
			continue
		}
		field := v.Field(i)
		switch {
		case live && p.sync == "local":
		case live && p.typ == reflect.TypeFor[*schema.SecretRef]():
			*unread = append(*unread, p.path)
		case p.below != nil:
			field.Set(reflect.New(p.typ.Elem()))
			genTable(t, field.Elem(), p.below, live, unread)
		case field.Kind() == reflect.Pointer:
			field.Set(reflect.New(p.typ.Elem()))
			genValue(t, field.Elem(), p.path)
		default:
			genList(t, field, p.path)
		}
	}
}

func genList(t *rapid.T, field reflect.Value, path string) {
	n := rapid.IntRange(0, 3).Draw(t, path+" length")
	switch field.Interface().(type) {
	case schema.Set:
		var items []string
		for range n {
			items = append(items, genText().Draw(t, path))
		}
		field.Set(reflect.ValueOf(schema.NewSet(items...)))
	case schema.Grants:
		var grants []schema.Grant
		for range n {
			grants = append(grants, schema.Grant{Name: genText().Draw(t, path), Rights: schema.Rights(rapid.IntRange(0, 15).Draw(t, path))})
		}
		field.Set(reflect.ValueOf(schema.NewGrants(grants...)))
	case schema.Pairs:
		pairs := schema.Pairs{}
		for i := range n {
			pairs = append(pairs, schema.Pair{Name: strconv.Itoa(i) + ".k", Value: genText().Draw(t, path)})
		}
		field.Set(reflect.ValueOf(pairs))
	case schema.Values:
		values := schema.Values{}
		for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "a.b", "b", `c."d.e"`}), 0, 4, rapid.ID[string]).Draw(t, path) {
			json := rapid.SampledFrom([]string{"1", "true", "false", `""`, `"x"`, "[]", `{"x":[1,2]}`}).Draw(t, p)
			values = append(values, schema.Value{Path: p, JSON: json})
		}
		slices.SortFunc(values, func(a, b schema.Value) int { return cmpText(a.Path, b.Path) })
		field.Set(reflect.ValueOf(values))
	default:
		list := reflect.MakeSlice(field.Type(), n, n)
		for i := range n {
			genValue(t, list.Index(i), path)
		}
		field.Set(list)
	}
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func genValue(t *rapid.T, v reflect.Value, path string) {
	switch v.Interface().(type) {
	case schema.Date:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]schema.Date{{Year: 2027, Month: 1, Day: 31}, {Year: 2028, Month: 2, Day: 29}}).Draw(t, path)))
		return
	case schema.Trigger:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]schema.Trigger{{On: "push"}, {On: "manual"}, {Schedule: "@daily"}, {Schedule: "@daily", Zone: "UTC"}}).Draw(t, path)))
		return
	case schema.SecretRef:
		v.Set(reflect.ValueOf(schema.SecretRef{Env: rapid.SampledFrom([]string{"OCISYNC_A", "OCISYNC_B"}).Draw(t, path)}))
		return
	case schema.Delivery:
		v.Set(reflect.ValueOf(schema.Delivery{File: "/run/ocisync/x"}))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(genText().Draw(t, path))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, path))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(rapid.SampledFrom([]int{-1, 0, 1, 1024, 3600, 86400 * 7, 1 << 40}).Draw(t, path)))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.IntRange(0, 15).Draw(t, path)))
	case reflect.Struct:
		for i := range v.NumField() {
			genValue(t, v.Field(i), path)
		}
	default:
		t.Fatalf("%s: the generator does not know %s", path, v.Type())
	}
}

// genKeys draws which objects there are.
func genKeys(t *rapid.T, label string) []schema.Key {
	var all []schema.Key
	for _, k := range schema.Kinds() {
		names := []string{"a", "b", "a/b"}
		switch {
		case k == schema.KindSettings || k == schema.KindGC || k == schema.KindAudit:
			names = []string{""}
		case k.OfNamespace() && !k.Single():
			names = []string{"a/x", "b/x", "a/b/x"}
			if k == schema.KindRobot {
				names = append(names, "ci")
			}
		}
		for _, n := range names {
			all = append(all, schema.Key{Kind: k, Name: n})
		}
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 12, rapid.ID[schema.Key]).Draw(t, label)
}

func genState(t *rapid.T, label string, live bool) schema.State {
	var s schema.State
	for _, k := range genKeys(t, label) {
		r := schema.Resource{Key: k}
		r.Spec, r.Unread = genSpec(t, k.Kind, live)
		if live {
			r.Version = rapid.SampledFrom([]string{"", "1"}).Draw(t, "version")
		} else {
			r.Source = schema.Position{File: "m.toml", Line: rapid.IntRange(1, 9).Draw(t, "line"), Col: 1}
		}
		s.Resources = append(s.Resources, r)
	}
	s.Scope = schema.ScopeOf(schema.Kinds()...)
	if err := s.Sort(); err != nil {
		t.Fatal(err)
	}
	return s
}

// genInput draws a whole comparison.
func genInput(t *rapid.T) Input {
	in := Input{
		Mode: "dev", Registry: Registry{Type: "memory", URL: "memory://"},
		Desired: genState(t, "desired", false), Live: genState(t, "live", true), Table: nativeTable(),
		Today: schema.Date{Year: 2026, Month: 5, Day: 1},
	}
	all := append(in.Desired.Kinds(), in.Live.Kinds()...)
	if len(all) > 0 && rapid.Bool().Draw(t, "narrow") {
		in.Live.Scope = schema.ScopeOf(rapid.SliceOf(rapid.SampledFrom(all)).Draw(t, "kinds")...)
	}
	for _, r := range in.Live.Resources {
		if rapid.IntRange(0, 9).Draw(t, "except") == 0 {
			in.Live.Scope.Except = append(in.Live.Scope.Except, r.Key)
		}
		if rapid.Bool().Draw(t, "owned") {
			in.Ownership.Owned = append(in.Ownership.Owned, r.Key)
		}
	}
	for _, r := range in.Live.Resources {
		if rapid.IntRange(0, 9).Draw(t, "cut") == 0 && r.Key.Name != "" {
			was := r.Key
			was.Name = strings.TrimSuffix(was.Name, "/x") + rapid.SampledFrom([]string{"", "/x", "/y", "c"}).Draw(t, "was")
			in.Live.Renamed = append(in.Live.Renamed, schema.Renaming{From: was, To: r.Key})
		}
	}
	in.Policy.Prune = rapid.SliceOf(rapid.SampledFrom(schema.Kinds())).Draw(t, "prune")
	in.Ownership.MayPrune = rapid.Bool().Draw(t, "may prune")
	owned := slices.Clone(in.Ownership.Owned)
	in.Ownership.Applied = func(k schema.Key) (schema.Spec, bool) {
		r, _ := in.Live.Get(k)
		return r.Spec, slices.Contains(owned, k) && r.Spec != nil
	}
	match := rapid.SampledFrom([]Match{Unknown, Equal, Different, Changed}).Draw(t, "match")
	in.Ownership.Secret = func(schema.Key, string, string, *schema.SecretRef) Match { return match }
	for _, r := range in.Desired.Resources {
		d := schema.Directive{Key: r.Key}
		switch rapid.IntRange(0, 11).Draw(t, "directive") {
		case 0:
			d.Previously = rapid.SampledFrom([]string{"a", "b", "x", "a/b"}).Draw(t, "previously")
		case 1:
			d.Paused = &schema.Pause{Reason: "frozen"}
		default:
			continue
		}
		in.Directives = append(in.Directives, d)
	}
	if rapid.Bool().Draw(t, "ignore") {
		in.Policy.Ignore = []schema.Ignore{{Resource: "*", Field: rapid.SampledFrom([]string{"description", "users", "users.a", "values", "a", "annotations", "secret"}).Draw(t, "field"), Reason: "so"}}
	}
	return in
}
