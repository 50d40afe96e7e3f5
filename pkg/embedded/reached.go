package embedded

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/registry/auth"

	"github.com/ocisync/ocisync/pkg/token"
)

// reached is the URL by which a client reaches the registry, without a slash at
// its end: that of the host which it asks for. A proxy that speaks TLS in our
// place may ask us for another host; what clients call it is the registry's URL.
func (r *Registry) reached(q *http.Request) string {
	if q.Host == "" || q.TLS == nil && strings.HasPrefix(r.options.URL, "https://") {
		return strings.TrimSuffix(r.url(), "/")
	}
	if q.TLS != nil || strings.EqualFold(q.Header.Get("X-Forwarded-Proto"), "https") {
		return "https://" + q.Host
	}
	return "http://" + q.Host
}

// tokenAsked has a client ask for a token by which it may do all of it, after
// what was wrong with its credentials, if anything. There are no scopes at /v2/.
func (v *visit) tokenAsked(wrong error, records ...auth.Access) challenge {
	_, host, _ := strings.Cut(v.base, "://")
	c := fmt.Sprintf("Bearer realm=%q,service=%q", v.base+token.Path, host)
	if len(records) > 0 {
		c += fmt.Sprintf(",scope=%q", scopes(records))
	}
	switch {
	case errors.Is(wrong, errWrongToken):
		c += `,error="invalid_token"`
	case v.who.token:
		c += `,error="insufficient_scope"`
	}
	return challenge(c)
}

// scopes are what is asked for, as clients write it when they ask for a token.
func scopes(records []auth.Access) string {
	var list []token.Scope
	for _, a := range records {
		i := slices.IndexFunc(list, func(s token.Scope) bool { return s.Type == a.Type && s.Name == a.Name })
		if i < 0 {
			i = len(list)
			list = append(list, token.Scope{Type: a.Type, Name: a.Name})
		}
		if !slices.Contains(list[i].Actions, a.Action) {
			list[i].Actions = append(list[i].Actions, a.Action)
		}
	}
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = s.String()
	}
	return strings.Join(texts, " ")
}
