package harbor

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// seen is what the last read found that is asked for again in the same run, until
// something is written: it spares a request per object.
type seen struct {
	accounts map[schema.Key][]account       // nil: robots were not read
	auths    map[schema.Key][]byte          // marks of webhooks' headers; nil: not read
	proven   map[schema.Key]schema.Resource // as this run wrote them, and not read
	barred   map[string]barred              // by the right that it takes to see it
	kept     []schema.Key                   // access beside which the login's own membership stays
	login    string                         // whose that is
	plain    bool                           // a user's, who is no administrator
}

func (p *Provider) remember(s *site, kinds []schema.Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.barred = maps.Clone(s.barred)
	p.seen.kept = slices.SortedFunc(slices.Values(s.kept), schema.Key.Compare)
	p.seen.login, p.seen.plain = s.c.User(), s.c.Plain()
	if slices.Contains(kinds, schema.KindRobot) {
		p.seen.accounts = maps.Clone(s.accounts)
	}
	if slices.Contains(kinds, schema.KindWebhook) {
		p.seen.auths = s.authsOf()
	}
}

// unseen says where the login's own membership stays and, of what the last read could not
// see and nobody declares, which right would show it.
func (p *Provider) unseen() []plan.Note {
	p.mu.Lock()
	defer p.mu.Unlock()
	var notes []plan.Note
	for _, key := range p.seen.kept {
		notes = append(notes, plan.Note{Key: key, Text: staying(p.seen.login)})
	}
	for _, right := range slices.Sorted(maps.Keys(p.seen.barred)) {
		b := p.seen.barred[right]
		to := fmt.Sprintf("have an administrator give the account in registry.login %s there to have it seen", right)
		switch {
		case p.seen.plain && (right == listsRemotes || slices.Contains(b.projects, asAWhole)):
			to = "it takes " + right + "; " + api.NoUsers
		case b.robots != "":
			to = "it takes " + right + "; " + b.robots
		case p.seen.plain:
			to = fmt.Sprintf("have an administrator give the user in registry.login a role there that has %s to have it seen", right)
		}
		notes = append(notes, plan.Note{Text: fmt.Sprintf("what is not declared is not seen of %s: %s; %s", fewOf(slices.Clone(b.projects)), b.said, to)})
	}
	return notes
}

func (p *Provider) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = seen{}
}

func (p *Provider) allSeenAccounts() (map[schema.Key][]account, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.seen.accounts), p.seen.accounts != nil
}

func (p *Provider) seenAccounts(key schema.Key) (list []account, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list, known = p.seen.accounts[key]
	return list, known
}

// wrote reports whether an object is as this run wrote it, with a secret of this
// reference.
func (p *Provider) wrote(key schema.Key, field string, ref schema.SecretRef) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.seen.proven[key]
	return ok && slices.ContainsFunc(schema.Secrets(r.Spec), func(f schema.SecretField) bool { return f.Path == field && reflect.DeepEqual(f.Ref, ref) })
}

func (p *Provider) seenAuth(key schema.Key) (mark []byte, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mark, known = p.seen.auths[key]
	return mark, known
}
