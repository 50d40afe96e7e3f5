package apply

import (
	"slices"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/state"
	"github.com/ocisync/ocisync/schema"
)

// protects lists what the file protects, sorted: the patterns of policy.protect,
// and the namespaces with on_delete = "refuse". The inventory keeps it.
func (c Cycle) protects() []string {
	out := slices.Concat(c.Config.Policy.Protect, plan.Refusing(c.Config.Directives))
	slices.Sort(out)
	return slices.Compact(out)
}

// policy is the mode's, with all that the file protects. Where the default of
// namespaces says on_delete = "refuse", it speaks for those too whose block is
// gone.
func (c Cycle) policy(desired schema.State) schema.Policy {
	p := c.Config.Policy
	p.Protect = c.protects()
	if c.Config.OnDelete != plan.OnDeleteRefuse {
		return p
	}
	for _, o := range c.Inventory.Objects {
		if _, declared := desired.Get(o.Key); o.Key.Kind == schema.KindNamespace && !declared {
			p.Protect = append(p.Protect, o.Key.String())
		}
	}
	return p
}

// said adds to the namespaces whose blocks say a word those whose blocks said it
// before they were taken out. Sorted.
func said(now, before []string, inv state.Inventory, desired schema.State) []string {
	out := slices.Clone(now)
	for _, text := range before {
		k, err := schema.ParseKey(text)
		if err != nil {
			continue
		}
		if _, declared := desired.Get(k); !declared && inv.Managed(k) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
