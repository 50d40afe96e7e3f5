// Package htpasswd reads and edits htpasswd files, as Zot and Distribution have
// them: one account a line, NAME:HASH. Lines that it does not edit stay as they
// are, byte for byte: comments, accounts, and what it cannot read.
//
// Begin with [Parse]. The package is pure: package files reads and writes.
package htpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// DefaultCost is what hashing a password costs, as bcrypt counts.
const DefaultCost = bcrypt.DefaultCost

const (
	maxName     = 255    // bytes
	maxPassword = 72     // bytes; bcrypt ignores what follows
	maxLine     = 64_000 // bytes; both registries stop reading at a longer line
)

// Form is how a password was hashed.
type Form string

// The forms by their marks. Which ones a registry takes, its provider knows.
const (
	Bcrypt Form = "bcrypt"        // $2a$, $2b$, $2y$
	SHA256 Form = "SHA-256 crypt" // $5$
	SHA512 Form = "SHA-512 crypt" // $6$
	APR1   Form = "apr1"          // $apr1$, the MD5 of Apache
	SHA1   Form = "SHA-1"         // {SHA}
	Other  Form = "unknown"       // crypt, plain text, or broken
)

// FormOf tells the form of a hash. A bcrypt hash that is not well-formed is
// Other.
func FormOf(hash string) Form {
	for _, p := range []string{"$2a$", "$2b$", "$2y$"} {
		if strings.HasPrefix(hash, p) {
			if _, err := bcrypt.Cost([]byte(hash)); err != nil || len(hash) != 60 {
				return Other
			}
			return Bcrypt
		}
	}
	for prefix, form := range map[string]Form{"$5$": SHA256, "$6$": SHA512, "$apr1$": APR1, "{SHA}": SHA1} {
		if strings.HasPrefix(hash, prefix) {
			return form
		}
	}
	return Other
}

// ErrForm is the error of [Verify] for a hash that it cannot compare with.
var ErrForm = errors.New("only bcrypt hashes can be compared with a password")

// CheckPassword says why a password is none that can be hashed, or nil.
func CheckPassword(password string) error {
	switch {
	case password == "":
		return errors.New("an empty password is none; give one")
	case len(password) > maxPassword:
		return fmt.Errorf("the password is longer than %d bytes, which bcrypt would ignore; choose a shorter one", maxPassword)
	}
	return nil
}

// Hash hashes a password with bcrypt.
func Hash(password string, cost int) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	b, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	return string(b), err
}

// Verify reports whether a password is the one that was hashed. Errors: ErrForm.
func Verify(hash, password string) (bool, error) {
	if FormOf(hash) != Bcrypt {
		return false, ErrForm
	}
	return len(password) <= maxPassword && bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil, nil
}

// CheckName says why no account can have the name, or nil.
func CheckName(name string) error {
	var why string
	switch {
	case name == "":
		why = "it is empty"
	case len(name) > maxName:
		why = fmt.Sprintf("it is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		why = "it is not UTF-8"
	case strings.Contains(name, ":"):
		why = `a colon ends the name in an htpasswd file and in a login`
	case strings.HasPrefix(name, "#"):
		why = "a line that begins with # is a comment"
	case strings.TrimSpace(name) != name:
		why = "it begins or ends with a space"
	case strings.ContainsFunc(name, unicode.IsControl):
		why = "it has a control character"
	default:
		return nil
	}
	return fmt.Errorf("%q can be no account's name in an htpasswd file: %s; choose another", name, why)
}

// File is a parsed htpasswd file. The zero value is an empty one.
type File struct {
	lines []line
	at    map[string][]int // name to its lines; the last one decides
}

// line is one line of the file; without a name it is none that is edited.
type line struct {
	text string // with its end
	name string
	hash string
	gone bool
}

// Problem is a line that a registry ignores, or stops at.
type Problem struct {
	Line int // 1-based
	Text string
}

// Parse never fails: what it cannot read it keeps.
func Parse(b []byte) *File {
	f := &File{}
	for text := range bytes.Lines(b) {
		f.add(parseLine(string(text)))
	}
	return f
}

// parseLine takes a line for an account where any registry does: Distribution
// drops spaces around a line, Zot takes them for a part of name or hash. With
// such spaces a hash keeps one, so that it is equal to none.
func parseLine(text string) line {
	l := line{text: text}
	name, hash, ok := strings.Cut(strings.TrimSuffix(text, end(text)), ":")
	trimmed := strings.TrimSpace(name)
	if ok && trimmed != "" && !strings.HasPrefix(trimmed, "#") {
		l.name, l.hash = trimmed, hash
		if name != trimmed {
			l.hash = " " + hash
		}
	}
	return l
}

func (f *File) add(l line) {
	f.lines = append(f.lines, l)
	if l.name == "" {
		return
	}
	if f.at == nil {
		f.at = map[string][]int{}
	}
	f.at[l.name] = append(f.at[l.name], len(f.lines)-1)
}

// Bytes is the file as it is written.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		if !l.gone {
			b.WriteString(l.text)
		}
	}
	return b.Bytes()
}

// Names lists the accounts, in the file's order, each once.
func (f *File) Names() []string {
	var out []string
	for i, l := range f.lines {
		if at := f.at[l.name]; l.name != "" && len(at) > 0 && at[0] == i {
			out = append(out, l.name)
		}
	}
	return out
}

// Hash returns an account's hash. Where an account stands twice it is the last
// one's, as with the registries. A hash in a line with spaces around name or
// hash, which not every registry takes, has a space and no form.
func (f *File) Hash(name string) (hash string, ok bool) {
	at := f.at[name]
	if len(at) == 0 {
		return "", false
	}
	return f.lines[at[len(at)-1]].hash, true
}

// Set gives an account a hash, in its line, or adds it at the end. An account
// that stands twice then stands once.
func (f *File) Set(name, hash string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if hash == "" || strings.TrimSpace(hash) != hash || strings.ContainsFunc(hash, unicode.IsControl) || len(name)+len(hash) > maxLine {
		return errors.New("that is no hash of a password for an htpasswd file")
	}
	at := f.at[name]
	if len(at) == 0 {
		f.append(line{name: name, hash: hash})
		return nil
	}
	last := at[len(at)-1]
	for _, i := range at[:len(at)-1] {
		f.lines[i].gone = true
	}
	f.at[name] = []int{last}
	if l := &f.lines[last]; l.hash != hash {
		*l = line{text: name + ":" + hash + end(l.text), name: name, hash: hash}
	}
	return nil
}

// append puts a line at the end, before empty lines, with the end that the
// line before it has.
func (f *File) append(l line) {
	n := len(f.lines)
	for n > 0 && (f.lines[n-1].gone || strings.TrimSpace(f.lines[n-1].text) == "") {
		n--
	}
	ending := "\n"
	if n > 0 {
		before := &f.lines[n-1]
		switch e := end(before.text); {
		case e != "":
			ending = e
		default: // the file's last line has no end
			if n > 1 && end(f.lines[0].text) != "" {
				ending = end(f.lines[0].text)
			}
			before.text += ending
		}
	}
	l.text = l.name + ":" + l.hash + ending
	if n == len(f.lines) {
		f.add(l)
		return
	}
	f.lines = slices.Insert(f.lines, n, l) // only empty lines and gone ones move
	if f.at == nil {
		f.at = map[string][]int{}
	}
	f.at[l.name] = []int{n}
}

// Remove removes an account, and reports whether there was one.
func (f *File) Remove(name string) bool {
	at := f.at[name]
	for _, i := range at {
		f.lines[i].gone = true
	}
	delete(f.at, name)
	return len(at) > 0
}

// Problems lists the lines that a registry that takes these forms does not
// take as an account: hashes of other forms, accounts that stand twice, and
// what is neither account nor comment.
func (f *File) Problems(forms ...Form) []Problem {
	var out []Problem
	number := 0
	for i, l := range f.lines {
		if l.gone {
			continue
		}
		number++
		say := func(format string, args ...any) {
			out = append(out, Problem{number, fmt.Sprintf(format, args...)})
		}
		text := strings.TrimSpace(l.text)
		switch at := f.at[l.name]; {
		case len(l.text) > maxLine:
			say("the line is longer than %d bytes: the registry stops reading here", maxLine)
		case l.name == "" && text != "" && !strings.HasPrefix(text, "#"):
			say("it is neither NAME:HASH nor a comment")
		case l.name == "":
		case at[len(at)-1] != i:
			say("account %q stands again below, and only that line counts", l.name)
		case strings.TrimSpace(l.hash) != l.hash:
			say("spaces stand around name or hash of %q, which registries read differently; give it a new password", l.name)
		case !slices.Contains(forms, FormOf(l.hash)):
			say("the password of %q is hashed as %s, which the registry does not take; give it a new one", l.name, FormOf(l.hash))
		}
	}
	return out
}

// end is what ends a line: "\n", "\r\n" or "".
func end(text string) string {
	body := strings.TrimSuffix(text, "\n")
	if body == text {
		return ""
	}
	return text[len(strings.TrimSuffix(body, "\r")):]
}
