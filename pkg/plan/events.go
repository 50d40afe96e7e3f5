package plan

import (
	"fmt"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// events refuses or leaves out the events that a registry cannot tell a webhook
// of: its table has a row "events.pull" for one that it does not know.
func (d *differ) events() {
	untold := map[string]string{} // why, by event
	for _, row := range d.in.Table {
		if e, ok := strings.CutPrefix(row.Field, "events."); ok && row.Kind == schema.KindWebhook && row.Support == schema.Unsupported {
			untold[e] = row.Reason
		}
	}
	if len(untold) == 0 {
		return
	}
	for _, r := range d.in.Desired.Resources {
		spec, ok := d.spec(r).(*schema.Webhook)
		if !ok || d.skip[r.Key] {
			continue
		}
		kept := schema.Set{}
		for _, e := range spec.Events {
			if why, ok := untold[e]; ok {
				d.unsupported(r, "events", fmt.Sprintf("%q: %s", e, why))
				continue
			}
			kept = append(kept, e)
		}
		if len(kept) < len(spec.Events) {
			c := *spec
			c.Events = kept
			d.left[r.Key] = &c
		}
	}
}
