package providers

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Server is what serves with a configuration file: one process, or several of which
// nothing tells which of them it is.
type Server struct {
	ID    string    // another with each start, and with each that may be it
	Began time.Time // by the clock as it goes now; zero where it is a stranger's word alone

	may  []process // not empty, the earliest first
	port string
}

// ServedBy finds what serves with a configuration file at a registry's address, on a
// system that tells of other users' processes as Linux does. A process is known by
// its command line, of which one word is serve and another names the file, in the
// container that it may run in too where this user may look there. Of several it is
// the one that listens at the address's port; see [holders]. Where that is not seen,
// as behind a proxy, in a container, or by a user who may not look, each may be it
// that started no other of them, as timeout, sudo and docker --init do. False: none
// is seen, which does not mean that none runs.
//
// Anybody can run a process with such a command line. It may make a registry look as
// if it had missed what was written, never the other way round.
func ServedBy(config string, at *url.URL) (Server, bool) {
	file, err := os.Stat(config)
	if err != nil {
		return Server{}, false
	}
	s := Server{port: at.Port()}
	if s.port == "" {
		s.port = map[string]string{"http": "80", "https": "443"}[at.Scheme]
	}
	named := naming(config, file)
	held, alone := holders(s.port, named)
	if s.may = held; !alone || slices.ContainsFunc(held, func(p process) bool { return p.stranger }) {
		s.may = slices.DeleteFunc(slices.Clone(named), func(p process) bool { return startedOneOf(p, named) })
	}
	if len(s.may) == 0 {
		return Server{}, false
	}
	ids := make([]string, len(s.may))
	for i, p := range s.may {
		ids[i] = p.pid + "@" + p.start
	}
	s.ID = strings.Join(ids, ",")
	// by a stranger alone, a server that is not seen would seem to have started anew
	if alone || slices.ContainsFunc(s.may, func(p process) bool { return !p.stranger }) {
		s.Began = s.may[0].began
	}
	return s, true
}

// Doubt says which processes may be it, where they are several; else "".
func (s Server) Doubt() string {
	if len(s.may) < 2 {
		return ""
	}
	pids := make([]string, len(s.may))
	for i, p := range s.may {
		pids[i] = p.pid
	}
	return fmt.Sprintf("the processes %s have the command line of the one that serves, and none of them is seen to be the one that listens at port %s, so that each counts: end those that do not serve", strings.Join(pids, ", "), s.port)
}

// Watching is what a server has an inotify watch on to be told of a file: the file
// alone, or its directory in versions that are told of another in its place too.
type Watching bool

// The ways to be told of a file.
const (
	TheFile        Watching = false
	OrItsDirectory Watching = true
)

// Misses reports whether the server is not told of what is written to a file, because
// it was replaced by another one since the server began. Of several that may be it one
// is enough.
func (s Server) Misses(name string, by Watching) bool {
	return slices.ContainsFunc(s.may, func(p process) bool { return p.misses(name, by) })
}

// servesElsewhere finds a process that listens at an address's port and whose command
// line names a file as a configuration is named, in another directory.
func servesElsewhere(config, address string) (pid, other string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", ""
	}
	var named []process
	files := map[string]string{}
	for dir, words := range commandLines() {
		if !slices.Contains(words[1:], "serve") {
			continue
		}
		i := slices.IndexFunc(words, func(w string) bool { return filepath.IsAbs(w) && filepath.Base(w) == filepath.Base(config) })
		if i > 0 && words[i] != config {
			p := process{pid: filepath.Base(dir)}
			named, files[p.pid] = append(named, p), words[i]
		}
	}
	if held, _ := holders(port, named); len(held) > 0 {
		return held[0].pid, files[held[0].pid]
	}
	return "", ""
}
