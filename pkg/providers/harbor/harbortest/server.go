// Package harbortest is a stand-in for Harbor 2.15.2: its API with its state,
// in memory, answering as a real one was recorded to, traps included. It
// computes its answers; the tests replay the recordings against it. As another
// version (version.go) it lacks what that lacks by Harbor's sources.
//
// Start with [New] and serve what it gives, one for each test:
//
//	harbor := harbortest.New(harbortest.Options{Fail: func(s string) { t.Error(s) }})
//	server := httptest.NewServer(harbor)
//
// A request goes through serve.go: faults ([Server.Inject]), session and
// cookies, who it is (auth.go), read-only mode, the operation (router.go), its
// shape (shapes.go), and the handler. There is one file for each group of
// endpoints; each has a function that lists its handlers. Below /v2/ content
// can be pushed and pulled (distribution.go, token.go, blobs.go, manifests.go); what tests want to be there they
// push by a method (content.go).
//
// Only tests and programs below testdata import it.
package harbortest

import (
	"regexp"
	"sync"
	"time"
)

// Version is the Harbor this stands in for.
const Version = "v2.15.2-080b0220"

// Options say what a stand-in is like. The zero value is a Harbor just
// installed, whose remotes are all healthy.
type Options struct {
	// Version is the Harbor's, as it names itself, such as v2.12.4-0000000; the
	// package's if empty.
	Version string
	// Address is the URL Harbor believes to be reached at;
	// http://127.0.0.1:8080 if empty.
	Address string
	// Password is that of admin; Harbor12345 if empty.
	Password string
	// FirstID is added to every id but those of what Harbor is installed
	// with, so that a test which knows ids by heart fails.
	FirstID int64
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Remotes says how what Harbor itself connects to is doing; all is
	// healthy if nil. It is called during requests and must not make any.
	Remotes func(Remote) Health
	// Latency is how long a request waits before it is worked on; not at all
	// if nil. Status is not known yet.
	Latency func(Request) time.Duration
	// Fail is told of every request that Harbor's API description does not
	// know: path, method, query or a field of the body. It is answered as
	// Harbor would, which ignores what it does not know. Called from the
	// goroutine that serves; nobody is told if nil.
	Fail func(string)
}

// Remote is something a Harbor connects to.
type Remote struct {
	// Kind is registry, scanner, audit (what takes its audit log), ldap or
	// preheat.
	Kind string
	// Type is the adapter of a registry, or the vendor of a preheat instance.
	Type string
	// URL is its address.
	URL string
	// Key and Secret are what Harbor logs in with, if anything.
	Key, Secret string
}

// Health is how a remote is doing.
type Health int

// The four of them.
const (
	Healthy     Health = iota
	Unhealthy          // it answers, and not as it should; a wrong password is one reason
	Unreachable        // nothing listens
	Refusing           // a registry that says 401 to whatever it is asked
)

// Server is one Harbor. It is safe for concurrent use.
type Server struct {
	options      Options
	shapes       shapes
	router       *router
	traffic      traffic
	faults       faults
	locks        locks
	contentPaths map[string]*regexp.Regexp // of what is below /v2/

	// mu guards all below; a request holds it while it is worked on.
	mu    sync.Mutex
	ids   map[string]int64
	rules map[string]string // the settings by key, as text
	login logins

	users    table[user]
	emails   map[string]int64 // the users by their email
	groups   table[group]
	projects table[project]
	quotas   table[quota]
	robots   table[robot]

	retentions table[retention]
	labels     table[label] // those of projects too
	schedules  table[schedule]
	runs       map[string][]*run // by what ran

	behind       backend
	blobs        map[string]bool // the table of the blobs that Harbor knows, by digest
	repositories table[repository]
	registries   table[registry]
	scanners     table[scanner] // by uuid
	instances    table[preheatInstance]
	cves         cveList // of the system
	replications table[replication]
}

// New is a Harbor as it is after its installation: the user admin and the
// public project library.
func New(options Options) *Server {
	if options.Version == "" {
		options.Version = Version
	}
	if options.Address == "" {
		options.Address = "http://127.0.0.1:8080"
	}
	if options.Password == "" {
		options.Password = "Harbor12345"
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Remotes == nil {
		options.Remotes = func(Remote) Health { return Healthy }
	}
	s := &Server{
		options:      options,
		shapes:       readShapes(),
		behind:       newBackend(),
		blobs:        map[string]bool{},
		contentPaths: paths(),
		ids:          map[string]int64{},
		rules:        map[string]string{},
		login:        newLogins(),
		emails:       map[string]int64{},
		runs:         map[string][]*run{},
	}
	s.install()
	s.router = newRouter(s.shapes, s.handlers())
	return s
}

// install makes what every Harbor has. Its ids are the same everywhere.
func (s *Server) install() {
	first := s.options.FirstID
	s.options.FirstID = 0
	s.installUsers()
	s.installProjects()
	s.installSchedules()
	s.options.FirstID = first
}

// handlers are those of all groups. An operation of the description that is
// in none is answered with 501 and told to Fail.
func (s *Server) handlers() []routes {
	return []routes{
		s.systemInfo(),
		s.configurations(),
		s.userAccounts(),
		s.projectOperations(),
		s.projectMetadata(),
		s.projectQuotas(),
		s.projectMembers(),
		s.userGroups(),
		s.robotAccounts(),
		s.permissions(),
		s.retentionPolicies(),
		s.immutableRules(),
		s.webhookPolicies(),
		s.labelOperations(),
		s.allSchedules(),
		s.repositoryOperations(),
		s.artifactOperations(),
		s.registryOperations(),
		s.replicationPolicies(),
		s.housekeeping(),
		s.scannerOperations(),
		s.systemCVEs(),
		s.preheat(),
		s.auditLog(),
	}
}

// next is the next id of a sequence. Like a database's, a sequence moves on
// when what the id was for fails.
func (s *Server) next(sequence string) int64 {
	if s.ids[sequence] < s.options.FirstID {
		s.ids[sequence] += s.options.FirstID
	}
	s.ids[sequence]++
	return s.ids[sequence]
}

// now is the time as Harbor's database keeps it.
func (s *Server) now() time.Time { return s.options.Now().UTC().Truncate(time.Microsecond) }
