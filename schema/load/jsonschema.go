package load

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// jsonSchema is the part of JSON Schema 2020-12 that is written.
type jsonSchema struct {
	Schema      string                 `json:"$schema,omitempty"`
	Title       string                 `json:"title,omitempty"`
	Ref         string                 `json:"$ref,omitempty"`
	Description string                 `json:"description,omitempty"`
	Type        string                 `json:"type,omitempty"`
	Const       json.RawMessage        `json:"const,omitempty"`
	Enum        []string               `json:"enum,omitempty"`
	Minimum     *int64                 `json:"minimum,omitempty"`
	Maximum     *int64                 `json:"maximum,omitempty"`
	Items       *jsonSchema            `json:"items,omitempty"`
	Properties  map[string]*jsonSchema `json:"properties,omitempty"`
	Required    []string               `json:"required,omitempty"`
	Additional  json.RawMessage        `json:"additionalProperties,omitempty"`
	AnyOf       []*jsonSchema          `json:"anyOf,omitempty"`
	Defs        map[string]*jsonSchema `json:"$defs,omitempty"`
}

// JSONSchema returns the JSON Schema of one file of a mode, for editors. A key
// that a block requires may stand in another file or in the defaults, so only
// inline tables of lists state what they require.
func JSONSchema() ([]byte, error) {
	defs, err := define()
	if err != nil {
		return nil, err
	}
	w := schemaWriter{defs: map[string]*jsonSchema{}, byRef: defs.byRef}
	root := w.table(defs.get("Mode"), false)
	root.Schema, root.Title = "https://json-schema.org/draft/2020-12/schema", "A file of an ocisync mode"
	root.Defs = w.defs
	w.defs["unmanaged"] = &jsonSchema{Const: json.RawMessage(`"unmanaged"`), Description: "Undoes a default: the key is not managed."}
	if w.err != nil {
		return nil, w.err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type schemaWriter struct {
	defs  map[string]*jsonSchema
	byRef map[string]*def
	err   error
}

// schema describes a definition; inList says that nothing else adds keys to it.
func (w *schemaWriter) schema(d *def, inList bool) *jsonSchema {
	if d.name != "" && w.byRef["#"+d.name] == d {
		name := d.name
		if inList && d.is("table") {
			name += "Item"
		}
		if w.defs[name] == nil {
			w.defs[name] = &jsonSchema{} // before its parts
			*w.defs[name] = *w.bare(d, inList)
		}
		return &jsonSchema{Ref: "#/$defs/" + name}
	}
	return w.bare(d, inList)
}

func (w *schemaWriter) bare(d *def, inList bool) *jsonSchema {
	s := &jsonSchema{Description: d.doc}
	switch {
	case len(d.alts) > 0:
		for _, a := range d.alts {
			s.AnyOf = append(s.AnyOf, w.schema(a, inList))
		}
	case d.number != "":
		s.Const = json.RawMessage(d.number)
	case d.is("list"):
		s.Type, s.Items = "array", w.schema(d.elem, true)
	case d.is("table"):
		return w.table(d, inList)
	case d.is("int"):
		s.Type, s.Minimum, s.Maximum = "integer", d.min, d.max
	case d.is("bool"):
		s.Type = "boolean"
	default:
		s.Type, s.Enum = "string", d.enum
	}
	return s
}

func (w *schemaWriter) table(d *def, inList bool) *jsonSchema {
	s := &jsonSchema{Type: "object", Description: d.doc}
	for _, f := range d.fields {
		if s.Properties == nil {
			s.Properties = map[string]*jsonSchema{}
		}
		p := w.schema(f.def, inList)
		if !inList {
			p = &jsonSchema{AnyOf: []*jsonSchema{p, {Ref: "#/$defs/unmanaged"}}}
		}
		if f.doc != "" {
			p.Description = f.doc
		}
		s.Properties[f.name] = p
		if f.required && inList {
			s.Required = append(s.Required, f.name)
		}
	}
	switch {
	case d.rest != nil:
		text, err := json.Marshal(w.schema(d.rest, inList))
		if err != nil {
			w.err = err
		}
		s.Additional = text
	case !d.open:
		s.Additional = json.RawMessage(strconv.FormatBool(false))
	}
	return s
}
