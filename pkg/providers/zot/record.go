package zot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/pkg/regular"
)

// tailOfLog is how much of a log's end is looked at for what Zot took over
// last, in bytes: a log that nobody rotates may be of any size.
const tailOfLog = 32 << 20

// record is what Zot wrote that it took over last, at its start or later.
type record struct {
	doc     *config.Document
	conf    configuration
	release string    // such as v2.1.20; many builds do not know it
	started time.Time // its last start, zero where the log does not tell
	// begun is what it started with, nil where the log does not tell.
	begun     *config.Document
	begunConf configuration
}

// line is what all of Zot's records have. Clients write some of what others
// have, such as the name of their program.
type line struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
}

// lines calls each for the records that hold one of some texts.
func lines(r io.Reader, texts []string, each func(l line, raw []byte)) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		raw, err := in.ReadBytes('\n')
		if slices.ContainsFunc(texts, func(t string) bool { return bytes.Contains(raw, []byte(t)) }) {
			var l line
			if json.Unmarshal(raw, &l) == nil {
				each(l, raw)
			}
		}
		if err != nil {
			return
		}
	}
}

// scan looks for the last record that tells of a reload since an instant.
func scan(r io.Reader, since time.Time, loaded string) (done, failed bool) {
	lines(r, []string{loaded, recordFailed}, func(l line, _ []byte) {
		switch {
		case l.Time.Before(since):
		case l.Message == loaded:
			done, failed = true, false
		case strings.HasPrefix(l.Message, recordFailed):
			done, failed = false, true
		}
	})
	return done, failed
}

// lastRecord finds it in a log; nil where none is there, or none that can be
// read.
func lastRecord(r io.Reader) *record {
	var last, first []byte
	var started time.Time
	lines(r, []string{`"` + recordStarted + `"`, `"` + recordLoaded + `"`}, func(l line, raw []byte) {
		if l.Message == recordStarted || l.Message == recordLoaded {
			last = raw
		}
		if l.Message == recordStarted {
			started, first = l.Time, raw
		}
	})
	doc, conf, err := tookOver(last)
	if err != nil {
		return nil
	}
	out := record{doc: doc, conf: conf, started: started}
	if tag, ok := doc.Get("ReleaseTag"); ok {
		out.release = strings.Trim(tag, `"`)
	}
	if !bytes.Equal(first, last) {
		doc, conf, err = tookOver(first)
	}
	if err == nil {
		out.begun, out.begunConf = doc, conf
	}
	return &out
}

// tookOver is the configuration that a record tells of.
func tookOver(raw []byte) (*config.Document, configuration, error) {
	var of struct {
		Params   json.RawMessage `json:"params"`
		Reloaded json.RawMessage `json:"reloaded params"`
	}
	if err := json.Unmarshal(raw, &of); err != nil {
		return nil, configuration{}, err
	}
	if of.Reloaded != nil {
		return read("", of.Reloaded)
	}
	return read("", of.Params)
}

// goesOn reports whether Zot goes on with what it began with, whatever the file says.
func (r *record) goesOn(s *site) bool {
	return s.changed.After(r.started) && r.heldBack(s.doc) != ""
}

// running is what Zot runs with then, as far as it is known.
func (r *record) running(s *site) *running {
	conf := s.conf
	conf.HTTP.AccessControl, conf.HTTP.Auth, conf.Storage = r.begunConf.HTTP.AccessControl, r.begunConf.HTTP.Auth, r.begunConf.Storage
	return &running{s.doc, conf, true}
}

// heldBack names a key whose value in a file Zot has not taken over, although it
// may say so: it takes it at a start alone, and began with another. "" is none,
// or not known. What Zot logs has every default, durations as numbers and
// secrets as stars, so that only what can be compared is.
func (r *record) heldBack(now *config.Document) string {
	if r.begun == nil {
		return ""
	}
	for _, path := range others(r.begun, now, func(c config.Change) bool { return c.Reload != config.Live }) {
		return path
	}
	return ""
}

// others are the keys whose values in a file are other ones than Zot logged, as far as
// they can be compared.
func others(logged, file *config.Document, of func(config.Change) bool) (paths []string) {
	for _, c := range config.Compare(logged, file) {
		if ofZotsOwn(c.Path) || !of(c) {
			continue
		}
		have, is := file.Get(c.Path...)
		was, had := logged.Get(c.Path...)
		switch {
		case !is && (!says(logged, c.Path...) || filledIn(file, c.Path, was)):
			continue
		case is && !had && !strings.HasPrefix(have, "{"): // no section
			continue
		case is && had && !differs(json.RawMessage(was), json.RawMessage(have)):
			continue
		}
		paths = append(paths, strings.Join(c.Path, "."))
	}
	return paths
}

// lost are the keys that Zot is known to have run with, at its start or since, and that a
// file does not say so.
func (r *record) lost(file *config.Document) (paths []string) {
	for _, logged := range []*config.Document{r.doc, r.begun} {
		if logged == nil {
			continue
		}
		paths = append(paths, others(logged, file, func(c config.Change) bool {
			_, had := logged.Get(c.Path...)
			return had && (logged == r.doc || c.Reload != config.Live)
		})...)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// differs reports whether a value that Zot logs is another than its file says. What is
// hidden is not known, and what the file leaves out Zot filled in.
func differs(logged, file json.RawMessage) bool {
	logged, file = bytes.TrimSpace(logged), bytes.TrimSpace(file)
	is, was := file[0], logged[0]
	switch {
	case is == 'n' || strings.HasPrefix(string(logged), `"*`):
		return false
	case is == '{' && was == '{':
		return differsInside(logged, file)
	case is == '[' && was == '[':
		var have, want []json.RawMessage
		if json.Unmarshal(logged, &have) != nil || json.Unmarshal(file, &want) != nil || len(have) != len(want) {
			return len(have) != len(want)
		}
		for i := range want {
			if differs(have[i], want[i]) {
				return true
			}
		}
		return false
	case is == '[' && was == 'n':
		return !bytes.Equal(file, []byte("[]"))
	case is == '"' && was == '"':
		return textOf(logged) != textOf(file)
	case is == '"': // a duration, or what Zot takes a text for
		d, err := time.ParseDuration(textOf(file))
		return err == nil && !sameNumber(logged, []byte(strconv.FormatInt(int64(d), 10)))
	case strings.IndexByte("tf", is) >= 0 && strings.IndexByte("tf", was) >= 0:
		return is != was
	}
	return !sameNumber(logged, file)
}

// differsInside is that of tables, by the keys of the file.
func differsInside(logged, file []byte) bool {
	var have, want map[string]json.RawMessage
	if json.Unmarshal(logged, &have) != nil || json.Unmarshal(file, &want) != nil {
		return false
	}
	folded := map[string]json.RawMessage{}
	for key, v := range have {
		folded[strings.ToLower(key)] = v
	}
	for key, v := range want {
		if was, ok := folded[strings.ToLower(key)]; ok && differs(was, v) {
			return true
		}
	}
	return false
}

func textOf(quoted []byte) (s string) {
	if json.Unmarshal(quoted, &s) != nil {
		return string(quoted)
	}
	return s
}

// sameNumber reports whether two numbers are equal; what is none is not known, and
// counts as equal.
func sameNumber(a, b []byte) bool {
	x, err := strconv.ParseFloat(string(a), 64)
	y, also := strconv.ParseFloat(string(b), 64)
	return err != nil || also != nil || x == y
}

// filledIn reports whether Zot fills such a value in where its file says nothing, or
// may do so.
func filledIn(file *config.Document, path []string, logged string) bool {
	at := strings.ToLower(strings.Join(path, "."))
	beside := func(key string) bool {
		_, named := file.Get(append(slices.Clone(path[:len(path)-1]), key)...)
		return named
	}
	switch {
	case strings.HasPrefix(at, "extensions.") && len(path) > 2, strings.HasSuffix(at, ".retention.delay"), at == "log.level", beside("credentialsFile"):
		return true
	case at == "http.auth.apikey":
		_, on := file.Get("extensions", "apikey")
		_, openid := file.Get("http", "auth", "openid")
		return on || openid
	}
	usual := map[string]string{
		"dedupe": "true", "gc": "true", "gcdelay": hourLogged, "gcinterval": hourLogged,
		"address": `"127.0.0.1"`, "port": `"8080"`, "readtimeout": minuteLogged, "writetimeout": minuteLogged,
	}
	return usual[at[strings.LastIndexByte(at, '.')+1:]] == logged
}

// Durations as Zot logs them.
const (
	hourLogged   = "3600000000000"
	minuteLogged = "60000000000"
)

// ofZotsOwn reports whether Zot has a value of its own there, whatever its file says.
func ofZotsOwn(path []string) bool {
	at := strings.ToLower(strings.Join(path, "."))
	section, _, _ := strings.Cut(at, ".")
	return !slices.Contains([]string{"storage", "http", "log", "extensions", "scheduler", "cluster"}, section) || strings.HasSuffix(at, ".credentialsfile")
}

// says reports whether anything stands in what Zot logs, which has every key.
func says(doc *config.Document, path ...string) bool {
	text, ok := doc.Get(path...)
	if strings.HasPrefix(text, "{") {
		return slices.ContainsFunc(doc.Keys(path...), func(key string) bool { return says(doc, append(slices.Clone(path), key)...) })
	}
	return ok && !slices.Contains([]string{"", "null", "false", "0", "[]"}, strings.Trim(text, `"*`))
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
	if name := p.logFile(s); name != "" {
		left := int64(tailOfLog) // of all together
		for _, name := range append([]string{name}, p.rotatedLogs(s)...) {
			if left == 0 {
				break
			}
			var size int64
			if s.record, size = lastRecordOf(name, left); s.record != nil {
				break
			}
			left -= min(left, size)
		}
		return s.record
	}
	r, err := p.openLog(ctx, s, 0)
	if err != nil || r == nil {
		return nil
	}
	defer r.Close()
	s.record = lastRecord(r)
	return s.record
}

// lastRecordOf finds it in the end of a file, and tells how large that is.
func lastRecordOf(name string, most int64) (*record, int64) {
	f, err := tail(name, most)
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	r := lastRecord(f)
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return r, most
	}
	return r, size
}

// scanTail looks for the last record of a reload in the end of a file.
func scanTail(name string, since time.Time, loaded string) (done, failed bool) {
	f, err := tail(name, 1<<20)
	if err != nil {
		return false, false
	}
	defer f.Close()
	return scan(f, since, loaded)
}

// tail opens the end of a file. The caller closes it.
func tail(name string, size int64) (*os.File, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.Size() > size {
		if _, err := f.Seek(-size, io.SeekEnd); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
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

// rulesOf are the rules without what means nothing; no access control is nil,
// which to Zot is another thing than rules that give nothing.
func rulesOf(c configuration) *rules {
	ac := c.HTTP.AccessControl
	if ac == nil {
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
