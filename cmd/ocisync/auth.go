package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/schema"
)

func newAuth(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "auth",
		GroupID: "run",
		Short:   "Say who may do what at a registry that knows accounts alone",
		Long: `Auth is the token service of a registry of type "distribution" that is a program
or container of its own. Distribution knows accounts without rights; it sends its
clients to a token service, which ocisync is: it keeps users, robots, groups,
namespaces and access as they were applied, and signs what they allow.
`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Give tokens to the clients of the mode's registry until Ctrl-C",
		Long: `Serve answers at registry.token.listen, by default one port above the registry.
It works whoever runs the registry; ocisync up does the same beside a registry
that it runs. While it runs, plan and apply of other processes on this host reach
it through a socket in the data directory, and admin users from elsewhere over
HTTP; what they change holds for the next token. It renews the mode's robots in
time, and measures quotas every minute. Each token that an account gets is a line on
standard error; of those that anonymous clients get, one of each address, and every ten
minutes how many more.

Its keys are made once, in registry.run.data (or beside registry.files.config):
ocisync/keys.json is ocisync's own, and jwks.json what the registry reads when it
starts. Whoever may read the first may do everything at the registry.
` + exitHelp,
		Example: "  ocisync auth serve --mode prod",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.authServe(c.Context()) },
	}
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Sign tokens with the next key from now on",
		Long: `Rotate changes to the key that the registry knows already, and makes another to
follow it; ocisync auth serve and ocisync up do so by themselves every 30 days, or
as registry.token.rotate says. No request fails: tokens of the former key are good for the five
minutes that they live.

A registry reads jwks.json when it starts, and never again. So it knows two keys
at a time: a rotation is refused until it was restarted since the one before. A
restart refuses whoever comes meanwhile. So ocisync up and ocisync auth serve restart
a registry that ocisync runs once the tokens of the former key have expired and
nobody has asked for one for six minutes, so that nobody has any. Until it is
restarted, by them or for another reason, it would take tokens that somebody signs
now who has the former key: where that is feared, restart it. One that somebody else
runs must be restarted, six minutes after the rotation or later.
` + exitHelp,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.authRotate(c.Context()) },
	}
	for _, sub := range []*cobra.Command{serve, rotate} {
		o.modeFlags(sub)
		cmd.AddCommand(sub)
	}
	o.verboseFlag(serve, "log all there is")
	return cmd
}

// tokenServer is a provider whose registry gets its tokens from ocisync.
type tokenServer interface {
	TokenService(context.Context, embedded.Options) (*embedded.Registry, error)
	Rotate(context.Context) error
	Giving() embedded.Giving
}

func (o *options) tokenServer(cfg *schema.Config) (tokenServer, error) {
	p, err := o.openRegistry(cfg)
	if err != nil {
		return nil, err
	}
	s, ok := p.(tokenServer)
	if !ok {
		return nil, codedError{exitRefused, fmt.Errorf("%s: a registry of type %s with driver %q needs no token service", cfg.Registry.URL, cfg.Registry.Type, cfg.Registry.Driver())}
	}
	return s, nil
}

// canGive tells why another process of this program could not give the tokens that
// a registry's clients need.
func (o *options) canGive(ctx context.Context, cfg *schema.Config) error {
	if !takesTokens(cfg) {
		return nil
	}
	if _, err := (&served{o, cfg}).giving(ctx); err == nil {
		return nil
	}
	s, err := o.tokenServer(cfg)
	if err != nil {
		return err
	}
	if give := s.Giving(); give != (embedded.Giving{}) {
		return embedded.Room(ctx, give)
	}
	return nil
}

// withTokens gives tokens to the clients of a Distribution for as long as work
// takes, but not while another process does.
func (o *options) withTokens(ctx context.Context, cfg *schema.Config, command string, work func(context.Context) error) error {
	if !takesTokens(cfg) {
		return work(ctx)
	}
	g, err := o.giver(ctx, cfg, command)
	if errors.Is(err, embedded.ErrHeld) {
		o.sayGiven(ctx, cfg, err)
	} else if err != nil {
		return err
	} else {
		o.say("giving tokens for %s at %s", cfg.Registry.URL, g.addr())
	}
	return g.beside(ctx, cfg, work)
}

// sayGiven says that another process, which holds the data directory, gives tokens.
func (o *options) sayGiven(ctx context.Context, cfg *schema.Config, held error) {
	who, err := (&served{o, cfg}).giving(ctx)
	if err != nil {
		o.say("%v", held)
		return
	}
	o.say("tokens for %s are given already: %s", cfg.Registry.URL, who)
}

func (o *options) authServe(ctx context.Context) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	g, err := o.giver(ctx, cfg, "ocisync auth serve")
	if err != nil {
		return err
	}
	err = g.beside(ctx, cfg, func(ctx context.Context) error {
		o.say("giving tokens for %s at %s; Ctrl-C stops it", cfg.Registry.URL, g.addr())
		return o.attended(ctx, cfg, untilDone)
	})
	if err == nil {
		o.say("stopped")
	}
	return err
}

func (o *options) authRotate(ctx context.Context) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	s, err := o.tokenServer(cfg)
	if err != nil {
		return err
	}
	if err := s.Rotate(ctx); err != nil {
		return err
	}
	if cfg.Registry.Run != nil {
		o.tell("another key signs now; in six minutes the last tokens of the former one have expired, and the registry is restarted and forgets it once nobody has a token\n")
	} else {
		o.tell("another key signs now; restart the registry in six minutes, when the last tokens of the former one have expired: it would take others of that one until then, and knows no next key to rotate to\n")
	}
	return nil
}
