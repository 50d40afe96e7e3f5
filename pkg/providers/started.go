package providers

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is how many a second the kernel counts the start of a process in; see
// USER_HZ in proc_pid_stat(5).
const ticks = 100

// ServedSince is when the process began that serves with a configuration file,
// on a system that tells of other users' processes as Linux does: the earliest,
// of several. It is known by its command line, of which one word is serve and
// another names the file, in the container that it may run in too where this
// user may look there. False: none is seen, which does not mean that none runs.
func ServedSince(config string) (time.Time, bool) {
	file, err := os.Stat(config)
	if err != nil {
		return time.Time{}, false
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return time.Time{}, false
	}
	var first time.Time
	for _, dir := range processes {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		words := strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00")
		if err != nil || !serves(dir, words, config, file) {
			continue
		}
		if began, ok := processBegan(dir); ok && (first.IsZero() || began.Before(first)) {
			first = began
		}
	}
	return first, !first.IsZero()
}

func serves(dir string, words []string, config string, file os.FileInfo) bool {
	serve, named := false, false
	for _, w := range words[1:] {
		if w == "serve" {
			serve = true
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
		named = named || err == nil && os.SameFile(inside, file) || os.IsPermission(err) && filepath.Clean(w) == filepath.Clean(config)
	}
	return serve && named
}

// processBegan goes by the time that the system is up: the clock may have been
// set since.
func processBegan(dir string) (time.Time, bool) {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	i := bytes.LastIndex(text, []byte(") ")) // a name may hold anything
	if err != nil || i < 0 {
		return time.Time{}, false
	}
	fields := strings.Fields(string(text[i+2:])) // proc_pid_stat(5): state is field 3, starttime 22
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return time.Time{}, false
	}
	start, err := strconv.ParseFloat(fields[19], 64)
	if err != nil {
		return time.Time{}, false
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, false
	}
	now := time.Now()
	first, _, _ := strings.Cut(string(up), " ")
	uptime, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return time.Time{}, false
	}
	return now.Add(-time.Duration((uptime - start/ticks) * float64(time.Second))), true
}
