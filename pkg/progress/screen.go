package progress

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// Screen is a terminal on which a few lines can stand below all that is printed: who
// prints by it, or beside it, prints above them. Where nothing stands there it changes
// nothing of what is printed, so that it serves where there is no terminal too.
//
// Each draw is one write, and the cursor rests below the lines: whatever ends the process
// leaves a screen on which a shell can go on.
type Screen struct {
	w    io.Writer
	size func() (width, height int) // nil: it is no terminal

	mu    sync.Mutex
	live  bool
	lines []string
	drawn []int // how wide the lines are that stand there now
	tail  []byte
}

// NewScreen makes one of a stream. size tells how large the terminal is now; it is nil
// where there is none.
func NewScreen(w io.Writer, size func() (width, height int)) *Screen {
	return &Screen{w: w, size: size}
}

// Under is the stream itself.
func (s *Screen) Under() io.Writer { return s.w }

// maxTail bounds a line without an end above which the lines can still be drawn anew.
const maxTail = 200

// Write implements [io.Writer]: what is printed stands above the lines, and stays.
func (s *Screen) Write(b []byte) (int, error) { return s.put(s.w, b) }

// beside is another stream to the same terminal.
type beside struct {
	s *Screen
	w io.Writer
}

func (b beside) Write(p []byte) (int, error) { return b.s.put(b.w, p) }

// Beside is another stream to the same terminal.
func (s *Screen) Beside(w io.Writer) io.Writer { return beside{s, w} }

func (s *Screen) put(to io.Writer, b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live {
		return to.Write(b)
	}
	erase := s.erase()
	if len(erase) > 0 {
		if _, err := s.w.Write(erase); err != nil {
			return 0, err
		}
	}
	n, err := to.Write(b)
	s.tail = append(s.tail, b[:n]...)
	s.tail = bytes.Clone(s.tail[bytes.LastIndexByte(s.tail, '\n')+1:])
	if err == nil {
		_, err = s.w.Write(s.draw())
	}
	return n, err
}

// Show has lines stand there in the place of those that do. None take them away.
func (s *Screen) Show(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size == nil {
		return
	}
	if !s.live {
		s.live, s.tail = true, nil
	}
	out := s.erase()
	s.lines = lines
	_, _ = s.w.Write(append(out, s.draw()...)) // where that fails there is nobody who looks
	s.live = len(lines) > 0
}

// Size tells how many columns and lines may be shown. One column stays free, where a
// terminal may wrap, and one line, for the cursor.
func (s *Screen) Size() (width, height int) {
	width, height = s.size()
	return max(1, width-1), max(1, height-1)
}

// lineUp goes to the line above and clears it. Clearing all below at once is what some
// terminals take for a screen that is cleared, and keep to scroll back to.
const lineUp = "\x1b[A\x1b[2K"

// erase takes away what stands there. A terminal that has become narrower since has
// wrapped it, as all but old ones do.
func (s *Screen) erase() []byte {
	if len(s.drawn) == 0 {
		return nil
	}
	width, _ := s.size()
	rows := 0
	for _, n := range s.drawn {
		rows += max(1, (n+max(1, width)-1)/max(1, width))
	}
	s.drawn = nil
	if len(s.tail) > 0 {
		rows++
	}
	return append([]byte("\r"+strings.Repeat(lineUp, rows)), s.tail...)
}

// draw has the lines stand there, below a line that has no end yet.
func (s *Screen) draw() []byte {
	width, height := s.Size()
	if len(s.lines) == 0 || len(s.tail) > min(maxTail, width) {
		return nil
	}
	var b bytes.Buffer
	if len(s.tail) > 0 {
		b.WriteByte('\n')
	}
	for _, line := range s.lines[:min(len(s.lines), height)] {
		line = line[:min(len(line), width)]
		s.drawn = append(s.drawn, len(line))
		b.WriteString(line + "\n")
	}
	return b.Bytes()
}
