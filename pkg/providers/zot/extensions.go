package zot

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// An extension is a build tag of Zot's. A Zot that was built without one takes
// its section of the configuration, and does nothing with it but say so, once,
// when it starts.

// skipped is that record, as Zot 2.1.6 and 2.1.20 have it.
var skipped = regexp.MustCompile(`skipping enabling (\w+) extension because given zot binary doesn't include this feature`)

// neededBy are the extensions that do what an object says, sorted.
func neededBy(spec schema.Spec) (names []string) {
	switch s := spec.(type) {
	case *schema.Webhook:
		return []string{"events"}
	case *schema.Scan:
		return []string{"search"}
	case *schema.Replication:
		if s.From != nil {
			return []string{"sync"}
		}
	case *schema.Namespace:
		if s.ProxyOf != nil {
			return []string{"sync"}
		}
	case *schema.Settings:
		for _, v := range s.Values {
			name := strings.TrimPrefix(strings.TrimSuffix(strings.ToLower(v.Path), ".enable"), "extensions.")
			if v.JSON == "true" && strings.ToLower(v.Path) == "extensions."+name+".enable" && !noExtension(name) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	}
	return names
}

// needs are the extensions that a change needs.
func needs(c plan.Change) []string {
	if c.After == nil || c.Action == plan.Delete {
		return nil
	}
	names := neededBy(asked(c))
	for _, f := range c.Fields {
		if name, ok := strings.CutPrefix(f.Path, "values."+extensionPath); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// lacks lists those of some extensions that this Zot does nothing with and says
// why, or none where it does or nobody can tell: by how its program was built, or
// else by what it said when it started, or else by what it answers.
func (p *Provider) lacks(ctx context.Context, s *site, st status, needs []string) (names []string, why string) {
	if len(needs) == 0 {
		return nil, ""
	}
	who := "this Zot, says its log,"
	if program, has, ok := p.built(); ok {
		who = program
		names = slices.DeleteFunc(slices.Clone(needs), func(n string) bool { return slices.Contains(has, n) })
	} else if said := p.saidSkipped(ctx, s); slices.ContainsFunc(needs, func(n string) bool { return slices.Contains(said, n) }) {
		names = slices.DeleteFunc(slices.Clone(needs), func(n string) bool { return !slices.Contains(said, n) })
	} else if slices.Contains(needs, "search") && p.answersWithout(ctx, s, st, searchPath) {
		who, names = "this Zot, as it answers "+discoverPath+",", []string{"search"}
	}
	if len(names) == 0 {
		return nil, ""
	}
	return names, without(who, names)
}

// discoverPath is where a Zot lists the addresses of the extensions that it was
// built with and that are on; see recordings of 2.1.6 and 2.1.20. Only search has
// one that is there whenever it is on.
const discoverPath = "/v2/_oci/ext/discover"

// answersWithout reports whether a Zot that runs with the file as it is, which has
// search on, does not list its address. Who began otherwise may have it.
func (p *Provider) answersWithout(ctx context.Context, s *site, st status, address string) bool {
	if s.doc == nil || !st.running || !s.conf.searches() || st.started.IsZero() || !p.known(s, st) && s.changed.After(st.started) || p.inForce(ctx, s, st) != nil {
		return false
	}
	if s.discovered == nil {
		s.discovered = p.discover(ctx)
	}
	return *s.discovered != "" && !strings.Contains(*s.discovered, strconv.Quote(address))
}

// discover is the answer as it came; "" is none.
func (p *Provider) discover(ctx context.Context) *string {
	text := new("")
	client, rt, err := p.client()
	if err != nil {
		return text
	}
	defer rt.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.Scheme+"://"+p.url.Host+discoverPath, nil)
	if err != nil {
		return text
	}
	if user, password, err := p.login(ctx); err == nil && user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return text
	}
	defer resp.Body.Close()
	var answer struct {
		Extensions []struct {
			Endpoints []string `json:"endpoints"`
		} `json:"extensions"`
	}
	if b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err == nil && resp.StatusCode == http.StatusOK && json.Unmarshal(b, &answer) == nil && answer.Extensions != nil {
		*text = string(b)
	}
	return text
}

// extensionPath begins the values among the settings that say of an extension that
// the file has on whether this Zot was built with it.
const (
	extensionPath  = "process.extension."
	extensionBuilt = `"built in"`
	extensionNot   = `"not built in"`
)

// on reports whether the configuration has an extension on.
func (s *site) on(name string) bool {
	if s.doc == nil {
		return false
	}
	if _, ok := s.doc.Get("extensions", name); !ok {
		return false
	}
	enable, said := s.doc.Get("extensions", name, "enable")
	return !said || truth(json.RawMessage(enable), true)
}

// idle are the extensions that the file has on and this Zot lacks.
func (p *Provider) idle(ctx context.Context, s *site, st status) (values schema.Values) {
	if s.doc == nil {
		return nil
	}
	var on []string
	for _, key := range s.doc.Keys("extensions") {
		if name := strings.ToLower(key); s.on(name) && !noExtension(name) {
			on = append(on, name)
		}
	}
	lacking, _ := p.lacks(ctx, s, st, on)
	for _, name := range lacking {
		values = append(values, schema.Value{Path: extensionPath + name, JSON: extensionNot})
	}
	return values
}

// missed are the values of those that a mode needs: they shall be built in.
func (p *Provider) missed(st schema.State) (values schema.Values) {
	var names []string
	for _, r := range st.Resources {
		names = append(names, neededBy(r.Spec)...)
	}
	if len(names) == 0 {
		return nil
	}
	ctx := context.Background()
	s, err := p.load(ctx)
	if err != nil {
		return nil // which reading says
	}
	now, err := p.status(ctx, s)
	if err != nil {
		return nil
	}
	for _, v := range p.idle(ctx, s, now) {
		if slices.Contains(names, strings.TrimPrefix(v.Path, extensionPath)) {
			values = append(values, schema.Value{Path: v.Path, JSON: extensionBuilt})
		}
	}
	return values
}

// noExtension are keys of the section that stand for none of that name.
func noExtension(name string) bool { return name == "apikey" || name == "trust" || name == "mgmt" }

func without(who string, names []string) string {
	if len(names) == 1 {
		return fmt.Sprintf("%s was built without Zot's extension %s, and does nothing with it; run one that has it", who, names[0])
	}
	return fmt.Sprintf("%s was built without Zot's extensions %s, and does nothing with them; run one that has them", who, strings.Join(names, ", "))
}

// built are the extensions of Zot's program; ok is false where it is not at hand
// or does not tell.
func (p *Provider) built() (program string, has []string, ok bool) {
	if p.program() == "" {
		return "", nil, false
	}
	program, err := exec.LookPath(p.program())
	if err != nil {
		return "", nil, false
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", nil, false
	}
	has, ok = tagsOf(info)
	return program, has, ok
}

// tagsOf are the build tags of a Zot; ok is false for another program.
func tagsOf(info *debug.BuildInfo) (tags []string, ok bool) {
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			tags = strings.Split(s.Value, ",")
		}
	}
	return tags, strings.HasSuffix(info.Path, "/cmd/zot")
}

// saidSkipped are the extensions that Zot said, when it started last, that it was
// built without. Only those that were enabled then are.
func (p *Provider) saidSkipped(ctx context.Context, s *site) (names []string) {
	if s.skipped != nil {
		return s.skipped
	}
	names = []string{}
	defer func() { s.skipped = names }()
	read := func(r io.Reader) {
		lines(r, []string{`"` + recordStarted + `"`, "skipping enabling "}, func(l line, _ []byte) {
			if l.Message == recordStarted {
				names = names[:0]
			} else if m := skipped.FindStringSubmatch(l.Message); m != nil {
				names = append(names, m[1])
			}
		})
	}
	if name := p.logFile(s); name != "" {
		f, err := tail(name, tailOfLog)
		if err != nil {
			return names
		}
		defer f.Close()
		read(f)
		return names
	}
	r, err := p.openLog(ctx, s, 0)
	if err != nil || r == nil {
		return names
	}
	defer r.Close()
	read(r)
	return names
}

// skippedOf tells, of what is written and in force, what the Zot that was started
// with it does nothing with.
func (w *writer) skippedOf(ctx context.Context, changes []plan.Change) map[schema.Key]error {
	if !slices.ContainsFunc(changes, func(c plan.Change) bool { return len(needs(c)) > 0 }) {
		return nil
	}
	w.s.skipped, w.s.discovered = nil, nil // it may have started since
	out := map[schema.Key]error{}
	for _, c := range changes {
		if _, why := w.p.lacks(ctx, w.s, w.st, needs(c)); why != "" {
			out[c.Key] = fmt.Errorf("%w: it is written, and %s", providers.ErrUnsupported, why)
		}
	}
	return out
}
