package harbor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

func preheatAuths() [][2]string {
	return [][2]string{{"none", "NONE"}, {"basic", "BASIC"}, {"oauth", "OAUTH"}}
}

// readPreheats reads the instances. Newer versions of Harbor show nothing of their logins.
func readPreheats(ctx context.Context, s *site) error {
	list, err := s.allPreheats(ctx)
	if err != nil {
		return err
	}
	for _, x := range list {
		spec := &schema.Preheat{
			Vendor: &x.Vendor, URL: &x.Endpoint, Description: &x.Description, Auth: new(ours(preheatAuths(), x.Auth)),
			Default: &x.Default, Enabled: &x.Enabled, Insecure: &x.Insecure,
		}
		unread := []string{"credential", "user"}
		if s.c.ShowsLogins() && x.Auth == "BASIC" {
			spec.User, unread = new(x.Login["username"]), unread[:1]
		}
		s.add(schema.Key{Kind: schema.KindPreheat, Name: x.Name}, x.ID, spec, unread...)
	}
	return nil
}

// checkPreheat compares a credential, of a Harbor that shows it.
func checkPreheat(ctx context.Context, s *site, key schema.Key, field, secret string) (bool, error) {
	if field != "credential" {
		return false, providers.ErrUnsupported
	}
	x, err := s.preheat(ctx, key.Name)
	return cmp.Or(x.Login["password"], x.Login["token"]) == secret, err
}

// preparePreheat refuses half a login: Harbor takes and keeps it whole. It refuses a
// second instance of one address.
func preparePreheat(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return s.refuseFetched(ctx, c, v, "deletes")
	}
	want, err := after[*schema.Preheat](c)
	if err != nil {
		return err
	}
	does := ""
	switch {
	case c.Action != plan.Update:
	case touches(c, "vendor"):
		does = "changes the vendor of"
	case touches(c, "enabled") && !of(want.Enabled, true):
		does = "disables"
	}
	if does != "" {
		if err := s.refuseFetched(ctx, c, v, does); err != nil || v.Refused != "" {
			return err
		}
	}
	if c.Action == plan.Update && touches(c, "vendor") {
		v.Notes = append(v.Notes, "is deleted and made anew: Harbor changes no instance's vendor")
	}
	auth := of(want.Auth, "none")
	switch {
	case auth == "none" || !touches(c, "auth", "user", "credential", "vendor"):
	case want.Credential == nil:
		v.Refused = "Harbor keeps a login whole and shows none of it; declare credential too"
	case auth == "basic" && want.User == nil:
		v.Refused = "Harbor keeps a login whole and shows none of it; declare user too"
	}
	if v.Refused != "" || c.Action != plan.Create {
		return nil
	}
	other, err := s.sharing(ctx, c.Key.Name, of(want.URL, ""))
	if other != "" {
		v.Refused = fmt.Sprintf("Harbor makes no second instance of one address, and %s has it; give each its own, or take one of them out", other)
	}
	return err
}

// refuseFetched refuses what Harbor does to no instance that policies use. A delete
// comes after the policies' own.
func (s *site) refuseFetched(ctx context.Context, c plan.Change, v *providers.Verdict, does string) error {
	uses, err := s.allFetched(ctx)
	if err != nil {
		return err
	}
	left := maps.Clone(uses)
	if c.Action == plan.Delete {
		maps.DeleteFunc(left, func(k schema.Key, _ string) bool { return s.goes(k) })
		for _, x := range s.planned {
			if spec, ok := specOf(x).(*schema.PreheatPolicy); ok {
				left[x.Key] = of(spec.Instance, uses[x.Key])
			}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(left), schema.Key.Compare) {
		if left[k] == c.Key.Name {
			v.Refused = fmt.Sprintf("Harbor %s no instance that a preheat policy uses, and %s does; delete that first, or give it another instance", does, k)
			return nil
		}
	}
	return nil
}

// goes reports whether a planned change deletes an object, or its namespace. One that
// is archived stays, with what hangs on it.
func (s *site) goes(k schema.Key) bool {
	ns, _ := k.Namespace()
	return slices.ContainsFunc(s.planned, func(c plan.Change) bool {
		return c.Action == plan.Delete && !c.Archive && (c.Key == k || c.Key == ns)
	})
}

// specOf is what a change makes of an object, nil for nothing.
func specOf(c plan.Change) schema.Spec {
	if c.After == nil {
		return nil
	}
	return c.After.Spec
}

// allFetched reads which instance each policy uses, of the projects that show it.
func (s *site) allFetched(ctx context.Context) (map[schema.Key]string, error) {
	return s.fetched.get(func() (map[schema.Key]string, error) {
		var mu sync.Mutex
		out := map[schema.Key]string{}
		return out, s.each(ctx, func(ctx context.Context, p api.Project) error {
			list, err := s.c.PreheatPolicies(ctx, p.Name)
			mu.Lock()
			defer mu.Unlock()
			for _, x := range list {
				out[schema.NewKey(schema.KindPreheatPolicy, p.Name, x.Name)] = x.InstanceName
			}
			if errors.Is(err, providers.ErrForbidden) || errors.Is(err, providers.ErrNotFound) {
				return nil
			}
			return err
		})
	})
}

// sharing finds another instance, there or about to be made, that has an address.
func (s *site) sharing(ctx context.Context, name, address string) (string, error) {
	list, err := s.allPreheats(ctx)
	if err != nil {
		return "", err
	}
	key := func(name string) string { return schema.Key{Kind: schema.KindPreheat, Name: name}.String() }
	for _, x := range list {
		if x.Name != name && x.Endpoint == address {
			return key(x.Name), nil
		}
	}
	for _, c := range s.planned {
		if c.Action != plan.Create || c.Key.Name == name || c.After == nil {
			continue
		}
		if x, ok := c.After.Spec.(*schema.Preheat); ok && of(x.URL, "") == address {
			return key(c.Key.Name), nil
		}
	}
	return "", nil
}

// normalPreheat has one default: Harbor takes it from the others.
func normalPreheat(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Preheat)
	if !ok || !of(spec.Default, false) {
		return r.Spec, nil
	}
	for _, other := range n.desired.Resources {
		if x, ok := other.Spec.(*schema.Preheat); ok && other.Key != r.Key && of(x.Default, false) {
			return nil, &providers.Error{Err: fmt.Errorf("%w: %s is the default too, and there is one", providers.ErrInvalid, other.Key), Remedy: "say default = true of one"}
		}
	}
	return r.Spec, nil
}

func writePreheat(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete {
		return s.c.DeletePreheat(ctx, c.Key.Name)
	}
	want, err := after[*schema.Preheat](c)
	if err != nil {
		return err
	}
	next := api.Preheat{
		ID: live.id, Name: c.Key.Name, Vendor: of(want.Vendor, ""), Endpoint: of(want.URL, ""), Description: of(want.Description, ""),
		Auth: theirs(preheatAuths(), of(want.Auth, "none")), Default: of(want.Default, false),
		Enabled: of(want.Enabled, true), Insecure: of(want.Insecure, false),
	}
	if want.Credential != nil && touches(c, "auth", "user", "credential", "vendor") {
		secret, err := s.p.secrets.Resolve(ctx, *want.Credential)
		if err != nil {
			return fmt.Errorf("credential: %w", err)
		}
		switch next.Auth {
		case "BASIC":
			next.Login = map[string]string{"username": of(want.User, ""), "password": secret}
		case "OAUTH":
			next.Login = map[string]string{"token": secret}
		}
	}
	have, ok := live.Spec.(*schema.Preheat)
	switch {
	case c.Action == plan.Create:
	case ok && of(have.Vendor, "") == next.Vendor:
		if next.Login == nil {
			if next.Login, err = s.shownLogin(ctx, next); err != nil {
				return err
			}
		}
		return s.c.UpdatePreheat(ctx, next)
	default:
		if err := s.c.DeletePreheat(ctx, c.Key.Name); err != nil {
			return err
		}
	}
	err = s.c.CreatePreheat(ctx, next)
	if api.Is(err, http.StatusInternalServerError) { // Harbor's answer to an address that is taken
		s.preheats.forget()
		if other, e := s.sharing(ctx, c.Key.Name, next.Endpoint); e == nil && other != "" {
			return amended(err, func(cause error) error {
				return fmt.Errorf("%w: %s has that address (%w)", providers.ErrConflict, other, cause)
			})
		}
	}
	return err
}

// shownLogin is what an instance logs in with, of a Harbor that shows it, where it goes
// on to log in so.
func (s *site) shownLogin(ctx context.Context, next api.Preheat) (map[string]string, error) {
	x, err := s.preheat(ctx, next.Name)
	if err != nil || x.Auth != next.Auth {
		return nil, err
	}
	return x.Login, nil
}

func (s *site) allPreheats(ctx context.Context) ([]api.Preheat, error) {
	return s.preheats.get(func() ([]api.Preheat, error) { return s.c.Preheats(ctx) })
}
