package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// KeepLog keeps small, until the context is done, the log that this process
// writes by its standard output and error: what [Detach] gave it. If they go
// anywhere else than into that file, it does nothing.
func KeepLog(ctx context.Context, path string, logger *slog.Logger) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var quiet time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now.Before(quiet) {
				continue
			}
			if err := renew(path, upLogSize, os.Stdout, os.Stderr); err != nil { //nolint:forbidigo // which this process was started with
				quiet = now.Add(time.Minute)
				logger.Warn("this log could not be rotated", "error", err)
			}
		}
	}
}

// renew begins the log anew once it has the size, and has the files that write
// it write the new one: no line is lost, as it may be where another program has
// it open.
func renew(path string, size int64, writers ...*os.File) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() < size {
		return err
	}
	var ours []*os.File
	for _, w := range writers {
		if its, err := w.Stat(); err == nil && os.SameFile(its, info) {
			ours = append(ours, w)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	fresh := rotated(path, 0)
	to, err := os.OpenFile(fresh, os.O_APPEND|os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	for n := keptLogs - 1; n >= 1; n-- {
		if err := os.Rename(rotated(path, n), rotated(path, n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(path, rotated(path, 1)); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return errors.Join(err, os.Rename(rotated(path, 1), path))
	}
	for _, w := range ours {
		if err := duplicate(to, w); err != nil {
			return fmt.Errorf("%s goes on in %s: %w", w.Name(), rotated(path, 1), err)
		}
	}
	return nil
}
