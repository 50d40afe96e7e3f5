package load

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	schema.Position
	Key  string `json:"key,omitempty"`  // dotted path of the key, "" for the file as a whole
	What string `json:"what"`           // what is wrong
	Want string `json:"want,omitempty"` // what would be right
	// Also is the other place of a duplicate.
	Also schema.Position `json:"also,omitzero"`
	// SourceLine is the line of the file, what may be a secret masked.
	SourceLine string `json:"source_line,omitempty"`

	tree *Tree // until SourceLine is known: what is to be hidden may be found later
}

// String prints one line: file:line:col: key: what; want.
func (p Problem) String() string {
	var parts []string
	switch {
	case p.Line > 0:
		parts = append(parts, p.Position.String())
	case p.File != "":
		parts = append(parts, p.File)
	}
	if p.Key != "" {
		parts = append(parts, p.Key)
	}
	text := strings.Join(append(parts, p.What), ": ")
	if p.Also.File != "" {
		text += " (also at " + p.Also.String() + ")"
	}
	if p.Want != "" {
		text += "; " + p.Want
	}
	return text
}

// Errors is every problem found in one run, sorted by place.
type Errors []Problem

// Error prints one problem a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Render prints the problems for a terminal: below each one its source line
// and a caret.
func (e Errors) Render() string {
	var b strings.Builder
	for _, p := range e {
		b.WriteString(p.String() + "\n")
		if p.SourceLine == "" {
			continue
		}
		indent := make([]rune, 0, p.Col)
		for i, r := range p.SourceLine {
			if i >= p.Col-1 {
				break
			}
			if r != '\t' {
				r = ' '
			}
			indent = append(indent, r)
		}
		fmt.Fprintf(&b, "    %s\n    %s^\n", p.SourceLine, string(indent))
	}
	return b.String()
}

func (e *Errors) sort() {
	for i, p := range *e {
		if p.tree != nil {
			(*e)[i].SourceLine, (*e)[i].tree = p.tree.line(p.Line), nil
		}
	}
	slices.SortStableFunc(*e, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.What, b.What))
	})
	*e = slices.Compact(*e)
}

// maxProblems is how many problems one run tells of.
const maxProblems = 500

// err is nil without problems; otherwise the problems, sorted.
func (e Errors) err() error {
	if len(e) == 0 {
		return nil
	}
	if n := len(e); n > maxProblems {
		e = append(slices.Clone(e[:maxProblems]), Problem{What: fmt.Sprintf("%d more problems were found", n-maxProblems), Want: "mend these first"})
	}
	e.sort()
	return e
}

// secretKey finds keys that may hold a secret, misspelt ones too, and all that
// follows on their line. It errs on the side of hiding.
var secretKey = regexp.MustCompile(`(?i)((?:pas+w|pwd|secret|token|cred|auth|apikey|private|\bkey|_key)[\w-]*["']?\s*=\s*)(?:"(?:[^"\\]|\\.)*"?|'[^']*'?|[^{\[\s,}#][^,}#]*)`)

// mask hides what may be a secret in a source line: ranges of the line (from,
// to) that are known to be one, then what a key's name suggests. The line
// keeps its columns up to the first hidden text.
func mask(line string, ranges [][2]int) string {
	b := []byte(line)
	for _, r := range ranges {
		for i := max(r[0], 0); i < min(r[1], len(b)); i++ {
			b[i] = '*'
		}
	}
	for i, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			b[i] = '?'
		}
	}
	return secretKey.ReplaceAllString(string(b), `${1}"***"`)
}
