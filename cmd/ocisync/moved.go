package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/state"
)

// errAnother says of a registry whose content was given another place that an inventory
// lies there which is not of before.
var errAnother = errors.New("an inventory lies there that is not the one of before, and was left as it is")

// mover is the provider of a registry that keeps its inventory among content that can be
// given another place; nil for others.
func (s *session) mover() providers.Mover {
	m, ok := s.provider.(providers.Mover)
	if !ok || s.cfg.State.Store == "dir" {
		return nil
	}
	return m
}

// moved tells of a registry that has another place for its content since an apply.
func (s *session) moved(ctx context.Context) (providers.Move, error) {
	m := s.mover()
	if m == nil {
		return providers.Move{}, nil
	}
	return m.Moved(ctx)
}

// beforeMove keeps the inventory on this host where a change leaves it behind.
func (s *session) beforeMove(ctx context.Context, changes []plan.Change) error {
	m := s.mover()
	if m == nil || s.stored == nil || s.stopped {
		return nil
	}
	for _, c := range changes {
		moves, err := m.Moves(ctx, c)
		if err != nil {
			return err
		}
		if moves {
			return s.machine.Copy(s.identity, s.stored)
		}
	}
	return nil
}

// leftBehind goes on with the inventory that was kept on this host of a registry which was
// given another place for its content, where that has none, or has an earlier one.
func (s *session) leftBehind(ctx context.Context, seen state.Seen) error {
	if s.kept != nil || s.stopped || s.trust.Level != state.Lost && s.trust.Level != state.Older {
		return nil
	}
	move, err := s.moved(ctx)
	if err != nil || !move.Done() {
		return err
	}
	data, err := s.machine.Copied(s.identity)
	if err != nil {
		return err
	}
	if data != nil {
		later, err := s.machine.Kept(s.identity, data)
		if err != nil {
			return err
		}
		if later != nil {
			data = later
		}
	}
	inv, trust := state.Open(data, s.identity, s.verify, seen)
	if data == nil || !trust.Usable() {
		s.trust.Text += fmt.Sprintf("; an apply had the registry look for its content in %s, and the inventory of before lies in %s, where it looked until then", move.To, move.From)
		return nil
	}
	s.inv, s.trust, s.kept = inv, trust, data
	s.left = fmt.Sprintf("an apply had the registry look for its content in %s, and no more in %s, where its inventory lies", move.To, move.From)
	return nil
}

// carry stores an inventory in the new place of a registry's content, in the place of
// nothing or of an earlier one.
func (s *session) carry(ctx context.Context, data []byte, serial int64, move providers.Move) error {
	there, err := s.store.Load(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if inv, trust := state.Open(there, s.identity, s.verify, 0); !trust.Usable() || inv.Serial >= serial {
			return fmt.Errorf("the registry looks for its content in %s now, and no more in %s: %w; look whose it is, and run %s", move.To, move.From, errAnother, s.o.command("apply --new-inventory"))
		}
	} else {
		there = nil
	}
	return s.store.Save(ctx, data, there)
}

// settle says that the inventory is where the registry looks for its content.
func (s *session) settle(ctx context.Context) error {
	move, err := s.moved(ctx)
	if err != nil || !move.Done() {
		return err
	}
	return s.mover().Settle(ctx)
}

// unsure are the kinds of failure after which nothing is put aside for the next apply to
// store: it looks again.
func unsure(err error) bool {
	return slices.ContainsFunc([]error{state.ErrConflict, errAnother}, func(kind error) bool { return errors.Is(err, kind) })
}
