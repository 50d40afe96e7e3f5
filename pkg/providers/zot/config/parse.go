package config

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/ocisync/ocisync/schema"
)

// parser reads JSON as Zot's own reader takes it, which is strict, and refuses
// besides what that reader takes silently: a key that stands twice.
type parser struct {
	file   string
	src    string
	from   int // where the source begins in the file
	at     int
	values int
	folds  bool
}

// parseValue reads one value that is no file.
func parseValue(src string, depth int) (*node, error) {
	p := &parser{src: src}
	p.space()
	n, err := p.value(depth)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(src) {
		return nil, p.errorAt(p.at, "something follows the value", "")
	}
	return n, nil
}

func (p *parser) errorAt(at int, text, remedy string) error {
	return &Error{At: position(p.file, p.src, at), Text: text, Remedy: remedy}
}

func position(file, src string, at int) schema.Position {
	before := src[:min(at, len(src))]
	return schema.Position{File: file, Line: 1 + strings.Count(before, "\n"), Col: len(before) - strings.LastIndexByte(before, '\n')}
}

func (p *parser) space() string {
	start := p.at
	for p.at < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.at]) >= 0 {
		p.at++
	}
	return p.src[start:p.at]
}

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.at < len(p.src) {
		return p.src[p.at]
	}
	return 0
}

func (p *parser) value(depth int) (*node, error) {
	if p.values++; p.values > MaxValues {
		return nil, p.errorAt(p.at, fmt.Sprintf("more than %d values stand in the file", MaxValues), "is it the right file?")
	}
	start := p.at
	switch c := p.peek(); {
	case c == '{' || c == '[':
		if depth > MaxDepth {
			return nil, p.errorAt(p.at, fmt.Sprintf("tables and lists lie more than %d deep", MaxDepth), "is it the right file?")
		}
		n, err := p.container(depth, c)
		if err == nil && p.folds && depth == folds {
			n.fold(p.src[start:p.at], p.from+start)
		}
		return n, err
	case c == '"':
		text, err := p.quoted()
		return &node{kind: '"', text: text}, err
	case c == '-' || digit(c):
		return p.number()
	case p.at >= len(p.src):
		return nil, p.errorAt(p.at, "the file ends where a value is expected", "is it complete?")
	}
	for p.at < len(p.src) && 'a' <= p.src[p.at]|0x20 && p.src[p.at]|0x20 <= 'z' {
		p.at++
	}
	switch word := p.src[start:p.at]; word {
	case "true", "false", "null":
		return &node{kind: 't', text: word}, nil
	default:
		p.at = start
		return nil, p.unexpected("a value")
	}
}

func (p *parser) container(depth int, open byte) (*node, error) {
	n := &node{kind: open}
	start := p.at
	p.at++
	space := p.space()
	if p.peek() == open+2 {
		p.at++
		n.space = space
		return n, nil
	}
	for {
		it := &item{before: space, at: p.from + p.at}
		if open == '{' {
			if err := p.member(n, it, start); err != nil {
				return nil, err
			}
		}
		var err error
		if it.value, err = p.value(depth + 1); err != nil {
			return nil, err
		}
		it.after = p.space()
		n.insert(len(n.items), it)
		switch p.peek() {
		case open + 2:
			p.at++
			return n, nil
		case ',':
			p.at++
		default:
			if p.at >= len(p.src) {
				return nil, p.errorAt(start, fmt.Sprintf("this %c is not closed before the file ends", open), "is the file complete?")
			}
			return nil, p.unexpected(fmt.Sprintf("a comma or %c", open+2))
		}
		space = p.space()
		if p.peek() == open+2 {
			return nil, p.errorAt(p.at, fmt.Sprintf("a comma stands before %c", open+2), "remove it")
		}
	}
}

// member reads a key and the colon, and what is between them.
func (p *parser) member(n *node, it *item, start int) error {
	switch {
	case p.at >= len(p.src):
		return p.errorAt(start, "this { is not closed before the file ends", "is the file complete?")
	case p.peek() != '"':
		return p.unexpected("a key in quotes")
	}
	var err error
	if it.key, err = p.quoted(); err != nil {
		return err
	}
	it.fold = fold(unquote(it.key))
	if first := n.lookup(it.fold); first != nil {
		pos := position(p.file, p.src, first.at)
		where := fmt.Sprintf("in line %d, column %d", pos.Line, pos.Col)
		if p.file != "" {
			where = "at " + pos.String()
		}
		return &Error{position(p.file, p.src, it.at), fmt.Sprintf("the key %s stands here again, after %s %s: Zot, which ignores case, takes one of the two silently, and only files in which each stands once are edited", it.key, first.key, where), "remove one", true}
	}
	mid := p.at
	p.space()
	if p.peek() != ':' {
		return p.unexpected("a colon")
	}
	p.at++
	p.space()
	it.mid = p.src[mid:p.at]
	return nil
}

func (p *parser) unexpected(want string) error {
	if p.at >= len(p.src) {
		return p.errorAt(p.at, "the file ends where "+want+" is expected", "is it complete?")
	}
	r, _ := utf8.DecodeRuneInString(p.src[p.at:])
	switch r {
	case '/', '#':
		return p.errorAt(p.at, want+" is expected here", "Zot's JSON has no comments: remove it")
	case '\'':
		return p.errorAt(p.at, want+" is expected here", `write double quotes`)
	}
	return p.errorAt(p.at, fmt.Sprintf("%s is expected here, not %q", want, r), "")
}

// quoted reads a text in quotes and returns it as it is written.
func (p *parser) quoted() (string, error) {
	start := p.at
	for p.at++; p.at < len(p.src); p.at++ {
		switch c := p.src[p.at]; {
		case c == '"':
			p.at++
			return p.src[start:p.at], nil
		case c < ' ':
			return "", p.errorAt(p.at, "a text goes over the end of its line", `close it with ", or write \n`)
		case c == '\\':
			p.at++
			switch e := p.peek(); {
			case strings.IndexByte(`"\/bfnrt`, e) >= 0 && e != 0:
			case e == 'u' && hex(p.src[p.at+1:]):
				p.at += 4
			default:
				return "", p.errorAt(p.at-1, "no character is written like this", `a backslash itself is \\`)
			}
		}
	}
	return "", p.errorAt(start, "this text is not closed before the file ends", "is the file complete?")
}

func hex(s string) bool {
	if len(s) < 4 {
		return false
	}
	for i := range 4 {
		if !digit(s[i]) && (s[i]|0x20 < 'a' || s[i]|0x20 > 'f') {
			return false
		}
	}
	return true
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func (p *parser) number() (*node, error) {
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	whole := p.at
	digits := func() bool {
		from := p.at
		for digit(p.peek()) {
			p.at++
		}
		return p.at > from
	}
	ok := digits()
	if p.src[whole:min(whole+1, len(p.src))] == "0" && p.at > whole+1 {
		return nil, p.errorAt(start, "a number begins with 0", "write it without")
	}
	if ok && p.peek() == '.' {
		p.at++
		ok = digits()
	}
	if ok && p.peek()|0x20 == 'e' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		ok = digits()
	}
	if !ok {
		return nil, p.errorAt(start, "the number is not complete", "")
	}
	return &node{kind: '0', text: p.src[start:p.at]}, nil
}

// fold brings a key into the form in which Zot compares it.
func fold(key string) string { return strings.ToLower(key) }

// unquote returns what a text in quotes says. It must be well-formed.
func unquote(text string) string {
	inner := text[1 : len(text)-1]
	if !strings.Contains(inner, `\`) && utf8.ValidString(inner) {
		return inner
	}
	var s string
	if json.Unmarshal([]byte(text), &s) != nil {
		return inner
	}
	return s
}

// quote writes a text as JSON, with no more escapes than it needs.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil { // a text always encodes
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// formatOf refuses what is not JSON, by name or by what it looks like.
func formatOf(name, text string) error {
	say := func(what, how string) error {
		p := schema.Position{File: name, Line: 1, Col: 1}
		named := strings.EqualFold(filepath.Ext(name), ".json") // Zot goes by that
		return &Error{p, "this configuration is " + what + ", and only JSON is edited without touching what nobody asked to change",
			how + ", see that `zot verify config.json` is content, start Zot with that file, and name it in registry.files.config", !named}
	}
	const (
		yaml = "convert it once, with Python and PyYAML: `python3 -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin), indent=2))' <%s >config.json`"
		toml = "convert it once, with Python 3.11 or later: `python3 -c 'import json, sys, tomllib; print(json.dumps(tomllib.load(sys.stdin.buffer), indent=2))' <%s >config.json`"
	)
	base := filepath.Base(name)
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".json":
	case ".yaml", ".yml":
		return say("YAML", fmt.Sprintf(yaml, base))
	case ".toml":
		return say("TOML", fmt.Sprintf(toml, base))
	case ".env", ".dotenv", ".properties", ".props", ".prop", ".ini", ".hcl", ".tfvars":
		return say("of the format "+ext, "write it anew as JSON")
	}
	if rest, ok := strings.CutPrefix(text, "\ufeff"); ok && strings.HasPrefix(strings.TrimSpace(rest), "{") {
		return &Error{At: schema.Position{File: name, Line: 1, Col: 1}, Text: "the file begins with a byte order mark, at which Zot fails", Remedy: "save it as UTF-8 without one"}
	}
	text = strings.TrimLeft(text, " \t\r\n")
	if text == "" {
		return &Error{At: schema.Position{File: name, Line: 1, Col: 1}, Text: "the file is empty", Remedy: `the least that Zot starts with is {"storage":{"rootDirectory":"…"}}`}
	}
	if text[0] == '{' || strings.EqualFold(filepath.Ext(name), ".json") && text[0] == '[' {
		return nil
	}
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSpace(line)
	switch key, value, _ := strings.Cut(line, "="); {
	case strings.HasPrefix(line, "["), strings.TrimSpace(key) != line && !strings.Contains(key, ":") && strings.TrimSpace(value) != "":
		return say("TOML", fmt.Sprintf(toml, base))
	case strings.HasPrefix(line, "---"), strings.HasPrefix(line, "#"), strings.HasSuffix(line, ":"), strings.Contains(line, ": "):
		return say("YAML", fmt.Sprintf(yaml, base))
	}
	return &Error{At: schema.Position{File: name, Line: 1, Col: 1}, Text: "this is no JSON", Remedy: "a configuration begins with {"}
}
