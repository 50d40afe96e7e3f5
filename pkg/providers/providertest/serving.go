package providertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Serving has a process with the command line of one that serves with a
// configuration, as some user or nil for this one, until the test ends. It watches and
// answers nothing, and takes no signal but the end of its input. It returns its number.
func Serving(t *testing.T, config string, as *syscall.SysProcAttr) (pid string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc, which tells who serves with a file")
	}
	time.Sleep(50 * time.Millisecond) // the kernel counts starts in hundredths of a second
	cmd := exec.Command("/bin/sh", "-c", "while read -r _; do :; done", "serve", config)
	cmd.SysProcAttr = as
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() //nolint:errcheck // it ends by it
		cmd.Wait() //nolint:errcheck // it read nothing
	})
	pid = strconv.Itoa(cmd.Process.Pid)
	for n := 0; ; n++ { // a process that was just started has no command line yet
		line, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		switch {
		case err == nil && len(line) > 0:
			return pid
		case err != nil || n == 1000:
			t.Fatalf("the process %s has no command line: %v", pid, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
