package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/pkg/retention"
	"github.com/ocisync/ocisync/schema"
)

// policy is what a namespace says of its content. The zero value sets no
// limit, removes nothing and fixes nothing.
type policy struct {
	limited  bool
	limit    int64 // bytes, where limited
	retained bool
	timing   timing // of retention
	keep     []schema.KeepRule
	untagged bool
	fixed    []schema.ImmutableRule
}

// policies compiles what the objects say, by namespace.
func policies(objects []schema.Resource) map[string]policy {
	all := map[string]policy{}
	for _, o := range objects {
		p := all[o.Key.Name]
		switch spec := o.Spec.(type) {
		case *schema.Quota:
			p.limited = spec.Limit != nil && *spec.Limit >= 0
			if p.limited {
				p.limit = int64(*spec.Limit)
			}
		case *schema.Retention:
			p.retained, p.keep = true, spec.Keep
			p.untagged = spec.Untagged != nil && *spec.Untagged
			schedule, zone := orTiming(spec.Schedule, spec.Zone)
			p.timing = timing{*schedule, *zone}
		case *schema.Immutable:
			p.fixed = slices.DeleteFunc(slices.Clone(spec.Rules), func(r schema.ImmutableRule) bool { return bool(r.Disabled) })
		default:
			continue
		}
		all[o.Key.Name] = p
	}
	return all
}

// policyOf returns what holds for a repository and the namespace that says so.
func (s *snapshot) policyOf(repository string) (namespace string, p policy) {
	namespace = s.rules.Namespace(repository)
	return namespace, s.policies[namespace]
}

// below is a repository's name below its namespace, "" for the one that bears
// the namespace's own name.
func below(namespace, repository string) string {
	if namespace == "" {
		return repository
	}
	return strings.TrimPrefix(strings.TrimPrefix(repository, namespace), "/")
}

// immutable names the rule that fixes a tag, "" where none does. Tags that
// stand for the referrers of a digest are never fixed: a client adds to them
// by overwriting.
func (p policy) immutable(name, tag string) string {
	if len(p.fixed) == 0 || retention.Fallback(tag) {
		return ""
	}
	for _, r := range p.fixed {
		if (r.Tags == "" || doublestar.MatchUnvalidated(r.Tags, tag)) && (r.Repositories == "" || doublestar.MatchUnvalidated(r.Repositories, name)) {
			return fixedText(r)
		}
	}
	return ""
}

func fixedText(r schema.ImmutableRule) string {
	text := "immutable by tags " + cmp.Or(r.Tags, "*")
	if r.Repositories != "" {
		text += " in repositories " + r.Repositories
	}
	return text
}

// checkPolicy refuses a quota, retention or immutable that the registry could
// not act by: ErrInvalid, every reason at once.
func checkPolicy(o schema.Resource) error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %w: "+format, append([]any{o.Key, ErrInvalid}, args...)...))
	}
	glob := func(path, pattern string) {
		if pattern != "" && !doublestar.ValidatePattern(pattern) {
			bad("%s %q is no pattern; [ and { need their end", path, pattern)
		}
	}
	switch spec := o.Spec.(type) {
	case *schema.Quota:
		if spec.Limit != nil && *spec.Limit < schema.Unlimited {
			bad("limit is negative; write a size or unlimited")
		}
	case *schema.Retention:
		for i, r := range spec.Keep {
			path := fmt.Sprintf("keep[%d]", i)
			glob(path+".tags", r.Tags)
			glob(path+".repositories", r.Repositories)
			if r.Newest < 0 || r.NewestPulled < 0 || r.PushedWithin < 0 || r.PulledWithin < 0 {
				bad("%s has a negative number; write numbers and durations from 1", path)
			}
			if r.TaggedOnly {
				bad("%s.tagged_only is for Harbor: here untagged says what becomes of what has no tag, for the whole namespace", path)
			}
			if !r.Always && r.Newest == 0 && r.NewestPulled == 0 && r.PushedWithin == 0 && r.PulledWithin == 0 {
				bad("%s has no condition; add newest, newest_pulled, pushed_within, pulled_within or always", path)
			}
		}
		if spec.Schedule != nil && !validSchedule(*spec.Schedule) {
			bad("schedule %q: %s", *spec.Schedule, scheduleHelp)
		}
		if spec.Zone != nil {
			if _, err := location(*spec.Zone); err != nil {
				bad("zone %q: %w", *spec.Zone, err)
			}
		}
	case *schema.Immutable:
		for i, r := range spec.Rules {
			path := fmt.Sprintf("rules[%d]", i)
			glob(path+".tags", r.Tags)
			glob(path+".repositories", r.Repositories)
		}
	}
	return errors.Join(problems...)
}

// completePolicy returns a copy with everything said: without a limit, rules
// or schedule.
func completePolicy(spec schema.Spec) schema.Spec {
	switch s := spec.(type) {
	case *schema.Quota:
		c := *s
		if c.Limit == nil {
			none := schema.Unlimited
			c.Limit = &none
		}
		return &c
	case *schema.Retention:
		c := *s
		c.Keep = append([]schema.KeepRule{}, s.Keep...)
		orZero(&c.Untagged)
		c.Schedule, c.Zone = orTiming(s.Schedule, s.Zone)
		return &c
	case *schema.Immutable:
		c := *s
		c.Rules = append([]schema.ImmutableRule{}, s.Rules...)
		return &c
	}
	return spec
}

// Usage is how much of its quota a namespace uses.
type Usage struct {
	Namespace string      `json:"namespace"`
	Limit     schema.Size `json:"limit"`
	// Used is the size of the namespace's manifests and of the blobs that
	// they name, each counted once.
	Used schema.Size `json:"used"`
	// Waiting is the size of the blobs that no manifest of the namespace
	// names (yet, or any more); the next collection takes what is left over.
	Waiting schema.Size `json:"waiting"`
	// Uploading is what uploads hold that are not finished.
	Uploading schema.Size `json:"uploading,omitempty"`
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
