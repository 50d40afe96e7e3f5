// Command shapes reads Harbor's API description, a Swagger 2 file in YAML, on
// its standard input and writes what the stand-in checks requests against:
// every operation with its query and its body, and the fields and types of
// the bodies.
//
//	go run ./testdata/harbor/shapes < swagger.yaml > pkg/providers/harbor/harbortest/shapes.json
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is what is read of the description.
type document struct {
	Paths       map[string]map[string]yaml.Node `yaml:"paths"`
	Definitions map[string]schema               `yaml:"definitions"`
	Parameters  map[string]parameter            `yaml:"parameters"`
}

type parameter struct {
	Ref      string `yaml:"$ref"`
	Name     string `yaml:"name"`
	In       string `yaml:"in"`
	Required bool   `yaml:"required"`
	Body     schema `yaml:"schema"`
	Type     string `yaml:"type"`
	Format   string `yaml:"format"`
	Maximum  *int   `yaml:"maximum"`
}

type schema struct {
	Ref        string            `yaml:"$ref"`
	Type       string            `yaml:"type"`
	Format     string            `yaml:"format"`
	Enum       []string          `yaml:"enum"`
	Maximum    *int              `yaml:"maximum"`
	MaxLength  *int              `yaml:"maxLength"`
	Items      *schema           `yaml:"items"`
	Values     yaml.Node         `yaml:"additionalProperties"`
	Properties map[string]schema `yaml:"properties"`
	Needs      []string          `yaml:"required"`
}

// shapes is what is written; harbortest reads the same.
type shapes struct {
	Operations map[string]operation         `json:"operations"`
	Types      map[string]map[string]string `json:"types"`
}

type operation struct {
	Query    map[string]string `json:"query,omitempty"`
	Body     string            `json:"body,omitempty"`
	Of       string            `json:"of,omitempty"`
	Required bool              `json:"required,omitempty"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var doc document
	if err := yaml.NewDecoder(in).Decode(&doc); err != nil {
		return fmt.Errorf("cannot read the description: %w; give it on standard input", err)
	}
	if len(doc.Paths) == 0 {
		return errors.New("the description has no paths; is it Swagger 2?")
	}
	made := shapes{Operations: map[string]operation{}, Types: map[string]map[string]string{}}
	for at, methods := range doc.Paths {
		for method, node := range methods {
			var op struct {
				Parameters []parameter `yaml:"parameters"`
			}
			if method == "parameters" {
				continue
			}
			if err := node.Decode(&op); err != nil {
				return fmt.Errorf("%s %s: %w", method, at, err)
			}
			made.Operations[strings.ToUpper(method)+" "+at] = doc.operation(op.Parameters, made.Types)
		}
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", " ")
	return enc.Encode(made)
}

func (d document) operation(parameters []parameter, types map[string]map[string]string) operation {
	op := operation{Query: map[string]string{}}
	for _, p := range parameters {
		if p.Ref != "" {
			p = d.Parameters[path.Base(p.Ref)]
		}
		switch p.In {
		case "query":
			s := schema{Type: p.Type, Format: p.Format, Maximum: p.Maximum}
			op.Query[p.Name] = constrained(d.typeOf(s, types), s, p.Required)
		case "body":
			op.Body, op.Of, op.Required = p.Name, d.typeOf(p.Body, types), p.Required
		}
	}
	return op
}

// typeOf names the type of s as Go would, and enters the named ones in types.
func (d document) typeOf(s schema, types map[string]map[string]string) string {
	switch {
	case s.Ref != "":
		name := path.Base(s.Ref)
		d.define(name, types)
		if t := d.Definitions[name]; t.Type == "string" {
			return "string"
		} else if v := d.values(t, types); v != "" {
			return v
		}
		return name
	case s.Type == "integer" && s.Format != "":
		return s.Format
	case s.Type == "integer":
		return "int64"
	case s.Type == "boolean":
		return "bool"
	case s.Type == "array" && s.Items != nil:
		return "[]" + d.typeOf(*s.Items, types)
	case s.Type == "string":
		return "string"
	}
	if v := d.values(s, types); v != "" {
		return v
	}
	return "any"
}

// values is the type of a map, and empty where s is none.
func (d document) values(s schema, types map[string]map[string]string) string {
	var of schema
	if s.Values.Kind != yaml.MappingNode || len(s.Properties) > 0 || s.Values.Decode(&of) != nil {
		return ""
	}
	return "map " + d.typeOf(of, types)
}

func (d document) define(name string, types map[string]map[string]string) {
	if _, done := types[name]; done || d.Definitions[name].Properties == nil {
		return
	}
	fields := map[string]string{}
	types[name] = fields
	for field, s := range d.Definitions[name].Properties {
		fields[field] = constrained(d.typeOf(s, types), s, slices.Contains(d.Definitions[name].Needs, field))
	}
}

// constrained appends to a type what else holds of its values.
func constrained(t string, s schema, required bool) string {
	if len(s.Enum) > 0 {
		t += " enum=" + strings.Join(s.Enum, "|")
	}
	if s.Maximum != nil {
		t += fmt.Sprintf(" max=%d", *s.Maximum)
	}
	if s.MaxLength != nil {
		t += fmt.Sprintf(" length=%d", *s.MaxLength)
	}
	if required {
		t += " required"
	}
	return t
}
