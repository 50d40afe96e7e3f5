package distribution

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/token"
	"github.com/ocisync/ocisync/schema"
)

// Launch implements [providers.Launcher].
func (p *Provider) Launch(context.Context) (providers.Launch, error) {
	if p.registry.Run == nil {
		return providers.Launch{}, fmt.Errorf("%s: somebody else runs this registry: the mode has no registry.run", p.registry.URL)
	}
	_, text, err := net.SplitHostPort(p.address())
	if err != nil {
		return providers.Launch{}, fmt.Errorf("%s: registry.run.listen: %w", p.registry.URL, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return providers.Launch{}, fmt.Errorf("%s: registry.run.listen: %w", p.registry.URL, err)
	}
	face, err := json.Marshal(p.front())
	if err != nil {
		return providers.Launch{}, err
	}
	l := providers.Launch{
		Args: []string{"serve", p.place.Config},
		// without this it sends traces to port 4318 of its host, and complains
		Env:    []string{"OTEL_TRACES_EXPORTER=none"},
		Mounts: []providers.Mount{{Path: p.place.Data, Writable: true}, {Path: filepath.Dir(p.former())}},
		Port:   port, Grace: drain + 10*time.Second, Face: string(face),
	}
	if t := p.registry.TLS; t != nil && t.Cert != nil && t.Key != nil {
		l.Mounts = append(l.Mounts, providers.Mount{Path: absolute(*t.Cert)}, providers.Mount{Path: absolute(*t.Key)})
	}
	return l, nil
}

// BeforeStart implements [providers.Launcher]. A configuration that is there is
// made to say where the registry listens, where whoever starts it waits for it.
func (p *Provider) BeforeStart(ctx context.Context, face string) error {
	if err := p.lead(ctx, face); err != nil {
		return err
	}
	p.remember()
	return nil
}

func (p *Provider) lead(ctx context.Context, face string) error {
	if err := p.provide(); err != nil {
		return err
	}
	if err := p.project(ctx); err != nil {
		return err
	}
	now, err := p.file()
	if errors.Is(err, fs.ErrNotExist) {
		var last []byte
		switch last, err = p.lastKnown(ctx); {
		case err != nil:
			return err
		case last == nil:
			return p.first(ctx)
		}
		if err := replaceConfig(p.place.Config, last); err != nil {
			return p.configError("writing settings", err)
		}
		now, err = p.file()
	}
	if err == nil && now.doc.get("storage") == nil {
		return p.configError("starting the registry", errors.New("it names no storage"))
	}
	if err != nil {
		return err
	}
	if err := p.mend(); err != nil {
		return err
	}
	if now, err = p.file(); err != nil {
		return err
	}
	changed, err := p.face(now.doc, face)
	if err != nil {
		return err
	}
	wrong, err := p.unlocked(now.doc)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		p.logger.Warn("somebody changed in config.yml how clients log in, with which the registry may be open to everybody: it is started with that put back, and ocisync apply puts the rest right", "registry", p.registry.URL, "file", p.place.Config)
		if err := p.lay(ctx, now.doc, p.owned(nil), func(path string) bool { return slices.Contains(wrong, path) }); err != nil {
			return err
		}
	}
	moved, err := p.follow(ctx, now.doc)
	if err != nil || !changed && !moved && len(wrong) == 0 {
		return err
	}
	b, err := now.doc.bytes()
	if err == nil {
		err = replaceConfig(p.place.Config, b)
	}
	if err != nil {
		return p.configError("writing settings", err)
	}
	return nil
}

// face makes a configuration say where the registry listens, and reports whether
// it said otherwise.
func (p *Provider) face(doc *document, face string) (changed bool, err error) {
	if face == "" {
		return false, nil
	}
	var front schema.Values
	if err := json.Unmarshal([]byte(face), &front); err != nil {
		return false, p.configError("starting the registry", err)
	}
	have, _, err := doc.leaves()
	if err != nil {
		return false, p.configError("starting the registry", err)
	}
	front = append(p.moved(have), front...)
	for _, v := range front {
		if slices.Contains(have, v) {
			continue
		}
		if err := doc.set(v.Path, v.JSON); err != nil {
			return false, p.configError("starting the registry", err)
		}
		changed = true
	}
	return changed, nil
}

// moved are the paths below another directory in which this data directory was, before
// it was moved or copied, as they are here: its keys have the same name in both. Of a
// copy, clients are not sent to who gives the original's tokens either.
func (p *Provider) moved(have schema.Values) (out schema.Values) {
	keys := textOf(have, "auth.token.jwks")
	former := filepath.Dir(keys)
	if filepath.Base(keys) != filepath.Base(p.place.JWKS()) || !filepath.IsAbs(former) || former == p.place.Data {
		return nil
	}
	if p.issues() {
		out = append(out, schema.Value{Path: "auth.token.realm", JSON: quoted(p.place.Realm())}, schema.Value{Path: "auth.token.service", JSON: quoted(p.place.Name)})
	}
	for _, v := range have {
		name := textOf(have, v.Path)
		rest, in := strings.CutPrefix(filepath.Clean(name), former+"/")
		if !in || !filepath.IsAbs(name) {
			continue
		}
		if b, err := json.Marshal(filepath.Join(p.place.Data, rest)); err == nil {
			out = append(out, schema.Value{Path: v.Path, JSON: string(b)})
		}
	}
	return out
}

// textOf is a value that is a text, else "".
func textOf(list schema.Values, path string) (text string) {
	i := slices.IndexFunc(list, func(v schema.Value) bool { return v.Path == path })
	if i < 0 || json.Unmarshal([]byte(list[i].JSON), &text) != nil {
		return ""
	}
	return text
}

// Precheck implements [providers.Prechecker].
func (p *Provider) Precheck(ctx context.Context, face string) error {
	if p.registry.Run == nil {
		return nil
	}
	now, err := p.file()
	if errors.Is(err, fs.ErrNotExist) {
		now, err = p.instead(ctx)
	}
	if err == nil {
		_, err = p.face(now.doc, face)
	}
	if err != nil {
		return err
	}
	if err := p.startable(now.doc); err != nil {
		return err
	}
	if err := p.upstream(ctx, now.doc); err != nil {
		return err
	}
	since, running, err := p.running(ctx)
	if err != nil || !running || bytes.Equal(now.bytes, p.startedWith(since, now.bytes)) {
		return err // it starts with what it ignores, and ignores it already
	}
	return p.correct(now.doc.strict())
}

// instead is what the registry is started with where its config.yml is gone, which is
// said, or where it is new.
func (p *Provider) instead(ctx context.Context) (now config, err error) {
	if now.bytes, err = p.lastKnown(ctx); err != nil {
		return now, err
	}
	if now.doc, err = parseDocument(now.bytes); err != nil {
		return now, p.configError("reading settings", err)
	}
	if now.bytes == nil {
		return now, p.lay(ctx, now.doc, p.owned(nil), func(string) bool { return true })
	}
	p.logger.Warn("its config.yml is gone: it is started with what it was started with last, or ocisync wrote there since; what somebody else wrote since is to be had from a backup", "registry", p.registry.URL, "file", p.place.Config)
	return now, nil
}

// upstream refuses to start a cache whose upstream does not answer: Distribution ends
// then, and one that runs serves what it has. From a container other hosts may be
// reached than from here.
func (p *Provider) upstream(ctx context.Context, doc *document) error {
	n := doc.get("proxy.remoteurl")
	if n == nil || n.Value == "" || p.registry.Driver() != schema.DriverProcess {
		return nil
	}
	at, err := url.Parse(n.Value)
	if err != nil {
		return nil // said by the check of the file
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.JoinPath("/v2/").String(), http.NoBody)
	if err != nil {
		return nil // said by the check of the file
	}
	rt := &http.Transport{Proxy: http.ProxyFromEnvironment} // as Distribution asks
	defer rt.CloseIdleConnections()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return p.configError("starting the registry", fmt.Errorf("proxy.remoteurl: %s does not answer, and Distribution does not start without it: %w", at.Redacted(), err))
	}
	resp.Body.Close()
	return nil
}

// patient is how long an upstream may take to answer.
const patient = 15 * time.Second

// correct refuses to start the registry with what is wrong.
func (p *Provider) correct(problems []problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &providers.Error{
		Registry: p.registry.URL, Key: settingsKey(), Doing: "starting the registry", Err: errors.New(strings.Join(p.lines(problems), "; ")),
		Remedy: "correct the file: one that runs goes on with what it has read",
	}
}

// startable tells why the registry would not start with a configuration, or let
// nobody in, as far as that can be seen from outside.
func (p *Provider) startable(doc *document) error {
	if err := p.correct(slices.DeleteFunc(doc.strict(), func(x problem) bool { return x.ignored })); err != nil {
		return err
	}
	if p.place.Service != nil && p.place.Data != "" {
		if err := token.CheckKeys(p.place.Keys()); err != nil {
			return &providers.Error{Registry: p.registry.URL, Err: err}
		}
	}
	if p.byFile() {
		if err := p.people.startable(); err != nil {
			return err
		}
	}
	text := func(path string) string {
		if n := doc.get(path); n != nil {
			return n.Value
		}
		return ""
	}
	if cert := text("http.tls.certificate"); cert != "" {
		if err := providers.Pair(p.place.Data, cert, text("http.tls.key")); err != nil {
			return &providers.Error{Registry: p.registry.URL, Doing: "starting the registry", Err: err}
		}
	}
	return nil
}

// first writes a configuration for a registry that was never told anything:
// what ocisync sets itself, so that nobody gets in before the mode is applied.
func (p *Provider) first(ctx context.Context) error {
	doc, err := parseDocument(nil)
	if err != nil {
		return err
	}
	if err := p.lay(ctx, doc, p.owned(nil), func(string) bool { return true }); err != nil {
		return err
	}
	b, err := doc.bytes()
	if err == nil {
		err = replaceConfig(p.place.Config, b)
	}
	if err != nil {
		return p.configError("writing settings", err)
	}
	return nil
}

// TokenService opens the registry's token service, which the caller serves
// beside the registry and closes. Of the options, version, command, limits,
// outside, renew, anew and drain are the caller's; the rest is said here.
func (p *Provider) TokenService(ctx context.Context, o registry.Options) (*registry.Registry, error) {
	if p.byFile() {
		return nil, &providers.Error{
			Registry: p.registry.URL, Err: fmt.Errorf("its accounts are those of %s: %w", p.place.Htpasswd, providers.ErrUnsupported),
			Remedy: "take registry.files.htpasswd out, and it gets tokens from ocisync",
		}
	}
	if p.place.Service == nil || p.place.Data == "" {
		return nil, &providers.Error{
			Registry: p.registry.URL, Err: fmt.Errorf("its token service is not ocisync's here: %w", providers.ErrUnsupported),
			Remedy: "name its address in registry.token.url, and its data in registry.run or registry.files",
		}
	}
	if err := p.provide(); err != nil {
		return nil, err
	}
	keys, err := p.keys()
	if err != nil {
		return nil, &providers.Error{Registry: p.registry.URL, Err: err}
	}
	give := p.Giving()
	o.Data, o.Listen, o.URL, o.TLSCert, o.TLSKey = p.place.Data, give.Listen, give.URL, give.Cert, give.Key
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Tokens = &registry.Tokens{
		Keys: keys, Service: give.Service, Known: p.known, Every: p.place.Rotate, Job: p.scheduled, URL: give.Registry, Tend: p.tend,
	}
	if p.inboxed() {
		o.Tokens.Inbox = p.inboxFile()
	}
	r, err := registry.Open(ctx, o)
	if err == nil { // nobody else rotates now
		if err := keys.Sweep(); err != nil {
			p.logger.Warn("a copy of private keys that was left could not be removed", "error", err)
		}
	}
	return r, err
}

// known asks the registry whether it takes a token that allows nothing.
func (p *Provider) known(ctx context.Context, text string) (bool, error) {
	rt, err := p.connection()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.registry.URL+"/v2/", nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+text)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return false, fmt.Errorf("%w: %w", providers.ErrUnreachable, err)
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusUnauthorized:
		return false, nil
	}
	return false, fmt.Errorf("%w: GET /v2/ answers %d", providers.ErrNotRegistry, resp.StatusCode)
}

// startIt is what starts the registry.
func (p *Provider) startIt() string {
	if p.registry.Run == nil {
		return "have it started, by whoever runs it"
	}
	return "start it with `ocisync up`"
}

// giveTokens is what starts its token service. One that somebody else runs `ocisync up`
// does not.
func (p *Provider) giveTokens() string {
	if p.registry.Run == nil {
		return "start it with `ocisync auth serve`"
	}
	return "start it with `ocisync up` or `ocisync auth serve`"
}

// Rotate signs tokens with the next key from now on: in the process that serves
// the token service, or here while none does.
func (p *Provider) Rotate(ctx context.Context) error {
	fail := func(err error) error {
		return &providers.Error{Registry: p.registry.URL, Doing: "rotating the keys of its token service", Err: err}
	}
	if p.place.Service == nil || p.place.Data == "" {
		return fail(fmt.Errorf("it has none here: %w", providers.ErrUnsupported))
	}
	c, err := registry.Dial(ctx, p.place.Data)
	if errors.Is(err, registry.ErrNotServed) {
		return fail(fmt.Errorf("%w; %s", err, p.giveTokens()))
	}
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	if err := c.Rotate(ctx); err != nil {
		return fail(err)
	}
	return nil
}
