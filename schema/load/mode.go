// Package load turns a mode's TOML files into a [schema.Config], or into a
// list of everything that is wrong with them, each with its place and remedy.
//
// Start with [Mode]. Its stages, of which each runs even if the one before
// found problems: read and bound the files; [Parse] each into a [Tree]; merge
// the trees; lay the blocks over their defaults; check keys, rules and
// references on the tree; ask CUE about each distinct object; decode. CUE only
// rejects: what is decoded is the tree. What CUE's definitions allow is read
// from them by define.go, for messages, documentation and editors.
//
// The package reads files and changes none. Nothing in it is shared between
// calls.
package load

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/ocisync/ocisync/pkg/regular"
	"github.com/ocisync/ocisync/schema"
)

// Bounds of one mode.
const (
	maxFiles = 1000
	maxTotal = 16 << 20
)

// common is the directory whose files belong to every mode.
const common = "common"

// Modes lists the modes below root, the directory that holds their
// directories: sorted, without common. A link to a directory is listed, so that
// [Mode] can refuse it.
func Modes(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("modes directory: %w; name the directory that holds one directory for each mode", err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() == common || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if e.IsDir() || e.Type()&fs.ModeSymlink != 0 && leadsToDirectory(filepath.Join(root, e.Name())) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func leadsToDirectory(link string) bool {
	info, err := os.Stat(link)
	return err == nil && info.IsDir()
}

// OwnDirectory fails if a mode is a link: it could lead anywhere, and paths in
// its files would mean two things.
func OwnDirectory(root, name string) error {
	dir := filepath.Join(root, name)
	if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a link, and a mode is a directory of its own; put the directory itself there", dir)
	}
	return nil
}

// Mode loads root/<name>/*.toml together with root/common/*.toml. A problem
// with what the files say is returned as [Errors], all of them at once; an
// unknown mode as an error that lists the modes there are.
func Mode(root, name string) (*schema.Config, error) { return ModeWith(root, name, "", nil) }

// ModeWith loads a mode as it would be with one more file, in the place of one of
// that name; "" is no file.
func ModeWith(root, name, file string, data []byte) (*schema.Config, error) {
	c, tree, err := openMode(root, name, file, data)
	if err != nil {
		return nil, err
	}
	if c.exceeded {
		return nil, c.err()
	}
	cfg := c.mode(tree)
	cfg.Mode = name
	if err := c.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// openMode reads a mode's files into one tree and a checker for it. Where they
// exceed a bound, the checker says so and there is no tree. more is the content of
// one more file, unless that has no name.
func openMode(root, name, moreFile string, more []byte) (*checker, *Node, error) {
	modes, err := Modes(root)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(modes, name) {
		text := "there are none; ocisync init makes the first"
		if len(modes) > 0 {
			text = "the modes are " + strings.Join(modes, ", ")
			if s := suggest(name, modes); s != "" {
				text = fmt.Sprintf("did you mean %q? %s", s, text)
			}
		}
		return nil, nil, fmt.Errorf("no mode %q in %s; %s", name, root, text)
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, nil, err
	}
	c, err := newChecker()
	if err != nil {
		return nil, nil, err
	}
	c.dir, c.inMode = filepath.Dir(abs), true
	var trees []*Tree
	var p parser
	total := 0
	for _, dir := range []string{name, common} {
		if err := OwnDirectory(root, dir); err != nil {
			return nil, nil, err
		}
		files, err := modeFiles(filepath.Join(root, dir))
		if err != nil && (dir != common || !errors.Is(err, fs.ErrNotExist)) {
			return nil, nil, err
		}
		added := dir == name && moreFile != ""
		if added && !slices.Contains(files, moreFile) {
			files = append(files, moreFile)
		}
		for _, f := range files {
			shown := filepath.ToSlash(filepath.Join(root, dir, f))
			data := more
			if !added || f != moreFile {
				if data, err = readBounded(c.dir, filepath.Join(abs, dir, f), shown); err != nil {
					return nil, nil, err
				}
			}
			if total += len(data); total > maxTotal || len(trees) >= maxFiles {
				c.exceeded = true
				c.problems = append(c.problems, Problem{Position: schema.Position{File: shown},
					What: fmt.Sprintf("with this file the mode is larger than %d MiB or %d files", maxTotal>>20, maxFiles), Want: "split it into several modes"})
				return c, nil, nil
			}
			t := newTree(shown, data)
			p = parser{tree: t, tables: p.tables, nodes: p.nodes}
			p.run()
			c.problems = append(c.problems, p.problems...)
			if p.exceeded {
				c.exceeded = true
				return c, nil, nil
			}
			t.dir = path.Join(filepath.Base(abs), dir)
			trees = append(trees, t)
		}
		if dir == name && len(files) == 0 {
			return nil, nil, fmt.Errorf("mode %q has no *.toml file in %s; ocisync init writes a first one", name, filepath.Join(root, dir))
		}
	}
	return c, c.merge(trees), nil
}

func newChecker() (*checker, error) {
	defs, err := define()
	if err != nil {
		return nil, err
	}
	j, err := newJudge(defs)
	if err != nil {
		return nil, err
	}
	return &checker{defs: defs, judge: j, names: map[string]*names{}, checked: map[string]bool{}, outside: map[string]bool{}}, nil
}

func modeFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, Unreadable(dir, err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil // ReadDir sorts
}

// readBounded reads a regular file, once it is known to lie inside dir.
func readBounded(dir, file, shown string) ([]byte, error) {
	target, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, Unreadable(shown, err)
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, Unreadable(shown, err)
	}
	rel, err := filepath.Rel(realDir, target)
	if err != nil || !filepath.IsLocal(rel) {
		return nil, fmt.Errorf("%s: the link leads out of %s; put the file itself there", shown, dir)
	}
	root, err := os.OpenRoot(realDir)
	if err != nil {
		return nil, Unreadable(shown, err)
	}
	defer root.Close()
	f, err := regular.OpenIn(root, rel)
	if err != nil {
		return nil, Unreadable(shown, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1)) // what is larger, bounds.go says
	if err != nil {
		return nil, Unreadable(shown, err)
	}
	return data, nil
}

// Unreadable says of a file why it cannot be read, and what to do; the error
// is one of package os or path/filepath.
func Unreadable(shown string, err error) error {
	var why, remedy string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why, remedy = "there is no such file", "name one that is there"
		if info, lerr := os.Lstat(shown); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			why, remedy = "the link leads to nothing", "remove it, or put the file itself there"
		}
	case errors.Is(err, syscall.ELOOP) || strings.Contains(err.Error(), "too many links"):
		why, remedy = "the links lead in a circle", "put the file itself there"
	case errors.Is(err, regular.ErrOther):
		why, remedy = "is not a regular file", "remove it or give it another name"
	case errors.Is(err, regular.ErrLarge):
		why, remedy = err.Error(), "name another file"
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
			why = pe.Err.Error() // the path is said already
		}
	case errors.Is(err, fs.ErrPermission):
		why, remedy = "this user may not read it", "run chmod u+r on it, or run as its owner"
	case errors.Is(err, syscall.EISDIR):
		why, remedy = "this is a directory", "name a file"
	default:
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err // the path is said already
		}
		return fmt.Errorf("%s: cannot be read: %w", shown, err)
	}
	return unreadable{fmt.Sprintf("%s: %s; %s", shown, why, remedy), err}
}

// unreadable keeps the cause for [errors.Is] and says it in other words.
type unreadable struct {
	text string
	err  error
}

func (u unreadable) Error() string { return u.text }
func (u unreadable) Unwrap() error { return u.err }

// merge joins files into one tree: tables with each other, anything else
// stands once. version may stand in every file.
func (c *checker) merge(trees []*Tree) *Node {
	root := &Node{Kind: Table, form: merged}
	for _, t := range trees {
		if root.tree == nil {
			root.tree = t
		}
		c.mergeInto(root, t.Root, "")
	}
	return root
}

func (c *checker) mergeInto(into, from *Node, at string) {
	for _, f := range from.Fields {
		p := join(at, f.Key)
		old := into.Get(f.Key)
		switch {
		case old == nil:
			into.add(f)
		case old.open() && f.open():
			if old.form != merged {
				copied := *old
				copied.form = merged
				copied.Fields, copied.index = nil, nil
				for _, x := range old.Fields {
					copied.add(x)
				}
				into.set(&copied)
				old = &copied
			}
			if old.Range == old.KeyRange && f.form == header { // named on the way only: the header is the better place
				old.tree, old.Range, old.KeyRange = f.tree, f.Range, f.KeyRange
			}
			c.mergeInto(old, f, p)
		case p == "version":
			c.version(f) // any file may say it
		default:
			problem := f.tree.problem(f.KeyRange.Start, p, "stands in two files", "remove one of the two")
			problem.Also = old.KeyPosition()
			c.problems = append(c.problems, problem)
		}
	}
}

// set replaces the field of the same key, which exists.
func (n *Node) set(f *Node) {
	if n.index != nil {
		n.Fields[n.index[f.Key]] = f
		return
	}
	for i, x := range n.Fields {
		if x.Key == f.Key {
			n.Fields[i] = f
			return
		}
	}
}
