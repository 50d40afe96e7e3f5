package plan

import (
	"fmt"

	"github.com/ocisync/ocisync/schema"
)

// events refuses or leaves out the events that a registry cannot tell a webhook
// of: its table has a row "events.pull" for one that it does not know.
func (d *differ) events() {
	for _, r := range d.in.Desired.Resources {
		spec, ok := d.spec(r).(*schema.Webhook)
		if !ok || d.skip[r.Key] {
			continue
		}
		kept := schema.Set{}
		for _, e := range spec.Events {
			if row := d.in.Table.Find(r.Key.Kind, "events."+e); row.Field == "events."+e && row.Support == schema.Unsupported {
				d.unsupported(r, "events", fmt.Sprintf("%q: %s", e, row.Reason))
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
