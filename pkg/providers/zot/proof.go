package zot

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
)

// maxProbes bounds how many rules are proved after an apply.
const maxProbes = 64

// probe is a rule and who is asked for.
type probe struct {
	namespace      string
	user, password string // "" for anybody
	action         actions
	allowed        bool
}

func (b probe) String() string {
	who := "anonymous clients"
	if b.user != "" {
		who = "user " + b.user
	}
	what := map[actions]string{actRead: "pull from", actCreate: "push to", actDelete: "delete from"}[b.action]
	if b.allowed {
		return fmt.Sprintf("it does not let %s %s %s, as the rule says", who, what, b.namespace)
	}
	return fmt.Sprintf("it lets %s %s %s, against the rule", who, what, b.namespace)
}

// ask reports whether the registry answers as the rule says; known is false
// where its answer tells nothing.
func (b probe) ask(ctx context.Context, client *http.Client, base string) (right, known bool) {
	asked := map[actions]schema.Rights{actRead: schema.Pull, actCreate: schema.Push, actDelete: schema.Delete}[b.action]
	a, err := oci.Probe{Namespace: b.namespace, User: b.user, Password: b.password, Right: asked}.Ask(ctx, client, base)
	return a.Allowed == b.allowed, err == nil && a.Known
}

// subjects are the accounts whose passwords are at hand, by name.
type subjects map[string]string

// probes lists one per distinct rule of the namespaces: anybody, and each
// account at hand; left counts those beyond maxProbes.
func (w *writer) probes(known subjects) (list []probe, left int) {
	groups := map[string][]string{} // by member
	for k, r := range w.all {
		if g, ok := r.Spec.(*schema.Group); ok {
			for _, u := range g.Users {
				groups[u] = append(groups[u], k.Name)
			}
		}
	}
	users := sortedKeys(known)
	for _, ns := range sortedKeys(w.patterns) {
		spec, ok := w.spec(schema.KindAccess, ns).(*schema.Access)
		if !ok {
			continue
		}
		if len(list) >= maxProbes {
			left += 3 * (1 + len(users))
			continue
		}
		im, _ := w.spec(schema.KindImmutable, ns).(*schema.Immutable)
		immutable := im != nil && len(im.Rules) > 0
		g := wanted(spec, immutable, robotGrants(w.robotsNow(), ns, immutable))
		if _, is := w.full[ns]; is {
			g.withoutPush()
		}
		each := func(user, password string, may actions) {
			for _, a := range []actions{actRead, actCreate, actDelete} {
				list = append(list, probe{ns, user, password, a, may&a != 0})
			}
		}
		each("", "", g.anonymous)
		for _, user := range users {
			if may, ok := w.may(g, user, groups[user]); ok {
				each(user, known[user], may)
			}
		}
	}
	if len(list) > maxProbes {
		left += len(list) - maxProbes
		list = list[:maxProbes]
	}
	return list, left
}

// may is what an account has by the rules; ok is false where conditions decide
// besides.
func (w *writer) may(g grants, user string, groups []string) (actions, bool) {
	if u, ok := w.spec(schema.KindUser, user).(*schema.User); ok && u.Admin != nil && *u.Admin {
		return actAll, true
	}
	may, more := g.authenticated, g.users[user]
	for _, name := range groups {
		more |= g.groups[name]
	}
	return may | more, more&^may == 0 || len(g.conditions) == 0
}

// prove asks for at most maxProbes of the rules, and returns what is wrong by
// namespace.
func (w *writer) prove(ctx context.Context, known subjects) map[string]error {
	if w.p.permit != nil && w.p.permit(w.p.registry.URL) != nil {
		known = nil // their passwords may not go there
	}
	list, left := w.probes(known)
	if len(list) == 0 {
		return nil
	}
	if left > 0 {
		w.p.logger.Warn("not every rule was proved from outside; ocisync test access proves all", "registry", w.p.registry.URL, "proved", len(list), "left", left)
	}
	client, rt, err := w.p.client()
	if err != nil {
		w.p.logger.Warn("no rule was proved from outside", "registry", w.p.registry.URL, "error", err)
		return nil
	}
	defer rt.CloseIdleConnections()
	base := strings.TrimSuffix(w.p.url.Scheme+"://"+w.p.url.Host, "/")
	var mu sync.Mutex
	wrong := map[string]error{}
	silent := 0
	var work errgroup.Group
	work.SetLimit(8)
	for _, b := range list {
		work.Go(func() error {
			right, known := b.ask(ctx, client, base)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case !known:
				silent++
			case !right && wrong[b.namespace] == nil:
				wrong[b.namespace] = fmt.Errorf("%w: written, and Zot says that it is loaded, but %s; restart Zot, and look for a pattern that is longer than %q", providers.ErrConflict, b, pattern(b.namespace))
			}
			return nil
		})
	}
	work.Wait() //nolint:errcheck // none returns an error
	if silent > 0 {
		w.p.logger.Warn("some rules could not be proved from outside", "registry", w.p.registry.URL, "rules", silent)
	}
	return wrong
}
