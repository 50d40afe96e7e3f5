package distribution

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/retention"
	"github.com/ocisync/ocisync/schema"
)

// policies are the retention rules in force, by namespace, and the rules that
// say which namespace decides for a repository.
func (p *Provider) policies(ctx context.Context) (map[string]*schema.Retention, *access.Rules, error) {
	st, err := p.accounts.Read(ctx, schema.ScopeOf(schema.KindNamespace, schema.KindAccess, schema.KindRetention))
	if err != nil {
		return nil, nil, err
	}
	all := map[string]*schema.Retention{}
	for _, r := range st.Resources {
		if spec, ok := r.Spec.(*schema.Retention); ok {
			all[r.Key.Name] = spec
		}
	}
	return all, access.Compile(st, access.Deny), nil
}

// retain judges the tags of the namespaces, nil for all, that have retention
// rules and deletes those that no rule keeps, through the registry. When a tag was pushed is the
// time of its link in the store of content; where that lies elsewhere it is not
// known, and the tag stays. judged, which may be nil, is told of every tag.
func (p *Provider) retain(ctx context.Context, namespaces []string, dry bool, judged func(repository string, tag retention.Tag, v retention.Verdict)) (*providers.Retained, error) {
	report := &providers.Retained{Gone: []providers.Gone{}}
	if p.accounts == nil {
		return report, p.jobError(jobRetention, fmt.Errorf("it has no rules: %w", providers.ErrUnsupported), "name its token service in registry.token")
	}
	policies, rules, err := p.policies(ctx)
	if err != nil || len(policies) == 0 {
		return report, err
	}
	rt, release, err := p.Transport(ctx)
	if err != nil {
		return report, err
	}
	defer release()
	if t, ok := rt.(*loggedIn); ok {
		t.deletes = func(repository string) bool { return policies[rules.Namespace(repository)] != nil }
	}
	c := &client{base: p.registry.URL, start: p.startIt(), http: &http.Client{Transport: rt}}
	names, err := c.catalogue(ctx)
	if err != nil {
		return report, err
	}
	pushed := p.pushTimes()
	root := p.filesystem()
	now := time.Now()
	var unseen []string
	for _, name := range names {
		ns := rules.Namespace(name)
		policy := policies[ns]
		if policy == nil || access.In(schema.Reserved, name) || namespaces != nil && !slices.Contains(namespaces, ns) {
			continue
		}
		if why := unjudged(policy); why != "" {
			return report, p.jobError(jobRetention, fmt.Errorf("retention/%s: %w: %s", ns, providers.ErrInvalid, why), "change the rule, and apply")
		}
		if err := p.retainIn(ctx, c, name, strings.TrimPrefix(strings.TrimPrefix(name, ns), "/"), policy, pushed, now, dry, judged, report); err != nil {
			return report, err
		}
		switch {
		case policy.Untagged == nil || !*policy.Untagged:
		case root == "":
			unseen = append(unseen, ns)
		default:
			if err := p.removeLoose(ctx, c, root, name, dry, report); err != nil {
				return report, err
			}
		}
	}
	if len(unseen) > 0 {
		slices.Sort(unseen)
		return report, p.jobError(jobRetention, fmt.Errorf("%w: which manifests have no tag cannot be seen, since content does not lie in a directory of this host (namespaces %s)",
			providers.ErrUnsupported, strings.Join(slices.Compact(unseen), ", ")), "take retention.untagged out, and have gc.untagged take them")
	}
	if n := report.Failed(); n > 0 {
		return report, p.jobError(jobRetention, fmt.Errorf("%d of %d could not be removed", n, len(report.Gone)), "the report says why")
	}
	return report, nil
}

// unjudged says why a policy cannot be followed here.
func unjudged(policy *schema.Retention) string {
	if slices.ContainsFunc(retention.Enabled(policy.Keep), func(r schema.KeepRule) bool { return r.NewestPulled > 0 || r.PulledWithin > 0 }) {
		return "newest_pulled and pulled_within: Distribution does not tell when a tag was pulled, and what is in use could go"
	}
	if slices.ContainsFunc(policy.Keep, func(r schema.KeepRule) bool { return r.TaggedOnly }) {
		return "tagged_only is for Harbor: here untagged says what becomes of what has no tag, for the whole namespace"
	}
	return ""
}

// refused says what of quotas, retention and collection is not done here, although the
// token service would keep it.
func (p *Provider) refused(c plan.Change) string {
	if c.Action == plan.Delete || c.After == nil {
		return ""
	}
	table := p.Capabilities()
	var said []string
	field := func(name string, declared bool) {
		if declared {
			said = append(said, name+": "+table.Find(c.Key.Kind, name).Reason)
		}
	}
	byTime := func(schedule *string) {
		if why := p.unscheduled(); why != "" && schedule != nil && *schedule != "none" {
			said = append(said, "schedule: "+why)
		}
	}
	switch spec := c.After.Spec.(type) {
	case *schema.Quota:
		if spec.Limit != nil && *spec.Limit >= 0 {
			if why := p.unmeasured(); why != "" {
				said = append(said, why)
			}
		}
	case *schema.Access:
		if r := spec.Authenticated; p.byFile() && (r == nil || !r.Has(schema.Pull|schema.Push|schema.Delete)) {
			said = append(said, "authenticated: "+noRights)
		}
	case *schema.Retention:
		if why := unjudged(spec); why != "" {
			said = append(said, why)
		}
		if spec.Untagged != nil && *spec.Untagged && p.filesystem() == "" {
			said = append(said, "untagged: content does not lie in a directory of this host, and Distribution lists no manifests without a tag; gc.untagged takes them")
		}
		byTime(spec.Schedule)
	case *schema.GC:
		byTime(spec.Schedule)
		field("delay", spec.Delay != nil)
		field("workers", spec.Workers != nil)
	}
	return strings.Join(said, "; ")
}

// done leaves of what is kept of jobs, and of who may do what, what is so.
func (p *Provider) done(r schema.Resource) schema.Resource {
	switch spec := r.Spec.(type) {
	case *schema.Retention:
		c := &schema.Retention{Keep: spec.Keep, Untagged: spec.Untagged}
		if !p.byFile() {
			c.Schedule, c.Zone = spec.Schedule, spec.Zone
		}
		r.Spec = c
	case *schema.GC:
		c := &schema.GC{Untagged: spec.Untagged}
		if !p.byFile() {
			c.Schedule, c.Zone = spec.Schedule, spec.Zone
		}
		r.Spec = c
	case *schema.Access:
		if p.byFile() {
			r.Spec = &schema.Access{Authenticated: spec.Authenticated}
		}
	case *schema.Robot:
		if p.byFile() {
			c := *spec
			c.Access = nil
			r.Spec = &c
		}
	}
	return r
}

func (p *Provider) retainIn(ctx context.Context, c *client, name, below string, policy *schema.Retention, pushed func(repository, tag string) time.Time, now time.Time, dry bool, judged func(string, retention.Tag, retention.Verdict), report *providers.Retained) error {
	list, err := c.tags(ctx, name)
	if err != nil {
		return err
	}
	tags := make([]retention.Tag, len(list))
	for i, tag := range list {
		tags[i] = retention.Tag{Name: tag, Pushed: pushed(name, tag), Unobserved: true}
	}
	for i, v := range retention.Judge(policy.Keep, below, tags, now) {
		if judged != nil {
			judged(name, tags[i], v)
		}
		if v.Kept {
			report.Kept++
			continue
		}
		gone := providers.Gone{Name: name + ":" + v.Tag, Why: v.Why}
		if !dry {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !pushed(name, v.Tag).Equal(tags[i].Pushed) { // again, meanwhile
				report.Kept++
				continue
			}
			if err := c.remove(ctx, name, v.Tag); err != nil {
				gone.Error = err.Error()
				p.logger.Error("retention could not remove a tag", "repository", name, "tag", v.Tag, "error", err)
			} else {
				p.logger.Info("retention removed a tag", "repository", name, "tag", v.Tag, "why", v.Why)
			}
		}
		report.Gone = append(report.Gone, gone)
	}
	return nil
}

// remove takes a tag from what it names, or a manifest from its repository; its
// content goes with a collection. What is not there any more is a success.
func (c *client) remove(ctx context.Context, repository, reference string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, strings.TrimSuffix(c.base, "/")+"/v2/"+repository+"/manifests/"+reference, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusNotFound:
		return nil
	case http.StatusMethodNotAllowed:
		return errors.New("the registry deletes nothing: it is read-only, or storage.delete.enabled is not true")
	}
	return fmt.Errorf("the registry answers %d", resp.StatusCode)
}

// pushTimes says when a tag was made to name what it does, zero where that is
// not known: Distribution itself does not tell, and writes the link of the tag
// anew with each push.
func (p *Provider) pushTimes() func(repository, tag string) time.Time {
	root := p.filesystem()
	return func(repository, tag string) time.Time {
		if root == "" {
			return time.Time{}
		}
		info, err := os.Lstat(filepath.Join(root, contentDir, "repositories", filepath.FromSlash(repository), "_manifests/tags", tag, "current/link"))
		if err != nil || !info.Mode().IsRegular() {
			return time.Time{}
		}
		return info.ModTime()
	}
}

// filesystem is the directory of content on this host, "" where it lies
// elsewhere.
func (p *Provider) filesystem() string {
	if p.place.Config == "" {
		return ""
	}
	now, err := p.file()
	if errors.Is(err, fs.ErrNotExist) && p.registry.Run != nil {
		return p.storage() // until the mode says otherwise
	}
	if err != nil {
		return ""
	}
	n := now.doc.get("storage.filesystem.rootdirectory")
	if n == nil || !filepath.IsAbs(n.Value) {
		return ""
	}
	return n.Value
}
