package quota

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestBlobsGiveWayWhenNobodyReliesOnThem: to who needs room; all of 10 bytes.
func TestBlobsGiveWayWhenNobodyReliesOnThem(t *testing.T) {
	ann, ben := Sender{Account: "ann", Repository: "team/app"}, Sender{Account: "ben", Repository: "team/app"}
	for _, tt := range []struct {
		name   string
		lacks  int64
		happen func(c *claims, pass func(time.Duration), request func(who Sender, refused bool, blobs ...string))
		want   []string // nil: there is no room
	}{
		{"just sent", 1, func(_ *claims, _ func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
		}, nil},
		{"refused since", 20, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			pass(time.Second)
			request(ann, true)
		}, []string{"a", "b"}},
		{"of another since", 1, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			pass(time.Second)
			request(ben, true)
		}, nil},
		{"that another was told of", 10, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			pass(time.Second)
			request(ben, false, "a")
			pass(time.Second)
			request(ann, true)
		}, []string{"b"}},
		{"more than there is", 11, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			request(ben, false, "a")
			pass(time.Second)
			request(ann, true)
		}, nil},
		{"the longest ago first", 10, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			for _, blob := range []string{"b", "a"} {
				request(ann, false, blob)
				pass(time.Second)
			}
			request(ann, true)
		}, []string{"b"}},
		{"no more than is lacked", 5, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a")
			pass(time.Second)
			request(ann, false, "b")
			pass(time.Second)
			request(ann, true)
		}, []string{"a"}},
		{"more where all were left alone", 10, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			pass(leftAlone)
		}, []string{"a", "b"}},
		{"whose sender still sends", 1, func(c *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			c.arrive(ann)
			pass(10 * leftAlone)
		}, nil},
		{"whose sender sent just now", 1, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			pass(leftAlone)
			request(ann, false)
			pass(leftAlone - time.Second)
		}, nil},
		{"sent again after a refusal", 10, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			pass(time.Second)
			request(ann, true)
			pass(time.Second)
			request(ann, false, "b")
		}, []string{"a"}},
		{"whose manifest is stored", 20, func(c *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			request(ben, false, "a", "b")
			c.fulfil(ann, digest.FromString("a"))
			c.fulfil(ann, digest.FromString("b"))
			pass(time.Second)
			request(ben, true)
		}, []string{"a", "b"}},
		{"sent again after the manifest", 10, func(c *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			c.fulfil(ann, digest.FromString("a"))
			c.fulfil(ann, digest.FromString("b"))
			pass(time.Second)
			request(ann, false, "b")
		}, []string{"a"}},
		{"of before all that is known", 20, func(*claims, func(time.Duration), func(Sender, bool, ...string)) {}, []string{"a", "b"}},
		{"too many to remember", 10, func(_ *claims, pass func(time.Duration), request func(Sender, bool, ...string)) {
			request(ann, false, "a", "b")
			pass(time.Second)
			request(ann, true)
			for i := range maxClaims {
				request(ben, false, fmt.Sprint(i))
			}
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			c := newClaims(func() time.Time { return now })
			pass := func(d time.Duration) { now = now.Add(d) }
			tt.happen(c, pass, func(who Sender, refused bool, blobs ...string) {
				c.arrive(who)
				for _, b := range blobs {
					c.claim(who, digest.FromString(b), now)
				}
				c.depart(who, refused)
			})
			a, b := digest.FromString("a"), digest.FromString("b")
			waiting := map[digest.Digest]int64{a: 10, b: 10}
			ok := c.yield(waiting, tt.lacks, tt.lacks, 5)
			var got []string
			for name, d := range map[string]digest.Digest{"a": a, "b": b} {
				if _, is := c.yielded[d]; is {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if ok != (tt.want != nil) || !slices.Equal(got, tt.want) {
				t.Errorf("room: %v, %v give way; want %v", ok, got, tt.want)
			}
			if c.count > maxClaims || len(c.made) > maxClaims {
				t.Errorf("%d claims are remembered", c.count)
			}
		})
	}
}

// TestOneBlobGivesWayOnce: not for each of two pushes that lack as much.
func TestOneBlobGivesWayOnce(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := newClaims(func() time.Time { return now })
	now = now.Add(leftAlone)
	waiting := map[digest.Digest]int64{digest.FromString("a"): 10, digest.FromString("b"): 10}
	for i, want := range []bool{true, true, false} {
		if got := c.yield(waiting, 10, 10, 0); got != want {
			t.Errorf("push %d: %v", i, got)
		}
	}
	kept := slices.Collect(maps.Keys(c.yielded))[0]
	c.arrive(Sender{})
	c.claim(Sender{}, kept, now)
	if _, goes := c.yielded[kept]; goes {
		t.Error("a blob goes that somebody was told of since")
	}
}

// TestClaimsAreForgotten: also who made them.
func TestClaimsAreForgotten(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := newClaims(func() time.Time { return now })
	for i := range 100 {
		who := Sender{Account: fmt.Sprint(i)}
		c.arrive(who)
		c.claim(who, digest.FromString(who.Account), now)
		c.depart(who, false)
	}
	for i := range 2 * maxSenders {
		who := Sender{Repository: fmt.Sprint(i)}
		c.arrive(who)
		c.depart(who, false)
	}
	if len(c.senders) > maxSenders {
		t.Errorf("%d senders are remembered", len(c.senders))
	}
	busy := Sender{Account: "busy"}
	c.arrive(busy)
	c.claim(busy, digest.FromString("busy"), now)
	now = now.Add(leftAlone)
	c.forget()
	if len(c.senders) != 1 || len(c.made) != 1 || c.count != 1 {
		t.Errorf("%d senders and %d claims (%d) are remembered", len(c.senders), len(c.made), c.count)
	}
}
