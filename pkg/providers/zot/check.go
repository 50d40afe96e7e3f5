package zot

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/distribution/reference"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

// validNamespace reports whether a name can be a namespace's.
func validNamespace(name string) bool {
	_, err := reference.WithName(name)
	return err == nil && !access.In(access.Reserved, name)
}

func accountName(s string) bool {
	return htpasswd.CheckName(s) == nil && !strings.ContainsFunc(s, func(r rune) bool {
		return r == '/' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// refusal says why Zot cannot have an object as it is said, or "".
func refusal(table schema.Table, key schema.Key, spec schema.Spec) string {
	if row := table.Find(key.Kind, ""); row.Support == schema.Unsupported {
		return row.Reason
	}
	if spec == nil || spec.Kind() != key.Kind {
		return "the change does not say what the object shall be"
	}
	if why := lacking(table, key.Kind, spec); why != "" {
		return why
	}
	if ns, ok := key.Namespace(); ok && !validNamespace(ns.Name) {
		return badNamespace(ns.Name)
	}
	switch spec := spec.(type) {
	case *schema.User:
		switch {
		case isRobot(key.Name):
			return "names that begin with " + robotPrefix + " are those of robots"
		case key.Name == selfLogin:
			return "this account is ocisync's own; choose another name"
		case !accountName(key.Name):
			return "a user name has 1 to 255 printable characters and no colon, slash or space, and does not begin with #"
		}
	case *schema.Group:
		switch {
		case !accountName(key.Name):
			return "a group name has 1 to 255 printable characters and no colon, slash or space"
		case strings.ToLower(key.Name) != key.Name:
			return "Zot reads the names of groups in lower case, and matches them as they are written, so that this one would have no members; call it " + strings.ToLower(key.Name)
		}
	case *schema.Robot:
		name := key.Name
		if ns, of := key.Namespace(); of {
			name = strings.TrimPrefix(name, ns.Name+"/")
			for _, g := range spec.Access {
				if g.Name != ns.Name {
					return "a robot of a namespace has rights in that namespace alone, and not in " + g.Name
				}
			}
		}
		if !accountName(name) || strings.Contains(name, "+") || strings.HasSuffix(name, ".2") {
			return "a robot's name has 1 to 255 printable characters and no colon, slash, plus or space, and does not end in .2"
		}
	case *schema.Namespace:
		if !validNamespace(key.Name) {
			return badNamespace(key.Name)
		}
	case *schema.Access:
		for _, g := range spec.Groups {
			if strings.ToLower(g.Name) != g.Name {
				return "Zot reads the names of groups in lower case, so that nobody is ever in " + g.Name + "; write " + strings.ToLower(g.Name)
			}
		}
		for _, u := range spec.Users {
			if isRobot(u.Name) {
				return "the rights of robots stand with the robot; take " + u.Name + " out"
			}
		}
	case *schema.Retention:
		for i, r := range spec.Keep {
			if why := cmp.Or(unsayable(r), badGlobs(r.Repositories, r.Tags)); why != "" {
				return fmt.Sprintf("keep[%d]: %s", i, why)
			}
		}
	case *schema.Immutable:
		for i, r := range spec.Rules {
			if r.Disabled {
				return fmt.Sprintf("rules[%d]: Zot has no rule that is switched off; take it out", i)
			}
			if r.Repositories != "" && r.Repositories != everything || r.Tags != "" && r.Tags != "*" && r.Tags != everything {
				return fmt.Sprintf("rules[%d]: Zot has no rule for some tags or repositories of a namespace, only for all of them; write { tags = \"**\" }, or give what is fixed a namespace of its own", i)
			}
		}
	case *schema.Webhook:
		switch unsupported, wrong := webhook.Check(spec); {
		case wrong != "":
			return wrong
		case unsupported != "":
			return unsupported + " cannot be had: Zot tells of pushes and deletes"
		case slices.Contains(spec.Events, "pull"):
			return "events: Zot tells of no pull; take it out"
		}
	case *schema.Scan:
		if u := spec.Update; u != nil && u.Std() < leastInterval {
			return fmt.Sprintf("update %q: Zot takes less than 2h for 2h; write \"2h\" or more", u.String())
		}
	case *schema.GC:
		if s := spec.Schedule; s != nil && *s != "none" && *s != "" {
			if _, ok := every(*s); !ok {
				return fmt.Sprintf("schedule %q: Zot counts intervals from its start, not times of day; write \"@every 1h\", or \"none\"", *s)
			}
		}
	case *schema.Replication:
		if m := spec.Match; m != nil {
			if why := badGlobs(value(m.Repositories), value(m.Tags)); why != "" {
				return "match: " + why
			}
		}
		if t := spec.Trigger; t != nil {
			if _, ok := every(t.Schedule); !ok && t.On != "manual" {
				return "trigger: Zot's sync polls; write { schedule = \"@every 1h\" }, or \"manual\", which leaves it out"
			}
		}
	}
	return ""
}

// badGlobs says which of two globs Zot does not start with, or "".
func badGlobs(repositories, tags string) string {
	if !doublestar.ValidatePattern(repositories) {
		return fmt.Sprintf("repositories %q is no glob that Zot reads, which does not start with it; correct its brackets and braces", repositories)
	}
	if _, err := regexp.Compile(regexOf(tags)); err != nil {
		return fmt.Sprintf("tags %q is no glob that Zot reads, which does not start with it (%v); correct its brackets and braces", tags, err)
	}
	return ""
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// leastInterval is the shortest that Zot scans and scrubs at: it takes less for
// that, with a warning in its log.
const leastInterval = 2 * time.Hour

func badNamespace(name string) string {
	if access.In(access.Reserved, name) {
		return "namespace " + access.Reserved + " is ocisync's own; choose another name"
	}
	return "not the beginning of a repository name; use lower-case letters and digits, with . _ - between them and / between segments"
}

// lacking names a field that the table says cannot be had, or "".
func lacking(table schema.Table, kind schema.Kind, spec schema.Spec) string {
	b, err := json.Marshal(spec)
	if err != nil {
		return err.Error()
	}
	for _, row := range table {
		if row.Kind == kind && row.Field != "" && row.Support == schema.Unsupported && has(b, strings.Split(row.Field, ".")) {
			return row.Field + ": " + row.Reason
		}
	}
	return ""
}

func has(object json.RawMessage, path []string) bool {
	var m map[string]json.RawMessage
	if json.Unmarshal(object, &m) != nil {
		return false
	}
	v, ok := m[path[0]]
	return ok && (len(path) == 1 || has(v, path[1:]))
}
