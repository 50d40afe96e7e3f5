package harbor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// readRobots reads the robots of the system and those of each project, which no
// list holds together. A robot whose secret was never delivered is none yet.
func readRobots(ctx context.Context, s *site) error {
	prefix, err := s.prefix(ctx)
	if err != nil {
		return err
	}
	take := func(project string, list []api.Robot) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range list {
			key, name := robotKey(prefix, project, r.Name)
			s.accounts[key] = append(s.accounts[key], accountOf(r, name))
		}
	}
	if s.only == nil || s.only[""] {
		list, err := s.c.Robots(ctx, 0, "")
		if err == nil {
			take("", list)
		} else if err = s.hidden(err, schema.Key{Kind: schema.KindRobot, Name: "/"}, "robot:list"); err != nil {
			return err
		}
	}
	err = s.eachOf(ctx, projectLists{kind: schema.KindRobot, right: "robot:list"}, func(ctx context.Context, p api.Project) error {
		list, err := s.c.Robots(ctx, p.ID, "")
		if err != nil {
			return err
		}
		take(p.Name, list)
		return nil
	})
	if err != nil {
		return err
	}
	for key, list := range s.accounts {
		if err := s.addRobot(ctx, key, list); err != nil {
			return err
		}
	}
	return nil
}

// addRobot shows a robot by its newest account; the rights are those of both.
func (s *site) addRobot(ctx context.Context, key schema.Key, list []account) error {
	current, ok := newest(list)
	if !ok {
		return nil
	}
	var all []api.Robot
	for _, a := range list {
		all = append(all, a.Robot)
	}
	access, permissions, err := mayOf(all).words(ctx, s)
	if err != nil {
		return err
	}
	permissions = sortedPermissions(append(permissions, denials(all)...))
	expires, enabled := schema.Never, !current.Disabled
	if current.Duration > 0 {
		expires = schema.Duration(current.Duration) * day
	}
	s.add(key, current.ID, &schema.Robot{
		Description: &current.text, Expires: &expires, Enabled: &enabled, Access: access, Permissions: permissions,
	}, "secret.value")
	return nil
}

func normalRobot(_ *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Robot)
	if !ok {
		return r.Spec, nil
	}
	out := *spec
	if spec.Access != nil {
		var list []schema.Grant
		for _, g := range spec.Access {
			if g.Rights&schema.Admin != 0 {
				g.Rights = schema.Admin
			}
			if g.Rights != 0 {
				list = append(list, g)
			}
		}
		out.Access = schema.NewGrants(list...)
	}
	if spec.Permissions != nil {
		out.Permissions = append([]schema.RobotPermission{}, sortedPermissions(spec.Permissions)...)
	}
	return &out, nil
}

// tidyRobot leaves out what the robot is denied by now: a change of its rights ends it.
func tidyRobot(c plan.Change) schema.Spec {
	want, ok := c.After.Spec.(*schema.Robot)
	if !ok || want.Permissions == nil || !touches(c, "access", "permissions") {
		return c.After.Spec
	}
	out := *want
	out.Permissions = granted(want.Permissions)
	return &out
}

// prepareRobot refuses what Harbor has no robot for.
func prepareRobot(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Robot](c)
	if err != nil {
		return err
	}
	if tidy, ok := tidyRobot(c).(*schema.Robot); ok {
		want = tidy
	}
	var why []string
	if d := want.Expires; d != nil && *d > 0 && *d%day != 0 && touches(c, "expires") {
		why = append(why, fmt.Sprintf("Harbor counts in days, and %s is no number of them", *d))
	}
	if touches(c, "access", "permissions") {
		more, err := s.unfit(ctx, c.Key, want)
		if err != nil {
			return err
		}
		why = append(why, more...)
		if had, ok := before[*schema.Robot](c); ok && len(granted(had.Permissions)) < len(had.Permissions) {
			v.Notes = append(v.Notes, "somebody denied it a right, which no mode says of a robot: the change of its rights ends that")
		}
		if _, all := want.Access.Get(api.AllProjects); all {
			v.Notes = append(v.Notes, `access "*" reaches ocisync's own project as well: Harbor can leave none out`)
		}
	}
	if c.Action == plan.Create && (want.Secret == nil || want.Secret.Value == nil && want.Secret.Deliver == nil) {
		v.Notes = append(v.Notes, "nobody will know its secret, which Harbor makes and shows once; give secret.value, or secret.deliver")
	}
	v.Refused = strings.Join(why, "; ")
	return nil
}

// unfit says what of a robot's rights Harbor does not take, or would give back in
// other words.
func (s *site) unfit(ctx context.Context, key schema.Key, want *schema.Robot) (why []string, err error) {
	project := ""
	if ns, ok := key.Namespace(); ok {
		project = ns.Name
	}
	if project != "" {
		for _, g := range want.Access {
			if g.Name != project {
				why = append(why, fmt.Sprintf("a project's robot has rights in its own project alone, and not in %q; declare it as a robot of the registry", g.Name))
			}
		}
	}
	if len(want.Permissions) > 0 {
		all, err := s.catalogue(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range want.Permissions {
			known := all.Project
			if p.Namespace == "" {
				known = all.System
			}
			if project != "" && p.Namespace != project {
				why = append(why, fmt.Sprintf("%s:%s: a project's robot has permissions in its own project alone; name it as the namespace", p.Resource, p.Action))
				continue
			}
			if a := (api.Access{Resource: p.Resource, Action: p.Action}); !listed(known, a) {
				why = append(why, fmt.Sprintf("this Harbor (%s) has no permission %s:%s %s%s", s.c.Version, p.Resource, p.Action, where(p.Namespace), nearestAccess(a, known)))
			}
		}
	}
	if len(why) > 0 {
		return why, nil
	}
	m, err := mayFor(ctx, s, want)
	if err != nil {
		return nil, err
	}
	if len(m) == 0 {
		return []string{"Harbor makes no robot that may do nothing; give it access, or permissions"}, nil
	}
	_, left, err := m.words(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, p := range want.Permissions {
		if !slices.Contains(left, p) {
			why = append(why, fmt.Sprintf("%s:%s %s is part of what access says; say it there alone", p.Resource, p.Action, where(p.Namespace)))
		}
	}
	return why, nil
}

func where(namespace string) string {
	switch namespace {
	case "":
		return "for the whole registry"
	case api.AllProjects:
		return "for all projects"
	}
	return "in " + namespace
}

func nearestAccess(a api.Access, known []api.Access) string {
	var names []string
	for _, k := range known {
		names = append(names, k.Resource+":"+k.Action)
	}
	if near := new(schema.Nearest).Of(a.Resource+":"+a.Action, names); near != "" {
		return "; is " + near + " meant?"
	}
	return ""
}

// Deliverer takes the secret that was made for a robot to where the mode says.
// It is satisfied by secret.Resolver.
type Deliverer interface {
	// Deliver returns once the secret is there.
	Deliver(ctx context.Context, d schema.Delivery, user, secret, registryHost string) error
}

func delivery(spec *schema.Robot) *schema.Delivery {
	if spec.Secret == nil {
		return nil
	}
	return spec.Secret.Deliver
}

func (p *Provider) deliver(ctx context.Context, to schema.Delivery, login, secret string) error {
	d, ok := p.secrets.(Deliverer)
	if !ok {
		return fmt.Errorf("secret.deliver: this command delivers no secrets: %w", providers.ErrUnsupported)
	}
	p.bringing.Lock()
	defer p.bringing.Unlock()
	if err := d.Deliver(ctx, to, login, secret, p.host()); err != nil {
		return fmt.Errorf("secret.deliver: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.brought[login] = to.Place()
	return nil
}

func writeRobot(ctx context.Context, s *site, c plan.Change, _ object) error {
	if c.Action == plan.Delete {
		for _, a := range s.accounts[c.Key] {
			if err := s.c.DeleteRobot(ctx, a.ID); err != nil {
				return err
			}
		}
		return nil
	}
	want, err := after[*schema.Robot](c)
	if err != nil {
		return err
	}
	value, given, err := s.secret(ctx, c, "secret.value")
	if err != nil {
		return err
	}
	m, err := mayFor(ctx, s, want)
	if err != nil {
		return err
	}
	if c.Action == plan.Create {
		return s.makeRobot(ctx, c.Key, want, m.permissions(), value)
	}
	list := s.accounts[c.Key]
	if touches(c, "description", "expires", "enabled", "access", "permissions") {
		for _, a := range list {
			next := a
			next.text, next.Disabled = of(want.Description, a.text), !of(want.Enabled, !a.Disabled)
			if touches(c, "expires") && a.ends.IsZero() {
				next.Duration = days(want.Expires)
			}
			if touches(c, "access", "permissions") {
				next.Permissions = m.permissions()
			}
			if err := s.c.UpdateRobot(ctx, next.wire()); err != nil {
				return err
			}
		}
	}
	if current, ok := newest(list); ok && given {
		return s.give(ctx, c.Key, current, value, len(list) == 1)
	}
	return nil
}

// changesRobot tells the changes that Harbor lets no robot make: of a robot of the
// system, all but its deletion, and to make one to which nothing has to be done then.
func changesRobot(c plan.Change) bool {
	if _, ok := c.Key.Namespace(); ok || c.Action == plan.Delete || c.After == nil {
		return false
	}
	want, ok := c.After.Spec.(*schema.Robot)
	return c.Action != plan.Create || ok && (want.Secret != nil || !of(want.Enabled, true))
}

// makeRobot makes a robot's first account. Harbor takes neither a secret nor that
// it is disabled with it: both follow. A secret that Harbor made is noted as not
// delivered until it is, so that a run that is cut short is begun again; what
// cannot be given its secret does not stay.
func (s *site) makeRobot(ctx context.Context, key schema.Key, want *schema.Robot, permissions []api.Permission, value string) error {
	to := delivery(want)
	a := account{
		Robot:       api.Robot{Name: accountNames(key)[0], Level: api.LevelSystem, Duration: days(want.Expires), Permissions: permissions},
		text:        of(want.Description, ""),
		undelivered: to != nil,
	}
	if _, ok := key.Namespace(); ok {
		a.Level = api.LevelProject
	}
	asked := time.Now()
	made, secret, err := s.newAccount(ctx, a.wire())
	fresh := err == nil
	if fresh {
		a.Created, a.asked = made.Created, asked
	}
	if errors.Is(err, providers.ErrConflict) && to != nil {
		made, secret, err = s.again(ctx, key, a.wire(), err)
	}
	if err != nil {
		return err
	}
	a.ID, a.Name = made.ID, made.Name
	err = s.equip(ctx, key, a, to, value, secret, want)
	if err == nil || !fresh {
		return err
	}
	if gone := s.c.DeleteRobot(ctx, made.ID); gone != nil {
		return errors.Join(err, fmt.Errorf("it has no secret that anybody knows, and could not be deleted again: %w", gone))
	}
	return err
}

// newAccount makes an account, with rights as the first login may give them.
func (s *site) newAccount(ctx context.Context, r api.Robot) (api.Robot, string, error) {
	if s.c.Robot() && !s.c.Later(makesRobots()) {
		me, err := s.me.get(func() (self, error) { return s.self(ctx) })
		if err != nil {
			return api.Robot{}, "", err
		}
		r.Permissions = me.gives(r.Permissions)
	}
	return s.c.CreateRobot(ctx, r)
}

// equip gives an account what Harbor does not take when it makes it.
func (s *site) equip(ctx context.Context, key schema.Key, a account, to *schema.Delivery, value, secret string, want *schema.Robot) error {
	if value != "" {
		if err := s.give(ctx, key, a, value, true); err != nil {
			return err
		}
	}
	if to != nil {
		if err := s.p.deliver(ctx, *to, a.Name, secret); err != nil {
			return err
		}
	}
	a.Disabled = !of(want.Enabled, true)
	if !a.undelivered && !a.Disabled {
		return nil
	}
	if to != nil {
		a.taken = taken(*to)
	}
	a.undelivered = false
	return s.c.UpdateRobot(ctx, a.wire())
}

// again takes over an account that a run made and did not deliver the secret of,
// or makes it anew where that was long ago; conflict is what Harbor said when it
// was to be made.
func (s *site) again(ctx context.Context, key schema.Key, r api.Robot, conflict error) (api.Robot, string, error) {
	a, err := s.find(ctx, key, accountNames(key)[0])
	if err != nil || !a.undelivered {
		return api.Robot{}, "", errors.Join(conflict, err)
	}
	if !a.fresh(s.p.now()) {
		if err := s.c.DeleteRobot(ctx, a.ID); err != nil {
			return api.Robot{}, "", err
		}
		return s.newAccount(ctx, r)
	}
	secret, _, err := s.c.SetSecret(ctx, a.Robot, "")
	return a.Robot, secret, err
}

// find reads one account. ErrNotFound: it is not there.
func (s *site) find(ctx context.Context, key schema.Key, name string) (account, error) {
	stored, project := name, int64(0)
	if ns, ok := key.Namespace(); ok {
		p, err := s.project(ctx, ns.Name)
		if err != nil {
			return account{}, err
		}
		stored, project = ns.Name+"+"+name, p.ID
	}
	list, err := s.c.Robots(ctx, project, stored)
	if err != nil {
		return account{}, err
	}
	for _, r := range list {
		if strings.HasSuffix(r.Name, stored) { // with whatever prefix
			return accountOf(r, name), nil
		}
	}
	return account{}, providers.ErrNotFound
}

// checkRobot logs in with a secret. Of an account that could not log in with any,
// nothing is known.
func checkRobot(ctx context.Context, s *site, key schema.Key, field, secret string) (bool, error) {
	if field != "secret.value" {
		return false, providers.ErrUnsupported
	}
	list, known := s.p.seenAccounts(key)
	if !known {
		s.only = map[string]bool{project(key): true}
		if err := readRobots(ctx, s); err != nil {
			return false, err
		}
		list = s.accounts[key]
	}
	current, ok := newest(list)
	switch {
	case !ok:
		return false, providers.ErrNotFound
	case !current.works(time.Now()):
		return false, providers.ErrUnsupported
	}
	equal, err := s.c.Accepts(ctx, current.Name, secret)
	if equal {
		s.p.saw(key, list, secret)
	}
	return equal, err
}
