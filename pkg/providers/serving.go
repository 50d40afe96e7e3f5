package providers

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks is how many a second the kernel counts the start of a process in; see
// USER_HZ in proc_pid_stat(5).
const ticks = 100

// ReadsAfter is less than a registry takes from its start until it reads its file, and as
// much as the time of that start may be too early: of a file that is written, and then
// started with, the file may seem to be the newer one.
const ReadsAfter = time.Second / ticks

// process is one whose command line names a configuration file.
type process struct {
	pid, start string // start as the kernel counts it
	began      time.Time
	// stranger is that it runs, or was started, neither as root nor as this user
	// nor as the file's owner.
	stranger bool
}

func (p process) dir() string { return filepath.Join("/proc", p.pid) }

// naming lists the processes that serve with a file by their command lines, the
// earliest first.
func naming(config string, file os.FileInfo) (list []process) {
	for dir, words := range commandLines() {
		if !serves(dir, words, config, file) {
			continue
		}
		if p, ok := running(dir, file); ok {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b process) int { return cmp.Or(a.began.Compare(b.began), cmp.Compare(a.pid, b.pid)) })
	return list
}

// commandLines are those of the processes of this system, by their directories.
func commandLines() iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		dirs, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return
		}
		for _, dir := range dirs {
			line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
			words := strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00")
			if err == nil && !yield(dir, words) {
				return
			}
		}
	}
}

func serves(dir string, words []string, config string, file os.FileInfo) bool {
	if !slices.Contains(words[1:], "serve") { // before anything is looked at: others have thousands of words
		return false
	}
	for _, w := range words[1:] {
		if w == "serve" {
			continue
		}
		if !filepath.IsAbs(w) {
			cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
			if err != nil {
				continue
			}
			w = filepath.Join(cwd, w)
		}
		inside, err := os.Stat(filepath.Join(dir, "root", w))
		// who may not look goes by the name, which another one's container could have too
		if err == nil && os.SameFile(inside, file) || os.IsPermission(err) && filepath.Clean(w) == filepath.Clean(config) {
			return true
		}
	}
	return false
}

// running goes by the time that the system is up: the clock may have been set since.
func running(dir string, file os.FileInfo) (process, bool) {
	fields := statOf(dir)
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return process{}, false
	}
	start, err := strconv.ParseFloat(fields[19], 64)
	if err != nil {
		return process{}, false
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return process{}, false
	}
	now := time.Now()
	first, _, _ := strings.Cut(string(up), " ")
	uptime, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return process{}, false
	}
	return process{
		pid:      filepath.Base(dir),
		start:    fields[19],
		began:    now.Add(-time.Duration((uptime - start/ticks) * float64(time.Second))),
		stranger: strangers(dir, file),
	}, true
}

// statOf are the fields of a process from its state on, which proc_pid_stat(5) counts
// as the third.
func statOf(dir string) []string {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	i := bytes.LastIndex(text, []byte(") ")) // a name may hold anything
	if err != nil || i < 0 {
		return nil
	}
	return strings.Fields(string(text[i+2:]))
}

// strangers goes by all of a process's users: the owner of its directory is root for
// any that asks for that, and a program that is setuid has root beside who calls it.
func strangers(dir string, file os.FileInfo) bool {
	trusted := []string{"0", strconv.Itoa(os.Geteuid())}
	if st, ok := file.Sys().(*syscall.Stat_t); ok {
		trusted = append(trusted, strconv.FormatUint(uint64(st.Uid), 10))
	}
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(text)) {
		if users, ok := strings.CutPrefix(line, "Uid:"); ok {
			return slices.ContainsFunc(strings.Fields(users), func(u string) bool { return !slices.Contains(trusted, u) })
		}
	}
	return true
}

// startedOneOf reports whether a process is an ancestor of another.
func startedOneOf(p process, of []process) bool {
	return slices.ContainsFunc(of, func(child process) bool {
		for fields := statOf(child.dir()); len(fields) > 1; fields = statOf(filepath.Join("/proc", fields[1])) {
			if fields[1] == p.pid {
				return true
			}
		}
		return false
	})
}

// misses goes by when the file was born, where this user may not see what is
// watched; where nothing tells, it says no.
func (p process) misses(name string, by Watching) bool {
	info, err := os.Stat(name)
	if err != nil {
		return false
	}
	t, ok := timesOf(name)
	read := p.began.Add(ReadsAfter)
	if !ok || !t.changed.After(read) {
		return false
	}
	watched, known := p.watched()
	if !known {
		return t.born.After(read)
	}
	is := func(info os.FileInfo) bool {
		st, ok := info.Sys().(*syscall.Stat_t)
		return ok && slices.Contains(watched, st.Ino)
	}
	dir, err := os.Stat(filepath.Dir(name))
	return err == nil && !is(info) && (by == TheFile || !is(dir))
}

// times of a file: when anything of it changed last, and when it was made, zero
// where its disk does not keep that.
type times struct{ changed, born time.Time }

// watched lists the inodes that the process has inotify watches on, whatever disk
// they are of; see proc_pid_fdinfo(5).
func (p process) watched() (inodes []uint64, known bool) {
	list, err := filepath.Glob(filepath.Join(p.dir(), "fdinfo", "[0-9]*"))
	if err != nil || len(list) == 0 {
		return nil, false
	}
	for _, name := range list {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrPermission) {
			return nil, false
		}
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "inotify ") {
				continue
			}
			for _, word := range strings.Fields(line) {
				if hex, ok := strings.CutPrefix(word, "ino:"); ok {
					if n, err := strconv.ParseUint(hex, 16, 64); err == nil {
						inodes = append(inodes, n)
					}
				}
			}
		}
	}
	return inodes, true
}
