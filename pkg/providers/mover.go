package providers

import (
	"context"

	"github.com/ocisync/ocisync/pkg/plan"
)

// Mover is what a provider offers whose registry a change can give another place for its
// content, away from the inventory that it keeps among that.
type Mover interface {
	// Moves reports whether a change does that, and there is something to move from.
	Moves(context.Context, plan.Change) (bool, error)
	// Moved tells of such a change that was written, until Settle is called.
	Moved(context.Context) (Move, error)
	// Settle says that the inventory is in the new place.
	Settle(context.Context) error
}

// Move is a change of where a registry has its content; zero for none.
type Move struct {
	From, To string
	Pending  bool // the registry runs with the former place
}

// Done reports whether the registry looks in the new place by now.
func (m Move) Done() bool { return m.To != "" && !m.Pending }
