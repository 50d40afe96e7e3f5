package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	queueLength = 1000    // of one webhook
	maxDelivery = 1 << 20 // bytes of one file
)

// delivery is what one webhook is to be told, as it lies on disk. It holds no
// secret and no address: these are the webhook's when it is sent.
type delivery struct {
	Hook string `json:"hook"` // its name: NAMESPACE/WEBHOOK
	// ID is the delivery's own, the same for each attempt.
	ID   string `json:"id"`
	Type string `json:"type"` // of the body
	Body string `json:"body"`
}

// Queue holds deliveries on disk, one file each, in order for each webhook.
// What was added is durable. Safe for concurrent use.
type Queue struct {
	dir    string
	limit  int
	logger *slog.Logger

	mu    sync.Mutex
	last  uint64
	files map[string][]string // by webhook, oldest first
}

// OpenQueue reads what lies in a directory, which is made where there is none.
// What cannot be read is dropped and logged.
func OpenQueue(dir string, logger *slog.Logger) (*Queue, error) {
	q := &Queue{dir: dir, limit: queueLength, logger: logger, files: map[string][]string{}}
	if err := q.make(); err != nil {
		return nil, fmt.Errorf("making the directory of webhook deliveries: %w", err)
	}
	entries, err := os.ReadDir(q.dir) // sorted: names begin with a number of fixed width
	if err != nil {
		return nil, fmt.Errorf("reading the webhook deliveries: %w", err)
	}
	for _, e := range entries {
		d, err := q.read(e.Name())
		var n uint64
		if err == nil {
			_, err = fmt.Sscanf(e.Name(), "%020d.json", &n)
		}
		if err != nil {
			if !strings.HasSuffix(e.Name(), ".new") { // one that was being written when the process died
				logger.Error("a webhook delivery is lost", "file", e.Name(), "error", err)
			}
			q.remove(e.Name())
			continue
		}
		q.last = max(q.last, n)
		q.files[d.Hook] = append(q.files[d.Hook], e.Name())
	}
	return q, nil
}

func (q *Queue) make() error {
	above := filepath.Dir(q.dir)
	if err := os.MkdirAll(above, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(above)
	if err != nil {
		return err
	}
	defer root.Close()
	return regular.Mkdir(root, filepath.Base(q.dir))
}

// add appends a delivery; dropped is how many old ones had to go for it.
func (q *Queue) add(d delivery) (dropped int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	name := fmt.Sprintf("%020d.json", q.last)
	if err := q.write(name, d); err != nil {
		return 0, err
	}
	files := append(q.files[d.Hook], name)
	for ; len(files) > q.limit; files = files[1:] {
		q.remove(files[0])
		dropped++
	}
	q.files[d.Hook] = files
	return dropped, nil
}

// first is the webhook's oldest delivery; ok is false where there is none.
func (q *Queue) first(hook string) (d delivery, name string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for files := q.files[hook]; len(files) > 0; files = q.files[hook] {
		d, err := q.read(files[0])
		if err == nil {
			return d, files[0], true
		}
		q.logger.Error("a webhook delivery is lost", "webhook", hook, "error", err)
		q.drop(hook, files[0])
	}
	return delivery{}, "", false
}

// done takes a delivery away.
func (q *Queue) done(hook, name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(hook, name)
}

func (q *Queue) drop(hook, name string) {
	q.remove(name)
	if !slices.Contains(q.files[hook], name) { // the webhook was renamed meanwhile
		for other, files := range q.files {
			if slices.Contains(files, name) {
				hook = other
			}
		}
	}
	files := slices.DeleteFunc(q.files[hook], func(f string) bool { return f == name })
	if q.files[hook] = files; len(files) == 0 {
		delete(q.files, hook)
	}
}

// clear forgets a webhook.
func (q *Queue) clear(hook string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, name := range q.files[hook] {
		q.remove(name)
	}
	delete(q.files, hook)
}

// Waiting lists the webhooks with deliveries, and their number.
func (q *Queue) Waiting() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := map[string]int{}
	for hook, files := range q.files {
		n[hook] = len(files)
	}
	return n
}

func (q *Queue) write(name string, d delivery) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return regular.Replace(q.dir, name, b)
}

func (q *Queue) read(name string) (d delivery, err error) {
	f, err := regular.Open(filepath.Join(q.dir, name))
	if err != nil {
		return d, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDelivery+1))
	if err == nil && len(b) > maxDelivery {
		err = errors.New("the file is too large")
	}
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err == nil && (d.Hook == "" || d.ID == "") {
		err = errors.New("the file is no delivery")
	}
	return d, err
}

func (q *Queue) remove(name string) {
	if err := os.Remove(filepath.Join(q.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		q.logger.Error("a webhook delivery cannot be removed", "file", name, "error", err)
	}
}

// Rename gives a webhook's deliveries its new name, in memory and on disk,
// behind those it may have under that name already.
func (q *Queue) Rename(from, to string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, name := range slices.Clone(q.files[from]) {
		d, err := q.read(name)
		if err == nil {
			d.Hook = to
			err = q.write(name, d)
		}
		if err != nil {
			return err
		}
		q.files[to] = append(q.files[to], name)
		q.files[from] = slices.DeleteFunc(q.files[from], func(n string) bool { return n == name })
	}
	delete(q.files, from)
	slices.Sort(q.files[to])
	return nil
}
