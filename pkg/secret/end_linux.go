package secret

import "syscall"

// endWithUs has a command killed when this process is.
func endWithUs(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
