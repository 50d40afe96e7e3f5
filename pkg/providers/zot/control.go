package zot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/webhook"
)

var (
	errSilent  = errors.New("its log says nothing of the new configuration")
	errBegun   = fmt.Errorf("%w but that it began to take it over", errSilent)
	errRefused = errors.New("it did not take the new configuration over")
)

// slow is how many times as long a Zot may take that surely sees its file: it waits
// for what it does in the background before it reloads.
const slow = 6

// awaitReload waits for the record of what was loaded after a place in the
// log, and after an instant where Zot writes to a file that was renamed.
func (p *Provider) awaitReload(asked context.Context, s *site, from int64, since time.Time, patience time.Duration, loaded string) error {
	ctx, cancel := context.WithTimeout(asked, patience)
	defer cancel()
	for n := 0; ; n++ {
		done, failed := false, false
		if r, err := p.openLog(ctx, s, from); err == nil && r != nil {
			done, failed = scan(r, time.Time{}, loaded)
			r.Close()
		}
		if rotated := p.rotatedLogs(s); !done && !failed && n%8 == 0 && len(rotated) > 0 {
			done, failed = scanTail(rotated[0], since, loaded)
		}
		switch {
		case done:
			return nil
		case failed || n%8 == 0 && p.printedFailure(ctx, s):
			return fmt.Errorf("%w: %s", errRefused, recordFailed)
		}
		select {
		case <-ctx.Done():
			if loaded == recordLoaded && p.begun(asked, s, from) {
				return errBegun
			}
			return errSilent
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// begun reports whether Zot wrote down, after a place in the log, that it saw its
// configuration change.
func (p *Provider) begun(ctx context.Context, s *site, from int64) bool {
	r, err := p.openLog(ctx, s, from)
	if err != nil || r == nil {
		return false
	}
	defer r.Close()
	saw, _ := scan(r, time.Time{}, recordBegun)
	return saw
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
				return files.CreateLike(name, p.paths.config, now) // Zot runs as its owner
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

func readOr(name string) []byte {
	b, err := files.Read(name)
	if err != nil {
		return nil
	}
	return b
}

// commit makes the files what they shall be and the process take them over.
// What the process would not take is put back. Gently, Zot is not restarted to
// see whether it did.
func (p *Provider) commit(ctx context.Context, s *site, t texts, how plan.Effect, st status, gentle bool) error {
	switch {
	case !st.running:
		return p.write(s, t)
	case how == plan.Restart:
		return p.restart(ctx, s, t)
	}
	from, readable := p.logEnd(ctx, s)
	since := time.Now()
	if err := p.write(s, t); err != nil {
		return err
	}
	accounts := func() error {
		if !readable || t.accounts == nil || s.accounts == nil || files.Equal(s.accounts, t.accounts) && !s.cut.accounts || st.misses.accounts {
			return nil
		}
		return p.awaitAccounts(ctx, p.after(s, t), from, since, gentle)
	}
	if t.config == nil {
		return accounts()
	}
	if !readable {
		if p.process != nil && !gentle {
			p.logger.Warn("nothing tells whether Zot takes the new configuration over, so that it is restarted", "registry", p.registry.URL)
			return p.restart(ctx, p.after(s, t), texts{})
		}
		return nil // nobody can see it; the proof is from outside
	}
	patience := p.awaits(st)
	switch err := p.awaitReload(ctx, s, from, since, patience, recordLoaded); {
	case err == nil:
		return accounts()
	case errors.Is(err, errRefused):
		return errors.Join(err, p.write(p.after(s, t), back(s, t)))
	case p.process != nil && !gentle: // the watch was lost, by a rename that nobody knows of
		p.logger.Warn("Zot says nothing of the new configuration, as it does where somebody had replaced the file, so that it is restarted", "registry", p.registry.URL, "waited", patience)
		return p.restart(ctx, p.after(s, t), texts{})
	default:
		return fmt.Errorf("%w: %w; somebody replaced the file by another, so that Zot no longer sees it change: restart Zot", providers.ErrPending, err)
	}
}

// awaitAccounts waits until Zot has read the accounts that were written, which versions
// later than 2.1.20 do a moment after.
func (p *Provider) awaitAccounts(ctx context.Context, s *site, from int64, since time.Time, gentle bool) error {
	err := p.awaitReload(ctx, s, from, since, p.patience, recordUsers)
	if err == nil || errors.Is(err, errRefused) { // of a configuration, which is told elsewhere
		return nil
	}
	if p.process != nil && !gentle {
		p.logger.Warn("Zot says nothing of the new accounts, so that it is restarted", "registry", p.registry.URL, "waited", p.patience)
		return p.restart(ctx, s, texts{})
	}
	return fmt.Errorf("%w: the accounts are written, and its log says nothing of them within %v: restart Zot", providers.ErrPending, p.patience)
}

// awaits is how long a reload may take.
func (p *Provider) awaits(st status) time.Duration {
	if st.watches {
		return p.patience * slow
	}
	return p.patience
}

// unseen puts back what no record says that Zot took over, so that its next start
// does not meet a file that it may have refused.
func (p *Provider) unseen(s *site, t texts, st status, why error) error {
	if err := p.write(p.after(s, t), back(s, t)); err != nil {
		return fmt.Errorf("%w, and what %s held before could not be put back: %w; see that Zot starts with it (zot verify) before it is started again", errSilent, p.paths.config, err)
	}
	if errors.Is(why, errBegun) {
		return fmt.Errorf("%w within %v, so that %s holds again what it held; either Zot waits for what it does in the background, such as a copy of sync, before it reloads: apply again when that is over; or it refused it, which it prints on its standard error and not in its log's file", errBegun, p.awaits(st), p.paths.config)
	}
	return fmt.Errorf("%w within %v, so that %s holds again what it held; either Zot refused it, which it prints on its standard error and not in its log's file, or it no longer sees the file change since somebody replaced that by another: look at what Zot prints, or restart Zot, and apply again", errSilent, p.awaits(st), p.paths.config)
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
	return texts{config: s.held()}
}

// restart stops Zot before it sees the new configuration, since some of it
// must not be taken over by one that runs. If it does not start with it, the
// old one is put back, or else the one that it is known to have run with.
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
	why := fmt.Errorf("it does not start with the new configuration: %w", err)
	if t.config == nil {
		why = fmt.Errorf("it does not start: %w", err)
	}
	for _, old := range formers(s, t) {
		if e := p.process.Stop(ctx); e != nil {
			return errors.Join(why, fmt.Errorf("and cannot be stopped to put the old one back: %w", e))
		}
		aside, e := p.aside(s, text, old)
		if e == nil {
			now := *s
			now.text = text
			e = p.write(&now, texts{config: old})
		}
		if e != nil {
			return errors.Join(why, fmt.Errorf("and the old one could not be put back: %w", e))
		}
		text = old
		if e := p.process.Start(ctx); e != nil {
			why = errors.Join(why, fmt.Errorf("the old one was put back, and it does not start with that either: %w", e))
			continue
		}
		return fmt.Errorf("the old one was put back and it runs with that%s: %w", aside, why)
	}
	return why
}

// formers are the configurations to go back to: what the file held before, and what Zot
// is known to have run with, where somebody wrote another since.
func formers(s *site, t texts) (list [][]byte) {
	if old := back(s, t); old.config != nil {
		list = append(list, old.config)
	}
	if ran := []byte(s.own.Loaded.Config); len(ran) > 0 && !files.Equal(ran, s.text) && !files.Equal(ran, t.config) {
		list = append(list, ran)
	}
	return list
}

// aside keeps what somebody wrote by hand, before other content is put there, and says
// where.
func (p *Provider) aside(s *site, text, other []byte) (string, error) {
	if files.Equal(other, s.text) {
		return "", nil
	}
	name := p.paths.config + ".refused"
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := files.CreateLike(name, p.paths.config, text); err != nil {
		return "", err
	}
	return ", and " + name + " holds what it did not start with", nil
}
