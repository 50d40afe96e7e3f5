//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// described is a mode of n namespaces of 12 lines each. Either they differ only
// in texts and a few numbers, so that many are alike to CUE, which is asked
// about each distinct object once; or no two have the same retention or access.
func described(b *bufio.Writer, n int, alike bool) {
	fmt.Fprint(b, `version = 1
[registry]
type = "harbor"
url  = "https://registry.example.com"
[user.provisioning]
[user.developer]
`)
	for i := range n {
		newest, developer := 3+i%20, "developer"
		if !alike {
			newest, developer = i+1, fmt.Sprintf("developer-%d", i)
			fmt.Fprintf(b, "[user.%s]\n", developer)
		}
		fmt.Fprintf(b, `[namespace.team-%[1]d]
description = "Images of team %[1]d"
retention.keep = [{ newest = %[2]d }, { pushed_within = "90d" }]
[namespace.team-%[1]d.access]
anonymous          = []
authenticated      = ["pull", "push"]
users.provisioning = ["admin"]
users.%[3]s = ["pull", "push", "delete"]
[namespace.team-%[1]d.webhook.ci]
url    = "https://ci.example.com/hooks/team-%[1]d"
events = ["push", "delete"]
auth   = { env = "OCISYNC_HOOK_%[1]d" }
`, i, newest, developer)
	}
}

// The mode that is applied to embedded registries: 4 users and 1,000
// namespaces with their access, so 2,004 objects.
const (
	namespaces = 1000
	users      = 4
	objects    = users + 2*namespaces
)

// applied writes that mode, its users with or without a password to hash.
func applied(passwords bool) func(b *bufio.Writer, work, address string) {
	password := ""
	if passwords {
		password = "password = { env = \"OCISYNC_PASSWORD\" }\n"
	}
	return func(b *bufio.Writer, work, address string) {
		heading(b, work, address)
		for i := range users {
			fmt.Fprintf(b, "[user.user-%d]\nadmin = %t\n%s", i, i == 0, password)
		}
		for i := range namespaces {
			team(b, i, 1+i%(users-1))
		}
	}
}

// heading is how the mode of an embedded registry begins, whose files lie in
// work and which is served at address.
func heading(b *bufio.Writer, work, address string) {
	fmt.Fprintf(b, `version = 1
[registry]
type  = "distribution"
url   = "http://%[1]s"
login = { user = "user-0", password = { env = "OCISYNC_PASSWORD" } }
[registry.run]
driver = "embedded"
data   = %[2]q
listen = "%[1]s"
[state]
store = "dir"
dir   = %[3]q
key   = { env = "OCISYNC_STATE_KEY" }
`, address, filepath.Join(work, "data"), filepath.Join(work, "inventory"))
}

// team is a namespace, and what one of the users may do in it.
func team(b *bufio.Writer, namespace, user int) {
	fmt.Fprintf(b, `[namespace.team-%[1]d]
description = "Images of team %[1]d"
[namespace.team-%[1]d.access]
anonymous     = []
authenticated = ["pull"]
users.user-0  = ["admin"]
users.user-%[2]d  = ["pull", "push", "delete"]
`, namespace, user)
}

// writeMode writes a mode of one file, as it comes: this program must stay
// small (see taken). What write prints need not be checked; a failure stays
// with the buffer.
func writeMode(modes, name string, write func(*bufio.Writer)) error {
	dir := filepath.Join(modes, name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, name+".toml"))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	write(w)
	return errors.Join(w.Flush(), f.Close())
}
