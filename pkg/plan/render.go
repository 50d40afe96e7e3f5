package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sergi/go-diff/diffmatchpatch"

	"github.com/ocisync/ocisync/schema"
)

// TextOptions says how [Plan.Text] shows a plan.
type TextOptions struct {
	Color   bool // ANSI colours; set only on a terminal
	Verbose bool // adopted and forgotten objects, every note and what nobody manages too
	// Unmanaged lists what nobody manages.
	Unmanaged bool
	// Apply is the command that applies the plan, for the line that tells how
	// to approve it, where an approval would help; "" leaves the hint out.
	Apply string
}

// Pending reports whether anything would change in the registry, now or after
// an approval.
func (p Plan) Pending() bool {
	return len(p.Held) > 0 || slices.ContainsFunc(p.Changes, func(c Change) bool { return !c.Recorded() })
}

// Blocked reports whether something is refused or held.
func (p Plan) Blocked() bool { return len(p.Held) > 0 || len(p.Refusals) > 0 }

// Approvable reports whether an approval would let more of the plan pass:
// something is held, or refused for the number of deletes alone.
func (p Plan) Approvable() bool {
	return p.Blocked() && !slices.ContainsFunc(p.Refusals, func(r Refusal) bool { return r.Key != (schema.Key{}) || r.Field != "" })
}

// Counts is how many changes of each sort a plan has; held ones are not among
// the first five.
type Counts struct {
	Create    int `json:"create"`
	Update    int `json:"update"`
	Replace   int `json:"replace"`
	Delete    int `json:"delete"`
	Rename    int `json:"rename"`
	Recorded  int `json:"recorded"` // adopt, forget, unprotect
	Held      int `json:"held"`
	Refused   int `json:"refused"`
	Unchanged int `json:"unchanged"`
}

// Printed is a plan as programs read it: with its digest and its counts.
// plan.schema.json describes it.
type Printed struct {
	Plan
	Approval string `json:"approval,omitempty"`
	Counts   Counts `json:"counts,omitzero"`
}

// Printed adds the digest and the counts.
func (p Plan) Printed() Printed { return Printed{p, p.Approval(), p.Count()} }

// Count counts.
func (p Plan) Count() Counts {
	n := Counts{Held: len(p.Held), Refused: len(p.Refusals), Unchanged: p.Unchanged}
	for _, c := range p.Changes {
		switch c.Action {
		case Create:
			n.Create++
		case Update:
			n.Update++
		case Replace:
			n.Replace++
		case Delete:
			n.Delete++
		case Rename:
			n.Rename++
		case Adopt, Forget, Unprotect:
			n.Recorded++
		}
	}
	return n
}

// String is the plan's last line.
func (n Counts) String() string {
	var parts []string
	say := func(count int, what string) {
		if count > 0 {
			parts = append(parts, strconv.Itoa(count)+" "+what)
		}
	}
	say(n.Create, "to create")
	say(n.Update, "to update")
	say(n.Rename, "to rename")
	say(n.Replace, "to replace")
	say(n.Delete, "to delete")
	say(n.Held, "held")
	say(n.Refused, "refused")
	if len(parts) == 0 {
		parts = append(parts, "no changes")
	}
	say(n.Unchanged, "unchanged")
	return strings.Join(parts, ", ")
}

// Text writes the plan for a person: what changes, what is held and refused,
// the notes, and one line of counts. Control characters in values are shown
// escaped. The error is the writer's.
func (p Plan) Text(w io.Writer, o TextOptions) error {
	t := &textWriter{w: w, color: o.Color}
	for _, c := range p.Changes {
		if c.Recorded() && !o.Verbose && c.Action != Unprotect {
			continue
		}
		t.change(c)
	}
	if o.Verbose {
		for _, k := range p.Same {
			t.line("    %s", t.paint(dim, safe(k.String())+"  (unchanged)"))
		}
	}
	if len(p.Held) > 0 {
		t.head("Held until approved:")
		for _, h := range p.Held {
			t.change(h.Change)
			t.line("      %s", t.paint(yellow, safe("held: "+h.Why)))
		}
	}
	if len(p.Refusals) > 0 {
		t.head("Refused:")
		for _, r := range p.Refusals {
			t.line("  %s %s", t.paint(red, "!"), r.String())
		}
	}
	if len(p.Notes) > 0 {
		t.head("Notes:")
		for _, line := range foldNotes(p.Notes, o.Verbose) {
			t.line("  %s", line)
		}
	}
	if len(p.Unmanaged) > 0 && (o.Verbose || o.Unmanaged) {
		t.head("Unmanaged (not in the file, never touched; ocisync adopt writes them into the mode):")
		for _, k := range p.Unmanaged {
			t.line("    %s", safe(k.String()))
		}
	}
	n := p.Count()
	if t.wrote {
		t.line("")
	}
	t.line("%s: %s %s: %s", safe(p.Mode), safe(p.Registry.Type), safe(p.Registry.URL), n)
	if n.Recorded > 0 && !o.Verbose {
		t.line("%s", t.paint(dim, fmt.Sprintf("%d object(s) to record or let go of, without touching the registry (-v lists them)", n.Recorded)))
	}
	if len(p.Unmanaged) > 0 && !o.Verbose && !o.Unmanaged {
		t.line("%s", t.paint(dim, fmt.Sprintf("%d object(s) that nobody manages, of the kinds that were read (-v lists them, --unmanaged those of every kind)", len(p.Unmanaged))))
	}
	if p.Approvable() && o.Apply != "" {
		t.line("To apply this plan and no other, held changes included:\n  %s --approve %s", o.Apply, p.Approval())
	}
	return t.err
}

// String says what is refused and why, on one line.
func (r Refusal) String() string {
	var sb strings.Builder
	if r.Source.File != "" {
		sb.WriteString(safe(r.Source.String()) + ": ")
	}
	if r.Key != (schema.Key{}) {
		sb.WriteString(safe(r.Key.String()) + ": ")
	}
	if r.Field != "" {
		sb.WriteString(safe(r.Field) + ": ")
	}
	return sb.String() + safe(r.Why)
}

// String puts the key before the text.
func (n Note) String() string {
	if n.Key == (schema.Key{}) {
		return safe(n.Text)
	}
	return safe(n.Key.String() + ": " + n.Text)
}

// foldNotes shows a remark that concerns many objects once, with a count.
func foldNotes(notes []Note, verbose bool) []string {
	const few = 3
	same := map[string]int{}
	for _, n := range notes {
		same[string(n.Key.Kind)+"\x00"+n.Text]++
	}
	var out []string
	shown := map[string]bool{}
	for _, n := range notes {
		id := string(n.Key.Kind) + "\x00" + n.Text
		if same[id] <= few || verbose || n.Key == (schema.Key{}) {
			out = append(out, n.String())
		} else if !shown[id] {
			out = append(out, safe(fmt.Sprintf("%s and %d more of kind %s: %s", n.Key, same[id]-1, n.Key.Kind, n.Text)))
		}
		shown[id] = true
	}
	return out
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
	bold   = "1"
)

type textWriter struct {
	w     io.Writer
	color bool
	wrote bool
	err   error
}

func (t *textWriter) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format+"\n", args...)
	}
	t.wrote = true
}

func (t *textWriter) head(s string) {
	if t.wrote {
		t.line("")
	}
	t.line("%s", t.paint(bold, s))
}

func (t *textWriter) paint(code, s string) string {
	if !t.color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// withContent is what is said of a change that purges.
const withContent = "with all its content"

// locked is what is said of a change that archives.
const locked = "archived: it stays with its content, locked"

// symbol is the sign and the colour of an action.
func symbol(a Action) (sign, color string) {
	switch a {
	case Create:
		return "+", green
	case Delete:
		return "-", red
	case Replace:
		return "±", red
	case Rename:
		return ">", yellow
	case Adopt:
		return "=", dim
	case Forget:
		return "?", dim
	case Unprotect:
		return "!", yellow
	case Update:
	}
	return "~", yellow
}

func (t *textWriter) change(c Change) {
	sign, color := symbol(c.Action)
	var tags []string
	if c.Reason == Drifted {
		tags = append(tags, "drifted")
	}
	if c.Effect != Live && c.Effect != "" {
		tags = append(tags, "needs "+string(c.Effect))
	}
	if c.Action == Replace || c.Action == Adopt || c.Action == Forget || c.Action == Unprotect || c.Action == Rename {
		tags = append(tags, string(c.Action))
	}
	if c.Purge {
		tags = append(tags, withContent)
	}
	if c.Archive {
		tags = append(tags, locked)
	}
	if c.AsOf != "" {
		tags = append(tags, "as recorded at "+c.AsOf)
	}
	suffix := ""
	if len(tags) > 0 {
		suffix = "  (" + strings.Join(tags, ", ") + ")"
	}
	head := fmt.Sprintf("  %s %s%s", t.paint(color, sign), safe(c.Key.String()), t.paint(dim, suffix))
	if len(c.Fields) == 1 && !c.Fields[0].long() {
		f := c.Fields[0]
		t.line("%s  %s %s", head, safe(label(c, f)), t.values(c.Action, f))
		t.impact(c)
		return
	}
	t.line("%s", head)
	width := 0
	for _, f := range c.Fields {
		width = max(width, utf8.RuneCountInString(safe(label(c, f))))
	}
	width = min(width, 40)
	for _, f := range c.Fields {
		f.Path = label(c, f)
		t.field(c.Action, f, width)
	}
	t.impact(c)
}

func (t *textWriter) impact(c Change) {
	for _, im := range c.Impact {
		t.line("      %s", t.paint(yellow, safe(im)))
	}
}

// label is a field's path as the file has it: of settings, without the name of
// their open table.
func label(c Change, f Field) string {
	if c.Key.Kind == schema.KindSettings {
		return strings.TrimPrefix(f.Path, "values.")
	}
	return f.Path
}

func (t *textWriter) field(a Action, f Field, width int) {
	path := fmt.Sprintf("%-*s", width, safe(f.Path))
	if !f.long() {
		t.line("      %s  %s", path, t.values(a, f))
		return
	}
	t.line("      %s", strings.TrimRight(path, " "))
	for _, l := range lineDiff(plain(f.Old), plain(f.New)) {
		color := dim
		switch l[0] {
		case '+':
			color = green
		case '-':
			color = red
		}
		t.line("        %s", t.paint(color, l))
	}
}

// long reports whether a change of the field is shown as a diff of lines.
func (f Field) long() bool {
	return f.Old != "" && f.New != "" && !f.Sensitive && (isLong(f.Old) || isLong(f.New))
}

// values shows what a field was and will be.
func (t *textWriter) values(a Action, f Field) string {
	switch {
	case a == Create || f.Old == "":
		return f.new()
	case f.New == "":
		return t.paint(red, f.old()+" -> none")
	}
	return f.old() + " -> " + f.new()
}

func (f Field) old() string { return show(f.Old, f.Sensitive || f.Old == unreadText) }
func (f Field) new() string { return show(f.New, f.Sensitive) }

// show prints canonical JSON for reading, with a space after the commas of
// lists. Only a word of ours stands without quotes.
func show(jsonText string, word bool) string {
	if word {
		return safe(plain(jsonText))
	}
	var sb strings.Builder
	quoted, escaped := false, false
	for _, r := range jsonText {
		sb.WriteRune(r)
		switch {
		case escaped:
			escaped = false
		case r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case r == ',' && !quoted:
			sb.WriteByte(' ')
		}
	}
	return safe(sb.String())
}

// plain undoes the quoting of a JSON text.
func plain(jsonText string) string {
	var s string
	if json.Unmarshal([]byte(jsonText), &s) != nil {
		return jsonText
	}
	return s
}

// isLong reports whether a text is better shown as a diff of lines.
func isLong(jsonText string) bool {
	return strings.HasPrefix(jsonText, `"`) && strings.Contains(plain(jsonText), "\n")
}

// lineDiff lists the lines of both texts, marked "+ ", "- " or "  ", with at
// most two unchanged lines around each change. Of texts too long to compare in
// reasonable time all lines are shown.
func lineDiff(old, new string) []string {
	const most = 2000
	if strings.Count(old, "\n")+strings.Count(new, "\n") > most {
		var all []string
		for _, side := range []struct{ mark, text string }{{"- ", old}, {"+ ", new}} {
			for l := range strings.SplitSeq(strings.TrimSuffix(side.text, "\n"), "\n") {
				all = append(all, side.mark+safe(l))
			}
		}
		return all
	}
	dmp := diffmatchpatch.New()
	dmp.DiffTimeout = 0 // the result depends on the texts, not on the clock
	a, b, lines := dmp.DiffLinesToChars(old, new)
	var all []string
	for _, d := range dmp.DiffCharsToLines(dmp.DiffMain(a, b, false), lines) {
		mark := "  "
		switch d.Type {
		case diffmatchpatch.DiffInsert:
			mark = "+ "
		case diffmatchpatch.DiffDelete:
			mark = "- "
		case diffmatchpatch.DiffEqual:
		}
		for l := range strings.SplitSeq(strings.TrimSuffix(d.Text, "\n"), "\n") {
			all = append(all, mark+safe(l))
		}
	}
	const around = 2
	var out []string
	gap := false
	for i, l := range all {
		near := false
		for j := max(0, i-around); j <= min(len(all)-1, i+around); j++ {
			near = near || all[j][0] != ' '
		}
		if near {
			out, gap = append(out, l), false
		} else if !gap {
			out, gap = append(out, "  …"), true
		}
	}
	return out
}

// safe shows control and other unprintable characters escaped, so that a name
// from a hostile registry cannot move the cursor or hide text.
func safe(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var sb strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			sb.WriteRune(r)
			continue
		}
		q := strconv.QuoteRuneToASCII(r)
		sb.WriteString(q[1 : len(q)-1])
	}
	return sb.String()
}
