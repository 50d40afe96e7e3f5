// Package schema is the dictionary of ocisync: the nouns that every other
// package speaks in, and the CUE definitions that describe them to users.
//
// Start with [Resource] (one managed object), [State] (a set of them, desired
// or live) and [Config] (one mode's file, loaded). A kind is described twice,
// by a Go struct in specs.go and by a CUE definition in kinds.cue; a test in
// schema/load binds the two, kind by kind.
//
// The package imports nothing but the standard library, does no I/O and keeps
// no state. Everything in it is plain data, safe to share between goroutines
// as long as nobody writes to it.
package schema

import "embed"

// Files holds the CUE definitions: config.cue for the blocks of a mode,
// kinds.cue with one definition per [Kind], host.cue for the host file.
// They constrain and never fill in: no definition carries a default.
//
//go:embed *.cue
var Files embed.FS
