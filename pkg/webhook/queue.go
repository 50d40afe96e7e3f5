package webhook

import (
	"cmp"
	"fmt"
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
	maxDelivery = 1 << 20 // bytes of one
	maxFile     = 64 << 20
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

// Queue holds deliveries on disk, in order for each webhook: those that were added
// together in a file, a line each, so that many cost no more than one. What was
// added is durable. Safe for concurrent use.
type Queue struct {
	dir    string
	limit  int
	logger *slog.Logger

	mu    sync.Mutex
	last  uint64
	hooks map[string][]entry // by webhook, oldest first
	left  map[string]int     // by file, the deliveries in it that wait
}

// entry is a delivery that waits: a line of a file.
type entry struct {
	file     string
	at, size int64
	id       string
}

func (e entry) compare(other entry) int {
	return cmp.Or(strings.Compare(e.file, other.file), cmp.Compare(e.at, other.at))
}

// done begins the line of a delivery that waits no more.
const done = '-'

// OpenQueue reads what lies in a directory, which is made where there is none.
// What cannot be read is dropped and logged.
func OpenQueue(dir string, logger *slog.Logger) (*Queue, error) {
	q := &Queue{dir: dir, limit: queueLength, logger: logger, hooks: map[string][]entry{}, left: map[string]int{}}
	if err := q.make(); err != nil {
		return nil, fmt.Errorf("making the directory of webhook deliveries: %w", err)
	}
	entries, err := os.ReadDir(q.dir) // sorted: names begin with a number of fixed width
	if err != nil {
		return nil, fmt.Errorf("reading the webhook deliveries: %w", err)
	}
	for _, e := range entries {
		var n uint64
		_, err := fmt.Sscanf(e.Name(), "%020d.json", &n)
		var found []waiting
		if err == nil {
			found, err = q.load(e.Name())
		}
		if err != nil && !strings.HasSuffix(e.Name(), ".new") { // one that was being written when the process died
			logger.Error("a webhook delivery is lost", "file", e.Name(), "error", err)
		}
		if len(found) == 0 {
			q.remove(e.Name())
			continue
		}
		q.last = max(q.last, n)
		q.enter(found)
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

// add appends deliveries, all or none; dropped is, by webhook, how many old ones
// had to go for them.
func (q *Queue) add(list ...delivery) (dropped map[string]int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	added, err := q.write(fmt.Sprintf("%020d.json", q.last), list)
	if err != nil {
		return nil, err
	}
	q.enter(added)
	dropped = map[string]int{}
	for _, d := range list {
		for len(q.hooks[d.Hook]) > q.limit {
			q.drop(d.Hook, q.hooks[d.Hook][0].id)
			dropped[d.Hook]++
		}
	}
	return dropped, nil
}

// room is how many deliveries a webhook may have more without losing one.
func (q *Queue) room(hook string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.limit - len(q.hooks[hook])
}

// first is the webhook's oldest delivery; ok is false where there is none.
func (q *Queue) first(hook string) (d delivery, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for list := q.hooks[hook]; len(list) > 0; list = q.hooks[hook] {
		d, err := q.read(list[0])
		if err == nil {
			return d, true
		}
		q.logger.Error("a webhook delivery is lost", "webhook", hook, "error", err)
		q.drop(hook, list[0].id)
	}
	return delivery{}, false
}

// done takes a delivery away.
func (q *Queue) done(hook, id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(hook, id)
}

func (q *Queue) drop(hook, id string) {
	is := func(e entry) bool { return e.id == id }
	if !slices.ContainsFunc(q.hooks[hook], is) { // the webhook was renamed meanwhile
		for other, list := range q.hooks {
			if slices.ContainsFunc(list, is) {
				hook = other
			}
		}
	}
	list := q.hooks[hook]
	i := slices.IndexFunc(list, is)
	if i < 0 {
		return
	}
	q.strike(list[i])
	if q.hooks[hook] = slices.Delete(list, i, i+1); len(list) == 1 {
		delete(q.hooks, hook)
	}
}

// clear forgets a webhook.
func (q *Queue) clear(hook string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.hooks[hook] {
		q.strike(e)
	}
	delete(q.hooks, hook)
}

// Waiting lists the webhooks with deliveries, and their number.
func (q *Queue) Waiting() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := map[string]int{}
	for hook, list := range q.hooks {
		n[hook] = len(list)
	}
	return n
}

// Rename gives a webhook's deliveries its new name, in memory and on disk,
// behind those it may have under that name already.
func (q *Queue) Rename(from, to string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.hooks[from]) > 0 {
		file := q.hooks[from][0].file
		found, err := q.load(file)
		if err != nil {
			return err
		}
		list := make([]delivery, len(found))
		for i, w := range found {
			if list[i] = w.delivery; w.Hook == from {
				list[i].Hook = to
			}
		}
		added, err := q.write(file, list)
		if err != nil {
			return err
		}
		for hook, list := range q.hooks {
			if list = slices.DeleteFunc(list, func(e entry) bool { return e.file == file }); len(list) == 0 {
				delete(q.hooks, hook)
			} else {
				q.hooks[hook] = list
			}
		}
		delete(q.left, file)
		q.enter(added)
	}
	return nil
}
