package secret

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"github.com/ocisync/ocisync/schema"
)

// defaultDeliver is where secrets go unless the host file says otherwise.
const defaultDeliver = "/run/ocisync"

// maxDockerConfig bounds a Docker client's configuration.
const maxDockerConfig = 1 << 20

// login is the form of a delivered file: one JSON object, so that login name
// and secret change together.
type login struct {
	Registry string `json:"registry"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// Deliver takes a login for a registry to where a mode says, replacing what
// was delivered there before. Files are written 0600, whole or not at all,
// below the directories that the host file lists, and through no link: a plain
// one as a JSON object of registry, username and password. A command gets the secret on its standard input, and the rest as
// OCISYNC_REGISTRY and OCISYNC_USERNAME in its environment.
func (r *Resolver) Deliver(ctx context.Context, d schema.Delivery, user, secret, registryHost string) error {
	if err := r.deliver(ctx, d, login{registryHost, user, secret}); err != nil {
		return fmt.Errorf("delivering the secret of %q: %w", user, err)
	}
	return nil
}

func (r *Resolver) deliver(ctx context.Context, d schema.Delivery, l login) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.Password == "" || l.Username == "" || l.Registry == "" {
		return errors.New("a delivery takes a registry, a name and a secret")
	}
	switch {
	case d.File != "" && d.DockerConfig == "" && d.Command == "":
		return r.deliverFile(d.File, func([]byte) ([]byte, error) {
			b, err := json.Marshal(l) //nolint:gosec // to deliver the password is the purpose
			return append(b, '\n'), err
		})
	case d.DockerConfig != "" && d.File == "" && d.Command == "":
		return r.deliverFile(d.DockerConfig, func(have []byte) ([]byte, error) { return mergeDocker(have, l) })
	case d.Command != "" && d.File == "" && d.DockerConfig == "":
		if err := r.deliverBy(ctx, d.Command, d.Args, l); err != nil {
			return fmt.Errorf("command %s: %w", d.Command, err)
		}
		return nil
	}
	return errors.New("a delivery names exactly one of file, docker_config and command")
}

// deliverBy runs a command when none runs any more that delivers to the same place:
// one whose ocisync was killed goes on, and would put an older secret there after.
func (r *Resolver) deliverBy(ctx context.Context, name string, args []string, l login) (err error) {
	turn, err := r.turn(ctx, name, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, turn.end()) }()
	env := []string{"OCISYNC_REGISTRY=" + l.Registry, "OCISYNC_USERNAME=" + l.Username}
	_, err = r.run(ctx, invocation{name: name, args: args, env: env, stdin: l.Password, keeps: turn.f})
	return err
}

// Delivered reads back the login for a registry that Deliver took to a file or into a
// Docker client's configuration; "" is one that is not there. Of what a command took
// nothing is known: [errors.ErrUnsupported].
func (r *Resolver) Delivered(d schema.Delivery, registryHost string) (user, secret string, err error) {
	path := d.File
	if path == "" {
		path = d.DockerConfig
	}
	if path == "" {
		return "", "", fmt.Errorf("what command %s took: %w", d.Command, errors.ErrUnsupported)
	}
	dir, rel, err := r.delivers(path)
	if err != nil {
		return "", "", err
	}
	have, err := readDelivered(dir, rel)
	if err != nil {
		return "", "", fmt.Errorf("file %s: %w", path, err)
	}
	l := login{Registry: registryHost}
	if d.File != "" {
		if json.Unmarshal(have, &l) != nil || l.Registry != registryHost {
			return "", "", nil //nolint:nilerr // what lies there is no login
		}
		return l.Username, l.Password, nil
	}
	var config struct {
		Auths map[string]struct {
			Auth []byte `json:"auth"`
		} `json:"auths"`
	}
	if json.Unmarshal(have, &config) != nil {
		return "", "", nil //nolint:nilerr // as above
	}
	user, secret, _ = strings.Cut(string(config.Auths[registryHost].Auth), ":")
	return user, secret, nil
}

// readDelivered reads a file below a directory through no link, nil if there is none.
func readDelivered(dir, rel string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	parts := strings.Split(filepath.ToSlash(rel), "/")
	for i := 0; err == nil && i < len(parts)-1; i++ {
		var inner *os.Root
		inner, err = existing(root, parts[i])
		_ = root.Close()
		root = inner
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return readOwn(root, parts[len(parts)-1])
}

// deliverFile rewrites a file below the host's directories.
func (r *Resolver) deliverFile(path string, renew func(have []byte) ([]byte, error)) error {
	dir, rel, err := r.delivers(path)
	if err != nil {
		return err
	}
	if err := writeBelow(dir, rel, renew); err != nil {
		return fmt.Errorf("file %s: %w", path, err)
	}
	return nil
}

// delivers is the directory of the host file that a file is below, and where there.
func (r *Resolver) delivers(path string) (dir, rel string, err error) {
	dirs := r.host.Secrets.Deliver
	if dirs == nil {
		dirs = []string{defaultDeliver}
	}
	for _, dir := range dirs {
		if rel, ok := below(dir, path); ok && filepath.IsAbs(path) {
			return dir, rel, nil
		}
	}
	return "", "", fmt.Errorf("file %s: it is not below %s; move it, or list its directory in secrets.deliver of the host file", path, orNone(dirs))
}

func writeBelow(dir, rel string, renew func(have []byte) ([]byte, error)) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	parts := strings.Split(filepath.ToSlash(rel), "/")
	for _, part := range parts[:len(parts)-1] {
		inner, err := enter(root, part)
		if err != nil {
			return err
		}
		_ = root.Close()
		root = inner
	}
	name := parts[len(parts)-1]
	have, err := readOwn(root, name)
	if err != nil {
		return err
	}
	data, err := renew(have)
	if err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(name, renameio.WithRoot(root),
		renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

var errLink = errors.New("a link is in the way, and links are not followed; remove it")

// enter opens a directory inside root, made if needed, that is no link. What
// was looked at and what was opened are compared, so that it cannot be
// exchanged in between.
func enter(root *os.Root, name string) (*os.Root, error) {
	if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return existing(root, name)
}

// existing opens a directory inside root as enter does, and makes none.
func existing(root *os.Root, name string) (*os.Root, error) {
	seen, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if seen.Mode()&fs.ModeSymlink != 0 {
		return nil, errLink
	}
	inner, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	opened, err := inner.Stat(".")
	if err == nil && !os.SameFile(seen, opened) {
		err = errLink
	}
	if err != nil {
		_ = inner.Close()
		return nil, err
	}
	return inner, nil
}

// readOwn reads a regular file inside root, nil if there is none.
func readOwn(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, errLink
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file; remove it")
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if opened, err := f.Stat(); err != nil {
		return nil, err
	} else if !os.SameFile(info, opened) {
		return nil, errLink
	}
	b, err := io.ReadAll(io.LimitReader(f, maxDockerConfig+1))
	if err == nil && len(b) > maxDockerConfig {
		err = fmt.Errorf("it is larger than %d KiB, and no config.json of Docker; move it away", maxDockerConfig>>10)
	}
	return b, err
}

// mergeDocker sets one registry's login in a Docker client's config.json and
// keeps all else.
func mergeDocker(have []byte, l login) ([]byte, error) {
	config := map[string]json.RawMessage{}
	auths := map[string]json.RawMessage{}
	helpers := map[string]string{}
	store := ""
	if len(strings.TrimSpace(string(have))) > 0 {
		bad := errors.New("what is there is not a Docker client's config.json; move it away")
		if json.Unmarshal(have, &config) != nil || config == nil {
			return nil, bad
		}
		for _, err := range []error{
			optional(config["auths"], &auths),
			optional(config["credHelpers"], &helpers),
			optional(config["credsStore"], &store),
		} {
			if err != nil {
				return nil, bad // its text could hold a login
			}
		}
	}
	if helper := helpers[l.Registry]; helper != "" || store != "" {
		return nil, errors.New("it uses a credential helper, so that Docker would not look at a login in it; deliver to a config.json of its own")
	}
	auth := base64.StdEncoding.EncodeToString([]byte(l.Username + ":" + l.Password))
	entry, err := json.Marshal(map[string]string{"auth": auth})
	if err != nil {
		return nil, err
	}
	if auths == nil {
		auths = map[string]json.RawMessage{}
	}
	auths[l.Registry] = entry
	if config["auths"], err = json.Marshal(auths); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(config, "", "\t")
	return append(b, '\n'), err
}

func optional[T any](raw json.RawMessage, into *T) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}
