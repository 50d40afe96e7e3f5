package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"
)

// keptLogs is how many rotated files are kept: log.1 is the youngest.
const keptLogs = 3

// mark is where in the log a registry began: an offset in what was the log
// then, and how often it was rotated since.
type mark struct {
	Offset    int64 `json:"offset"`
	Rotations int   `json:"rotations,omitempty"`
}

func rotated(path string, n int) string { return fmt.Sprintf("%s.%d", path, n) }

// openLog opens the log for a program to append to. Its end is where the
// program's output begins.
func openLog(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// rotate makes room in a log that has the size. The program has it open and
// goes on appending, whoever supervises it: so the file is copied and emptied.
// A line written between the two is lost.
func rotate(path string, size int64) (bool, error) {
	info, err := os.Stat(path)
	if err != nil || info.Size() < size {
		return false, err
	}
	from, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer from.Close()
	fresh := rotated(path, 0)
	to, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil { // such as a full disk
		return false, errors.Join(err, os.Remove(fresh))
	}
	for n := keptLogs - 1; n >= 0; n-- {
		if err := os.Rename(rotated(path, n), rotated(path, n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, os.Truncate(path, 0)
}

// since opens what was written from a mark on, oldest first, as far as it is
// kept. A file that is shorter than that was emptied by somebody since: all of it
// is new.
func since(path string, from mark) (*reading, error) {
	var parts parts
	for n := min(from.Rotations, keptLogs); n >= 0; n-- {
		name := path
		if n > 0 {
			name = rotated(path, n)
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, parts.Close())
		}
		parts = append(parts, f)
		if info, err := f.Stat(); n == from.Rotations && err == nil && info.Size() >= from.Offset {
			if _, err := f.Seek(from.Offset, io.SeekStart); err != nil {
				return nil, errors.Join(err, parts.Close())
			}
		}
	}
	return &reading{parts.reader(), parts}, nil
}

type parts []*os.File

func (p parts) reader() io.Reader {
	readers := make([]io.Reader, len(p))
	for i, f := range p {
		readers[i] = f
	}
	return io.MultiReader(readers...)
}

// Close closes all.
func (p parts) Close() error {
	var errs []error
	for _, f := range p {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

type reading struct {
	io.Reader
	parts
}

// end is how far the log itself was read.
func (r *reading) end() (int64, error) {
	if len(r.parts) == 0 {
		return 0, nil
	}
	return r.parts[len(r.parts)-1].Seek(0, io.SeekCurrent)
}

// maxTail bounds what is looked at for the last lines of a log, in bytes.
const maxTail = 1 << 20

// lastLines is the end of a reader: at most n lines, and maxTail bytes.
func lastLines(r io.Reader, n int) ([]byte, error) {
	if n <= 0 {
		_, err := io.Copy(io.Discard, r)
		return nil, err
	}
	var kept []byte
	buf := make([]byte, 64<<10)
	for {
		m, err := r.Read(buf)
		kept = append(kept, buf[:m]...)
		if over := len(kept) - maxTail; over > maxTail {
			kept = append(kept[:0], kept[over:]...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	kept = kept[max(0, len(kept)-maxTail):]
	end := len(bytes.TrimSuffix(kept, []byte("\n")))
	for ; n > 0; n-- {
		i := bytes.LastIndexByte(kept[:end], '\n')
		if i < 0 {
			return kept, nil
		}
		end = i
	}
	return kept[end+1:], nil
}

const (
	saidLines = 3
	saidFrom  = 40 // the last lines, of which those are chosen
	saidBytes = 600
)

// lastWords is what a log said last, for an error: a few lines in one, without
// what a terminal would take for orders. Lines that speak of an error come
// before others, such as the help that many programs end with.
func lastWords(r io.Reader) string {
	b, err := lastLines(r, saidFrom)
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	var all, telling []string
	for l := range strings.Lines(string(b)) {
		l = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return ' '
		}, l))
		if l == "" {
			continue
		}
		all = append(all, l)
		if low := strings.ToLower(l); strings.Contains(low, "error") || strings.Contains(low, "panic") || strings.Contains(low, "fatal") {
			telling = append(telling, l)
		}
	}
	if len(telling) == 0 {
		telling = all
	}
	text := strings.Join(telling[max(0, len(telling)-saidLines):], " | ")
	if text == "" {
		return "its log says nothing"
	}
	if over := len(text) - saidBytes; over > 0 {
		text = "…" + strings.ToValidUTF8(text[over:], "")
	}
	return "its log said last: " + text
}

// WriteLog writes the last lines of a log file to w, 0 for all that is kept of
// it; with more it goes on until the context is done. No file is an empty log.
func WriteLog(ctx context.Context, path string, w io.Writer, tail int, more bool) error {
	from, err := since(path, mark{Rotations: keptLogs})
	if err != nil {
		return fmt.Errorf("its log: %w; run ocisync as the user who runs the registry", err)
	}
	defer from.Close()
	if tail > 0 {
		var b []byte
		if b, err = lastLines(from, tail); err == nil {
			_, err = w.Write(b)
		}
	} else {
		_, err = io.Copy(w, from)
	}
	if err != nil || !more {
		return err
	}
	end, err := from.end()
	if err != nil {
		return err
	}
	return follow(ctx, path, end, w, 250*time.Millisecond)
}

// follow copies what a log gains from an offset on to w, until the context is
// done. A log that was emptied is read from its beginning.
func follow(ctx context.Context, path string, from int64, w io.Writer, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		f, err := os.Open(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			n, err := copyFrom(f, from, w)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			from = n
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func copyFrom(f *os.File, from int64, w io.Writer) (end int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return from, err
	}
	if info.Size() < from {
		from = 0
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return from, err
	}
	n, err := io.Copy(w, f)
	return from + n, err
}
