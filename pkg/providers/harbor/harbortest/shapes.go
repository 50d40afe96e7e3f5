package harbortest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// shapesJSON is Harbor's API description, as far as requests can be checked
// by it. It is made from the description of a Harbor release:
//
//	go run ./testdata/harbor/shapes < swagger.yaml > pkg/providers/harbor/harbortest/shapes.json
//
//go:embed shapes.json
var shapesJSON []byte

// shapes are the operations by method and path, and the types of bodies by
// name: the type of each field as Go has it, and after it what else holds of
// its values.
type shapes struct {
	Operations map[string]operation         `json:"operations"`
	Types      map[string]map[string]string `json:"types"`
}

// operation is what one takes: its query, and the name and type of its body.
type operation struct {
	Query    map[string]string `json:"query"`
	Body     string            `json:"body"`
	Of       string            `json:"of"`
	Required bool              `json:"required"`
}

func readShapes() shapes {
	var s shapes
	// a broken one has no operations, and every request is told to Fail
	_ = json.Unmarshal(shapesJSON, &s)
	for _, key := range laterMetadata() {
		if metadata := s.Types["ProjectMetadata"]; metadata != nil {
			metadata[key] = "string"
		}
	}
	return s
}

// check holds a request against its operation. What Harbor refuses is
// returned; what it ignores, and no client of ours should send, is unknown.
func (s shapes) check(op operation, c *call) (unknown []string, refused *refusal) {
	for name := range c.query {
		declared, known := op.Query[name]
		if !known {
			unknown = append(unknown, "query "+name)
		} else if r := checkQuery(name, declared, c.query.Get(name)); r != nil {
			refused = r
		}
	}
	for name, declared := range op.Query {
		if strings.HasSuffix(declared, " required") && !c.query.Has(name) {
			refused = unprocessable("%s in query is required", name)
		}
	}
	if op.Body == "" {
		if len(c.raw) > 0 && string(c.raw) != "{}" {
			unknown = append(unknown, "a body")
		}
		return unknown, refused
	}
	fields, r := s.checkBody(op, c.raw)
	if refused == nil {
		refused = r
	}
	return append(unknown, fields...), refused
}

func checkQuery(name, declared, value string) *refusal {
	kind, rest, _ := strings.Cut(declared, " ")
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case kind == "int64" && err != nil:
		return unprocessable("%s in query must be of type int64: %q", name, value)
	case kind == "bool" && !slices.Contains([]string{"true", "false", "1", "0"}, value):
		return unprocessable("%s in query must be of type bool: %q", name, value)
	}
	for rule := range strings.FieldsSeq(rest) {
		if top, is := strings.CutPrefix(rule, "max="); is && strconv.FormatInt(n, 10) != top {
			if limit, err := strconv.ParseInt(top, 10, 64); err == nil && n > limit {
				return unprocessable("%s in query should be less than or equal to %s", name, top)
			}
		}
	}
	return nil
}

func (s shapes) checkBody(op operation, raw []byte) (unknown []string, refused *refusal) {
	if len(raw) == 0 {
		if op.Required {
			return nil, unprocessable("%s in body is required", op.Body)
		}
		return nil, nil
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, unprocessable("parsing %s body from %q failed, because %v", op.Body, "", err)
	}
	w := walk{shapes: s, body: op.Body}
	w.value(value, op.Of, "", "")
	return w.unknown, w.refused
}

// walk goes through a body. Of what is wrong it keeps the first.
type walk struct {
	shapes  shapes
	body    string
	unknown []string
	refused *refusal
}

// value looks at a value of a declared type; of and path are the struct it is
// in and the fields that lead to it.
func (w *walk) value(v any, declared, of, path string) {
	kind, rest, _ := strings.Cut(declared, " ")
	if strings.HasPrefix(declared, "map ") {
		kind, rest = "map", strings.TrimPrefix(declared, "map ")
	}
	if v == nil || kind == "any" {
		return
	}
	switch {
	case strings.HasPrefix(kind, "[]"):
		items, is := v.([]any)
		if !is {
			w.mismatch(v, goType(declared), of, path)
		}
		for _, item := range items {
			w.value(item, strings.TrimPrefix(declared, "[]"), of, path)
		}
	case kind == "map":
		w.values(v, declared, rest, of, path)
	case unicode.IsUpper(first(kind)):
		w.object(v, kind, of, path)
	default:
		w.scalar(v, kind, rest, of, path)
	}
}

func (w *walk) values(v any, declared, each, of, path string) {
	values, is := v.(map[string]any)
	if !is {
		w.mismatch(v, goType(declared), of, path)
	}
	for _, item := range values {
		w.value(item, each, of, path)
	}
}

func (w *walk) object(v any, name, of, path string) {
	values, is := v.(map[string]any)
	if !is {
		w.mismatch(v, "models."+name, of, path)
		return
	}
	for field, declared := range w.shapes.Types[name] {
		if strings.HasSuffix(declared, " required") && values[field] == nil {
			w.refuse("validation failure list:\n%s in body is required", joined(path, field))
		}
	}
	for field, item := range values {
		declared, known := w.shapes.Types[name][field]
		if !known {
			w.unknown = append(w.unknown, "field "+joined(path, field)+" of "+name)
			continue
		}
		w.value(item, declared, name, joined(path, field))
	}
}

func (w *walk) scalar(v any, kind, rest, of, path string) {
	good := false
	switch v.(type) {
	case string:
		good = kind == "string"
	case bool:
		good = kind == "bool"
	case float64:
		good = strings.HasPrefix(kind, "int") || strings.HasPrefix(kind, "float")
	}
	if !good {
		w.mismatch(v, kind, of, path)
		return
	}
	for rule := range strings.FieldsSeq(rest) {
		if values, is := strings.CutPrefix(rule, "enum="); is && !slices.Contains(strings.Split(values, "|"), fmt.Sprint(v)) {
			w.refuse("validation failure list:\n%s in body should be one of [%s]", path, strings.ReplaceAll(values, "|", " "))
		}
		if limit, is := strings.CutPrefix(rule, "length="); is {
			if n, err := strconv.Atoi(limit); err == nil && utf8.RuneCountInString(fmt.Sprint(v)) > n {
				w.refuse("validation failure list:\n%s in body should be at most %d chars long", path, n)
			}
		}
	}
}

// mismatch is the wrong type, in the words of encoding/json.
func (w *walk) mismatch(v any, wanted, of, path string) {
	have := map[bool]string{true: "object"}[v != nil]
	switch v.(type) {
	case string:
		have = "string"
	case bool:
		have = "bool"
	case float64:
		have = "number"
	case []any:
		have = "array"
	}
	where := "Go value"
	if of != "" {
		where = "Go struct field " + of + "." + path
	}
	w.refuse("parsing %s body from %q failed, because json: cannot unmarshal %s into %s of type %s", w.body, "", have, where, wanted)
}

func (w *walk) refuse(format string, of ...any) {
	if w.refused == nil {
		w.refused = unprocessable(format, of...)
	}
}

// goType is a declared type as Go prints it.
func goType(declared string) string {
	switch {
	case strings.HasPrefix(declared, "[]"):
		return "[]" + goPointer(strings.TrimPrefix(declared, "[]"))
	case strings.HasPrefix(declared, "map "):
		return "map[string]" + goType(strings.TrimPrefix(declared, "map "))
	case declared == "any":
		return "interface {}"
	case unicode.IsUpper(first(declared)):
		return "models." + declared
	}
	return declared
}

func goPointer(declared string) string {
	if unicode.IsUpper(first(declared)) {
		return "*models." + declared
	}
	return goType(declared)
}

func first(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

func joined(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}
