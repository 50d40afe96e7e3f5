package embedded

import (
	"net/netip"
	"time"
)

const (
	// foldWindow is how long refusals that are alike are counted before a line
	// says how many there were.
	foldWindow = 10 * time.Minute
	// maxFolds is how many kinds of them are told apart in that time. With two
	// lines for each, of less than 2 KiB, all strangers together write less
	// than 75 MiB a day.
	maxFolds = 128
)

// folds counts refusals that anybody can cause, by who and what. Not safe for
// concurrent use.
type folds struct {
	list  []*folded // oldest first
	timer *time.Timer
}

type folded struct {
	kind  foldKind
	last  AuditLine
	since time.Time
}

// foldKind is what makes refusals alike.
type foldKind struct {
	address, account, action string
	status                   int
}

// first counts a line, and reports whether it is to be written itself.
func (f *folds) first(line AuditLine, now time.Time) bool {
	kind := foldKind{hostOf(line.Address), line.Account, line.Action, line.Status}
	full := len(f.list) >= maxFolds
	for i, one := range f.list {
		last := full && i == len(f.list)-1 // which counts all that have no place of their own
		if one.kind != kind && !last {
			continue
		}
		count := one.last.Count + 1
		if one.kind != kind {
			one.last = AuditLine{Account: "several", Address: "several", Action: line.Action, Status: line.Status, Result: line.Result}
		}
		one.last.Time, one.last.Count = line.Time, count
		return false
	}
	sum := line
	sum.Address, sum.Repository, sum.Reference = kind.address, "", ""
	f.list = append(f.list, &folded{kind, sum, now})
	return true
}

// over takes out the sums whose time is over.
func (f *folds) over(now time.Time) (sums []AuditLine) {
	for len(f.list) > 0 && (now.Sub(f.list[0].since) >= foldWindow || now.Before(f.list[0].since)) {
		sums = f.take(sums)
	}
	return sums
}

// all takes out every sum, for good.
func (f *folds) all() (sums []AuditLine) {
	for len(f.list) > 0 {
		sums = f.take(sums)
	}
	if f.timer != nil {
		f.timer.Stop()
	}
	return sums
}

func (f *folds) take(sums []AuditLine) []AuditLine {
	if sum := f.list[0].last; sum.Count > 0 {
		sums = append(sums, sum)
	}
	f.list = f.list[1:]
	return sums
}

// wake has a function called when a sum may be due, unless there is none.
func (f *folds) wake(sumUp func()) {
	switch {
	case len(f.list) == 0:
	case f.timer == nil:
		f.timer = time.AfterFunc(foldWindow, sumUp)
	default:
		f.timer.Reset(foldWindow)
	}
}

// hostOf is an address without its port, as limits count it.
func hostOf(address string) string {
	if from, err := netip.ParseAddrPort(address); err == nil {
		return counted(from.Addr()).String()
	}
	return address
}
