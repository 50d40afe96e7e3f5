package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatIsAnotherHostsIsSaid by the commands that need it here, and they make
// nothing of it here.
func TestWhatIsAnotherHostsIsSaid(t *testing.T) {
	w := newRobotWorld(t)
	there := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		rw.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		rw.WriteHeader(http.StatusUnauthorized)
	}))
	defer there.Close()
	ours := func(url string) string {
		return fmt.Sprintf("url = %q\nrun = { driver = \"process\", binary = \"/bin/false\", data = \"../../data\" }\ntoken = { url = \"http://localhost:9\" }\n", url)
	}
	theirs := filepath.Join(filepath.Dir(w.file), "config.yml")
	write(t, theirs, "version: 0.1\nstorage: {inmemory: {}}\n")
	for name, c := range map[string]struct {
		registry string
		args     []string
		code     int
		says     string
	}{
		"gc of another host":     {ours(there.URL), []string{"run", "gc"}, exitRefused, "on another host"},
		"quota of another host":  {ours(there.URL), []string{"run", "quota"}, exitRefused, "`ocisync run quota` there"},
		"down of another host":   {ours(there.URL), []string{"down"}, exitRefused, "ocisync down there"},
		"gc of none":             {ours("http://" + w.address), []string{"run", "gc"}, exitRefused, "ocisync up"},
		"down of none":           {ours("http://" + w.address), []string{"down"}, exitDone, "did not run"},
		"gc of somebody else's":  {fmt.Sprintf("url = %q\nfiles = { config = %q }\n", there.URL, theirs), []string{"run", "gc"}, exitRefused, "registry garbage-collect"},
		"no job of that name":    {ours(there.URL), []string{"run", "polish"}, exitRefused, "there is no job polish; there is gc"},
		"polish of somebody's":   {fmt.Sprintf("url = %q\nfiles = { config = %q }\n", there.URL, theirs), []string{"run", "polish"}, exitRefused, "there is no job polish"},
		"a dry run from afar":    {ours(there.URL), []string{"run", "gc", "--dry-run"}, exitRefused, "on another host"},
		"quota of somebody else": {fmt.Sprintf("url = %q\nfiles = { config = %q }\n", there.URL, theirs), []string{"run", "quota"}, exitRefused, "name its token service"},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, w.file, "version = 1\n[registry]\ntype = \"distribution\"\n"+c.registry+"[state]\nstore = \"dir\"\ndir = \"../../state\"\n")
			var out bytes.Buffer
			if code := w.ocisync(t.Context(), &out, c.args...); code != c.code || !strings.Contains(out.String(), c.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.says, &out)
			}
			if strings.HasSuffix(name, "another host") {
				if _, err := os.Stat(w.data); err == nil {
					t.Error("it made a directory for a registry that is not here")
				}
			}
			if err := os.RemoveAll(w.data); err != nil {
				t.Fatal(err)
			}
		})
	}
}
