package zot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/regular"
)

// The records of Zot's log that tell of a new configuration.
const (
	recordStarted = `configuration settings`
	recordLoaded  = `loaded new configuration settings`
	recordFailed  = `failed to reload config`
	recordUsers   = `loaded htpasswd file`
	recordBegun   = `config file changed, trying to reload config`
)

// logFile is the file that Zot logs to, "" where it is what its process
// writes.
func (p *Provider) logFile(s *site) string {
	switch out := s.conf.Log.Output; {
	case p.paths.log != "":
		return p.paths.log
	case filepath.IsAbs(out) && out != "/dev/stdout" && out != "/dev/stderr":
		return out
	}
	return ""
}

// openLog opens the log from a place on; one that has become shorter begins
// anew. Nil is no log, or none that can be read: only a file can, since a pipe
// gives what it holds to one reader.
func (p *Provider) openLog(ctx context.Context, s *site, from int64) (io.ReadCloser, error) {
	if name := p.logFile(s); name != "" {
		f, err := regular.Open(name)
		if err != nil {
			return nil, nil //nolint:nilerr,nilnil // there is none
		}
		info, err := f.Stat()
		if err == nil && info.Size() >= from {
			_, err = f.Seek(from, io.SeekStart)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
	if p.process == nil {
		return nil, nil
	}
	r, err := p.process.Log(ctx)
	if err != nil || r == nil {
		return nil, err
	}
	if n, err := io.CopyN(io.Discard, r, from); err != nil && n < from { // it was cut: all of it is new
		r.Close()
		return p.process.Log(ctx)
	}
	return r, nil
}

// unreadLog says why a log that the mode names tells nothing, or "".
func (p *Provider) unreadLog() string {
	if p.paths.log == "" {
		return ""
	}
	f, err := regular.Open(p.paths.log)
	if err == nil {
		f.Close() //nolint:errcheck // it was only read
		return ""
	}
	if errors.Is(err, fs.ErrNotExist) && len(p.rotatedLogs(&site{})) > 0 {
		return ""
	}
	return fmt.Sprintf("registry.files.log: %v; without it nobody tells whether Zot took over what is written", err)
}

// rotatedLogs are the files that hold what the log's file held before, the
// latest first: those beside it whose names begin with its own. Zot goes on
// writing to one that was renamed.
func (p *Provider) rotatedLogs(s *site) (list []string) {
	name := p.logFile(s)
	if name == "" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		return nil
	}
	type old struct {
		path    string
		changed time.Time
	}
	var found []old
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(name))
		if !ok || rest == "" || !strings.ContainsAny(rest[:1], ".-_") || slices.Contains([]string{".gz", ".xz", ".zst", ".bz2"}, filepath.Ext(rest)) {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			found = append(found, old{filepath.Join(filepath.Dir(name), e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(found, func(a, b old) int { return b.changed.Compare(a.changed) })
	for _, f := range found {
		list = append(list, f.path)
	}
	return list
}

// told reports whether Zot writes down what it takes over, which it does at
// level info, and where that can be read.
func (p *Provider) told(s *site) bool {
	switch strings.ToLower(s.conf.Log.Level) {
	case "warn", "error", "fatal", "panic":
		return false
	}
	name := p.logFile(s)
	if name == "" {
		return p.process != nil
	}
	f, err := regular.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return len(p.rotatedLogs(s)) > 0
	}
	return err == nil && f.Close() == nil
}

// logEnd is where the log ends now; ok is false where there is none.
func (p *Provider) logEnd(ctx context.Context, s *site) (end int64, ok bool) {
	s.printed = p.printedEnd(ctx, s)
	if !p.told(s) {
		return 0, false
	}
	r, err := p.openLog(ctx, s, 0)
	if err != nil {
		return 0, false
	}
	if r == nil { // it was rotated a moment ago
		return 0, p.logFile(s) != ""
	}
	defer r.Close()
	if f, isFile := r.(*os.File); isFile {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size(), true
		}
	}
	n, err := io.Copy(io.Discard, r)
	return n, err == nil
}

// printedEnd is where that ends which a process of ocisync's prints beside its
// log's file.
func (p *Provider) printedEnd(ctx context.Context, s *site) int64 {
	if p.process == nil || p.logFile(s) == "" {
		return 0
	}
	r, err := p.process.Log(ctx)
	if err != nil || r == nil {
		return 0
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		return 0
	}
	return n
}

// printedFailure reports whether a process of ocisync's printed since that it
// did not take a configuration over: Zot 2.1.6 never says so in its log's file.
func (p *Provider) printedFailure(ctx context.Context, s *site) bool {
	if p.process == nil || p.logFile(s) == "" {
		return false
	}
	r, err := p.process.Log(ctx)
	if err != nil || r == nil {
		return false
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, s.printed); err != nil {
		return false // it was cut
	}
	_, failed := scan(r, time.Time{}, recordLoaded)
	return failed
}
