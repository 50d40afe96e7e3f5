package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// leftAsIs prints what of a registry nobody manages under a desired state: what its
// provider knows of, and what is known already of which that says nothing.
func leftAsIs(ctx context.Context, w io.Writer, p providers.Provider, desired schema.State, known ...providers.Leftover) error {
	var list []providers.Leftover
	if l, ok := p.(providers.Leaver); ok {
		var err error
		if list, err = l.Left(ctx, desired); err != nil {
			return err
		}
	}
	for _, k := range known {
		if !slices.ContainsFunc(list, func(x providers.Leftover) bool { return x.What == k.What }) {
			list = append(list, k)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w, "\nLeft as it is (nobody manages it):"); err != nil {
		return err
	}
	for _, x := range list {
		if _, err := fmt.Fprintln(w, load.SafeLine("  "+x.What+": "+x.Why)); err != nil {
			return err
		}
	}
	return nil
}
