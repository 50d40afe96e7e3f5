package zot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// status is what is known of the process.
type status struct {
	running bool
	blind   bool   // nothing tells what it takes over
	id      string // another with each start; "" where nobody tells
	started time.Time
	version func() string // of Zot; "" where nobody tells
}

// status asks who runs the registry, or else its address.
func (p *Provider) status(ctx context.Context, s *site) (status, error) {
	st, err := p.look(ctx, s)
	st.version = sync.OnceValue(func() string { return p.version(ctx, s) })
	return st, err
}

func (p *Provider) look(ctx context.Context, s *site) (status, error) {
	if err := ctx.Err(); err != nil {
		return status{}, err
	}
	if p.process != nil {
		st, err := p.process.Status(ctx)
		if err != nil {
			return status{}, p.fail(schema.Key{}, "asking whether it runs", err, "")
		}
		return status{running: st.Running, blind: !p.told(s), id: st.ID, started: st.Started}, nil
	}
	if p.paths.data != "" && s.doc == nil {
		return status{}, nil
	}
	return status{running: p.answers(ctx)}, nil
}

// answers reports whether anybody listens at the registry's address.
func (p *Provider) answers(ctx context.Context) bool {
	host := p.url.Host
	if p.url.Port() == "" {
		host = net.JoinHostPort(p.url.Hostname(), map[string]string{"http": "80", "https": "443"}[p.url.Scheme])
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	c, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// inForce is the configuration that the running process took over, where that
// is another than the file; nil where the file is in force, or will be with the
// next start, or nobody can tell. What was written last tells, and the process's
// own log.
func (p *Provider) inForce(ctx context.Context, s *site, st status) *running {
	if v := p.sinceWritten(ctx, s, st); v != nil || !st.running || s.doc == nil {
		return v
	}
	r := p.logged(ctx, s)
	if r == nil || sameRules(r.conf, s.conf) {
		return nil
	}
	conf := s.conf
	conf.HTTP.AccessControl, conf.Storage = r.conf.HTTP.AccessControl, r.conf.Storage
	return &running{s.doc, conf, true} // it does not see the file, or does not take this over while it runs
}

// sinceWritten is that configuration by what ocisync wrote last, and what became
// of the file since.
func (p *Provider) sinceWritten(ctx context.Context, s *site, st status) *running {
	last := s.own.Loaded
	if !st.running || s.doc == nil || last.Config == "" || files.Equal(s.text, []byte(last.Config)) {
		return nil
	}
	if st.id != last.Process && !s.changed.After(st.started) {
		return nil // it started since, and read the file then
	}
	doc, conf, err := read(p.paths.config, []byte(last.Config))
	if err != nil {
		return nil
	}
	lost := s.inode != last.Inode // what it watches is gone
	if how, _ := reach(doc, s.doc); !lost && how != plan.Restart {
		return nil // written in place, which it sees
	}
	if p.process == nil && p.startedAfter(ctx, s) {
		return nil
	}
	return &running{doc, conf, lost}
}

// running is what a process took over.
type running struct {
	doc  *config.Document
	conf configuration
	lost bool // it watches a file that is gone, or goes on without what the file says
}

// startedAfter reports whether Zot's process began since the file was changed,
// or else its log tells of a start since.
func (p *Provider) startedAfter(ctx context.Context, s *site) bool {
	if since, ok := providers.ServedSince(p.paths.config); ok {
		return since.After(s.changed)
	}
	r := p.logged(ctx, s)
	return r != nil && r.started.After(s.changed)
}

// loadedPath is a value among the settings that says whether the process runs
// with the file as it is.
const (
	loadedPath = "process.configuration"
	loadedYes  = `"loaded"`
	loadedNo   = `"not loaded"`
)

// shadowedPath is a value among the settings: the patterns, written by hand, that
// Zot goes by in the place of rules that ocisync wrote. There shall be none.
const (
	shadowedPath = "process.shadowed"
	shadowedNone = "[]"
)

// accountsPath is a value among the settings: the accounts of robots that are not
// as ocisync made them. Their secrets are not in the mode, so that no field of a
// robot would differ. There shall be none.
const (
	accountsPath = "process.foreign_accounts"
	accountsNone = "[]"
)

// virtual reports whether a value of the settings is no key of Zot's.
func virtual(path string) bool {
	return path == schema.OutsidePath || path == loadedPath || path == shadowedPath || path == accountsPath || providers.OfRun(path)
}

// live are the objects as the file has them, and among the settings whether
// the process runs with that file, how it was started, and what stands before the
// rules in it. Of a rule of ours that somebody else's pattern stands before, it is what that pattern
// says: what Zot goes by.
func (p *Provider) live(ctx context.Context, s *site, st status) (map[schema.Key]schema.Resource, []schema.Key, error) {
	o := s.objects()
	by := o.readShadows()
	run, err := providers.LiveRun(ctx, p.process, p.registry, p)
	if err != nil {
		return nil, nil, p.fail(schema.Key{}, "asking how it runs", err, "")
	}
	key := schema.Key{Kind: schema.KindSettings}
	if r, ok := o.all[key]; ok {
		spec, _ := r.Spec.(*schema.Settings)
		v := schema.Value{Path: loadedPath, JSON: loadedYes}
		if p.inForce(ctx, s, st) != nil {
			v.JSON = loadedNo
		}
		spec.Values = append(spec.Values, v, schema.Value{Path: shadowedPath, JSON: string(encoded(append([]string{}, by...)))},
			schema.Value{Path: accountsPath, JSON: string(encoded(o.foreignAccounts()))})
		spec.Values = append(spec.Values, run...)
		slices.SortFunc(spec.Values, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
		r.Version = s.own.version(r, o.secret[key])
		o.all[key] = r
	}
	return o.all, o.except, nil
}

// The records of Zot's log that tell of a new configuration.
const (
	recordStarted = `configuration settings`
	recordLoaded  = `loaded new configuration settings`
	recordFailed  = `failed to reload config`
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

var (
	errSilent  = errors.New("its log says nothing of the new configuration")
	errRefused = errors.New("it did not take the new configuration over")
)

// awaitReload waits for the record of a reload that began after a place in the
// log, and after an instant where Zot writes to a file that was renamed.
func (p *Provider) awaitReload(ctx context.Context, s *site, from int64, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	for n := 0; ; n++ {
		done, failed := false, false
		if r, err := p.openLog(ctx, s, from); err == nil && r != nil {
			done, failed = scan(r, time.Time{})
			r.Close()
		}
		if rotated := p.rotatedLogs(s); !done && !failed && n%8 == 0 && len(rotated) > 0 {
			done, failed = scanTail(rotated[0], since)
		}
		switch {
		case done:
			return nil
		case failed:
			return fmt.Errorf("%w: %s", errRefused, recordFailed)
		}
		select {
		case <-ctx.Done():
			return errSilent
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// texts are files as they shall be; nil stays as it is.
type texts struct {
	config, accounts, creds []byte
	inbox                   *webhook.Inbox // which is the receiver's to read, not Zot's
}

// write makes the files say what they shall: accounts first, which Zot reads
// at once, since a rule for somebody unknown gives nothing, and who is to go is
// to go first.
func (p *Provider) write(s *site, t texts) error {
	put := func(name string, was, now []byte) error {
		if now == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if was == nil {
			if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
				return errors.Join(files.Create(name, now), p.own(name))
			}
		}
		return files.Write(name, was, now)
	}
	if err := put(s.creds, readOr(s.creds), t.creds); err != nil {
		return err
	}
	if err := put(s.htpasswd, s.accounts, t.accounts); err != nil {
		return err
	}
	return put(p.paths.config, s.text, t.config)
}

// own gives a new file to the owner of the configuration, whom Zot runs as.
func (p *Provider) own(name string) error {
	info, err := os.Stat(p.paths.config)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return os.Chown(name, int(st.Uid), int(st.Gid))
}

func readOr(name string) []byte {
	b, err := files.Read(name)
	if err != nil {
		return nil
	}
	return b
}

// verify asks the registry's program, where the mode names it, whether it would
// start with a configuration: a reload tells no more than that it did not.
func (p *Provider) verify(ctx context.Context, text []byte) (err error) {
	if p.program() == "" || text == nil {
		return nil
	}
	name := p.paths.config
	if cut, err := files.Unfinished(name); err != nil || cut || !files.Equal(text, readOr(name)) { // where there is room for no second file, one that is the same will do
		name = filepath.Join(filepath.Dir(p.paths.own), "verify.json")
		if err := renameio.WriteFile(name, text, 0o600); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(name)) }()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.registry.Run.Binary, "verify", name)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s does not take it, and nothing was written: %s", providers.ErrInvalid, p.registry.Run.Binary, complaint(out))
	}
	return err
}

// version is that of Zot: as the tag of its image has it, as its log says, or by
// its program, of which 2.1.6 has no schema to print, and later ones have. "" is
// not known.
func (p *Provider) version(ctx context.Context, s *site) string {
	if p.registry.Run != nil {
		image, _, _ := strings.Cut(p.registry.Run.Image, "@")
		if tag := image[strings.LastIndexAny(image, ":/")+1:]; strings.Contains(image, ":"+tag) {
			return strings.TrimPrefix(tag, "v")
		}
	}
	if r := p.logged(ctx, s); r != nil && r.release != "" {
		return strings.TrimPrefix(r.release, "v")
	}
	if p.program() == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program(), "schema")
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if errors.As(err, new(*exec.ExitError)) && bytes.Contains(out, []byte("unknown command")) {
		return "2.1.6"
	}
	return ""
}

// program is Zot's, where the mode names it and it is a process; else "".
func (p *Provider) program() string {
	if p.registry.Run == nil || p.registry.Run.Driver != schema.DriverProcess {
		return ""
	}
	return p.registry.Run.Binary
}

// complaint is the first thing that Zot says is wrong.
func complaint(out []byte) string {
	said := string(bytes.TrimSpace(out))
	for line := range bytes.Lines(out) {
		if text, ok := bytes.CutPrefix(line, []byte("Error: ")); ok { // later versions
			said = string(text)
			break
		}
		var record struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(line, &record) == nil && record.Error != "" {
			said = record.Error
			break
		}
	}
	said = strings.Join(strings.Fields(said), " ")
	if len(said) > 500 {
		said = said[:500] + "..."
	}
	return said
}

// commit makes the files what they shall be and the process take them over.
// What the process would not take is put back. Gently, Zot is not restarted to
// see whether it did.
func (p *Provider) commit(ctx context.Context, s *site, t texts, how plan.Effect, st status, gentle bool) error {
	switch {
	case !st.running || how == plan.Live && t.config == nil:
		return p.write(s, t)
	case how == plan.Restart:
		return p.restart(ctx, s, t)
	}
	from, readable := p.logEnd(ctx, s)
	since := time.Now()
	if err := p.write(s, t); err != nil {
		return err
	}
	if !readable {
		if p.process != nil && !gentle {
			p.logger.Warn("nothing tells whether Zot takes the new configuration over, so that it is restarted", "registry", p.registry.URL)
			return p.restart(ctx, p.after(s, t), texts{})
		}
		return nil // nobody can see it; the proof is from outside
	}
	switch err := p.awaitReload(ctx, s, from, since); {
	case err == nil:
		return nil
	case errors.Is(err, errRefused):
		return errors.Join(err, p.write(p.after(s, t), back(s, t)))
	case p.process != nil && !gentle: // the watch was lost, by a rename that nobody knows of
		p.logger.Warn("Zot says nothing of the new configuration, as it does where somebody had replaced the file, so that it is restarted", "registry", p.registry.URL, "waited", p.patience)
		return p.restart(ctx, p.after(s, t), texts{})
	default:
		return fmt.Errorf("%w: %w; somebody replaced the file by another, so that Zot no longer sees it change: restart Zot", providers.ErrPending, err)
	}
}

// after is the site once it was written.
func (p *Provider) after(s *site, t texts) *site {
	c := *s
	if t.config != nil {
		c.text = t.config
	}
	if t.accounts != nil {
		c.accounts = t.accounts
	}
	return &c
}

// back is what undoes a writing. Accounts stay: without rules they may do
// nothing, and who is gone stays gone.
func back(s *site, t texts) texts {
	if t.config == nil || s.text == nil {
		return texts{}
	}
	return texts{config: s.text}
}

// restart stops Zot before it sees the new configuration, since some of it
// must not be taken over by one that runs. If it does not start with it, the
// old one is put back.
func (p *Provider) restart(ctx context.Context, s *site, t texts) error {
	text := t.config
	if text == nil {
		text = s.text
	}
	if err := p.startable(text); err != nil {
		return fmt.Errorf("%w; nothing was written, and it runs as before", err)
	}
	if err := p.process.Stop(ctx); err != nil {
		return fmt.Errorf("stopping it: %w; nothing was written", err)
	}
	if err := p.write(s, t); err != nil {
		return errors.Join(fmt.Errorf("nothing was changed: %w", err), p.process.Start(ctx))
	}
	err := p.process.Start(ctx)
	if err == nil || errors.Is(err, providers.ErrDown) { // it reads it when it is started
		return nil
	}
	old := back(s, t)
	if old.config == nil {
		return fmt.Errorf("it does not start: %w", err)
	}
	if e := p.process.Stop(ctx); e != nil {
		return errors.Join(fmt.Errorf("it does not start with the new configuration: %w", err), fmt.Errorf("and cannot be stopped to put the old one back: %w", e))
	}
	if e := p.write(p.after(s, t), old); e != nil {
		return errors.Join(fmt.Errorf("it does not start with the new configuration: %w", err), fmt.Errorf("and the old one could not be put back: %w", e))
	}
	if e := p.process.Start(ctx); e != nil {
		return errors.Join(fmt.Errorf("it does not start with the new configuration: %w", err), fmt.Errorf("the old one was put back, and it does not start with that either: %w", e))
	}
	return fmt.Errorf("it does not start with the new configuration, so the old one was put back and it runs with that: %w", err)
}
