package load

import (
	"encoding/base64"
	"fmt"
	"mime"
	"net"
	"net/mail"
	"net/url"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // so that a zone is known on every machine alike

	"github.com/Masterminds/semver/v3"
	"github.com/adhocore/gronx"
	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/schema"
)

var (
	// The grammar of names in the OCI distribution specification.
	repository = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	digest     = regexp.MustCompile(`^sha(256:[a-f0-9]{64}|512:[a-f0-9]{128})$`)
	// The numbers of the CVE program: a year and at least four digits.
	cveID = regexp.MustCompile(`^CVE-\d{4}-\d{4,19}$`)
	// Those of others, such as GHSA-jfh8-c2jp-5v3q, RHSA-2021:1234 and TEMP-0290435-0B57B5.
	advisory  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*-[A-Za-z0-9][A-Za-z0-9._:+-]{0,119}$`)
	colour    = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)
	envName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	robotName = regexp.MustCompile(`^[a-z0-9]+(?:[._-]+[a-z0-9]+)*$`)
	platform  = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+(?:/[a-z0-9]+)?$`)
)

// rule is a condition on a text that CUE cannot put well: "" when it holds,
// else what would be right.
func rule(name, s string) string {
	ok := true
	want := ""
	switch name {
	case "size":
		_, err := schema.ParseSize(s)
		ok, want = err == nil, `write a whole number and KiB, MiB, GiB or TiB, such as "500GiB", or "unlimited"`
	case "duration", "span":
		v, err := schema.ParseDuration(s)
		ok, want = err == nil, `write whole numbers with w, d, h, m or s, largest first, such as "90d" or "1h30m"`
		if name == "span" {
			ok = ok && v >= 0
		} else {
			want += `, or "never"`
		}
	case "schedule":
		ok, want = schedule(s), `write 5 or 6 cron fields such as "0 3 * * *", "@daily", "@every 1h" or "none"`
	case "cron":
		ok, want = schedule(s) && s != "none" && !strings.HasPrefix(s, "@every"), `write 5 or 6 cron fields, such as "0 18 * * FRI"`
	case "zone":
		_, err := time.LoadLocation(s)
		ok, want = err == nil && s != "" && s != "Local", `write a name such as "Europe/Madrid" or "UTC"`
	case "date":
		_, err := schema.ParseDate(s)
		ok, want = err == nil, "write year-month-day, such as 2027-01-31"
	case "glob", "pathglob":
		ok, want = s != "" && doublestar.ValidatePattern(s), "write a pattern such as \"v*\"; [ and { need their end, and \\ takes the next character as it is"
	case "regex":
		_, err := syntax.Parse(s, syntax.Perl) // which is all that can fail of regexp.Compile
		ok, want = err == nil && len(s) <= 1000, `write a regular expression in Go's syntax, such as "^v[0-9]+$"`
	case "semver":
		_, err := semver.NewConstraint(s)
		ok, want = err == nil, `write a range such as ">=3.20" or "~1.4"`
	case "cve":
		ok, want = cveID.MatchString(s), `write "CVE-2026-1234", or as scanners report it, such as "GHSA-jfh8-c2jp-5v3q"`
		if !strings.HasPrefix(strings.ToUpper(s), "CVE-") {
			ok = advisory.MatchString(s)
		}
	case "color":
		ok, want = colour.MatchString(s), `write # and six hexadecimal digits, such as "#2E7D32"`
	case "email":
		a, err := mail.ParseAddress(s)
		ok, want = s == "" || err == nil && a.Address == s, `write an address such as "developer@example.com"`
	case "url":
		want = webURL(s)
		ok = want == ""
	case "address":
		if want = webURL(s); want == "" && !hostOnly(s) {
			want = `write no more than https:// or http://, the host and its port, such as "https://registry.example.com:5000"`
		}
		ok = want == ""
	case "origin":
		u, err := url.Parse(s)
		_, good := schema.Origin(s)
		ok = err == nil && good && u.User == nil && hostOnly(s)
		want = `write https:// or http:// and the host, with its port if it has one, such as "https://registry.example.com"`
	case "s3":
		u, err := url.Parse(s)
		ok, want = err == nil && u.Scheme == "s3" && u.Host != "" && u.User == nil, `write "s3://bucket/path"`
	case "backup":
		dir := strings.TrimPrefix(s, "oci:")
		u, err := url.Parse(dir)
		ok, want = err == nil && dir != "" && u.User == nil && (u.Scheme == "" || dir == s && u.Scheme == "s3" && u.Host != ""), `write "s3://bucket/path" or a directory`
	case "repository":
		ok, want = len(s) <= 255 && repository.MatchString(s), "write a repository of this registry in lower case, without registry or tag, such as \"team-a/api\""
	case "repository_tag":
		repo, tag, found := strings.Cut(s, ":")
		ok, want = found && len(repo) <= 255 && repository.MatchString(repo) && tagName.MatchString(tag), `write a repository of this registry and a tag, such as "team-a/schemas:1.4.0"`
	case "image":
		_, _, ok = image(s)
		want = `write registry/repository:tag, such as "ghcr.io/project-zot/zot:v2.1.20"`
	case "image_repository":
		repo, rest, good := image(s)
		ok, want = good && rest == "" && repo != "", `write registry/repository without a tag, such as "docker.io/library/alpine"`
		if host, rest, plain := strings.Cut(strings.TrimPrefix(s, "http://"), "/"); strings.HasPrefix(s, "http://") && plain && rest != "" {
			want = fmt.Sprintf(`write it without http://, and have a [remote.N] with url = "http://%s"`, host)
		}
	case "platform":
		ok, want = platform.MatchString(s), `write system/architecture, such as "linux/amd64" or "linux/arm/v7"`
	case "media_type":
		m, _, err := mime.ParseMediaType(s)
		ok, want = err == nil && strings.Contains(m, "/"), `write a media type, such as "application/vnd.example.package.v1"`
	case "listen":
		_, port, err := net.SplitHostPort(s)
		n, perr := strconv.ParseUint(port, 10, 16)
		ok, want = err == nil && perr == nil && n <= 65535, `write host:port, such as "127.0.0.1:5000"`
	case "verify":
		key, found := strings.CutPrefix(s, "ed25519:")
		raw, err := base64.StdEncoding.DecodeString(key)
		ok, want = found && err == nil && len(raw) == 32, `write "ed25519:" and the base64 of the 32 bytes of a public key`
	case "subject":
		_, err := schema.SubjectPattern(s)
		ok, want = err == nil, `write an address, or a URL with * only behind the host and the first part of the path, such as "https://github.com/team/app/.github/workflows/release.yml@refs/tags/*"`
	case "name":
		ok, want = plainName.MatchString(s), "write letters, digits, dots, - and _, a letter or digit first"
	case "abspath":
		ok, want = path.IsAbs(s) && path.Clean(s) == strings.TrimSuffix(s, "/") && !strings.ContainsRune(s, 0), `write a path from the root, without "..", such as "/run/secrets/name"`
	case "pattern":
		kind, glob, found := strings.Cut(s, "/")
		want = `write a kind, a slash and a pattern of names, such as "namespace/team-*"`
		k := schema.Kind(kind)
		switch {
		case !k.Valid():
			ok = false
			if near := suggest(kind, kindNames()); near != "" {
				want = `did you mean "` + strings.TrimSuffix(near+"/"+glob, "/") + `"?`
			}
		case found:
			ok = glob != "" && doublestar.ValidatePattern(glob)
		default:
			ok = k.Single() && !k.OfNamespace() || k == schema.KindScan
		}
	case "drift":
		ok = s == "default" || schema.Kind(s).Valid()
		want = oneOf(s, append(kindNames(), "default"))
	}
	if ok {
		return ""
	}
	return want
}

// ruleSample is a text that a rule accepts, as TOML.
func ruleSample(name string) string {
	return map[string]string{
		"size": `"500GiB"`, "duration": `"90d"`, "span": `"90d"`, "schedule": `"0 3 * * *"`, "cron": `"0 18 * * FRI"`,
		"zone": `"Europe/Madrid"`, "date": "2027-01-31", "glob": `"v*"`, "pathglob": `"files/**"`, "regex": `"^v[0-9]+$"`,
		"semver": `">=1.4"`, "cve": `"CVE-2026-1234"`, "color": `"#2E7D32"`, "email": `"name@example.com"`,
		"url": `"https://registry.example.com"`, "address": `"https://registry.example.com"`, "s3": `"s3://bucket/path"`, "origin": `"https://registry.example.com"`, "backup": `"s3://bucket/path"`,
		"repository": `"team-a/api"`, "repository_tag": `"team-a/api:1.0"`, "image": `"ghcr.io/example/app:v1"`,
		"image_repository": `"docker.io/library/alpine"`, "platform": `"linux/amd64"`, "listen": `"127.0.0.1:5000"`,
		"abspath": `"/run/secrets/name"`, "verify": `"ed25519:cHVibGlj…"`, "subject": `"https://github.com/team/app/.github/workflows/release.yml@refs/tags/*"`, "path": `"certs/ca.pem"`, "pattern": `"namespace/*"`, "env": `"OCISYNC_PASSWORD"`,
	}[name]
}

func kindNames() []string {
	var names []string
	for _, k := range schema.Kinds() {
		names = append(names, string(k))
	}
	return sorted(names)
}

// schedule accepts cron with 5 or 6 fields (seconds first), the @words,
// "@every" with a duration, and "none".
func schedule(s string) bool {
	if s == "none" {
		return true
	}
	if every, ok := strings.CutPrefix(s, "@every "); ok {
		d, err := schema.ParseDuration(every)
		return err == nil && d > 0
	}
	if strings.HasPrefix(s, "@") {
		return slices.Contains([]string{"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}, s)
	}
	n := len(strings.Fields(s))
	return (n == 5 || n == 6) && len(s) <= 200 && gronx.IsValid(s)
}

// webURL tells what is wrong with a URL, "" if nothing.
func webURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || strings.ContainsAny(s, " \t\n"):
		return `write a whole URL, such as "https://registry.example.com"`
	case u.Scheme != "http" && u.Scheme != "https":
		return "begin it with https:// or http://"
	case u.User != nil:
		return "leave user and password out of the URL; an account goes where the table has a key for it"
	case u.Fragment != "":
		return "leave out the part from # on"
	case !validPort(u.Port()):
		return "write a port up to 65535, or none"
	}
	return ""
}

func validPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil
}

// hostOnly reports whether a URL says nothing behind its host and port.
func hostOnly(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Path == "" || u.Path == "/") && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}

// image splits registry/repository:tag@digest; rest is the tag and digest.
func image(s string) (repo, rest string, ok bool) {
	name, dig, pinned := strings.Cut(s, "@")
	if pinned && !digest.MatchString(dig) {
		return "", "", false
	}
	host, p, found := strings.Cut(name, "/")
	if found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		if _, err := url.Parse("https://" + host); err != nil || host == "" || strings.ContainsAny(host, "@?#_ ") {
			return "", "", false
		}
	} else {
		host, p = "", name
	}
	p, tag, tagged := strings.Cut(p, ":")
	if tagged && !tagName.MatchString(tag) || len(p) > 255 || !repository.MatchString(p) {
		return "", "", false
	}
	if tagged {
		rest = ":" + tag
	}
	if pinned {
		rest += "@" + dig
	}
	if host != "" {
		p = host + "/" + p
	}
	return p, rest, true
}

// Bounds of texts: in bytes of any, and of one that a rule looks at.
const (
	maxText  = 64 << 10
	maxRuled = 2048
)

// Bounds of what is costly to look at, for the different texts of one run.
const (
	maxZones   = 1000     // names of time zones; there are some 600
	maxRegexes = 64 << 10 // bytes of regular expressions
	maxPaths   = 10_000   // files that are named
)

// spend counts what a costly rule may still cost: "" if it may be asked, else
// what would be right.
func (c *checker) spend(rule string, bytes int) string {
	switch rule {
	case "zone":
		if c.spent.zones++; c.spent.zones > maxZones {
			return fmt.Sprintf("at most %d different time zones are read, which are more than there are", maxZones)
		}
	case "regex":
		if c.spent.regexes += bytes; c.spent.regexes > maxRegexes {
			return fmt.Sprintf("at most %d KiB of different regular expressions are read; write fewer, or use globs", maxRegexes>>10)
		}
	}
	return ""
}

// rules applies a definition's rules to a text and returns the text to decode,
// which differs for paths.
func (c *checker) rules(n *Node, d *def, at string) string {
	s := n.Text
	most := maxText
	if len(d.checks) > 0 {
		most = maxRuled
	}
	if len(s) > most {
		c.report(n, at, fmt.Sprintf("the text has %d bytes", len(s)), fmt.Sprintf("at most %d are read here", most))
		return ""
	}
	for _, name := range d.checks {
		if kind, ok := strings.CutPrefix(name, "ref_"); ok {
			c.reference(n, kind, at, false)
			continue
		}
		switch name {
		case "path", "pathglob":
			if c.inMode {
				s = c.path(n, at)
			}
			if name == "path" {
				continue
			}
		case "env":
			if !envName.MatchString(s) { // what stands there may be the secret itself
				c.hide(n)
				c.report(n, at, "this is not the name of an environment variable", `write a name such as "OCISYNC_PASSWORD"`)
			}
			continue
		}
		key := name + "\x00" + n.Text
		good, known := c.checked[key]
		if known && good {
			continue
		}
		want := c.spend(name, len(s))
		if want == "" {
			want = rule(name, n.Text)
		}
		if len(c.checked) < 100_000 {
			c.checked[key] = want == ""
		}
		if want == "" {
			continue
		}
		if name == "url" || name == "origin" || name == "address" {
			c.hideURL(n)
		}
		c.report(n, at, c.shown(n)+" is not "+ruleName(name), want)
	}
	return s
}

// shown quotes a text in a message; a URL with a password not at all.
func (c *checker) shown(n *Node) string {
	if strings.Contains(n.Text, "@") && strings.Contains(n.Text, "://") {
		return "the text"
	}
	return `"` + clip(n.Text) + `"`
}

func ruleName(rule string) string {
	switch rule {
	case "span", "duration":
		return "a length of time"
	case "cron":
		return "a cron expression"
	case "zone":
		return "a time zone"
	case "glob", "pathglob":
		return "a pattern"
	case "regex":
		return "a regular expression"
	case "semver":
		return "a range of versions"
	case "cve":
		return "the number of a vulnerability"
	case "color":
		return "a colour"
	case "email":
		return "a mail address"
	case "origin", "address":
		return "the address of a registry"
	case "url", "s3":
		return "a URL that can be used here"
	case "backup":
		return "a place for backups"
	case "repository":
		return "a repository"
	case "repository_tag":
		return "a repository with a tag"
	case "image":
		return "an image"
	case "image_repository":
		return "a repository of another registry"
	case "media_type":
		return "a media type"
	case "listen":
		return "an address to listen on"
	case "verify":
		return "a public key"
	case "subject":
		return "a subject that can be used here"
	case "abspath":
		return "a whole path"
	case "pattern":
		return "a pattern of objects"
	case "drift":
		return "a kind"
	}
	return "a " + rule
}
