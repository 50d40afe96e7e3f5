package schema

import (
	"errors"
	"regexp"
	"strings"
	"unicode"
)

// SubjectPattern makes of an identity's subject the regular expression of what it names.
// A * stands for one or more characters that are neither / nor @, and stands only behind
// the host of a URL and the first part of its path, which says whose it is: whoever may
// choose a name there gets no further. All else is taken as it is.
func SubjectPattern(subject string) (string, error) {
	literal, _, glob := strings.Cut(subject, "*")
	scheme, rest, url := strings.Cut(literal, "://")
	parts := strings.SplitN(rest, "/", 3)
	switch {
	case subject == "":
		return "", errors.New("it is empty")
	case strings.ContainsFunc(subject, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }):
		return "", errors.New("it has a space or a control character")
	case strings.Contains(subject, "**"):
		return "", errors.New("** crosses what others may choose; write as many single * as there are parts")
	case glob && (!url || scheme == "" || len(parts) < 3 || parts[0] == "" || parts[1] == ""):
		return "", errors.New("a * stands only behind the host of a URL and the first part of its path")
	}
	return "^" + strings.ReplaceAll(regexp.QuoteMeta(subject), `\*`, "[^/@]+") + "$", nil
}
