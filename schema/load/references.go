package load

import (
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// reference checks that a name is declared, if the mode declares any object of
// that kind; remotes must be declared.
func (c *checker) reference(n *Node, kind, path string, isKey bool) {
	word := n.Text
	if isKey {
		word = n.Key
	}
	if kind == "namespace_or_all" {
		kind = "namespace"
		if word == "*" {
			return
		}
	}
	declared := c.names[kind]
	if declared.has(word) || declared == nil && kind != string(schema.KindRemote) {
		return
	}
	if c.muted {
		c.bad++
		return
	}
	what := kind + ` "` + clip(word) + `" is not declared`
	want := "add [" + Path(kind, word) + "]"
	if s := c.near.Of(word, declared.all()); s != "" {
		want = `did you mean "` + s + `"?`
	}
	if isKey {
		c.reportKey(n, path, what, want)
		return
	}
	c.report(n, path, what, want)
}

// names are those that a mode declares of one kind.
type names struct {
	list []string
	set  map[string]bool
}

func (n *names) has(name string) bool { return n != nil && n.set[name] }

func (n *names) all() []string {
	if n == nil {
		return nil
	}
	return n.list
}

// tableRules applies the rules of a whole table.
func (c *checker) tableRules(n *Node, d *def, path string) {
	has := func(keys ...string) (count int) {
		for _, k := range keys {
			if n.Get(k) != nil {
				count++
			}
		}
		return count
	}
	for _, r := range d.checks {
		switch r {
		case "keep":
			if has("newest", "newest_pulled", "pushed_within", "pulled_within", "always") == 0 {
				c.report(n, path, "the rule keeps nothing", "add newest, newest_pulled, pushed_within, pulled_within or always = true")
			}
		case "some":
			if len(n.Fields) == 0 {
				c.report(n, path, "the table is empty", "add one of "+fieldNames(d))
			}
		case "one":
			if len(n.Fields) != 1 {
				c.report(n, path, "exactly one key belongs here", "write one of "+fieldNames(d))
			}
		case "keypair":
			if has("accesskey", "secretkey") == 1 {
				c.report(n, path, "accesskey and secretkey belong together", "write both, or neither for the account of this machine")
			}
		case "state":
			for store, where := range map[string]string{"dir": "dir", "s3": "url"} {
				if at := n.Get("store"); at.text() == store && n.Get(where) == nil {
					c.reportKey(at, join(path, "store"), "of store = \""+store+"\" the place is missing", "add "+where)
				}
			}
		case "trust":
			switch {
			case has("keys", "identities") == 0:
				c.report(n, path, "whose signatures count is missing", "add keys, or identities with root, or keys = [] where any signature does, as to Harbor")
			case has("identities") == 1 && has("root") == 0:
				c.report(n, path, "identities are known by a trusted root", `add root = "certs/trusted_root.json", the file that Sigstore gives out`)
			case has("identities") == 0 && has("root") == 1:
				c.reportKey(n.Get("root"), join(path, "root"), "root goes with identities", "add identities, or remove it")
			}
		case "login":
			if has("user", "robot") != 1 {
				c.report(n, path, "an account is exactly one of user and robot", `write user = "…" or robot = "…"`)
			}
		case "proxy":
			glob, regex := n.Get("repositories"), n.Get("repositories_regex")
			if glob != nil && glob.Text != "**" && regex != nil && regex.Text != "" {
				c.reportKey(regex, join(path, "repositories_regex"), "a proxy chooses repositories by a glob or by a regular expression", "write one of repositories and repositories_regex")
			}
		case "source":
			if has("file", "docker_config", "command") != 1 {
				c.report(n, path, "a secret goes to exactly one place", "write one of file, docker_config and command")
			}
			if args := n.Get("args"); args != nil && n.Get("command") == nil {
				c.reportKey(args, join(path, "args"), "args goes with command", `add command = "…", or remove it`)
			}
		case "replication":
			if has("to", "from") != 1 {
				c.report(n, path, "a replication has exactly one of to and from", "name the remote that is written or read")
			}
			if ns := n.Get("namespace"); ns != nil && ns.Kind == String && ns.Text != "" && has("from") == 1 { // else it is the remote's
				c.reference(ns, "namespace", join(path, "namespace"), false)
			}
		case "ignore":
			c.ignored(n, path)
		}
	}
}

func fieldNames(d *def) string {
	return enumerate(fieldList(d))
}

func fieldList(d *def) []string {
	names := make([]string, len(d.fields))
	for i, f := range d.fields {
		names[i] = f.name
	}
	return names
}

// ignored checks that the field an ignore names exists.
func (c *checker) ignored(n *Node, path string) {
	res, field := n.Get("resource"), n.Get("field")
	if res == nil || field == nil || res.Kind != String || field.Kind != String {
		return
	}
	kind := kindOf(res.Text)
	if !kind.Valid() || kind == schema.KindSettings {
		return
	}
	d := c.defs.kind(kind)
	parts := schema.SplitPath(field.Text)
	for i, part := range parts {
		if d.checked("secret") {
			c.report(field, join(path, "field"), `"`+clip(field.Text)+`" goes into a reference`, "write "+quote(strings.Join(parts[:i], ".")))
			return
		}
		if d.rest != nil || d.open || len(d.alts) > 0 {
			return
		}
		f := d.field(part)
		if f == nil {
			c.report(field, join(path, "field"), `"`+clip(field.Text)+`" is not a field of `+string(kind), nearestOf(&c.near, part, fieldList(d)))
			return
		}
		d = f.def
	}
}

// crossChecks are conditions between blocks. They look at the tree, so that
// they hold even where a block has other problems.
func (c *checker) crossChecks(root *Node) {
	c.stateKeyAlone(root)
	c.robots(root)
	reg := root.Get("registry")
	if reg == nil || reg.Kind != Table {
		return
	}
	typ, run := reg.Get("type").text(), reg.Get("run")
	if typ == schema.TypeZot || typ == schema.TypeDistribution {
		// who is in an htpasswd file of Distribution's may do everything
		alike := typ == schema.TypeDistribution && (reg.Get("files").Get("htpasswd") != nil || run == nil && reg.Get("token") == nil)
		c.loginUser(root, reg.Get("login"), !alike)
		c.loginRobot(root, reg.Get("login"))
	}
	if t := reg.Get("token"); t != nil && (typ != schema.TypeDistribution || run.Get("driver").text() == schema.DriverEmbedded) {
		c.reportKey(t, "registry.token", "this registry gives no tokens of ocisync's", "remove the table")
	}
	if run == nil || run.Kind != Table {
		return
	}
	if typ == schema.TypeHarbor {
		c.report(run, "registry.run", "Harbor is run by its own installer", "remove the table")
		return
	}
	driver := run.Get("driver").text()
	if driver == schema.DriverEmbedded && typ != schema.TypeDistribution {
		c.report(run.Get("driver"), "registry.run.driver", `"embedded" runs the type "distribution" only`, `write "docker" or "process", or change registry.type`)
	}
	if s := run.Get("storage"); s != nil && driver != schema.DriverEmbedded {
		c.reportKey(s, "registry.run.storage", "only the embedded registry has it here", `write driver = "embedded", or configure the registry itself`)
	}
	need := func(key, what string) {
		if run.Get(key) == nil {
			c.report(run, "registry.run", `the key "`+key+`" is missing`, "name "+what)
		}
	}
	switch driver {
	case schema.DriverDocker:
		need("image", "the container image")
		c.network(run.Get("network"))
	case schema.DriverProcess:
		need("binary", "the program")
	}
	need("data", "the directory of the data")
}

// text is a node's text, "" if it is none.
func (n *Node) text() string {
	if n == nil || n.Kind != String {
		return ""
	}
	return n.Text
}

// network refuses those of the engine's in which it publishes nothing: the
// registry would be on every address of the host, or on none, and not at listen.
func (c *checker) network(n *Node) {
	if name := n.text(); name == "host" || name == "none" || strings.HasPrefix(name, "container:") {
		c.report(n, "registry.run.network", `in "`+clip(name)+`" nothing is published at registry.run.listen alone`,
			"name a network that docker network create made, or leave it out")
	}
}

// loginUser checks that ocisync's own account stays declared when the mode manages
// users, and an administrator where there are such.
func (c *checker) loginUser(root, login *Node, admins bool) {
	users := root.Get("user")
	if login == nil || users == nil || len(users.Fields) == 0 {
		return
	}
	name := login.Get("user")
	if name == nil || name.Kind != String {
		return
	}
	u := users.Get(name.Text)
	if u == nil {
		c.reference(name, "user", "registry.login.user", false)
		return
	}
	admin := overlay(u, root.Get("defaults").Get("user")).Get("admin")
	if admins && (admin == nil || admin.Text != "true") {
		c.report(name, "registry.login.user", `user "`+clip(name.Text)+`" is not an administrator`, "write admin = true in ["+Path("user", name.Text)+"], or log in as another")
	}
}

// loginRobot checks that a robot that ocisync logs in as is declared when the
// mode manages robots. At a Harbor it may be one that Harbor's own admin made.
func (c *checker) loginRobot(root, login *Node) {
	name, robots := login.Get("robot"), root.Get("robot")
	if name != nil && name.Kind == String && robots != nil && len(robots.Fields) > 0 {
		c.reference(name, string(schema.KindRobot), "registry.login.robot", false)
	}
}
