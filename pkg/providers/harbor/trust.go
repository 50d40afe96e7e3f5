package harbor

import (
	"context"
	"strconv"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

const (
	metaSigned = "enable_content_trust_cosign"
	metaScan   = "auto_scan"
	metaSBOM   = "auto_sbom_generation"
	metaBlock  = "prevent_vul"
	metaFrom   = "severity"
	metaShared = "reuse_sys_cve_allowlist"
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
		s.add(below(schema.KindTrust, p.Name), p.ID, &schema.Trust{Keys: schema.Set{}, Required: new(yes(p.Metadata[metaSigned]))})
		return nil
	})
}

// normalTrust leaves out the keys, of which Harbor knows nothing.
func normalTrust(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Trust)
	if !ok {
		return r.Spec, nil
	}
	if len(spec.Keys) > 0 {
		n.say(r.Key, "Harbor checks only that there is a signature; whose it is nobody checks until ocisync copies content itself")
	}
	return &schema.Trust{Required: spec.Required}, nil
}

func writeTrust(ctx context.Context, s *site, c plan.Change, _ object) error {
	if c.Action == plan.Delete { // nobody's any more, and what it is
		return nil
	}
	want, err := after[*schema.Trust](c)
	if err != nil || want.Required == nil {
		return err
	}
	return s.c.UpdateProject(ctx, c.Key.Name, api.ProjectUpdate{Metadata: map[string]string{metaSigned: strconv.FormatBool(*want.Required)}})
}
