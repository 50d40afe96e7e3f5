package distribution

import (
	"errors"
	"fmt"
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
		key{path: "loglevel", is: textValue},
		key{path: "auth.*", is: anyValue},
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
		problems = append(problems, problem{n.Line, path + ": " + fmt.Sprintf(format, args...)})
	}
	walk = func(n *yaml.Node, path string) {
		if n.Tag == "!!null" {
			return // as if it were not there
		}
		k, ok := find(known, path)
		switch {
		case ok:
			if !k.reads(n, strings.HasPrefix(path, "storage.")) {
				say(n, path, "write %s", k.is)
			}
		case listOfTables(known, path) && n.Kind != yaml.SequenceNode:
			say(n, path, "write a list of tables")
		case n.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				at := n.Content[i].Value
				if path != "" {
					at = path + "." + at
				}
				if _, ok := find(known, at); !ok && !holds(known, at) {
					say(n.Content[i], at, "Distribution has no such setting, and ignores it; %s", neighbours(known, at))
					continue
				}
				walk(n.Content[i+1], at)
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
	return problems
}

// problem is what is wrong with a line.
type problem struct {
	line int
	text string
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

// reads reports whether Distribution reads a value as the key's: drivers of
// storage take numbers and truths as texts too, and a duration that is a number
// is one of nanoseconds.
func (k key) reads(n *yaml.Node, loose bool) bool {
	scalar := n.Kind == yaml.ScalarNode
	switch k.is {
	case textValue:
		return scalar
	case numberValue:
		_, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
		return scalar && err == nil && (n.Tag == "!!int" || loose)
	case boolValue:
		_, err := strconv.ParseBool(n.Value)
		return scalar && (tagOf(n) == "!!bool" || loose && err == nil)
	case durationValue:
		_, err := time.ParseDuration(n.Value)
		return scalar && (n.Tag == "!!int" || err == nil)
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

// odd is what is wrong with config.yml, by line; nil where nothing is, or where
// it cannot be read, which who reads it says.
func (p *Provider) odd() []string {
	now, err := p.file()
	if err != nil {
		return nil
	}
	var out []string
	for _, x := range now.doc.strict() {
		out = append(out, fmt.Sprintf("%s:%d: %s", p.place.Config, x.line, x.text))
	}
	return out
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
