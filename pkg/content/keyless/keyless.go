// Package keyless checks signatures that were made with no lasting key: with one whose
// certificate Sigstore's authority issued for a few minutes to an identity, such as a
// workflow or a person. It asks nobody: certificates, the logs they and the signatures
// stand in, and the time are checked by a trusted root that somebody gives.
//
// Begin with [New]. What checks is Sigstore's own library, which brings so many modules
// that it is there with the build tag keyless alone; without it New fails with
// [ErrNotBuilt].
package keyless

import "errors"

// ErrNotBuilt is a program without what checks certificates.
var ErrNotBuilt = errors.New("this ocisync was built without keyless verification, which identities need")

// MaxRoot bounds a trusted root, in bytes.
const MaxRoot = 1 << 20
