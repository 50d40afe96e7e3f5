package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Command runs the program of the container once more in it, with other
// arguments, and returns when that has ended, well or with an error. It ends
// with the container, whoever stops that; when the context is done it is left to
// itself.
func (c *Container) Command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := c.ours(ctx, c.name())
	if err != nil {
		return err
	}
	if f == nil || !f.Running {
		return c.fail(fmt.Errorf("container %s does not run; start it with ocisync up", c.name()))
	}
	if len(f.Entrypoint) == 0 {
		return c.fail(fmt.Errorf("image %s names no program of its own; name it in registry.run.binary", f.Image))
	}
	program := append(append([]string{}, f.Entrypoint...), args...)
	code, err := c.engine.exec(ctx, f.ID, program, stdout, stderr)
	if err != nil {
		return c.fail(err)
	}
	now, err := c.engine.inspect(ctx, f.ID)
	switch {
	case err != nil:
		return c.fail(err)
	case now == nil || !now.Running || !now.Started.Equal(f.Started):
		return c.fail(fmt.Errorf("%w: container %s was stopped meanwhile", ErrDied, c.name()))
	case code != 0:
		return errors.New("exit status " + fmt.Sprint(code))
	}
	return nil
}
