package zot

import (
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/zot/config"
)

// reach says what it takes to bring a process that runs with one configuration
// to another: nothing (live), a reload or a restart; and why, where it is a
// restart. What must not be taken over by a process that runs is a restart as
// well: it is always stopped before its file is written.
func reach(was, now *config.Document) (how plan.Effect, why string) {
	how = plan.Live
	for _, c := range config.Compare(was, now) {
		if c.Reload == config.Live {
			if how == plan.Live {
				how = plan.Reload
			}
			continue
		}
		if how != plan.Restart || why == "" {
			why = strings.Join(c.Path, ".")
			if c.Why != "" {
				why += ": " + c.Why
			}
		}
		how = plan.Restart
	}
	return how, why
}
