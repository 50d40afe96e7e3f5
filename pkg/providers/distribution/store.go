package distribution

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// contentDir is where Distribution keeps its content in a store.
const contentDir = "docker/registry/v2"

// everPushed are the directories that a store has once something was pushed.
func everPushed() []string { return []string{contentDir + "/repositories", contentDir + "/blobs"} }

// look looks at a store on this host, none for "", before it is collected: whether
// nothing was ever pushed there, which the program takes for a failure, and whether
// the program would wait for ever for what a pipe or a device has to say.
func (p *Provider) look(root string) (empty bool, err error) {
	if root == "" {
		return false, nil
	}
	for _, dir := range everPushed() {
		if _, err := os.Stat(filepath.Join(root, dir)); errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
	}
	remedy := "see that this user may read it, and run it again"
	err = filepath.WalkDir(filepath.Join(root, contentDir), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // the registry removed it meanwhile
			return nil
		} else if err != nil {
			return err
		}
		mode := e.Type()
		if mode == fs.ModeSymlink {
			info, err := os.Stat(path)
			if errors.Is(err, fs.ErrNotExist) { // it leads nowhere, and nobody waits there
				return nil
			} else if err != nil {
				return err
			}
			mode = info.Mode().Type()
		}
		if mode != 0 && mode != fs.ModeDir {
			remedy = "remove it, and run it again"
			return fmt.Errorf("%s among its content is neither a file nor a directory, and whoever reads it could wait for ever", path)
		}
		return nil
	})
	if err != nil {
		return false, p.jobError(jobGC, err, remedy)
	}
	return false, nil
}
