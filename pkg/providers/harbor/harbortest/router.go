package harbortest

import (
	"net/http"
	"net/url"
	"strings"
)

const base = "/api/v2.0"

// handler answers one operation. The server is locked while it runs.
type handler func(*call) (answer, error)

// routes are handlers by method and path, as the API description has them:
// "GET /users/{user_id}".
type routes map[string]handler

// call is one request on its way.
type call struct {
	r      *http.Request
	who    identity
	vars   map[string]string // what stands for {...} in the path, unescaped once
	query  url.Values
	raw    []byte // the body
	holder string // of a token, by name
	cut    bool   // Harbor is cut off before it writes down what was done
}

// router finds the operation of a request.
type router struct {
	root     node
	handlers routes
}

// node is a segment of paths: what may follow, and what may be done with it.
type node struct {
	next    map[string]*node
	any     *node // what follows whatever its text is
	methods map[string]match
}

// match is an operation that was found.
type match struct {
	route string   // method and path as the description has them
	vars  []string // the names of the {...} in it
}

func newRouter(s shapes, groups []routes) *router {
	r := &router{handlers: routes{}}
	for route := range s.Operations {
		r.add(route)
	}
	for _, group := range groups {
		for route, h := range group {
			r.handlers[route] = h
		}
	}
	return r
}

func (r *router) add(route string) {
	method, path, _ := strings.Cut(route, " ")
	m := match{route: route}
	at := &r.root
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if strings.HasPrefix(segment, "{") {
			m.vars = append(m.vars, strings.Trim(segment, "{}"))
			if at.any == nil {
				at.any = &node{}
			}
			at = at.any
			continue
		}
		if at.next == nil {
			at.next = map[string]*node{}
		}
		if at.next[segment] == nil {
			at.next[segment] = &node{}
		}
		at = at.next[segment]
	}
	if at.methods == nil {
		at.methods = map[string]match{}
	}
	at.methods[method] = m
}

// find is the operation for a method and an escaped path below the API's base,
// with what stands for the {...}. A path that is known with other methods only
// gives those.
func (r *router) find(method, path string) (m match, vars map[string]string, others []string) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	at, values := r.root.walk(segments, nil)
	if at == nil {
		return match{}, nil, nil
	}
	m, known := at.methods[method]
	if !known {
		for other := range at.methods {
			others = append(others, other)
		}
		return match{}, nil, others
	}
	vars = map[string]string{}
	for i, name := range m.vars {
		vars[name] = values[i]
	}
	return m, vars, nil
}

// walk prefers a segment's text to {...}, and comes back from where it leads
// nowhere.
func (n *node) walk(segments, values []string) (*node, []string) {
	if len(segments) == 0 {
		if n.methods == nil {
			return nil, nil
		}
		return n, values
	}
	if next := n.next[segments[0]]; next != nil {
		if at, found := next.walk(segments[1:], values); at != nil {
			return at, found
		}
	}
	value, err := url.PathUnescape(segments[0])
	if n.any == nil || err != nil || value == "" {
		return nil, nil
	}
	return n.any.walk(segments[1:], append(values[:len(values):len(values)], value))
}
