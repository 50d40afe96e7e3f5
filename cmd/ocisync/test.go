package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/apply"
	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/oci"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

func newTest(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "test",
		GroupID: "run",
		Short:   "Ask the running registry whether it does what the mode says",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	sub := &cobra.Command{
		Use:   "access",
		Short: "Ask the registry about every access rule of the mode",
		Long: `Access asks the running registry, in each namespace that has access rules in the
mode, whether an anonymous client, each user and each robot may pull, push and
delete, and compares its answers with what the rules say. It asks as those users
and robots, so of those alone whose password is at hand: in the environment or a
file, as for a plan. What the mode leaves out counts as the registry has it. Where
push is withdrawn because a quota is used up, a refusal is what is expected.

The requests are a list of tags, the end of an upload that was never begun, and
the deletion of content that is not there, each in a repository with a random
name: none of them can take effect.

A large mode is many questions, each of which is a login: how far it has come is told
meanwhile, and Ctrl-C ends it with what was answered by then.

It exits with 0 if every answer is as declared, else with 1.
` + exitHelp,
		Example: "  ocisync test access --mode prod\n  ocisync test access --mode prod --output json",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.testAccess(c.Context()) },
	}
	o.modeFlags(sub)
	o.outputFlag(sub)
	o.verboseFlag(sub, "show what was not asked too")
	cmd.AddCommand(sub)
	return cmd
}

// accessReport is what test access prints.
type accessReport struct {
	Mode     string         `json:"mode"`
	Registry string         `json:"registry"`
	Asked    int            `json:"asked"`
	Wrong    []accessAnswer `json:"wrong"`
	NotAsked []accessSilent `json:"not_asked"`
}

// accessAnswer is one that is not as declared.
type accessAnswer struct {
	Who       string `json:"who"`
	Namespace string `json:"namespace"`
	Right     string `json:"right"`
	Declared  string `json:"declared"` // allowed, refused
	Answer    string `json:"answer"`   // allowed (404), refused (401)
}

// accessSilent counts questions about somebody that were not asked.
type accessSilent struct {
	Who       string `json:"who"`
	Questions int    `json:"questions"`
	Why       string `json:"why"`
}

// asker is somebody as whom the registry is asked.
type asker struct {
	who      string
	subject  access.Subject
	logins   []string // of which one is good; none for anonymous clients
	password string
}

// question is one that the rules answer.
type question struct {
	asker     *asker
	namespace string
	right     schema.Rights
	allowed   bool
}

func (o *options) testAccess(ctx context.Context) (err error) {
	s, err := o.open(ctx, false)
	if err != nil {
		return err
	}
	defer s.close(&err)
	host, err := o.host()
	if err != nil {
		return err
	}
	if !host.Permits(s.cfg.Registry.URL) {
		return codedError{exitRefused, fmt.Errorf("%s: the host file names the registries that a secret may go to, and this one is not among them; correct registry.url, or add it to registries in %s", s.cfg.Registry.URL, host.File)}
	}
	found, err := s.cycle("").Plan(ctx)
	if err != nil {
		return err
	}
	if found.Where == providers.Here {
		if err := o.ours(ctx, s.cfg); err != nil {
			return err
		}
	}
	report := accessReport{Mode: s.cfg.Mode, Registry: s.cfg.Registry.URL, Wrong: []accessAnswer{}, NotAsked: []accessSilent{}}
	questions, err := s.questions(ctx, intended(found), &report)
	if err != nil {
		return err
	}
	told := o.progress(time.Now(), func(done, total int64) string { return fmt.Sprintf("asking: %d of %d", done, total) })
	err = s.ask(ctx, questions, &report, told)
	told(0, 0)
	if err != nil {
		return err
	}
	if err := o.tellAccess(report); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return codedError{code: exitInterrupted}
	case len(report.Wrong) > 0:
		return codedError{code: exitFailed}
	}
	return nil
}

// ours refuses to send a login to what answers while the registry that ocisync runs
// on this host does not run.
func (o *options) ours(ctx context.Context, cfg *schema.Config) error {
	if cfg.Registry.Run == nil {
		return nil
	}
	r, err := o.runner(cfg)
	if err != nil {
		return err
	}
	st, err := r.Status(ctx)
	if err != nil {
		return err
	}
	if st.Running {
		if takesTokens(cfg) { // else whoever answers at their address
			_, err = (&served{o, cfg}).giving(ctx)
		}
		return err
	}
	return fmt.Errorf("%s: the registry of this mode does not run, and nobody else is sent its logins; start it with ocisync up", cfg.Registry.URL)
}

// intended is the registry as it is after the plan: what the mode leaves out is
// as it is now.
func intended(found apply.Found) schema.State {
	all := map[schema.Key]schema.Resource{}
	for _, r := range found.Live.Resources {
		all[r.Key] = r
	}
	changes := slices.Clone(found.Plan.Changes)
	for _, h := range found.Plan.Held {
		changes = append(changes, h.Change)
	}
	for _, c := range changes {
		if c.Action != plan.Delete && c.After != nil {
			if c.Before != nil && c.Before.Key != c.Key {
				delete(all, c.Before.Key)
			}
			all[c.Key] = *c.After
		}
	}
	for _, r := range found.Desired.Resources { // of what nothing is known the mode alone tells
		if _, known := all[r.Key]; !known && !found.Live.Scope.Covers(r.Key) {
			all[r.Key] = r
		}
	}
	st := schema.State{}
	for _, r := range all {
		st.Resources = append(st.Resources, r)
	}
	return st
}

// withheld are the namespaces in which push is withdrawn, since their quota is
// used up.
func (s *session) withheld(ctx context.Context) ([]string, error) {
	w, ok := s.provider.(providers.Withholder)
	if !ok {
		return nil, nil
	}
	return w.Withheld(ctx)
}

// questions are all about the namespaces whose access the mode declares.
func (s *session) questions(ctx context.Context, st schema.State, report *accessReport) ([]question, error) {
	withheld, err := s.withheld(ctx)
	if err != nil {
		return nil, err
	}
	rules := access.Compile(st, access.Outside(s.cfg.Policy.Outside)).Withhold(withheld)
	conditional := map[string]bool{}
	open := map[string]schema.Rights{} // to everybody who logs in
	for _, r := range st.Resources {
		if a, ok := r.Spec.(*schema.Access); ok {
			conditional[r.Key.Name] = len(a.Conditions) > 0
			if a.Authenticated != nil {
				open[r.Key.Name] = a.Authenticated.Effective()
				if slices.Contains(withheld, r.Key.Name) {
					open[r.Key.Name] &^= schema.Push | schema.Admin
				}
			}
		}
	}
	var namespaces []string
	for _, r := range s.cfg.Desired.Resources {
		if r.Key.Kind == schema.KindAccess {
			namespaces = append(namespaces, r.Key.Name)
		}
	}
	slices.Sort(namespaces)
	rights := []schema.Rights{schema.Pull, schema.Push, schema.Delete}
	askers := []*asker{{who: "anonymous"}}
	silent := func(who, why string, n int) {
		if n > 0 {
			report.NotAsked = append(report.NotAsked, accessSilent{who, n, why})
		}
	}
	for _, r := range s.cfg.Desired.Resources {
		a, ref := &asker{who: r.Key.String()}, (*schema.SecretRef)(nil)
		switch spec := r.Spec.(type) {
		case *schema.User:
			a.subject, a.logins, ref = access.User(r.Key.Name), []string{r.Key.Name}, spec.Password
		case *schema.Robot:
			if spec.Enabled != nil && !*spec.Enabled {
				continue
			}
			logins := embedded.RobotLogins(r.Key)
			a.subject, a.logins = access.Robot(r.Key.Name), logins[:]
			if spec.Secret != nil {
				ref = spec.Secret.Value
			}
		default:
			continue
		}
		if ref == nil {
			silent(a.who, "no password at hand", len(rights)*len(namespaces))
			continue
		}
		password, ok, err := s.secrets.AtHand(ctx, *ref)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Key, err)
		}
		if !ok {
			silent(a.who, "no password at hand", len(rights)*len(namespaces))
			continue
		}
		a.password = password
		askers = append(askers, a)
	}
	_, like := s.provider.(providers.RobotsAreUsers)
	var out []question
	for _, a := range askers {
		skipped := 0
		for _, ns := range namespaces {
			for _, right := range rights {
				may := rules.Rights(a.subject, inside(rules, ns))
				if a.subject.Robot != "" && like {
					may |= open[ns]
				}
				if conditional[ns] && a.subject != access.Anonymous() && !rules.Admin(a.subject) && may.Has(right) && !open[ns].Has(right) {
					skipped++
					continue
				}
				out = append(out, question{a, ns, right, may.Has(right)})
			}
		}
		if skipped > 0 {
			silent(a.who, "conditions decide", skipped)
		}
	}
	return out, nil
}

// maxName is as long as the name of a repository can be.
const maxName = 255

// inside is a repository of a namespace, and of none below it.
func inside(rules *access.Rules, namespace string) string {
	name := namespace + "/x"
	for len(name) < maxName && rules.Namespace(name) != namespace {
		name += "x"
	}
	return name
}

// sendsOn is a provider whose registry sends clients to a token service.
type sendsOn interface{ Realms() []string }

// ask asks the registry, eight questions at a time, and tells how many are answered.
// When ctx ends, those that are not yet are reported as not asked.
func (s *session) ask(ctx context.Context, questions []question, report *accessReport, told func(done, total int64)) error {
	var t schema.TLS
	if r := s.cfg.Registry.TLS; r != nil {
		t = schema.TLS{CA: r.CA, Insecure: r.Insecure}
	}
	rt, err := oci.Transport(t)
	if err != nil {
		return err
	}
	defer rt.CloseIdleConnections()
	var realms []string
	if p, ok := s.provider.(sendsOn); ok {
		realms = p.Realms()
	}
	confined, err := oci.Confine(rt, s.cfg.Registry.URL, realms...)
	if err != nil {
		return err
	}
	client := &http.Client{
		Transport: confined, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answers := make([]oci.Answer, len(questions))
	var mu sync.Mutex
	done := int64(0)
	work, inTime := errgroup.WithContext(ctx)
	work.SetLimit(8)
	for i, q := range questions {
		if inTime.Err() != nil {
			break
		}
		work.Go(func() error {
			a, err := q.ask(inTime, client, s.cfg.Registry.URL)
			if err != nil {
				return fmt.Errorf("%s: asking as %s: %w", s.cfg.Registry.URL, q.asker.who, err)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[i] = a
			done++
			told(done, int64(len(questions)))
			return nil
		})
	}
	if err := work.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	judge(questions, answers, report)
	return nil
}

// ask asks until somebody is let in: a robot has one of two logins.
func (q question) ask(ctx context.Context, client *http.Client, registry string) (a oci.Answer, err error) {
	logins := q.asker.logins
	if len(logins) == 0 {
		logins = []string{""}
	}
	for _, login := range logins {
		a, err = oci.Probe{Namespace: q.namespace, User: login, Password: q.asker.password, Right: q.right}.Ask(ctx, client, registry)
		if err != nil || a.Status != http.StatusUnauthorized {
			break
		}
	}
	return a, err
}

// judge holds the answers, of which some may be missing, against what is declared.
func judge(questions []question, answers []oci.Answer, report *accessReport) {
	missing := map[string]int{}
	words := map[bool]string{true: "allowed", false: "refused"}
	for i, q := range questions {
		a := answers[i]
		if a.Status == 0 {
			missing[q.asker.who]++
			continue
		}
		report.Asked++
		if a.Known && a.Allowed == q.allowed {
			continue
		}
		said := fmt.Sprintf("%s (%d)", words[a.Allowed], a.Status)
		if !a.Known {
			said = fmt.Sprintf("unclear (%d)", a.Status)
		}
		report.Wrong = append(report.Wrong, accessAnswer{q.asker.who, q.namespace, q.right.String(), words[q.allowed], said})
	}
	for _, who := range slices.Sorted(maps.Keys(missing)) {
		report.NotAsked = append(report.NotAsked, accessSilent{who, missing[who], "interrupted"})
	}
	slices.SortStableFunc(report.Wrong, func(a, b accessAnswer) int { return cmp.Compare(a.Namespace, b.Namespace) })
}

func (o *options) tellAccess(r accessReport) error {
	if o.json() {
		return writeJSON(o.out, r)
	}
	silent := map[string]int{}
	var reasons []string
	for _, n := range r.NotAsked {
		if silent[n.Why] == 0 {
			reasons = append(reasons, n.Why)
		}
		silent[n.Why] += n.Questions
	}
	w := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) } // Flush says it
	if len(r.Wrong) > 0 {
		line("NAMESPACE", "WHO", "RIGHT", "DECLARED", "ANSWER")
	}
	for _, a := range r.Wrong {
		line(load.Safe(a.Namespace), load.Safe(a.Who), a.Right, a.Declared, a.Answer)
	}
	if o.verbose {
		for _, n := range r.NotAsked {
			line("-", load.Safe(n.Who), "not asked", strconv.Itoa(n.Questions), n.Why)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	if len(r.Wrong) > 0 {
		fmt.Fprintf(&b, "%d of %d answers not as declared", len(r.Wrong), r.Asked)
	} else {
		fmt.Fprintf(&b, "%d answers as declared", r.Asked)
	}
	for _, why := range reasons {
		fmt.Fprintf(&b, ", %d not asked: %s", silent[why], why)
	}
	o.tell("%s\n", b.String())
	return nil
}
