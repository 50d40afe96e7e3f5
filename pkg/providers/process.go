package providers

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// Launcher is what a provider offers whose registry is a program with files: it
// knows how that is started, and nothing of processes and containers, which
// package runtime knows.
type Launcher interface {
	// Launch says how the registry is started as the mode has it. It changes
	// nothing: a registry may run, in that way or another.
	Launch(context.Context) (Launch, error)
	// BeforeStart makes what must be there before a start: directories, and
	// files that are absent. It finishes a write that was cut, and of a file
	// that is there it changes what the face says at most, which is that of the
	// launch that follows. It is called before each start, also of a registry
	// that died, and only while none runs.
	BeforeStart(ctx context.Context, face string) error
}

// Prechecker is what a [Launcher] offers that can tell why its registry would
// not start with the files as they are.
type Prechecker interface {
	// Precheck tells why BeforeStart would refuse that face, or why the registry
	// would not start after it. It is asked before one that runs is stopped, and
	// before each start, and changes nothing of the registry's.
	Precheck(ctx context.Context, face string) error
}

// Reverter is what a [Launcher] offers that knows with what files its registry was
// started.
type Reverter interface {
	// Revert returns what has the registry run again as it does now, with those files;
	// nil where it does not run, or they are as they were. It is called when the
	// registry did not start again: what it takes is why, and what it returns is that
	// and what became of it.
	Revert(context.Context) (goBack func(why error) error, err error)
}

// Pair refuses a certificate and key that a registry would not start with; their
// paths go from its directory.
func Pair(dir, cert, key string) error {
	for _, name := range []*string{&cert, &key} {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		return fmt.Errorf("certificate %s with key %s: %w; put both there, or correct registry.tls", cert, key, err)
	}
	return nil
}

// Launch is how a registry's program is started. Paths are absolute and the
// same inside a container and outside.
type Launch struct {
	Args []string // after the program's name
	Env  []string // NAME=value, all there is
	// Mounts are the files and directories it needs, in a container; the
	// program alone finds them where they are. What lies below another one is
	// that but for itself: so ocisync's own files can be read-only.
	Mounts []Mount
	// Port is where it listens in a container, on every address; the mode's
	// registry.run.listen is published to it.
	Port int
	// Face is where it is reached, in the provider's own words, such as its
	// address and certificate; no secret. Who starts it with another face
	// than it has by its files tells BeforeStart.
	Face string
	// Grace is how long it may take to stop before it is killed.
	Grace time.Duration
}

// Mount is a file or directory that a container shares with the host.
type Mount struct {
	Path     string
	Writable bool
}

// Trouble is what a registry that runs does not do as it should.
type Trouble struct {
	What string // a word: realm, accounts, pushes, certificate, keys, files
	Text string // what it is, and what ends it
	// Passing is what ends by itself, and soon, or what nobody notices who uses it.
	Passing bool
}

// Troubled is what a provider offers that knows of such trouble.
type Troubled interface {
	// Troubles lists it, and changes nothing.
	Troubles(context.Context) ([]Trouble, error)
}

// Process is the running registry, as a provider needs it that writes files
// which the program may or may not have taken over. A provider has none where
// somebody else runs its registry.
type Process interface {
	// Status looks, and changes nothing.
	Status(context.Context) (ProcessStatus, error)
	// Start starts it, unless it runs, and returns when it is ready: an error
	// tells what its log said last. ErrDown: somebody wants it to be down.
	Start(context.Context) error
	// Stop ends it, requests in flight first as far as the program does that,
	// and returns when it is gone. One that does not run is a success.
	Stop(context.Context) error
	// Log is what it wrote since it started last, oldest first, as far as it
	// was kept.
	Log(context.Context) (io.ReadCloser, error)
}

// Commander is a process whose program can be run once more where it is, such as
// in its container.
type Commander interface {
	// Command runs the program with other arguments and waits for its end,
	// which comes with that of the process. The error says how it failed, and
	// what it wrote says why.
	Command(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

// Neighbour is what a [Process] offers that knows by what address its registry
// reaches this host.
type Neighbour interface {
	// Host is that address. why says that there is none for certain, and what to
	// do; both are "" where none is known before the registry is started.
	Host(context.Context) (address, why string, err error)
}

// Loopback is the address of a host that its own processes reach alone.
const Loopback = "127.0.0.1"

// HostOf is the address by which a registry that ocisync runs reaches this host, as
// [Neighbour] has it.
func HostOf(ctx context.Context, process Process, driver string) (address, why string, err error) {
	if driver != schema.DriverDocker {
		return Loopback, "", nil
	}
	if n, ok := process.(Neighbour); ok {
		return n.Host(ctx)
	}
	return "", "", nil
}

// ProcessStatus is what is known of a registry's process or container.
type ProcessStatus struct {
	Running bool
	// ID is another with each start, such as a process id with its start time.
	ID      string
	Started time.Time
	// Detail is for people: "exited with code 2, 3 s ago".
	Detail string
}
