package distribution

import (
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"

	"github.com/ocisync/ocisync/schema"
)

// othersPath is the value of the settings that names what stands in a config.yml's
// auth beside what ocisync sets there, such as another key whose tokens count too:
// none shall. It is no key of the file.
const othersPath = "auth.others"

// ways are those to log in that Distribution has, of which a configuration
// names one.
func ways() []string { return []string{"token", "htpasswd", "silly", "none"} }

// way is the one that ocisync sets, "" for none.
func (p *Provider) way() string {
	switch {
	case p.byFile():
		return "htpasswd"
	case p.place.Service != nil:
		return "token"
	}
	return ""
}

// ownsLogin reports whether how one logs in is ocisync's alone to say.
func (p *Provider) ownsLogin() bool {
	return p.way() == "token" || p.way() == "htpasswd" && p.registry.Run != nil
}

// others are the paths in auth that ocisync does not set.
func (p *Provider) others(d *document) (out []string) {
	ours := map[string][]string{"htpasswd": {"path", "realm"}, "token": {"issuer", "jwks", "realm", "service", "signingalgorithms"}}[p.way()]
	auth := d.get("auth")
	for _, way := range names(auth) {
		if way != p.way() {
			out = append(out, "auth."+schema.JoinPath(way))
			continue
		}
		section := child(auth, way)
		for _, name := range names(section) {
			if !slices.Contains(ours, name) && !empty(child(section, name)) {
				out = append(out, "auth."+way+"."+schema.JoinPath(name))
			}
		}
	}
	return out
}

// empty reports whether a value is as if it were not there.
func empty(n *yaml.Node) bool { return n.Tag == "!!null" }

func (p *Provider) othersValue(d *document) schema.Value {
	return schema.Value{Path: othersPath, JSON: quoted(strings.Join(p.others(d), " "))}
}

// unlocked are the values that say how clients log in, of those that ocisync sets, which
// are others in a configuration. Where tokens are given may have moved, which is seen to
// elsewhere.
func (p *Provider) unlocked(d *document) (wrong []string, err error) {
	if !p.ownsLogin() {
		return nil, nil
	}
	have, _, err := d.leaves()
	if err != nil {
		return nil, p.configError("reading settings", err)
	}
	for _, v := range p.owned(nil) {
		switch {
		case !strings.HasPrefix(v.Path, "auth."), slices.Contains(have, v):
		case v.Path == othersPath:
			if len(p.others(d)) > 0 {
				wrong = append(wrong, v.Path)
			}
		case (v.Path == "auth.token.realm" || v.Path == "auth.token.service") && textOf(have, v.Path) != "":
		default:
			wrong = append(wrong, v.Path)
		}
	}
	return wrong, nil
}
