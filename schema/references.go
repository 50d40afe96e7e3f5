package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// SecretRef says where a secret is found. It never holds the secret. Exactly
// one of Env, File, Age and Command is set.
type SecretRef struct {
	Env     string   `json:"env,omitempty"`     // name of an environment variable
	File    string   `json:"file,omitempty"`    // path below a directory the host file lists
	Age     string   `json:"age,omitempty"`     // path of an age-encrypted file of the mode's tree
	Command string   `json:"command,omitempty"` // name of a command the host file defines
	Args    []string `json:"args,omitempty"`    // its further arguments
}

// Check reports whether exactly one source is named.
func (r SecretRef) Check() error {
	n := 0
	for _, s := range []string{r.Env, r.File, r.Age, r.Command} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		return errors.New("a secret reference names exactly one of env, file, age and command")
	}
	if len(r.Args) > 0 && r.Command == "" {
		return errors.New("args goes with command")
	}
	return nil
}

// String names the source, for messages: "env OCISYNC_PASSWORD".
func (r SecretRef) String() string {
	switch {
	case r.Env != "":
		return "env " + r.Env
	case r.File != "":
		return "file " + r.File
	case r.Age != "":
		return "age " + r.Age
	}
	return strings.Join(append([]string{"command", r.Command}, r.Args...), " ")
}

// Delivery says where a generated secret is taken: exactly one of the three.
type Delivery struct {
	File         string   `json:"file,omitempty"`          // written 0600, below a directory the host file lists
	DockerConfig string   `json:"docker_config,omitempty"` // a Docker client's config.json, likewise
	Command      string   `json:"command,omitempty"`       // name of a command the host file defines
	Args         []string `json:"args,omitempty"`
}

// GivenPlace stands in the place of a [Delivery.Place] for a secret that the
// mode gave.
const GivenPlace = "given"

// Place stands for the place of a delivery, to compare it with a later one
// without telling it.
func (d Delivery) Place() string {
	sum := sha256.New()
	for _, s := range append([]string{d.File, d.DockerConfig, d.Command}, d.Args...) {
		sum.Write([]byte(strconv.Quote(s) + "\n"))
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// Place is where the robot's secret belongs: GivenPlace for one that the mode
// gives, "" where it says neither.
func (r *Robot) Place() string {
	switch {
	case r.Secret == nil:
		return ""
	case r.Secret.Deliver != nil:
		return r.Secret.Deliver.Place()
	case r.Secret.Value != nil:
		return GivenPlace
	}
	return ""
}
