package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/storage"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// A rename gives an object another name and keeps all else: what hangs on it,
// its secrets, and who may do what. What bears names outside of state.json
// moves after it: repositories, their times, and deliveries that wait. Until
// that is done state.json lists the move, so that a crash leaves nothing half
// moved: whoever takes the lock next finishes it before anything else.
//
// It stays listed until whoever asked for it acknowledges it, so that a plan
// knows of it even if that one was killed first, and its file has another name
// by then. Meanwhile nobody else gets the former name.

// move is a rename that is not acknowledged.
type move struct {
	From schema.Key `json:"from"`
	To   schema.Key `json:"to"`
	// Moved says that no content lies under the former name any more.
	Moved bool `json:"moved,omitempty"`
}

// pending lists the moves that content has still to follow.
func (d document) pending() []move {
	return slices.DeleteFunc(slices.Clone(d.Moves), func(m move) bool { return m.Moved })
}

// renamed is a key's name after the move.
func (m move) renamed(name string) string { return m.To.Name + strings.TrimPrefix(name, m.From.Name) }

// rename moves the object, and what hangs on it, in the document alone; did is
// false where that was done before. ErrMissing, ErrConflict, ErrInvalid.
func (c Change) rename(next *document, objects map[schema.Key]schema.Resource) (did bool, err error) {
	m := move{From: *c.From, To: c.Object.Key}
	old, exists := objects[m.From]
	_, taken := objects[m.To]
	switch {
	case m.From.Kind != m.To.Kind || m.From == m.To || m.From.Kind.Single():
		return false, fmt.Errorf("%s: %w: %s cannot become it", m.To, ErrInvalid, m.From)
	case !exists && taken:
		return false, nil
	case !exists:
		return false, fmt.Errorf("%s: %w; plan again", m.From, ErrMissing)
	case taken:
		return false, fmt.Errorf("%s: %w: it exists; choose a name that is free", m.To, ErrConflict)
	case c.IfVersion != "" && c.IfVersion != old.Version:
		return false, fmt.Errorf("%s: %w; plan again", m.From, ErrConflict)
	case c.blocked != nil:
		return false, c.blocked
	}
	if err := next.free(m.To, m.From, objects); err != nil {
		return false, err
	}
	for _, key := range slices.Collect(maps.Keys(objects)) {
		if to := m.key(key); to != key {
			next.rekey(objects, key, to)
		}
	}
	for key, o := range objects {
		o.Spec = m.follow(o.Spec)
		objects[key] = o
	}
	m.Moved = m.From.Kind != schema.KindNamespace && m.From.Kind != schema.KindWebhook
	next.Moves = append(slices.Clone(next.Moves), m)
	return true, nil
}

// free refuses a name that another object than self had before a move that is
// not acknowledged. ErrConflict.
func (d document) free(name, self schema.Key, objects map[schema.Key]schema.Resource) error {
	for i, m := range d.Moves {
		now := d.present(i)
		if _, ok := objects[now]; ok && now != self && d.carried(i, m.From) == name {
			return fmt.Errorf("%s: %w: it became %s in a rename that was cut short; plan again", name, ErrConflict, now)
		}
	}
	return nil
}

// present is what the object of the i-th move is called now.
func (d document) present(i int) schema.Key { return d.carried(i, d.Moves[i].To) }

// carried is a key after the moves that followed the i-th.
func (d document) carried(i int, key schema.Key) schema.Key {
	for _, m := range d.Moves[i+1:] {
		key = m.key(key)
	}
	return key
}

// acknowledge forgets the moves of objects that are called so now.
func (d document) acknowledge(keys []schema.Key) document {
	var left []move
	for i, m := range d.Moves {
		if !m.Moved || !slices.Contains(keys, d.present(i)) {
			left = append(left, m)
		}
	}
	if len(left) < len(d.Moves) {
		d.Moves = left
		d.Revision++
	}
	return d
}

// dropMoves forgets the moves of objects that are gone.
func (d *document) dropMoves(objects map[schema.Key]schema.Resource) {
	var left []move
	for i, m := range d.Moves {
		if _, ok := objects[d.present(i)]; ok || !m.Moved {
			left = append(left, m)
		}
	}
	d.Moves = left
}

func (d *document) rekey(objects map[schema.Key]schema.Resource, from, to schema.Key) {
	o := objects[from]
	o.Key = to
	delete(objects, from)
	objects[to] = o
	if hash, ok := d.Passwords[from.Name]; ok && from.Kind == schema.KindUser {
		delete(d.Passwords, from.Name)
		d.Passwords[to.Name] = hash
	}
	rekey(d.Secrets, from.String(), to.String())
	rekey(d.Robots, from.String(), to.String())
	rekey(d.Full, from.String(), to.String())
}

func rekey[V any](m map[string]V, from, to string) {
	if v, ok := m[from]; ok {
		delete(m, from)
		m[to] = v
	}
}

// follow returns the specification with the new name in place of the former.
// It keeps the version: who planned a change of it before still may make it.
func (m move) follow(spec schema.Spec) schema.Spec {
	grants := func(g schema.Grants, kind schema.Kind) schema.Grants {
		if _, named := g.Get(m.From.Name); !named || m.From.Kind != kind {
			return g
		}
		list := slices.Clone(g)
		for i := range list {
			if list[i].Name == m.From.Name {
				list[i].Name = m.To.Name
			}
		}
		return schema.NewGrants(list...)
	}
	switch s := spec.(type) {
	case *schema.Access:
		c := *s
		c.Users, c.Groups = grants(s.Users, schema.KindUser), grants(s.Groups, schema.KindGroup)
		return &c
	case *schema.Group:
		if i := slices.Index(s.Users, m.From.Name); i >= 0 && m.From.Kind == schema.KindUser {
			c := *s
			c.Users = schema.NewSet(append(slices.Delete(slices.Clone(s.Users), i, i+1), m.To.Name)...)
			return &c
		}
	case *schema.Robot:
		c := *s
		c.Access = grants(s.Access, schema.KindNamespace)
		return &c
	}
	return spec
}

// beside returns the document with what before had under the former names of
// its moves, too: while content moves, both names are ruled alike.
func (d document) beside(before document) document {
	now := schema.State{Resources: d.Objects}
	both := d
	both.Objects = slices.Clone(d.Objects)
	both.Secrets, both.values, both.Robots = maps.Clone(d.Secrets), maps.Clone(d.values), maps.Clone(d.Robots)
	for _, o := range before.Objects {
		ns, child := o.Key.Namespace()
		moved := slices.ContainsFunc(d.pending(), func(m move) bool { return m.From == o.Key || child && m.From == ns })
		if _, there := now.Get(o.Key); there || !moved {
			continue
		}
		both.Objects = append(both.Objects, o)
		if id, ok := before.Secrets[o.Key.String()]; ok {
			both.Secrets[o.Key.String()], both.values[id] = id, before.values[id]
		}
	}
	slices.SortFunc(both.Objects, func(a, b schema.Resource) int { return a.Key.Compare(b.Key) })
	return both
}

// key is the key of what is moved, or hangs on it, after the move.
func (m move) key(k schema.Key) schema.Key {
	if ns, child := k.Namespace(); k == m.From || child && ns == m.From {
		k.Name = m.renamed(k.Name)
	}
	return k
}

// contents is what bears names of objects and lies outside of state.json.
type contents struct {
	storage *storage.Storage // nil where another program serves content
	gate    *gate
	times   *times
	queue   *webhook.Queue
	close   func(context.Context) error
}

// contents opens them; the caller holds the directory's lock.
func (d *Directory) contents(ctx context.Context) (*contents, error) {
	if !d.accounts {
		if err := d.own(ctx); err != nil {
			return nil, err
		}
	}
	s, err := d.content(ctx)
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	q, err := openQueue(d.data, logger)
	if err != nil {
		return nil, err
	}
	t := newTimes(d.data, logger)
	return &contents{
		storage: s, gate: newGate(), times: t, queue: q,
		close: func(ctx context.Context) error {
			if s == nil {
				return nil
			}
			return t.flush(ctx, s)
		},
	}, loadTimes(t)
}

// repositories lists those that a namespace's move takes along.
func (m move) repositories(ctx context.Context, s *storage.Storage, rules *access.Rules) ([]string, error) {
	all, err := s.Repositories(ctx, m.From.Name)
	if err != nil {
		return nil, fmt.Errorf("listing the repositories of %s: %w", m.From, err)
	}
	return slices.DeleteFunc(all, func(r string) bool { return !rules.Holds(m.From.Name, r) }), nil
}

// settled lists the repositories below a name as they are once all moves are
// over.
func settled(ctx context.Context, s *storage.Storage, at *snapshot, below string) ([]string, error) {
	list, err := s.Repositories(ctx, below)
	if err != nil {
		return nil, fmt.Errorf("listing the repositories of namespace/%s: %w", below, err)
	}
	for _, m := range at.doc.pending() {
		if m.From.Kind != schema.KindNamespace {
			continue
		}
		list = slices.DeleteFunc(list, func(r string) bool { return at.rules.Holds(m.From.Name, r) })
		more, err := m.repositories(ctx, s, at.rules)
		if err != nil {
			return nil, err
		}
		for _, r := range more {
			if r = m.renamed(r); access.In(below, r) && !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
	}
	return list, nil
}

// check says why the content of a namespace cannot move, nil where it can.
func (m move) check(ctx context.Context, s *storage.Storage, at *snapshot) error {
	if m.From.Kind != schema.KindNamespace || m.To.Kind != schema.KindNamespace {
		return nil
	}
	if s == nil {
		return fmt.Errorf("%s: %w: a namespace keeps its name, because another program serves its repositories; make a new one, and copy them", m.To, ErrInvalid)
	}
	if access.In(m.From.Name, m.To.Name) || access.In(m.To.Name, m.From.Name) {
		return fmt.Errorf("%s: %w: a namespace cannot move into itself, nor to where it lies in; choose a name beside it", m.To, ErrInvalid)
	}
	list, err := settled(ctx, s, at, m.From.Name)
	if err != nil {
		return err
	}
	there, err := settled(ctx, s, at, m.To.Name)
	if err != nil {
		return err
	}
	var problems []error
	for _, from := range list {
		if !at.rules.Holds(m.From.Name, from) {
			continue
		}
		to := m.renamed(from)
		if _, err := reference.WithName(to); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w: repository %s cannot become %s: %w", m.To, ErrInvalid, from, to, err))
		}
		holds := slices.Contains(there, to)
		if holds && len(at.doc.pending()) == 0 {
			if holds, err = s.Holds(ctx, to); err != nil {
				return fmt.Errorf("looking at repository %s: %w", to, err)
			}
		}
		if holds {
			problems = append(problems, fmt.Errorf("%s: %w: repository %s cannot become %s, which exists; delete one of the two", m.To, ErrConflict, from, to))
		}
		if ns := at.rules.Namespace(to); len(ns) > len(m.To.Name) {
			problems = append(problems, fmt.Errorf("%s: %w: repository %s would become %s and fall to namespace %s; rename that first", m.To, ErrConflict, from, to, ns))
		}
	}
	return errors.Join(problems...)
}

// settle finishes moves. Run again, it does what is left. The caller keeps
// writers out.
func (c *contents) settle(ctx context.Context, doc document, rules *access.Rules) error {
	for _, m := range doc.pending() {
		if m.From.Kind == schema.KindWebhook {
			if err := c.queue.Rename(m.From.Name, m.To.Name); err != nil {
				return fmt.Errorf("%s: moving its deliveries: %w", m.To, err)
			}
			continue
		}
		list, err := m.repositories(ctx, c.storage, rules)
		if err != nil {
			return err
		}
		for _, from := range list {
			to := m.renamed(from)
			if err := c.storage.Move(ctx, from, to); err != nil {
				return fmt.Errorf("%s: moving repository %s to %s: %w", m.To, from, to, err)
			}
			c.gate.note(from)
			c.gate.note(to)
		}
		c.times.moved(m.From.Name, func(r string) (string, bool) { return m.renamed(r), rules.Holds(m.From.Name, r) })
		for _, o := range doc.Objects {
			if ns, ok := o.Key.Namespace(); ok && ns == m.To && o.Key.Kind == schema.KindWebhook {
				if err := c.queue.Rename(move{From: m.To, To: m.From}.renamed(o.Key.Name), o.Key.Name); err != nil {
					return fmt.Errorf("%s: moving its deliveries: %w", o.Key, err)
				}
			}
		}
	}
	return nil
}

// moved gives what is known of repositories below a name to their new names.
func (t *times) moved(below string, to func(repository string) (string, bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, from := range slices.Collect(maps.Keys(t.repos)) {
		name, ok := to(from)
		if !ok || !access.In(below, from) {
			continue
		}
		if last := t.newest[from]; last.After(t.newest[name]) {
			t.newest[name] = last
		}
		for reference, s := range maps.Clone(t.repos[from]) {
			t.drop(from, reference)
			*t.stamp(name, reference) = *s
			t.dirty[stampKey{name, reference}] = true
		}
	}
}

// renamable says why an object cannot be renamed, nil where it can. It changes
// nothing.
func renamable(ctx context.Context, s *storage.Storage, now *snapshot, from, to schema.Key) error {
	m := move{From: from, To: to}
	objects := make(map[schema.Key]schema.Resource, len(now.doc.Objects))
	for _, o := range now.doc.Objects {
		objects[o.Key] = o
	}
	scratch := document{Passwords: map[string]string{}, Moves: now.doc.Moves}
	c := Change{Object: schema.Resource{Key: to}, From: &from, blocked: m.check(ctx, s, now)}
	_, err := c.rename(&scratch, objects)
	return err
}

func (r *Registry) serveRename(w http.ResponseWriter, q *http.Request) {
	from, err := schema.ParseKey(q.URL.Query().Get("from"))
	to, err2 := schema.ParseKey(q.URL.Query().Get("to"))
	if err := errors.Join(err, err2); err != nil {
		ociError(w, http.StatusBadRequest, "INVALID", err.Error())
		return
	}
	steady := r.gate.steady()
	err = renamable(q.Context(), r.storage, r.store.now(), from, to)
	steady()
	writeJSON(w, http.StatusOK, Result{Key: to, Err: err}.wire())
}

// Renamable says why an object cannot be renamed, nil where it can.
func (c *Client) Renamable(ctx context.Context, from, to schema.Key) error {
	var answer wireResult
	if err := call(ctx, c, http.MethodGet, "rename", url.Values{"from": {from.String()}, "to": {to.String()}}, struct{}{}, &answer); err != nil {
		return err
	}
	return answer.result().Err
}

func (r *Registry) serveAcknowledge(w http.ResponseWriter, q *http.Request) {
	var request acknowledgement
	if !readJSON(w, q, maxChangeBytes, &request) {
		return
	}
	if err := r.store.acknowledge(request.Keys); err != nil {
		r.logger.Error("acknowledging renames failed", "error", err)
		ociError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

type acknowledgement struct {
	Keys []schema.Key `json:"keys"`
}

// Acknowledge says that the renames of objects, which are called so now, are
// written down where they were asked for.
func (c *Client) Acknowledge(ctx context.Context, keys []schema.Key) error {
	return call(ctx, c, http.MethodPost, "acknowledge", nil, acknowledgement{keys}, &struct{}{})
}

// Acknowledge says that the renames of objects, which are called so now, are
// written down where they were asked for.
func (d *Directory) Acknowledge(ctx context.Context, keys []schema.Key) (err error) {
	release, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	s, err := openStore(d.data, "")
	if err != nil {
		return err
	}
	return s.acknowledge(keys)
}

// Renamable says why an object cannot be renamed, nil where it can.
func (d *Directory) Renamable(ctx context.Context, from, to schema.Key) error {
	doc, err := loadDocument(d.data)
	if err != nil {
		return err
	}
	s, err := d.content(ctx)
	if err != nil {
		return err
	}
	return renamable(ctx, s, compile(doc, "", nil), from, to)
}
