package main

import (
	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/content"
	"github.com/ocisync/ocisync/pkg/content/ledger"
)

// givenHelp says how a copy asks less.
const givenHelp = `A copy asks both sides for each tag. With --ledger FILE it keeps in FILE what it learned
of the target: one that was killed sends no blob again that had arrived, and a tag that
the target still lists is not asked for there, which holds as long as nobody else moves
tags at the target; copy without it now and then to see that. With --only-missing, tags
that the target lists are left as they are and asked for nowhere, as fits tags that
never move.
`

// given is what a copy takes as given.
type given struct {
	ledger      string
	onlyMissing bool
}

func (g *given) givenFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.ledger, "ledger", "", "keep in a `file` what is learned of the target, and go by it")
	f.BoolVar(&g.onlyMissing, "only-missing", false, "leave tags that the target lists as they are")
}

// goBy has a copier go by it, until the function returned is called. That a ledger
// could not be kept is said, and is no failure of the copy.
func (g given) goBy(c *content.Copier, say func(format string, args ...any)) (done func(), err error) {
	c.OnlyMissing = g.onlyMissing
	if g.ledger == "" {
		return func() {}, nil
	}
	if c.Ledger, err = ledger.Open(g.ledger, c.To.String()); err != nil {
		return nil, err
	}
	return func() {
		if err := c.Ledger.Close(); err != nil {
			say("%s is not kept: %v", g.ledger, err)
		}
	}, nil
}
