package progress

import (
	"io"
	"strings"
	"testing"
)

// console is a small terminal: it knows what a screen writes, wraps what is too long, and
// wraps anew when it becomes narrower, as terminals of today do.
type console struct {
	t      *testing.T
	width  int
	lines  []string // each as it was written, which may take several rows
	row    int      // the line that the cursor is in
	column int
}

func newConsole(t *testing.T, width int) *console {
	t.Helper()
	return &console{t: t, width: width, lines: []string{""}}
}

func (c *console) size() (width, height int) { return c.width, 24 }

// rows are the lines as they stand there, those too long in several.
func (c *console) rows() (out []string) {
	for _, l := range c.lines {
		for len(l) > c.width {
			out, l = append(out, l[:c.width]), l[c.width:]
		}
		out = append(out, l)
	}
	return out
}

// narrow makes it narrower. From then on its rows are lines.
func (c *console) narrow(width int) {
	c.width = width
	c.lines = c.rows()
	c.row = len(c.lines) - 1
}

func (c *console) Write(b []byte) (int, error) {
	for text := string(b); text != ""; {
		switch {
		case strings.HasPrefix(text, "\x1b[A"):
			text = text[3:]
			if c.row--; c.row < 0 {
				c.t.Fatal("it goes above all that was printed")
			}
		case strings.HasPrefix(text, "\x1b[2K"):
			text = text[4:]
			c.lines[c.row] = ""
		case text[0] == '\r':
			text, c.column = text[1:], 0
		case text[0] == '\n':
			text, c.column = text[1:], 0
			if c.row++; c.row == len(c.lines) {
				c.lines = append(c.lines, "")
			}
		case text[0] < ' ' || text[0] > '~':
			c.t.Fatalf("it writes %q, which steers a terminal", text)
		default:
			l := c.lines[c.row]
			l += strings.Repeat(" ", max(0, c.column+1-len(l)))
			c.lines[c.row] = l[:c.column] + text[:1] + l[c.column+1:]
			text, c.column = text[1:], c.column+1
		}
	}
	return len(b), nil
}

func (c *console) String() string { return strings.TrimRight(strings.Join(c.rows(), "\n"), "\n ") }

func (c *console) shows(what string) {
	c.t.Helper()
	if got := c.String(); got != what {
		c.t.Errorf("the terminal shows\n%s\nand not\n%s", got, what)
	}
}

func says(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Error(err)
	}
}

// TestWhatIsPrintedStandsAboveTheLines, by whichever stream to the terminal, and stays
// when they are taken away.
func TestWhatIsPrintedStandsAboveTheLines(t *testing.T) {
	c := newConsole(t, 30)
	s := NewScreen(c, c.size)
	out := s.Beside(c)
	says(t, s, "first\n")
	s.Show("one", "two")
	c.shows("first\none\ntwo")
	says(t, s, "second\n")
	s.Show("1", "2", "3")
	says(t, out, "third\n")
	c.shows("first\nsecond\nthird\n1\n2\n3")
	s.Show("1")
	c.shows("first\nsecond\nthird\n1")
	says(t, s, strings.Repeat("long ", 10)+"\n")
	s.Show("1")
	s.Show()
	says(t, s, "last\n")
	c.shows("first\nsecond\nthird\nlong long long long long long \nlong long long long \nlast")
}

// TestALineWithoutAnEndGoesOn where it was.
func TestALineWithoutAnEndGoesOn(t *testing.T) {
	c := newConsole(t, 30)
	s := NewScreen(c, c.size)
	s.Show("one", "two")
	says(t, s, "5 of")
	c.shows("5 of\none\ntwo")
	s.Show("1")
	says(t, s, " 7")
	c.shows("5 of 7\n1")
	says(t, s, ", done\nnext\n")
	c.shows("5 of 7, done\nnext\n1")
	says(t, s, "half")
	s.Show()
	c.shows("5 of 7, done\nnext\nhalf")
	s.Show("1")
	says(t, s, strings.Repeat("x", 40)) // of more rows than one: nothing can stand below it
	says(t, s, "y\n")
	s.Show()
	if !strings.HasSuffix(c.String(), "xxxy") {
		t.Errorf("the terminal shows\n%s", c)
	}
}

// TestNoLineWraps, and a terminal that becomes narrower keeps nothing of what stood
// there.
func TestNoLineWraps(t *testing.T) {
	c := newConsole(t, 80)
	s := NewScreen(c, c.size)
	says(t, s, "first\n")
	s.Show(strings.Repeat("a", 200), strings.Repeat("b", 79))
	c.shows("first\n" + strings.Repeat("a", 79) + "\n" + strings.Repeat("b", 79))
	c.narrow(30)
	s.Show(strings.Repeat("a", 200), "b")
	c.shows("first\n" + strings.Repeat("a", 29) + "\nb")
	s.Show()
	c.shows("first")
}

// TestWithoutATerminalNothingIsAdded to what is printed.
func TestWithoutATerminalNothingIsAdded(t *testing.T) {
	var b strings.Builder
	s := NewScreen(&b, nil)
	s.Show("one")
	says(t, s, "first\n")
	s.Show("two")
	s.Show()
	if b.String() != "first\n" {
		t.Errorf("it prints %q", b.String())
	}
}
