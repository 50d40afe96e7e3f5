package distribution

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v3"

	"github.com/ocisync/ocisync/schema"
)

// fileKeys are the settings that a config.yml may hold: those that a mode may
// set, those that are ocisync's own to set there or nobody's, and those that
// Distribution 3 still reads for the sake of older files.
func fileKeys() []key {
	out := append(keys(),
		key{path: "version", is: anyValue},
		key{path: "loglevel", is: textValue, of: levels()},
		key{path: "auth.token.realm", is: quotedValue},
		key{path: "auth.token.service", is: quotedValue},
		key{path: "auth.token.issuer", is: quotedValue},
		key{path: "auth.token.jwks", is: quotedValue},
		key{path: "auth.token.rootcertbundle", is: quotedValue},
		key{path: "auth.token.autoredirect", is: boolValue},
		key{path: "auth.token.autoredirectpath", is: quotedValue},
		key{path: "auth.token.signingalgorithms", is: textsValue, of: strings.Fields("EdDSA ES256 ES384 ES512 HS256 HS384 HS512 PS256 PS384 PS512 RS256 RS384 RS512")},
		key{path: "auth.htpasswd.realm", is: quotedValue},
		key{path: "auth.htpasswd.path", is: quotedValue},
		key{path: "auth.silly.realm", is: quotedValue},
		key{path: "auth.silly.service", is: quotedValue},
		key{path: "notifications.events.includereferences", is: boolValue},
		key{path: "notifications.endpoints[].headers.*", is: textsValue},
		key{path: "notifications.endpoints[].threshold", is: numberValue},
		key{path: "notifications.endpoints[].disabled", is: boolValue},
		key{path: "notifications.endpoints[].timeout", is: durationValue},
		key{path: "notifications.endpoints[].backoff", is: durationValue},
		key{path: "notifications.endpoints[].ignoredmediatypes", is: textsValue},
		key{path: "notifications.endpoints[].ignore.mediatypes", is: textsValue},
		key{path: "notifications.endpoints[].ignore.actions", is: textsValue},
		key{path: "notifications.endpoints[].name", is: textValue},
		key{path: "notifications.endpoints[].url", is: textValue},
		key{path: "log.hooks[].options.smtp.password", is: textValue},
		key{path: "storage.delete.enabled", is: boolValue},
		key{path: "storage.maintenance.readonly.enabled", is: boolValue},
		key{path: "storage.cache.layerinfo", is: textValue},
		key{path: "storage.gcs.credentials.*", is: anyValue},
		key{path: "validation.enabled", is: boolValue},
	)
	return out
}

// strict says, in the order of the lines, what of a config.yml Distribution
// ignores without a word, or dies of when it starts. No value is told.
func (d *document) strict() (problems []problem) {
	known := fileKeys()
	var walk func(n *yaml.Node, path string)
	say := func(n *yaml.Node, path, format string, args ...any) {
		problems = append(problems, problem{line: n.Line, at: path, text: path + ": " + fmt.Sprintf(format, args...)})
	}
	walk = func(n *yaml.Node, path string) {
		if n.Tag == "!!null" {
			return // as if it were not there
		}
		k, ok := find(known, path)
		switch {
		case ok:
			if why := k.wrong(n); why != "" {
				say(n, path, "%s", why)
				problems[len(problems)-1].ignored = k.is == tableValue && n.Kind == yaml.MappingNode
			}
		case listOfTables(known, path) && n.Kind != yaml.SequenceNode:
			say(n, path, "write a list of tables")
		case n.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				at, below := n.Content[i].Value, n.Content[i+1]
				if path != "" {
					at = path + "." + at
				}
				_, ok := find(known, at)
				switch {
				case ok || holds(known, at):
					walk(below, at)
				case path == "storage" || path == "auth": // of which one is chosen
					if below.Kind != yaml.MappingNode && below.Tag != "!!null" {
						say(below, at, "write a table")
					}
				case !strings.HasPrefix(at, "auth."): // what is not ocisync's there is drift
					say(n.Content[i], at, "Distribution has no such setting, and ignores it; %s", neighbours(known, at))
					problems[len(problems)-1].ignored = true
				}
			}
		case n.Kind == yaml.SequenceNode && listOfTables(known, path):
			for _, item := range n.Content {
				walk(item, path+"[]")
			}
		default:
			say(n, path, "write a table")
		}
	}
	walk(&d.root, "")
	problems = slices.Concat(problems, d.choices(), d.needs())
	slices.SortStableFunc(problems, func(a, b problem) int { return a.line - b.line })
	return problems
}

// problem is what is wrong with a line, 0 where something is missing.
type problem struct {
	line int
	at   string // the setting
	text string
	// ignored is what Distribution starts with all the same.
	ignored bool
}

// choices say of what there must be one that there is another number, or one that
// Distribution does not know.
func (d *document) choices() (problems []problem) {
	say := func(at, format string, args ...any) {
		problems = append(problems, problem{line: d.line(at), at: at, text: at + ": " + fmt.Sprintf(format, args...)})
	}
	if n := d.get("version"); n == nil || n.Value != configVersion {
		say("version", "write %s, with which alone Distribution starts", configVersion)
	}
	beside := []string{"cache", "delete", "maintenance", "redirect", "tag"}
	places := slices.DeleteFunc(names(d.get("storage")), func(name string) bool { return slices.Contains(beside, name) })
	switch {
	case len(places) == 0:
		say("storage", "it names no place for content; add one of %s", strings.Join(drivers(), ", "))
	case len(places) > 1:
		say("storage", "content has one place; keep one of %s", strings.Join(places, ", "))
	case !slices.Contains(append(drivers(), "s3aws"), places[0]):
		say("storage."+places[0], "Distribution has no such place for content; write one of %s", strings.Join(drivers(), ", "))
	}
	found := names(d.get("auth"))
	switch {
	case len(found) > 1:
		say("auth", "there is one way to log in; keep one of %s", strings.Join(found, ", "))
	case len(found) == 1 && !slices.Contains(ways(), strings.ToLower(found[0])):
		say("auth."+found[0], "Distribution has no such way to log in; write one of %s", strings.Join(ways(), ", "))
	}
	return problems
}

// needs say what is missing beside something that is there.
func (d *document) needs() (problems []problem) {
	has := func(path string) bool {
		n := d.get(path)
		return n != nil && n.Tag != "!!null"
	}
	say := func(at, text string) {
		problems = append(problems, problem{line: d.line(at), at: at, text: at + ": " + text})
	}
	missing := func(at string, wanted ...string) {
		for _, name := range wanted {
			if !has(at + "." + name) {
				say(at, "it needs "+name)
			}
		}
	}
	if d.get("auth.token") != nil {
		missing("auth.token", "realm", "service", "issuer")
		if !has("auth.token.jwks") && !has("auth.token.rootcertbundle") {
			say("auth.token", "it needs jwks or rootcertbundle")
		}
	}
	for _, way := range []string{"htpasswd", "silly"} {
		if d.get("auth."+way) != nil {
			missing("auth."+way, "realm", map[string]string{"htpasswd": "path", "silly": "service"}[way])
		}
	}
	if d.get("storage.redirect") != nil {
		missing("storage.redirect", "disable")
	}
	const purging = "storage.maintenance.uploadpurging"
	if n := d.get(purging); n != nil {
		if on := d.get(purging + ".enabled"); on == nil || on.Value != "false" {
			missing(purging, "age", "interval", "dryrun")
		}
	}
	if n := d.get("storage.maintenance.readonly"); n != nil && n.Tag == "!!null" {
		say("storage.maintenance.readonly", "write a table")
	}
	for _, name := range []string{"blobdescriptor", "layerinfo"} {
		if n := d.get("storage.cache." + name); n != nil && n.Value == "redis" && !has("redis.addrs") {
			say("storage.cache", "redis needs redis.addrs")
		}
	}
	return problems
}

// line is that of a path's last key, 0 where it is not there.
func (d *document) line(path string) int {
	parts := schema.SplitPath(path)
	n := &d.root
	for i, part := range parts {
		next := child(n, part)
		if next != nil && i == len(parts)-1 {
			at := slices.IndexFunc(n.Content, func(c *yaml.Node) bool { return c == next })
			return n.Content[at-1].Line
		}
		n = next
	}
	return 0
}

// names are the keys of a table, sorted.
func names(n *yaml.Node) (out []string) {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		out = append(out, n.Content[i].Value)
	}
	slices.Sort(out)
	return out
}

// holds reports whether settings stand below a path.
func holds(known []key, path string) bool {
	for _, k := range known {
		if strings.HasPrefix(k.path, path+".") || strings.HasPrefix(k.path, path+"[]") {
			return true
		}
	}
	return false
}

// wrong says why Distribution would not start with a value, "" if it does.
func (k key) wrong(n *yaml.Node) string {
	if !k.reads(n) {
		return "write " + string(k.is)
	}
	words, how := []*yaml.Node{n}, "one"
	if n.Kind == yaml.SequenceNode {
		words, how = n.Content, "some"
	}
	for _, w := range words {
		if !k.says(w.Value) {
			return "write " + how + " of " + strings.Join(k.of, ", ")
		}
	}
	return ""
}

// says reports whether a word is one of the key's, or stands for none.
func (k key) says(word string) bool {
	switch k.path {
	case "log.hooks[].type", "storage.cache.blobdescriptor": // it does without, then
		return true
	case "log.level", "loglevel", "validation.manifests.indexes.platforms":
		word = strings.ToLower(word)
	case "http.net", "http.tls.minimumtls", "log.formatter", "storage.azure.credentials.type":
		if word == "" {
			return true
		}
	}
	return k.of == nil || slices.Contains(k.of, word)
}

// reads reports whether Distribution reads a value as the key's: drivers of
// storage, and little else there, take numbers and truths as texts too, and a
// duration that is a number is one of nanoseconds.
func (k key) reads(n *yaml.Node) bool {
	scalar, loose := n.Kind == yaml.ScalarNode, placeOf(k.path) != "" || k.path == "storage.delete.enabled" || k.path == "storage.cache.blobdescriptorsize"
	switch k.is {
	case textValue:
		return scalar
	case quotedValue:
		return scalar && tagOf(n) == "!!str"
	case numberValue:
		return scalar && whole(n) && (n.Tag == "!!int" || loose) && (k.path != "tags.maxtags" || !strings.HasPrefix(n.Value, "-"))
	case boolValue:
		_, err := strconv.ParseBool(n.Value)
		return scalar && (tagOf(n) == "!!bool" || loose && err == nil)
	case durationValue:
		_, err := time.ParseDuration(n.Value)
		number := n.Tag == "!!int" && whole(n) && !strings.HasPrefix(k.path, "storage.maintenance.")
		return scalar && (number || err == nil)
	case textsValue:
		if n.Kind != yaml.SequenceNode {
			return false
		}
		for _, c := range n.Content {
			if c.Kind != yaml.ScalarNode {
				return false
			}
		}
		return true
	case tableValue:
		return n.Kind == yaml.MappingNode && len(n.Content) == 0
	case anyValue:
	}
	return true
}

// whole reports whether a value is a whole number of 64 bits.
func whole(n *yaml.Node) bool {
	_, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
	return err == nil
}

// odd is what is wrong with config.yml; nil where nothing is, or where it cannot
// be read, which who reads it says.
func (p *Provider) odd() []problem {
	now, err := p.file()
	if err != nil {
		return nil
	}
	return now.doc.strict()
}

// lines tell of problems, each with its line.
func (p *Provider) lines(problems []problem) (out []string) {
	for _, x := range problems {
		at := p.place.Config
		if x.line > 0 {
			at += fmt.Sprintf(":%d", x.line)
		}
		out = append(out, at+": "+x.text)
	}
	return out
}

// mends reports whether writing values does away with a problem.
func (p *Provider) mends(x problem, values schema.Values) bool {
	switch top, _, _ := strings.Cut(x.at, "."); {
	case x.at == "version": // one that is missing is added
		return x.line == 0
	case x.at == "storage":
		return slices.ContainsFunc(values, func(v schema.Value) bool { return placeOf(v.Path) != "" })
	case x.at == "auth": // of the ways to log in, ocisync's stays
		return p.way() != ""
	case top == "auth":
		return slices.ContainsFunc(values, func(v schema.Value) bool { return strings.HasPrefix(v.Path, "auth.") })
	}
	return false
}

// lined puts the line of an error of a document behind the file's name.
func lined(file string, err error) error {
	if rest, ok := strings.CutPrefix(err.Error(), "line "); ok {
		if line, text, ok := strings.Cut(rest, ": "); ok {
			if _, wrong := strconv.Atoi(line); wrong == nil {
				return errors.New(file + ":" + line + ": " + text)
			}
		}
	}
	return fmt.Errorf("%s: %w", file, err)
}

// secretTable reports whether all that lies at or below a path of a config.yml is
// secret: the key of a service account.
func secretTable(path string) bool {
	return path == "storage.gcs.credentials" || strings.HasPrefix(path, "storage.gcs.credentials.")
}

// secretAt reports whether what stands at a path of a config.yml is told nobody.
func secretAt(path string) bool {
	return schema.SecretSetting(schema.TypeDistribution, path) || secretTable(path)
}
