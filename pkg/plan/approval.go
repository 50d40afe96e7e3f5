package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/ocisync/ocisync/schema"
)

// approvalForm is what a digest covers; its JSON is canonical because every
// part is a struct or a sorted list.
type approvalForm struct {
	Format   int              `json:"format"`
	Mode     string           `json:"mode"`
	Registry Registry         `json:"registry"`
	Changes  []approvalChange `json:"changes"`
	Again    int              `json:"again,omitempty"`
}

type approvalChange struct {
	Action  Action          `json:"action"`
	Key     schema.Key      `json:"key"`
	Fields  []approvalField `json:"fields"`
	Purge   bool            `json:"purge,omitempty"`
	Archive bool            `json:"archive,omitempty"`
}

type approvalField struct {
	Path string `json:"path"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Approval is the digest, "sha256:<hex>", by which a reviewer names this plan.
// It is equal in a check and in a pipeline when the same things will happen:
// it covers action, key and field values of every change, held ones included,
// whether it purges or archives, how often it was approved before, and nothing that
// differs between two honest runs. Secrets count only in a create, by reference; an
// update of secrets alone is left out.
func (p Plan) Approval() string {
	all := slices.Clone(p.Changes)
	for _, h := range p.Held {
		all = append(all, h.Change)
	}
	slices.SortFunc(all, func(a, b Change) int {
		return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(a.Action, b.Action))
	})
	form := approvalForm{Format: p.Format, Mode: p.Mode, Registry: p.Registry, Changes: []approvalChange{}, Again: p.Again}
	for _, c := range all {
		a := approvalChange{Action: c.Action, Key: c.Key, Fields: []approvalField{}, Purge: c.Purge, Archive: c.Archive}
		for _, f := range c.Fields {
			if f.Sensitive && c.Action != Create {
				continue
			}
			a.Fields = append(a.Fields, approvalField{f.Path, f.Old, f.New})
		}
		if c.Action == Update && len(a.Fields) == 0 {
			continue
		}
		form.Changes = append(form.Changes, a)
	}
	b, err := json.Marshal(form)
	if err != nil {
		return "" // plain structs of texts always encode
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
