package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// defaultTimeout ends a command that the host file gives no timeout.
const defaultTimeout = 30 * time.Second

var errOutput = errors.New("output limit")

// command runs a command of the host file and returns what it prints.
func (r *Resolver) command(ctx context.Context, name string, args []string) (string, error) {
	out, err := r.run(ctx, invocation{name: name, args: args})
	return trimNewline(out), err
}

// invocation is a command of the host file with what it gets.
type invocation struct {
	name  string
	args  []string
	env   []string // beside a minimal one
	stdin string
	keeps *os.File // it and what it starts have this open; may be nil
}

// run starts a command of the host file with further arguments, without a
// shell. Nothing that it writes reaches an error, since it may hold the secret.
func (r *Resolver) run(ctx context.Context, i invocation) (string, error) {
	c, err := r.find(i.name)
	if err != nil {
		return "", err
	}
	for _, a := range i.args {
		if strings.HasPrefix(a, "-") {
			return "", errors.New("an argument begins with '-'; a mode gives no options, put them into the command's run in the host file")
		}
		if strings.ContainsRune(a, 0) {
			return "", errors.New("an argument holds a zero byte")
		}
	}
	timeout := timeoutOf(c)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, c.Run[0], slices.Concat(c.Run[1:], i.args)...) //nolint:gosec // the host file names the program, and no argument of a mode is an option
	cmd.Env = append(r.minimalEnv(), i.env...)
	cmd.Dir = string(filepath.Separator)
	cmd.Stdin = strings.NewReader(i.stdin)
	if i.keeps != nil {
		cmd.ExtraFiles = []*os.File{i.keeps}
	}
	out := &bounded{left: maxSecret + 2}
	cmd.Stdout, cmd.Stderr = out, io.Discard
	cmd.WaitDelay = 2 * time.Second
	// A group of its own, so that its children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithUs(cmd.SysProcAttr)
	runtime.LockOSThread() // the system takes the end of the thread that starts it for ours
	defer runtime.UnlockOSThread()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case out.full:
		return "", fmt.Errorf("it printed more than %d KiB", maxSecret>>10)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case limited.Err() != nil:
		return "", fmt.Errorf("it did not end within %s; raise the command's timeout in the host file", timeout)
	case errors.As(err, &exit):
		return "", fmt.Errorf("it failed with %s (what it wrote is not shown, it may hold the secret); run it by hand", exit.ProcessState)
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("its program %q is not installed; correct the command's run in the host file", c.Run[0])
	case err != nil:
		return "", fmt.Errorf("running it: %w", err)
	}
	return out.buf.String(), nil
}

func timeoutOf(c schema.HostCommand) time.Duration {
	if c.Timeout > 0 {
		return time.Duration(c.Timeout) * time.Second
	}
	return defaultTimeout
}

func (r *Resolver) find(name string) (schema.HostCommand, error) {
	var names []string
	for _, c := range r.host.Command {
		if c.Name == name {
			if len(c.Run) == 0 || c.Run[0] == "" {
				return c, errors.New("the host file gives it no program; set its run")
			}
			return c, nil
		}
		names = append(names, c.Name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return schema.HostCommand{}, fmt.Errorf("the host file defines no commands; add [command.%s] there", name)
	}
	return schema.HostCommand{}, fmt.Errorf("the host file defines no such command, only %s; add [command.%s] there", strings.Join(names, ", "), name)
}

// minimalEnv is what programs need to work, and no secret.
func (r *Resolver) minimalEnv() []string {
	env := []string{}
	for _, name := range []string{"HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "USER"} {
		if v, ok := r.lookup(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// bounded keeps up to left bytes and then fails, which ends the command.
type bounded struct {
	buf  bytes.Buffer
	left int
	full bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.full = true
		return 0, errOutput
	}
	b.left -= len(p)
	return b.buf.Write(p)
}
