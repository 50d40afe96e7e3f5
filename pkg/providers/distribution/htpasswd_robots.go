package distribution

import (
	"context"
	"fmt"
	"maps"
	"slices"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/providers/htpasswd"
	"github.com/ocisync/ocisync/schema"
)

// robots puts the accounts that robots have, by login, into the file, and takes
// those out that they have no more.
func (a *accountFile) robots(logins map[string]string) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	f, text, err := a.load()
	if err != nil {
		return err
	}
	for _, name := range f.Names() {
		if _, ok := logins[name]; !ok && robotAccount(name) {
			f.Remove(name)
		}
	}
	for _, login := range slices.Sorted(maps.Keys(logins)) {
		if err := f.Set(login, logins[login]); err != nil {
			return a.fail(schema.Key{}, "writing accounts", fmt.Errorf("%s: %w", login, err), "")
		}
	}
	return a.save(f, text)
}

// lacks reports whether none of a robot's logins is in the file with the hash
// that it has to have.
func (a *accountFile) lacks(f *htpasswd.File, robot schema.Key, logins map[string]string) bool {
	for _, login := range registry.RobotLogins(robot) {
		want, wanted := logins[login]
		if have, ok := f.Hash(login); wanted && (!ok || have != want) {
			return true
		}
	}
	return false
}

// project puts the accounts of robots into the htpasswd file.
func (p *Provider) project(ctx context.Context) error {
	if !p.byFile() {
		return nil
	}
	logins, err := p.accounts.RobotHashes(ctx)
	if err != nil {
		return err
	}
	return p.people.robots(logins)
}
