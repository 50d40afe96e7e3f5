package embedded

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// A registry that only gets its tokens here counts nothing itself. What its
// namespaces use is measured by whoever has its content, and told by a [Change]
// with Used. While that is not below the quota nobody but admin users gets a
// token to push. Only the namespaces that are full are kept, so that a measuring
// of others writes nothing.

// Full is a namespace whose quota is used up.
type Full struct {
	Used  schema.Size `json:"used"` // when it was measured last
	Since time.Time   `json:"since"`
}

// measured enters what of a quota is used. A quota that is gone, or limits
// nothing, is a success: it was, when it was measured.
func (c Change) measured(next *document, objects map[schema.Key]schema.Resource) (changed bool, err error) {
	if c.Object.Key.Kind != schema.KindQuota || *c.Used < 0 {
		return false, fmt.Errorf("%s: %w: only quotas are measured", c.Object.Key, ErrInvalid)
	}
	name := c.Object.Key.String()
	before, was := next.Full[name]
	now := Full{Used: *c.Used, Since: before.Since}
	if !was {
		now.Since = c.at.Truncate(time.Second)
	}
	if !uses(objects[c.Object.Key], *c.Used) {
		delete(next.Full, name)
		return was, nil
	}
	next.Full[name] = now
	return before != now, nil
}

// uses reports whether a quota is used up by so many bytes.
func uses(quota schema.Resource, used schema.Size) bool {
	spec, ok := quota.Spec.(*schema.Quota)
	return ok && spec.Limit != nil && *spec.Limit >= 0 && used >= *spec.Limit
}

// dropFull forgets what is full no more: a quota that was raised or removed.
func (d *document) dropFull(objects map[schema.Key]schema.Resource) {
	maps.DeleteFunc(d.Full, func(name string, f Full) bool {
		key, err := schema.ParseKey(name)
		return err != nil || !uses(objects[key], f.Used)
	})
}

// fullNamespaces are those that push is withheld in, sorted.
func (d document) fullNamespaces() (list []string) {
	for name := range d.Full {
		list = append(list, strings.TrimPrefix(name, string(schema.KindQuota)+"/"))
	}
	slices.Sort(list)
	return list
}
