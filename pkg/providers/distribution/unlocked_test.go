package distribution_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// TestAStartPutsBackHowClientsLogIn: whoever takes that out of the file opens nothing,
// neither by a restart nor by the end of the process.
func TestAStartPutsBackHowClientsLogIn(t *testing.T) {
	auth := func(instead string) func(text string) string {
		return func(text string) string {
			return text[:strings.Index(text, "auth:\n")] + instead + text[strings.Index(text, "\nhttp:")+1:]
		}
	}
	replace := func(old, by string) func(text string) string {
		return func(text string) string { return strings.Replace(text, old, by, 1) }
	}
	for name, change := range map[string]func(text string) string{
		"none":            auth(""),
		"nobody is asked": auth("auth:\n  none: {}\n"),
		"their keys":      replace("/jwks.json", "/theirs.json"),
		"their issuer":    replace(`issuer: "ocisync"`, `issuer: "theirs"`),
		"one key more":    replace("    issuer:", "    rootcertbundle: /tmp/theirs.pem\n    issuer:"),
	} {
		t.Run(name, func(t *testing.T) {
			p, f := running(t)
			edited(t, f, change(f.took))
			if f.took == change(f.took) {
				t.Fatalf("nothing is changed in\n%s", f.took)
			}
			notes, err := p.Remarks(t.Context(), schema.State{}, time.Now())
			said := ""
			for _, n := range notes {
				said += n.Text + "\n"
			}
			if err != nil || !strings.Contains(said, "run `ocisync apply`, which puts back how clients log in") || strings.Contains(said, "`ocisync restart`") {
				t.Errorf("%v; the plan says %s", err, said)
			}
			if err := errors.Join(f.Stop(t.Context()), p.BeforeStart(t.Context(), `{"http.addr":"localhost:9"}`), f.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(f.config)
			if err != nil || string(b) != f.took {
				t.Fatal(err)
			}
			changes, _ := settings(t, p)
			for _, c := range changes {
				for _, field := range c.Fields {
					if strings.HasPrefix(field.Path, "values.auth.") {
						t.Errorf("it runs with\n%s\nand the plan has %+v", b, field)
					}
				}
			}
		})
	}
}
