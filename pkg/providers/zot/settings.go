package zot

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers/zot/config"
	"github.com/ocisync/ocisync/schema"
)

// flatten parts a configuration into its leaves that no kind owns, sorted as
// they stand. A list is one leaf. Those that hold a secret come apart.
func flatten(doc *config.Document) (values, secrets []schema.Value) {
	spell := newSpeller()
	var walk func(path []string)
	walk = func(path []string) {
		for _, key := range doc.Keys(path...) {
			at := append(path[:len(path):len(path)], key)
			dotted := schema.JoinPath(at...)
			if _, owned := schema.OwnedSetting(schema.TypeZot, dotted); owned {
				continue
			}
			if doc.Keys(at...) != nil {
				walk(at)
				continue
			}
			text, ok := doc.Get(at...)
			if !ok || strings.HasPrefix(text, "{") {
				continue
			}
			canonical, err := schema.CanonicalJSON([]byte(text))
			if err != nil {
				continue
			}
			v := schema.Value{Path: schema.JoinPath(spell.path(at)...), JSON: canonical}
			if holdsSecret(v) {
				secrets = append(secrets, v)
			} else {
				values = append(values, v)
			}
		}
	}
	walk(nil)
	return values, secrets
}

var member = regexp.MustCompile(`"([A-Za-z_]+)":`)

// holdsSecret goes by the leaf's name, the names in a list, and addresses with
// a password in them.
func holdsSecret(v schema.Value) bool {
	if schema.SecretSetting(schema.TypeZot, v.Path) {
		return true
	}
	for _, m := range member.FindAllStringSubmatch(v.JSON, -1) {
		if schema.SecretSetting(schema.TypeZot, m[1]) {
			return true
		}
	}
	text, err := strconv.Unquote(v.JSON)
	if err != nil || !strings.Contains(text, "@") {
		return false
	}
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return false
	}
	_, has := u.User.Password()
	return has
}

// speller knows how Zot's own keys are spelled: their case means nothing.
type speller [][]string

func newSpeller() speller {
	var out speller
	for _, k := range config.Keys() {
		out = append(out, strings.Split(strings.ReplaceAll(k.Path, "[]", ""), "."))
	}
	return out
}

// path spells one as Zot does. What is no key of Zot's, and names below one,
// stay as they are.
func (s speller) path(path []string) []string {
	best := 0
	var as []string
	for _, key := range s {
		n := 0
		for n < min(len(key), len(path)) && (key[n] == "*" || strings.EqualFold(key[n], path[n])) {
			n++
		}
		if n > best {
			best, as = n, key
		}
	}
	out := slices.Clone(path)
	for i := range best {
		if as[i] != "*" {
			out[i] = as[i]
		}
	}
	return out
}
