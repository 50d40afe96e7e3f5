package distribution

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v3"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

// drain is how long requests in flight may take when the registry stops.
const drain = 60 * time.Second

// startClock is how much earlier than it was a process may say it started:
// systems count in whole seconds, some of them.
const startClock = 2 * time.Second

// owned returns the declared values with those that are ocisync's own to set.
func (p *Provider) owned(declared schema.Values) schema.Values {
	out := slices.Clone(declared)
	has := func(path string) bool {
		return slices.ContainsFunc(declared, func(v schema.Value) bool { return v.Path == path || strings.HasPrefix(v.Path, path+".") })
	}
	set := func(path, json string) {
		out = slices.DeleteFunc(out, func(v schema.Value) bool { return v.Path == path })
		out = append(out, schema.Value{Path: path, JSON: json})
	}
	if p.ownsLogin() {
		set(othersPath, `""`)
	}
	if p.place.Service != nil {
		set("auth.token.realm", quoted(p.place.Realm()))
		set("auth.token.service", quoted(p.place.Name))
		set("auth.token.issuer", quoted(token.Issuer))
		set("auth.token.jwks", quoted(p.place.JWKS()))
		set("auth.token.signingalgorithms", `["ES256"]`)
	}
	if p.registry.Run != nil {
		if p.byFile() { // what somebody else wrote may be a path in a container
			set("auth.htpasswd.path", quoted(p.place.Htpasswd))
		}
		for _, v := range p.front() {
			set(v.Path, v.JSON)
		}
		set("storage.delete.enabled", "true")
		set(readOnly, "false")
		if !slices.ContainsFunc(drivers(), func(d string) bool { return has("storage." + d) }) || has("storage.filesystem") && !has("storage.filesystem.rootdirectory") {
			set("storage.filesystem.rootdirectory", quoted(p.storage()))
		}
	}
	slices.SortFunc(out, byPath)
	return out
}

// front is where a registry that ocisync runs listens, and its certificate.
func (p *Provider) front() schema.Values {
	out := schema.Values{{Path: "http.addr", JSON: quoted(p.address())}}
	if t := p.registry.TLS; t != nil && t.Cert != nil && t.Key != nil {
		out = append(out, schema.Value{Path: "http.tls.certificate", JSON: quoted(absolute(*t.Cert))}, schema.Value{Path: "http.tls.key", JSON: quoted(absolute(*t.Key))})
	}
	return out
}

// overridden notes declared values that count for nothing.
func (p *Provider) overridden(declared schema.Values) (notes []plan.Note) {
	for _, v := range p.owned(declared) {
		i := slices.IndexFunc(declared, func(d schema.Value) bool { return d.Path == v.Path })
		if i >= 0 && declared[i].JSON != v.JSON {
			notes = append(notes, plan.Note{Key: settingsKey(), Text: v.Path + " is " + v.JSON + ", by registry.run and registry.tls; the line in registry.distribution counts for nothing, remove it"})
		}
	}
	return notes
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return strconv.Quote(s)
	}
	text, err := schema.CanonicalJSON(b)
	if err != nil {
		return string(b)
	}
	return text
}

// storage is where content lies that the mode gives no other place.
func (p *Provider) storage() string { return filepath.Join(p.place.Data, "storage") }

// address is where the registry listens: in a container on every address, and
// what is published is the runtime's.
func (p *Provider) address() string {
	at := p.registry.Run.Listen
	if at == "" {
		if u, err := url.Parse(p.registry.URL); err == nil {
			if at = u.Host; u.Port() == "" {
				at = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
			}
		}
	}
	if p.registry.Driver() == schema.DriverDocker {
		if _, port, err := net.SplitHostPort(at); err == nil {
			return ":" + port
		}
	}
	return at
}

// config is one content of config.yml.
type config struct {
	bytes []byte
	doc   *document
}

// version tells one content from another, and not whether it is one for a
// collection, which begins and ends by itself.
func (c config) version() string {
	if !readsOnly(c.doc) {
		return version(c.bytes)
	}
	doc, err := parseDocument(c.bytes)
	if err == nil {
		err = doc.set(readOnly, "false")
	}
	if err == nil {
		if b, err := doc.bytes(); err == nil {
			return version(b)
		}
	}
	return version(c.bytes)
}

// collecting reports whether the registry takes no pushes for the sake of somebody
// who collects.
func (p *Provider) collecting(d *document) (bool, error) {
	if p.registry.Run == nil || !readsOnly(d) {
		return false, nil
	}
	free, release, err := p.tryAlone()
	if err == nil && free {
		release()
	}
	return !free && err == nil, err
}

// file is what config.yml says. fs.ErrNotExist: there is none.
func (p *Provider) file() (config, error) {
	if err := p.private(); err != nil {
		return config{}, err
	}
	return p.load(p.place.Config)
}

// private refuses a directory of ocisync's own files that somebody else could
// have made, such as a registry that runs as the owner of its data.
func (p *Provider) private() error {
	if p.place.Data == "" || p.registry.Run == nil && p.place.Service == nil {
		return nil
	}
	if err := regular.Private(p.place.Data, filepath.Base(filepath.Dir(p.former()))); err != nil {
		return &providers.Error{Registry: p.registry.URL, Err: err}
	}
	return nil
}

func (p *Provider) load(name string) (config, error) {
	b, err := readConfig(name)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, err
	}
	if err != nil {
		return config{}, p.configError("reading settings", err)
	}
	doc, err := parseDocument(b)
	if err != nil {
		return config{}, p.configError("reading settings", err)
	}
	return config{b, doc}, nil
}

// former is where the content lies that a running registry was started with
// while config.yml says something newer.
func (p *Provider) former() string {
	return filepath.Join(p.place.Data, "ocisync", "config.former.yml")
}

// started is where the content lies that ocisync started the registry with last, or,
// while it does not run, has written since.
func (p *Provider) started() string {
	return filepath.Join(p.place.Data, ownDir, "config.started.yml")
}

// remember keeps what the registry is started with. Without it, as on a full disk,
// it starts all the same.
func (p *Provider) remember() {
	b, err := readConfig(p.place.Config)
	if err != nil {
		return
	}
	if have, err := readConfig(p.started()); err == nil && bytes.Equal(have, b) {
		return
	}
	if err := replaceConfig(p.started(), b); err != nil {
		p.logger.Warn("what the registry is started with is not kept", "error", errors.Join(err, os.Remove(p.started())))
	}
}

// startedWith is what a registry that runs since a time was started with, as far as
// that is known: else what config.yml said before it is written. The engine starts a
// container again by itself, with what lies there then.
func (p *Provider) startedWith(since time.Time, before []byte) []byte {
	if p.registry.Run == nil || p.contained() && !p.changed(since) {
		return before
	}
	if b, err := readConfig(p.started()); err == nil {
		return b
	}
	return before
}

// changed reports whether config.yml was changed after the registry was started.
func (p *Provider) changed(since time.Time) bool {
	info, err := os.Lstat(p.place.Config)
	return err == nil && since.Add(startClock).Before(info.ModTime())
}

// unread reports whether config.yml says something else than a registry that runs since
// a time was started with: by what is kept of that, else by when it was changed.
func (p *Provider) unread(since time.Time) bool {
	if p.registry.Run != nil && !p.contained() {
		was, err := readConfig(p.started())
		now, also := readConfig(p.place.Config)
		if err == nil && also == nil {
			return !bytes.Equal(was, now)
		}
	}
	return p.changed(since)
}

// outdated reports whether a registry that runs since a time was started with
// the former content.
func (p *Provider) outdated(since time.Time) bool {
	info, err := os.Stat(p.former())
	return err == nil && since.Before(info.ModTime())
}

// inForce is what the registry was started with, or, while it does not run,
// will be.
func (p *Provider) inForce(ctx context.Context) (config, error) {
	now, err := p.file()
	if err != nil {
		return now, err
	}
	since, running, err := p.running(ctx)
	if err != nil || !running {
		return now, err
	}
	if p.outdated(since) {
		return p.load(p.former())
	}
	return now, nil // one that was changed by hand since is remarked upon
}

// running reports whether the registry runs, and since when: zero where it
// answers, somebody else runs it, and nothing tells.
func (p *Provider) running(ctx context.Context) (since time.Time, ok bool, err error) {
	if p.process == nil {
		return p.observed(ctx)
	}
	s, err := p.process.Status(ctx)
	if err != nil {
		return since, false, &providers.Error{Registry: p.registry.URL, Doing: "looking at its process", Err: err}
	}
	return s.Started, s.Running, nil
}

// observed is the same of a registry that somebody else runs, where its files
// are here: by its process, else by its log, as far as they can be seen.
func (p *Provider) observed(ctx context.Context) (since time.Time, ok bool, err error) {
	if p.place.Config == "" || p.registry.Files == nil {
		return since, false, nil
	}
	at, err := url.Parse(p.registry.URL)
	if err != nil {
		return since, false, err
	}
	if server, ok := providers.ServedBy(p.place.Config, at); ok && !server.Began.IsZero() {
		return server.Began, true, nil
	}
	rt, err := p.connection()
	if err != nil {
		return since, false, err
	}
	if _, err := oci.Ping(ctx, p.registry.URL, rt); errors.Is(err, providers.ErrUnreachable) {
		return since, false, nil
	}
	return lastStart(p.registry.Files.Log), true, nil
}

// tailOfLog is how much of a log's end is looked at, in bytes.
const tailOfLog = 32 << 20

// listening is what Distribution logs when it has started.
const listening = "listening on "

var loggedAt = regexp.MustCompile(`"?time"?[=:]"([^"]+)"`)

// lastStart is when the registry started last by its log; zero where that tells
// nothing.
func lastStart(name string) (last time.Time) {
	if name == "" {
		return last
	}
	f, err := os.Open(name)
	if err != nil {
		return last
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailOfLog {
		if _, err := f.Seek(-tailOfLog, io.SeekEnd); err != nil {
			return last
		}
	}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if m := loggedAt.FindStringSubmatch(line); m != nil && strings.Contains(line, listening) {
			if t, err := time.Parse(time.RFC3339Nano, m[1]); err == nil {
				last = t
			}
		}
		if err != nil {
			return last
		}
	}
}

// stale says that the file was changed behind the back of a registry that runs.
func (p *Provider) stale(ctx context.Context) (string, error) {
	if p.place.Config == "" {
		return "", nil
	}
	info, err := os.Lstat(p.place.Config)
	if err != nil {
		return "", nil //nolint:nilerr // no file, nothing to say of it
	}
	since, running, err := p.running(ctx)
	if err != nil || !running || since.IsZero() {
		return "", err
	}
	if p.outdated(since) || !p.unread(since) {
		return "", nil
	}
	how := "run `ocisync restart`"
	if p.process == nil {
		how = "restart it"
	}
	if len(p.odd()) > 0 {
		how = "correct the lines that this plan names, then " + how
	} else if now, err := p.file(); err == nil {
		if wrong, err := p.unlocked(now.doc); err == nil && len(wrong) > 0 { // who restarts it as it is may open it
			how = "run `ocisync apply`, which puts back how clients log in"
			if p.process == nil {
				how += ", and then restart it"
			}
		}
	}
	return fmt.Sprintf("config.yml was changed at %s by others and the registry runs since %s: it does not know what the file says; %s", info.ModTime().UTC().Format(time.RFC3339), since.UTC().Format(time.RFC3339), how), nil
}

// Check implements [providers.Checker]: for settings by config.yml, which holds
// them in the clear.
func (p *Provider) Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (bool, error) {
	path, ok := strings.CutPrefix(field, "values.")
	if p.byFile() && key.Kind == schema.KindUser && field == "password" {
		return p.people.check(ctx, key, ref)
	}
	if key.Kind != schema.KindSettings || !ok || p.place.Config == "" {
		if p.accounts == nil {
			return false, fmt.Errorf("%s: %s: %w", key, field, providers.ErrUnsupported)
		}
		return p.accounts.Check(ctx, key, field, ref)
	}
	live, err := p.inForce(ctx)
	if errors.Is(err, fs.ErrNotExist) { // it is on another host
		return false, fmt.Errorf("%s: %s: %w", key, field, providers.ErrUnsupported)
	}
	if err != nil {
		return false, err
	}
	secret, err := p.secrets.Resolve(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("%s: %s: %w", key, field, err)
	}
	n := live.doc.get(path)
	return n != nil && n.Kind == yaml.ScalarNode && subtle.ConstantTimeCompare([]byte(n.Value), []byte(secret)) == 1, nil
}

// lay puts values into a document. Of the places of content, and of the ways to
// log in, one stays: that which is laid. Secrets are resolved where wanted says
// so, and stay as they are elsewhere.
func (p *Provider) lay(ctx context.Context, doc *document, values schema.Values, wanted func(path string) bool) error {
	keep := func(under string, all []string, changed func(string) bool) {
		var chosen string
		for _, v := range values {
			parts := schema.SplitPath(v.Path)
			if len(parts) > 1 && parts[0] == under && slices.Contains(all, parts[1]) && changed(v.Path) {
				chosen = parts[1]
			}
		}
		if chosen == "" {
			return
		}
		for _, other := range all {
			if other != chosen {
				doc.drop(under + "." + other)
			}
		}
	}
	keep("storage", drivers(), wanted)
	keep("auth", ways(), func(path string) bool { return strings.HasPrefix(path, "auth."+p.way()+".") })
	for _, v := range values {
		if v.Path == schema.OutsidePath || !wanted(v.Path) {
			continue
		}
		if v.Path == othersPath {
			for _, path := range p.others(doc) {
				doc.drop(path)
			}
			continue
		}
		if v.Path == notifyPath {
			box, err := p.provideInbox(ctx)
			if err == nil {
				err = doc.notify(box)
			}
			if err != nil {
				return p.configError("writing settings", err)
			}
			continue
		}
		text := v.JSON
		if ref, ok := v.Secret(); ok {
			secret, err := p.secrets.Resolve(ctx, ref)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", settingsKey(), v.Path, err)
			}
			text = quoted(secret)
		}
		if err := doc.set(v.Path, text); err != nil {
			return p.configError("writing settings", err)
		}
	}
	return p.whole(doc)
}

// whole adds what every configuration needs and no plan shows: the version; the
// realm that goes with an htpasswd file; a secret of its own, without which
// uploads do not outlive a restart; and a time for requests in flight, without
// which a stop cuts them off.
func (p *Provider) whole(doc *document) error {
	if doc.get("version") == nil {
		doc.root.Content = append([]*yaml.Node{
			{Kind: yaml.ScalarNode, Tag: "!!str", Value: "version"},
			{Kind: yaml.ScalarNode, Tag: "!!float", Value: configVersion},
		}, doc.root.Content...)
	}
	if p.registry.Run == nil {
		return nil
	}
	var errs []error
	if doc.get("auth.htpasswd") != nil && doc.get("auth.htpasswd.realm") == nil {
		errs = append(errs, doc.set("auth.htpasswd.realm", quoted(p.place.Name)))
	}
	for _, v := range []schema.Value{
		{Path: "http.secret", JSON: quoted(rand.Text() + rand.Text())},
		{Path: "http.draintimeout", JSON: quoted(drain.String())},
	} {
		if doc.get(v.Path) == nil {
			errs = append(errs, doc.set(v.Path, v.JSON))
		}
	}
	return errors.Join(errs...)
}
