package zot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// again is an actor's Zot that was started again since something was written, before
// its file was changed last.
type again struct {
	*actor
	id, log string
}

func (a *again) Status(context.Context) (providers.ProcessStatus, error) {
	return providers.ProcessStatus{Running: true, ID: a.id, Started: time.Now().Add(-time.Minute)}, nil
}

func (a *again) Log(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(a.log)), nil
}

// began is how Zot writes down what it starts with.
func began(t *testing.T, text string) string {
	t.Helper()
	var params json.RawMessage
	if err := json.Unmarshal([]byte(text), &params); err != nil {
		t.Fatal(err)
	}
	one, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"params":%s,"message":%q}`+"\n", one, recordStarted)
}

// TestWhatARestartInBetweenTookOverCounts: that the file says again what ocisync wrote
// tells nothing of a process that began with something else.
func TestWhatARestartInBetweenTookOverCounts(t *testing.T) {
	in := func(more string) func(string) string {
		return func(text string) string { return strings.Replace(text, `"http": {`, `"http": {`+more+`,`, 1) }
	}
	for name, tc := range map[string]struct {
		id    string
		began func(text string) string // nil: the log tells nothing
		want  string
	}{
		"an origin":            {"2", in(`"AllowOrigin":"http://evil"`), loadedNo},
		"a limit":              {"2", in(`"Ratelimit":{"Rate":null,"Methods":[{"Method":"DELETE","Rate":1}]}`), loadedNo},
		"what images it takes": {"2", in(`"Compat":["docker2s2"]`), loadedNo},
		"an extension": {"2", func(text string) string {
			return strings.Replace(text, `"http": {`, `"extensions":{"Metrics":{"Enable":true}},"http": {`, 1)
		}, loadedNo},
		"a timeout": {"2", in(`"ReadTimeout":1000000000`), loadedNo},
		"API keys":  {"2", func(text string) string { return strings.Replace(text, `"auth": {`, `"auth": {"APIKey":true,`, 1) }, loadedNo},
		"fast restart": {"2", func(text string) string {
			return strings.Replace(text, `"storage": {`, `"storage": {"FastRestart":true,`, 1)
		}, loadedNo},
		"what is nothing":            {"2", in(`"AllowOrigin":"","Ratelimit":null,"Compat":null,"ReadTimeout":60000000000`), loadedYes},
		"the same":                   {"2", in(`"Realm":""`), loadedYes},
		"nothing tells":              {"2", nil, loadedNo},
		"none but who was seen then": {"1", nil, loadedYes},
	} {
		t.Run(name, func(t *testing.T) {
			p, a := played(t, nowhere, func(string) string { return recordLoaded })
			if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
				t.Fatal(err)
			}
			now := &again{actor: a, id: tc.id}
			if tc.began != nil {
				text := tc.began(a.text())
				if text == a.text() {
					t.Fatalf("nothing is changed in %s", text)
				}
				now.log = began(t, text)
			}
			p.process = now
			if got := isLoaded(t, p); got != tc.want {
				t.Errorf("it is %s, want %s", got, tc.want)
			}
		})
	}
}

// TestNothingIsKnownOfWhatARestartTookOverWhereNothingTells: also where the file was
// changed since in what a Zot that runs takes over.
func TestNothingIsKnownOfWhatARestartTookOverWhereNothingTells(t *testing.T) {
	p, a := played(t, nowhere, func(string) string { return recordLoaded })
	if err := wrote(t, p, makes(schema.KindGroup, "g", &schema.Group{Users: schema.NewSet("u")})); err != nil {
		t.Fatal(err)
	}
	p.process = &again{actor: a, id: "2"}
	if err := os.WriteFile(a.config, []byte(strings.Replace(a.text(), `"storage": {`, `"storage": {"gcDelay":"3h",`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := isLoaded(t, p); got != loadedNo {
		t.Errorf("it is %s", got)
	}
}

// TestWhatZotLogsIsHeldAgainstItsFile: durations are numbers there, secrets stars, and
// what the file leaves out is filled in.
func TestWhatZotLogsIsHeldAgainstItsFile(t *testing.T) {
	for _, tc := range []struct {
		logged, file string
		differ       bool
	}{
		{`60000000000`, `"1m"`, false}, {`60000000000`, `"60s"`, false}, {`60000000000`, `"2m"`, true}, {`5`, `"x"`, false},
		{`1`, `1.0`, false}, {`1`, `2`, true}, {`true`, `false`, true}, {`true`, `true`, false}, {`"a"`, `"b"`, true}, {`"\u0061"`, `"a"`, false},
		{`"******"`, `"secret"`, false}, {`null`, `null`, false}, {`"x"`, `null`, false}, {`null`, `[]`, false}, {`null`, `["a"]`, true},
		{`["a"]`, `["a","b"]`, true}, {`["a","b"]`, `"a,b"`, false}, {`["a","b"]`, `["a","c"]`, true},
		{`[{"Method":"GET","Rate":1,"More":0}]`, `[{"method":"GET","rate":1}]`, false}, {`[{"Method":"GET","Rate":1}]`, `[{"method":"GET","rate":2}]`, true},
		{`[{"Method":"GET","Rate":1}]`, `[{"method":"GET","rate":1},{"method":"PUT","rate":1}]`, true},
		{`{"A":{"B":3600000000000}}`, `{"a":{"b":"1h"}}`, false}, {`{"A":{"B":3600000000000}}`, `{"a":{"b":"2h"}}`, true},
	} {
		if got := differs(json.RawMessage(tc.logged), json.RawMessage(tc.file)); got != tc.differ {
			t.Errorf("%s against %s: %v", tc.logged, tc.file, got)
		}
	}
}

// TestARestartInBetweenOntoAnotherPlaceIsKnown: the file says what ocisync wrote last of
// where content lies, and Zot serves what lies elsewhere.
func TestARestartInBetweenOntoAnotherPlaceIsKnown(t *testing.T) {
	for name, edit := range map[string]string{"as it was written": `"info"`, "with another level": `"debug"`} {
		t.Run(name, func(t *testing.T) {
			p, a := withContent(t)
			was, is := filepath.Join(p.paths.data, "other"), filepath.Join(p.paths.data, "storage")
			if err := os.Rename(is, was); err != nil {
				t.Fatal(err)
			}
			p.process = &again{a, "2", began(t, strings.Replace(a.text(), is, was, 1))}
			if err := os.WriteFile(a.config, []byte(strings.Replace(a.text(), `"info"`, edit, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := p.Prepare(t.Context(), []plan.Change{makes(schema.KindUser, "new", &schema.User{})})
			if err != nil || !strings.Contains(v[0].Held, a.config) {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}
