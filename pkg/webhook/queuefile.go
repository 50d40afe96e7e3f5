package webhook

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/ocisync/ocisync/pkg/regular"
)

// waiting is a delivery and where it lies.
type waiting struct {
	delivery
	entry entry
}

// enter takes deliveries of one file among those that wait.
func (q *Queue) enter(list []waiting) {
	for _, w := range list {
		q.left[w.entry.file]++
		q.hooks[w.Hook] = append(q.hooks[w.Hook], w.entry)
		if e := q.hooks[w.Hook]; len(e) > 1 && e[len(e)-2].compare(w.entry) > 0 {
			slices.SortFunc(e, entry.compare)
		}
	}
}

// write makes a file of deliveries.
func (q *Queue) write(name string, list []delivery) ([]waiting, error) {
	var b bytes.Buffer
	var out []waiting
	for _, d := range list {
		line, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		out = append(out, waiting{d, entry{name, int64(b.Len()), int64(len(line)), d.ID}})
		b.Write(append(line, '\n'))
	}
	if b.Len() > maxFile {
		return nil, errors.New("they are too large")
	}
	return out, regular.Replace(q.dir, name, b.Bytes())
}

// load reads what waits in a file. An error is of the lines that are not among it.
func (q *Queue) load(name string) (out []waiting, err error) {
	f, err := regular.Open(filepath.Join(q.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewReader(io.LimitReader(f, maxFile))
	for at := int64(0); ; {
		line, end := lines.ReadBytes('\n')
		e := entry{file: name, at: at, size: int64(len(bytes.TrimSuffix(line, []byte{'\n'})))}
		at += int64(len(line))
		if e.size > 0 && line[0] != done {
			d, bad := parse(line)
			if e.id = d.ID; bad == nil {
				out = append(out, waiting{d, e})
			}
			err = errors.Join(err, bad)
		}
		if errors.Is(end, io.EOF) {
			return out, err
		}
		if end != nil {
			return out, errors.Join(err, end)
		}
	}
}

func (q *Queue) read(e entry) (d delivery, err error) {
	f, err := regular.Open(filepath.Join(q.dir, e.file))
	if err != nil {
		return d, err
	}
	defer f.Close()
	line := make([]byte, e.size)
	if _, err := f.ReadAt(line, e.at); err != nil {
		return d, err
	}
	return parse(line)
}

func parse(line []byte) (d delivery, err error) {
	if len(line) > maxDelivery {
		return d, errors.New("it is too large")
	}
	if err = json.Unmarshal(line, &d); err == nil && (d.Hook == "" || d.ID == "") {
		err = errors.New("the line is no delivery")
	}
	return d, err
}

// strike marks a delivery that waits no more, and removes the file of the last
// one. It is not made durable: whoever is told again knows the identifier.
func (q *Queue) strike(e entry) {
	if q.left[e.file]--; q.left[e.file] == 0 {
		delete(q.left, e.file)
		q.remove(e.file)
		return
	}
	root, err := os.OpenRoot(q.dir)
	if err == nil {
		defer root.Close()
		var f *os.File
		if f, err = root.OpenFile(e.file, os.O_WRONLY|syscall.O_NOFOLLOW, 0); err == nil {
			_, err = f.WriteAt([]byte{done}, e.at)
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		q.logger.Error("a webhook delivery cannot be marked as done", "file", e.file, "error", err)
	}
}

func (q *Queue) remove(name string) {
	if err := os.Remove(filepath.Join(q.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.logger.Error("a webhook delivery cannot be removed", "file", name, "error", err)
	}
}
