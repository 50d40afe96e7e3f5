// Package plan compares a desired with a live state and says what to do about
// the difference, as data.
//
// Start with [Diff], which makes a [Plan]; [Guard] holds back and refuses what
// is dangerous; [Plan.Approval] names a plan so that a reviewer can approve it;
// render.go and markdown.go show it. Everything here is pure: no context, no
// clock, no log, no network, and no knowledge of providers or inventories.
package plan

import (
	"github.com/ocisync/ocisync/schema"
)

// Format is the version of the plan's JSON form.
const Format = 1

// Action is what a change does to an object.
type Action string

// The actions. Adopt and Forget change only what ocisync considers its own
// and never reach a registry. Replace deletes and makes anew; it counts as a
// delete.
const (
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace"
	Delete  Action = "delete"
	Adopt   Action = "adopt"
	Forget  Action = "forget"
	// Rename moves an object with its children to another name; Before holds
	// the old name.
	Rename Action = "rename"
	// Unprotect takes a pattern, the change's key, off policy.protect. Like
	// adopt and forget it never reaches a registry.
	Unprotect Action = "unprotect"
)

// Effect is how a change takes hold of the running registry.
type Effect string

// The effects, from the mildest. By-hand changes wait for somebody else.
const (
	Live    Effect = "live"
	Reload  Effect = "reload"
	Restart Effect = "restart"
	ByHand  Effect = "by-hand"
)

// Reason is why a change is in the plan.
type Reason string

// The reasons.
const (
	Declared Reason = "declared" // the file asks for it
	Drifted  Reason = "drifted"  // it was so, and changed although the file did not
	Pruned   Reason = "pruned"   // the file no longer has it, and policy.prune names its kind
)

// Plan is the ordered list of what would be done, pure data.
type Plan struct {
	Format   int      `json:"format"`
	Mode     string   `json:"mode"`
	Registry Registry `json:"registry"`
	// Changes is in the order of execution.
	Changes []Change `json:"changes"`
	// Held changes are shown and not written until approved; in key order.
	Held []Held `json:"held,omitempty"`
	// Refusals stop the whole plan; in key order.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Notes tell what a reader should know; sorted, each once.
	Notes []Note `json:"notes,omitempty"`
	// Again counts the approvals of this very plan that were used before. The
	// digest covers it: each approval serves once, and the next has another.
	Again int `json:"again,omitempty"`
	// Unchanged counts the declared objects that already are as declared.
	Unchanged int `json:"unchanged"`
	// Unmanaged lists, of the kinds that were read, the live objects that are
	// neither declared nor ocisync's own, sorted. They are never touched.
	Unmanaged []schema.Key `json:"unmanaged,omitempty"`
	// Same lists their keys, sorted, for people who want to see them; it is
	// no part of the plan's JSON.
	Same []schema.Key `json:"-"`
}

// Registry names the managed registry in a plan.
type Registry struct {
	Type string `json:"type"`
	URL  string `json:"url"`
}

// Change is one difference and what is done about it.
type Change struct {
	Action Action     `json:"action"`
	Effect Effect     `json:"effect"`
	Key    schema.Key `json:"key"`
	// Before is the live object, After the whole object as it will be: live
	// with the declared fields laid over. Before is nil for a create, After
	// for a delete and a forget.
	Before *schema.Resource `json:"before,omitempty"`
	After  *schema.Resource `json:"after,omitempty"`
	// Fields lists what differs, sorted by path. Empty for delete, adopt and
	// forget.
	Fields []Field `json:"fields,omitempty"`
	// Purge says that a namespace is deleted with all that was pushed to it: its
	// block says, or said last, on_delete = "purge".
	Purge bool `json:"purge,omitempty"`
	// Archive says that a namespace is not deleted: it stays with its content, locked,
	// as its block said last by on_delete = "archive".
	Archive bool            `json:"archive,omitempty"`
	Reason  Reason          `json:"reason"`
	Impact  []string        `json:"impact,omitempty"`
	Source  schema.Position `json:"source,omitzero"`
	// AsOf is when Before was recorded, where it was not observed but taken
	// from the inventory, as RFC 3339 in UTC; else "".
	AsOf string `json:"as_of,omitempty"`
}

// Field is one differing field. Old and New are canonical JSON text; "" means
// that the field is not there. For a sensitive field they hold a reference or
// a word about it, never a secret.
type Field struct {
	Path      string `json:"path"`
	Old       string `json:"old,omitempty"`
	New       string `json:"new,omitempty"`
	Sensitive bool   `json:"sensitive,omitempty"`
	// Removes counts the elements (members, rights, rules) that go.
	Removes int `json:"removes,omitempty"`
}

// Held is a change that waits for an approval, and why.
type Held struct {
	Change Change `json:"change"`
	Why    string `json:"why"`
}

// Refusal says why a plan cannot be applied as it stands.
type Refusal struct {
	Key    schema.Key      `json:"key,omitzero"`    // zero: the plan as a whole
	Field  string          `json:"field,omitempty"` // of the object; with a zero key, of the mode
	Why    string          `json:"why"`
	Source schema.Position `json:"source,omitzero"`
}

// Note is a remark on an object, or, with a zero key, on the whole plan.
type Note struct {
	Key  schema.Key `json:"key,omitzero"`
	Text string     `json:"text"`
}
