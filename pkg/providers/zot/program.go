package zot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/files"
	"github.com/ocisync/ocisync/schema"
)

// verify asks the registry's program, where the mode names it, whether it would
// start with a configuration: a reload tells no more than that it did not.
func (p *Provider) verify(ctx context.Context, text []byte) (err error) {
	if p.program() == "" || text == nil {
		return nil
	}
	name := p.paths.config
	if cut, err := files.Unfinished(name); err != nil || cut || !files.Equal(text, readOr(name)) { // where there is room for no second file, one that is the same will do
		dir := filepath.Dir(p.paths.own)
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) { // before its first start
			if dir, err = os.MkdirTemp("", "ocisync-"); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.Remove(dir)) }()
		}
		name = filepath.Join(dir, "verify.json")
		if err := renameio.WriteFile(name, text, 0o600); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.Remove(name)) }()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.registry.Run.Binary, "verify", name)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s does not take it, and nothing was written: %s", providers.ErrInvalid, p.registry.Run.Binary, complaint(out))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errProgram, err)
	}
	return nil
}

// errProgram is that Zot's program cannot be run, whatever its configuration.
var errProgram = errors.New("registry.run.binary does not run; name Zot's program there, for this machine and executable")

// version is that of Zot: as the tag of its image has it, as its log says, or by
// its program, of which 2.1.6 has no schema to print, and later ones have. "" is
// not known.
func (p *Provider) version(ctx context.Context, s *site) string {
	if p.registry.Run != nil {
		image, _, _ := strings.Cut(p.registry.Run.Image, "@")
		if tag := image[strings.LastIndexAny(image, ":/")+1:]; strings.Contains(image, ":"+tag) {
			return strings.TrimPrefix(tag, "v")
		}
	}
	if r := p.logged(ctx, s); r != nil && r.release != "" {
		return strings.TrimPrefix(r.release, "v")
	}
	if p.program() == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program(), "schema")
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if errors.As(err, new(*exec.ExitError)) && bytes.Contains(out, []byte("unknown command")) {
		return "2.1.6"
	}
	return ""
}

// program is Zot's, where the mode names it and it is a process; else "".
func (p *Provider) program() string {
	if p.registry.Run == nil || p.registry.Run.Driver != schema.DriverProcess {
		return ""
	}
	return p.registry.Run.Binary
}

// complaint is the first thing that Zot says is wrong.
func complaint(out []byte) string {
	said := string(bytes.TrimSpace(out))
	for line := range bytes.Lines(out) {
		if text, ok := bytes.CutPrefix(line, []byte("Error: ")); ok { // later versions
			said = string(text)
			break
		}
		var record struct {
			Error   string `json:"error"`
			Message string `json:"message"`
		}
		if json.Unmarshal(line, &record) == nil && record.Error != "" {
			said = strings.TrimPrefix(record.Message+": "+record.Error, ": ")
			break
		}
	}
	said = strings.Join(strings.Fields(said), " ")
	if len(said) > 500 {
		said = said[:500] + "..."
	}
	return said
}
