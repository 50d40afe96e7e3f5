package webhook

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

const (
	inboxFormat = 1
	maxInbox    = 64 << 20 // bytes
)

// Inbox is where a registry that is a program of its own posts its events: a
// file of mode 0600 in ocisync's own directory. Who configures the registry
// writes it, and the [Receiver] does as it says from then on.
type Inbox struct {
	Format int `json:"format"`
	// Listen is the receiver's address: of this host alone, or in the network of the
	// registry's container.
	Listen string `json:"listen"`
	// Secret is what the registry says when it posts.
	Secret string `json:"secret"`
	// Place is the file that address and secret were made for.
	Place string `json:"place,omitempty"`
	// Namespaces and Hooks are those of a registry whose rules lie elsewhere than
	// with the receiver. Both are sorted.
	Namespaces []string `json:"namespaces,omitempty"`
	Hooks      []Posted `json:"hooks,omitempty"`

	file string // that it was read from
}

// Posted is a webhook in an inbox.
type Posted struct {
	Key  schema.Key      `json:"key"`
	Spec *schema.Webhook `json:"spec"` // without auth
	Auth string          `json:"auth,omitempty"`
}

// InboxFile is the inbox of a data directory.
func InboxFile(data string) string { return filepath.Join(data, "ocisync", "events.json") }

// NewInbox is one with a secret of its own.
func NewInbox(listen string) Inbox {
	return Inbox{Format: inboxFormat, Listen: listen, Secret: rand.Text() + rand.Text()}
}

// Host is that of its address, "" without one.
func (b Inbox) Host() string {
	host, _, err := net.SplitHostPort(b.Listen)
	if err != nil {
		return ""
	}
	return host
}

// Takes says why a registry of this host cannot listen at an address: its events are
// received at that port. "" where they are not.
func (b Inbox) Takes(address string) string {
	_, port, err := net.SplitHostPort(address)
	_, own, none := net.SplitHostPort(b.Listen)
	if err != nil || none != nil || port != own {
		return ""
	}
	return fmt.Sprintf("port %s is where `ocisync up` receives this registry's events, for its webhooks; choose another one", port)
}

// Move gives it an address of another host, of the same port where that is free,
// and reports whether it had another.
func (b *Inbox) Move(host string) bool {
	was, port, err := net.SplitHostPort(b.Listen)
	if err != nil || was == host {
		return false
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		n = 0
	}
	b.Listen = FreeAddress(host, n)
	return true
}

// Copied reports whether it came with a copy of another directory, whose registry has
// its address and secret, or whose receiver answers there now.
func (b Inbox) Copied(ctx context.Context) bool {
	if b.Listen == "" || b.file == "" {
		return false
	}
	if b.Place != "" {
		return b.Place != b.file
	}
	_, err := Ask(ctx, b)
	return errors.Is(err, errElsewhere)
}

// Renew gives it an address and a secret of its own.
func (b *Inbox) Renew(listen string) {
	fresh := NewInbox(listen)
	b.Format, b.Listen, b.Secret, b.Place = fresh.Format, fresh.Listen, fresh.Secret, b.file
}

// FreeAddress is one of a host, of a port or the next ones above it, that nobody
// has now.
func FreeAddress(host string, port int) string {
	const tries = 20
	for i := range tries + 1 {
		if i == tries {
			port, i = 0, 0
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port+i))) //nolint:noctx // it takes no time
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// ReadInbox reads the file; one that is absent has no address.
func ReadInbox(name string) (Inbox, error) {
	b, err := regular.Read(name, maxInbox)
	if errors.Is(err, fs.ErrNotExist) {
		return Inbox{}, nil
	}
	if err != nil {
		return Inbox{}, err
	}
	const restore = "restore it from a backup, or move it away and apply the mode again"
	box := Inbox{file: absolute(name)}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	switch err := dec.Decode(&box); {
	case err != nil: // its text would show secrets
		return Inbox{}, fmt.Errorf("%s is not what ocisync writes there; %s", name, restore)
	case box.Format != inboxFormat:
		return Inbox{}, fmt.Errorf("%s: format %d, and this ocisync reads format %d; use the ocisync that wrote it, or a newer one", name, box.Format, inboxFormat)
	case box.Listen == "" || box.Secret == "":
		return Inbox{}, fmt.Errorf("%s lacks its address or its secret; %s", name, restore)
	}
	for _, h := range box.Hooks {
		if _, ok := h.Key.Namespace(); !ok || h.Key.Kind != schema.KindWebhook || h.Spec == nil {
			return Inbox{}, fmt.Errorf("%s: %s is no webhook; %s", name, h.Key, restore)
		}
	}
	return box, nil
}

// Save replaces the file at once or not at all; one without an address is taken
// away.
func (b Inbox) Save(name string) error {
	if b.Listen == "" {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b.Place = cmp.Or(b.Place, absolute(name))
	slices.Sort(b.Namespaces)
	slices.SortFunc(b.Hooks, func(x, y Posted) int { return cmp.Compare(x.Key.Name, y.Key.Name) })
	text, err := json.MarshalIndent(b, "", " ") //nolint:gosec // the receiver reads it there
	if err != nil {
		return err
	}
	return regular.Replace(filepath.Dir(name), filepath.Base(name), append(text, '\n'))
}

// absolute is a file's name from the root.
func absolute(name string) string {
	if path, err := filepath.Abs(name); err == nil {
		return path
	}
	return name
}

// mailbox is an inbox as its file has it now. Safe for concurrent use.
type mailbox struct {
	name   string
	logger *slog.Logger

	mu    sync.Mutex
	stamp stamp
	read  int // how often it was another
	box   Inbox
	hooks map[string][]Hook // by namespace
}

// stamp is another with each file that is put in the place of one.
type stamp struct {
	changed time.Time
	size    int64
	file    fs.FileInfo
}

// look reads the file if it is another than before, and returns how often it
// was. One that cannot be read changes nothing.
func (m *mailbox) look() (read int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var now stamp
	if info, err := os.Stat(m.name); err == nil {
		now = stamp{info.ModTime(), info.Size(), info}
	}
	if now.changed.Equal(m.stamp.changed) && now.size == m.stamp.size && (now.file == nil || os.SameFile(now.file, m.stamp.file)) {
		return m.read
	}
	m.stamp = now
	box, err := ReadInbox(m.name)
	if err != nil {
		m.logger.Error("the registry's webhooks stay as they were", "error", err)
		return m.read
	}
	m.read++
	m.box, m.hooks = box, map[string][]Hook{}
	for _, h := range box.Hooks {
		ns, _ := h.Key.Namespace()
		m.hooks[ns.Name] = append(m.hooks[ns.Name], Hook{h.Key.Name, h.Spec, h.Auth})
	}
	return m.read
}

func (m *mailbox) now() Inbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.box
}

// of are the webhooks of a namespace.
func (m *mailbox) of(namespace string) []Hook {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hooks[namespace]
}

// namespace decides for a repository: the longest that it lies in, "" for none.
func (m *mailbox) namespace(repository string) (found string) {
	for _, ns := range m.now().Namespaces {
		if len(ns) > len(found) && access.In(ns, repository) {
			found = ns
		}
	}
	return found
}
