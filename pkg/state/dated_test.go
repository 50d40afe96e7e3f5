package state

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// What was recorded before seconds were is read, matches and is written as it was.
func TestAHashWithoutASecondIsAsItAlwaysWas(t *testing.T) {
	k, err := ParseKey("ocisync-state-key:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	const text = `{"key":"user/ann","spec":{"password":{"env":"OCISYNC_PW"}},"hashes":[{"path":"password","hmac":"HMAC"}],"owned":true}`
	old := strings.Replace(text, "HMAC", "aad042eb2168d0e2cfa7774395d845b2d43145b1f39568e87ee5620ecf4f8578", 1)
	var o Object
	if err := json.Unmarshal([]byte(old), &o); err != nil {
		t.Fatal(err)
	}
	if equal, known := k.Match(o, "password", "x"); !equal || !known {
		t.Errorf("the value matches %v, known %v", equal, known)
	}
	if at := k.AsOf(o, "password", "x"); !at.IsZero() {
		t.Errorf("it was so at %s", at)
	}
	if again, err := json.Marshal(o); err != nil || string(again) != old {
		t.Errorf("it is written as %s, %v", again, err)
	}
	if h := k.Hash(o.Key, "password", "x", time.Time{}); h != o.Hashes[0] {
		t.Errorf("it is made as %+v", h)
	}
}

func TestTheSecondOfAHashIsNobodysToMove(t *testing.T) {
	k := newKey(t)
	at := time.Date(2026, 11, 28, 13, 0, 7, 999, time.FixedZone("CET", 3600))
	o := object(t, "user/ann")
	o.Hashes = []Hash{k.Hash(o.Key, "password", "x", at)}
	text, err := json.Marshal(o)
	if err != nil || !strings.Contains(string(text), `"as_of":"2026-11-28T12:00:07Z"`) {
		t.Fatalf("it is written as %s, %v", text, err)
	}
	for _, c := range []struct {
		edit  string // of 2026-11-28T12:00:07Z
		value string
		equal bool
	}{
		{`"2026-11-28T12:00:07Z"`, "x", true},
		{`"2026-11-28T13:00:07+01:00"`, "x", true}, // the same
		{`"2026-11-28T12:00:07Z"`, "y", false},
		{`"2026-11-28T12:00:08Z"`, "x", false},
		{`"2036-11-28T12:00:07Z"`, "x", false},
		{`"0001-01-01T00:00:00Z"`, "x", false},
	} {
		var edited Object
		if err := json.Unmarshal([]byte(strings.Replace(string(text), `"2026-11-28T12:00:07Z"`, c.edit, 1)), &edited); err != nil {
			t.Fatal(err)
		}
		equal, known := k.Match(edited, "password", c.value)
		if equal != c.equal || !known {
			t.Errorf("%s, %s: equal %v, known %v", c.edit, c.value, equal, known)
		}
		if got := k.AsOf(edited, "password", c.value); got.IsZero() == c.equal {
			t.Errorf("%s, %s: it was so at %s", c.edit, c.value, got)
		}
	}
	if got := (Key{}).AsOf(o, "password", "x"); !got.IsZero() {
		t.Errorf("without the key it was so at %s", got)
	}
	if got := k.AsOf(o, "token", "x"); !got.IsZero() {
		t.Errorf("another field was so at %s", got)
	}
}
