package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

func newKey(t testing.TB) Key {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func seal(t testing.TB, inv Inventory, k Key) []byte {
	t.Helper()
	b, err := Seal(inv, k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever is wrong with an inventory, nothing is owned and nothing deleted by it.
func TestUntrustworthyInventoryOwnsNothing(t *testing.T) {
	ours, theirs := newKey(t), newKey(t)
	inv := sample(t)
	good := seal(t, inv, ours)
	other := inv
	other.Mode = "dev"
	elsewhere := inv
	elsewhere.Registry.URL = "https://staging.example.com"

	forged := func(change func(*envelope)) []byte {
		var e envelope
		if err := json.Unmarshal(good, &e); err != nil {
			t.Fatal(err)
		}
		change(&e)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cases := map[string]struct {
		data   []byte
		verify string
		seen   Seen
		want   Level
		text   string
	}{
		"deleted":             {nil, ours.Public(), 7, Lost, "is gone"},
		"never there":         {nil, ours.Public(), 0, Absent, "no inventory yet"},
		"rolled back":         {good, ours.Public(), 8, Older, "rolled back"},
		"signed by another":   {seal(t, inv, theirs), ours.Public(), 0, Bad, "another key"},
		"unsigned":            {seal(t, inv, Key{}), ours.Public(), 0, Bad, "not signed"},
		"payload exchanged":   {forged(func(e *envelope) { e.Payload = bytes.Replace(e.Payload, []byte("team-a"), []byte("team-b"), 1) }), ours.Public(), 0, Bad, "changed after"},
		"claims our key":      {forged(func(e *envelope) { e.Signature = bytes.Repeat([]byte{1}, 64) }), ours.Public(), 0, Bad, "changed after"},
		"short signature":     {forged(func(e *envelope) { e.Signature = e.Signature[:5] }), ours.Public(), 0, Bad, "changed after"},
		"of another mode":     {seal(t, other, ours), ours.Public(), 0, Foreign, `mode "dev"`},
		"of another registry": {seal(t, elsewhere, ours), ours.Public(), 0, Foreign, "staging.example.com"},
		"unknown format":      {forged(func(e *envelope) { e.Format = 2 }), ours.Public(), 0, Unreadable, "format"},
		"cut off":             {good[:len(good)/2], ours.Public(), 0, Unreadable, "not the JSON"},
		"a web page":          {[]byte("<html>"), ours.Public(), 0, Unreadable, "not the JSON"},
		"wrong verify":        {good, "ed25519:AAAA", 0, Bad, "32 bytes"},
		"unsigned and older":  {seal(t, inv, Key{}), "", 8, Older, "rolled back"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			have, trust := Open(c.data, inv.Identity(), c.verify, c.seen)
			if trust.Level != c.want {
				t.Errorf("level %q, want %q: %s", trust.Level, c.want, trust)
			}
			if trust.MayDelete() || trust.Usable() {
				t.Error("counts as usable")
			}
			if len(have.Objects) != 0 || len(have.Approvals) != 0 || have.Identity() != inv.Identity() {
				t.Errorf("inventory is not empty: %+v", have)
			}
			if !strings.Contains(trust.Text, c.text) || !strings.Contains(trust.Text, "nothing is deleted") {
				t.Errorf("text %q does not say %q and what follows", trust.Text, c.text)
			}
			if c.want != Absent && !strings.Contains(trust.Remedy, "ocisync apply") {
				t.Errorf("remedy %q does not say what to type", trust.Remedy)
			}
		})
	}
}

// Not one byte of a signed inventory can be changed.
func TestEveryEditOfASignedInventoryIsRefused(t *testing.T) {
	k := newKey(t)
	inv := sample(t)
	good := seal(t, inv, k)
	var e envelope
	if err := json.Unmarshal(good, &e); err != nil {
		t.Fatal(err)
	}
	for i := range e.Payload {
		edited := e
		edited.Payload = bytes.Clone(e.Payload)
		edited.Payload[i] ^= 1
		b, err := json.Marshal(edited)
		if err != nil {
			t.Fatal(err)
		}
		if _, trust := Open(b, inv.Identity(), k.Public(), 0); trust.Usable() {
			t.Fatalf("an edit of byte %d was trusted", i)
		}
	}
}

func TestUnsignedInventoryShowsOwnershipAndPrunesNothing(t *testing.T) {
	inv := sample(t)
	for name, data := range map[string][]byte{
		"unsigned":          seal(t, inv, Key{}),
		"signed, no verify": seal(t, inv, newKey(t)),
	} {
		have, trust := Open(data, inv.Identity(), "", 0)
		if trust.Level != Unsigned || trust.MayDelete() || !trust.Usable() {
			t.Errorf("%s: %+v", name, trust)
		}
		if !have.Owns(key(t, "user/ann")) {
			t.Errorf("%s: ownership is not shown", name)
		}
		if !strings.Contains(trust.Text, "nothing is ever pruned") {
			t.Errorf("%s: text %q", name, trust.Text)
		}
	}
}

func TestAtFirstSightTheTrustSaysWhatItCannotKnow(t *testing.T) {
	k, inv := newKey(t), sample(t)
	_, trust := Open(seal(t, inv, k), inv.Identity(), k.Public(), 7)
	if trust.First || strings.Contains(trust.Text, "cannot know") {
		t.Errorf("seen before, and %s", trust)
	}
	if trust = trust.AtFirstSight(); !trust.First || !trust.MayDelete() || !strings.Contains(trust.Text, "cannot know") || !strings.Contains(trust.Remedy, "verify in the host file") {
		t.Errorf("%s", trust)
	}
}

func TestASlashAtTheURLsEndIsNoOtherRegistry(t *testing.T) {
	k, inv := newKey(t), sample(t)
	id := inv.Identity()
	id.Registry.URL += "/"
	if _, trust := Open(seal(t, inv, k), id, k.Public(), 0); trust.Level != Signed {
		t.Error(trust)
	}
}

func TestNextSerialIsNewerThanWhatWasSeen(t *testing.T) {
	if n := NextSerial(Inventory{Serial: 3}, 9); n != 10 {
		t.Errorf("next = %d", n)
	}
	if n := NextSerial(Inventory{Serial: 9}, 3); n != 10 {
		t.Errorf("next = %d", n)
	}
}

func TestStateKeyReadsBackAndNeverPrints(t *testing.T) {
	k := newKey(t)
	again, err := ParseKey(k.Reveal() + "\n")
	if err != nil || again.Public() != k.Public() || again.Reveal() != k.Reveal() {
		t.Fatalf("the key does not read back: %v", err)
	}
	if _, err := ParsePublic(k.Public()); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", k)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", k)
	fmt.Fprintf(&out, "%v %+v %#v %s %x %d %v %v %+v", k, k, k, k, k, k, struct{ K Key }{k}, struct{ k Key }{k}, &k)
	j, err := json.Marshal(k) //nolint:staticcheck // that nothing comes out is the promise
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	seed := strings.TrimPrefix(k.Reveal(), keyPrefix)
	for _, bad := range []string{seed, fmt.Sprintf("%x", k.material.private.Seed()), fmt.Sprintf("%d", k.material.private.Seed())} {
		if strings.Contains(out.String(), strings.Trim(bad, "[]")) {
			t.Errorf("the key is printed: %s", out.String())
		}
	}
	for _, text := range []string{"", canary, keyPrefix + canary, keyPrefix + "AAAA"} {
		if _, err := ParseKey(text); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("ParseKey(%q) = %v", text, err)
		}
	}
}

func TestHashesAreBoundToKeyObjectAndField(t *testing.T) {
	k := newKey(t)
	ann := key(t, "user/ann")
	h := k.HashSecret(ann, "password", "x")
	seen := map[string]bool{h: true}
	for _, other := range []string{
		newKey(t).HashSecret(ann, "password", "x"),
		k.HashSecret(key(t, "user/bob"), "password", "x"),
		k.HashSecret(ann, "passwordx", ""),
		k.HashSecret(ann, "password", "y"),
	} {
		if seen[other] {
			t.Error("two hashes are equal")
		}
		seen[other] = true
	}
	o := Object{Key: ann, Spec: &schema.User{}, Hashes: []Hash{{Path: "password", HMAC: h}}}
	for _, c := range []struct {
		k            Key
		path, value  string
		equal, known bool
	}{
		{k, "password", "x", true, true},
		{k, "password", "y", false, true},
		{k, "email", "x", false, false},
		{Key{}, "password", "x", false, false},
	} {
		if equal, known := c.k.Match(o, c.path, c.value); equal != c.equal || known != c.known {
			t.Errorf("Match(%s, %s) = %v, %v", c.path, c.value, equal, known)
		}
	}
	if (Key{}).HashSecret(ann, "password", "x") != "" {
		t.Error("a hash was made without a key")
	}
}
