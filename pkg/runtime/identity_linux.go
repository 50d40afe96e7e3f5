package runtime

import (
	"fmt"
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
