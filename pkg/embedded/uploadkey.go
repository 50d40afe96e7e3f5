package embedded

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocisync/ocisync/pkg/regular"
)

const (
	uploadKeyFile = "uploads.key" // below ownDir
	minUploadKey  = 32            // characters
)

// uploadKey reads what signs the state of unfinished uploads, which clients
// carry along, or makes it. It outlives the process, so that they can go on with
// another. The caller has the lock.
func uploadKey(data string) (string, error) {
	dir := filepath.Join(data, ownDir)
	b, err := os.ReadFile(filepath.Join(dir, uploadKeyFile))
	key := strings.TrimSpace(string(b))
	if err == nil && len(key) >= minUploadKey {
		return key, nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) { // of one that is damaged nothing is lost but uploads under way
		key = rand.Text() + rand.Text()
		err = regular.Replace(dir, uploadKeyFile, []byte(key+"\n"))
	}
	if err != nil {
		return "", fmt.Errorf("the key that signs uploads: %w; %s", err, remedy(err, data))
	}
	return key, nil
}

// tokenKey is what signs tokens, made of the key that signs uploads: it outlives
// the process too, so that a client goes on with what it was given.
func tokenKey(uploads string) []byte {
	m := hmac.New(sha256.New, []byte(uploads))
	m.Write([]byte("tokens"))
	return m.Sum(nil)
}
