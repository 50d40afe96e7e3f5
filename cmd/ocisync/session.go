package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/content/declared"
	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/all"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/secret"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/pkg/watch"
	"github.com/ocisync/ocisync/schema"
)

// session is one mode with everything a verb of the loop works with.
type session struct {
	o        *options
	cfg      *schema.Config
	secrets  *secret.Resolver
	provider providers.Provider
	content  *declared.Provider // nil: the registry's content is not written
	machine  state.Machine
	store    state.Store
	identity state.Identity
	stored   []byte // what the store holds
	kept     []byte // the inventory, where the store does not hold it yet
	left     string // of which place it is that the store does not hold it; "" else
	stopped  bool   // stored is what it held last, since it does not answer
	inv      state.Inventory
	trust    state.Trust
	key      state.Key
	verify   string // the public key that inventories are checked with, "" for none
	remarks  []string
	writing  bool
	unlock   func() error // lets other applies of this machine in; nil in a plan
	closers  []func() error
}

// logger writes to standard error: warnings, and with -v all there is.
func (o *options) logger() *slog.Logger {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(o.err, &slog.HandlerOptions{Level: level}))
}

// open prepares a session; with write it takes the registry's lock first. The
// caller ends it with close.
func (o *options) open(ctx context.Context, write bool) (_ *session, err error) {
	cfg, err := o.config()
	if err == nil {
		err = unreadKeys(cfg)
	}
	if err != nil {
		return nil, err
	}
	if o.waits != nil {
		postpone(cfg, o.waits)
	}
	host, err := o.host()
	if err != nil {
		return nil, err
	}
	if o.env("GOGC") == "" {
		debug.SetGCPercent(smallGC)
	}
	s := &session{o: o, cfg: cfg, writing: write}
	defer func() {
		if err != nil {
			s.close(&err)
		}
	}()
	s.identity = state.Identity{Mode: cfg.Mode, Registry: plan.Registry{Type: cfg.Registry.Type, URL: cfg.Registry.URL}}
	s.secrets = secret.New(*host, o.getenv, cfg.Dir)
	if s.machine, err = state.NewMachine(*host, o.getenv); err != nil {
		return nil, err
	}
	if s.provider, err = o.provider(cfg, *host, sendable{s.secrets, !write}); err != nil {
		return nil, err
	}
	s.content = s.declared(*host)
	if write {
		lock, err := state.Acquire(ctx, s.machine.Locks(), s.identity.Registry, o.holder("apply", cfg.Mode), 0)
		if err != nil {
			return nil, err
		}
		s.unlock = sync.OnceValue(lock.Release)
		s.closers = append(s.closers, s.unlock)
	}
	if err = s.openStore(ctx); err != nil {
		return nil, err
	}
	if s.remarks, err = o.runsOtherwise(ctx, cfg); err != nil {
		return nil, err
	}
	if s.takesNoPush() {
		const why = "a Distribution with a proxy takes no push, so that it cannot keep what ocisync applied; set state.store = \"dir\" and state.dir"
		if write {
			return nil, codedError{exitRefused, errors.New(why + "; nothing was written")}
		}
		s.remarks = append(s.remarks, why+" before an apply")
	}
	if err = s.loadInventory(ctx); err != nil {
		return nil, err
	}
	return s, s.acquainted()
}

// takesNoPush reports whether the inventory would lie in a registry that, by the mode,
// is a proxy.
func (s *session) takesNoPush() bool {
	if s.cfg.Registry.Type != schema.TypeDistribution || s.cfg.State.Store != "" && s.cfg.State.Store != "registry" {
		return false
	}
	r, _ := s.cfg.Desired.Get(schema.Key{Kind: schema.KindSettings})
	settings, ok := r.Spec.(*schema.Settings)
	return ok && slices.ContainsFunc(settings.Values, func(v schema.Value) bool { return v.Path == "proxy.remoteurl" })
}

// acquainted refuses the rules of another user's that neither this machine nor
// a signed inventory knows: anybody could have put them where root comes.
func (s *session) acquainted() error {
	if s.trust.Level == state.Signed {
		return nil
	}
	return acquainted(s.machine, s.identity, s.cfg.Registry.Run)
}

func acquainted(m state.Machine, id state.Identity, run *schema.Run) error {
	if run == nil || run.Data == "" {
		return nil
	}
	seen, err := m.Seen(id)
	if err != nil || seen > 0 {
		return err
	}
	who := embedded.Another(run.Data)
	if who == "" {
		return nil
	}
	return codedError{exitRefused, fmt.Errorf("data directory %s: the accounts and rules in it are %s's, and this machine never applied mode %s to it; run ocisync as that user, or look at what %[1]s/ocisync/state.json says and run chown -R %[4]s %[1]s", run.Data, who, id.Mode, self())}
}

// self is who runs this, as chown takes it.
func self() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint(os.Geteuid())
}

// openRegistry opens the registry of a mode for what is no session: jobs, and
// looking on. All its secrets can be resolved.
func (o *options) openRegistry(cfg *schema.Config) (providers.Provider, error) {
	host, err := o.host()
	if err != nil {
		return nil, err
	}
	return o.provider(cfg, *host, sendable{Resolver: secret.New(*host, o.getenv, cfg.Dir)})
}

// provider opens the registry of a mode. Secrets go to what the host file
// permits alone.
func (o *options) provider(cfg *schema.Config, host schema.Host, secrets sendable) (providers.Provider, error) {
	deps := all.Deps{Secrets: secrets, Policy: cfg.Policy, Permit: o.permit(host), Files: below(cfg.Dir), Kept: cfg.State.Store != "dir", Logger: o.logger()}
	var p providers.Provider
	r, err := o.launched(cfg, func() (providers.Provider, error) { return p, nil })
	if err != nil {
		return nil, err
	}
	if r != nil {
		deps.Process = process{r}
	}
	p, err = all.Open(cfg.Registry, deps)
	return p, err
}

// permit refuses that a secret goes to a registry that the host file does not name.
func (o *options) permit(host schema.Host) func(registry string) error {
	return func(registry string) error {
		if host.Permits(registry) {
			return nil
		}
		return codedError{exitRefused, fmt.Errorf("%s: the host file names the registries that a secret may go to, and this one is not among them; correct its url, or add %q to registries in %s", registry, registry, host.File)}
	}
}

// below is a directory whose files are read, and nothing outside of it, whatever a
// link says.
type below string

// Open implements [fs.FS].
func (dir below) Open(name string) (fs.File, error) {
	root, err := os.OpenRoot(string(dir))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.Open(name)
}

// runsOtherwise says in what the registry that ocisync runs is run otherwise
// than the mode says now, as far as no plan shows it. It changes nothing.
func (o *options) runsOtherwise(ctx context.Context, cfg *schema.Config) ([]string, error) {
	r, err := o.launched(cfg, nil)
	if r == nil || err != nil {
		return nil, err
	}
	if _, err := os.Stat(cfg.Registry.Run.Data); errors.Is(err, fs.ErrNotExist) { // of another host, or new
		return nil, nil
	}
	differences, err := r.Differences(ctx)
	if err != nil {
		return []string{"how the registry runs could not be compared with the mode: " + err.Error()}, ctx.Err()
	}
	var out []string
	for _, d := range differences {
		if !d.Beside {
			continue
		}
		out = append(out, fmt.Sprintf("the registry runs with %s; ocisync up makes it as the mode says", d))
	}
	return out, nil
}

// sendable resolves what a provider may send to its registry: no state key,
// whatever name it has, and in a plan only what needs no command and no
// decryption.
type sendable struct {
	*secret.Resolver
	atHandOnly bool
}

func (r sendable) Resolve(ctx context.Context, ref schema.SecretRef) (v string, err error) {
	ok := true
	if r.atHandOnly {
		v, ok, err = r.AtHand(ctx, ref)
	} else {
		v, err = r.Resolver.Resolve(ctx, ref)
	}
	if err == nil && !ok {
		return "", fmt.Errorf("secret (%s) is not at hand, and a plan runs nothing to get it; provide it", ref)
	}
	if _, bad := state.ParseKey(v); err == nil && bad == nil {
		return "", fmt.Errorf("secret (%s) is a state key, which signs and is sent nowhere; name another secret", ref)
	}
	return v, err
}

func (s *session) openStore(ctx context.Context) (err error) {
	switch c := s.cfg.State; c.Store {
	case "dir":
		if rel, relErr := filepath.Rel(s.cfg.Dir, c.Dir); (relErr != nil || !filepath.IsLocal(rel)) && !s.machine.Lends(c.Dir) {
			return codedError{exitRefused, fmt.Errorf("state.dir %s lies neither in %s, which holds the modes, nor in %s, where ocisync keeps its state on this host; name a directory in one of the two, or set state in the host file to one above it", c.Dir, s.cfg.Dir, s.machine.Dir())}
		}
		s.store, err = state.DirStore(c.Dir, s.cfg.Mode)
	case "", "registry":
		t, ok := s.provider.(providers.Transporter)
		if !ok {
			return codedError{exitRefused, errors.New("state.store \"registry\" is not part of this version for this registry type; use \"dir\"")}
		}
		transport, release, err := t.Transport(ctx)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, func() error { release(); return nil })
		s.store, err = oci.NewStore(oci.Options{URL: s.cfg.Registry.URL, Transport: transport}, s.cfg.Mode)
		return err
	default:
		return codedError{exitRefused, fmt.Errorf("state.store %q is not part of this version; use \"registry\" or \"dir\"", c.Store)}
	}
	return err
}

// loadInventory reads what ocisync last applied and judges it.
func (s *session) loadInventory(ctx context.Context) error {
	if ref := s.cfg.State.Key; ref != nil {
		value, ok, err := s.atHand(ctx, *ref)
		switch {
		case err != nil:
			return fmt.Errorf("state.key: %w", err)
		case ok:
			if s.key, err = state.ParseKey(value); err != nil {
				return fmt.Errorf("state.key (%s): %w", ref, err)
			}
		case s.writing:
			return fmt.Errorf("state.key (%s) is not at hand, and an apply signs what it records; provide it, or take state.key out", ref)
		}
	}
	if s.verify = s.cfg.State.Verify; s.verify == "" {
		s.verify = s.key.Public()
	}
	if !s.key.IsZero() && s.verify != s.key.Public() {
		return fmt.Errorf("state.key does not belong to state.verify: its public half is %s; correct one of the two", s.key.Public())
	}
	seen, err := s.machine.Seen(s.identity)
	if err != nil {
		return err
	}
	data, err := s.store.Load(ctx)
	if errors.Is(err, providers.ErrUnreachable) {
		data, err = s.unreached(ctx, seen, err)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.shut(err)
	}
	s.stored = data
	s.inv, s.trust = state.Open(data, s.identity, s.verify, seen)
	if err := s.takeUp(seen); err != nil {
		return err
	}
	if err := s.leftBehind(ctx, seen); err != nil {
		return err
	}
	switch s.trust.Level {
	case state.Signed, state.Lost: // the rest is distrusted already, or owns nothing, or never prunes
		why, err := s.machine.Strange(s.identity, s.source())
		if err != nil {
			return err
		}
		if why != "" {
			s.inv, s.trust = state.Distrust(s.identity, why)
			break
		}
		if err := s.sight(); err != nil {
			return err
		}
	case state.Unsigned, state.Absent, state.Bad, state.Older, state.Foreign, state.Unreadable, state.Strange:
	}
	if err := s.handOver(ctx); err != nil {
		return err
	}
	if s.writing && s.kept == nil && s.trust.Usable() {
		if err := s.copy(); err != nil {
			return err
		}
	}
	if s.writing && s.trust.Level == state.Signed && s.kept == nil {
		return s.machine.Remember(s.identity, s.inv.Serial, s.source())
	}
	return nil
}

// takeUp goes on with the inventory of an apply that could not store it.
func (s *session) takeUp(seen state.Seen) error {
	s.kept = nil
	data, err := s.machine.Kept(s.identity, s.stored)
	if err != nil || data == nil {
		return err
	}
	if inv, trust := state.Open(data, s.identity, s.verify, seen); trust.Usable() {
		s.inv, s.trust, s.kept = inv, trust, data
	}
	return nil
}

// handOver stores what takeUp found, where the run writes and the store takes it by
// now.
func (s *session) handOver(ctx context.Context) error {
	switch {
	case s.kept == nil:
		return nil
	case !s.trust.Usable(): // it was distrusted
		s.kept = nil
		return nil
	case s.stopped: // which says so
		return nil
	}
	if stored := s.writing && s.store.Save(ctx, s.kept, s.stored) == nil; !stored {
		late := "the last apply could not store its inventory"
		if s.left != "" {
			late = s.left
		}
		s.remark(late + "; this goes on with the one that is kept on this host, and the next apply here stores it")
		return nil
	}
	s.stored, s.kept = s.kept, nil
	if s.left != "" {
		s.remark(s.left + "; the one that was kept on this host is stored there now")
	} else {
		s.remark("the inventory that the last apply could not store was kept on this host, and is stored now")
	}
	return errors.Join(s.machine.Release(s.identity), s.settle(ctx))
}

// remark has plans say something, once.
func (s *session) remark(text string) {
	if !slices.Contains(s.remarks, text) {
		s.remarks = append(s.remarks, text)
	}
}

// unreached says of a registry that keeps its inventory and does not answer what
// to do. One of which nothing is here, and that this machine never saw, may be a
// new one, which has none. One that somebody else runs goes by the copy on this host:
// some changes can be written only while it is stopped.
func (s *session) unreached(ctx context.Context, seen state.Seen, cause error) ([]byte, error) {
	h, ok := s.provider.(providers.Hosted)
	if !ok {
		return nil, cause
	}
	where, err := h.Where(ctx)
	switch {
	case err != nil:
		return nil, err
	case where == providers.Here && errors.Is(cause, providers.ErrNoTokens): // and it may well run
		return nil, cause
	case where == providers.Here && s.others():
		return s.lastSeen(cause)
	case where == providers.Here:
		return nil, fmt.Errorf("%w; it keeps its inventory itself and so must run: start it with %s", cause, s.o.command("up"))
	case where == providers.Nowhere && seen == 0:
		return nil, fs.ErrNotExist
	}
	return nil, cause
}

// shut says of a Zot that lets nobody in what it may be besides a right that is missing.
func (s *session) shut(cause error) error {
	if errors.Is(cause, providers.ErrForbidden) && s.others() && s.cfg.Registry.Type == schema.TypeZot {
		return fmt.Errorf("%w, that is make it an admin user in the mode; or, if somebody took the rules out of its file while it ran, it lets nobody in until it is started, and then everybody; for either: stop it, run %s while it is stopped, and start it", cause, s.o.command("apply"))
	}
	return cause
}

// others reports whether the registry keeps its inventory itself, and somebody else
// runs it with files that ocisync writes.
func (s *session) others() bool {
	r := s.cfg.Registry
	return s.cfg.State.Store != "dir" && r.Run == nil && r.Files != nil && r.Files.Config != ""
}

// lastSeen is the inventory as the store held it when this host wrote last.
func (s *session) lastSeen(cause error) ([]byte, error) {
	data, err := s.machine.Copied(s.identity)
	if err != nil {
		return nil, err
	}
	if data == nil { // its store took none yet
		kept, err := s.machine.Kept(s.identity, nil)
		if err != nil {
			return nil, err
		}
		if kept == nil {
			return nil, fmt.Errorf("%w; it keeps its inventory itself, and this host has no copy of that: have it started, and run %s once while it runs, which says what is to be done while it is stopped", cause, s.o.command("apply"))
		}
	}
	s.stopped = true
	s.remark("the registry does not answer: this goes by the copy of its inventory that the last apply here left on this host, and what an apply records is kept here until one finds the registry running")
	if data == nil {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

// copy keeps what the store holds on this host, where it may be needed.
func (s *session) copy() error {
	if s.stopped || s.stored == nil || !s.others() {
		return nil
	}
	return s.machine.Copy(s.identity, s.stored)
}

// sight settles whether this machine has but the inventory's own word for it.
func (s *session) sight() error {
	if s.trust.Level != state.Signed {
		return nil
	}
	first, err := s.machine.FirstSight(s.identity, s.source())
	if first {
		s.trust = s.trust.AtFirstSight()
	}
	return err
}

// source is where the mode says that its inventory is, and how it is checked.
// A directory of the checkout is the same wherever that lies.
func (s *session) source() state.Source {
	store := "the registry"
	if s.cfg.State.Store == "dir" {
		dir := s.cfg.State.Dir
		if rel, err := filepath.Rel(s.cfg.Dir, dir); err == nil && filepath.IsLocal(rel) {
			dir = rel
		}
		store = "directory " + dir
	}
	from := state.Source{Verify: s.verify, Store: store, First: s.trust.First}
	if run := s.cfg.Registry.Run; run != nil && run.Data != "" {
		from.Data = run.Data
		if led, err := filepath.EvalSymlinks(run.Data); err == nil {
			from.Data = led
		}
	}
	return from
}

// atHand resolves a reference as far as this run may: a plan runs no command.
func (s *session) atHand(ctx context.Context, ref schema.SecretRef) (string, bool, error) {
	if !s.writing {
		return s.secrets.AtHand(ctx, ref)
	}
	v, err := s.secrets.Resolve(ctx, ref)
	return v, err == nil, err
}

func (s *session) cycle(approved string) apply.Cycle {
	c := apply.Cycle{
		Config: s.cfg, Provider: s.provider, Inventory: s.inv, Trust: s.trust, Key: s.key,
		AtHand: s.atHand, Today: schema.DateOf(time.Now()), Approved: approved, Remarks: s.remarks,
	}
	if s.content != nil {
		c.Content = s.content
	}
	return c
}

// save seals and stores an inventory that a run has brought in step.
func (s *session) save(ctx context.Context, inv state.Inventory) error {
	seen, err := s.machine.Seen(s.identity)
	if err != nil {
		return err
	}
	inv.Serial = state.NextSerial(inv, int64(seen))
	data, err := state.Seal(inv, s.key)
	if err != nil {
		return err
	}
	err = s.store.Save(ctx, data, s.stored)
	if errors.Is(err, state.ErrConflict) {
		if move, unknown := s.moved(ctx); unknown == nil && move.Done() {
			err = s.carry(ctx, data, inv.Serial, move)
		}
	}
	if err != nil {
		if !unsure(err) && s.machine.Keep(s.identity, data, s.stored) == nil {
			if s.stopped && errors.Is(err, providers.ErrUnreachable) { // as was said
				s.kept = data
				s.inv, s.trust = state.Open(data, s.identity, s.verify, state.Seen(inv.Serial))
				return s.sight()
			}
			err = fmt.Errorf("%w; it is kept on this host, and the next apply here stores it", err)
		}
		return err
	}
	s.stored, s.kept = data, nil
	if err := errors.Join(s.machine.Release(s.identity), s.settle(ctx)); err != nil {
		return err
	}
	var from state.Source
	if !s.key.IsZero() {
		from = s.source()
	} else if s.trust.Level == state.Strange { // somebody said that it is meant
		if err := s.machine.Forget(s.identity); err != nil {
			return err
		}
	}
	s.inv, s.trust = state.Open(data, s.identity, s.verify, state.Seen(inv.Serial))
	if err := errors.Join(s.machine.Remember(s.identity, inv.Serial, from), s.copy()); err != nil {
		return err
	}
	return s.sight()
}

// who says under what name a run is written down.
func (s *session) who(approved string) (state.Run, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return state.Run{}, err
	}
	var files []string
	for _, dir := range []string{s.cfg.Mode, "common"} {
		more, err := fs.Glob(os.DirFS(s.o.modes), dir+"/*.toml")
		if err != nil {
			return state.Run{}, err
		}
		for _, f := range more {
			if f, err = filepath.Abs(filepath.Join(s.o.modes, f)); err == nil {
				f, err = filepath.EvalSymlinks(f)
			}
			if err != nil {
				return state.Run{}, err
			}
			files = append(files, f)
		}
	}
	revision, err := watch.Revision(s.cfg.Dir, files)
	if err != nil {
		return state.Run{}, err
	}
	return state.Run{
		ID:       time.Now().UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(id[:4]),
		Identity: s.identity, Approval: approved, Revision: revision, Actor: s.o.actor(),
	}, nil
}

// actor is who runs ocisync: the CI system's word for it, or the account.
func (o *options) actor() string {
	for _, name := range []string{"OCISYNC_ACTOR", "GITHUB_ACTOR", "GITLAB_USER_LOGIN"} {
		if v := o.env(name); v != "" {
			return v
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

func (o *options) holder(command, mode string) state.Holder {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return state.Holder{PID: os.Getpid(), Host: host, User: o.actor(), Started: time.Now(), Command: command, Mode: mode}
}

// close ends the session and adds what went wrong to an error.
func (s *session) close(err *error) {
	for i := len(s.closers) - 1; i >= 0; i-- {
		if e := s.closers[i](); e != nil {
			*err = errors.Join(*err, fmt.Errorf("ending the run: %w", e))
		}
	}
	s.closers = nil
}
