package harbor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ocisync/ocisync/schema"
)

// Collector reads back what was delivered, where that can be.
// It is satisfied by secret.Resolver.
type Collector interface {
	// Delivered returns the login for a registry that lies where a secret is
	// delivered to, "" for none. ErrUnsupported: that cannot be looked at.
	Delivered(d schema.Delivery, registryHost string) (user, secret string, err error)
}

// sink is whether a robot's secret is where the mode says.
type sink int

const (
	inPlace   sink = iota // or nothing else is known
	displaced             // its account is not what lies there
	refused               // its account lies there with a secret that does not work
)

// mostTried is how many delivered secrets a plan tries at Harbor, which takes a request
// for each.
const mostTried = 50

// sunk is a sink, with what a plan says of it.
type sunk struct {
	is   sink
	says string
}

// taken is the mark of what a command took, "" of what can be looked at.
func taken(d schema.Delivery) string {
	if d.Command == "" {
		return ""
	}
	const enough = 12
	return d.Place()[:enough]
}

// placeOf names where a secret is delivered to.
func placeOf(d schema.Delivery) string {
	return cmp.Or(d.File, d.DockerConfig, "command "+d.Command)
}

// sinks looks at where the secrets of the desired robots lie, and tries those of most
// accounts at Harbor: what somebody changed last comes first. It says how many it left
// untried. What this process delivered is where it belongs.
func (s *site) sinks(ctx context.Context, desired schema.State, most int, now time.Time) (found map[schema.Key]sunk, untried int, err error) {
	type trial struct {
		key           schema.Key
		account       account
		place, secret string
	}
	found = map[schema.Key]sunk{}
	var trials []trial
	for _, r := range desired.Resources {
		want, ok := r.Spec.(*schema.Robot)
		if !ok || delivery(want) == nil {
			continue
		}
		to := *delivery(want)
		current, there := newest(s.accounts[r.Key])
		if !there || s.p.delivered(current.Name, to) {
			continue
		}
		user, secret, known, says := s.p.lies(to)
		switch {
		case !known && to.Command == "":
			found[r.Key] = sunk{is: inPlace, says: says}
		case to.Command != "" && current.taken != taken(to):
			found[r.Key] = sunk{displaced, fmt.Sprintf("its secret was not delivered by %s; `ocisync run robots` has another delivered there", placeOf(to))}
		case to.Command != "" || user == current.Name && !current.works(now):
		case user != current.Name:
			found[r.Key] = sunk{displaced, fmt.Sprintf("its secret does not lie in %s on this host; `ocisync run robots` delivers another there", placeOf(to))}
		default:
			trials = append(trials, trial{r.Key, current, placeOf(to), secret})
		}
	}
	slices.SortStableFunc(trials, func(a, b trial) int { return b.account.Updated.Compare(a.account.Updated) })
	if len(trials) > most {
		trials, untried = trials[:most], len(trials)-most
	}
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(32) // the client lets fewer through
	for _, t := range trials {
		work.Go(func() error {
			ok, err := s.c.Accepts(ctx, t.account.Name, t.secret)
			if err != nil || ok {
				return s.p.fail(t.key, "comparing secret.deliver", err, "")
			}
			mu.Lock()
			defer mu.Unlock()
			found[t.key] = sunk{refused, fmt.Sprintf("the secret in %s does not work: somebody gave the account or the file another; `ocisync run robots` delivers a new one", t.place)}
			return nil
		})
	}
	return found, untried, work.Wait()
}

// delivered reports whether this process took an account's secret to a place.
func (p *Provider) delivered(login string, to schema.Delivery) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.brought[login] == to.Place()
}

// lies is the login that lies where a secret is delivered to, if that is known, or else
// what a plan says of why not.
func (p *Provider) lies(to schema.Delivery) (user, secret string, known bool, says string) {
	c, ok := p.secrets.(Collector)
	if !ok || to.Command != "" {
		return "", "", false, ""
	}
	user, secret, err := c.Delivered(to, p.host())
	if err != nil {
		return "", "", false, fmt.Sprintf("(secret not checked): secret.deliver: %v", err)
	}
	return user, secret, true, ""
}
