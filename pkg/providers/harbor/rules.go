package harbor

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
)

// everything is the glob of all tags, or all repositories.
const everything = "**"

// globOf is what selectors choose, in our words: a glob, "" for everything, and
// with ! before it for all but that. Harbor's portal makes one selector only; of
// several all are told.
func globOf(list []api.Selector) string {
	var out []string
	for _, s := range list {
		text := s.Pattern
		switch s.Decoration {
		case api.TagExcludes, api.RepositoryExcludes:
			text = "!" + text
		default:
			if text == everything {
				text = ""
			}
		}
		out = append(out, text)
	}
	return strings.Join(out, " and ")
}

// selector is a glob in Harbor's words.
func selector(glob, matches, excludes string) api.Selector {
	s := api.Selector{Kind: "doublestar", Decoration: matches, Pattern: glob}
	if rest, ok := strings.CutPrefix(glob, "!"); ok {
		s.Decoration, s.Pattern = excludes, rest
	}
	if s.Pattern == "" {
		s.Pattern = everything
	}
	return s
}

func tagSelector(glob string) api.Selector { return selector(glob, api.TagMatches, api.TagExcludes) }

func repositoryScope(glob string) map[string][]api.Selector {
	return map[string][]api.Selector{"repository": {selector(glob, api.RepositoryMatches, api.RepositoryExcludes)}}
}

// short is a glob in the form of globOf.
func short(glob string) string {
	if glob == everything {
		return ""
	}
	return glob
}

// keepsUntagged reports whether a rule's tag selector takes what has no tag as
// well. It does where it does not say so. Of one that excludes, Harbor's word has
// the other meaning.
func keepsUntagged(s api.Selector) bool {
	var extras struct {
		Untagged *bool `json:"untagged"`
	}
	if s.Extras == "" || json.Unmarshal([]byte(s.Extras), &extras) != nil || extras.Untagged == nil {
		return true
	}
	return *extras.Untagged != (s.Decoration == api.TagExcludes)
}

// keepUntagged has a selector do so, or not.
func keepUntagged(s api.Selector, keep bool) api.Selector {
	s.Extras = fmt.Sprintf(`{"untagged":%t}`, keep != (s.Decoration == api.TagExcludes))
	return s
}
