package harbor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// shared stands in a project's list of allowed vulnerabilities where the project
// has none of its own and the registry's counts. No file can say so.
const shared = "(the registry's list)"

// anySeverity blocks every vulnerability, which Harbor calls from none on.
const anySeverity = "any"

func registryScan() schema.Key { return schema.Key{Kind: schema.KindScan} }

func readScans(ctx context.Context, s *site) error {
	scanners, err := s.allScanners(ctx)
	if err != nil && (s.p.all() || s.scannersCount() || !errors.Is(err, providers.ErrForbidden)) {
		return err
	}
	if s.only == nil || s.only[""] {
		if err == nil {
			err = s.readRegistryScan(ctx, scanners)
		}
		switch key := registryScan(); {
		case err == nil:
		case s.only != nil || s.p.all() || s.p.desired(key) != nil || !errors.Is(err, providers.ErrForbidden):
			return err
		default:
			s.bar(err, key, "scan-all:read and scanner:list", "")
		}
	}
	return s.each(ctx, func(ctx context.Context, p api.Project) error {
		key := below(schema.KindScan, p.Name)
		want, _ := s.p.desired(key).(*schema.Scan)
		spec := &schema.Scan{OnPush: new(yes(p.Metadata[metaScan])), SBOM: new(yes(p.Metadata[metaSBOM])), Block: new(blockOf(p))}
		switch list, has := p.Metadata[metaShared]; {
		case has && !yes(list):
			spec.Allow = allowed(p.Allow.Items, p.Allow.Expires)
		case want != nil && want.Allow != nil:
			spec.Allow = []schema.AllowedCVE{{CVE: shared}}
		}
		// with one scanner there is nothing to choose, and no need to ask
		if len(scanners) > 1 || want != nil && want.Scanner != nil {
			id, err := s.c.ProjectScanner(ctx, p.Name)
			switch {
			case err == nil:
				spec.Scanner = new(scannerName(scanners, id))
			case want == nil || want.Scanner != nil || !errors.Is(err, providers.ErrForbidden):
				return s.hidden(err, key, "metadata:list")
			}
		}
		s.add(key, p.ID, spec)
		return nil
	})
}

// scannersCount reports whether something is declared that takes to know the scanners.
func (s *site) scannersCount() bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return slices.ContainsFunc(s.p.wanted.Resources, func(r schema.Resource) bool {
		spec, ok := r.Spec.(*schema.Scan)
		return ok && (r.Key == registryScan() || spec.Scanner != nil)
	})
}

func (s *site) readRegistryScan(ctx context.Context, scanners []api.Scanner) error {
	when, err := s.c.ScanAll(ctx)
	if err != nil {
		return err
	}
	list, err := s.c.SystemAllowlist(ctx)
	if err != nil {
		return err
	}
	spec := &schema.Scan{Default: new(""), Schedule: new(noSchedule), Allow: allowed(list.Items, list.Expires)}
	if i := slices.IndexFunc(scanners, func(x api.Scanner) bool { return x.Default }); i >= 0 {
		spec.Default = &scanners[i].Name
	}
	if !when.None() {
		spec.Schedule = new(sixFields(when.Cron))
	}
	s.add(registryScan(), 0, spec)
	return nil
}

func scannerName(list []api.Scanner, id string) string {
	i := slices.IndexFunc(list, func(x api.Scanner) bool { return x.UUID == id })
	if i < 0 { // none, or one that is gone
		return ""
	}
	return list[i].Name
}

// blockOf is from which severity on a project refuses pulls. One that is switched
// on from none, or from a severity that Harbor does not know, lets no vulnerability
// through.
func blockOf(p api.Project) string {
	if !yes(p.Metadata[metaBlock]) {
		return "none"
	}
	severity := strings.ToLower(p.Metadata[metaFrom])
	if !slices.Contains([]string{"low", "medium", "high", "critical"}, severity) {
		return anySeverity
	}
	return severity
}

// allowed is a list as Harbor keeps it: with one end for all.
func allowed(items []api.CVE, expires *int64) []schema.AllowedCVE {
	out := []schema.AllowedCVE{}
	var until schema.Date
	if expires != nil && *expires > 0 {
		until = schema.DateOf(time.Unix(*expires-1, 0))
	}
	for _, x := range items {
		out = append(out, schema.AllowedCVE{CVE: x.ID, Until: until})
	}
	return out
}

// normalScan brings a list of allowed vulnerabilities to Harbor's form. Each is
// taken out when its day has passed; what Harbor itself ends is all of them, with
// the last. Reasons are for who reads the file.
func normalScan(n *normal, r schema.Resource) (schema.Spec, error) {
	spec, ok := r.Spec.(*schema.Scan)
	if !ok {
		return r.Spec, nil
	}
	out := *spec
	if spec.Schedule != nil {
		out.Schedule = new(sixFields(*spec.Schedule))
	}
	if spec.Allow == nil {
		return &out, nil
	}
	var last schema.Date
	ends, differ := true, false
	out.Allow = []schema.AllowedCVE{}
	for _, x := range spec.Allow {
		if x.Until != (schema.Date{}) && x.Until.Before(n.today) {
			n.say(r.Key, "%s was allowed until %s, and is no longer", x.CVE, x.Until)
			continue
		}
		if len(out.Allow) > 0 && x.Until != last {
			differ = true
		}
		ends = ends && x.Until != (schema.Date{})
		if last.Before(x.Until) {
			last = x.Until
		}
		if !slices.ContainsFunc(out.Allow, func(y schema.AllowedCVE) bool { return y.CVE == x.CVE }) { // Harbor answers 500 to one that stands twice
			out.Allow = append(out.Allow, schema.AllowedCVE{CVE: x.CVE})
		}
	}
	if ends {
		for i := range out.Allow {
			out.Allow[i].Until = last
		}
	}
	if differ {
		n.say(r.Key, "Harbor has one end for the whole list, which is the latest; the next apply after its day takes each out")
	}
	return &out, nil
}

// expiry is when a list ends, in seconds of Unix time: with its last day, in UTC.
func expiry(list []schema.AllowedCVE) *int64 {
	if len(list) == 0 || list[0].Until == (schema.Date{}) {
		return nil
	}
	d := list[0].Until
	return new(time.Date(d.Year, time.Month(d.Month), d.Day, 0, 0, 0, 0, time.UTC).AddDate(0, 0, 1).Unix())
}

func allowlist(list []schema.AllowedCVE) api.Allowlist {
	out := api.Allowlist{Items: []api.CVE{}, Expires: expiry(list)}
	for _, x := range list {
		out.Items = append(out.Items, api.CVE{ID: x.CVE})
	}
	return out
}

// prepareScan refuses what Harbor has only for projects, or only for all of them.
func prepareScan(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Delete {
		return nil
	}
	want, err := after[*schema.Scan](c)
	if err != nil {
		return err
	}
	refuse := func(not string, fields ...string) {
		if touches(c, fields...) {
			v.Refused = fmt.Sprintf("Harbor has %s only for %s", strings.Join(fields, ", "), not)
		}
	}
	if touches(c, "sbom") && of(want.SBOM, false) && s.c.Before(2, 11) {
		v.Refused = fmt.Sprintf("this Harbor (%s) makes no bills of material, and says nothing: 2.11 and later do; take sbom out", s.c.Version)
		return nil
	}
	if c.Key != registryScan() {
		for field, set := range map[string]bool{"default": want.Default != nil, "schedule": want.Schedule != nil} {
			if set {
				refuse("the registry as a whole: declare it in [scan]", field)
			}
		}
		if v.Refused != "" || want.Scanner == nil || !touches(c, "scanner") {
			return nil
		}
		if *want.Scanner != "" {
			return s.known(ctx, *want.Scanner, v)
		}
		return s.giveUp(ctx, c, v)
	}
	for field, set := range map[string]bool{"on_push": want.OnPush != nil, "sbom": want.SBOM != nil, "block": want.Block != nil, "scanner": want.Scanner != nil} {
		if set {
			refuse("a namespace: declare it there, or in [defaults.namespace]", field)
		}
	}
	switch {
	case v.Refused != "":
	case touches(c, "default") && of(want.Default, "") == "":
		v.Refused = "Harbor gives up no default scanner; name another one"
	case touches(c, "schedule") && want.Schedule != nil:
		v.Refused = unschedulable(*want.Schedule)
	}
	if touches(c, "allow") && v.Refused == "" && !s.c.Admin() {
		v.Refused = "Harbor lets no robot set what vulnerabilities the registry allows; name an administrator's account in registry.admin"
	}
	if v.Refused != "" || want.Default == nil || !touches(c, "default") {
		return nil
	}
	return s.known(ctx, *want.Default, v)
}

// known refuses a scanner that is neither there nor about to be made.
func (s *site) known(ctx context.Context, name string, v *providers.Verdict) error {
	key := schema.Key{Kind: schema.KindScanner, Name: name}
	for _, c := range s.planned {
		if c.Key != key {
			continue
		}
		if c.Action == plan.Delete {
			v.Refused = fmt.Sprintf("%s goes in the same run; keep it, or name another", key)
		}
		return nil
	}
	_, err := s.scanner(ctx, name)
	switch {
	case errors.Is(err, providers.ErrForbidden):
		v.Refused = fmt.Sprintf("the account in use may not list scanners, and Harbor knows %s by a number; give it scanner:list of the system", key)
	case errors.Is(err, providers.ErrNotFound):
		v.Refused = fmt.Sprintf("there is no %s; declare it as [scanner.%s]", key, name)
	default:
		return err
	}
	return nil
}

// giveUp refuses to take the scanner from a project that has one: its own, or the
// default, which a new project has.
func (s *site) giveUp(ctx context.Context, c plan.Change, v *providers.Verdict) error {
	if c.Action == plan.Create {
		list, err := s.allScanners(ctx)
		if err != nil && !errors.Is(err, providers.ErrForbidden) {
			return err
		}
		if !slices.ContainsFunc(list, func(x api.Scanner) bool { return x.Default }) {
			return nil
		}
	}
	v.Refused = "Harbor takes no scanner from a project; name another one, or leave scanner out"
	return nil
}

// sameScan compares all but the default scanner: the first that is made becomes it
// by itself.
func sameScan(a, b schema.Spec) bool {
	x, ok := a.(*schema.Scan)
	y, fits := b.(*schema.Scan)
	if !ok || !fits {
		return false
	}
	one, other := *x, *y
	one.Default, other.Default = nil, nil
	return alike(&one, &other)
}

func writeScan(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete { // nobody's any more, and what it is
		return nil
	}
	want, err := after[*schema.Scan](c)
	if err != nil {
		return err
	}
	have, ok := live.Spec.(*schema.Scan)
	if !ok {
		return fmt.Errorf("%w: how it is scanned cannot be seen", providers.ErrNotFound)
	}
	if c.Key == registryScan() {
		return s.writeRegistryScan(ctx, c, want, have)
	}
	u := api.ProjectUpdate{Metadata: map[string]string{}}
	flag := func(name string, want, have *bool) {
		if want != nil && *want != of(have, false) {
			u.Metadata[name] = strconv.FormatBool(*want)
		}
	}
	flag(metaScan, want.OnPush, have.OnPush)
	flag(metaSBOM, want.SBOM, have.SBOM)
	if want.Block != nil && *want.Block != of(have.Block, "") {
		u.Metadata[metaBlock] = strconv.FormatBool(*want.Block != "none")
		switch *want.Block {
		case "none":
		case anySeverity:
			u.Metadata[metaFrom] = "none"
		default:
			u.Metadata[metaFrom] = *want.Block
		}
	}
	if want.Allow != nil && touches(c, "allow") {
		u.Metadata[metaShared] = "false"
		u.Allow = new(allowlist(want.Allow))
	}
	if len(u.Metadata) > 0 {
		if err := s.c.UpdateProject(ctx, c.Key.Name, u); err != nil {
			return err
		}
	}
	if want.Scanner == nil || have.Scanner != nil && *want.Scanner == *have.Scanner {
		return nil
	}
	id := ""
	if *want.Scanner != "" {
		x, err := s.scanner(ctx, *want.Scanner)
		if err != nil {
			return err
		}
		id = x.UUID
	}
	return s.c.SetProjectScanner(ctx, c.Key.Name, id)
}

// writeRegistryScan sets the default scanner before the schedule, which Harbor
// takes only with one.
func (s *site) writeRegistryScan(ctx context.Context, c plan.Change, want, have *schema.Scan) error {
	if want.Allow != nil && touches(c, "allow") {
		if err := s.c.SetSystemAllowlist(ctx, allowlist(want.Allow)); err != nil {
			return err
		}
	}
	if name := of(want.Default, ""); name != "" && name != of(have.Default, "") {
		x, err := s.scanner(ctx, name)
		if err != nil {
			return err
		}
		if err := s.c.SetDefaultScanner(ctx, x.UUID); err != nil {
			return err
		}
	}
	if want.Schedule == nil || *want.Schedule == of(have.Schedule, noSchedule) {
		return nil
	}
	return s.c.SetScanAll(ctx, cron(*want.Schedule))
}
