package zot

import (
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// TestARestartIsEnoughWhereZotIsOnlyNotToldOfItsFile: what a running Zot would not take
// over as it should is not written while it runs.
func TestARestartIsEnoughWhereZotIsOnlyNotToldOfItsFile(t *testing.T) {
	doc, conf, err := read("config.json", []byte(`{"storage":{"rootDirectory":"/r"},"http":{"realm":"old","accessControl":{"repositories":{"**":{"defaultPolicy":["read"]}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	now := view{doc: doc, conf: conf}.objects()
	settings := func(v ...schema.Value) plan.Change {
		r := schema.Resource{Key: schema.Key{Kind: schema.KindSettings}, Spec: &schema.Settings{Values: v}}
		c := plan.Change{Action: plan.Update, Key: r.Key, After: &r}
		for _, x := range v {
			c.Fields = append(c.Fields, plan.Field{Path: "values." + x.Path})
		}
		return c
	}
	replaced := status{running: true, misses: misses{config: true}}
	for name, c := range map[string]struct {
		change plan.Change
		st     status
		want   string
	}{
		"only not loaded":                  {settings(schema.Value{Path: loadedPath, JSON: loadedYes}), replaced, restartFirst},
		"not loaded, and realm":            {settings(schema.Value{Path: "http.realm", JSON: `"new"`}, schema.Value{Path: loadedPath, JSON: loadedYes}), replaced, byHand},
		"one that began with another file": {settings(schema.Value{Path: loadedPath, JSON: loadedYes}), status{running: true}, restartFirst},
		"a group":                          {makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")}), replaced, restartFirst},
		"the first retention":              {makes(schema.KindRetention, "a", &schema.Retention{Keep: []schema.KeepRule{{Newest: 1}}}), replaced, byHand},
		"realm of one that is told":        {settings(schema.Value{Path: "http.realm", JSON: `"new"`}), status{running: true}, byHand},
	} {
		if got := toDo(c.change, now, c.st); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
