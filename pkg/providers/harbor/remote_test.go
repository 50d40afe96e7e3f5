package harbor_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/harbor/harbortest"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

const secretA = `{"env":"` + providertest.SecretA + `"}`

// elsewhere is how other registries are doing, by a part of their URL; healthy is
// the rest.
func elsewhere(bad map[string]harbortest.Health) func(harbortest.Remote) harbortest.Health {
	return func(r harbortest.Remote) harbortest.Health {
		for part, health := range bad {
			if strings.Contains(r.URL, part) {
				return health
			}
		}
		return harbortest.Healthy
	}
}

// failed is the error of the only one of some changes that fails.
func failed(t testing.TB, p providers.Provider, changes ...plan.Change) error {
	t.Helper()
	var all []error
	for _, err := range write(t, p, changes...) {
		all = append(all, err)
	}
	err := errors.Join(all...)
	if err == nil {
		t.Fatal("nothing failed")
	}
	return err
}

// says looks that an error is of a kind, and says these things.
func says(t testing.TB, err, kind error, texts ...string) {
	t.Helper()
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("%v is not %v", err, kind)
	}
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
}

// certificate is a file of testdata as a plan shows it.
func certificate(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return string(shown)
}

func TestEachChangeOfARemoteByHandIsSeen(t *testing.T) {
	h := newStandIn(t, harbortest.Options{FirstID: 1000})
	p := h.open(t)
	want := apply(t, p, `remote/dr {"type":"harbor","url":"https://dr.example.com/","description":"d","login":{"robot":"replicator","password":`+secretA+`},"tls":{"insecure":false,"ca":"certs/a.pem"}}`)
	for _, c := range []struct{ body, line string }{
		{`{"description":"other"}`, `description: "other" -> "d"`},
		{`{"url":"http://dr.example.com"}`, `url: "http://dr.example.com" -> "https://dr.example.com"`},
		{`{"insecure":true}`, `tls.insecure: true -> false`},
		{`{"ca_certificate":""}`, "tls.ca:  -> " + certificate(t, "certs/a.pem")},
		{`{"access_key":"robot$other"}`, `login.robot: "other" -> "replicator"`},
		{`{"access_key":"admin"}`, `login.robot:  -> "replicator"`},
	} {
		h.behind(t, http.MethodPut, "/registries/1001", c.body)
		drifts(t, p, want, "update remote/dr", "  "+c.line)
	}
}

// Each update has Harbor reach for the other registry, and to do so it must keep
// the secret that it shows as a mask.
func TestARemoteIsReachedWithTheSecretItHas(t *testing.T) {
	password, err := providertest.Secrets{}.Resolve(t.Context(), schema.SecretRef{Env: providertest.SecretA})
	if err != nil {
		t.Fatal(err)
	}
	h := newStandIn(t, harbortest.Options{Remotes: func(r harbortest.Remote) harbortest.Health {
		if r.Secret != password || r.Key != "robot$replicator" {
			return harbortest.Unhealthy
		}
		return harbortest.Healthy
	}})
	p := h.open(t)
	object := func(description string) string {
		return `remote/dr {"type":"harbor","url":"https://dr.example.com","description":"` + description + `","login":{"robot":"replicator","password":` + secretA + `}}`
	}
	apply(t, p, object("one"))
	h.Forget()
	apply(t, p, object("one"))
	if n := h.count(http.MethodPut, "/registries"); n != 0 {
		t.Errorf("nothing changes, and Harbor reaches out %d times", n)
	}
	apply(t, p, object("two"))
	if n := h.count(http.MethodPut, "/registries"); n != 1 {
		t.Errorf("a change of the description has Harbor reach out %d times", n)
	}
}

func TestARemoteThatDoesNotAnswerIsAnErrorThatSaysSo(t *testing.T) {
	for health, words := range map[harbortest.Health]string{
		harbortest.Unhealthy:   "400: the registry is unhealthy",
		harbortest.Unreachable: "500: internal server error",
	} {
		bad := map[string]harbortest.Health{}
		h := newStandIn(t, harbortest.Options{Remotes: elsewhere(bad)})
		p := h.open(t)
		apply(t, p, `remote/dr {"type":"harbor","url":"https://dr.example.com","description":"one"}`)
		bad["dr.example.com"] = health
		changes := compared(t, p, objects(t, `remote/dr {"type":"harbor","url":"https://dr.example.com","description":"two"}`))
		says(t, failed(t, p, changes...), nil, "remote/dr", words, "see that it answers")
	}
}

func TestAnotherTypeOfRemoteIsAnotherRemote(t *testing.T) {
	bad := map[string]harbortest.Health{}
	h := newStandIn(t, harbortest.Options{Remotes: elsewhere(bad)})
	p := h.open(t)
	apply(t, p, `remote/up {"type":"harbor","url":"https://up.example.com","login":{"user":"reader","password":`+secretA+`}}`)
	quay := `{"type":"quay","url":"https://up.example.com","login":{"user":"reader","password":` + secretA + `}}`
	if v := verdict(t, p, objects(t, "remote/up "+quay)); !strings.Contains(v.Refused, "no registries of type quay; it has ali-acr") {
		t.Errorf("a type that this Harbor has not is refused so: %q", v.Refused)
	}
	if v := verdict(t, p, objects(t, `remote/up {"type":"docker-hub","login":{"user":"reader"}}`)); !strings.Contains(v.Refused, "declare login.password") {
		t.Errorf("what loses a secret is refused so: %q", v.Refused)
	}
	// one that does not answer leaves what there is
	bad["hub.docker.com"] = harbortest.Unhealthy
	hub := `remote/up {"type":"docker-hub","url":"https://up.example.com","login":{"user":"reader","password":` + secretA + `}}`
	says(t, failed(t, p, compared(t, p, objects(t, hub))...), nil, "having Harbor try it")
	if _, ok := read(t, p, schema.KindRemote).Get(schema.Key{Kind: schema.KindRemote, Name: "up"}); !ok {
		t.Error("it is gone")
	}
	delete(bad, "hub.docker.com")
	apply(t, p, hub)
	// in use it stays
	apply(t, p, "namespace/cache "+`{"proxy_of":"up"}`, hub)
	zot := `remote/up {"type":"zot","url":"https://up.example.com","login":{"user":"reader","password":` + secretA + `}}`
	if v := verdict(t, p, objects(t, zot)); !strings.Contains(v.Refused, "by namespace/cache") {
		t.Errorf("a change of the type of what is in use is refused so: %q", v.Refused)
	}
}

// What speaks the OCI API alone is of one type in Harbor, and elsewhere a robot is a
// user like others.
func TestRemotesOfOneTypeInHarborAreThatType(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	apply(t, p, `remote/z {"type":"zot","url":"https://z.example.com","login":{"robot":"copier","password":`+secretA+`}}`)
	live, _ := read(t, p, schema.KindRemote).Get(schema.Key{Kind: schema.KindRemote, Name: "z"})
	if spec, ok := live.Spec.(*schema.Remote); !ok || *spec.Type != "oci" || *spec.Login.User != "copier" {
		t.Errorf("read as %+v", live.Spec)
	}
	apply(t, p, `remote/z {"type":"oci","url":"https://z.example.com"}`)
	_, notes, err := p.Normalize(objects(t, `remote/z {"type":"distribution"}`))
	if err != nil || len(notes) != 1 {
		t.Errorf("notes %v, %v", notes, err)
	}
	_, _, err = p.Normalize(objects(t, `remote/z {"type":"oci","tls":{"ca":"certs/none.pem"}}`))
	says(t, err, providers.ErrInvalid, "remote/z", "certs/none.pem", "name a file")
}

func TestALoginBecomesARobotsAndAUsersAgain(t *testing.T) {
	p := newStandIn(t, harbortest.Options{}).open(t)
	for _, login := range []string{`"user":"admin"`, `"robot":"copier"`, `"user":"admin"`} {
		apply(t, p, `remote/dr {"type":"harbor","url":"https://dr.example.com","login":{`+login+`,"password":`+secretA+`}}`)
	}
}

func TestARemoteThatWasMadeMeanwhileIsComparedNotRefused(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	changes := compared(t, p, objects(t, `remote/up {"type":"docker-hub","url":"https://hub.docker.com","description":""}`))
	h.behind(t, http.MethodPost, "/registries", `{"name":"up","type":"docker-hub","url":"https://hub.docker.com"}`)
	change(t, p, changes...)
	other := compared(t, p, objects(t, `remote/new {"type":"docker-hub","url":"https://hub.docker.com"}`))
	h.behind(t, http.MethodPost, "/registries", `{"name":"new","type":"docker-hub","url":"https://other.example.com"}`)
	says(t, failed(t, p, other...), providers.ErrConflict, "registry new already exists")
}

func TestARemoteInUseIsNotDeleted(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	apply(t, p, `remote/up {"type":"docker-hub","url":"https://hub.docker.com"}`, `replication/copies {"from":"up","trigger":"manual"}`)
	key := schema.Key{Kind: schema.KindRemote, Name: "up"}
	live, _ := read(t, p, schema.KindRemote).Get(key)
	says(t, failed(t, p, plan.Change{Action: plan.Delete, Key: key, Before: &live}), providers.ErrInvalid, "referenced by replication policies", "delete the replications")
}

// What Harbor would refuse in the middle is refused before: the deletion of what a
// namespace that is archived, or a replication, still uses when the plan is done.
func TestARemoteInUseIsRefusedToBeDeletedAtPlanTime(t *testing.T) {
	h := newStandIn(t, harbortest.Options{})
	p := h.open(t)
	const up, next, copies = `remote/up {"type":"docker-hub","url":"https://hub.docker.com"}`, `remote/next {"type":"oci","url":"https://next.example.com"}`, `replication/copies {"from":"up","trigger":"manual"}`
	apply(t, p, up, next, `namespace/a {"proxy_of":"up"}`, copies)
	st := read(t, p, schema.KindRemote, schema.KindNamespace, schema.KindReplication)
	gone := func(kind schema.Kind, name string) plan.Change {
		r, ok := st.Get(schema.Key{Kind: kind, Name: name})
		if !ok {
			t.Fatalf("there is no %s/%s", kind, name)
		}
		return plan.Change{Action: plan.Delete, Key: r.Key, Before: &r}
	}
	refused := func(changes ...plan.Change) string {
		t.Helper()
		v, err := p.Prepare(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		return v[0].Refused
	}
	remote, namespace, replication := gone(schema.KindRemote, "up"), gone(schema.KindNamespace, "a"), gone(schema.KindReplication, "copies")
	archive := archiving(t, p, "a")
	moves := compared(t, p, objects(t, strings.Replace(copies, "up", "next", 1)))
	for _, c := range []struct {
		changes []plan.Change
		why     string
	}{
		{[]plan.Change{remote}, "as this is by namespace/a, replication/copies; put [remote.up] back into the file, or delete first what uses it"},
		{[]plan.Change{remote, archive, replication}, "as this is by namespace/a (what is archived stays); put [remote.up] back"},
		{[]plan.Change{remote, namespace}, "as this is by replication/copies;"},
		{append([]plan.Change{remote, archive}, moves...), "as this is by namespace/a (what"},
	} {
		if why := refused(c.changes...); !strings.Contains(why, c.why) {
			t.Errorf("%s: it is refused so: %q", told(c.changes), why)
		}
	}
	for _, changes := range [][]plan.Change{{remote, namespace, replication}, append([]plan.Change{remote, namespace}, moves...)} {
		if why := refused(changes...); why != "" {
			t.Errorf("%s: it is refused so: %q", told(changes), why)
		}
	}
	h.Inject(harbortest.Fault{Method: http.MethodGet, Path: "/replication/policies", Status: http.StatusForbidden})
	if why := refused(remote); why != "" {
		t.Errorf("without a look at replications it is refused so: %q", why)
	}
}
