// Package zot is the provider of Zot, the registry that is configured by one
// JSON file and an htpasswd file.
//
// Start with [New]. What the files say is read as objects (objects.go). A plan
// judges changes of them (prepare.go); a write makes them (write.go, change.go),
// brings the files to say so (emit.go) and the process to take them over
// (control.go), which it does for some keys while it runs and for others not
// (reload.go). What is known of the process is in status.go and live.go; its log
// (log.go) says what it took over (record.go); program.go asks its program. access.go,
// retention.go, sync.go and events.go translate; quota.go withdraws push where a
// quota is used up. The files themselves are package files', the JSON document is
// package config's.
package zot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/measure"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// Provider implements [providers.Provider] for a Zot, whoever runs it.
type Provider struct {
	registry schema.Registry
	url      *url.URL
	paths    paths
	process  providers.Process // nil: somebody else runs it
	secrets  providers.Secrets
	table    schema.Table
	logger   *slog.Logger
	cost     int                         // of hashing a password, as bcrypt counts
	outside  access.Outside              // "" while the mode does not say
	keeps    bool                        // the registry keeps its inventory itself
	permit   func(registry string) error // nil where secrets may go anywhere
	now      func() time.Time
	patience time.Duration // for a record in Zot's log

	meter    *measure.Meter
	writing  sync.Mutex
	reading  reading
	checked  checked
	declared declaredKeys
	silent   atomic.Int64 // when a listener said nothing last, in nanoseconds since 1970
}

var (
	_ providers.Provider = (*Provider)(nil)
	_ providers.Checker  = (*Provider)(nil)
	_ providers.Launcher = (*Provider)(nil)
	_ providers.Hosted   = (*Provider)(nil)
	_ providers.Leaver   = (*Provider)(nil)

	_ providers.RobotsAreUsers = (*Provider)(nil)
)

// paths are the registry's files on this host; config is "" where there are
// none.
type paths struct {
	config   string
	htpasswd string // "": as the configuration says
	log      string // "": as the configuration says
	data     string // "" where somebody else runs the registry
	own      string // what ocisync keeps
	sync     string // the credentials that sync uses, unless the configuration says
	inbox    string // where Zot's events are received; "" where they cannot be
}

// Option is something New need not be told.
type Option func(*Provider)

// Outside makes the mode's policy.outside part of the desired state, so that a
// plan shows when it differs.
func Outside(o access.Outside) Option { return func(p *Provider) { p.outside = o } }

// KeepsInventory has retention never remove ocisync's own inventory, which lies in the
// registry: a plan shows where it would.
func KeepsInventory() Option { return func(p *Provider) { p.keeps = true } }

// Permit asks, before a secret goes to the registry's URL, whether it may.
func Permit(ask func(registry string) error) Option { return func(p *Provider) { p.permit = ask } }

// HashCost is what hashing passwords costs, as bcrypt counts: tests hash
// hundreds, and none that is worth guessing.
func HashCost(cost int) Option { return func(p *Provider) { p.cost = cost } }

// New makes the provider and reaches for nothing yet. The process is nil where
// somebody else runs the registry; the logger may be nil.
func New(r schema.Registry, process providers.Process, secrets providers.Secrets, logger *slog.Logger, options ...Option) (*Provider, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("registry.url %q is not the address of a registry; write it as http://localhost:5000", r.URL)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	p := &Provider{
		registry: r, url: u, process: process, secrets: secrets, table: Capabilities(r.Driver()), logger: logger,
		meter: measure.New(), cost: bcrypt.DefaultCost, now: time.Now, patience: 10 * time.Second,
	}
	if p.paths, err = pathsOf(r); err != nil {
		return nil, err
	}
	for _, o := range options {
		o(p)
	}
	return p, nil
}

func pathsOf(r schema.Registry) (paths, error) {
	switch {
	case r.Run != nil:
		if r.Run.Data == "" {
			return paths{}, fmt.Errorf("%s: registry.run has no data directory; name one in registry.run.data", r.URL)
		}
		data, err := filepath.Abs(r.Run.Data)
		if err != nil {
			return paths{}, fmt.Errorf("%s: registry.run.data %s: %w", r.URL, r.Run.Data, err)
		}
		return paths{
			config: filepath.Join(data, "config.json"), htpasswd: filepath.Join(data, "htpasswd"), data: data,
			own:   filepath.Join(data, "ocisync", "zot.json"),
			sync:  filepath.Join(data, "sync-credentials.json"), // Zot reads it, as whoever it runs as
			inbox: webhook.InboxFile(data),
		}, nil
	case r.Files != nil && r.Files.Config != "":
		return paths{
			config: r.Files.Config, htpasswd: r.Files.Htpasswd, log: r.Files.Log,
			own: r.Files.Config + ".ocisync.json", sync: r.Files.Config + ".sync-credentials.json",
		}, nil
	}
	return paths{}, nil
}

// Batch implements [providers.Provider]: the configuration is written, and
// taken over by Zot, once.
func (p *Provider) Batch() providers.Batch { return providers.BatchAll }

// RobotsAreUsers implements [providers.RobotsAreUsers].
func (*Provider) RobotsAreUsers() {}

// Capabilities implements [providers.Provider].
func (p *Provider) Capabilities() schema.Table { return p.table }

// Where implements [providers.Hosted].
func (p *Provider) Where(ctx context.Context) (providers.Place, error) {
	if p.paths.config == "" {
		return providers.Away, nil
	}
	return providers.Locate(ctx, p.process, p.registry, []string{p.paths.config, p.paths.own}, func(ctx context.Context) error {
		_, rt, err := p.client()
		if err != nil {
			return p.fail(schema.Key{}, "", err, "")
		}
		defer rt.CloseIdleConnections()
		_, err = oci.Ping(ctx, p.registry.URL, rt)
		return err
	})
}

// Filed implements [providers.Hosted].
func (p *Provider) Filed() []schema.Kind {
	return slices.DeleteFunc(p.table.Kinds(), func(k schema.Kind) bool { return p.table.Find(k, "").Support == schema.Unsupported })
}

// away reports whether the registry's files are on another host.
func (p *Provider) away(ctx context.Context) (bool, error) {
	where, err := p.Where(ctx)
	return where == providers.Away, err
}

func (p *Provider) fail(key schema.Key, doing string, err error, remedy string) error {
	return &providers.Error{Registry: p.registry.URL, Key: key, Doing: doing, Err: err, Remedy: remedy}
}

// Normalize implements [providers.Provider]. That the process runs with the
// file as it is is one of the settings; where ocisync runs the registry, so are
// its address and certificate.
func (p *Provider) Normalize(st schema.State) (schema.State, []plan.Note, error) {
	p.declared.are(st.Resources)
	st.Resources = slices.Clone(st.Resources)
	var more []schema.Value
	text := func(path, value string) {
		more = append(more, schema.Value{Path: path, JSON: strconv.Quote(value)})
	}
	if p.outside != "" {
		text(schema.OutsidePath, string(p.outside))
	}
	var notes []plan.Note
	for _, v := range p.front() {
		more = append(more, v)
		for _, r := range st.Resources {
			if spec, ok := r.Spec.(*schema.Settings); ok && slices.ContainsFunc(spec.Values, func(o schema.Value) bool { return strings.EqualFold(o.Path, v.Path) && o.JSON != v.JSON }) {
				notes = append(notes, plan.Note{Key: r.Key, Text: v.Path + " is " + v.JSON + ", as registry.run and registry.tls say, whatever stands in registry.zot"})
			}
		}
	}
	for i, r := range st.Resources {
		if spec, ok := r.Spec.(*schema.Settings); ok {
			spell := newSpeller()
			c := schema.Settings{Values: slices.Clone(spec.Values)}
			for j, v := range c.Values {
				c.Values[j].Path = schema.JoinPath(spell.path(schema.SplitPath(v.Path))...)
			}
			slices.SortFunc(c.Values, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
			st.Resources[i].Spec = &c
		}
	}
	if p.paths.config != "" {
		more = append(more, p.missed(st)...)
		run, err := providers.WantedRun(p.process, p.registry, p)
		if err != nil {
			return schema.State{}, nil, err
		}
		more = append(more, run...)
		more = append(more, schema.Value{Path: loadedPath, JSON: loadedYes}, schema.Value{Path: unfinishedPath, JSON: unfinishedNone}, schema.Value{Path: shadowedPath, JSON: shadowedNone}, schema.Value{Path: accountsPath, JSON: accountsNone}, schema.Value{Path: loginsPath, JSON: loginsAsRules})
		if p.keeps {
			more = append(more, schema.Value{Path: heldPath, JSON: heldYes})
		}
		if p.paths.data != "" {
			more = append(more, schema.Value{Path: ownPath, JSON: ownAsMade}, schema.Value{Path: placesPath, JSON: placesNone})
			if !saysDriver(st) {
				more = append(more, schema.Value{Path: driverPath, JSON: driverLocal})
			}
			if !saysPlace(st) {
				more = append(more, schema.Value{Path: rootPath, JSON: string(encoded(p.storage()))})
			}
		}
		addSettings(&st, more)
		if why := p.unreadLog(); why != "" {
			notes = append(notes, plan.Note{Key: schema.Key{Kind: schema.KindSettings}, Text: why})
		}
	}
	if err := st.Sort(); err != nil {
		return schema.State{}, nil, err
	}
	return st, notes, nil
}

// rootPath is where Zot has its content. Of a Zot that ocisync runs it is below the data
// directory, unless the mode says another place.
const rootPath = "storage.rootDirectory"

func (p *Provider) storage() string { return filepath.Join(p.paths.data, "storage") }

// saysPlace reports whether the mode says where content lies.
func saysPlace(st schema.State) bool {
	return saysDriver(st) || sets(st, func(v schema.Value) bool { return strings.EqualFold(v.Path, rootPath) })
}

// saysDriver reports whether the mode names what it lies in.
func saysDriver(st schema.State) bool { return sets(st, ofDriver) }

func ofDriver(v schema.Value) bool {
	return strings.HasPrefix(strings.ToLower(v.Path)+".", "storage.storagedriver.")
}

// sets reports whether the mode sets such a value.
func sets(st schema.State, is func(schema.Value) bool) bool {
	return slices.ContainsFunc(st.Resources, func(r schema.Resource) bool {
		spec, ok := r.Spec.(*schema.Settings)
		return ok && slices.ContainsFunc(spec.Values, is)
	})
}

// front is where a Zot that ocisync runs listens, and its certificate: the
// mode's registry.run and registry.tls say it, and nothing else.
func (p *Provider) front() []schema.Value {
	if p.paths.data == "" {
		return nil
	}
	host, port := p.listen()
	out := []schema.Value{{Path: "http.address", JSON: strconv.Quote(host)}, {Path: "http.port", JSON: strconv.Quote(port)}}
	if t := p.registry.TLS; t != nil && t.Cert != nil && t.Key != nil {
		out = append(out, schema.Value{Path: "http.tls.cert", JSON: string(encoded(*t.Cert))}, schema.Value{Path: "http.tls.key", JSON: string(encoded(*t.Key))})
	}
	return out
}

// addSettings adds values in the place of those of the mode's own table.
func addSettings(st *schema.State, more []schema.Value) {
	key := schema.Key{Kind: schema.KindSettings}
	i := slices.IndexFunc(st.Resources, func(r schema.Resource) bool { return r.Key == key })
	if i < 0 {
		i = len(st.Resources)
		st.Resources = append(st.Resources, schema.Resource{Key: key, Spec: &schema.Settings{}})
		kinds := append([]schema.Kind{schema.KindSettings}, st.Scope.Kinds...)
		slices.Sort(kinds)
		st.Scope.Kinds = slices.Compact(kinds)
	}
	var values schema.Values
	if spec, ok := st.Resources[i].Spec.(*schema.Settings); ok {
		values = slices.Clone(spec.Values)
	}
	for _, v := range more {
		same := func(o schema.Value) bool { return strings.EqualFold(o.Path, v.Path) }
		values = append(slices.DeleteFunc(values, same), v)
	}
	slices.SortFunc(values, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
	st.Resources[i].Spec = &schema.Settings{Values: values}
}

// listen is where Zot listens: in a container on every address of the port
// that is published.
func (p *Provider) listen() (host, port string) {
	address := p.registry.Run.Listen
	if address == "" {
		address = p.url.Host
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, map[string]string{"http": "80", "https": "443"}[p.url.Scheme]
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if p.registry.Driver() == schema.DriverDocker || host == "" {
		host = "0.0.0.0"
	}
	return host, port
}

// site is the registry's files as they lie there, and what they say.
type site struct {
	view
	text     []byte // of the configuration, without padding
	inode    uint64
	changed  time.Time // when the configuration was, by anybody and in any way
	accounts []byte    // of htpasswd
	creds    string    // where sync's credentials are
	skipped  []string  // extensions; nil: not looked
	// discovered is what Zot answers of its extensions; nil: not asked.
	discovered *string
	looked     bool  // into the log, for the record
	printed    int64 // where what the process prints ended before a write
	record     *record
	before     []byte // what the configuration holds where a write of it was cut
	// planned are the objects as a plan saw them before such a write was finished; nil
	// where none was.
	planned map[schema.Key]schema.Resource
}

// load reads the files. Where there is no configuration the registry is a new
// one.
func (p *Provider) load(ctx context.Context) (*site, error) {
	s := &site{view: view{now: p.now(), hashes: map[string]string{}, credentials: map[string]credential{}}}
	var err error
	if s.own, err = p.ownFile(); err != nil {
		return nil, p.unreadable(err)
	}
	s.htpasswd, s.creds = p.paths.htpasswd, p.paths.sync
	if s.inbox, err = p.inbox(ctx); err != nil {
		return nil, err
	}
	s.text, err = files.Read(p.paths.config)
	if errors.Is(err, fs.ErrNotExist) {
		if p.paths.data == "" {
			return nil, p.fail(schema.Key{}, "", err, "put it there, or correct registry.files.config")
		}
		return s, nil
	}
	if err != nil {
		return nil, p.unreadable(err)
	}
	if info, err := os.Stat(p.paths.config); err == nil {
		s.changed = info.ModTime()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			s.inode = st.Ino
			if c := time.Unix(st.Ctim.Unix()); c.After(s.changed) {
				s.changed = c
			}
		}
	}
	if s.doc, s.conf, err = p.reading.config(p.paths.config, s.text); err != nil {
		return nil, p.misread(err)
	}
	if err := p.loadAccounts(s); err != nil {
		return nil, err
	}
	if err := p.loadCut(s); err != nil {
		return nil, p.unreadable(err)
	}
	return s, nil
}

func read(name string, text []byte) (*config.Document, configuration, error) {
	doc, err := config.Parse(name, text)
	if err != nil {
		return nil, configuration{}, err
	}
	if !doc.Has() {
		return nil, configuration{}, fmt.Errorf("%s: the configuration says nothing; the least that Zot starts with is {\"storage\":{\"rootDirectory\":\"…\"}}", name)
	}
	conf, err := parseConfig(doc)
	if err != nil {
		return nil, configuration{}, mistyped(name, doc)
	}
	return doc, conf, nil
}

// mistyped says where a configuration holds something else than Zot has there.
func mistyped(name string, doc *config.Document) error {
	var list []string
	for _, p := range doc.Problems("") {
		if !p.Version {
			list = append(list, p.String())
		}
	}
	const few = 5
	if len(list) > few {
		list = append(list[:few], fmt.Sprintf("and %d more of the kind", len(list)-few))
	}
	if len(list) == 0 {
		return fmt.Errorf("%s: something stands where Zot has something of another type, such as a text where it has a table; zot verify tells more", name)
	}
	return errors.New(strings.Join(list, "; "))
}

func (p *Provider) loadAccounts(s *site) (err error) {
	if a := s.conf.HTTP.Auth; a != nil && a.HTPasswd != nil && a.HTPasswd.Path != "" {
		switch path := a.HTPasswd.Path; {
		case !filepath.IsAbs(path) && s.htpasswd == "":
			return p.fail(schema.Key{}, "", fmt.Errorf("%s: http.auth.htpasswd.path %q is relative, and only Zot knows to what", p.paths.config, path), "write it absolute, or name the file in registry.files.htpasswd")
		case s.htpasswd == "":
			s.htpasswd = path
		case !filepath.IsAbs(path) || filepath.Clean(path) == filepath.Clean(s.htpasswd):
		case p.paths.data != "":
			s.foreign = true
		default:
			return p.fail(schema.Key{}, "", fmt.Errorf("%s: http.auth.htpasswd.path is %s, and the mode expects %s", p.paths.config, path, s.htpasswd), "make the two the same file")
		}
	}
	if s.htpasswd != "" {
		if s.accounts, err = files.Read(s.htpasswd); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p.unreadable(err)
		}
		f := htpasswd.Parse(s.accounts)
		for _, name := range f.Names() {
			s.hashes[name], _ = f.Hash(name)
		}
	}
	if c := s.conf.Extensions.Sync; c != nil && filepath.IsAbs(c.CredentialsFile) {
		s.creds = c.CredentialsFile
	}
	if s.credentials, err = readCredentials(s.creds); err != nil {
		return p.unreadable(err)
	}
	return nil
}

// misread says of a configuration that is not taken here whether Zot takes it.
func (p *Provider) misread(err error) error {
	remedy := "mend the file: Zot does not start with it, and one that runs goes on with what it has read"
	if e := (*config.Error)(nil); errors.As(err, &e) && e.Runs {
		remedy = "" // it says its own
	}
	return p.fail(schema.Key{}, "", err, remedy)
}

func (p *Provider) unreadable(err error) error {
	remedy := ""
	if errors.Is(err, fs.ErrPermission) {
		remedy = "run ocisync as the user who owns the registry's files"
	}
	return p.fail(schema.Key{}, "reading its files", err, remedy)
}

// Read implements [providers.Provider]: the configuration and accounts as the
// running process has them; see [Provider.live]. Away from the registry's host
// only repositories are seen.
func (p *Provider) Read(ctx context.Context, scope schema.Scope) (schema.State, error) {
	if err := ctx.Err(); err != nil {
		return schema.State{}, err
	}
	var st schema.State
	away, err := p.away(ctx)
	if err != nil {
		return schema.State{}, err
	}
	if !away {
		before := p.checked.stampNow(p.paths)
		s, err := p.load(ctx)
		if err != nil {
			return schema.State{}, err
		}
		o := s.objects()
		p.checked.keep(o, p.paths, s.creds, before)
		running, err := p.status(ctx, s)
		if err != nil {
			return schema.State{}, err
		}
		all, except, err := p.live(ctx, s, o, running)
		if err != nil {
			return schema.State{}, err
		}
		st.Scope = schema.ScopeOf(slices.DeleteFunc(slices.Clone(scope.Kinds), func(k schema.Kind) bool {
			return p.table.Find(k, "").Support == schema.Unsupported
		})...)
		st.Scope.Except = slices.Clone(scope.Except)
		for _, k := range except {
			if slices.Contains(st.Scope.Kinds, k.Kind) {
				st.Scope.Except = append(st.Scope.Except, k)
			}
		}
		slices.SortFunc(st.Scope.Except, schema.Key.Compare)
		for _, r := range all {
			if st.Scope.Covers(r.Key) {
				st.Resources = append(st.Resources, r)
			}
		}
	}
	if len(scope.Repositories) > 0 {
		st.Scope.Repositories = slices.Clone(scope.Repositories)
		if st.Repositories, err = p.repositories(ctx, scope.Repositories); err != nil {
			return schema.State{}, err
		}
	}
	return st, st.Sort()
}

// checked is what is secret in the files as they were read last: a plan checks each
// password by itself, and reading takes longer than comparing does. Nobody changes it.
type checked struct {
	reading sync.Mutex // held by a check that reads

	mu    sync.Mutex
	names []string // of the files, as the configuration says
	stamp string   // of what they were before they were read; "" where nothing is kept
	secrets
}

// secrets are those of a configuration and its objects.
type secrets struct {
	doc *config.Document // nil: there is no configuration
	of  map[schema.Key]hidden
}

// hidden is what is secret of an object.
type hidden struct {
	fields []string
	text   string
}

// readToCheck reads the files, unless they are as they were.
func (p *Provider) readToCheck(ctx context.Context) (secrets, error) {
	c := &p.checked
	c.reading.Lock()
	defer c.reading.Unlock()
	before := c.stampNow(p.paths)
	if kept, ok := c.as(before); ok {
		return kept, nil
	}
	s, err := p.load(ctx)
	if err != nil {
		return secrets{}, err
	}
	return c.keep(s.objects(), p.paths, s.creds, before), nil
}

// stampNow is the stamp of the files now, to be had before they are read.
func (c *checked) stampNow(p paths) string {
	c.mu.Lock()
	names := c.names
	c.mu.Unlock()
	if names == nil {
		names = []string{p.own, p.config, p.htpasswd, p.sync}
	}
	return stampOf(names)
}

// as is what was kept of files with a stamp.
func (c *checked) as(stamp string) (secrets, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secrets, c.stamp != "" && c.stamp == stamp
}

// keep keeps what is secret of objects that were read after the files had a stamp.
func (c *checked) keep(o *objects, p paths, creds, before string) secrets {
	out := secrets{o.doc, make(map[schema.Key]hidden, len(o.all))}
	for k, r := range o.all {
		out.of[k] = hidden{r.Unread, o.secret[k]}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	names := []string{p.own, p.config, o.htpasswd, creds}
	if c.names != nil && !slices.Equal(names, c.names) || c.names == nil && !slices.Equal(names, []string{p.own, p.config, p.htpasswd, p.sync}) {
		before = "" // the configuration names others: from the next time on
	}
	c.secrets, c.names, c.stamp = out, names, before
	return out
}

func (c *checked) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp = ""
}

// stampOf differs with every change of any of the files, as far as the system tells.
func stampOf(names []string) string {
	var b strings.Builder
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "%v;", err)
			continue
		}
		fmt.Fprintf(&b, "%d %d;", info.Size(), info.ModTime().UnixNano())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintf(&b, "%d %d %d;", st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
		}
	}
	return b.String()
}

// Check implements [providers.Checker]: passwords and secrets of accounts by
// their hash, sync's by what stands in its file.
func (p *Provider) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	fail := func(err error) (bool, error) { return false, p.fail(key, "comparing "+field, err, "") }
	if away, err := p.away(ctx); err != nil || away {
		return fail(errors.Join(err, providers.ErrUnsupported))
	}
	s, err := p.readToCheck(ctx)
	if err != nil {
		return false, err
	}
	if s.doc == nil {
		return fail(providers.ErrNotFound)
	}
	of, there := s.of[key]
	if !there {
		return fail(providers.ErrNotFound)
	}
	var have string
	switch {
	case key.Kind == schema.KindWebhook && field == "auth", key.Kind == schema.KindUser && field == "password", key.Kind == schema.KindRobot && field == "secret.value", key.Kind == schema.KindRemote && field == "login.password":
		have = of.text
	case key.Kind == schema.KindSettings:
		_, secrets := flatten(s.doc)
		i := slices.IndexFunc(secrets, func(v schema.Value) bool { return "values."+v.Path == field })
		if i < 0 {
			return fail(providers.ErrUnsupported)
		}
		if have, err = strconv.Unquote(secrets[i].JSON); err != nil {
			return fail(providers.ErrUnsupported)
		}
	default:
		return fail(providers.ErrUnsupported)
	}
	secret, err := p.secrets.Resolve(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("%s: %s: %w", key, field, err)
	}
	if !slices.Contains(of.fields, field) {
		return false, nil
	}
	if key.Kind != schema.KindUser && key.Kind != schema.KindRobot {
		return have == secret, nil
	}
	equal, err := htpasswd.Verify(have, secret)
	if errors.Is(err, htpasswd.ErrForm) {
		return fail(fmt.Errorf("%w: %w", providers.ErrUnsupported, err))
	}
	return equal, err
}

// client makes requests of the registry itself, with the login where one is
// given. The caller closes idle connections.
func (p *Provider) client() (*http.Client, *providers.Way, error) {
	var t schema.TLS
	if p.registry.TLS != nil {
		t = schema.TLS{CA: p.registry.TLS.CA, Insecure: p.registry.TLS.Insecure}
	}
	rt, err := oci.Transport(t)
	if err != nil {
		return nil, nil, err
	}
	if rt.TLSClientConfig != nil {
		rt.TLSClientConfig.MinVersion = tls.VersionTLS12
	}
	providers.DialLive(rt, p.process, p.registry)
	way := providers.NewWay(rt, p.process, p.registry.URL, p.paths.config, p.paths.own)
	return &http.Client{
		Transport: way, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, way, nil
}
