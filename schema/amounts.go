package schema

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes; Unlimited stands for no limit.
type Size int64

// Unlimited is the size written "unlimited".
const Unlimited Size = -1

// binary units, largest first.
func units() []struct {
	name string
	size int64
} {
	return []struct {
		name string
		size int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

// ParseSize reads "500GiB", "1024KiB", "12B", "0" or "unlimited". Units are
// KiB, MiB, GiB and TiB; a number stands before each without a space.
func ParseSize(s string) (Size, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	if s == "0" {
		return 0, nil
	}
	for _, u := range units() {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			v, err := strconv.ParseInt(n, 10, 64)
			if err != nil || v < 0 || n[0] == '+' {
				break
			}
			if v > math.MaxInt64/u.size {
				return 0, fmt.Errorf("size %q is larger than this program can count", s)
			}
			return Size(v * u.size), nil
		}
	}
	return 0, fmt.Errorf(`%q is not a size; write a whole number and KiB, MiB, GiB or TiB, such as "500GiB", or "unlimited"`, s)
}

// String prints the size in the largest unit that divides it.
func (s Size) String() string {
	if s < 0 {
		return "unlimited"
	}
	if s == 0 {
		return "0"
	}
	for _, u := range units() {
		if int64(s)%u.size == 0 {
			return strconv.FormatInt(int64(s)/u.size, 10) + u.name
		}
	}
	return ""
}

// MarshalText implements [encoding.TextMarshaler].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSize(string(b))
	return err
}

// Human prints the size for reading, rounded: "1.5 GiB".
func (s Size) Human() string {
	if s < 0 {
		return "unlimited"
	}
	for _, u := range units() {
		if int64(s) >= u.size && u.size > 1 {
			return strconv.FormatFloat(float64(s)/float64(u.size), 'f', 1, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + " B"
}

// Duration is a length of time in seconds; Never stands for no end.
type Duration int64

// Never is the duration written "never".
const Never Duration = -1

func durations() []struct {
	unit byte
	secs int64
} {
	return []struct {
		unit byte
		secs int64
	}{{'w', 7 * 86400}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}
}

// ParseDuration reads one or more whole numbers with the units w, d, h, m and
// s, largest first: "90d", "1h30m"; "0" and "never" too.
func ParseDuration(s string) (Duration, error) {
	if s == "never" {
		return Never, nil
	}
	if s == "0" {
		return 0, nil
	}
	bad := fmt.Errorf(`%q is not a duration; write whole numbers with s, m, h, d or w, such as "90d" or "1h30m"`, s)
	if s == "" {
		return 0, bad
	}
	var total int64
	rest, units := s, durations()
	for rest != "" {
		i := 0
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		if i == 0 || i == len(rest) {
			return 0, bad
		}
		n, err := strconv.ParseInt(rest[:i], 10, 64)
		if err != nil {
			return 0, bad
		}
		u := slices.IndexFunc(units, func(u struct {
			unit byte
			secs int64
		}) bool {
			return u.unit == rest[i]
		})
		if u < 0 {
			return 0, bad
		}
		if n > (math.MaxInt64-total)/units[u].secs {
			return 0, fmt.Errorf("duration %q is longer than this program can count", s)
		}
		total += n * units[u].secs
		units, rest = units[u+1:], rest[i+1:]
	}
	return Duration(total), nil
}

// String prints the duration in the largest unit that divides it.
func (d Duration) String() string {
	if d < 0 {
		return "never"
	}
	if d == 0 {
		return "0"
	}
	for _, u := range durations() {
		if int64(d)%u.secs == 0 && u.unit != 'w' {
			return strconv.FormatInt(int64(d)/u.secs, 10) + string(u.unit)
		}
	}
	return ""
}

// Std converts to the standard library's type; [Never] becomes the longest it
// can hold.
func (d Duration) Std() time.Duration {
	if d < 0 || int64(d) > math.MaxInt64/int64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(d) * time.Second
}

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// Date is a calendar day, written 2027-01-31. A rule that ends on a day still
// holds on that day, in UTC.
type Date struct{ Year, Month, Day int }

// ParseDate reads YYYY-MM-DD and refuses days that do not exist.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("%q is not a date; write year-month-day, such as 2027-01-31", s)
	}
	return Date{t.Year(), int(t.Month()), t.Day()}, nil
}

// DateOf is the day, in UTC, of an instant.
func DateOf(t time.Time) Date {
	t = t.UTC()
	return Date{t.Year(), int(t.Month()), t.Day()}
}

// Before reports whether d is an earlier day than o.
func (d Date) Before(o Date) bool { return d.String() < o.String() }

// String prints YYYY-MM-DD.
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

// MarshalText implements [encoding.TextMarshaler].
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Date) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDate(string(b))
	return err
}
