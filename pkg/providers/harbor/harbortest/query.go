package harbortest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// fields are what a list can be filtered and sorted by, by the name of the
// column. Numbers and times are made comparable by number and moment.
type fields[T any] map[string]func(T) string

// number is an integer as a text that sorts as it does.
func number(n int64) string { return fmt.Sprintf("%020d", n) }

// moment is a time as a text that sorts as it does.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000") }

// term is what a query asks of one field.
type term struct {
	operator byte // = ~ [ { (
	values   []string
}

// terms reads the parameter q: k=v exact, k=~v part of, k=[a~b] range,
// k={a b} one of; more of them after commas, and all must hold. Harbor
// unescapes it once more than others do.
func (c *call) terms() (map[string]term, error) {
	q := c.query.Get("q")
	if again, err := url.QueryUnescape(q); err == nil {
		q = again
	}
	terms := map[string]term{}
	if q == "" {
		return terms, nil
	}
	for part := range strings.SplitSeq(q, ",") {
		key, value, _ := strings.Cut(part, "=")
		if key == "" || value == "" {
			return nil, badRequest(`the query string must contain "=" and the key/value cannot be empty`)
		}
		t, good := parseTerm(value)
		if !good {
			return nil, badRequest("invalid query string value: %s", value)
		}
		terms[key] = t
	}
	return terms, nil
}

func parseTerm(value string) (term, bool) {
	last := value[len(value)-1]
	switch value[0] {
	case '~':
		return term{'~', []string{value[1:]}}, len(value) > 1
	case '[':
		bounds := strings.Split(strings.Trim(value, "[]"), "~")
		return term{'[', bounds}, last == ']' && len(bounds) == 2
	case '{':
		return term{'{', list(value)}, last == '}'
	case '(':
		return term{'(', list(value)}, last == ')'
	}
	return term{'=', []string{strings.TrimPrefix(value, `\`)}}, true
}

func list(value string) []string {
	values := strings.Fields(value[1 : len(value)-1])
	for i, v := range values {
		values[i] = strings.Trim(v, `"'`)
	}
	return values
}

// holds says whether a field has what the term asks.
func (t term) holds(field string) bool {
	same := func(value string) bool {
		n, err := strconv.ParseInt(value, 10, 64)
		return field == value || err == nil && field == number(n)
	}
	switch t.operator {
	case '~':
		return strings.Contains(strings.ToLower(field), strings.ToLower(t.values[0]))
	case '[':
		from, to := strings.TrimSpace(t.values[0]), strings.TrimSpace(t.values[1])
		return (from == "" || field >= bound(from)) && (to == "" || field <= bound(to))
	case '{':
		return slices.ContainsFunc(t.values, same)
	case '(':
		return true
	}
	return same(t.values[0])
}

// bound is an end of a range, comparable with what fields give.
func bound(value string) string {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		return number(n)
	}
	return value
}

// column is the name of a field as the database has it: ProjectID is
// project_id.
func column(key string) string {
	var b strings.Builder
	runes := []rune(key)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(runes[i-1]) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// filtered are the rows for which all of the terms hold. A key that no field
// has is ignored.
func filtered[T any](rows []T, terms map[string]term, by fields[T]) []T {
	kept := rows
	for key, t := range terms {
		field, known := by[column(key)]
		if !known {
			continue
		}
		kept = slices.DeleteFunc(slices.Clone(kept), func(row T) bool { return !t.holds(field(row)) })
	}
	return kept
}

// sorted orders rows by the parameter sort, and by the usual order where none
// of its keys is known. A key after - is in descending order.
func sorted[T any](c *call, rows []T, by fields[T], usual string) {
	order := ordering(c.query.Get("sort"), by)
	if len(order) == 0 {
		order = ordering(usual, by)
	}
	slices.SortStableFunc(rows, func(a, b T) int {
		for _, key := range order {
			field, down := by[strings.TrimPrefix(key, "-")], strings.HasPrefix(key, "-")
			d := strings.Compare(field(a), field(b))
			if down {
				d = -d
			}
			if d != 0 {
				return d
			}
		}
		return 0
	})
}

func ordering[T any](sort string, by fields[T]) []string {
	var known []string
	for key := range strings.SplitSeq(sort, ",") {
		down := strings.HasPrefix(key, "-")
		key = column(strings.TrimPrefix(key, "-"))
		if by[key] == nil {
			continue
		}
		if down {
			key = "-" + key
		}
		known = append(known, key)
	}
	return known
}

// listed is filtered, sorted and paged; show makes of a row what is answered.
func listed[T, A any](c *call, rows []T, by fields[T], usual string, show func(T) A) (answer, error) {
	terms, err := c.terms()
	if err != nil {
		return answer{}, err
	}
	rows = filtered(rows, terms, by)
	sorted(c, rows, by, usual)
	return paged(c, rows, len(rows), show)
}

// paged is the page of rows that was asked for, ten of them if nothing was.
// A page_size of 0 is all of them; below, all of them too, with a next page
// for ever.
func paged[T, A any](c *call, rows []T, total int, show func(T) A) (answer, error) {
	page, size := c.integer("page", 1), c.integer("page_size", 10)
	header := map[string]string{"X-Total-Count": strconv.Itoa(total)}
	if links := c.links(int64(total), page, size); links != "" {
		header["Link"] = links
	}
	if size > 0 {
		// what an offset past the end leaves is nothing
		from := min(max(page-1, 0)*size, int64(len(rows)))
		rows = rows[from:min(from+size, int64(len(rows)))]
	}
	body := make([]A, 0, len(rows))
	for _, row := range rows {
		body = append(body, show(row))
	}
	return answer{status: http.StatusOK, header: header, body: body}, nil
}

// links are the pages before and after, as Harbor computes them.
func (c *call) links(total, page, size int64) string {
	if size == 0 {
		return ""
	}
	link := func(page int64, rel string) string {
		q := c.r.URL.Query()
		q.Set("page", strconv.FormatInt(page, 10))
		q.Set("page_size", strconv.FormatInt(size, 10))
		raw := q.Encode()
		if plain, err := url.QueryUnescape(raw); err == nil {
			raw = plain
		}
		return fmt.Sprintf(`<%s?%s>; rel="%s"`, c.r.URL.EscapedPath(), raw, rel)
	}
	var links []string
	if page > 1 && (page-1)*size < total {
		links = append(links, link(page-1, "prev"))
	}
	if page*size < total {
		links = append(links, link(page+1, "next"))
	}
	return strings.Join(links, " , ")
}

// integer is a parameter of the query; the shapes made sure that it is one.
func (c *call) integer(name string, otherwise int64) int64 {
	n, err := strconv.ParseInt(c.query.Get(name), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}
