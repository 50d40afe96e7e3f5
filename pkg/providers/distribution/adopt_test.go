package distribution_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// placed is a provider of a config.yml that somebody wrote and runs, with the
// accounts beside it.
func placed(t testing.TB, text string) (p *distribution.Provider, file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "config.yml")
	const people = "# people\nolga:$2y$05$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\npiotr:$2a$10$bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
	if err := errors.Join(
		os.WriteFile(file, []byte(strings.ReplaceAll(text, "$DIR", dir)), 0o600),
		os.WriteFile(filepath.Join(dir, "htpasswd"), []byte(people), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	p, err := distribution.New(schema.Registry{
		Type: schema.TypeDistribution, URL: "http://127.0.0.1:9", Files: &schema.FilePaths{Config: file},
	}, nil, providertest.Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	return p, file
}

func handWritten(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("testdata/config/*.yml")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d configurations, %v", len(names), err)
	}
	all := map[string]string{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = string(b)
	}
	return all
}

// canary is part of every secret of the configurations, and of nothing else.
const canary = "canary7"

// TestWhatSomebodyWroteIsReadAsItStandsAndNoSecretWithIt: as it was read it is
// no change, and nothing that is shown has a secret.
func TestWhatSomebodyWroteIsReadAsItStandsAndNoSecretWithIt(t *testing.T) {
	for name, text := range handWritten(t) {
		t.Run(name, func(t *testing.T) {
			p, file := placed(t, text)
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			live, err := p.Read(t.Context(), schema.ScopeOf(schema.Kinds()...))
			if err != nil {
				t.Fatal(err)
			}
			desired := schema.State{Scope: live.Scope}
			var users []string
			for _, r := range live.Resources {
				if r.Key.Kind == schema.KindUser {
					users = append(users, r.Key.Name)
				}
				desired.Resources = append(desired.Resources, schema.Resource{Key: r.Key, Spec: r.Spec})
			}
			if want := map[string]string{"htpasswd.yml": "olga piotr"}[name]; strings.Join(users, " ") != want {
				t.Errorf("users %q, want %q", users, want)
			}
			if n, err := providertest.DirectCycle(t.Context(), p, desired); n != 0 || err != nil {
				t.Errorf("as it was read it makes %d changes, %v", n, err)
			}
			if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
				t.Errorf("%v: the file changed:\n%s", err, cmp.Diff(string(before), string(after)))
			}
			notes, err := p.Remarks(t.Context(), desired, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range notes {
				if n.Key.Kind == schema.KindSettings {
					t.Errorf("it is found fault with: %s", n.Text)
				}
			}
			shown := []string{fmt.Sprintf("%v", notes)}
			for _, r := range live.Resources {
				b, err := r.MarshalJSON()
				if err != nil {
					t.Fatal(err)
				}
				shown = append(shown, string(b))
			}
			// all of it, planned away
			changes, verdicts := settings(t, p, level("error"))
			shown = append(shown, fmt.Sprintf("%+v %+v", changes, verdicts))
			for _, c := range changes {
				shown = append(shown, fmt.Sprintf("%+v %+v %+v", c.Before, c.After, c.Fields))
				for _, r := range []*schema.Resource{c.Before, c.After} {
					if b, err := r.MarshalJSON(); err == nil {
						shown = append(shown, string(b))
					}
				}
			}
			for _, s := range shown {
				if strings.Contains(s, canary) {
					t.Errorf("a secret is shown: %s", s)
				}
			}
		})
	}
}

// TestAnEditKeepsWhatSomebodyWrote: comments, order and keys that nobody manages.
func TestAnEditKeepsWhatSomebodyWrote(t *testing.T) {
	for name, text := range handWritten(t) {
		t.Run(name, func(t *testing.T) {
			p, file := placed(t, text)
			want := schema.Value{Path: "http.addr", JSON: `"127.0.0.1:7777"`}
			changes, verdicts := settings(t, p, want)
			if len(changes) != 1 || verdicts[0].Refused != "" || verdicts[0].Effect != plan.ByHand {
				t.Fatalf("%+v %+v", changes, verdicts)
			}
			if err := write(t, p, changes); err != nil {
				t.Fatal(err)
			}
			after, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if changes, _ := settings(t, p, want); len(changes) != 0 {
				t.Errorf("a second plan says %+v", changes)
			}
			// every comment and every scalar stands there, in its order
			at := 0
			for _, word := range words(text) {
				i := strings.Index(string(after)[at:], word)
				if i < 0 {
					t.Fatalf("%q is gone, or stands before others:\n%s", word, after)
				}
				at += i
			}
		})
	}
}

// words are the comments and the texts of a document, but for where it listens.
func words(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "addr:") {
			continue
		}
		for word := range strings.FieldsSeq(line) {
			if word = strings.Trim(word, "{}[],'\":-$DIR/"); len(word) > 2 && !strings.Contains(word, `\`) {
				out = append(out, word)
			}
		}
	}
	return out
}

// TestWhatDistributionWouldIgnoreOrDieOfIsSaidByItsLine in a file that somebody
// wrote, and keeps it from being written to.
func TestWhatDistributionWouldIgnoreOrDieOfIsSaidByItsLine(t *testing.T) {
	p, file := placed(t, `version: 0.1
log:
  levels: debug
storage:
  filesystem:
    rootdirectory: /nonexistent
  s4: {secretkey: canary7}
  delete: {enabled: "true"}
http:
  addr: :5000
  relativeurls: "canary7"
  headers: {X-A: canary7}
redis:
  options: {password: canary7}
health:
  tcp: {addr: canary7}
`)
	want := []string{
		":3: log.levels: Distribution has no such setting, and ignores it; log has accesslog, ",
		":4: storage: content has one place; keep one of filesystem, s4",
		":11: http.relativeurls: write true or false",
		":12: http.headers.X-A: write a list of texts",
		":14: redis.options: Distribution has no such setting",
		":16: health.tcp: write a list of tables",
	}
	notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range notes {
		got = append(got, n.Text)
	}
	if len(got) != len(want) || !slices.EqualFunc(want, got, func(w, g string) bool { return strings.HasPrefix(g, file+w) }) {
		t.Errorf("remarks:\n%s", strings.Join(got, "\n"))
	}
	_, verdicts := settings(t, p, level("debug"))
	for _, w := range want {
		if !strings.Contains(verdicts[0].Refused, file+w) {
			t.Errorf("%q lacks %q", verdicts[0].Refused, w)
		}
	}
	if all := fmt.Sprint(got, verdicts); strings.Contains(all, canary) {
		t.Errorf("a secret is shown: %s", all)
	}
	for text, want := range map[string]string{
		"storage: [\n":                             "did not find expected node content",
		"version: 0.1\nstorage: &a {}\n":           ":2: it uses an anchor or an alias",
		"a: canary7\na: canary7\n":                 "lines 1 and 2: the key \"a\" stands twice",
		"redis:\n  password: 'canary7\n":           "found unexpected end of stream",
		"storage:\n  s3:\n\t secretkey: canary7\n": ":",
	} {
		p, file := placed(t, text)
		_, err := p.Read(t.Context(), schema.ScopeOf(schema.KindSettings))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file+":") || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "move it away") { // it may be in use
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}
