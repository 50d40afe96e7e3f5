// Package watch follows where modes come from. Start with [Revision], which
// names the state of the git checkout that a mode was read from.
package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/ocisync/ocisync/pkg/regular"
)

// Dirty is appended to a revision when the files read are not those of the
// commit.
const Dirty = "+changed"

// maxFile bounds a file that is compared with the commit, in bytes.
const maxFile = 16 << 20

// Revision is the commit that the files stand at, in the git checkout that
// holds dir, with [Dirty] if one of them differs from the commit. It is "" for
// a directory that is in no checkout, and in one without commits. The files
// are absolute paths, links resolved.
func Revision(dir string, files []string) (string, error) {
	repo, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("git checkout of %s: %w", dir, err)
	}
	head, err := repo.Head()
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("git checkout of %s: %w", dir, err)
	}
	commit, err := repo.CommitObject(head.Hash())
	if err != nil {
		return "", fmt.Errorf("git commit %s: %w", head.Hash(), err)
	}
	tree, err := commit.Tree()
	if err != nil {
		return "", fmt.Errorf("git commit %s: %w", head.Hash(), err)
	}
	work, err := repo.Worktree()
	if err != nil {
		return "", fmt.Errorf("git checkout of %s: %w", dir, err)
	}
	for _, f := range files {
		same, err := committed(tree, work.Filesystem.Root(), f)
		if err != nil {
			return "", err
		}
		if !same {
			return head.Hash().String() + Dirty, nil
		}
	}
	return head.Hash().String(), nil
}

// committed reports whether a file is as the tree has it.
func committed(tree *object.Tree, root, file string) (bool, error) {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return false, err
	}
	rel, err := filepath.Rel(root, file)
	if err != nil || !filepath.IsLocal(rel) {
		return false, nil //nolint:nilerr // what has no place below the root is not in the tree
	}
	entry, err := tree.FindEntry(filepath.ToSlash(rel))
	if errors.Is(err, object.ErrEntryNotFound) || errors.Is(err, object.ErrDirectoryNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("git tree: %s: %w", rel, err)
	}
	b, err := regular.Read(file, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return plumbing.ComputeHash(plumbing.BlobObject, b) == entry.Hash, nil
}
