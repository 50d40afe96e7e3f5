package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/content"
)

const (
	mostLarge = 4 // of the large blobs under way that are shown
	leastBar  = 8 // columns
	mostBar   = 40
	shortHex  = 12 // of a digest
)

// draw draws the bar, and below it the large blobs under way.
func (w *Watch) draw() {
	now := w.standing()
	width, height := w.o.To.Size()
	lines := []string{w.whole(now, width)}
	for _, b := range now.Large[:min(len(now.Large), mostLarge, max(0, height-1))] {
		lines = append(lines, large(b, width))
	}
	w.o.To.Show(lines...)
}

// whole is a line on all of it. What does not fit is left out, the least telling first.
func (w *Watch) whole(s content.Standing, width int) string {
	done := share(s)
	percent := fmt.Sprintf("%3d%%", int(100*done))
	left := ""
	if d, ok := w.left(s, time.Now()); ok {
		left = short(d) + " left"
	}
	speed := perSecond(w.speed.of())
	for _, parts := range [][]string{
		{percent, ofTags(s), size(s.Bytes) + " " + w.o.Did, speed, left},
		{percent, ofTags(s), size(s.Bytes), speed, left},
		{percent, ofTags(s), speed, left},
		{percent, ofTags(s), speed},
		{percent, ofTags(s)},
	} {
		text := strings.Join(filled(parts), "  ")
		if room := width - len(text) - len("[]  "); room >= leastBar {
			return drawn(done, min(room, mostBar)) + "  " + text
		}
		if len(parts) <= 4 && len(text) <= width { // without the bar, before more is left out
			return text
		}
	}
	return percent
}

func filled(parts []string) (out []string) {
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return out
}

func drawn(done float64, width int) string {
	n := int(done * float64(width))
	head := ""
	if n < width {
		head = ">"
	}
	return "[" + strings.Repeat("=", n) + head + strings.Repeat(" ", max(0, width-n-len(head))) + "]"
}

// share is how much of the whole is done: tags, and of those under way their bytes.
func share(s content.Standing) float64 {
	if s.Tags == 0 {
		return 0
	}
	done := float64(s.Through())
	if all := s.Bytes + s.Left; all > 0 && s.Begun > s.Through() {
		done += float64(s.Begun-s.Through()) * float64(s.Bytes) / float64(all)
	}
	return min(1, done/float64(s.Tags))
}

// large is a line on a blob: its digest shortened, how much is sent, and its repository.
func large(b content.UnderWay, width int) string {
	percent := int64(100)
	if b.Size > 0 {
		percent = 100 * b.Sent / b.Size
	}
	line := fmt.Sprintf("  %s  %3d%%", b.Digest.Hex[:min(shortHex, len(b.Digest.Hex))], percent)
	if whole := " of " + size(b.Size); width-len(line)-len(whole) >= shortHex {
		line += whole
	}
	name := strings.Map(plain, b.Repository)
	const gap, cut = "  ", ".."
	switch room := width - len(line) - len(gap); {
	case len(name) <= room:
		return line + gap + name
	case room > len(cut):
		return line + gap + cut + name[len(name)-room+len(cut):]
	}
	return line
}

// plain has each rune of a name take one column, and do nothing else.
func plain(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

// short tells how long something takes in a word.
func short(d time.Duration) string {
	d = max(d, time.Second).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
