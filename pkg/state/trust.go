package state

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// MaxSize bounds a sealed inventory, in bytes, before it is parsed.
const MaxSize = 64 << 20

// signed is prefixed to what is signed, so that a signature serves for
// nothing else.
const signed = "ocisync inventory v1\n"

// envelope is the stored form: the payload is the inventory's JSON.
type envelope struct {
	Format    int    `json:"format"`
	Payload   []byte `json:"payload"`
	Key       string `json:"key,omitempty"`
	Signature []byte `json:"signature,omitempty"`
}

// Level says how far an inventory can be trusted.
type Level string

// The levels. Only Signed lets ocisync prune.
const (
	Signed     Level = "signed"
	Unsigned   Level = "unsigned"
	Absent     Level = "absent"      // there is none, and this machine never saw one
	Lost       Level = "lost"        // there is none, although this machine saw one
	Bad        Level = "bad"         // not signed by the key that the mode names
	Older      Level = "rolled back" // older than this machine last saw
	Foreign    Level = "foreign"     // of another mode or registry
	Unreadable Level = "unreadable"
	Strange    Level = "strange" // of another key or place than this machine knows
)

// Trust is what [Open] says of an inventory, for the plan.
type Trust struct {
	Level Level
	// Text says what was found and what follows, Remedy what to do; both are
	// whole phrases, Remedy "" where nothing is to be done.
	Text   string
	Remedy string
	// First says that this machine has only the inventory's own word for what
	// it is; see [Trust.AtFirstSight].
	First bool
	// Known says what shows that the registry was applied to before, whatever
	// the inventory is worth; "" for nothing.
	Known string
}

// Usable reports whether ownership may be shown and forgotten by it.
func (t Trust) Usable() bool { return t.Level == Signed || t.Level == Unsigned }

// MayDelete reports whether objects may be pruned by it.
func (t Trust) MayDelete() bool { return t.Level == Signed }

func (t Trust) String() string {
	if t.Remedy == "" {
		return t.Text
	}
	return t.Text + "; " + t.Remedy
}

// Seen is the highest serial this machine knows of; 0 means none.
type Seen int64

// Seal makes the stored form: deterministic but for the signature's key, and
// unsigned and without hashes with a zero key. It refuses an inventory that
// holds a secret.
func Seal(inv Inventory, key Key) ([]byte, error) {
	inv.Format = Format
	if inv.Mode == "" || inv.Registry.URL == "" {
		return nil, errors.New("an inventory names its mode and registry")
	}
	if key.IsZero() {
		inv.Objects = slices.Clone(inv.Objects)
		for i := range inv.Objects {
			inv.Objects[i].Hashes = nil
		}
	}
	if err := inv.normalize(); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(inv)
	if err != nil {
		return nil, fmt.Errorf("inventory of %s: %w", inv.Identity(), err)
	}
	e := envelope{Format: Format, Payload: payload}
	if !key.IsZero() {
		e.Key = keyID(key.material.public())
		e.Signature = ed25519.Sign(key.material.private, append([]byte(signed), payload...))
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("inventory of %s is larger than %d MiB; split the mode", inv.Identity(), MaxSize>>20)
	}
	return b, nil
}

// Open reads the stored form (nil where the store has none) and judges it for
// a mode and registry. verify is the mode's state.verify, "" for none; seen is
// what this machine last saw. Unless the result is usable, the inventory
// returned owns nothing: it holds the identity alone.
func Open(data []byte, want Identity, verify string, seen Seen) (Inventory, Trust) {
	none := Inventory{Format: Format, Mode: want.Mode, Registry: want.Registry}
	inv, trust := open(data, want, verify, seen)
	if !trust.Usable() {
		trust.Known = known(believed(data), want, trust.Level)
		return none, trust
	}
	trust.Known = known(inv, want, trust.Level)
	return inv, trust
}

// AtFirstSight is the trust in a signed inventory that this machine never saw
// before, or by which no delete was approved since, as [Machine.FirstSight]
// says: whoever wrote it chose the key it is checked with.
func (t Trust) AtFirstSight() Trust {
	t.First = true
	t.Text += "; this machine sees it for the first time and cannot know whether it is the newest, or whose it is, so each delete by it waits for an approval"
	t.Remedy = "look whether ocisync made what would be deleted, and approve it once; where every run is the first, set verify in the host file to the key of the writers"
	return t
}

// Distrust is what is left of an inventory that comes from elsewhere than this
// machine knows, as [Machine.Strange] says why.
func Distrust(want Identity, why string) (Inventory, Trust) {
	return Inventory{Format: Format, Mode: want.Mode, Registry: want.Registry}, Trust{
		Level:  Strange,
		Text:   "the inventory is not to be trusted: " + why + nothing,
		Remedy: "find out who changed [state] and put it back; or, if that is meant, " + adopt,
		Known:  "this machine saw an inventory of it",
	}
}

// MakeAKey is how inventories come to be signed.
const MakeAKey = "make a key with `ocisync key` and set state.key and state.verify"

// known says what an inventory, or that there was one, tells of the registry.
func known(inv Inventory, want Identity, level Level) string {
	switch {
	case level == Lost:
		return "this machine saw an inventory of it"
	case !inv.Identity().same(want) || len(inv.Objects) == 0:
		return ""
	}
	return fmt.Sprintf("the inventory records %d of its objects", len(inv.Objects))
}

// believed reads an inventory whoever wrote it; zero where it is none.
func believed(data []byte) Inventory {
	var e envelope
	var inv Inventory
	if len(data) == 0 || len(data) > MaxSize || strictJSON(data, &e) != nil || strictJSON(e.Payload, &inv) != nil {
		return Inventory{}
	}
	return inv
}

const (
	nothing = ", so nothing counts as ocisync's own and nothing is deleted"
	adopt   = "start a new one with `ocisync apply --new-inventory`"
)

func open(data []byte, want Identity, verify string, seen Seen) (Inventory, Trust) {
	if len(data) == 0 {
		if seen > 0 {
			return Inventory{}, Trust{Level: Lost, Text: fmt.Sprintf("the inventory is gone (this machine last saw serial %d)", seen) + nothing,
				Remedy: "restore it, or let `ocisync apply` start a new one, which owns what the mode declares"}
		}
		return Inventory{}, Trust{Level: Absent, Text: "there is no inventory yet" + nothing}
	}
	unreadable := func(why string) (Inventory, Trust) {
		return Inventory{}, Trust{Level: Unreadable, Text: "the inventory cannot be read: " + why + nothing, Remedy: "restore it, or " + adopt}
	}
	if len(data) > MaxSize {
		return unreadable(fmt.Sprintf("it is larger than %d MiB", MaxSize>>20))
	}
	var e envelope
	if err := strictJSON(data, &e); err != nil {
		return unreadable("it is not the JSON of an inventory")
	}
	if e.Format != Format {
		return unreadable(fmt.Sprintf("its format is %d, this ocisync knows %d", e.Format, Format))
	}
	// The signature comes before anything else is believed.
	level, why := checkSignature(e, verify)
	if level == Bad {
		return Inventory{}, Trust{Level: Bad, Text: "the inventory is not to be trusted: " + why + nothing,
			Remedy: "find out who wrote it and compare state.verify with the writers' key; then restore it, or " + adopt}
	}
	var inv Inventory
	if err := strictJSON(e.Payload, &inv); err != nil {
		return unreadable("its payload is not an inventory of this version")
	}
	if err := inv.normalize(); err != nil {
		return unreadable(err.Error())
	}
	if !inv.Identity().same(want) {
		return Inventory{}, Trust{Level: Foreign, Text: fmt.Sprintf("the inventory is of mode %q and registry %q, not of %s", inv.Mode, inv.Registry.URL, want) + nothing,
			Remedy: "correct registry.url, or " + adopt}
	}
	if inv.Serial < int64(seen) {
		return Inventory{}, Trust{Level: Older, Text: fmt.Sprintf("the inventory was rolled back: its serial is %d, this machine saw %d", inv.Serial, seen) + nothing,
			Remedy: "restore the newer one, or " + adopt}
	}
	if level == Unsigned {
		return inv, Trust{Level: Unsigned, Text: "the inventory is " + why + ", so nothing is ever pruned by it",
			Remedy: MakeAKey}
	}
	return inv, Trust{Level: Signed, Text: fmt.Sprintf("the inventory is signed, serial %d", inv.Serial)}
}

// checkSignature returns Signed, Unsigned or Bad, and why.
func checkSignature(e envelope, verify string) (Level, string) {
	if verify == "" {
		if len(e.Signature) > 0 {
			return Unsigned, "signed, but the mode names no state.verify to check it with"
		}
		return Unsigned, "not signed"
	}
	public, err := ParsePublic(verify)
	if err != nil {
		return Bad, err.Error()
	}
	if len(e.Signature) == 0 {
		return Bad, "it is not signed, although the mode names state.verify"
	}
	if !ed25519.Verify(public, append([]byte(signed), e.Payload...), e.Signature) {
		if id := keyID(public); e.Key != id {
			return Bad, fmt.Sprintf("it is signed with another key than state.verify (%s)", id)
		}
		return Bad, "its signature is wrong, it was changed after it was written"
	}
	return Signed, ""
}
