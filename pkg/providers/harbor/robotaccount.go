package harbor

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/providers/harbor/api"
	"github.com/ocisync/ocisync/schema"
)

// defaultPrefix is what Harbor puts before robots' names unless it is told
// otherwise.
const defaultPrefix = "robot$"

// prefix is what this Harbor puts before robots' names, a setting that only an
// administrator may read; a robot goes by its own name.
func (s *site) prefix(ctx context.Context) (string, error) {
	if !s.c.Admin() || s.c.Plain() {
		return s.c.Prefix(), nil
	}
	all, err := s.allSettings(ctx)
	if err != nil {
		return "", err
	}
	prefix := defaultPrefix
	if raw := all[prefixSetting].Value; len(raw) > 0 {
		if err := json.Unmarshal(raw, &prefix); err != nil {
			return defaultPrefix, nil //nolint:nilerr // a prefix of another type is none
		}
	}
	return prefix, nil
}

// second ends the name of the account that alternates with a robot's first. No
// other robot of a mode is called so.
const second = ".2"

// accountNames are the names, without prefix and project, of the two accounts
// that a robot alternates between.
func accountNames(key schema.Key) [2]string {
	name := key.Child()
	return [2]string{name, name + second}
}

// robotKey is the robot that an account is of, and how the account is called
// without prefix and project.
func robotKey(prefix, project, login string) (key schema.Key, name string) {
	name = strings.TrimPrefix(login, prefix)
	if project != "" {
		// the project stands before the name, whatever the prefix is
		if i := strings.Index(login, project+"+"); i >= 0 {
			name = login[i+len(project)+1:]
		}
	}
	return schema.NewKey(schema.KindRobot, project, strings.TrimSuffix(name, second)), name
}

// account is one of a robot's, with what ocisync notes at the end of its
// description: Harbor has no other place for it.
type account struct {
	api.Robot
	name        string // without prefix and project
	text        string // the description without the note
	undelivered bool   // nobody may know its secret
	taken       string // the place that a command took its secret to, which cannot be looked at
	ends        time.Time
	asked       time.Time // when this process asked for it to be made, zero for one that it found
}

const (
	noteBegins  = "[ocisync: "
	noteEnds    = "]"
	undelivered = "secret not delivered"
	endsAt      = "replaced, ends "
	takenBy     = "delivered by a command, "
)

func accountOf(r api.Robot, name string) account {
	a := account{Robot: r, name: name, text: r.Description}
	i := strings.LastIndex(r.Description, noteBegins)
	if i < 0 || !strings.HasSuffix(r.Description, noteEnds) {
		return a
	}
	note := strings.TrimSuffix(r.Description[i+len(noteBegins):], noteEnds)
	if note == undelivered {
		a.undelivered = true
	} else if at, ok := strings.CutPrefix(note, endsAt); ok {
		end, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return a
		}
		a.ends = end
	} else if place, ok := strings.CutPrefix(note, takenBy); ok {
		a.taken = place
	} else {
		return a
	}
	a.text = strings.TrimSuffix(r.Description[:i], " ")
	return a
}

// noted is the description with the note.
func (a account) noted() string {
	var note string
	switch {
	case a.undelivered:
		note = undelivered
	case !a.ends.IsZero():
		note = endsAt + a.ends.UTC().Format(time.RFC3339)
	case a.taken != "":
		note = takenBy + a.taken
	default:
		return a.text
	}
	if a.text == "" {
		return noteBegins + note + noteEnds
	}
	return a.text + " " + noteBegins + note + noteEnds
}

// wire is the account as it is sent.
func (a account) wire() api.Robot {
	r := a.Robot
	r.Description = a.noted()
	return r
}

// expires is when Harbor ends the account; zero for never.
func (a account) expires() time.Time {
	if a.Expires <= 0 {
		return time.Time{}
	}
	return time.Unix(a.Expires, 0).UTC()
}

// works reports whether Harbor takes its secret.
func (a account) works(now time.Time) bool {
	end := a.expires()
	return !a.Disabled && (end.IsZero() || now.Before(end))
}

// fresh reports whether an account is worth a secret that is delivered: at least
// half of its life is left. Harbor counts it from when the account was made, and
// not from when a secret was.
func (a account) fresh(now time.Time) bool {
	end := a.expires()
	return end.IsZero() || end.Sub(now) >= end.Sub(a.Created)/2
}

// newest is the account that no other has taken the place of and whose secret was
// delivered; of two, the younger, whose renewal was cut short.
func newest(list []account) (account, bool) {
	var ready []account
	for _, a := range list {
		if !a.undelivered {
			ready = append(ready, a)
		}
	}
	if len(ready) == 0 {
		return account{}, false
	}
	return slices.MaxFunc(ready, func(a, b account) int {
		current := func(x account) int {
			if x.ends.IsZero() {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(current(a), current(b)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	}), true
}

// days is a life in whole days as Harbor counts them: -1 for ever.
func days(d *schema.Duration) int64 {
	if d == nil || *d <= 0 {
		return -1
	}
	return int64((*d + day - 1) / day)
}
