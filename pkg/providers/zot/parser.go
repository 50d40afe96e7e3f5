package zot

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ocisync/ocisync/pkg/providers"
)

// unreadableByZot is what Zot does not start with, nor load while it runs, though
// every key of it is right: as its `verify` says of 2.1.6, of what ocisync
// writes. Who has Zot's program asks that besides; see [Provider.verify].
func unreadableByZot(c configuration) error {
	var problems []error
	say := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	glob := func(at, text string) {
		if !doublestar.ValidatePattern(text) {
			say("%s: %q is no pattern", at, text)
		}
	}
	regex := func(at, text string) {
		if _, err := regexp.Compile(text); err != nil {
			say("%s: %w", at, err)
		}
	}
	if ac := c.HTTP.AccessControl; ac != nil {
		for _, p := range sortedKeys(ac.Repositories) {
			glob("http.accessControl.repositories", p)
		}
		if !c.logsIn() && !c.anonymousAlone() {
			say("http.accessControl: a Zot without logins takes rules for anonymous clients alone, and at least one that gives them something; name a file of accounts in registry.files.htpasswd, or give access.anonymous")
		}
	}
	for _, s := range c.stores() {
		at := strings.Join(s.at, ".")
		for _, raw := range s.policies {
			var p struct {
				Repositories words `json:"repositories"`
				KeepTags     []struct {
					Patterns words `json:"patterns"`
				} `json:"keepTags"`
			}
			if json.Unmarshal(raw, &p) != nil {
				continue // which keys and types are right is another's to say
			}
			for _, r := range p.Repositories {
				glob(at, r)
			}
			for _, k := range p.KeepTags {
				for _, t := range k.Patterns {
					regex(at, t)
				}
			}
		}
	}
	if s := c.Extensions.Sync; s != nil {
		const at = "extensions.sync.registries"
		for _, raw := range s.Registries {
			var r syncRegistry
			if json.Unmarshal(raw, &r) != nil {
				continue
			}
			for _, one := range r.Content {
				glob(at, one.Prefix)
				if one.Tags != nil {
					regex(at, one.Tags.Regex)
				}
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: Zot does not start with it, and nothing was written: %w", providers.ErrInvalid, errors.Join(problems...))
}

// anonymousAlone reports whether rules speak of anonymous clients and of nobody
// else.
func (c configuration) anonymousAlone() bool {
	ac := c.HTTP.AccessControl
	if a := ac.AdminPolicy; a != nil && len(a.Actions)+len(a.Users) > 0 {
		return false
	}
	some := false
	for _, g := range ac.Repositories {
		if len(g.DefaultPolicy) > 0 {
			return false
		}
		for _, p := range g.Policies {
			if len(p.Actions)+len(p.Users) > 0 {
				return false
			}
		}
		some = some || len(g.AnonymousPolicy) > 0
	}
	return some
}
