package ocisync_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	registry "github.com/ocisync/ocisync/pkg/embedded"

	"github.com/ocisync/ocisync/pkg/porttest"
)

// Down is never empty: what lost its state is not made anew without a word.
func TestARegistryThatLostItsStateIsNotMadeAnewUnasked(t *testing.T) {
	t.Parallel()
	inRegistry := "[state]\nkey = { env = \"OCISYNC_STATE_KEY\" }\n"
	for name, tt := range map[string]struct {
		store, lose string
		also        func(t *testing.T, s *site)
	}{
		"signed inventory in a directory":  {signedState, "data/ocisync/state.json", nil},
		"inventory in the registry itself": {inRegistry, "data/ocisync/state.json", nil},
		"unsigned":                         {"", "data/ocisync/state.json", nil},
		"disk that is not mounted":         {inRegistry, "data", nil},
		"inventory that is not believed": {signedState, "data", func(t *testing.T, s *site) {
			t.Helper()
			s.env = append(s.env, "OCISYNC_STATE_KEY=ocisync-state-key:AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
		}},
		"served, with an empty state": {signedState, "data/ocisync/state.json", func(t *testing.T, s *site) {
			t.Helper()
			served(t, registry.Options{Data: s.data})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "http://"+porttest.Address(t), tt.store+names+team)
			s.must(0, "plan")
			s.must(0, "apply")
			if err := os.RemoveAll(filepath.Join(s.dir, tt.lose)); err != nil {
				t.Fatal(err)
			}
			if tt.also != nil {
				tt.also(t, s)
			}
			before := s.live()
			for _, verb := range []string{"plan", "apply"} {
				out := s.must(4, verb)
				if strings.Contains(out, "let `ocisync apply` start a new one") {
					t.Errorf("%s advises what is refused:\n%s", verb, out)
				}
				for _, want := range []string{"registry: it is blank, although ", "restore ocisync/state.json in the data directory " + s.data + " from a backup", "--new"} {
					if !strings.Contains(out, want) {
						t.Errorf("%s does not say %q:\n%s", verb, want, out)
					}
				}
			}
			if d := cmp.Diff(before, s.live()); d != "" {
				t.Errorf("made anew unasked:\n%s", d)
			}
			s.must(2, "plan", "--new", "--detailed-exitcode")
			s.must(0, "apply", "--new")
			s.must(0, "plan", "--detailed-exitcode")
		})
	}
}

// What is somebody else's is no registry of ours.
func TestADirectoryThatHoldsOtherThingsIsNoNewRegistry(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{
		"a file": "data/precious", "beside a stock registry's": "data/docker/registry/v1/x", "the modes": "",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "http://"+porttest.Address(t), names+team)
			if at == "" {
				s.write("modes/m/m.toml", strings.Replace(s.text(), "../../data", "..", 1))
			} else {
				s.write(at, "")
			}
			before := files(t, s.dir)
			for _, verb := range []string{"plan", "apply", "up"} {
				if out := s.must(1, verb); !strings.Contains(out, "it holds other things, such as") || !strings.Contains(out, "name an empty directory in run.data") {
					t.Errorf("%s says %s", verb, out)
				}
			}
			after := files(t, s.dir)
			for path := range after {
				if strings.Contains(path, "state/") || strings.HasSuffix(path, "/state") {
					delete(after, path) // ocisync's own on this machine
				}
			}
			for path := range before {
				if d := cmp.Diff(before[path], after[path]); d != "" && path != "." {
					t.Errorf("%s was touched: %s", path, d)
				}
			}
		})
	}
	t.Run("but a stock registry's content is taken over", func(t *testing.T) {
		s := newSite(t, "http://"+porttest.Address(t), names+team)
		s.write("data/docker/registry/v2/repositories/.keep", "")
		s.must(0, "plan")
		s.must(0, "apply")
	})
}

// Rules that others may write are nobody's rules.
func TestRulesThatOthersMayWriteAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		path string
		mode os.FileMode
	}{
		"the data, everybody":      {".", 0o707},
		"the data, its group":      {".", 0o770},
		"the directory, everybody": {"ocisync", 0o777},
		"the directory, its group": {"ocisync", 0o770},
		"the state":                {"ocisync/state.json", 0o666},
		"the state, its group":     {"ocisync/state.json", 0o660},
		"the secrets":              {"ocisync/secrets.json", 0o602},
		"the lock":                 {"ocisync/lock", 0o622},
		"when tags were pushed":    {"ocisync/times.jsonl", 0o602},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "http://"+porttest.Address(t), names+team+"[namespace.team.webhook.w]\nurl = \"https://hooks.example.com\"\nevents = [\"push\"]\nauth = { env = \"OCISYNC_DEV_PASSWORD\" }\n")
			s.must(0, "apply")
			path := filepath.Join(s.data, tt.path)
			if f, err := os.OpenFile(filepath.Join(s.data, "ocisync", "times.jsonl"), os.O_CREATE|os.O_RDONLY, 0o600); err != nil {
				t.Fatal(err)
			} else if err = f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			for _, verb := range []string{"plan", "apply", "up"} {
				if out := s.must(1, verb); !strings.Contains(out, "run chmod go-w "+path) {
					t.Errorf("%s says %s", verb, out)
				}
			}
			if err := os.Chmod(path, 0o700); err != nil {
				t.Fatal(err)
			}
			s.must(0, "plan")
		})
	}
	t.Run("while it is served", func(t *testing.T) {
		s := newSite(t, "http://"+porttest.Address(t), names+team)
		s.must(0, "apply")
		served(t, registry.Options{Data: s.data})
		path := filepath.Join(s.data, "ocisync", "state.json")
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		if out := s.must(1, "plan"); !strings.Contains(out, "run chmod go-w "+path) {
			t.Error(out)
		}
	})
}
