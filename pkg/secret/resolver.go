package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

const (
	// maxSecret bounds a secret, wherever it comes from.
	maxSecret = 64 << 10
	// maxFile bounds the files that lead to one.
	maxFile = 1 << 20

	envPrefix   = "OCISYNC_"
	defaultDir  = "/run/secrets"
	credentials = "CREDENTIALS_DIRECTORY" // systemd.exec(5), LoadCredential
)

// Resolver resolves references by the rules of one host file, each at most
// once: make one per run. Its methods may be called from several goroutines.
type Resolver struct {
	host   schema.Host
	lookup func(string) (string, bool)
	tree   string

	mu    sync.Mutex
	found map[string]*entry
}

type entry struct {
	mu    sync.Mutex // held while resolving
	done  bool
	value Value
	err   error
}

// New makes a resolver. lookup reads the environment, as os.LookupEnv does;
// tree is the directory that holds the modes, below which age files lie.
func New(host schema.Host, lookup func(string) (string, bool), tree string) *Resolver {
	return &Resolver{host: host, lookup: lookup, tree: tree, found: map[string]*entry{}}
}

// Resolve returns the secret that a reference stands for. It may run a command
// of the host file or decrypt, once for each reference. An empty secret is an
// error.
func (r *Resolver) Resolve(ctx context.Context, ref schema.SecretRef) (string, error) {
	id := strings.Join(append([]string{ref.Env, ref.File, ref.Age, ref.Command}, ref.Args...), "\x00")
	r.mu.Lock()
	e := r.found[id]
	if e == nil {
		e = &entry{}
		r.found[id] = e
	}
	r.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done {
		return e.value.Reveal(), e.err
	}
	value, err := r.resolve(ctx, ref)
	if err != nil {
		value, err = "", fmt.Errorf("secret from %s: %w", ref, err)
		if ctx.Err() != nil {
			return "", err // says nothing about the secret
		}
	}
	e.done, e.value, e.err = true, NewValue(value), err
	return value, err
}

// AtHand returns a secret that is in the environment or a file. ok is false,
// without an error, if it is not there, cannot be read by this user, or would
// take a command or a decryption. An error means that it never can be had: the
// host file does not allow the reference, or the secret is unusable.
func (r *Resolver) AtHand(ctx context.Context, ref schema.SecretRef) (value string, ok bool, err error) {
	if ref.Age != "" || ref.Command != "" {
		return "", false, ref.Check()
	}
	value, err = r.Resolve(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", false, nil
	}
	return value, err == nil, err
}

func (r *Resolver) resolve(ctx context.Context, ref schema.SecretRef) (string, error) {
	if err := ref.Check(); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	var value string
	var err error
	switch {
	case ref.Env != "":
		value, err = r.env(ref.Env)
	case ref.File != "":
		value, err = r.file(ref.File)
	case ref.Age != "":
		value, err = r.age(ref.Age)
	default:
		value, err = r.command(ctx, ref.Command, ref.Args)
	}
	switch {
	case err != nil:
		return "", err
	case value == "":
		return "", errors.New("it is empty; put the secret there")
	case len(value) > maxSecret:
		return "", fmt.Errorf("it is larger than %d KiB; a secret is shorter: put it there alone", maxSecret>>10)
	}
	return value, nil
}

// missing is an error that is fs.ErrNotExist.
func missing(text string) error { return &absent{text} }

type absent struct{ text string }

func (e *absent) Error() string { return e.text }
func (e *absent) Unwrap() error { return fs.ErrNotExist }

func (r *Resolver) env(name string) (string, error) {
	if !strings.HasPrefix(name, envPrefix) && !slices.Contains(r.host.Secrets.Env, name) {
		return "", fmt.Errorf("its name does not begin with %s; rename it, or list it in secrets.env of the host file", envPrefix)
	}
	value, ok := r.lookup(name)
	if !ok {
		return "", missing("it is not set; set it")
	}
	return value, nil
}

// dirs lists the directories for file references.
func (r *Resolver) dirs() []string {
	if r.host.Secrets.Dirs != nil {
		return r.host.Secrets.Dirs
	}
	dirs := []string{defaultDir}
	if d, ok := r.lookup(credentials); ok && filepath.IsAbs(d) {
		dirs = append(dirs, d)
	}
	return dirs
}

// file reads an absolute path below one of the directories, or a relative one
// in the first of them that has it.
func (r *Resolver) file(path string) (string, error) {
	dirs := r.dirs()
	var inside bool
	var last error
	for _, dir := range dirs {
		rel, ok := below(dir, path)
		if !ok {
			continue
		}
		inside = true
		b, err := readBelow(dir, rel, maxSecret+2) // and a newline
		if err == nil {
			return trimNewline(string(b)), nil
		}
		if last == nil || errors.Is(last, fs.ErrNotExist) {
			last = err
		}
	}
	if !inside {
		return "", fmt.Errorf("it is not below %s; move it, or list its directory in secrets.dirs of the host file", orNone(dirs))
	}
	if errors.Is(last, fs.ErrNotExist) {
		return "", missing("there is no such file below " + orNone(dirs) + "; put it there")
	}
	if errors.Is(last, regular.ErrLarge) {
		return "", fmt.Errorf("it is larger than %d KiB; a secret is shorter: put it there alone", maxSecret>>10)
	}
	if errors.Is(last, fs.ErrPermission) {
		return "", fmt.Errorf("%w; let this user read it", last)
	}
	return "", fmt.Errorf("%w; put a regular file there, no link that leaves the directory", last)
}

func orNone(dirs []string) string {
	if len(dirs) == 0 {
		return "any directory (the host file lists none)"
	}
	return strings.Join(dirs, " or ")
}

// below returns path relative to dir if it lies, by its text, below it.
func below(dir, path string) (rel string, ok bool) {
	if !filepath.IsAbs(dir) {
		return "", false
	}
	if filepath.IsAbs(path) {
		var err error
		if path, err = filepath.Rel(dir, path); err != nil {
			return "", false
		}
	}
	path = filepath.Clean(path)
	return path, path != "." && filepath.IsLocal(path)
}

// readBelow reads a regular file in a directory that no link may leave.
func readBelow(dir, rel string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return regular.ReadIn(root, rel, limit)
}

// trimNewline takes one newline off the end.
func trimNewline(s string) string {
	if t, ok := strings.CutSuffix(s, "\n"); ok {
		return strings.TrimSuffix(t, "\r")
	}
	return s
}

// age decrypts a file of the mode's tree with the host file's identities.
func (r *Resolver) age(path string) (string, error) {
	if r.host.Secrets.Age == "" {
		return "", errors.New("the host file names no identity; set secrets.age there to an age identity file")
	}
	rel, ok := below(r.tree, path)
	if !ok {
		return "", errors.New("it is not below the directory that holds the modes; move it there")
	}
	sealed, err := readBelow(r.tree, rel, maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", missing("there is no such file in the tree of the modes; make it with age -r, and commit it")
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w; let this user read it", err)
	case errors.Is(err, regular.ErrLarge):
		return "", fmt.Errorf("its file is larger than %d KiB, and no secret is; encrypt the secret alone", maxFile>>10)
	case err != nil:
		return "", fmt.Errorf("%w; put a regular file there, no link that leaves the tree", err)
	}
	keys, err := regular.Read(r.host.Secrets.Age, maxFile)
	if err != nil {
		return "", fmt.Errorf("reading the identity file that secrets.age of the host file names: %w; name there a file that this user may read", err)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(keys))
	if err != nil { // its text may hold a line of the file
		return "", errors.New("the file that secrets.age of the host file names is not an age identity file")
	}
	var in io.Reader = strings.NewReader(string(sealed))
	if strings.HasPrefix(string(sealed), armor.Header) {
		in = armor.NewReader(in)
	}
	plain, err := age.Decrypt(in, identities...)
	if err != nil {
		return "", errors.New("it cannot be decrypted; encrypt it to the host's identity (secrets.age in the host file) with age -r")
	}
	b, err := io.ReadAll(io.LimitReader(plain, maxSecret+3))
	if err != nil {
		return "", errors.New("it is damaged; encrypt it again")
	}
	return trimNewline(string(b)), nil
}
