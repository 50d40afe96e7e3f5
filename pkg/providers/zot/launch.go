package zot

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// grace is how long Zot may take to stop. It cuts requests off and is gone
// within a second.
const grace = 15 * time.Second

// Launch implements [providers.Launcher].
func (p *Provider) Launch(context.Context) (providers.Launch, error) {
	if p.paths.data == "" {
		return providers.Launch{}, fmt.Errorf("%s: somebody else runs this registry: the mode has no registry.run", p.registry.URL)
	}
	_, port := p.listen()
	n, err := strconv.Atoi(port)
	if err != nil {
		return providers.Launch{}, fmt.Errorf("%s: registry.run.listen: %q is no port", p.registry.URL, port)
	}
	l := providers.Launch{
		Args: []string{"serve", p.paths.config}, Port: n, Grace: grace, Face: string(encoded(schema.Values(p.front()))),
		Mounts: []providers.Mount{{Path: p.paths.data, Writable: true}, {Path: filepath.Dir(p.paths.own)}},
	}
	if t := p.registry.TLS; t != nil && t.Cert != nil && t.Key != nil {
		l.Mounts = append(l.Mounts, providers.Mount{Path: *t.Cert}, providers.Mount{Path: *t.Key})
	}
	return l, nil
}

// BeforeStart implements [providers.Launcher]: a configuration that is not there
// is made, with accounts and access control from the start, since a running Zot
// takes neither over; one that is there is made to say where Zot listens, where
// whoever starts it waits for it.
func (p *Provider) BeforeStart(ctx context.Context, face string) error {
	if p.paths.data == "" {
		return fmt.Errorf("%s: somebody else runs this registry: the mode has no registry.run", p.registry.URL)
	}
	if err := p.found(p.lastWritten()); err != nil {
		return err
	}
	front, err := p.faced(face)
	if err != nil {
		return err
	}
	if err := p.face(front); err != nil {
		return err
	}
	if err := p.settle(); err != nil {
		return err
	}
	if s, err := p.load(ctx); err != nil { // every plan says it, and Zot may start all the same
		p.logger.Warn("whether ocisync's own account and namespace are as made is not known: correct what the error names, and run `ocisync restart`", "registry", p.registry.URL, "error", err)
	} else if err := p.mendOwn(s); err != nil {
		return err
	}
	if err := p.noteStart(); err != nil {
		return p.unreadable(err)
	}
	return p.follow(ctx)
}

// noteStart notes what it is started with, where ocisync did not write that.
func (p *Provider) noteStart() error {
	o, err := p.ownFile()
	if err != nil {
		return err
	}
	text, err := files.Read(p.paths.config)
	if err != nil {
		return err
	}
	was := o.Started
	if o.Started = string(text); o.Loaded.Config == "" || files.Equal(text, []byte(o.Loaded.Config)) {
		o.Started = ""
	}
	if o.Started == was {
		return nil
	}
	return o.save(p.paths.own)
}

// Precheck implements [providers.Prechecker]: by reading the configuration, and
// by Zot's own program where the mode names that.
func (p *Provider) Precheck(ctx context.Context, face string) error {
	if p.paths.data == "" {
		return nil
	}
	if err := p.private(); err != nil {
		return p.unreadable(err)
	}
	text, err := files.Read(p.paths.config)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = p.lastWritten(), nil; text != nil {
			p.tellLost(ctx, text)
		} else {
			text = p.first()
		}
	}
	if err != nil {
		return p.unreadable(err)
	}
	if why := p.putsRight(ctx); why != "" {
		p.logger.Warn("somebody changed its configuration, and it is started with what that takes put right", "what", why, "registry", p.registry.URL, "file", p.paths.config)
	}
	front, err := p.faced(face)
	if err != nil {
		return err
	}
	if text, err = p.with(text, front); err != nil {
		return err
	}
	if err := p.startable(text); err != nil {
		return err
	}
	if err := p.verify(ctx, text); errors.Is(err, errProgram) {
		return p.fail(schema.Key{}, "", err, "")
	} else if err != nil {
		return p.fail(schema.Key{}, p.paths.config, err, "mend the file: one that runs goes on with what it has read")
	}
	return nil
}

// tellLost says of a configuration that is gone what it is started with, and which keys
// it ran with that go with the file, as far as its log tells.
func (p *Provider) tellLost(ctx context.Context, text []byte) {
	says := []any{"registry", p.registry.URL, "file", p.paths.config}
	if doc, conf, err := read(p.paths.config, text); err == nil {
		s := &site{view: view{doc: doc, conf: conf}, text: text}
		var lost []string
		if r := p.logged(ctx, s); r != nil {
			lost = r.lost(doc)
		}
		if o, err := p.ownFile(); err == nil && o.Started != "" {
			if started, _, err := read("", []byte(o.Started)); err == nil {
				for _, c := range config.Compare(started, doc) {
					lost = append(lost, strings.Join(c.Path, "."))
				}
			}
		}
		slices.Sort(lost)
		if lost = slices.Compact(lost); len(lost) > 0 {
			says = append(says, "lost", strings.Join(lost, ", "))
		}
	}
	p.logger.Warn("its configuration is gone: it is started with what ocisync wrote there last; what somebody else wrote since is to be had from a backup", says...)
}

// putsRight says what of a configuration that somebody changed a start puts right; "" for
// nothing.
func (p *Provider) putsRight(ctx context.Context) string {
	s, err := p.load(ctx)
	if err != nil || s.doc == nil { // every plan says it
		return ""
	}
	switch {
	case s.conf.lostLogins():
		return "somebody took out of its configuration where its accounts are, without which Zot does not start with its rules: http.auth.htpasswd is put back; the next plan shows what else was changed"
	case s.objects().ownAsMade():
		return ""
	case s.conf.HTTP.AccessControl == nil && !s.conf.authenticated():
		return "somebody took its rules and its logins out of its configuration, with which it would be open to everybody: it is started with its accounts, and shut to all but ocisync, until ocisync apply writes the rules anew"
	case s.conf.HTTP.AccessControl == nil:
		return "somebody took its rules out of its configuration, with which every account may do everything: it is started shut to all but ocisync, until ocisync apply writes them anew"
	}
	return "somebody changed ocisync's own account, or the namespace ocisync, in which an inventory may lie: both are put right; the next plan shows what else was changed"
}

// startable tells, as far as ocisync sees it itself, why Zot would not start with
// a configuration. A Zot that ends over its certificate has begun to work on its
// storage by then, and leaves files there half-written.
func (p *Provider) startable(text []byte) error {
	doc, _, err := read(p.paths.config, text)
	if err != nil {
		return p.misread(err)
	}
	var pair [2]string
	for i, name := range []string{"cert", "key"} {
		if text, ok := doc.Get("http", "tls", name); ok {
			if err := json.Unmarshal([]byte(text), &pair[i]); err != nil {
				return p.fail(schema.Key{}, p.paths.config, fmt.Errorf("http.tls.%s: %w", name, err), "mend the file")
			}
		}
	}
	if pair[0] == "" || pair[1] == "" {
		return nil
	}
	if err := providers.Pair(p.paths.data, pair[0], pair[1]); err != nil {
		return p.fail(schema.Key{}, "", err, "")
	}
	return nil
}

// faced reads the face of a launch.
func (p *Provider) faced(face string) (schema.Values, error) {
	var front schema.Values
	if face == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(face), &front); err != nil {
		return nil, fmt.Errorf("%s: starting it: %w", p.registry.URL, err)
	}
	return front, nil
}

// lastWritten is the configuration that ocisync wrote last; nil for none.
func (p *Provider) lastWritten() []byte {
	o, err := p.ownFile()
	if err != nil || o.Loaded.Config == "" {
		return nil
	}
	return []byte(o.Loaded.Config)
}

// found makes what must be there before Zot starts, and finishes what was cut. Where the
// configuration is gone it is what is given, or else that of a new registry.
func (p *Provider) found(gone []byte) error {
	fail := func(err error) error { return p.unreadable(err) }
	if err := p.private(); err != nil {
		return fail(err)
	}
	for _, dir := range []string{p.paths.data, filepath.Dir(p.paths.own), p.storage()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fail(err)
		}
	}
	for _, name := range []string{p.paths.htpasswd, p.paths.config} {
		if _, err := files.Finish(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail(err)
		}
	}
	if _, err := os.Lstat(p.paths.htpasswd); errors.Is(err, fs.ErrNotExist) {
		if err := p.enter(); err != nil {
			return fail(err)
		}
	}
	if _, err := os.Lstat(p.paths.config); errors.Is(err, fs.ErrNotExist) {
		if gone == nil {
			gone = p.first()
		}
		if err := files.Create(p.paths.config, gone); err != nil {
			return fail(err)
		}
	}
	if _, err := files.Read(p.paths.htpasswd); err != nil { // a pipe there, and Zot would hang
		return fail(err)
	}
	return nil
}

// face makes the configuration say where Zot listens.
func (p *Provider) face(front schema.Values) error {
	text, err := files.Read(p.paths.config)
	if err != nil {
		return p.unreadable(err)
	}
	next, err := p.with(text, front)
	if err != nil {
		return err
	}
	if err := files.Write(p.paths.config, text, next); err != nil {
		return p.unreadable(err)
	}
	return nil
}

// with is a configuration that says where Zot listens, finds its files where they are,
// and its accounts where it has rules for some: it would not start.
func (p *Provider) with(text []byte, front schema.Values) ([]byte, error) {
	doc, err := config.Parse(p.paths.config, text)
	if err != nil {
		return nil, p.misread(err)
	}
	if err := p.moved(doc); err != nil {
		return nil, p.fail(schema.Key{}, "", err, "")
	}
	for _, v := range front {
		path := schema.SplitPath(v.Path)
		if have, _ := doc.Get(path...); strings.Trim(have, `"`) != strings.Trim(v.JSON, `"`) {
			if err := doc.Set([]byte(v.JSON), path...); err != nil {
				return nil, p.fail(schema.Key{}, "", err, "")
			}
		}
	}
	if _, conf, err := read(p.paths.config, doc.Bytes()); err == nil && conf.lostLogins() {
		if err := doc.Set(encoded(p.paths.htpasswd), "http", "auth", "htpasswd", "path"); err != nil {
			return nil, p.fail(schema.Key{}, "", err, "")
		}
	}
	return doc.Bytes(), nil
}

// moved has a configuration name the files of this data directory that was made in
// another one, which was moved or copied: all that it names below that is here.
func (p *Provider) moved(doc *config.Document) error {
	o, err := p.ownFile()
	if err != nil || o.Data == "" || o.Data == p.paths.data {
		return err
	}
	var walk func(at []string) error
	walk = func(at []string) error {
		for _, key := range doc.Keys(at...) {
			at := append(at[:len(at):len(at)], key)
			text, _ := doc.Get(at...)
			if strings.HasPrefix(text, "{") {
				if err := walk(at); err != nil {
					return err
				}
			}
			name := ""
			if json.Unmarshal([]byte(text), &name) != nil || !filepath.IsAbs(name) {
				continue
			}
			if rest, in := strings.CutPrefix(filepath.Clean(name), filepath.Clean(o.Data)+"/"); in {
				if err := doc.Set(encoded(filepath.Join(p.paths.data, rest)), at...); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return walk(nil)
}

func pathAt(doc *config.Document, at ...string) (name string, ok bool) {
	text, ok := doc.Get(at...)
	return name, ok && json.Unmarshal([]byte(text), &name) == nil
}

// settle notes where the data directory is, once its configuration says so.
func (p *Provider) settle() error {
	o, err := p.ownFile()
	if err == nil && o.Data != p.paths.data {
		o.Data = p.paths.data
		err = o.save(p.paths.own)
	}
	if err != nil {
		return p.unreadable(err)
	}
	return nil
}

// enter makes the accounts of a new registry: ocisync's own, which reaches the
// namespace ocisync alone.
func (p *Provider) enter() error {
	o, err := p.ownFile()
	if err != nil {
		return err
	}
	if o.Self == "" {
		o.Self = rand.Text() + rand.Text()
		if err := o.save(p.paths.own); err != nil {
			return err
		}
	}
	hash, err := p.hash(o.Self)
	if err != nil {
		return err
	}
	var f htpasswd.File
	if err := f.Set(selfLogin, hash); err != nil {
		return err
	}
	return files.Create(p.paths.htpasswd, f.Bytes())
}

// mendOwn has ocisync's own account and its namespace as it made them, where somebody
// changed them: an inventory may lie there, which an apply reads before it puts anything
// right. Where all rules are gone it stays as shut as they left a Zot that runs, until an
// apply writes them anew.
func (p *Provider) mendOwn(s *site) error {
	gone := s.conf.HTTP.AccessControl == nil
	if !gone && !s.conf.authenticated() || s.doc == nil || s.objects().ownAsMade() {
		return nil
	}
	doc, err := config.Parse(p.paths.config, s.text)
	if err != nil {
		return p.misread(err)
	}
	set := func(v rawJSON, at ...string) { err = errors.Join(err, doc.Set(v, at...)) }
	if gone {
		set(groupJSON(policyGroup{}, policyGroup{}), "http", "accessControl", "repositories", everything)
	}
	if !s.conf.authenticated() || s.foreign {
		set(encoded(p.paths.htpasswd), "http", "auth", "htpasswd", "path")
	}
	next := texts{}
	if s.own.Self != "" {
		set(ownGroup(), "http", "accessControl", "repositories", ownPattern())
		accounts := htpasswd.Parse(s.accounts)
		hash, e := p.hash(s.own.Self)
		if e == nil {
			e = accounts.Set(selfLogin, hash)
		}
		err, next.accounts = errors.Join(err, e), accounts.Bytes()
	}
	if next.config = doc.Bytes(); err != nil {
		return p.fail(schema.Key{}, "putting ocisync's own account right", err, "")
	}
	if err := p.write(s, next); err != nil {
		return p.unreadable(err)
	}
	return nil
}

// ownGroup is for administrators and ocisync's own account alone.
func ownGroup() json.RawMessage {
	return encoded(policyGroup{
		Policies:      []policy{{Users: []string{selfLogin}, Actions: actAll.names()}},
		DefaultPolicy: []string{}, AnonymousPolicy: []string{},
	})
}

// first is the configuration of a new registry.
func (p *Provider) first() []byte {
	host, port := p.listen()
	type text map[string]json.RawMessage
	outside := policyGroup{DefaultPolicy: []string{}}
	if p.outside == access.Leave {
		outside.DefaultPolicy = actAll.names()
	}
	control := text{"repositories": encoded(text{
		everything:   encoded(map[string][]string{"defaultPolicy": outside.DefaultPolicy}),
		ownPattern(): ownGroup(),
	})}
	http := text{
		"address": encoded(host), "port": encoded(port),
		"auth":          encoded(text{"htpasswd": encoded(text{"path": encoded(p.paths.htpasswd)})}),
		"accessControl": encoded(control),
	}
	if t := p.registry.TLS; t != nil && t.Cert != nil && t.Key != nil {
		http["tls"] = encoded(text{"cert": encoded(*t.Cert), "key": encoded(*t.Key)})
	}
	b, err := json.MarshalIndent(text{
		"distSpecVersion": encoded("1.1.1"),
		"storage":         encoded(text{"rootDirectory": encoded(p.storage())}),
		"http":            encoded(http),
		"log":             encoded(text{"level": encoded("info")}),
	}, "", "  ")
	if err != nil {
		return nil
	}
	return append(b, '\n')
}
