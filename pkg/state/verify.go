package state

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/ocisync/ocisync/schema"
)

// ChainError says where a journal's chain breaks first.
type ChainError struct {
	Line int // from 1
	Why  string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("line %d %s; compare the journal with a copy", e.Line, e.Why)
}

// unfinished is why the last line of a journal that a crash cut is no line.
const unfinished = "is unfinished"

// Mark is the last line of a journal as somebody saw it; zero for none.
type Mark struct {
	Seq  int64  `json:"line"`
	Hash string `json:"hash"` // of the line without its newline
}

// link is a line that follows the one before.
type link struct {
	line []byte
	n    int // from 1
	mark Mark
}

// chain reads a journal's lines from its beginning and checks that each is
// whole and follows the one before. It ends after the first error.
func chain(r io.Reader) iter.Seq2[link, error] {
	return func(yield func(link, error) bool) {
		br := bufio.NewReaderSize(r, 64<<10)
		last := Mark{Hash: noLine()}
		for n := 1; ; n++ {
			line, err := readLine(br)
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return
			}
			var e struct {
				Prev string `json:"prev"`
				Seq  int64  `json:"seq"`
			}
			switch {
			case errors.Is(err, io.EOF):
				err = &ChainError{n, unfinished}
			case err == nil:
				if err = checkLine(line); err == nil && json.Unmarshal(line, &e) != nil {
					err = errNoLine
				}
				if err != nil {
					err = &ChainError{n, err.Error()}
				} else if e.Prev != last.Hash || e.Seq != last.Seq+1 {
					err = &ChainError{n, "does not follow the line before: one of them was changed, or lines are missing"}
				}
			}
			if err != nil {
				yield(link{}, err)
				return
			}
			last = Mark{e.Seq, lineHash(line)}
			if !yield(link{line, n, last}, nil) {
				return
			}
		}
	}
}

// Entries reads a journal from its beginning and checks the chain. It ends
// after the first error, a [*ChainError] unless reading failed. Lines that
// were cut off at the end do not show.
func Entries(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for l, err := range chain(r) {
			var e Entry
			if err == nil {
				if e, err = parseLine(l.line); err != nil {
					err = &ChainError{l.n, err.Error()}
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Verify checks a whole journal and counts its sound lines. With what somebody
// saw of it before it also finds lines that were cut off at the end.
func Verify(r io.Reader, seen Mark) (lines int, err error) {
	for l, err := range chain(r) {
		if err != nil {
			return lines, err
		}
		if l.mark.Seq == seen.Seq && l.mark != seen {
			return lines, &ChainError{l.n, "is another one than was written: the journal was replaced"}
		}
		lines++
	}
	if int64(lines) < seen.Seq {
		return lines, &ChainError{lines + 1, fmt.Sprintf("is missing: %d lines were written, and the end was cut off", seen.Seq)}
	}
	return lines, nil
}

// Unfinished lists, in key order, the changes that the last run with changes
// began and did not end. Nobody knows whether they were made; reading the
// registry tells.
func Unfinished(entries iter.Seq2[Entry, error]) ([]Entry, error) {
	open := map[schema.Key]Entry{}
	run := ""
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		switch e.Event {
		case Begin:
			if e.Run != run {
				run = e.Run
				clear(open)
			}
			open[e.Key] = e
		case End:
			delete(open, e.Key)
		}
	}
	out := make([]Entry, 0, len(open))
	for _, e := range open {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.Key.Compare(b.Key) })
	return out, nil
}

var errNoLine = errors.New("is not a line of a journal")

// checkLine checks a line's own sum.
func checkLine(line []byte) error {
	i := bytes.LastIndex(line, []byte(sumMember))
	if i < 0 {
		return errNoLine
	}
	if want := sumMember + lineHash(line[:i]) + `"}`; string(line[i:]) != want {
		return errors.New("was changed after it was written")
	}
	return nil
}

// parseLine reads a line without its newline and checks its own sum.
func parseLine(line []byte) (Entry, error) {
	if err := checkLine(line); err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := strictJSON(line, &e); err != nil {
		return Entry{}, errors.New("is not an entry that this version knows")
	}
	return e, nil
}

// readLine returns a line without its newline; at the end of the input what
// is left, with io.EOF.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return line, err
		}
		return line[:len(line)-1], nil
	}
}

// lastLine returns the last finished line, nil for none, and where it ends.
func lastLine(r io.ReaderAt, size int64) (line []byte, end int64, err error) {
	for window := int64(64 << 10); ; window *= 2 {
		n := min(window, size)
		b := make([]byte, n)
		if _, err := r.ReadAt(b, size-n); err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		stop := bytes.LastIndexByte(b, '\n')
		start := -1
		if stop >= 0 {
			start = bytes.LastIndexByte(b[:stop], '\n')
		}
		switch {
		case start >= 0 || n == size && stop >= 0:
			return b[start+1 : stop], size - n + int64(stop) + 1, nil
		case n == size:
			return nil, 0, nil // one unfinished line
		case n > 2*maxLine:
			return nil, 0, fmt.Errorf("a line is longer than %d bytes; move the file away", maxLine)
		}
	}
}
