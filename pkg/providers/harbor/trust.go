package harbor

import (
	"context"
	"strconv"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

const (
	metaSigned   = "enable_content_trust_cosign"
	metaNotation = "enable_content_trust"
	metaScan     = "auto_scan"
	metaSBOM     = "auto_sbom_generation"
	metaBlock    = "prevent_vul"
	metaFrom     = "severity"
	metaShared   = "reuse_sys_cve_allowlist"
)

// yes reads a flag of a project's metadata, which are texts that nobody checks.
func yes(text string) bool {
	on, err := strconv.ParseBool(text)
	return err == nil && on
}

// readTrust reads whether only what is signed can be pulled. Whose signatures count
// Harbor does not know.
func readTrust(ctx context.Context, s *site) error {
	return s.each(ctx, func(_ context.Context, p api.Project) error {
		s.add(below(schema.KindTrust, p.Name), p.ID, &schema.Trust{
			Keys: schema.Set{}, Required: new(yes(p.Metadata[metaSigned])), Notation: new(yes(p.Metadata[metaNotation])),
		})
		return nil
	})
}

// normalTrust leaves out the keys and identities, of which Harbor knows nothing.
func normalTrust(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Trust)
	if !ok {
		return r.Spec, nil
	}
	if spec.Asks() {
		n.say(r.Key, "Harbor checks only that there is a signature; whose it is ocisync checks of what mirrors copy there")
	}
	return &schema.Trust{Required: spec.Required, Notation: spec.Notation}, nil
}

// prepareTrust refuses what Harbor says nothing of and does not do for a proxy.
func prepareTrust(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Trust](c)
	if err != nil || !touches(c, "notation") || !of(want.Notation, false) && c.Action != plan.Update {
		return err
	}
	if proxy, err := s.proxies(ctx, c.Key.Name); err != nil || !proxy {
		return err
	}
	v.Refused = "Harbor asks for signatures of Notation in no namespace with proxy_of; take notation out"
	return nil
}

// proxies reports whether a project caches another registry, or is about to.
func (s *site) proxies(ctx context.Context, name string) (bool, error) {
	for _, c := range s.planned {
		if c.Key == below(schema.KindNamespace, name) && c.After != nil {
			spec, err := after[*schema.Namespace](c)
			return err == nil && of(spec.ProxyOf, "") != "", err
		}
	}
	p, err := s.project(ctx, name)
	return p.Remote != 0, missing(err)
}

func writeTrust(ctx context.Context, s *site, c plan.Change, _ object) error {
	if c.Action == plan.Delete { // nobody's any more, and what it is
		return nil
	}
	want, err := after[*schema.Trust](c)
	if err != nil {
		return err
	}
	u := api.ProjectUpdate{Metadata: map[string]string{}}
	for field, x := range map[string]struct {
		name string
		want *bool
	}{"required": {metaSigned, want.Required}, "notation": {metaNotation, want.Notation}} {
		if x.want != nil && touches(c, field) {
			u.Metadata[x.name] = strconv.FormatBool(*x.want)
		}
	}
	if len(u.Metadata) == 0 {
		return nil
	}
	return s.c.UpdateProject(ctx, c.Key.Name, u)
}
