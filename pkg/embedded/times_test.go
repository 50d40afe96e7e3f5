package embedded

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// timesOf opens the times of a data directory without the writer behind.
func timesOf(t *testing.T, data string) (*times, *storage.Storage) {
	t.Helper()
	s, err := storage.Open(t.Context(), data, storage.Bucket{})
	if err != nil {
		t.Fatal(err)
	}
	tt := newTimes(data, slog.New(slog.DiscardHandler))
	if err := loadTimes(tt); err != nil {
		t.Fatal(err)
	}
	return tt, s
}

func writeAll(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTimesFileIsWrittenAnewBeforeItGrowsLong(t *testing.T) {
	data := t.TempDir()
	d := digest.FromString("x")
	writeAll(t, filepath.Join(data, "docker/registry/v2/repositories/a/_manifests/tags/there/current/link"), d.String())
	var lines strings.Builder
	for i := range slackLines + 10 {
		fmt.Fprintf(&lines, `{"r":"a","t":"there","d":%q,"p":%d}`+"\n", d, i+1)
	}
	lines.WriteString(`{"r":"a","t":"gone","d":"` + d.String() + `","p":1}` + "\n" + strings.Repeat("z", 2*maxTimesLine) + "\nno line\n")
	file := filepath.Join(data, ownDir, timesFile)
	writeAll(t, file, lines.String())

	tt, s := timesOf(t, data)
	if err := tt.flush(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`{"r":"a","t":"there","d":%q,"p":%d}`+"\n", d, slackLines+10); string(b) != want {
		t.Errorf("the file has %d bytes, want the one line %q", len(b), want)
	}
}

func TestWhatACrashTearsOffTakesNothingElseWithIt(t *testing.T) {
	data := t.TempDir()
	d := digest.FromString("x")
	at := time.Unix(1000, 5)
	file := filepath.Join(data, ownDir, timesFile)
	writeAll(t, file, fmt.Sprintf(`{"r":"a","t":"1","d":%q,"p":%d,"by":"user dev"}`+"\n"+`{"r":"a","t":"2","d":"sha`, d, at.UnixNano()))
	tt, s := timesOf(t, data)
	tt.pushed("a", "3", d, "user dev", at, at)
	if err := tt.flush(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	again, _ := timesOf(t, data)
	link := time.Unix(7, 0)
	for tag, want := range map[string]time.Time{"1": at, "2": link, "3": at} {
		if got, _ := again.of("a", tag, d, link); !got.pushed.Equal(want) {
			t.Errorf("tag %s was pushed at %v, want %v", tag, got.pushed, want)
		}
	}
	if got, _ := again.of("a", "1", digest.FromString("moved behind our back"), link); !got.pushed.Equal(link) || got.by != "" {
		t.Errorf("a tag that names something else has the old push: %+v", got)
	}
}

func TestTimesThatCannotBeWrittenAreKeptForLater(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	tt, s := timesOf(t, data)
	tt.pulled("a", "1", time.Unix(9, 0))
	if err := tt.flush(t.Context(), s); err == nil {
		t.Fatal("written to a directory that is not there")
	}
	if err := os.MkdirAll(filepath.Join(data, ownDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tt.flush(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	again, _ := timesOf(t, data)
	if got, _ := again.of("a", "1", "", time.Time{}); !got.pulled.Equal(time.Unix(9, 0)) {
		t.Errorf("pulled at %v", got.pulled)
	}
}

// Who stops a registry on a full disk hears what is lost, and what to do.
func TestTimesThatCannotBeKeptAreSaidSo(t *testing.T) {
	data := t.TempDir()
	tt, s := timesOf(t, data)
	if err := openTimes(t.Context(), tt, s); err != nil {
		t.Fatal(err)
	}
	tt.pushed("team/app", "v1", "sha256:"+digest.Digest(strings.Repeat("a", 64)), "dev", time.Now(), time.Time{})
	if err := os.MkdirAll(filepath.Join(data, ownDir, timesFile), 0o700); err != nil { // cannot be written to
		t.Fatal(err)
	}
	err := tt.close(t.Context(), s)
	if err == nil || !strings.HasPrefix(err.Error(), "the times of the last pushes and pulls were not kept: ") || !strings.Contains(err.Error(), data) {
		t.Error(err)
	}
}
