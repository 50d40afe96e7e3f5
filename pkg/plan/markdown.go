package plan

import (
	"fmt"
	"io"
	"strings"
)

// Markdown writes the plan for a comment on a pull request: the verdict and
// the counts first, destructive changes next, the details folded.
func (p Plan) Markdown(w io.Writer) error {
	var sb strings.Builder
	n := p.Count()
	fmt.Fprintf(&sb, "### ocisync: %s\n\n", mdText(p.Mode))
	switch {
	case n.Refused > 0:
		sb.WriteString("**Refused.** This plan cannot be applied.\n\n")
	case n.Held > 0:
		sb.WriteString("**Held.** Part of this plan waits for an approval.\n\n")
	case !p.Pending():
		sb.WriteString("**No changes.**\n\n")
	}
	fmt.Fprintf(&sb, "%s at %s: %s.\n", mdText(p.Registry.Type), mdText(p.Registry.URL), n)
	if len(p.Refusals) > 0 {
		sb.WriteString("\n#### Refused\n\n")
		for _, r := range p.Refusals {
			fmt.Fprintf(&sb, "- %s\n", mdText(r.String()))
		}
	}
	var destructive, rest []Change
	for _, c := range p.Changes {
		switch {
		case c.Recorded():
		case c.Deletes() > 0:
			destructive = append(destructive, c)
		default:
			rest = append(rest, c)
		}
	}
	if len(p.Held) > 0 {
		sb.WriteString("\n#### Held until approved\n\n")
		for _, h := range p.Held {
			fmt.Fprintf(&sb, "- %s: %s\n", mdHead(h.Change), mdText(h.Why))
			mdFields(&sb, h.Change)
		}
	}
	if len(destructive) > 0 {
		sb.WriteString("\n#### Takes away\n\n")
		for _, c := range destructive {
			fmt.Fprintf(&sb, "- %s\n", mdHead(c))
			mdFields(&sb, c)
		}
	}
	if len(rest) > 0 {
		fmt.Fprintf(&sb, "\n<details><summary>%d other change(s)</summary>\n\n", len(rest))
		for _, c := range rest {
			fmt.Fprintf(&sb, "- %s\n", mdHead(c))
			mdFields(&sb, c)
		}
		sb.WriteString("\n</details>\n")
	}
	if len(p.Notes) > 0 {
		fmt.Fprintf(&sb, "\n<details><summary>%d note(s)</summary>\n\n", len(p.Notes))
		for _, l := range foldNotes(p.Notes, false) {
			fmt.Fprintf(&sb, "- %s\n", mdText(l))
		}
		sb.WriteString("\n</details>\n")
	}
	if len(p.Unmanaged) > 0 {
		fmt.Fprintf(&sb, "\n<details><summary>%d object(s) that nobody manages</summary>\n\n", len(p.Unmanaged))
		for _, k := range p.Unmanaged {
			fmt.Fprintf(&sb, "- %s\n", mdCode(k.String()))
		}
		sb.WriteString("\n</details>\n")
	}
	if p.Pending() {
		fmt.Fprintf(&sb, "\nPlan `%s`\n", p.Approval())
	}
	_, err := io.WriteString(w, sb.String())
	return err
}

func mdHead(c Change) string {
	s := fmt.Sprintf("%s %s", c.Action, mdCode(c.Key.String()))
	if c.Reason != Declared {
		s += " (" + string(c.Reason) + ")"
	}
	if c.Effect != Live && c.Effect != "" {
		s += ", needs " + string(c.Effect)
	}
	if c.Purge {
		s += ", " + withContent
	}
	if c.Archive {
		s += ", " + locked
	}
	if c.AsOf != "" {
		s += ", as recorded at " + mdText(c.AsOf)
	}
	return s
}

func mdFields(sb *strings.Builder, c Change) {
	for _, f := range c.Fields {
		f.Path = label(c, f)
		switch {
		case f.Old != "" && f.New != "" && !f.Sensitive && (isLong(f.Old) || isLong(f.New)):
			fmt.Fprintf(sb, "  - %s:\n", mdCode(f.Path))
			mdDiff(sb, lineDiff(plain(f.Old), plain(f.New)))
		case f.Old == "":
			fmt.Fprintf(sb, "  - %s: %s\n", mdCode(f.Path), mdCode(f.new()))
		case f.New == "":
			fmt.Fprintf(sb, "  - %s: %s → none\n", mdCode(f.Path), mdCode(f.old()))
		default:
			fmt.Fprintf(sb, "  - %s: %s → %s\n", mdCode(f.Path), mdCode(f.old()), mdCode(f.new()))
		}
	}
	for _, im := range c.Impact {
		fmt.Fprintf(sb, "  - %s\n", mdText(im))
	}
}

// mdDiff shows lines as a block that no line of it can end.
func mdDiff(sb *strings.Builder, lines []string) {
	fence := "```"
	for strings.Contains(strings.Join(lines, "\n"), fence) {
		fence += "`"
	}
	fmt.Fprintf(sb, "\n    %sdiff\n", fence)
	for _, l := range lines {
		fmt.Fprintf(sb, "    %s\n", l)
	}
	fmt.Fprintf(sb, "    %s\n\n", fence)
}

// mdCode quotes a text so that nothing in it is read as Markdown.
func mdCode(s string) string {
	s = safe(s)
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if s == "" {
		return "` `"
	}
	if len(fence) > 1 || strings.HasPrefix(s, "`") {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}

// mdText escapes what Markdown and HTML would take for themselves. An invisible
// space after @ and # keeps a text from calling people and linking issues,
// which an escape or an entity does not.
func mdText(s string) string {
	return strings.NewReplacer(
		`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "$", `\$`,
		"&", "&amp;", "<", "&lt;", ">", "&gt;", "|", `\|`, "~", `\~`,
		"@", "@&#8203;", "#", `\#&#8203;`,
	).Replace(safe(s))
}
