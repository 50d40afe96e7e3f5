//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// unit is how a figure is written.
type unit int

const (
	seconds     unit = iota
	mebibytes        // of a value in bytes
	nanoseconds      // of a value in nanoseconds
	factor
	count
	mean // of a count
)

func (u unit) format(v float64) string {
	switch u {
	case seconds:
		return fmt.Sprintf("%.3f s", v)
	case mebibytes:
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	case nanoseconds:
		return fmt.Sprintf("%.0f ns", v)
	case factor:
		return fmt.Sprintf("%.2f x", v)
	case mean:
		return fmt.Sprintf("%.1f", v)
	case count:
	}
	return fmt.Sprintf("%.0f", v)
}

// row is one figure, measured one or several times.
type row struct {
	what    string
	unit    unit
	values  []float64
	limited bool
	limit   float64 // of the median
	floor   bool    // the limit is the least, not the most
}

func (r row) atMost(limit float64) row {
	r.limited, r.limit = true, limit
	return r
}

func (r row) atLeast(limit float64) row {
	r.limited, r.limit, r.floor = true, limit, true
	return r
}

func (r row) over() bool {
	switch m := median(r.values); {
	case !r.limited:
		return false
	case r.floor:
		return m < r.limit
	default:
		return m > r.limit
	}
}

// section is the figures of one command. Its table has a line for each row, or
// is the one that is given.
type section struct {
	title, command, text string
	rows                 []row
	table                [][]string // with its head
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// cells are the columns of one line of a table. A figure measured once stands
// under median alone.
func (r row) cells() []string {
	least, most, limit, verdict := "", "", "", ""
	if len(r.values) > 1 {
		least, most = r.unit.format(slices.Min(r.values)), r.unit.format(slices.Max(r.values))
	}
	if r.limited {
		limit, verdict = r.unit.format(r.limit), "ok"
	}
	if r.over() {
		verdict = "**over**"
	}
	return []string{r.what, fmt.Sprint(len(r.values)), least, r.unit.format(median(r.values)), most, limit, verdict}
}

func (s section) markdown() string {
	lines := s.table
	if lines == nil {
		lines = [][]string{{"", "runs", "min", "median", "max", "limit", ""}}
		for _, r := range s.rows {
			lines = append(lines, r.cells())
		}
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	last := len(widths) - 1
	left := func(i int) bool { return i == 0 || i == last }
	var out strings.Builder
	fmt.Fprintf(&out, "## %s\n\n", s.title)
	if s.command != "" {
		fmt.Fprintf(&out, "    %s\n\n", s.command)
	}
	if s.text != "" {
		fmt.Fprintf(&out, "%s\n\n", s.text)
	}
	for n, line := range lines {
		for i, cell := range line {
			if left(i) {
				fmt.Fprintf(&out, "| %-*s ", widths[i], cell)
			} else {
				fmt.Fprintf(&out, "| %*s ", widths[i], cell)
			}
		}
		out.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, w := range widths {
			if left(i) {
				out.WriteString("|" + strings.Repeat("-", w+2))
			} else {
				out.WriteString("|" + strings.Repeat("-", w+1) + ":")
			}
		}
		out.WriteString("|\n")
	}
	return out.String()
}

// exceeded lists the figures that are past their limit.
func exceeded(sections []section) []string {
	var out []string
	for _, s := range sections {
		for _, r := range s.rows {
			if !r.over() {
				continue
			}
			bound := "at most"
			if r.floor {
				bound = "at least"
			}
			out = append(out, fmt.Sprintf("%s: %s: %s, %s %s", s.title, r.what, r.unit.format(median(r.values)), bound, r.unit.format(r.limit)))
		}
	}
	return out
}

// document keeps the tables, those of each command between two marks.
const document = "docs/benchmarks.md"

// rewrite replaces what stands between the marks of a name.
func rewrite(name, about string, sections []section) error {
	begin, end := "<!-- "+name+":begin -->", "<!-- "+name+":end -->"
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return errors.New(document + " lacks " + begin + " or " + end + "; put them around the tables")
	}
	var out strings.Builder
	out.WriteString(before + begin + "\n" + about)
	for _, s := range sections {
		out.WriteString("\n" + s.markdown())
	}
	out.WriteString(end + after)
	return os.WriteFile(document, []byte(out.String()), 0o644) //nolint:gosec // a document of the repository
}
