// Package providers says what a registry must be able to do for ocisync: the
// [Provider] interface, the errors its methods return, and decorators of it.
//
// One implementation per registry type lives in a directory below; all of them
// pass the suite of providertest. Which one a mode gets is the one switch of
// package all.
package providers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/schema"
)

// Provider reads and writes one registry. It never decides what should change.
// All methods may be called from several goroutines, Write from one at a time.
type Provider interface {
	// Capabilities is constant.
	Capabilities() schema.Table

	// Normalize brings a desired state into the form in which Read returns
	// it: expands what the registry cannot say itself, lower-cases what it
	// lower-cases. It is pure and idempotent. Notes tell what a user should
	// know, such as rights that a role gives beyond those asked for.
	Normalize(schema.State) (schema.State, []plan.Note, error)

	// Read returns the live objects of the scope's kinds. The result's scope
	// says what was really read, possibly less; an error means that nothing
	// is known. Reading changes nothing.
	// Errors: ErrUnreachable, ErrUnauthorized, ErrForbidden, ErrNotRegistry.
	Read(context.Context, schema.Scope) (schema.State, error)

	// Prepare tells, without writing, how each change would take effect here,
	// in the same order, or why this server, version or account cannot do it.
	Prepare(context.Context, []plan.Change) ([]Verdict, error)

	// Write makes the changes, which are of one stage and independent of each
	// other, and reports each key exactly once, possibly from several
	// goroutines. Writing what already holds and deleting what is absent are
	// successes. A done context lets requests in flight finish; the rest is
	// reported with the context's error. The error returned is for what
	// concerns all of them; keys not reported by then have failed with it.
	// A secret field is written when the change creates the object or lists
	// the field in Fields; otherwise the live secret is kept.
	Write(ctx context.Context, changes []plan.Change, report func(schema.Key, error)) error

	// Batch tells which ranks Write takes at once.
	Batch() Batch
}

// Checker is what a provider offers that can compare a secret with the live
// one, by a hash it holds or by a login that changes nothing.
type Checker interface {
	// Check compares the secret a desired field refers to with the live one.
	// ErrUnsupported: this field cannot be compared. Several may be compared at
	// once, and nothing is written meanwhile.
	Check(ctx context.Context, key schema.Key, field string, ref schema.SecretRef) (equal bool, err error)
}

// Dater is what a provider offers whose registry tells when an object was changed last,
// its secrets included: one that was the live one need not be compared again before that.
type Dater interface {
	// AsOf is a second, by the registry's clock, in which a secret that it does not show
	// was this value, as this provider learned when it wrote or compared it last; zero
	// for none.
	AsOf(key schema.Key, field, value string) time.Time
	// Untouched reports whether an object, as it was last read, is what it was in a
	// second that AsOf told: the secret is the same then. It sends no request.
	Untouched(key schema.Key, asOf time.Time) bool
}

// Remarker is what a provider offers that knows of its registry more than
// objects show, such as accounts that soon expire.
type Remarker interface {
	// Remarks returns what a plan should say of the desired objects. It
	// changes nothing. Plans of one day say the same: now is when that began, and
	// what is of the same day is not to come.
	Remarks(ctx context.Context, desired schema.State, now time.Time) ([]plan.Note, error)
}

// Prover is what a provider offers that can prove a run without reading back all of
// it.
type Prover interface {
	// Prove is Read after a run of this provider's own. Of objects that the run made
	// alike, and whose making the registry confirmed, it may read some and take the
	// others for what was written: sampled is how many. Where one that it reads is
	// not as it was written, it reads all.
	Prove(ctx context.Context, scope schema.Scope) (st schema.State, sampled int, err error)
}

// Leaver is what a provider offers whose registry may hold more than objects say,
// such as what somebody wrote into its files by hand.
type Leaver interface {
	// Left lists what stays as it is under a desired state since no object of it
	// says it, in the order of a registry's parts. It changes nothing.
	Left(ctx context.Context, desired schema.State) ([]Leftover, error)
}

// Chooser is what a provider offers that tells which of its settings somebody chose:
// a mode that adopts the registry takes these over.
type Chooser interface {
	// Chosen leaves of the live settings those that are not as the registry comes,
	// and of what cannot be read what there may be something in; of another object,
	// what a mode can say of it. It is pure.
	Chosen(live schema.Resource) schema.Resource
}

// Leftover is a part of a registry that nobody manages.
type Leftover struct{ What, Why string }

// Acknowledger is what a provider offers whose registry remembers renames, and
// tells of them in [schema.State] Renamed, until they are written down where
// they were asked for.
type Acknowledger interface {
	// Acknowledge says so of objects, which are called so now, whatever they were
	// called before. Of one that was not renamed it says nothing.
	Acknowledge(ctx context.Context, keys []schema.Key) error
}

// Parted is what a provider offers some of whose changes have a part that must be
// written before all other changes of a run, or after them: a registry that is
// read-only takes no other.
type Parted interface {
	// Part cuts a change, which stays one to everybody else. Parts that are nil
	// there are none of; then is all of a change that need not be cut. What is
	// first is written before the first stage, and nothing else where it fails;
	// what is last after everything, the inventory included, and only where
	// nothing failed. It is pure.
	Part(c plan.Change) (first, then, last *plan.Change)
}

// RobotsAreUsers is what a provider offers whose registry takes a robot for an
// account like others, which has what a rule gives everybody who logs in
// besides its own rights.
type RobotsAreUsers interface {
	RobotsAreUsers()
}

// Bereft is what a provider offers whose registry may have lost what it runs with, while
// what it knows is kept elsewhere and is there still.
type Bereft interface {
	// Bereft says what is gone, and what to do but make it anew. "" means that nothing is.
	Bereft(context.Context) (what, remedy string, err error)
}

// Blank is what a provider offers that can tell a registry that was never told
// anything from one that is empty now.
type Blank interface {
	// Blank names what such a registry lacks, for messages: what to restore
	// where the registry was known before. "" means that it is not blank.
	Blank(context.Context) (missing string, err error)
}

// Transporter is what a provider offers whose registry ocisync can reach as
// itself, without an account of its own and even while nobody serves it.
type Transporter interface {
	// Transport answers requests for /v2/, whatever host they name. Call
	// release when done.
	Transport(ctx context.Context) (t http.RoundTripper, release func(), err error)
}

// Filler is what a provider offers whose registry's content ocisync writes.
type Filler interface {
	// Fill is as Transport of a [Transporter], by an account that may pull, push and
	// delete tags in every namespace of the mode.
	Fill(ctx context.Context) (t http.RoundTripper, release func(), err error)
}

// ContentPreparer is what a provider offers whose Prepare takes changes of the kinds of
// content too, and says of them whether the account in use may make them.
type ContentPreparer interface {
	PreparesContent()
}

// Untagger is what a provider offers whose registry deletes no single tag by /v2/.
type Untagger interface {
	// Untag deletes a tag and nothing else; one that is not there is a success.
	Untag(ctx context.Context, repository, tag string) error
}

// Lister is what a provider offers whose registry tells in a few requests what many of
// its repositories hold.
type Lister interface {
	// List tells it of repositories as it is now. Of one that is not in the answer
	// nothing is known, and one that is there is told whole: a list that broke off is an
	// error. It pulls nothing and changes nothing.
	// Errors: ErrUnsupported where there is no such list, or none for the account.
	List(ctx context.Context, repositories []string) (map[string]Listed, error)
}

// Listed is what a repository holds.
type Listed struct {
	Tags map[string]string // by tag the digest
	// Referred are those digests of Tags that something refers to, such as a signature, or
	// to whose parts it may.
	// Where there are any, the repository may have tags besides that hold what refers,
	// which registries take for no images.
	Referred map[string]bool
}

// Sizer is what a provider offers whose registry tells how much its repositories hold,
// in requests that do not grow with their tags one by one.
type Sizer interface {
	// Sizes tells the bytes of repositories, as near as the registry counts them. Of one
	// that is not in the answer nothing is known. It pulls nothing and changes nothing.
	// Errors: ErrUnsupported where the registry does not tell, or not the account.
	Sizes(ctx context.Context, repositories []string) (map[string]int64, error)
}

// Batch is how much a provider writes in one stage.
type Batch int

// The batches: one rank after the other, or all ranks together because the
// registry's configuration is one file.
const (
	BatchRank Batch = iota
	BatchAll
)

// Verdict is what Prepare says of one change.
type Verdict struct {
	Effect  plan.Effect
	Refused string // why not, or ""
	Held    string // why it must be approved, or ""
	Impact  []string
	Notes   []string
}

// The kinds of error a provider returns; test with errors.Is. Each is wrapped
// with the registry, the resource and a remedy.
var (
	ErrUnreachable  = errors.New("registry cannot be reached")
	ErrUnauthorized = errors.New("registry does not accept the login")
	ErrForbidden    = errors.New("account may not do that")
	ErrNotRegistry  = errors.New("that is not a registry")
	ErrNotFound     = errors.New("not found")
	ErrConflict     = errors.New("changed by somebody else meanwhile")
	ErrUnsupported  = errors.New("not supported")
	ErrInvalid      = errors.New("registry refused the value")
	ErrReadOnly     = errors.New("provider is read-only")
	// ErrUnanswered: the registry was asked to change something and did not answer,
	// so that nobody knows whether it did; the next plan tells.
	ErrUnanswered = errors.New("whether it was done is not known")
	// ErrPartly: of the change something was done before it failed, and the next apply
	// does the rest.
	ErrPartly = errors.New("some of it was done")
	// ErrPending: the change is right, and waits for what only somebody else
	// can do, on another host or by hand; the error says what.
	ErrPending = errors.New("pending")
	// ErrNoTokens: who gives the registry's tokens cannot be reached, and so it cannot; it
	// is an ErrUnreachable.
	ErrNoTokens error = noTokensError{}
	// ErrDown: a registry that was stopped to be started again was taken down
	// meanwhile by somebody who wants it to be down.
	ErrDown = errors.New("taken down by somebody")
)

type noTokensError struct{}

func (noTokensError) Error() string { return "its token service cannot be reached" }
func (noTokensError) Unwrap() error { return ErrUnreachable }

// Secrets resolves references to secrets for a provider. It is satisfied by
// secret.Resolver; the value must not be kept longer than it is needed.
type Secrets interface {
	// Resolve returns the secret's value, or an error that names the
	// reference and never the value.
	Resolve(ctx context.Context, ref schema.SecretRef) (string, error)
}

// Error is a failure of one registry, with what to do about it.
type Error struct {
	Registry string // its URL
	Key      schema.Key
	Doing    string // "reading users"
	Err      error
	Remedy   string
}

// Error prints registry, resource, cause and remedy on one line.
func (e *Error) Error() string {
	s := e.Registry
	if e.Key != (schema.Key{}) {
		s += ": " + strings.ReplaceAll(e.Key.String(), "\n", `\n`)
	}
	if e.Doing != "" {
		s += ": " + e.Doing
	}
	s += fmt.Sprintf(": %v", e.Err)
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
