package schema

import "strings"

// SplitPath parts a dotted path of keys, as [Value] and errors have them; parts
// in quotes stay whole.
func SplitPath(path string) []string {
	var parts []string
	var b strings.Builder
	quoted := false
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted && i+1 < len(path):
			i++
			b.WriteByte(path[i])
		case c == '.' && !quoted:
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(parts, b.String())
}

// JoinPath is the inverse of [SplitPath]: a part that is no bare TOML key is put
// in quotes.
func JoinPath(parts ...string) string {
	out := make([]string, len(parts))
	for i, p := range parts {
		if !BareKey(p) {
			p = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p) + `"`
		}
		out[i] = p
	}
	return strings.Join(out, ".")
}

// BareKey reports whether TOML takes a key without quotes.
func BareKey(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
