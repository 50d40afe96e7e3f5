package load

import (
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// suggest returns the candidate nearest to a misspelt word, or "".
func suggest(word string, candidates []string) string {
	return new(schema.Nearest).Of(word, candidates)
}

// oneOf is the remedy for a word that is none of a list.
func oneOf(word string, list []string) string { return nearestOf(new(schema.Nearest), word, list) }

// nearestOf is oneOf with what a run may still look at.
func nearestOf(n *schema.Nearest, word string, list []string) string {
	if s := n.Of(word, list); s != "" {
		return `did you mean "` + s + `"?`
	}
	return "it is one of " + enumerate(list)
}

// enumerate joins quoted words, "a", "b" or "c".
func enumerate(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = `"` + s + `"`
	}
	if len(q) < 2 {
		return strings.Join(q, "")
	}
	return strings.Join(q[:len(q)-1], ", ") + " or " + q[len(q)-1]
}

func sorted(list []string) []string {
	s := slices.Clone(list)
	slices.Sort(s)
	return s
}
