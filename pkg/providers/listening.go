package providers

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// holders are those of the processes that listen at a port of this host, on
// whatever address; alone: there are some, and nobody else is seen to listen there,
// such as a proxy. Processes of other networks are none: everybody can make one and
// listen there.
func holders(port string, of []process) (held []process, alone bool) {
	open := listening(port)
	theirs := map[string]bool{}
	for _, p := range of {
		mine := p.sockets()
		is := false
		for _, inode := range open {
			if slices.Contains(mine, "socket:["+inode+"]") {
				is, theirs[inode] = true, true
			}
		}
		if is {
			held = append(held, p)
		}
	}
	return held, len(open) > 0 && len(theirs) == len(open)
}

// sockets are what a process has open, as far as this user may look.
func (p process) sockets() (links []string) {
	list, err := filepath.Glob(filepath.Join(p.dir(), "fd", "[0-9]*"))
	if err != nil {
		return nil
	}
	for _, name := range list {
		if link, err := os.Readlink(name); err == nil && strings.HasPrefix(link, "socket:") {
			links = append(links, link)
		}
	}
	return links
}

// listening lists the inodes of the sockets that listen at a port in this process's
// network; see proc_pid_net(5).
func listening(port string) (inodes []string) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // without IPv6 there is none
		}
		for line := range strings.Lines(string(text)) {
			const local, state, inode, listens = 1, 3, 9, "0A"
			f := strings.Fields(line)
			if len(f) <= inode || f[state] != listens {
				continue
			}
			_, hex, _ := strings.Cut(f[local], ":")
			if p, err := strconv.ParseUint(hex, 16, 16); err == nil && p == n {
				inodes = append(inodes, f[inode])
			}
		}
	}
	return inodes
}
