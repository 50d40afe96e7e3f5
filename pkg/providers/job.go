package providers

import (
	"context"
	"fmt"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Runner is a provider whose registry has jobs that can be run now.
type Runner interface {
	// Jobs lists them, sorted.
	Jobs() []string
	// Run runs one and waits for its end; what is reported beside an error was
	// done before it. A dry run says what the job would do, and writes nothing.
	// ErrUnsupported: there is no such job.
	Run(ctx context.Context, job string, dry bool) (JobReport, error)
}

// JobReport says what a job did; of its parts those of the job are set.
type JobReport struct {
	Job       string     `json:"job"`
	DryRun    bool       `json:"dry_run"`
	Collected *Collected `json:"collected,omitempty"`
	Retained  *Retained  `json:"retained,omitempty"`
	// Measured are the namespaces with a quota that a job measures, sorted.
	Measured []Measured `json:"measured,omitempty"`
}

// Measured is how much of its quota a namespace uses at a registry that does not
// count itself.
type Measured struct {
	Namespace string      `json:"namespace"`
	Limit     schema.Size `json:"limit"`
	Used      schema.Size `json:"used"`
	// Full says that push is withdrawn, and Changed that this job did that, or
	// gave it back. Error is why it is not known how much is used: then nothing
	// was changed.
	Full    bool   `json:"full"`
	Changed bool   `json:"changed,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Push says in a word what became of the right to push.
func (m Measured) Push() string {
	switch {
	case m.Full:
		return "withdrawn"
	case m.Changed:
		return "given back"
	}
	return "as declared"
}

// FullNote is what a plan says of a namespace whose quota is used up; ok is false of one
// that is not declared at all.
func FullNote(desired schema.State, namespace string, used, limit schema.Size, since time.Time) (_ plan.Note, ok bool) {
	note := plan.Note{
		Key:  schema.Key{Kind: schema.KindQuota, Name: namespace},
		Text: fmt.Sprintf("%s of %s used, push withdrawn since %s", used.Human(), limit.Human(), since.UTC().Format(time.RFC3339)),
	}
	if _, declared := desired.Get(note.Key); declared {
		return note, true
	}
	note.Text += `, by a quota that the mode does not declare; declare quota = "unlimited" there to have push given back`
	_, ok = desired.Get(schema.Key{Kind: schema.KindNamespace, Name: namespace})
	return note, ok
}

// Withholder is what a provider offers that takes push from namespaces whose
// quota is used up, beside the rules that are declared.
type Withholder interface {
	// Withheld lists the namespaces in which nobody but admin users may push
	// now, sorted.
	Withheld(context.Context) ([]string, error)
}

// Attendant is what a provider offers whose registry has work that no schedule
// of a mode says, and that is done while `ocisync up` runs.
type Attendant interface {
	// Attend does what is due and says when to come again. It is called by one
	// at a time; other processes may do the same.
	Attend(context.Context) (again time.Duration, err error)
}

// Retained is what retention kept and removed.
type Retained struct {
	Kept int    `json:"kept"` // tags
	Gone []Gone `json:"gone"`
}

// Gone is a tag, or a manifest without one, that retention removes.
type Gone struct {
	Name  string `json:"name"` // REPOSITORY:TAG or REPOSITORY@DIGEST
	Why   string `json:"why"`
	Error string `json:"error,omitempty"` // why it is still there
}

// Failed is how many could not be removed.
func (r Retained) Failed() int {
	n := 0
	for _, g := range r.Gone {
		if g.Error != "" {
			n++
		}
	}
	return n
}

// Collected is what garbage collection removed.
type Collected struct {
	// Blobs is how many contents went, manifests included, Uploads how many
	// uploads that nobody finished, and Bytes the size of both.
	Blobs   int   `json:"blobs"`
	Uploads int   `json:"uploads,omitempty"`
	Bytes   int64 `json:"bytes"`
	// Manifests went from their repositories, and Tags are fallback tags of
	// referrers whose subject is gone.
	Manifests int `json:"manifests"`
	Tags      int `json:"tags"`
	// Repositories, sorted, left the catalogue.
	Repositories []string `json:"repositories"`
	// Unread, sorted, are manifests, as repository@digest, that cannot be read: what
	// they need cannot be told, so that their repositories were left alone.
	Unread []string `json:"unread,omitempty"`
}

// Renewer is what a provider offers that renews robots: it delivers secrets,
// and so needs what is declared.
type Renewer interface {
	// Due says which of the desired robots would be renewed at a time, and
	// changes nothing.
	Due(ctx context.Context, desired schema.State, at time.Time) ([]Renewal, error)
	// Renew renews, of the desired robots whose secret is delivered, those
	// that are due at a time, and finishes renewals that were cut short. What
	// became of each is in the list; an error means that nothing is known.
	Renew(ctx context.Context, desired schema.State, at time.Time) ([]Renewal, error)
}

// Renewal is what became of one robot.
type Renewal struct {
	Key   schema.Key
	Login string    // of the account that was made, "" where none was due
	Next  time.Time // when one will be due; zero for never, or where one is
	Err   error     // it is tried again the next time
}
