package load

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// commentColumn is where comments behind a value begin, if it is shorter.
const commentColumn = 48

// Format writes a file in the one style: keys aligned within a block of lines,
// single blanks inside values, comments behind values at one column, at most
// one empty line. Comments and order stay; what the file means stays. Format
// of what Format wrote changes nothing. The error is an [Errors] of a file
// that does not parse.
func Format(file string, data []byte) ([]byte, error) {
	if _, err := Parse(file, data); err != nil {
		return nil, err
	}
	f := formatter{in: data}
	f.file()
	return f.out.Bytes(), nil
}

// Upgrade brings a file to the newest version of the format, which is 1, and
// formats it. It adds the version where none is named.
func Upgrade(file string, data []byte) ([]byte, error) {
	t, err := Parse(file, data)
	if err != nil {
		return nil, err
	}
	if t.Root.Get("version") == nil {
		at := 0
		for at < len(data) && data[at] == '#' { // after the comment that heads the file
			at += bytes.IndexByte(data[at:], '\n') + 1
			if at == 0 || data[at-1] != '\n' {
				data = append(bytes.Clone(data), '\n')
				at = len(data)
			}
		}
		data = append(append(bytes.Clone(data[:at]), "version = 1\n"...), data[at:]...)
	}
	return Format(file, data)
}

// formatter reads a file that is known to parse, line by line.
type formatter struct {
	in    []byte
	at    int
	out   bytes.Buffer
	block []entry // lines of key = value that stand together
	blank bool    // an empty line came before
}

type entry struct{ key, value, comment string }

func (f *formatter) file() {
	f.in = bytes.ReplaceAll(f.in, []byte("\r\n"), []byte("\n"))
	for f.at < len(f.in) {
		f.skipBlanks()
		switch {
		case f.at >= len(f.in):
		case f.in[f.at] == '\n':
			f.flush()
			f.blank = f.out.Len() > 0
			f.at++
		case f.in[f.at] == '#':
			f.flush()
			f.line(f.comment())
		case f.in[f.at] == '[':
			f.flush()
			f.line(withComment(f.header(), f.tail()))
		default:
			if f.blank {
				f.flush()
			}
			key := f.key('=')
			f.at++
			value := f.value()
			f.block = append(f.block, entry{key, value, f.tail()})
		}
	}
	f.flush()
}

func (f *formatter) line(s string) {
	if f.blank {
		f.out.WriteByte('\n')
	}
	f.blank = false
	f.out.WriteString(s + "\n")
}

// alignedKey is the longest key, in runes, that others are aligned with. Beside
// one of a thousand, many short ones would make a file of many times its size.
const alignedKey = 64

// flush writes the block of lines at hand.
func (f *formatter) flush() {
	width := 0
	for _, e := range f.block {
		if n := utf8.RuneCountInString(e.key); n <= alignedKey {
			width = max(width, n)
		}
	}
	for _, e := range f.block {
		f.line(withComment(e.key+strings.Repeat(" ", max(0, width-utf8.RuneCountInString(e.key)))+" = "+e.value, e.comment))
	}
	f.block = f.block[:0]
}

func withComment(code, comment string) string {
	if comment == "" {
		return code
	}
	last := code[strings.LastIndexByte(code, '\n')+1:]
	return code + strings.Repeat(" ", max(1, commentColumn-utf8.RuneCountInString(last))) + comment
}

func (f *formatter) skipBlanks() {
	for f.at < len(f.in) && (f.in[f.at] == ' ' || f.in[f.at] == '\t') {
		f.at++
	}
}

// comment takes a comment up to the end of its line, which it leaves for tail.
func (f *formatter) comment() string {
	end := len(f.in)
	if i := bytes.IndexByte(f.in[f.at:], '\n'); i >= 0 {
		end = f.at + i
	}
	s := strings.TrimRight(string(f.in[f.at:end]), " \t")
	f.at = min(end+1, len(f.in))
	return s
}

// tail takes the comment behind a value, if any, and the end of the line.
func (f *formatter) tail() string {
	f.skipBlanks()
	if f.at < len(f.in) && f.in[f.at] == '#' {
		return f.comment()
	}
	if f.at < len(f.in) {
		f.at++
	}
	return ""
}

func (f *formatter) header() string {
	open := 1
	if f.in[f.at+1] == '[' {
		open = 2
	}
	f.at += open
	key := f.key(']')
	f.at += open
	return strings.Repeat("[", open) + key + strings.Repeat("]", open)
}

// key takes a key up to a byte that ends it, without the blanks around it.
func (f *formatter) key(end byte) string {
	var b strings.Builder
	for f.in[f.at] != end {
		switch c := f.in[f.at]; c {
		case ' ', '\t':
			f.at++
		case '"', '\'':
			b.WriteString(f.text())
		default:
			b.WriteByte(c)
			f.at++
		}
	}
	return b.String()
}

// text takes a text with its quotes.
func (f *formatter) text() string {
	start, quote := f.at, f.in[f.at]
	long := []byte{quote, quote, quote}
	if bytes.HasPrefix(f.in[f.at:], long) {
		for f.at += 3; !bytes.HasPrefix(f.in[f.at:], long); f.at++ {
			if f.in[f.at] == '\\' && quote == '"' {
				f.at++
			}
		}
		for f.at += 3; f.at < len(f.in) && f.in[f.at] == quote; f.at++ { // up to two quotes may end the text itself
		}
		return string(f.in[start:f.at])
	}
	for f.at++; f.in[f.at] != quote; f.at++ {
		if f.in[f.at] == '\\' && quote == '"' {
			f.at++
		}
	}
	f.at++
	return string(f.in[start:f.at])
}

// value takes a value.
func (f *formatter) value() string {
	f.skipBlanks()
	switch f.in[f.at] {
	case '"', '\'':
		return f.text()
	case '{':
		return f.inlineTable()
	case '[':
		return f.list("")
	}
	start := f.at
	for f.at < len(f.in) && !strings.ContainsRune(",]}#\n", rune(f.in[f.at])) {
		f.at++
	}
	raw := strings.TrimRight(string(f.in[start:f.at]), " \t")
	f.at = start + len(raw)
	return raw
}

func (f *formatter) inlineTable() string {
	f.at++
	var fields []string
	for {
		f.skipBlanks()
		switch f.in[f.at] {
		case '}':
			f.at++
			if len(fields) == 0 {
				return "{}"
			}
			return "{ " + strings.Join(fields, ", ") + " }"
		case ',':
			f.at++
		default:
			key := f.key('=')
			f.at++
			fields = append(fields, key+" = "+f.value())
		}
	}
}

// list takes a list. One that runs over several lines, or holds a comment,
// gets a line for each element.
func (f *formatter) list(indent string) string {
	f.at++
	type item struct{ text, comment string }
	var items []item
	long, fresh := false, true // fresh: the line has no element yet
	for f.in[f.at] != ']' {
		switch f.in[f.at] {
		case ' ', '\t', ',':
			f.at++
		case '\n':
			long, fresh = true, true
			f.at++
		case '#':
			c := f.comment()
			if fresh || len(items) == 0 {
				items = append(items, item{"", c})
			} else {
				items[len(items)-1].comment = c
			}
			long, fresh = true, true
		case '[':
			items = append(items, item{f.list(indent + "  "), ""})
			fresh = false
		default:
			items = append(items, item{f.value(), ""})
			fresh = false
		}
	}
	f.at++
	if !long || len(items) == 0 {
		texts := make([]string, len(items))
		for i, it := range items {
			texts[i] = it.text
		}
		return "[" + strings.Join(texts, ", ") + "]"
	}
	var b strings.Builder
	b.WriteString("[\n")
	for _, it := range items {
		b.WriteString(indent + "  ")
		switch {
		case it.text == "":
			b.WriteString(it.comment)
		case it.comment == "":
			b.WriteString(it.text + ",")
		default:
			b.WriteString(it.text + ", " + it.comment)
		}
		b.WriteByte('\n')
	}
	b.WriteString(indent + "]")
	return b.String()
}
