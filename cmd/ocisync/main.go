// Command ocisync keeps OCI registries as git says they should be.
//
// One file per verb: each has an options struct, a constructor that makes its
// cobra command and a run method. root.go holds the shared flags and the one
// map from errors to exit codes; session.go opens what the verbs work with.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// usualGC is Go's own garbage collection target, in percent; smallGC is what reads a
// registry that may be large, as it is and as it shall be: a few percent more of CPU.
const (
	usualGC = 100
	smallGC = 50
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	// Who reads the result may go away: that is an error of writing, and no end in
	// the middle of a run. Unlike an ignored signal this is not handed to commands.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if os.Getenv("GOGC") == "" {
		// A verb lives for a moment: collecting half as often spares a fifth of
		// its CPU, for a few MiB. up, which stays, and what reads a registry have
		// paces of their own.
		debug.SetGCPercent(2 * usualGC)
	}
	os.Exit(run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.LookupEnv}))
}
