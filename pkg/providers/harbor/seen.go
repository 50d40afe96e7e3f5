package harbor

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
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
	unshown  []string                       // projects of something owned that are there and not listed
	refused  map[schema.Kind]error          // of kinds that nobody declares
	login    string                         // whose that is
	plain    bool                           // a user's, who is no administrator
	robot    bool
}

func (p *Provider) remember(s *site, kinds []schema.Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.barred = maps.Clone(s.barred)
	p.seen.kept = slices.SortedFunc(slices.Values(s.kept), schema.Key.Compare)
	p.seen.unshown = slices.Sorted(slices.Values(s.unshown))
	p.seen.refused = maps.Clone(s.refused)
	p.seen.login, p.seen.plain, p.seen.robot = s.c.User(), s.c.Plain(), s.c.Robot()
	if slices.Contains(kinds, schema.KindRobot) {
		p.seen.accounts = maps.Clone(s.accounts)
	}
	if slices.Contains(kinds, schema.KindWebhook) {
		p.seen.auths = s.authsOf()
	}
}

// unseen says where the login's own membership stays, which projects of something owned
// it does not see and, of what else the last read could not see and nobody declares,
// which rights would show it.
func (p *Provider) unseen() []plan.Note {
	p.mu.Lock()
	defer p.mu.Unlock()
	var notes []plan.Note
	for _, key := range p.seen.kept {
		notes = append(notes, plan.Note{Key: key, Text: staying(p.seen.login)})
	}
	for _, name := range p.seen.unshown {
		notes = append(notes, plan.Note{Key: below(schema.KindNamespace, name), Text: fmt.Sprintf(
			"%s: what ocisync owns in it is left alone, and stays its own; %s", unlisted(p.seen.login), shower(p.seen.robot, name, ""))})
	}
	for _, k := range slices.Sorted(maps.Keys(p.seen.refused)) {
		err, remedy := p.seen.refused[k], ""
		if said := (*providers.Error)(nil); errors.As(err, &said) && said.Remedy != "" {
			remedy = "; " + said.Remedy
		}
		notes = append(notes, plan.Note{Key: schema.Key{Kind: k}, Text: "none is declared, and what there is of them is not seen, so left alone: " + cmp.Or(api.Said(err), err.Error()) + remedy})
	}
	for _, b := range p.barred() {
		right := strings.Join(b.rights, ", ")
		to := fmt.Sprintf("have an administrator give the account in registry.login %s there to have it seen", right)
		switch {
		case b.never:
			to = "it takes " + right + "; " + api.NoUsers
		case b.robots != "":
			to = "it takes " + right + "; " + b.robots
		case p.seen.plain:
			to = fmt.Sprintf("have an administrator give the user in registry.login a role there that has %s to have it seen", right)
		}
		notes = append(notes, plan.Note{Text: fmt.Sprintf("what is not declared is not seen of %s: %s; %s", fewOf(b.projects), b.said, to)})
	}
	return notes
}

// bars are projects, or the registry as a whole, of which not all lists may be seen, and
// the rights that would show all.
type bars struct {
	projects, rights []string
	said             string
	whole            bool
	never            bool   // Harbor gives no user such rights
	robots           string // what to do where it gives no robot such rights
}

// barred are those of the last read, with one word of Harbor's in one place.
func (p *Provider) barred() []bars {
	var out []bars
	for _, right := range slices.Sorted(maps.Keys(p.seen.barred)) {
		b := p.seen.barred[right]
		for _, name := range slices.Sorted(slices.Values(b.projects)) {
			whole := name == asAWhole
			one := bars{said: b.said, whole: whole, never: p.seen.plain && (whole || right == listsRemotes), robots: b.robots}
			i := slices.IndexFunc(out, func(o bars) bool {
				return o.said == one.said && o.whole == one.whole && o.never == one.never && o.robots == one.robots
			})
			if i < 0 {
				i, out = len(out), append(out, one)
			}
			if !slices.Contains(out[i].projects, name) {
				out[i].projects = append(out[i].projects, name)
			}
			if !slices.Contains(out[i].rights, right) {
				out[i].rights = append(out[i].rights, right)
			}
		}
	}
	return out
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
