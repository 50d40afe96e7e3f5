package zot

import (
	"context"
	"fmt"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
)

// renew has Zot running as the mode says, before anything is written: if it
// does not get ready so, it runs on as it did. What is written then is
// written to the files as they are afterwards, which say where it listens. goBack
// is for when that fails; nil where there is no way back.
func (w *writer) renew(ctx context.Context, c plan.Change, secret prepared) (again *writer, goBack func(why error) error, err error) {
	refused := secret.err != nil || w.p.prepare(c, w.now, w.runs, w.st).Refused != ""
	if refused { // which is found again, and said
		return w, nil, nil
	}
	if err := w.check(c); err != nil {
		return nil, nil, err
	}
	maker, ok := w.p.process.(providers.Maker)
	if !ok {
		return w, nil, nil
	}
	if goBack, err = w.keep(ctx, maker); err != nil {
		return nil, nil, w.p.fail(c.Key, "asking how it runs", err, "nothing was written")
	}
	if err := maker.Renew(ctx); err != nil {
		err = w.p.fail(c.Key, "starting it as the mode says", err, "nothing was written")
		if st, unknown := w.p.process.Status(ctx); goBack != nil && unknown == nil && !st.Running {
			err = goBack(err)
		}
		return nil, nil, err
	}
	if again, err = w.afresh(ctx, c); err != nil && goBack != nil {
		return nil, nil, goBack(err)
	}
	return again, goBack, err
}

// afresh is a writer to the files as they are now.
func (w *writer) afresh(ctx context.Context, c plan.Change) (*writer, error) {
	_, s, st, err := w.p.begin(ctx, false)
	if err != nil {
		return nil, err
	}
	again, err := w.p.writer(ctx, s, st)
	if err != nil {
		return nil, err
	}
	if r, ok := again.shown[c.Key]; ok && c.Before != nil {
		r.Version = c.Before.Version
		again.shown[c.Key] = r
	}
	return again, nil
}

// keep returns what has Zot run again as it does now, at the address it has now
// and with the configuration of now; nil where it does not run. What that returns
// is why, and what became of it. Accounts stay as they are by then, as in [back].
func (w *writer) keep(ctx context.Context, maker providers.Maker) (goBack func(why error) error, err error) {
	keeper, ok := maker.(providers.Keeper)
	if !ok || w.s.text == nil {
		return nil, nil
	}
	again, err := keeper.Keep(ctx)
	if again == nil || err != nil {
		return nil, err
	}
	made, err := maker.Made(ctx)
	if made == nil || err != nil {
		return nil, err
	}
	p, before, at := w.p, w.s.text, made.Listen
	ctx = context.WithoutCancel(ctx)
	return func(why error) error {
		err := p.process.Stop(ctx)
		if err == nil {
			err = files.Write(p.paths.config, readOr(p.paths.config), before)
		}
		if err == nil {
			err = again(ctx)
		}
		if err != nil {
			return fmt.Errorf("%w; and it could not be started again as it ran before, at %s: %w; look at ocisync logs, and start it with ocisync up", why, at, err)
		}
		return fmt.Errorf("%w; it runs again as before, at %s", why, at)
	}, nil
}
