package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test -run TestThePageIsTheTables -update

var update = flag.Bool("update", false, "write docs/zot.md")

const page = "../../../../docs/zot.md"

func TestThePageIsTheTables(t *testing.T) {
	want := render()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Errorf("docs/zot.md is out of date; run go generate ./pkg/providers/zot/config (-want +have):\n%s", diff)
	}
}

func render() string {
	var b strings.Builder
	b.WriteString("<!-- Generated from the tables in pkg/providers/zot/config by: go generate ./pkg/providers/zot/config -->\n" + `# Zot's own settings

What no kind speaks of is set under ` + "`[registry.zot]`" + ` by Zot's own name, such as
` + "`http.realm`" + `. ocisync holds every key against this table before it writes, since
Zot does not start with a key it does not know, takes a number for nanoseconds
where a duration is meant (write ` + "`\"1h\"`" + `), and turns names into lower case without
a word. Keys are the same in any case.

**live**: a running Zot reads a new value from its file within moments.
**restart**: it is in force after the next start, which the plan shows and an apply
makes. **stopped**: Zot must not run while it is written. Observed on 2.1.6 and
2.1.20, and the keys compared with the schema that a Zot shortly after 2.1.20 prints
(` + "`zot schema`" + `); where versions differ, the table has what is right for all.

Some of Zot's ways that rules meet:

- Zot 2.1.6 answers ` + "`/v2/`" + ` without asking for a login as soon as any rule gives
  anonymous clients anything. Docker then never sends one: ` + "`docker login`" + ` takes every
  password, and a pull of what only accounts may have is refused. The plan that makes
  the first such rule says so. A current Zot asks docker for a login.
- The longest pattern that matches a repository decides alone. A pattern written by
  hand that decides in the place of one that ocisync wrote is drift of
  ` + "`process.shadowed`" + ` and refused by name; what cannot be told to match elsewhere
  counts as matching.
- An account whose line holds no well-formed bcrypt hash, such as one with a space
  behind it, counts as one without a password, and is written anew where the mode
  declares one.
- An account of a robot that is not as ocisync made it, or that nobody made, is drift
  of ` + "`process.foreign_accounts`" + `, and an apply puts it right: no mode holds the
  secret of a robot that is delivered.
- Of a Zot that takes tokens (` + "`http.auth.bearer`" + `) rules are refused: who gives the tokens
  says who may do what, and Zot 2.1.6 does not start with rules for accounts where
  it has none of ` + "`htpasswd`" + `, ` + "`ldap`" + ` and ` + "`openid`" + `. Rules without any of these, whoever wrote
  them, are drift of ` + "`process.logins`" + `.
- Where the configuration of a Zot that ocisync runs is gone, it is started with the one
  that ocisync wrote last. Whoever starts it is told so, and which keys that somebody
  wrote by hand go with the file, as far as they are known.
- A write that was cut short, such as by a kill, is drift of ` + "`process.unfinished`" + `, and
  names the files: Zot has what they held before. An apply finishes it before it does
  anything else, with a reload or a restart as what is written needs, and so does
  whatever starts Zot. What needs a restart of a Zot that somebody else runs waits for
  that.
- Rules for accounts in a configuration out of which somebody took where they are,
  with which Zot does not start, are drift of ` + "`process.logins`" + `.
- What a pattern of ocisync's gives since somebody changed it is drift, also where no
  rule says it. At one that was written by hand and that no rule says, a rule of the
  mode waits for an approval. ` + "`storage.retention.dryRun`" + `, and a
  ` + "`storage.retention.delay`" + ` of more than a day, is said by every plan, and what
  ` + "`extensions.sync.enable`" + ` switches off is refused by name.
- A restart waits for an approval where somebody wrote another place for content into
  the file of a Zot that runs, and with it every change, since any would become one:
  what lies in the former place would be gone from view.
- Of a Zot that ocisync runs ` + "`storage.rootDirectory`" + ` is the directory ` + "`storage`" + ` below
  ` + "`registry.run.data`" + `, unless the mode says another, or a ` + "`storage.storageDriver`" + `:
  another one in the file is drift, and is put right, with an approval where it holds
  anything by then. So are a driver that the mode does not name, and any other
  place of content than ocisync wrote last or the mode says, in a sub path or by a key of
  a driver: ` + "`process.storage_driver`" + `, ` + "`process.places`" + `.
- What a Zot does not start with is taken back to what it ran with, also where somebody
  wrote it by hand: the file is kept beside, as ` + "`config.json.refused`" + `.
- ocisync's own account, and the namespace ` + "`ocisync`" + ` of a Zot that ocisync runs,
  where an inventory may lie, are put right where somebody changed them:
  ` + "`process.own_namespace`" + `. Where the state lies in the registry, no apply gets so far, and
  ` + "`ocisync restart`" + ` puts them right. A pattern written by hand that decides for that
  namespace is refused by name.
- Where a policy of retention that was written by hand, such as one for ` + "`**`" + `, speaks
  of the namespace ` + "`ocisync`" + ` too, it removes the inventory that lies in the registry.
  That is drift of ` + "`process.own_retention`" + `, and an apply puts a policy for ` + "`ocisync/**`" + `
  before it; where ` + "`state.store`" + ` is ` + "`dir`" + `, nobody's are left as they are.
- A robot that expires is taken out of the file of accounts while ` + "`ocisync up`" + ` runs,
  beside a process and beside a container, or by ` + "`ocisync run robots`" + `.

Below ` + "`storage.subPaths.NAME`" + ` stand the same keys as below ` + "`storage`" + `, but for
` + "`fastRestart`" + `; those of collection are set there by themselves, since ` + "`gc`" + ` is of the
main storage alone. Drivers have keys of their own besides.

| key | is | of versions | a change is | set with |
|---|---|---|---|---|
`)
	for _, k := range Keys() {
		if strings.HasPrefix(k.Path, "storage.subPaths.") {
			continue
		}
		with := "itself"
		if kind, ok := k.Owner(); ok {
			with = "`" + string(kind) + "`"
		} else if k.Secret() {
			with = "a reference to a secret"
		}
		versions := "all"
		if k.Versions != "" {
			versions = "later than " + strings.TrimPrefix(k.Versions, ">")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", k.Path, k.Type, versions, spell(k.Reload), with)
	}
	b.WriteString(`
## Sections that appear or disappear

What a running Zot makes of a section that was not there when it started, or that
is gone, is another matter than a change within one. Where that is **stopped**, an
apply stops Zot, writes, and starts it; where somebody else runs Zot, that is theirs
to do in this order.

| section | appears | goes | otherwise |
|---|---|---|---|
`)
	for _, s := range sections() {
		why := s.whyThere
		if s.whyNot != "" && s.whyNot != why {
			why += "; " + s.whyNot
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.path, spell(s.appears), spell(s.goes), why)
	}
	b.WriteString("| `storage.retention` | stopped, where no rule anywhere counted tags or looked at their age | live | a running Zot that began without such a rule leaves retention as it was |\n")
	b.WriteString(`
## Formats

Zot reads YAML and TOML too; ocisync edits JSON alone, in which it can leave every
byte that nobody asked to change. A configuration in another format is refused, and
the refusal says how to convert it.
`)
	return b.String()
}

func spell(r Reload) string {
	switch r {
	case Live:
		return "live"
	case Restart:
		return "restart"
	}
	return "stopped"
}
