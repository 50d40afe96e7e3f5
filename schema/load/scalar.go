package load

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// scalar checks numbers and times, of which the parser sees the letters only.
func (p *parser) scalar(n *Node, v *unstable.Node, path string) {
	n.Text = string(v.Data)
	bad := func(want string) {
		n.told = true
		p.fail(n.Range.Start, path, clip(n.Text)+" is not "+n.Kind.String(), want)
	}
	switch v.Kind {
	case unstable.Bool:
		n.Kind = Bool
	case unstable.Integer:
		n.Kind = Integer
		if _, ok := integer(n.Text); !ok {
			bad("a whole number has 64 bits, no leading zero, and _ only between digits")
		}
	case unstable.Float:
		n.Kind = Float
		if !floating(n.Text) {
			bad("write digits on both sides of the point, such as 0.5")
		}
	case unstable.LocalDate:
		n.Kind = Date
		if _, err := time.Parse(time.DateOnly, n.Text); err != nil {
			bad("no calendar has that day; write year-month-day, such as 2027-01-31")
		}
	default:
		n.Kind = DateTime
		if !instant(n.Text) {
			bad("write a time that exists, such as 2027-01-31T08:00:00Z")
		}
	}
}

// integer reads a whole number as TOML 1.0 writes it.
func integer(s string) (int64, bool) {
	t := strings.ReplaceAll(s, "_", "")
	if strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return 0, false
	}
	digits := strings.TrimLeft(t, "+-")
	if len(t)-len(digits) > 1 || digits == "" {
		return 0, false
	}
	base := 10
	if len(digits) > 1 && digits[0] == '0' {
		base = map[byte]int{'x': 16, 'o': 8, 'b': 2}[digits[1]]
		if base == 0 || digits != t || s[2] == '_' {
			return 0, false
		}
		t = digits[2:]
	}
	v, err := strconv.ParseInt(t, base, 64)
	return v, err == nil
}

func floating(s string) bool {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		return false
	}
	if digits == "inf" || digits == "nan" {
		return true
	}
	mantissa, exp, hasExp := strings.Cut(strings.ToLower(digits), "e")
	whole, frac, hasFrac := strings.Cut(mantissa, ".")
	if len(whole) > 1 && whole[0] == '0' || !decimals(whole) || hasFrac && !decimals(frac) {
		return false
	}
	if hasExp {
		sign := strings.TrimLeft(exp, "+-")
		if len(exp)-len(sign) > 1 || !decimals(sign) {
			return false
		}
	}
	return hasFrac || hasExp
}

func decimals(s string) bool {
	if s == "" || s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__") {
		return false
	}
	return strings.Trim(s, "0123456789_") == ""
}

// rfc3339 is the form of TOML 1.0's times, with or without day and offset.
var rfc3339 = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)?(?:[Tt ]?)(\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)?$`)

// instant accepts TOML 1.0's times; a leap second counts as the one before it.
func instant(s string) bool {
	m := rfc3339.FindStringSubmatch(s)
	if m == nil || m[1] == "" && m[5] != "" {
		return false
	}
	day, second := m[1], m[3]
	if day == "" {
		day = "2000-01-01"
	}
	if second == "60" {
		second = "59"
	}
	_, err := time.Parse(time.DateTime, day+" "+m[2]+second)
	return err == nil
}
