package zot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/pkg/providers/zot"
	"github.com/ocisync/ocisync/schema"
)

// Whoever wrote a configuration knows its keys, and nothing of the types of the
// program that reads it.
func TestWhatIsWrongInAFileIsSaidInPlainWords(t *testing.T) {
	for text, want := range map[string]string{
		`{"http":"x","storage":[1]}`:                              `zot.json:1:2: http: a text stands here; it is a table`,
		`{"http":{"accessControl":{"repositories":["team/**"]}}}`: `repositories: a list stands here; it is a table`,
		`{"storage":{"gcDelay":true}}`:                            `zot.json:1:13: storage.gcDelay: true is no duration`,
		`{"extensions":{"sync":{"registries":{"a":1}}}}`:          `registries: a table stands here; it is a list`,
		`{}`: `the least that Zot starts with is {"storage"`,
	} {
		p, _ := placed(t, text, "")
		_, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "mend the file") || strings.ContainsAny(err.Error(), "*`") || strings.Contains(err.Error(), "struct") {
			t.Errorf("of %s it is said: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		`{"log":{"level":"info"},"Log":{}}`: `zot.json:1:25: the key "Log" stands here again, after "log" at `,
		"storage:\n  rootDirectory: /x\n":   "is YAML",
	} {
		p, name := placed(t, text, "")
		if want == "is YAML" {
			p = named(t, strings.TrimSuffix(name, ".json")+".yaml", text)
		}
		_, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), " edited") || strings.Contains(err.Error(), "mend the file") || strings.Contains(err.Error(), "not start") {
			t.Errorf("of %s, with which Zot runs, it is said: %v", text, err)
		}
	}
	p, name := placed(t, handMade, "")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings)); err == nil || !strings.Contains(err.Error(), filepath.Base(name)+": no such file or directory; put it there, or correct registry.files.config") {
		t.Errorf("of an absent file it is said: %v", err)
	}
}

// named is a provider of a configuration of that name.
func named(t *testing.T, name, text string) *zot.Provider {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := zot.New(schema.Registry{Type: schema.TypeZot, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: name}}, nil, providertest.Secrets{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
