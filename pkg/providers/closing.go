package providers

import (
	"fmt"
	"slices"
	"strings"
)

// MostListed is how many names [ListNames] lists.
const MostListed = 1000

// ListNames lists the repositories that a plan says something of, each of them unless there
// are more than anybody reads.
func ListNames(names []string) string {
	more := ""
	if len(names) > MostListed {
		more = fmt.Sprintf(" and %d more", len(names)-MostListed)
	}
	return strings.Join(slices.Sorted(slices.Values(names))[:min(MostListed, len(names))], ", ") + more
}

// Innermost is the namespace among some in which a repository lies most closely.
func Innermost[V any](among map[string]V, repository string) (ns string, ok bool) {
	for name := repository; ; {
		if _, ok := among[name]; ok {
			return name, true
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return "", false
		}
		name = name[:i]
	}
}
