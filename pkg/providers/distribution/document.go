package distribution

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"

	"github.com/ocisync/ocisync/schema"
)

const (
	maxConfig = 1 << 20 // bytes
	maxDepth  = 32
	// configVersion is the one that Distribution 2 and 3 have.
	configVersion = "0.1"
)

// document is a config.yml. It is edited by the key: what is not edited keeps
// its order, its comments and its values.
type document struct {
	root yaml.Node // a mapping
}

// parseDocument reads one. An empty one is new.
func parseDocument(b []byte) (*document, error) {
	if len(b) > maxConfig {
		return nil, fmt.Errorf("it is larger than %d MiB", maxConfig>>20)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		return &document{yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}}, nil
	case err != nil:
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if more := new(yaml.Node); !errors.Is(dec.Decode(more), io.EOF) {
		return nil, errors.New("it holds more than one document; leave one")
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: it is no table of keys and values", root.Line)
	}
	root.HeadComment = joinComments(doc.HeadComment, root.HeadComment)
	root.FootComment = joinComments(root.FootComment, doc.FootComment)
	if err := plainNode(root, 0); err != nil {
		return nil, err
	}
	spellNulls(root, false)
	for _, name := range []string{"storage", "auth"} { // "storage: inmemory" says the same as a table
		if n := child(root, name); n != nil && n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			choice := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: n.Value}
			*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", LineComment: n.LineComment, Content: []*yaml.Node{
				choice, {Kind: yaml.MappingNode, Tag: "!!map", Style: yaml.FlowStyle},
			}}
		}
	}
	return &document{*root}, nil
}

func joinComments(a, b string) string { return strings.Trim(a+"\n\n"+b, "\n") }

// plainNode refuses what cannot be edited by the key.
func plainNode(n *yaml.Node, depth int) error {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fmt.Errorf("line %d: it uses an anchor or an alias; write the values out", n.Line)
	case depth > maxDepth:
		return fmt.Errorf("line %d: it is nested deeper than %d", n.Line, maxDepth)
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]int{}
		for i := 0; i < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
				return fmt.Errorf("line %d: this key is no plain one; write it out", k.Line)
			}
			if before, ok := seen[k.Value]; ok {
				return fmt.Errorf("lines %d and %d: the key %q stands twice; leave one", before, k.Line, k.Value)
			}
			seen[k.Value] = k.Line
		}
	}
	for _, c := range n.Content {
		if err := plainNode(c, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// spellNulls writes out what has no value within braces and brackets: the
// encoder would make an empty string of it.
func spellNulls(n *yaml.Node, flow bool) {
	flow = flow || n.Style&yaml.FlowStyle != 0
	if flow && n.Tag == "!!null" && n.Value == "" {
		n.Value = "null"
	}
	for _, c := range n.Content {
		spellNulls(c, flow)
	}
}

// bytes is the document as it is written.
func (d *document) bytes() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	err := enc.Encode(&d.root)
	return b.Bytes(), errors.Join(err, enc.Close())
}

// child is the value of a key, nil where there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// get is what stands at a path, nil where nothing does.
func (d *document) get(path string) *yaml.Node {
	n := &d.root
	for _, part := range schema.SplitPath(path) {
		if n = child(n, part); n == nil {
			return nil
		}
	}
	return n
}

// set puts a JSON value at a path, in the place of what stands there.
func (d *document) set(path, value string) error {
	node, err := jsonNode([]byte(value))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	n := &d.root
	parts := schema.SplitPath(path)
	for i, part := range parts {
		next := child(n, part)
		last := i == len(parts)-1
		switch {
		case next == nil:
			next = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: part}, next)
			n.Style &^= yaml.FlowStyle
		case !last && next.Tag == "!!null":
			*next = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", LineComment: next.LineComment}
		case !last && next.Kind != yaml.MappingNode:
			return fmt.Errorf("%s: line %d has a value in the place of a table; take it out", path, next.Line)
		}
		if last {
			node.HeadComment, node.LineComment, node.FootComment = next.HeadComment, next.LineComment, next.FootComment
			*next = *node
		}
		n = next
	}
	return nil
}

// drop takes a path out.
func (d *document) drop(path string) {
	parts := schema.SplitPath(path)
	n := &d.root
	for _, part := range parts[:len(parts)-1] {
		if n = child(n, part); n == nil {
			return
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == parts[len(parts)-1] {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}

// leaves are the values, flattened and sorted, and the paths of those that are
// secret, of which no value is told.
func (d *document) leaves() (values schema.Values, secrets []string, err error) {
	values = schema.Values{}
	var walk func(n *yaml.Node, at string) error
	walk = func(n *yaml.Node, at string) error {
		if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
			for i := 0; i+1 < len(n.Content); i += 2 {
				path := schema.JoinPath(n.Content[i].Value)
				if at != "" {
					path = at + "." + path
				}
				if err := walk(n.Content[i+1], path); err != nil {
					return err
				}
			}
			return nil
		}
		if secretAt(at) || holdsSecret(n) {
			secrets = append(secrets, at)
			return nil
		}
		if n.Tag == "!!null" && tableKey(at) {
			values = append(values, schema.Value{Path: at, JSON: "{}"})
			return nil
		}
		text, err := nodeJSON(n)
		if err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		values = append(values, schema.Value{Path: at, JSON: text})
		return nil
	}
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if key := d.root.Content[i].Value; key != "version" {
			if err := walk(d.root.Content[i+1], schema.JoinPath(key)); err != nil {
				return nil, nil, err
			}
		}
	}
	slices.SortFunc(values, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
	slices.Sort(secrets)
	return values, secrets, nil
}

// holdsSecret reports whether a value, such as a list of webhooks with the
// headers they are sent, or an address with a password in it, holds what nobody
// is to see in a plan.
func holdsSecret(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "://") {
		u, err := url.Parse(n.Value)
		return err != nil || u.User != nil || u.RawQuery != ""
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := strings.ToLower(n.Content[i].Value)
			if schema.SecretSetting(schema.TypeDistribution, key) || slices.Contains([]string{"authorization", "cookie", "x-api-key", "token"}, key) {
				return true
			}
		}
	}
	return slices.ContainsFunc(n.Content, holdsSecret)
}

// jsonNode turns JSON, which is YAML, into nodes as people write them. Texts
// keep their quotes: without them "on" and "1:30" are other values to
// Distribution's parser.
func jsonNode(b []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	var err error
	var block func(n *yaml.Node)
	block = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Style == 0 { // strings of JSON are quoted
			err = errors.Join(err, fmt.Errorf("%s is no number that YAML holds", n.Value))
		}
		n.Line, n.Column = 0, 0
		if n.Kind != yaml.ScalarNode && len(n.Content) > 0 {
			n.Style = 0
		}
		for i, c := range n.Content {
			block(c)
			if n.Kind == yaml.MappingNode && i%2 == 0 && schema.BareKey(c.Value) {
				c.Style = 0
			}
		}
	}
	node := doc.Content[0]
	block(node)
	return node, err
}

// nodeJSON is a node as canonical JSON.
func nodeJSON(n *yaml.Node) (string, error) {
	var b strings.Builder
	if err := writeNode(&b, n); err != nil {
		return "", err
	}
	return schema.CanonicalJSON([]byte(b.String()))
}

func writeNode(b *strings.Builder, n *yaml.Node) error {
	text := func(s string) error {
		j, err := json.Marshal(s)
		b.Write(j)
		return err
	}
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := text(n.Content[i].Value); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := writeNode(b, n.Content[i+1]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeNode(b, c); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	default:
		return writeScalar(b, n, text)
	}
	return nil
}

// tagOf is what Distribution's parser, of YAML 1.1, takes a value for: "yes" and
// "off" without quotes are truths to it.
func tagOf(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Style == 0 {
		switch n.Value {
		case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF":
			return "!!bool"
		}
	}
	return n.Tag
}

func writeScalar(b *strings.Builder, n *yaml.Node, text func(string) error) error {
	switch tagOf(n) {
	case "!!null":
		b.WriteString("null")
	case "!!bool":
		fmt.Fprint(b, slices.Contains([]string{"y", "yes", "on", "true"}, strings.ToLower(n.Value)))
	case "!!int":
		var v int64
		if err := n.Decode(&v); err != nil {
			return err
		}
		fmt.Fprint(b, v)
	case "!!float":
		var v float64
		if err := n.Decode(&v); err != nil {
			return err
		}
		j, err := json.Marshal(v)
		b.Write(j)
		return err
	default:
		return text(n.Value)
	}
	return nil
}

// version tells one content of the file from another.
func version(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
