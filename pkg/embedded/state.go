package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/ocisync/ocisync/pkg/access"
	"github.com/ocisync/ocisync/pkg/embedded/quota"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/pkg/webhook"
	"github.com/ocisync/ocisync/schema"
)

const (
	ownDir    = "ocisync"    // below the data directory
	stateFile = "state.json" // below ownDir

	stateFormat   = 1
	maxStateBytes = 64 << 20

	// OutsidePath is the path of the one value the registry's settings have:
	// an [access.Outside].
	OutsidePath = schema.OutsidePath
)

// document is state.json: all that the registry is told.
type document struct {
	Format int `json:"format"`
	// Revision grows by one with every write.
	Revision uint64 `json:"revision"`
	// Objects is sorted by key; each object's version is the revision that
	// changed it last. No object holds a secret.
	Objects []schema.Resource `json:"objects"`
	// Passwords holds a bcrypt hash by user name.
	Passwords map[string]string `json:"passwords"`
	// Secrets names, by the object's key, its entry in secrets.json.
	Secrets map[string]string `json:"secrets,omitempty"`
	values  map[string]string // the entries, by name
	// Robots holds the accounts of robots, by the object's key.
	Robots map[string][]RobotAccount `json:"robots,omitempty"`
	// Full holds the namespaces whose quota is used up, by the quota's key.
	Full map[string]Full `json:"full,omitempty"`
	// Moves are renames that nobody acknowledged, oldest first.
	Moves []move `json:"moves,omitempty"`
}

// loadDocument reads state.json and touches nothing. A data directory or file
// that is not there is a new registry.
func loadDocument(data string) (document, error) {
	for again := 3; ; again-- { // who holds no lock may see one file new and the other old
		doc, err := loadState(data)
		if err == nil {
			err = doc.loadSecrets(data)
		}
		if err == nil || again == 0 || !errors.Is(err, fs.ErrNotExist) {
			return doc, err
		}
	}
}

func loadState(data string) (document, error) {
	if err := regular.Private(data, ownDir); err != nil {
		return document{}, err
	}
	empty := document{Format: stateFormat, Passwords: map[string]string{}}
	name := filepath.Join(data, ownDir, stateFile)
	f, err := regular.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return document{}, fmt.Errorf("reading the embedded registry's state: %w; run ocisync as the user who owns %s", err, data)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateBytes+1))
	if err != nil {
		return document{}, fmt.Errorf("reading the embedded registry's state: %w", err)
	}
	doc, err := parseDocument(b)
	if err != nil {
		return document{}, fmt.Errorf("%s: %w", name, err)
	}
	return doc, nil
}

func parseDocument(b []byte) (document, error) {
	const restore = "restore it from a backup, or move it away and apply the mode again"
	if len(b) > maxStateBytes {
		return document{}, fmt.Errorf("larger than %d MiB; %s", maxStateBytes>>20, restore)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			err = fmt.Errorf("it holds JSON (%s), and not what ocisync writes there", wrong.Value)
		}
		return document{}, fmt.Errorf("%w; %s", err, restore)
	}
	if head.Format != stateFormat {
		return document{}, fmt.Errorf("format %d, and this ocisync reads format %d; use the ocisync that wrote it, or a newer one", head.Format, stateFormat)
	}
	var doc document
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return document{}, fmt.Errorf("%w; %s", err, restore)
	}
	if doc.Passwords == nil {
		doc.Passwords = map[string]string{}
	}
	st := schema.State{Resources: doc.Objects}
	problems := []error{st.Sort()}
	for i := range doc.Objects {
		o := &doc.Objects[i]
		problems = append(problems, CheckObject(*o))
		o.Spec = complete(o.Spec)
	}
	for _, user := range slices.Sorted(maps.Keys(doc.Passwords)) {
		if _, ok := st.Get(schema.Key{Kind: schema.KindUser, Name: user}); !ok {
			problems = append(problems, fmt.Errorf("a password stands for user %q, who does not exist", user))
		}
		if err := checkHash(doc.Passwords[user]); err != nil {
			problems = append(problems, fmt.Errorf("user/%s: %w", user, err))
		}
	}
	for _, robot := range slices.Sorted(maps.Keys(doc.Robots)) {
		for _, a := range doc.Robots[robot] {
			for _, hash := range append([]string{a.Hash}, secretsOf(a.Former)...) {
				if err := checkHash(hash); err != nil && !isDigest(hash) {
					problems = append(problems, fmt.Errorf("%s: %w", robot, err))
				}
			}
		}
	}
	if err := errors.Join(problems...); err != nil {
		return document{}, fmt.Errorf("%w; %s", err, restore)
	}
	return doc, nil
}

// save replaces state.json at once or not at all, and makes it durable.
func (d document) save(data string) error {
	b, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return fmt.Errorf("writing the embedded registry's state: %w", err)
	}
	if len(b) > maxStateBytes {
		return fmt.Errorf("writing the embedded registry's state: it would be larger than %d MiB; declare fewer objects", maxStateBytes>>20)
	}
	if err := regular.Replace(filepath.Join(data, ownDir), stateFile, append(b, '\n')); err != nil {
		return fmt.Errorf("writing the embedded registry's state: %w; %s", err, remedy(err, data))
	}
	return nil
}

// made opens a file, and makes it where there is none.
func made(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := touch(path); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, flags, 0)
	}
	return f, err
}

// touch makes an empty file where there is none, the directory's owner's.
func touch(path string) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	return regular.Touch(root, filepath.Base(path))
}

// mkdir makes a directory where there is none, as its parent's owner's.
func mkdir(path string) error {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	return regular.Mkdir(root, filepath.Base(path))
}

// noRoom reports whether an error says that a disk is full.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// remedy says what to do about a failure of the data directory.
func remedy(err error, data string) string {
	switch {
	case noRoom(err):
		return "make room on the disk of " + data
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "run ocisync as the user who owns " + data + ", or name another directory in run.data"
	}
	return "check the directory " + data + " named by run.data"
}

// snapshot is the document as the running registry uses it; immutable but for
// the passwords it remembers.
type snapshot struct {
	doc      document
	rules    *access.Rules
	accounts map[string]*account
	policies map[string]policy         // by namespace
	names    string                    // of all namespaces, and never ""
	audit    *schema.Audit             // nil where none is declared
	hooks    map[string][]webhook.Hook // by namespace
	robots   map[string]*robotLogin    // by login name
	former   int                       // the most hashes of former secrets that an account of a robot has
}

func (s *snapshot) view() quota.View { return quota.View{Names: s.names, Rules: s.rules} }

// compile prepares a document. Accounts that did not change keep what they
// remember; those that did forget it.
func compile(doc document, fallback access.Outside, before *snapshot) *snapshot {
	s := &snapshot{
		doc: doc, accounts: map[string]*account{}, policies: policies(doc.Objects),
		hooks: map[string][]webhook.Hook{}, robots: map[string]*robotLogin{},
	}
	outside := fallback
	s.names = "\n"
	for _, o := range doc.Objects {
		switch spec := o.Spec.(type) {
		case *schema.Settings:
			if v, ok := outsideOf(spec); ok {
				outside = v
			}
		case *schema.Namespace:
			s.names += o.Key.Name + "\n"
		case *schema.Robot:
			s.logins(o, spec, before)
		case *schema.Webhook:
			ns, _ := o.Key.Namespace()
			s.hooks[ns.Name] = append(s.hooks[ns.Name], webhook.Hook{Name: o.Key.Name, Spec: spec, Secret: doc.values[doc.Secrets[o.Key.String()]]})
		case *schema.Audit:
			s.audit = spec
		case *schema.User:
			hash := doc.Passwords[o.Key.Name]
			a := &account{version: o.Version, hash: []byte(hash), secret: hash}
			if before != nil {
				if b := before.accounts[o.Key.Name]; b != nil && b.version == a.version && bytes.Equal(b.hash, a.hash) {
					a = b
				}
			}
			s.accounts[o.Key.Name] = a
		}
	}
	s.rules = access.Compile(schema.State{Resources: doc.Objects}, outside).Withhold(doc.fullNamespaces())
	return s
}

// live returns the objects of the kinds, all where none are named, as a
// provider reads them.
func (d document) live(kinds []schema.Kind) Live {
	l := Live{Revision: d.Revision, Objects: []schema.Resource{}}
	for _, o := range d.Objects {
		if len(kinds) > 0 && !slices.Contains(kinds, o.Key.Kind) {
			continue
		}
		if _, ok := d.Passwords[o.Key.Name]; ok && o.Key.Kind == schema.KindUser {
			o.Unread = []string{"password"}
		}
		if _, ok := d.Secrets[o.Key.String()]; ok {
			o.Unread = []string{"auth"}
		}
		if len(d.Robots[o.Key.String()]) > 0 {
			o.Unread = []string{"secret.value"}
		}
		l.Objects = append(l.Objects, o)
	}
	for _, m := range d.Moves {
		if len(kinds) == 0 || slices.Contains(kinds, m.From.Kind) || m.From.Kind == schema.KindNamespace {
			l.Renamed = append(l.Renamed, schema.Renaming{From: m.From, To: m.To})
		}
	}
	if len(kinds) == 0 || slices.Contains(kinds, schema.KindRobot) {
		l.Robots = d.robots()
	}
	if len(kinds) == 0 || slices.Contains(kinds, schema.KindQuota) {
		l.Full = d.Full
	}
	return l
}

// Live is what a registry says it is.
type Live struct {
	Revision uint64 `json:"revision"`
	// Objects is sorted by key. Users with a password list it as unread.
	Objects []schema.Resource `json:"objects"`
	// Renamed lists the renames that nobody acknowledged, oldest first: those of
	// these kinds, and of namespaces, below which others have their names.
	Renamed []schema.Renaming `json:"renamed,omitempty"`
	// Robots are the accounts of the robots among them.
	Robots []RobotStatus `json:"robots,omitempty"`
	// Full are the quotas among them that are used up, by key.
	Full map[string]Full `json:"full,omitempty"`
}

// outsideOf returns the policy that settings hold; "" with ok is one that is
// no text.
func outsideOf(spec *schema.Settings) (o access.Outside, ok bool) {
	for _, v := range spec.Values {
		if v.Path == OutsidePath {
			s, err := strconv.Unquote(v.JSON)
			if err != nil {
				return "", true
			}
			return access.Outside(s), true
		}
	}
	return "", false
}
