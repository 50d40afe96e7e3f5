package harbor

import (
	"strconv"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// noSchedule is the word for a thing that runs by hand alone. Harbor's is an
// empty cron.
const noSchedule = "none"

// sixFields brings a schedule into the one form in which schedules are compared
// and written: six fields with numbers, seconds first. What has no such form
// stays as it is.
func sixFields(schedule string) string {
	text := strings.ToUpper(strings.TrimSpace(schedule))
	switch text {
	case "", "NONE":
		return noSchedule
	case "@YEARLY", "@ANNUALLY":
		return "0 0 0 1 1 *"
	case "@MONTHLY":
		return "0 0 0 1 * *"
	case "@WEEKLY":
		return "0 0 0 * * 0"
	case "@DAILY", "@MIDNIGHT":
		return "0 0 0 * * *"
	case "@HOURLY":
		return "0 0 * * * *"
	}
	if span, ok := strings.CutPrefix(text, "@EVERY "); ok {
		text = each(strings.ToLower(span))
	}
	fields := strings.Fields(text)
	if len(fields) == 5 {
		fields = append([]string{"0"}, fields...)
	}
	if len(fields) != 6 {
		return schedule
	}
	for i, f := range fields {
		switch i {
		case 4:
			f = numbered(f, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1)
		case 5:
			f = numbered(f, "SUN MON TUE WED THU FRI SAT", 0)
		}
		if f == "?" {
			f = "*"
		}
		fields[i] = plain(f)
	}
	return strings.Join(fields, " ")
}

// numbered writes names of months or days as numbers.
func numbered(field, names string, first int) string {
	for i, n := range strings.Fields(names) {
		field = strings.ReplaceAll(field, n, strconv.Itoa(first+i))
	}
	return field
}

// plain writes the numbers of a field without zeros before them.
func plain(field string) string {
	var out strings.Builder
	for i := 0; i < len(field); i++ {
		begins := i == 0 || field[i-1] < '0' || field[i-1] > '9'
		if begins && field[i] == '0' {
			for i+1 < len(field) && field[i] == '0' && field[i+1] >= '0' && field[i+1] <= '9' {
				i++
			}
		}
		out.WriteByte(field[i])
	}
	return out.String()
}

// each is a span as cron fields, where those can say it, or "": Harbor counts no
// spans.
func each(span string) string {
	d, err := schema.ParseDuration(span)
	if err != nil {
		return ""
	}
	const minute, hour, day = 60, 3600, 86400
	switch secs := int64(d); {
	case secs == day:
		return "0 0 0 * * *"
	case secs == hour:
		return "0 0 * * * *"
	case secs == minute:
		return "0 * * * * *"
	case secs > hour && secs < day && day%secs == 0 && secs%hour == 0:
		return "0 0 */" + strconv.FormatInt(secs/hour, 10) + " * * *"
	case secs > minute && secs < hour && hour%secs == 0 && secs%minute == 0:
		return "0 */" + strconv.FormatInt(secs/minute, 10) + " * * * *"
	}
	return ""
}

// cron is a schedule in Harbor's words.
func cron(schedule string) string {
	if s := sixFields(schedule); s != noSchedule {
		return s
	}
	return ""
}

// unschedulable says why Harbor has no such schedule, or "".
func unschedulable(schedule string) string {
	s := sixFields(schedule)
	fields := strings.Fields(s)
	switch {
	case s == noSchedule:
	case len(fields) != 6:
		return "Harbor runs things at times and not after spans, and that is no part of an hour or a day: write " + strconv.Quote(schedule) + " as cron fields"
	case fields[0] != "0":
		return "Harbor runs nothing at other seconds than 0: write " + strconv.Quote(schedule) + " with 0 as its first field"
	}
	return ""
}
