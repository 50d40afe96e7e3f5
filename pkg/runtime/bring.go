package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// locked lets nobody else change what runs on the data directory meanwhile, be
// it as a container or as a process.
func (c *Container) locked(ctx context.Context, v verb) (out Outcome, err error) {
	var wanted box
	if v != verbStart { // which takes what there is
		if wanted, err = c.wanted(ctx); err != nil {
			return Outcome{}, err
		}
	}
	l, err := c.o.takeLock(ctx, "ocisync "+string(v), c.o.Patience.Ready)
	if err != nil {
		return Outcome{}, err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	r, err := c.o.last()
	if err != nil {
		return Outcome{}, err
	}
	if r.alive() {
		return Outcome{}, c.fail(fmt.Errorf("%w: process %d, of driver process; end it first: kill %[2]d", ErrOccupied, r.PID))
	}
	others, err := c.engine.of(ctx, labelData, c.o.data())
	if err != nil {
		return Outcome{}, c.fail(err)
	}
	for _, name := range others {
		if name != c.name() && name != c.name()+next {
			return Outcome{}, c.fail(fmt.Errorf("%w: container %s, of another mode or instance; take that down first, or name another directory in registry.run.data", ErrOccupied, name))
		}
	}
	out, err = c.bring(ctx, v, wanted)
	if err == nil && !out.Already {
		c.o.note(record{Container: c.name()})
	}
	return out, err
}

// bring has the container running and ready.
func (c *Container) bring(ctx context.Context, v verb, wanted box) (Outcome, error) {
	old, err := c.mend(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if v == verbStart && old != nil {
		if old.Running && !old.Off {
			return Outcome{Already: true}, c.wait(ctx, old)
		}
		return Outcome{}, c.again(ctx, old)
	}
	if v == verbStart {
		r, err := c.o.readRecord()
		if err == nil {
			err = c.o.wantedUp(r)
		}
		if err != nil {
			return Outcome{}, err
		}
		if wanted, err = c.wanted(ctx); err != nil {
			return Outcome{}, err
		}
	}
	if err := c.image(ctx, &wanted); err != nil {
		return Outcome{}, err
	}
	if old == nil {
		labels, err := c.labels(wanted)
		if err != nil {
			return Outcome{}, err
		}
		made, err := c.make(ctx, c.name(), wanted, labels)
		if err != nil {
			return Outcome{}, err
		}
		if err := c.run(ctx, made); err != nil {
			return Outcome{}, errors.Join(err, c.fail(c.engine.remove(context.WithoutCancel(ctx), made.ID)))
		}
		return Outcome{}, nil
	}
	rights, err := c.rights(ctx, old)
	if err != nil {
		return Outcome{}, err
	}
	changed, err := old.differences(wanted, rights)
	switch {
	case err != nil:
		return Outcome{}, err
	case len(changed) > 0:
		labels, err := c.labels(wanted)
		if err != nil {
			return Outcome{}, err
		}
		return Outcome{Changed: changed}, c.replace(ctx, old, wanted, labels)
	case !old.Running:
		return Outcome{}, c.again(ctx, old)
	case v == verbRestart:
		if err := c.o.check(ctx, old.Face); err != nil {
			return Outcome{}, err
		}
		if err := c.engine.stop(ctx, old.ID, old.Grace); err != nil {
			return Outcome{}, c.fail(err)
		}
		return Outcome{}, c.again(ctx, old)
	}
	return Outcome{Already: true}, c.wait(ctx, old)
}

// mend brings to an end what an earlier replacement that was killed left, and
// returns the container there is, or nil.
func (c *Container) mend(ctx context.Context) (*found, error) {
	old, err := c.ours(ctx, c.name())
	if err != nil {
		return nil, err
	}
	successor, err := c.ours(ctx, c.name()+next)
	switch {
	case err != nil || successor == nil:
		return old, err
	case old != nil: // the former counts until it is gone
		return old, c.fail(c.engine.remove(ctx, successor.ID))
	}
	if err := c.engine.rename(ctx, successor.ID, c.name()); err != nil {
		return nil, c.fail(err)
	}
	successor.Name = c.name()
	return successor, nil
}

// make makes a container that does not run yet.
func (c *Container) make(ctx context.Context, name string, b box, labels map[string]string) (*found, error) {
	if c.o.Registry.Run.Network == "" {
		if err := c.engine.network(ctx, b.Network, labels); err != nil {
			return nil, c.fail(fmt.Errorf("network %s: %w", b.Network, err))
		}
	}
	id, err := c.engine.create(ctx, name, b, labels)
	if err != nil {
		return nil, c.fail(fmt.Errorf("making container %s: %w", name, err))
	}
	return &found{box: b, ID: id, Name: name, Labels: labels}, nil
}

// run starts a container and waits until it is ready. One that does not get
// ready is stopped.
func (c *Container) run(ctx context.Context, f *found) error {
	if err := c.o.beforeStart(ctx, f.Face); err != nil {
		return err
	}
	if err := c.o.giveAway(); err != nil {
		return c.fail(fmt.Errorf("giving the files to the owner of the data directory: %w", err))
	}
	if _, local := c.engine.describe(ctx); local {
		if err := c.o.free(ctx, f.Listen); err != nil {
			return err
		}
	}
	// of now, and not of what the engine says: it may have started it again by then
	f.Started, f.Restarts, f.Paused = time.Now(), 0, false
	if err := c.start(ctx, f); errors.Is(err, ErrTaken) {
		return taken(c.o.Registry.URL, f.Listen)
	} else if err != nil {
		return c.fail(fmt.Errorf("starting container %s: %w", f.Name, err))
	}
	if err := c.wait(ctx, f); err != nil {
		return errors.Join(err, c.fail(c.engine.stop(context.WithoutCancel(ctx), f.ID, f.Grace)))
	}
	return nil
}

// start starts a container. Another process may have made a network of its network's
// name meanwhile, of which one is left then.
func (c *Container) start(ctx context.Context, f *found) error {
	err := c.engine.start(ctx, f.ID)
	if !errors.Is(err, errAmbiguous) || c.o.Registry.Run.Network != "" {
		return err
	}
	if err := c.engine.network(ctx, f.Network, f.Labels); err != nil {
		return err
	}
	return c.engine.start(ctx, f.ID)
}

// again runs a container that ran before. One whose network was removed meanwhile
// cannot start any more, and one that was taken off it is reached by nobody: both are
// made anew as they were.
func (c *Container) again(ctx context.Context, f *found) error {
	why := "it was taken off its network " + f.Network
	if !f.Off {
		err := c.run(ctx, f)
		if !errors.Is(err, ErrNoNetwork) {
			return err
		}
		why = "its network was removed"
	}
	c.o.Say("container " + f.Name + " is made anew: " + why)
	return c.replace(ctx, f, f.box, f.Labels)
}

// wait waits until the registry answers. The error says what its log said last.
func (c *Container) wait(ctx context.Context, f *found) error {
	if f.Paused {
		return c.fail(fmt.Errorf("container %s: %w: docker unpause %[1]s lets it go on, and ocisync restart starts it again", f.Name, ErrPaused))
	}
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var how string
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer cancel()
	watcher.Go(func() {
		for watching.Err() == nil {
			now, err := c.engine.inspect(watching, f.ID)
			if err == nil && (now == nil || !now.Running || now.Restarts > f.Restarts) {
				how = "the container is gone"
				switch {
				case now != nil && now.Running:
					how = "the engine had to start it again"
				case now != nil:
					how = fmt.Sprintf("exit status %d", now.Code)
				}
				close(ended)
				return
			}
			select {
			case <-watching.Done():
			case <-time.After(c.o.Patience.Watch):
			}
		}
	})
	err := c.o.ready(ctx, f.Listen, ended)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrDied):
		err = fmt.Errorf("%w: %s", ErrDied, how)
	}
	return c.fail(fmt.Errorf("%w; %s", err, c.lastWords(ctx, f)))
}

func (c *Container) lastWords(ctx context.Context, f *found) string {
	r, err := c.engine.log(ctx, f.ID, f.Started, saidFrom, false)
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	defer r.Close()
	return lastWords(r)
}

// replace puts a new container in the place of one. It is made while the former
// runs, so that an image or a file that is missing harms nobody.
func (c *Container) replace(ctx context.Context, old *found, b box, labels map[string]string) error {
	if _, local := c.engine.describe(ctx); local && !old.has(b.Listen) {
		if err := c.o.free(ctx, b.Listen); err != nil {
			return err
		}
	}
	if err := c.o.check(ctx, b.Face); err != nil {
		return err
	}
	made, err := c.make(ctx, c.name()+next, b, labels)
	if err != nil {
		return err
	}
	all := context.WithoutCancel(ctx) // from here on it is brought to an end
	drop := func(err error) error { return errors.Join(err, c.fail(c.engine.remove(all, made.ID))) }
	if old.Running {
		if err := c.engine.stop(ctx, old.ID, old.Grace); err != nil {
			return drop(c.fail(err))
		}
	}
	if err := c.run(ctx, made); err != nil {
		err = drop(err)
		if !old.Running || old.Off {
			return err
		}
		if again := c.again(all, old); again != nil {
			return fmt.Errorf("%w; and the former container does not start either: %w", err, again)
		}
		return fmt.Errorf("%w; it runs again as before: correct the mode", err)
	}
	if err := c.engine.remove(all, old.ID); err != nil {
		return c.fail(err)
	}
	return c.fail(c.engine.rename(all, made.ID, c.name()))
}
