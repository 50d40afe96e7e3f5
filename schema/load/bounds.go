package load

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Bounds of what is read, checked before or while it is parsed. They keep the
// cost of any mode, whoever wrote it, below a second and 256 MiB, and are far
// from any real one: a mode of 4,000 namespaces with 12 lines each has 120,000
// values.
const (
	maxFile   = 4 << 20
	maxDepth  = 32
	maxKey    = 1024    // bytes of a key with the names of the tables it stands in
	maxTables = 50_000  // headers of a mode
	maxNodes  = 250_000 // tables and values of a mode, and again after defaults
	maxItems  = 10_000  // elements of a list
	maxTold   = 500     // problems of one file's syntax

	// maxPatterns is of patterns of objects: a plan compares each with each object.
	maxPatterns = 1000

	// maxDots is of one line: the parser keeps all parts of a dotted key.
	maxDots = 50_000
)

// bounds refuses what must not reach the parser.
func (p *parser) bounds() bool {
	t := p.tree
	if len(t.Data) > maxFile {
		t.broken, p.exceeded = true, true
		p.problems = append(p.problems, Problem{Position: t.Position(0), What: fmt.Sprintf("the file has %d bytes", len(t.Data)),
			Want: fmt.Sprintf("at most %d MiB are read; split it", maxFile>>20)})
		return false
	}
	if bytes.HasPrefix(t.Data, []byte("\xEF\xBB\xBF")) {
		t.broken = true
		p.fail(0, "", "the file begins with a byte order mark", "save it without one, as plain UTF-8")
		return false
	}
	for i := 0; i < len(t.Data); {
		c := t.Data[i]
		if c >= utf8.RuneSelf {
			if r, n := utf8.DecodeRune(t.Data[i:]); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			t.broken = true
			p.fail(i, "", fmt.Sprintf("byte 0x%02X is not UTF-8", c), "save the file as UTF-8")
			return false
		}
		if c == 0 {
			t.broken = true
			p.fail(i, "", "a zero byte stands here", "a mode's file is text; remove it")
			return false
		}
		i++
	}
	depth, commas, dots := 0, 0, 0
	for i, c := range t.Data { // those in texts count too: harmless at these bounds, which are far from any real file
		switch c {
		case ',':
			if commas++; commas > maxNodes {
				t.broken, p.exceeded = true, true
				p.fail(i, "", "the file has too many values", fmt.Sprintf("at most %d are read; split it", maxNodes))
				return false
			}
		case '.':
			if dots++; dots > maxDots {
				t.broken = true
				p.fail(i, "", "the line has too many dots", fmt.Sprintf("a key has at most %d parts", maxDepth))
				return false
			}
		case '[', '{':
			if depth++; depth > 4*maxDepth {
				t.broken = true
				p.fail(i, "", "brackets are nested too deeply", fmt.Sprintf("at most %d levels are read", maxDepth))
				return false
			}
		case ']', '}':
			depth--
		case '\n':
			depth, dots = max(depth, 0), 0
		}
	}
	return true
}

// syntax turns the parser's error into a problem.
func (p *parser) syntax(u *unstable.Parser, err error) {
	p.tree.broken = true
	offset := len(p.tree.Data)
	var perr *unstable.ParserError
	what := "this is not TOML"
	if errors.As(err, &perr) {
		what = perr.Message
		if len(perr.Highlight) > 0 {
			offset = int(u.Range(perr.Highlight).Offset)
		}
	}
	want := "write TOML 1.0"
	for _, w := range [][2]string{
		{"'=' after key", "write key = value"},
		{"close table name", "a table begins with [name] on a line of its own"},
		{"close array table", "a list of tables begins with [[name]] on a line of its own"},
		{"expected newline", "end the line here, or begin a comment with #"},
		{"start of value", "write a text in quotes, a number, true, false, a list or a table"},
		{"expected value", "write a text in quotes, a number, true, false, a list or a table"},
		{"start of key", `a key is letters, digits, - and _; anything else stands in quotes`},
		{"expected key", "write a key"},
		{"integer", "a whole number has no leading zero, and _ only between digits"},
		{"float", "a number has digits on both sides of its point"},
		{"string", "close the text with the quote it began with, on the same line"},
		{"escape", `a backslash begins \n, \t, \", \\ or \uXXXX; texts in single quotes take it as it is`},
		{"array", "part the elements of a list by commas and close it with ]"},
		{"inline table", "write { key = value, other = value } on one line"},
	} {
		if strings.Contains(what, w[0]) {
			want = w[1]
			break
		}
	}
	if r, n := utf8.DecodeRune(p.tree.Data[min(offset, len(p.tree.Data)):]); n > 1 && !strings.Contains(what, "escape") && !strings.Contains(what, "string") {
		what = fmt.Sprintf("the letter %s, %U, stands outside of quotes", quote(string(r)), r)
		want = "anything but ASCII letters, digits, - and _ stands in quotes"
	}
	problem := p.tree.problem(min(offset, len(p.tree.Data)), "", what, want)
	start, end := p.tree.span(problem.Line)
	if line := p.tree.Data[start:end]; !bytes.ContainsAny(line, "=[") { // possibly inside a text of several lines
		p.tree.secret = append(p.tree.secret, Range{start, end})
	}
	p.problems = append(p.problems, problem)
}
