package harbor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// remoteTypes are our words for types of registries and Harbor's, where they
// differ. What speaks the OCI API alone is one type there.
func remoteTypes() [][2]string {
	return [][2]string{
		{"oci", "docker-registry"}, {"zot", "docker-registry"}, {"distribution", "docker-registry"},
		{"github", "github-ghcr"}, {"google-gar", "google-gcr"}, {"jfrog", "jfrog-artifactory"}, {"huawei-swr", "huawei-SWR"},
	}
}

// remoteType is Harbor's name of a type.
func remoteType(word string) string {
	for _, t := range remoteTypes() {
		if t[0] == word {
			return t[1]
		}
	}
	return word
}

// remoteWord is our word for one of Harbor's types.
func remoteWord(typ string) string {
	for _, t := range remoteTypes() {
		if t[1] == typ {
			return t[0]
		}
	}
	return typ
}

// robotPrefix begins the names of robots of a Harbor that is as it came.
const robotPrefix = "robot$"

// otherHarbor is the type of remotes whose robots have a prefix.
const otherHarbor = "harbor"

// readRemotes reads the other registries that Harbor knows.
func readRemotes(ctx context.Context, s *site) error {
	remotes, err := s.allRemotes(ctx)
	if err != nil {
		return err
	}
	for _, r := range remotes {
		if r.ID == 0 { // Harbor itself
			continue
		}
		spec := &schema.Remote{Type: new(remoteWord(r.Type)), URL: &r.URL, Description: &r.Description, TLS: &schema.TLS{Insecure: &r.Insecure}}
		if ca := strings.TrimSpace(r.CA); ca != "" {
			spec.TLS.CA = &ca
		}
		var unread []string
		if r.Credential.Key != "" || r.Credential.Secret != "" {
			spec.Login = remoteLogin(r.Type, r.Credential.Key)
			unread = append(unread, "login.password")
		}
		s.add(schema.Key{Kind: schema.KindRemote, Name: r.Name}, r.ID, spec, unread...)
	}
	return nil
}

// remoteLogin is a login name in our words.
func remoteLogin(typ, name string) *schema.Login {
	if robot, ok := strings.CutPrefix(name, robotPrefix); ok && typ == otherHarbor {
		return &schema.Login{Robot: &robot}
	}
	return &schema.Login{User: &name}
}

// loginName is a login in Harbor's words. At another Harbor a robot has a prefix,
// elsewhere it is a user like others.
func loginName(typ string, l schema.Login) string {
	if l.Robot == nil {
		return of(l.User, "")
	}
	if typ != otherHarbor || strings.HasPrefix(*l.Robot, robotPrefix) {
		return *l.Robot
	}
	return robotPrefix + *l.Robot
}

// normalRemote gives an address, a type and a login the form that Harbor shows, and
// has the certificate in place of the file that holds it.
func normalRemote(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Remote)
	if !ok {
		return r.Spec, nil
	}
	out := *spec
	typ := remoteType(of(spec.Type, otherHarbor))
	if spec.Type != nil {
		if word := remoteWord(typ); word != *spec.Type {
			n.say(r.Key, "Harbor treats %s as it does any registry of type %s", *spec.Type, word)
			out.Type = &word
		}
	}
	if spec.URL != nil {
		out.URL = new(strings.TrimRight(*spec.URL, "/"))
	}
	if spec.Login != nil && (spec.Login.User != nil || spec.Login.Robot != nil) {
		out.Login = remoteLogin(typ, loginName(typ, *spec.Login))
		out.Login.Password = spec.Login.Password
	}
	if spec.TLS != nil && spec.TLS.CA != nil {
		tls := *spec.TLS
		text, err := n.certificate(*spec.TLS.CA)
		if err != nil {
			return nil, err
		}
		tls.CA = &text
		out.TLS = &tls
	}
	return &out, nil
}

// certificate reads a file of the mode's tree that holds certificates. What is a
// certificate already stays one.
func (n *normal) certificate(path string) (string, error) {
	if path == "" || strings.HasPrefix(path, "-----BEGIN ") {
		return path, nil
	}
	if n.files == nil {
		return "", &providers.Error{Err: fmt.Errorf("%w: tls.ca: nobody said below which directory %s is", providers.ErrInvalid, path)}
	}
	text, err := fs.ReadFile(n.files, path)
	if err != nil {
		return "", &providers.Error{Err: fmt.Errorf("%w: tls.ca: %w", providers.ErrInvalid, err), Remedy: "name a file with the certificates that Harbor shall trust, in PEM"}
	}
	return strings.TrimSpace(string(text)), nil
}

// tidyRemote leaves of a login that has become a user's or a robot's only that.
func tidyRemote(c plan.Change) schema.Spec {
	spec, ok := c.After.Spec.(*schema.Remote)
	if !ok || spec.Login == nil || spec.Login.User == nil || spec.Login.Robot == nil {
		return c.After.Spec
	}
	out, login := *spec, *spec.Login
	if touches(c, "login.robot") {
		login.User = nil
	} else {
		login.Robot = nil
	}
	out.Login = &login
	return &out
}

// prepareRemote refuses types that this Harbor has not, and what would lose a
// secret that nobody can read.
func prepareRemote(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return s.refuseUsed(ctx, c, v)
	}
	want, err := after[*schema.Remote](c)
	if err != nil {
		return err
	}
	if touches(c, "tls.ca") && want.TLS != nil && of(want.TLS.CA, "") != "" && s.c.Before(2, 15) {
		v.Refused = fmt.Sprintf("this Harbor (%s) takes no certificate of another registry, and says nothing: 2.15 and later do; have its hosts trust it, and take tls.ca out", s.c.Version)
		return nil
	}
	if c.Action == plan.Rename {
		v.Refused, err = s.unrenamed(ctx, c)
		return err
	}
	if have, err := s.remote(ctx, c.Key.Name); err == nil && c.Action == plan.Update && touches(c, "url") && have.Credential.Key != "" && !s.c.Before(2, 16) && (want.Login == nil || want.Login.Password == nil) {
		v.Refused = fmt.Sprintf("this Harbor (%s) forgets its secret with another url; declare login.password as well", s.c.Version)
		return nil
	}
	if !touches(c, "type") {
		return nil
	}
	types, err := s.c.RemoteTypes(ctx)
	if err != nil {
		return err
	}
	if typ := remoteType(of(want.Type, "")); !slices.Contains(types, typ) {
		v.Refused = fmt.Sprintf("this Harbor (%s) has no registries of type %s; it has %s", s.c.Version, typ, strings.Join(types, ", "))
	}
	if c.Action != plan.Update {
		return nil
	}
	v.Notes = append(v.Notes, "is deleted and made anew: Harbor changes no registry's type")
	if want.Login != nil && want.Login.Password == nil {
		v.Refused = "Harbor changes no registry's type, and made anew it would be without its secret, which Harbor does not show; declare login.password as well"
	}
	users, err := s.usersOf(ctx, c.Key.Name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		v.Refused = fmt.Sprintf("Harbor changes no registry's type, and deletes none that is in use, as this is by %s; declare another one beside it and use that", namesOf(users))
	}
	return nil
}

// unrenamed says why a registry cannot get another name, or "". Harbor reaches out for
// it as it will be.
func (s *site) unrenamed(ctx context.Context, c plan.Change) (string, error) {
	if touches(c, "type") {
		return "Harbor changes no registry's type, and made anew it would not be renamed; rename it first, and change the type after that", nil
	}
	if touches(c, "url", "login", "tls") {
		return "", nil
	}
	have, err := s.remote(ctx, c.Before.Key.Name)
	if err == nil && have.Status == api.Unhealthy {
		return fmt.Sprintf("Harbor renames no registry that does not answer, as this one (%s) did not when Harbor looked last; see that it does, from Harbor's host, and plan again once Harbor calls it healthy", have.URL), nil
	}
	return "", missing(err)
}

// refuseUsed refuses to delete what something uses when the plan is done, as far as
// the account sees that: Harbor would refuse it in the middle. What is archived stays.
func (s *site) refuseUsed(ctx context.Context, c plan.Change, v *providers.Verdict) error {
	list, err := s.usersOf(ctx, c.Key.Name)
	if errors.Is(err, providers.ErrNotFound) || errors.Is(err, providers.ErrForbidden) {
		return nil
	}
	if err != nil {
		return err
	}
	uses := map[schema.Key]bool{}
	for _, k := range list {
		uses[k] = !s.goes(k)
	}
	why := ""
	for _, x := range s.planned {
		if x.After != nil {
			uses[x.Key] = slices.Contains(plan.Change{Key: x.Key, After: x.After}.Needs(), c.Key)
		}
		if x.Archive && uses[x.Key] {
			why = " (what is archived stays)"
		}
	}
	maps.DeleteFunc(uses, func(_ schema.Key, is bool) bool { return !is })
	if len(uses) > 0 {
		v.Refused = fmt.Sprintf("Harbor deletes no registry that is in use, as this is by %s%s; put [remote.%s] back into the file, or delete first what uses it",
			namesOf(slices.SortedFunc(maps.Keys(uses), schema.Key.Compare)), why, c.Key.Name)
	}
	return nil
}

func namesOf(keys []schema.Key) string {
	var out []string
	for _, k := range keys {
		out = append(out, k.String())
	}
	return strings.Join(out, ", ")
}

// usersOf lists what uses another registry.
func (s *site) usersOf(ctx context.Context, name string) ([]schema.Key, error) {
	id, err := s.remoteID(ctx, name)
	if err != nil {
		return nil, err
	}
	rules, err := s.allReplications(ctx)
	if err != nil {
		return nil, err
	}
	projects, err := s.allProjects(ctx)
	if err != nil {
		return nil, err
	}
	var out []schema.Key
	for _, r := range rules {
		if r.From != nil && r.From.ID == id || r.To != nil && r.To.ID == id {
			out = append(out, schema.Key{Kind: schema.KindReplication, Name: r.Name})
		}
	}
	for _, p := range projects {
		if p.Remote == id {
			out = append(out, below(schema.KindNamespace, p.Name))
		}
	}
	slices.SortFunc(out, schema.Key.Compare)
	return out, nil
}

func writeRemote(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete {
		return s.c.DeleteRemote(ctx, live.id)
	}
	want, err := after[*schema.Remote](c)
	if err != nil {
		return err
	}
	typ := remoteType(of(want.Type, ""))
	next := api.Remote{Name: c.Key.Name, Type: typ, URL: of(want.URL, ""), Description: of(want.Description, "")}
	if want.TLS != nil {
		next.Insecure, next.CA = of(want.TLS.Insecure, false), of(want.TLS.CA, "")
	}
	if want.Login != nil {
		next.Credential = api.Credential{Type: "basic", Key: loginName(typ, *want.Login)}
	}
	secret, changes, err := s.secret(ctx, c, "login.password")
	if err != nil {
		return err
	}
	next.Credential.Secret = secret
	if c.Action == plan.Create {
		return s.c.CreateRemote(ctx, next)
	}
	have, err := s.remote(ctx, live.Key.Name)
	if err != nil {
		return err
	}
	if have.Type != typ || c.Action == plan.Replace {
		return s.remakeRemote(ctx, c, have, next)
	}
	u := api.RemoteUpdate{
		Name:        differing(next.Name, have.Name),
		Description: differing(next.Description, have.Description), URL: differing(next.URL, have.URL),
		Insecure: differing(next.Insecure, have.Insecure), CA: differing(next.CA, strings.TrimSpace(have.CA)),
		Key: differing(next.Credential.Key, have.Credential.Key),
	}
	if changes {
		u.Secret = &secret
	}
	if u.URL != nil && !changes && want.Login != nil && want.Login.Password != nil { // since 2.16 Harbor forgets it with another address
		if secret, err = s.p.secrets.Resolve(ctx, *want.Login.Password); err != nil {
			return fmt.Errorf("login.password: %w", err)
		}
		u.Secret = &secret
	}
	if (u.Key != nil || u.Secret != nil) && have.Credential.Type == "" {
		u.Type = &next.Credential.Type
	}
	if u == (api.RemoteUpdate{}) { // each update has Harbor reach out
		return nil
	}
	return s.c.UpdateRemote(ctx, have.ID, u)
}

// remakeRemote makes another registry of another type of one. Harbor tries it
// first: what would not be taken deletes nothing.
func (s *site) remakeRemote(ctx context.Context, c plan.Change, have, next api.Remote) error {
	want, err := after[*schema.Remote](c)
	if err != nil {
		return err
	}
	if want.Login != nil && want.Login.Password != nil {
		if next.Credential.Secret, err = s.p.secrets.Resolve(ctx, *want.Login.Password); err != nil {
			return fmt.Errorf("login.password: %w", err)
		}
	}
	if err := s.c.TryRemote(ctx, next); err != nil {
		return err
	}
	if err := s.c.DeleteRemote(ctx, have.ID); err != nil {
		return err
	}
	return s.c.CreateRemote(ctx, next)
}

// differing is a wanted value where it is another one than there is, else nil.
func differing[T comparable](want, have T) *T {
	if want == have {
		return nil
	}
	return &want
}

func (s *site) allRemotes(ctx context.Context) ([]api.Remote, error) {
	return s.remotes.get(func() ([]api.Remote, error) { return s.c.Remotes(ctx) })
}

// remote finds another registry by name. ErrNotFound: there is none.
func (s *site) remote(ctx context.Context, name string) (api.Remote, error) {
	list, err := s.allRemotes(ctx)
	if err != nil {
		return api.Remote{}, err
	}
	i := slices.IndexFunc(list, func(r api.Remote) bool { return r.Name == name })
	if i < 0 {
		return api.Remote{}, s.p.fail(schema.Key{Kind: schema.KindRemote, Name: name}, "", providers.ErrNotFound, "declare it as [remote."+name+"]")
	}
	return list[i], nil
}

// remoteName is the name of another registry that Harbor knows by a number.
func (s *site) remoteName(ctx context.Context, id int64) (string, error) {
	list, err := s.allRemotes(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(list, func(r api.Remote) bool { return r.ID == id })
	if i < 0 {
		return "", &providers.Error{Registry: s.p.registry.URL, Err: fmt.Errorf("%w: Harbor names another registry by number %d, and lists none such", providers.ErrNotFound, id), Remedy: "give the account in use the right to list registries"}
	}
	return list[i].Name, nil
}

func (s *site) remoteID(ctx context.Context, name string) (int64, error) {
	r, err := s.remote(ctx, name)
	return r.ID, err
}
