package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/schema"
)

func TestRightPasswordIsRememberedForFiveMinutes(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	a, p, now := &account{hash: hash}, newPasswords(), time.Now()
	p.now = func() time.Time { return now }
	check := func(a *account, password string) bool {
		t.Helper()
		ok, err := p.check(t.Context(), attempt{account: a, password: password})
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if check(a, "wrong") || a.seen.Load() != nil {
		t.Error("a wrong password is accepted or remembered")
	}
	if !check(a, "right") {
		t.Fatal("the right password is refused")
	}
	a.hash = []byte("no longer looked at") // only what is remembered can say yes
	if !check(a, "right") {
		t.Error("the right password is not remembered")
	}
	if check(a, "wrong") {
		t.Error("remembering one password lets another in")
	}
	now = now.Add(remembered - time.Second)
	if !check(a, "right") {
		t.Error("the password is forgotten too early")
	}
	now = now.Add(2 * time.Second)
	if check(a, "right") {
		t.Error("the password is remembered for longer than five minutes")
	}
}

// What is remembered could be guessed from a copy of the memory of some other
// process, if it were a plain hash or one with the same key everywhere.
func TestWhatIsRememberedOfAPasswordHasTheKeyOfThisProcess(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[sha256.Size]byte]bool{sha256.Sum256([]byte("right")): true}
	for range 3 {
		a, p := &account{hash: hash}, newPasswords()
		for range 2 { // one account remembers one password
			if ok, err := p.check(t.Context(), attempt{account: a, password: "right"}); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		mac := a.seen.Load().mac
		if seen[mac] {
			t.Errorf("%x is remembered, and was known without this process's key", mac)
		}
		seen[mac] = true
	}
}

func TestNobodyLogsInWithoutAPassword(t *testing.T) {
	p := newPasswords()
	for _, a := range []*account{nil, {}} {
		for _, password := range []string{"", "x", strings.Repeat("x", maxPassword+1)} {
			if ok, err := p.check(t.Context(), attempt{account: a, password: password}); ok || err != nil {
				t.Errorf("account %v with %q: %v, %v", a, password, ok, err)
			}
		}
	}
}

// A wrong password takes as long whether its name is an account's or none.
func TestAWrongPasswordIsHashedAsOftenForEachName(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot{doc: document{Robots: map[string][]RobotAccount{
		"robot/old": {{Login: "robot-old", Hash: string(hash), Former: []FormerSecret{{Secret: string(hash)}, {Secret: SecretDigest("x")}, {Secret: string(hash)}, {Secret: string(hash)}}}},
		"robot/new": {{Login: "robot-new", Hash: string(hash)}},
	}}, robots: map[string]*robotLogin{}}
	for _, name := range []string{"old", "new"} {
		s.logins(schema.Resource{Key: schema.Key{Kind: schema.KindRobot, Name: name}}, &schema.Robot{}, nil)
	}
	for name, want := range map[string]int{"old": 4, "new": 4, "none": 4} {
		name = robotPrefix + name
		a, _ := s.login(name, time.Now())
		if got := slow(a.secrets(s.hashes(name))); got != want {
			t.Errorf("%s: %d hashes, want %d", name, got, want)
		}
	}
	for _, name := range []string{"dev", "nobody"} {
		if got := slow((*account)(nil).secrets(s.hashes(name))); got != 1 {
			t.Errorf("%s: %d hashes, want 1", name, got)
		}
	}
}

func TestLongPasswordsAreRefusedAndNotCut(t *testing.T) {
	if _, err := HashPassword(strings.Repeat("x", maxPassword+1), HashCost); err == nil || strings.Contains(err.Error(), "xxx") {
		t.Errorf("error %v", err)
	}
	if _, err := HashPassword("", HashCost); err == nil {
		t.Error("an empty password is hashed")
	}
	long := strings.Repeat("x", maxPassword)
	hash, err := bcrypt.GenerateFromPassword([]byte(long), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	p, a := newPasswords(), &account{hash: hash}
	if ok, _ := p.check(t.Context(), attempt{account: a, password: long + "y"}); ok {
		t.Error("what follows the 72nd byte does not count")
	}
	if ok, _ := p.check(t.Context(), attempt{account: a, password: long}); !ok {
		t.Error("72 bytes are refused")
	}
}

func TestWaitingForACheckEndsWithTheRequest(t *testing.T) {
	p := newPasswords()
	p.slots = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.check(ctx, attempt{password: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
