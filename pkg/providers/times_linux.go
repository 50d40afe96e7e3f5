package providers

import (
	"time"

	"golang.org/x/sys/unix"
)

func timesOf(name string) (times, bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, name, 0, unix.STATX_CTIME|unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_CTIME == 0 {
		return times{}, false
	}
	out := times{changed: time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))}
	if st.Mask&unix.STATX_BTIME != 0 {
		out.born = time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
	}
	return out, true
}
