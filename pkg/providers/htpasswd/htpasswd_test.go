package htpasswd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"
)

const (
	hashA = "$2a$04$7s3X3oyyfVYGbAQmuZ3Kuu5sU5ANRyEZOV2zw8TbFqx7f4r1JTWFS"
	hashB = "$2y$05$abcdefghijklmnopqrstuuGhAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	sha   = "$6$salt$somethinglong"
)

func TestOnlyTheEditedLineChanges(t *testing.T) {
	const before = "# people: all of them\n\nalice:" + hashA + "\n  bob :" + sha + "  \r\nwhat is this\n#carol:" + hashA + "\ndave:{SHA}x"
	if diff := cmp.Diff([]string{"alice", "bob", "dave"}, Parse([]byte(before)).Names()); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	tests := []struct {
		name string
		edit func(*File) error
		want string
	}{
		{"nothing", func(*File) error { return nil }, before},
		{"the same again", func(f *File) error { return f.Set("alice", hashA) }, before},
		{"replace", func(f *File) error { return f.Set("alice", hashB) }, strings.Replace(before, "alice:"+hashA, "alice:"+hashB, 1)},
		{"replace the last line", func(f *File) error { return f.Set("dave", hashB) }, strings.Replace(before, "{SHA}x", hashB, 1)},
		{"add", func(f *File) error { return f.Set("erin", hashB) }, before + "\nerin:" + hashB + "\n"},
		{"a comment is no account", func(f *File) error { return f.Set("carol", hashB) }, before + "\ncarol:" + hashB + "\n"},
		{"remove", func(f *File) error { f.Remove("alice"); return nil }, strings.Replace(before, "alice:"+hashA+"\n", "", 1)},
		{"remove what is absent", func(f *File) error {
			if f.Remove("carol") {
				return errors.New("removed")
			}
			return nil
		}, before},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := Parse([]byte(before))
			if err := test.edit(f); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(f.Bytes())); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEditsAddUp(t *testing.T) {
	f := Parse([]byte("a:" + hashA + "\r\nb:" + hashA + "\r\n\r\n\n"))
	for _, err := range []error{f.Set("c", hashA), f.Set("a", hashB), f.Set("d", hashB)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Remove("b")
	f.Remove("d")
	if err := f.Set("b", hashB); err != nil {
		t.Fatal(err)
	}
	want := "a:" + hashB + "\r\nc:" + hashA + "\r\nb:" + hashB + "\r\n\r\n\n"
	if diff := cmp.Diff(want, string(f.Bytes())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "c", "b"}, f.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	var empty File
	if err := empty.Set("a", hashA); err != nil || string(empty.Bytes()) != "a:"+hashA+"\n" {
		t.Errorf("an empty file becomes %q, %v", empty.Bytes(), err)
	}
}

func TestTheLastOfTwoAccountsDecides(t *testing.T) {
	const twice = "a:" + hashA + "\n# between\na:" + hashB + "\n"
	f := Parse([]byte(twice))
	if h, ok := f.Hash("a"); !ok || h != hashB {
		t.Errorf("hash %q, %v", h, ok)
	}
	if got := f.Problems(Bcrypt); len(got) != 1 || got[0].Line != 1 {
		t.Errorf("problems %+v", got)
	}
	if err := f.Set("a", sha); err != nil {
		t.Fatal(err)
	}
	if got := string(f.Bytes()); got != "# between\na:"+sha+"\n" {
		t.Errorf("set: %q", got)
	}
	f = Parse([]byte(twice))
	f.Remove("a")
	if got := string(f.Bytes()); got != "# between\n" {
		t.Errorf("removed: %q", got)
	}
	if _, ok := f.Hash("a"); ok || len(f.Names()) > 0 {
		t.Error("a removed account is there")
	}
}

func TestSpacesMakeAnAccountNobodysTwin(t *testing.T) {
	for _, spaced := range []string{" a:" + hashA, "a :" + hashA, "a: " + hashA, "a:" + hashA + " \r", "a:" + hashA + "\t"} {
		f := Parse([]byte(spaced + "\n"))
		if h, ok := f.Hash("a"); !ok || FormOf(h) != Other {
			t.Errorf("%q: hash %q, %v", spaced, h, ok)
		}
		if got := f.Problems(Bcrypt); len(got) != 1 || !strings.Contains(got[0].Text, "spaces") {
			t.Errorf("%q: problems %+v", spaced, got)
		}
		if err := f.Set("a", hashA); err != nil || strings.TrimRight(string(f.Bytes()), "\r\n") != "a:"+hashA {
			t.Errorf("%q: set it is %q, %v", spaced, f.Bytes(), err)
		}
	}
}

func TestProblemsNameLineAndCause(t *testing.T) {
	f := Parse([]byte("a:" + hashA + "\nb:" + sha + "\nno colon\n\n# fine: yes\nc:$2y$tooshort\nd:plain\n:nobody\n" + strings.Repeat("x", maxLine+1)))
	f.Remove("a")
	var got []string
	for _, p := range f.Problems(Bcrypt, SHA256) {
		got = append(got, p.Text[:min(len(p.Text), 50)])
	}
	want := []string{
		`the password of "b" is hashed as SHA-512 crypt, wh`, "it is neither NAME:HASH nor a comment",
		`the password of "c" is hashed as unknown, which th`, `the password of "d" is hashed as unknown, which th`,
		"it is neither NAME:HASH nor a comment", "the line is longer than 64000 bytes: the registry ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := f.Problems(Bcrypt, SHA512); got[0].Line != 2 {
		t.Errorf("lines count as the file is written: %+v", got[0])
	}
}

func TestNamesThatWouldBreakTheFileAreRefused(t *testing.T) {
	for _, name := range []string{"", "a:b", "a\nb", "a\rb", "#a", " a", "a ", "a\x00", "\xff", strings.Repeat("a", 256)} {
		if err := new(File).Set(name, hashA); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	for _, hash := range []string{"", "a\nroot:x", "a\r", " a", strings.Repeat("a", maxLine)} {
		if err := new(File).Set("a", hash); err == nil {
			t.Errorf("hash %q was taken", hash)
		}
	}
	for _, name := range []string{"a", "a#", "Älice", "a b", "robot$ci", "a@b.example"} {
		if err := new(File).Set(name, hashA); err != nil {
			t.Error(err)
		}
	}
}

func TestPasswordsAreVerified(t *testing.T) {
	hash, err := Hash("secret", bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if FormOf(hash) != Bcrypt {
		t.Errorf("form %s of %s", FormOf(hash), hash)
	}
	for _, h := range []string{hash, "$2y$" + hash[4:], "$2b$" + hash[4:]} {
		if ok, err := Verify(h, "secret"); !ok || err != nil {
			t.Errorf("%.4s: the right password: %v, %v", h, ok, err)
		}
		if ok, err := Verify(h, "Secret"); ok || err != nil {
			t.Errorf("%.4s: a wrong password: %v, %v", h, ok, err)
		}
	}
	long := strings.Repeat("x", 72)
	if hash, err = Hash(long, bcrypt.MinCost); err != nil {
		t.Fatal(err)
	}
	if ok, _ := Verify(hash, long+"y"); ok {
		t.Error("a password that bcrypt cuts is right")
	}
	for _, password := range []string{"", long + "y"} {
		if _, err := Hash(password, bcrypt.MinCost); err == nil {
			t.Errorf("%d bytes were hashed", len(password))
		}
	}
	for _, h := range []string{sha, "plain", "", "{SHA}x", "$apr1$x", "$5$x"} {
		if _, err := Verify(h, "plain"); !errors.Is(err, ErrForm) {
			t.Errorf("%q: %v", h, err)
		}
	}
}

func FuzzEditsKeepTheRest(f *testing.F) {
	f.Add([]byte("a:"+hashA+"\n# c\n\n"), "b")
	f.Add([]byte("a:x\r\na:y"), "a")
	f.Add([]byte(" \n:\n::\n"), "c")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		file := Parse(b)
		if string(file.Bytes()) != string(b) {
			t.Fatal("parsed and written is not the same")
		}
		if file.Set(name, hashA) != nil {
			return
		}
		again := Parse(file.Bytes())
		if h, ok := again.Hash(name); !ok || h != hashA {
			t.Fatalf("set and read again: %q, %v", h, ok)
		}
		others := func(f *File) []string {
			return slices.DeleteFunc(append([]string{}, f.Names()...), func(n string) bool { return n == name })
		}
		if diff := cmp.Diff(others(Parse(b)), others(again)); diff != "" {
			t.Fatalf("other accounts (-before +after):\n%s", diff)
		}
		again.Remove(name)
		last := Parse(again.Bytes())
		if _, ok := last.Hash(name); ok {
			t.Fatal("removed and still there")
		}
	})
}
