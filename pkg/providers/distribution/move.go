package distribution

import (
	"context"
	"errors"
	"fmt"
	"slices"

	registry "github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/schema"
)

// tokensPath is the value of the settings that says where, for whom and with what
// certificate tokens are given. Who gives them took that from the mode when he
// began; an apply has him begin anew.
const tokensPath = providers.RunTokens

// issues reports whether ocisync gives tokens beside a registry that it runs.
func (p *Provider) issues() bool {
	return p.registry.Run != nil && p.place.Service != nil && p.place.Data != ""
}

// Giving is where the mode has tokens given, by a token service of ocisync's.
func (p *Provider) Giving() registry.Giving {
	if p.place.Service == nil || p.place.Data == "" {
		return registry.Giving{}
	}
	g := registry.Giving{Registry: p.registry.URL, Service: p.place.Name, URL: p.place.Service.String(), Listen: p.place.Listen}
	if t := p.registry.TLS; t != nil && t.Cert != nil && t.Key != nil && p.place.Service.Scheme == "https" {
		g.Cert, g.Key = absolute(*t.Cert), absolute(*t.Key)
	}
	return g
}

// given is where they are given; nil while nobody does.
func (p *Provider) given(ctx context.Context) (*registry.Giving, error) {
	c, err := registry.Dial(ctx, p.place.Data)
	if errors.Is(err, registry.ErrNotServed) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := c.Info(ctx)
	if err = errors.Join(err, c.Close()); err != nil {
		return nil, err
	}
	if info.Giving == nil { // another version, which does not say
		return &registry.Giving{}, nil
	}
	return info.Giving, nil
}

func tokensValue(g registry.Giving) schema.Value {
	return schema.Value{Path: tokensPath, JSON: quoted(g.String())}
}

// wantedTokens and liveTokens are the value as the mode and the registry have it.
func (p *Provider) wantedTokens() schema.Values {
	if !p.issues() {
		return nil
	}
	return schema.Values{tokensValue(p.Giving())}
}

func (p *Provider) liveTokens(ctx context.Context) (schema.Values, error) {
	if !p.issues() {
		return nil, nil
	}
	now, err := p.given(ctx)
	if err != nil {
		return nil, &providers.Error{Registry: p.registry.URL, Doing: "asking where tokens are given", Err: err}
	}
	if now == nil { // who begins does so as the mode says
		return p.wantedTokens(), nil
	}
	return schema.Values{tokensValue(*now)}, nil
}

// misgiven says that tokens are given elsewhere than the registry sends its
// clients, or to others; "" while they are not.
func (p *Provider) misgiven(ctx context.Context) (string, error) {
	if p.place.Service == nil || p.place.Data == "" {
		return "", nil
	}
	now, err := p.given(ctx)
	if err != nil || now == nil || *now == p.Giving() {
		return "", err
	}
	how := "ocisync apply mends it, or end who gives them and start it again"
	if text, err := p.swaps(ctx); err != nil {
		return "", err
	} else if text != "" {
		how = text
	}
	return fmt.Sprintf("tokens are given %s, and the mode has %s: clients cannot log in as it says; %s", now, p.Giving(), how), nil
}

// moves reports whether a change is of where tokens are given.
func moves(c plan.Change) bool {
	return slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+tokensPath })
}

// movable tells, before anything is written, why who gives tokens would not do so
// as the mode says.
func (p *Provider) movable(ctx context.Context, c plan.Change) error {
	return p.anew(ctx, c, true)
}

// move has who gives tokens begin anew, and returns when he has.
func (p *Provider) move(ctx context.Context, c plan.Change) error {
	return p.anew(context.WithoutCancel(ctx), c, false)
}

func (p *Provider) anew(ctx context.Context, c plan.Change, try bool) error {
	if !moves(c) || !p.issues() {
		return nil
	}
	fail := func(err error) error {
		return &providers.Error{
			Registry: p.registry.URL, Key: c.Key, Doing: "having tokens given as the mode says", Err: err,
			Remedy: "apply again when that is mended, or end who gives them (ocisync down, or where auth serve runs) and start it again",
		}
	}
	now, err := p.given(ctx)
	if err != nil {
		return fail(err)
	}
	if now == nil || *now == p.Giving() {
		return nil
	}
	service, err := registry.Dial(ctx, p.place.Data)
	if errors.Is(err, registry.ErrNotServed) {
		return nil
	}
	if err != nil {
		return fail(err)
	}
	if err = errors.Join(service.Anew(ctx, p.Giving(), try), service.Close()); err != nil {
		return fail(err)
	}
	if try {
		return nil
	}
	if err := registry.AwaitGiving(ctx, p.place.Data, p.Giving()); err != nil {
		return fail(err)
	}
	return nil
}

// keep returns what has the registry run again as it does now, with the settings
// that it was started with; nil where it does not run. What that returns is why, and what became of it.
func (p *Provider) keep(ctx context.Context) (goBack func(why error) error, err error) {
	keeper, ok := p.process.(providers.Keeper)
	if !ok {
		return nil, nil
	}
	again, err := keeper.Keep(ctx)
	if again == nil || err != nil {
		return nil, err
	}
	before, err := readConfig(p.place.Config)
	if err != nil {
		return nil, err
	}
	since, _, err := p.running(ctx)
	if err != nil {
		return nil, err
	}
	before = p.startedWith(since, before)
	ctx = context.WithoutCancel(ctx)
	return func(why error) error {
		err := p.process.Stop(ctx)
		aside := p.setAside(before)
		if err == nil {
			err = replaceConfig(p.place.Config, before)
		}
		if err == nil {
			err = again(ctx)
		}
		if err != nil {
			return fmt.Errorf("%w; and it could not be started again as it ran before: %w", why, err)
		}
		if aside != "" {
			why = fmt.Errorf("%w; it runs again, with config.yml put back%s", why, aside)
		}
		return errors.Join(why, p.forget())
	}, nil
}
