package embedded

import (
	"log"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// serverLog takes what the HTTP server has to say of connections, which strangers
// can cause as often as they like: ten lines, and then one a minute that says how
// many were left out.
type serverLog struct {
	logger *slog.Logger
	pace   *rate.Limiter
	left   atomic.Int64
}

func newServerLog(logger *slog.Logger) *log.Logger {
	return log.New(&serverLog{logger: logger, pace: rate.NewLimiter(rate.Every(time.Minute), 10)}, "", 0)
}

// Write implements [io.Writer]: a line.
func (l *serverLog) Write(line []byte) (int, error) {
	if !l.pace.Allow() {
		l.left.Add(1)
		return len(line), nil
	}
	var more []any
	if n := l.left.Swap(0); n > 0 {
		more = append(more, "left_out", n)
	}
	l.logger.Warn(strings.TrimSpace(string(line)), more...)
	return len(line), nil
}
