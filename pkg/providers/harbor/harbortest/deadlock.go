package harbortest

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

// locks are the rights that robots under way lock in the database, each in the order
// in which it gives them. Of two at once that share two of them in different orders
// Harbor's database refuses one.
type locks struct {
	mu   sync.Mutex
	busy map[*call][]string
}

// take says whether a request is refused so, and counts it in; what it returns counts
// it out.
func (l *locks) take(c *call, route string) (deadlock bool, end func()) {
	var given robotRequest
	if route != "POST /robots" && route != "PUT /robots/{robot_id}" || json.Unmarshal(c.raw, &given) != nil {
		return false, func() {}
	}
	var mine []string
	for _, p := range given.Permissions {
		for _, a := range p.Access {
			mine = append(mine, strings.Join([]string{p.Namespace, a.Resource, a.Action}, " "))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.busy {
		at := -1
		for _, right := range mine {
			if i := slices.Index(other, right); i >= 0 {
				deadlock = deadlock || i < at
				at = i
			}
		}
	}
	if l.busy == nil {
		l.busy = map[*call][]string{}
	}
	l.busy[c] = mine
	return deadlock, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.busy, c)
	}
}
