package harbor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// scannerAuths are our words for how Harbor logs in at a scanner, and Harbor's.
func scannerAuths() [][2]string {
	return [][2]string{{"none", ""}, {"basic", "Basic"}, {"bearer", "Bearer"}, {"api-key", "APIKey"}}
}

// theirs finds the partner of the first word of a pair; itself for another word.
func theirs(pairs [][2]string, word string) string {
	for _, p := range pairs {
		if p[0] == word {
			return p[1]
		}
	}
	return word
}

// ours finds the partner of the second word of a pair; itself for another word.
func ours(pairs [][2]string, word string) string {
	for _, p := range pairs {
		if p[1] == word {
			return p[0]
		}
	}
	return word
}

func readScanners(ctx context.Context, s *site) error {
	scanners, err := s.allScanners(ctx)
	if err != nil {
		return err
	}
	for _, x := range scanners {
		enabled := !x.Disabled
		s.add(schema.Key{Kind: schema.KindScanner, Name: x.Name}, 0, &schema.Scanner{
			URL: &x.URL, Description: &x.Description, Auth: new(ours(scannerAuths(), x.Auth)),
			Insecure: &x.Insecure, InternalAddress: &x.Internal, Enabled: &enabled,
		}, "credential")
	}
	return nil
}

// checkScanner compares a credential, of a Harbor that shows it.
func checkScanner(ctx context.Context, s *site, key schema.Key, _, secret string) (bool, error) {
	x, err := s.scanner(ctx, key.Name)
	return x.Credential == secret, err
}

// prepareScanner says what becomes of scans when their scanner goes.
func prepareScanner(ctx context.Context, s *site, c plan.Change, v *providers.Verdict) error {
	if (c.Action == plan.Create || c.Action == plan.Rename) && c.Key.Name == builtIn {
		v.Refused = "Harbor keeps the name " + builtIn + " for the scanner that it is installed with; take another"
		return nil
	}
	name := c.Key.Name
	switch c.Action {
	case plan.Create:
		return prepareCredential(c, v)
	case plan.Rename:
		name = c.Before.Key.Name
	}
	if c.Action == plan.Rename && name == builtIn {
		v.Refused = "Harbor lets nobody change " + builtIn + ", the scanner that it is installed with; take previously out"
		return nil
	}
	x, err := s.scanner(ctx, name)
	if errors.Is(err, providers.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	if c.Action == plan.Update || c.Action == plan.Rename {
		want, err := after[*schema.Scanner](c)
		if err != nil {
			return err
		}
		if x.Default && !of(want.Enabled, true) {
			v.Refused = "Harbor disables no default scanner; name another one in scan.default first"
			return nil
		}
		return prepareCredential(c, v)
	}
	if x.Default {
		v.Notes = append(v.Notes, "is the default scanner: Harbor puts no other in its place, and scans nothing on schedule without one")
	}
	return nil
}

// builtIn is the scanner that Harbor comes with; it lets nobody change it.
const builtIn = "Trivy"

// prepareCredential refuses a login without what to log in with.
func prepareCredential(c plan.Change, v *providers.Verdict) error {
	want, err := after[*schema.Scanner](c)
	if err != nil {
		return err
	}
	if of(want.Auth, "none") != "none" && want.Credential == nil && touches(c, "auth") {
		v.Refused = "Harbor takes no auth without what to log in with; declare credential too"
	}
	return nil
}

func writeScanner(ctx context.Context, s *site, c plan.Change, live object) error {
	if c.Action == plan.Delete {
		x, err := s.scanner(ctx, c.Key.Name)
		if err != nil {
			return err
		}
		return s.c.DeleteScanner(ctx, x.UUID)
	}
	want, err := after[*schema.Scanner](c)
	if err != nil {
		return err
	}
	next := api.Scanner{
		Name: c.Key.Name, URL: of(want.URL, ""), Description: of(want.Description, ""), Auth: theirs(scannerAuths(), of(want.Auth, "none")),
		Insecure: of(want.Insecure, false), Internal: of(want.InternalAddress, false), Disabled: !of(want.Enabled, true),
	}
	// another way to log in goes with its credential
	if want.Credential != nil && touches(c, "credential", "auth") {
		if next.Credential, err = s.p.secrets.Resolve(ctx, *want.Credential); err != nil {
			return fmt.Errorf("credential: %w", err)
		}
	}
	if c.Action == plan.Create {
		return s.c.CreateScanner(ctx, next)
	}
	x, err := s.scanner(ctx, live.Key.Name)
	if err != nil {
		return err
	}
	next.UUID = x.UUID
	if next.Credential == "" && next.Auth != "" && next.Auth == x.Auth { // of a Harbor that shows it, and wants it back
		next.Credential = x.Credential
	}
	return s.c.UpdateScanner(ctx, next)
}

func (s *site) allScanners(ctx context.Context) ([]api.Scanner, error) {
	return s.scanners.get(func() ([]api.Scanner, error) { return s.c.Scanners(ctx) })
}

// scanner finds one by name. ErrNotFound: there is none.
func (s *site) scanner(ctx context.Context, name string) (api.Scanner, error) {
	list, err := s.allScanners(ctx)
	if err != nil {
		return api.Scanner{}, err
	}
	i := slices.IndexFunc(list, func(x api.Scanner) bool { return x.Name == name })
	if i < 0 {
		return api.Scanner{}, s.p.fail(schema.Key{Kind: schema.KindScanner, Name: name}, "", providers.ErrNotFound, "declare it as [scanner."+name+"]")
	}
	return list[i], nil
}
