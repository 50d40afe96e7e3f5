package load

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// Safe makes a text fit to be printed, wherever it comes from: what does not
// show, what steers a terminal and what turns around the text about it is
// written as an escape. Line ends and tabs stay.
func Safe(s string) string {
	if !strings.ContainsFunc(s, unsafe) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02X`, s[i])
		case !unsafe(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
		i += n
	}
	return b.String()
}

// SafeLine is [Safe] for what is to stay on its line: line ends and tabs are escapes
// too, so that no name begins a line of its own, which a pipeline would obey.
func SafeLine(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(Safe(s), "\n", `\n`), "\t", `\t`)
}

// SafeJSON escapes in a JSON text what [Safe] does elsewhere, so that it stays JSON.
func SafeJSON(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

func unsafe(r rune) bool {
	return r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' && r != '\t'
}

// blank replaces a text by what takes as much room on a terminal.
func blank(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t':
			b.WriteByte('\t')
		case unicode.In(r, unicode.Mn, unicode.Me):
		case slices.Contains([]width.Kind{width.EastAsianWide, width.EastAsianFullwidth}, width.LookupRune(r).Kind()):
			b.WriteString("  ")
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// Bounds of a source line that is shown, in bytes.
const (
	maxLine   = 240  // a longer one is shown around the column
	before    = 100  // of the column, then
	maxSearch = 4096 // a longer one is not shown if anything in it might be a secret
)

// sourceLine is a line of a file with what may be a secret found.
type sourceLine struct {
	text   []byte
	hidden [][]int // what a key's name suggests, sorted
	secret bool    // not to be shown at all
}

// source prepares a line for [sourceLine.around].
func (t *Tree) source(line int) *sourceLine {
	start, end := t.span(line)
	s := &sourceLine{text: bytes.TrimRight(t.Data[start:end], "\r\n")}
	if i, _ := slices.BinarySearchFunc(t.secret, start, func(r Range, at int) int { return r.End - at }); i < len(t.secret) && t.secret[i].Start < end {
		s.text = bytes.Clone(s.text)
		for ; i < len(t.secret) && t.secret[i].Start < end; i++ {
			for j := max(t.secret[i].Start-start, 0); j < min(t.secret[i].End-start, len(s.text)); j++ {
				s.text[j] = '*'
			}
		}
	}
	if len(s.text) <= maxSearch {
		for _, m := range secretKey.FindAllSubmatchIndex(s.text, -1) {
			s.hidden = append(s.hidden, []int{m[3], m[1]}) // what follows the key
		}
		return s
	}
	lower := bytes.ToLower(s.text)
	for _, word := range secretWords() {
		s.secret = s.secret || bytes.Contains(lower, []byte(word))
	}
	return s
}

// around is what is shown of the line for a problem at a column, and what
// stands below it before the caret.
func (s *sourceLine) around(col int) (shown, indent string) {
	if s.secret {
		return "", ""
	}
	at := min(col-1, len(s.text))
	from, to := 0, len(s.text)
	if len(s.text) > maxLine {
		from, to = max(0, at-before), min(len(s.text), max(0, at-before)+maxLine)
	}
	for from > 0 && !utf8.RuneStart(s.text[from]) {
		from--
	}
	for to < len(s.text) && !utf8.RuneStart(s.text[to]) {
		to--
	}
	var head, tail strings.Builder
	write := func(i, j int) {
		i, j = max(i, from), min(j, to)
		if i < min(j, at) {
			head.Write(s.text[i:min(j, at)])
		}
		if max(i, at) < j {
			tail.Write(s.text[max(i, at):j])
		}
	}
	next := 0
	for _, h := range s.hidden {
		write(next, h[0])
		if next = h[1]; h[1] > from && h[0] < to {
			if h[1] <= at {
				head.WriteString(`"***"`)
			} else {
				tail.WriteString(`"***"`)
			}
		}
	}
	write(next, len(s.text))
	left, right := Safe(head.String()), Safe(tail.String())
	if from > 0 {
		left = "…" + left
	}
	if to < len(s.text) {
		right += "…"
	}
	return left + right, blank(left)
}

// order sorts and joins ranges.
func order(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return a.Start - b.Start })
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && r.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}
