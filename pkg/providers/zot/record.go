package zot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
)

// tailOfLog is how much of a log's end is looked at for what Zot took over
// last, in bytes: a log that nobody rotates may be of any size.
const tailOfLog = 32 << 20

// record is what Zot wrote that it took over last, at its start or later.
type record struct {
	Params   json.RawMessage `json:"params"`
	Reloaded json.RawMessage `json:"reloaded params"`
	conf     configuration
	release  string // such as v2.1.20; many builds do not know it
}

// lastRecord finds it in a log; nil where none is there, or none that can be
// read.
func lastRecord(r io.Reader) *record {
	lines := bufio.NewReaderSize(r, 1<<20)
	var last []byte
	for {
		line, err := lines.ReadBytes('\n')
		if bytes.Contains(line, []byte(`"`+recordStarted+`"`)) || bytes.Contains(line, []byte(`"`+recordLoaded+`"`)) {
			last = line
		}
		if err != nil {
			break
		}
	}
	var out record
	if last == nil || json.Unmarshal(last, &out) != nil {
		return nil
	}
	if out.Reloaded == nil {
		out.Reloaded = out.Params
	}
	var build struct{ ReleaseTag string }
	var err error
	if out.conf, err = parseConfig(out.Reloaded); err != nil || json.Unmarshal(out.Reloaded, &build) != nil {
		return nil
	}
	out.release = build.ReleaseTag
	return &out
}

// logged is what the log says that Zot took over last; nil where it says
// nothing, or cannot be read.
func (p *Provider) logged(ctx context.Context, s *site) *record {
	if s.looked {
		return s.record
	}
	s.looked = true
	if !p.told(s) {
		return nil
	}
	r, err := p.openLog(ctx, s, 0)
	if err != nil || r == nil {
		return nil
	}
	defer r.Close()
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Size() > tailOfLog {
			if _, err := f.Seek(-tailOfLog, io.SeekEnd); err != nil {
				return nil
			}
		}
	}
	s.record = lastRecord(r)
	return s.record
}

// sameRules reports whether two configurations give the same rights and keep
// the same. They may be spelled otherwise: a log has every default, and
// durations in nanoseconds. Retention that cannot be read with certainty counts
// as the same.
func sameRules(a, b configuration) bool {
	return bytes.Equal(encoded(rulesOf(a)), encoded(rulesOf(b))) && sameRetention(a, b)
}

type rules struct {
	Repositories map[string]policyGroup
	Admin        policy
	Groups       map[string]groupMembers
}

// rulesOf are the rules without what means nothing; no rules at all are nil,
// which to Zot is another thing than rules that give nothing.
func rulesOf(c configuration) *rules {
	ac := c.HTTP.AccessControl
	if ac == nil || len(ac.Repositories) == 0 && ac.AdminPolicy == nil && len(ac.Groups) == 0 {
		return nil
	}
	out := rules{Repositories: map[string]policyGroup{}, Admin: tidied(policy{}), Groups: map[string]groupMembers{}}
	for name, g := range ac.Repositories {
		r := policyGroup{DefaultPolicy: sorted(g.DefaultPolicy), AnonymousPolicy: sorted(g.AnonymousPolicy), Policies: []policy{}}
		for _, one := range g.Policies {
			r.Policies = append(r.Policies, tidied(one))
		}
		out.Repositories[name] = r
	}
	if ac.AdminPolicy != nil {
		out.Admin = tidied(*ac.AdminPolicy)
	}
	for name, g := range ac.Groups {
		out.Groups[name] = groupMembers{sorted(g.Users)}
	}
	return &out
}

func tidied(p policy) policy {
	c := policy{Users: sorted(p.Users), Groups: sorted(p.Groups), Actions: sorted(p.Actions)}
	if len(p.Conditions) > 0 {
		c.Conditions = p.Conditions
	}
	return c
}

func sorted(w words) words {
	out := append(words{}, w...)
	slices.Sort(out)
	return out
}

// keeping is a policy of retention as far as it is compared.
type keeping struct {
	Repositories    []string
	DeleteReferrers bool
	DeleteUntagged  *bool
	KeepTags        []keepingTags
}

type keepingTags struct {
	Patterns                                         []string
	PulledWithin, PushedWithin                       *span
	MostRecentlyPushedCount, MostRecentlyPulledCount int
}

func sameRetention(a, b configuration) bool {
	one, known := keeps(a)
	two, also := keeps(b)
	return !known || !also || bytes.Equal(encoded(one), encoded(two))
}

func keeps(c configuration) (map[string][]keeping, bool) {
	out := map[string][]keeping{}
	for _, s := range c.stores() {
		for _, raw := range s.policies {
			var k keeping
			if json.Unmarshal(raw, &k) != nil {
				return nil, false
			}
			if k.DeleteUntagged == nil {
				k.DeleteUntagged = new(true)
			}
			out[s.route] = append(out[s.route], k)
		}
	}
	return out, true
}
