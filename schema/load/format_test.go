package load_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema/load"
)

func TestFormatHasOneStyle(t *testing.T) {
	in := "#  a comment  \n\n\n\nversion=1 # one\n[ registry ]\ntype=\"zot\"\r\n  url   =   'x'   \t# two\nlogin={user=\"a\",password={env=\"B\"}}\nlist=[1,2 ,  3]\n" +
		"a . \"b c\" = {}\n\n\nkeep = [ # first\n{newest=1},\n  # second\n\n [1,\n2], # third\n]\ntext = \"\"\"\n  kept  \n\"\"\"  # end\nday = 2027-01-31 08:00:00\n[[ x . y ]]# header\nz=1\n\n\n"
	want := `#  a comment

version = 1                                     # one
[registry]
type    = "zot"
url     = 'x'                                   # two
login   = { user = "a", password = { env = "B" } }
list    = [1, 2, 3]
a."b c" = {}

keep = [
  # first
  { newest = 1 },
  # second
  [
    1,
    2,
  ], # third
]
text = """
  kept  
"""                                             # end
day  = 2027-01-31 08:00:00
[[x.y]]                                         # header
z = 1
`
	have, err := load.Format("x.toml", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Errorf("(-want +have)\n%s", diff)
	}
	again, err := load.Format("x.toml", have)
	if err != nil || !bytes.Equal(again, have) {
		t.Errorf("formatting twice differs: %v\n%s", err, cmp.Diff(string(have), string(again)))
	}
}

func TestFilesOfTheProjectAreFormatted(t *testing.T) {
	for name, data := range goodFiles(t) {
		have, err := load.Format(name, data)
		if err != nil {
			t.Error(err)
			continue
		}
		if bytes.Equal(have, data) {
			continue
		}
		if *update {
			if err := os.WriteFile(name, have, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s: (-have +formatted)\n%s", name, cmp.Diff(string(data), string(have)))
	}
}

func TestUpgradeAddsTheVersion(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "version = 1\n",
		"[a]\n":                   "version = 1\n[a]\n",
		"# head\n# more\n\n[a]\n": "# head\n# more\nversion = 1\n\n[a]\n",
		"# only":                  "# only\nversion = 1\n",
		"version=1\n":             "version = 1\n",
	} {
		have, err := load.Upgrade("x.toml", []byte(in))
		if err != nil || string(have) != want {
			t.Errorf("%q: %q, %v; want %q", in, have, err, want)
		}
	}
}
