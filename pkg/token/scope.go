package token

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/schema"
)

const (
	repositoryType = "repository"
	registryType   = "registry"
	catalogue      = "catalog"

	maxScopes  = 100
	maxActions = 16
	maxName    = 255 // bytes; longer names are no references
)

// Scope is what is asked of one resource, or granted. In a token it is an entry
// of the claim access.
type Scope struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"` // sorted
}

// String is the scope as clients write it.
func (s Scope) String() string { return s.Type + ":" + s.Name + ":" + strings.Join(s.Actions, ",") }

// parseScopes reads what a client asks: any number of values, each scopes with
// spaces between. What is asked twice of a resource is one scope.
func parseScopes(values []string) ([]Scope, error) {
	var out []Scope
	for _, v := range values {
		for text := range strings.FieldsSeq(v) {
			s, err := parseScope(text)
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(out, func(o Scope) bool { return o.Type == s.Type && o.Name == s.Name })
			switch {
			case i >= 0:
				out[i].Actions = distinct(append(out[i].Actions, s.Actions...))
			case len(out) == maxScopes:
				return nil, fmt.Errorf("more than %d resources are asked for; ask in parts", maxScopes)
			default:
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// parseScope reads one: a name may hold colons, types and actions none.
func parseScope(text string) (Scope, error) {
	typ, rest, ok := strings.Cut(text, ":")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i <= 0 || typ == "" {
		return Scope{}, errors.New("a scope is TYPE:NAME:ACTIONS, such as repository:team-a/app:pull,push")
	}
	actions := strings.Split(rest[i+1:], ",")
	if len(actions) > maxActions {
		return Scope{}, fmt.Errorf("a scope names at most %d actions", maxActions)
	}
	return Scope{typ, rest[:i], distinct(actions)}, nil
}

func distinct(actions []string) []string {
	slices.Sort(actions)
	return slices.Compact(actions)
}

// allowed returns what of the scopes the rules allow. Nothing else is ever
// granted: not an action or type that is not known, nor one that was not asked.
func allowed(rules *access.Rules, who access.Subject, asked []Scope) []Scope {
	var out []Scope
	for _, s := range asked {
		var actions []string
		switch {
		case s.Type == registryType && s.Name == catalogue:
			// the registry lists all repositories or none
			if slices.Contains(s.Actions, "*") && rules.Admin(who) {
				actions = []string{"*"}
			}
		case s.Type == repositoryType && repositoryName(s.Name):
			rights := rules.Rights(who, s.Name)
			all := slices.Contains(s.Actions, "*")
			for _, a := range actionsOf() { // sorted
				if (all || slices.Contains(s.Actions, a.name)) && rights.Has(a.right) {
					actions = append(actions, a.name)
				}
			}
		}
		if len(actions) > 0 {
			out = append(out, Scope{s.Type, s.Name, actions})
		}
	}
	return out
}

type action struct {
	name  string
	right schema.Rights
}

// actionsOf are the actions on a repository; "*" stands for those that are
// allowed.
func actionsOf() [3]action {
	return [3]action{{"delete", schema.Delete}, {"pull", schema.Pull}, {"push", schema.Push}}
}

func repositoryName(name string) bool {
	if len(name) > maxName || strings.Contains(name, ":") {
		return false
	}
	_, err := reference.WithName(name)
	return err == nil
}

func join(scopes []Scope) string {
	texts := make([]string, len(scopes))
	for i, s := range scopes {
		texts[i] = s.String()
	}
	return strings.Join(texts, " ")
}
