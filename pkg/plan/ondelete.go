package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// What a namespace's on_delete may say.
const (
	OnDeleteRefuse  = "refuse"
	OnDeleteArchive = "archive"
	OnDeletePurge   = "purge"
)

// Refusing lists, as patterns of policy.protect, the namespaces whose blocks say
// on_delete = "refuse": they are protected, and the inventory keeps that. Sorted.
func Refusing(directives []schema.Directive) []string { return saying(OnDeleteRefuse, directives) }

// Purging lists the namespaces whose blocks say on_delete = "purge", for the
// inventory to keep: when it counts, the block is gone. Sorted.
func Purging(directives []schema.Directive) []string { return saying(OnDeletePurge, directives) }

// Archiving lists the namespaces whose blocks say on_delete = "archive", as
// [Purging] does. Sorted.
func Archiving(directives []schema.Directive) []string { return saying(OnDeleteArchive, directives) }

func saying(word string, directives []schema.Directive) []string {
	var out []string
	for _, d := range directives {
		if d.Key.Kind == schema.KindNamespace && d.OnDelete == word {
			out = append(out, d.Key.String())
		}
	}
	slices.Sort(out)
	return out
}

// onDelete refuses or remarks on what a registry cannot do when a namespace is
// taken out of the file: its table has a row for each word but "refuse".
func (d *differ) onDelete() {
	for _, r := range d.in.Desired.Resources {
		word := d.directives[r.Key].OnDelete
		if r.Key.Kind != schema.KindNamespace || word == "" || word == OnDeleteRefuse {
			continue
		}
		if row := d.in.Table.Find(r.Key.Kind, "on_delete."+word); row.Support == schema.Unsupported {
			d.unsupported(r, "on_delete", row.Reason)
		} else if row.Field == "" {
			d.unsupported(r, "on_delete", fmt.Sprintf("nothing here knows how to %s a namespace", word))
		}
	}
}

// purges reports whether a namespace goes with its content: as its block says, or
// said last, where the registry can.
func (d *differ) purges(k schema.Key) bool {
	return d.goes(k, OnDeletePurge, d.in.Ownership.Purging)
}

// archives reports whether a namespace stays and is locked, in the same way.
func (d *differ) archives(k schema.Key) bool {
	return d.goes(k, OnDeleteArchive, d.in.Ownership.Archiving)
}

// goes reports whether a word is what a namespace's block says, or, where it is
// gone, said last.
func (d *differ) goes(k schema.Key, word string, last []string) bool {
	if k.Kind != schema.KindNamespace {
		return false
	}
	row := d.in.Table.Find(k.Kind, "on_delete."+word)
	if row.Field == "" || row.Support == schema.Unsupported {
		return false
	}
	if _, declared := d.in.Desired.Get(k); declared {
		return d.directives[k].OnDelete == word
	}
	return slices.Contains(last, k.String())
}

// sends reports whether objects of a kind send what is in a namespace, or word of
// it, elsewhere: no lock ends that.
func sends(k schema.Kind) bool { return k == schema.KindWebhook || k == schema.KindPreheatPolicy }

// prunedAlone reports whether what hangs on an archived namespace is pruned as a
// change of its own. Only what sends is: all else is content or what is said of
// it, which stays, or what the lock changes or ends.
func (d *differ) prunedAlone(k, ns schema.Key) bool {
	return sends(k.Kind) && d.archives(ns) && d.isOwned(k) && d.prunable(k.Kind) && d.in.Ownership.MayPrune
}

// fate says what becomes of what hangs on a namespace that is deleted or archived.
func (d *differ) fate(k, ns schema.Key) []string {
	switch {
	case !d.archives(ns) || k.Kind == schema.KindRobot:
		return []string{"with it goes " + k.String()}
	case sends(k.Kind):
		return []string{k.String() + " stays as it is"}
	}
	return nil
}

// verb is what a change does to an object, in a word.
func (c Change) verb() string {
	if c.Archive {
		return OnDeleteArchive
	}
	return string(c.Action)
}

// protectedBy says what protects an object: the pattern of a namespace stands
// for its on_delete too.
func protectedBy(pattern string) string {
	if strings.HasPrefix(pattern, string(schema.KindNamespace)+"/") && !strings.ContainsAny(pattern, `*?[{\`) {
		return fmt.Sprintf("policy.protect %q, or on_delete = %q", pattern, OnDeleteRefuse)
	}
	return fmt.Sprintf("policy.protect %q", pattern)
}
