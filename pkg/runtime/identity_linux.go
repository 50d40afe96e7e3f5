package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// begun says when a process began, in a form that no other process of the same
// number has; "" if there is none, or it has ended and nobody has asked how.
func begun(pid int) string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	i := strings.LastIndex(string(text), ") ") // a name may hold anything
	if i < 0 {
		return ""
	}
	fields := strings.Fields(string(text[i+2:])) // proc_pid_stat(5): state is field 3, starttime 22
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(boot) < 8 {
		boot = []byte("--------")
	}
	return fmt.Sprintf("%s-%s", boot[:8], fields[19])
}

// output names the file that a process writes to, wherever that is now; "" if it
// is none, or is not for us to see.
func output(pid int) string {
	name := filepath.Join("/proc", strconv.Itoa(pid), "fd", "1")
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return name
}

// opener finds a process of this user, other than this one, that has a file
// open; 0 if there is none.
func opener(info os.FileInfo) int {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", p.Name(), "fd")
		files, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrPermission) {
			continue
		}
		for _, f := range files {
			if open, err := os.Stat(filepath.Join(dir, f.Name())); err == nil && os.SameFile(open, info) {
				return pid
			}
		}
	}
	return 0
}
