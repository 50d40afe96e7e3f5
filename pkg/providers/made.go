package providers

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Maker is what a [Process] offers that knows how it was started, and can have
// it started otherwise.
type Maker interface {
	// Made says how the registry was started; nil where it never was, or
	// nothing is known of that.
	Made(context.Context) (*Made, error)
	// Renew has it running as the mode says, started anew where it runs
	// otherwise, and returns when it is ready. If it does not get ready so, it
	// runs again as it did, and the error says so.
	Renew(context.Context) error
}

// Keeper is what a [Maker] offers that can go back to how its registry ran.
type Keeper interface {
	// Keep returns what has it running again as it runs now, started anew if it
	// runs otherwise or not at all by then; nil where it does not run.
	Keep(context.Context) (again func(context.Context) error, err error)
}

// Made is how a registry's program was started, in the words of the mode that
// it was started by. An image is compared by its name alone: what a tag stands
// for by now is not asked.
type Made struct {
	// Stopped says that it does not run any more; the rest is nobody's then.
	Stopped         bool
	Image, Binary   string
	Args            []string // the mode's own
	Listen, Network string
	Also            []string // addresses of a container besides
	// Of a container: its mounts, those of which ocisync makes none, and what it may
	// that ocisync lets none; the last two are sorted.
	Mounts         []Mount
	Others, Rights []string
}

// runs is what the paths of [Made.Values] begin with.
const runs = "run."

// statePath is the value that says whether it runs.
const statePath = runs + "state"

// RunTokens is the value that says where its clients get tokens of ocisync's, which
// is nothing of the registry's own process.
const RunTokens = runs + "tokens"

// Wanted is how a registry shall be started that is launched so.
func Wanted(r schema.Registry, l Launch) Made {
	m := Made{Binary: r.Run.Binary, Args: r.Run.Args, Listen: r.Address()}
	if r.Run.Driver == schema.DriverDocker {
		m.Image, m.Network, m.Mounts = r.Run.Image, r.Run.Network, l.Mounts
	}
	return m
}

// Values says it, of one that runs, as values among a registry's settings,
// sorted by path: those that a mode for this driver speaks of.
func (m Made) Values(driver string) schema.Values {
	mounts := []string{}
	for _, x := range m.Mounts {
		if !x.Writable {
			x.Path += " (read-only)"
		}
		mounts = append(mounts, x.Path)
	}
	mounts = append(mounts, m.Others...)
	slices.Sort(mounts)
	out := schema.Values{
		value("args", append([]string{}, m.Args...)),
		value("binary", m.Binary),
		value("listen", strings.Join(append([]string{m.Listen}, m.Also...), ", ")),
		value("state", "running"),
	}
	if driver == schema.DriverDocker {
		out = append(out, value("image", m.Image), value("mounts", slices.Compact(mounts)), value("network", m.Network), value("rights", append([]string{}, m.Rights...)))
		slices.SortFunc(out, func(a, b schema.Value) int { return strings.Compare(a.Path, b.Path) })
	}
	return out
}

func value[T string | []string](name string, v T) schema.Value {
	b, err := json.Marshal(v)
	if err != nil { // of strings there is none
		return schema.Value{Path: runs + name, JSON: `""`}
	}
	text, err := schema.CanonicalJSON(b)
	if err != nil {
		text = string(b)
	}
	return schema.Value{Path: runs + name, JSON: text}
}

// OfRun reports whether a value among the settings says how the registry is run.
func OfRun(path string) bool { return strings.HasPrefix(path, runs) }

// Starts reports whether a change has a registry started that does not run any
// more. That is done when all else is written.
func Starts(c plan.Change) bool {
	return c.Key.Kind == schema.KindSettings && c.Action == plan.Update &&
		slices.ContainsFunc(c.Fields, func(f plan.Field) bool { return f.Path == "values."+statePath })
}

// Renews reports whether a change has a registry that runs run otherwise than it
// does. That is done before all else, so that it can run on as it did.
func Renews(c plan.Change) bool {
	return c.Key.Kind == schema.KindSettings && c.Action == plan.Update && !Starts(c) &&
		slices.ContainsFunc(c.Fields, func(f plan.Field) bool {
			path, ok := strings.CutPrefix(f.Path, "values.")
			return ok && OfRun(path) && path != RunTokens
		})
}

// WantedRun are the values of a registry's settings that say how the mode has it
// run. They are pure: what is at hand does not matter. A process that is no
// [Maker] has none.
func WantedRun(process Process, r schema.Registry, l Launcher) (schema.Values, error) {
	if _, ok := process.(Maker); !ok {
		return nil, nil
	}
	launch, err := l.Launch(context.Background())
	if err != nil {
		return nil, err
	}
	return Wanted(r, launch).Values(r.Driver()), nil
}

// LiveRun are these values as the registry runs. Of one that does not run any
// more, nothing but that is compared: it is started as the mode says. One that
// never ran is not missed.
func LiveRun(ctx context.Context, process Process, r schema.Registry, l Launcher) (schema.Values, error) {
	m, ok := process.(Maker)
	if !ok {
		return nil, nil
	}
	made, err := m.Made(ctx)
	switch {
	case err != nil:
		return nil, err
	case made == nil:
		return WantedRun(process, r, l)
	case made.Stopped:
		live, err := WantedRun(process, r, l)
		for i, v := range live {
			if v.Path == statePath {
				live[i] = value("state", "stopped")
			}
		}
		return live, err
	}
	return made.Values(r.Driver()), nil
}
