package zot

import (
	"sync"

	"github.com/ocisync/ocisync/pkg/providers/zot/config"
)

// reading keeps the configuration that was read last, for whoever reads the same again:
// a plan does so several times. Nobody changes it.
type reading struct {
	mu   sync.Mutex
	doc  *config.Document // nil: nothing yet
	conf configuration
}

// config reads the text of a configuration.
func (r *reading) config(name string, text []byte) (*config.Document, configuration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doc.Says(text) {
		return r.doc, r.conf, nil
	}
	doc, conf, err := read(name, text)
	if err == nil {
		r.doc, r.conf = doc, conf
	}
	return doc, conf, err
}
