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
	// SourceLine is the line of the file, or what of it is near the column,
	// what may be a secret masked.
	SourceLine string `json:"source_line,omitempty"`

	indent string // of the caret below SourceLine
	tree   *Tree  // until SourceLine is known: what is to be hidden may be found later
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
	return Safe(text)
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
		fmt.Fprintf(&b, "    %s\n    %s^\n", p.SourceLine, p.indent)
	}
	return b.String()
}

func (e *Errors) sort() {
	type place struct {
		tree *Tree
		line int
	}
	lines := map[place]*sourceLine{}
	ordered := map[*Tree]bool{}
	for i, p := range *e {
		if p.tree == nil {
			continue
		}
		if !ordered[p.tree] {
			p.tree.secret, ordered[p.tree] = order(p.tree.secret), true
		}
		at := place{p.tree, p.Line}
		if lines[at] == nil {
			lines[at] = p.tree.source(p.Line)
		}
		(*e)[i].SourceLine, (*e)[i].indent = lines[at].around(p.Col)
		(*e)[i].tree = nil
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
// Those beyond what one run tells of, and more besides, are counted.
func (e Errors) err(more int) error {
	if len(e) == 0 {
		return nil
	}
	if n := len(e) + more; n > maxProblems {
		e = append(slices.Clone(e[:maxProblems]), Problem{What: fmt.Sprintf("%d more problems were found", n-maxProblems), Want: "mend these first"})
	}
	e.sort()
	return e
}

// secretKey finds keys that may hold a secret, misspelt ones too, and all that
// follows on their line. It errs on the side of hiding.
var secretKey = regexp.MustCompile(`(?i)((?:pas+w|pwd|secret|token|cred|auth|apikey|private|\bkey|_key)[\w-]*["']?\s*=\s*)(?:"(?:[^"\\]|\\.)*"?|'[^']*'?|[^{\[\s,}#][^,}#]*)`)

// secretWords are in each key that secretKey finds.
func secretWords() []string {
	return []string{"pas", "pwd", "secret", "token", "cred", "auth", "key", "private"}
}
