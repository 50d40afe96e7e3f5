//go:build integration

package distribution_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	reference "github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"

	"github.com/ocisync/ocisync/pkg/embedded/storage/s3test"
	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers/distribution"
	"github.com/ocisync/ocisync/pkg/providers/providertest"
	"github.com/ocisync/ocisync/schema"
)

// s3Secrets knows the bucket's secret too.
type s3Secrets struct{ providertest.Secrets }

func (s s3Secrets) Resolve(ctx context.Context, ref schema.SecretRef) (string, error) {
	if ref.Env == "S3" {
		return s3test.Secret, nil
	}
	return s.Secrets.Resolve(ctx, ref)
}

// inBucket is content in a bucket, with a value for each setting of that driver
// that a server on this host can take.
func inBucket(t *testing.T, server *s3test.Server, bucket string) []schema.Value {
	t.Helper()
	server.Bucket(t, bucket)
	values := map[string]string{
		"accesskey": quote(s3test.Access), "secretkey": `{"env":"S3"}`, "region": `"us-east-1"`, "regionendpoint": quote(server.URL),
		"bucket": quote(bucket), "rootdirectory": `"/registry"`, "forcepathstyle": "true", "secure": "false", "v4auth": "true", "skipverify": "true",
		"encrypt": "false", "accelerate": "false", "usedualstack": "false", "usefipsendpoint": "false", "chunksize": "10485760",
		"multipartcopychunksize": "33554432", "multipartcopymaxconcurrency": "50", "multipartcopythresholdsize": "33554432",
		"storageclass": `"NONE"`, "objectacl": `"private"`, "loglevel": `"off"`, "useragent": `"ocisync-test"`, "redirectendpoint": quote(server.URL), "keyid": `""`,
	}
	var out []schema.Value
	for path := range distribution.Keys("storage.s3") {
		value, ok := values[strings.TrimPrefix(path, "storage.s3.")]
		if !ok {
			t.Errorf("%s is not tried", path)
			continue
		}
		out = append(out, schema.Value{Path: path, JSON: value})
	}
	return append(out, schema.Value{Path: "storage.redirect.disable", JSON: "true"})
}

func quote(s string) string { return `"` + s + `"` }

// TestIntegrationContentInABucket: a registry goes there with a restart, takes
// pushes, is collected, and its secret is seen nowhere; one that cannot get into
// its bucket goes back to where it was.
func TestIntegrationContentInABucket(t *testing.T) {
	server := s3test.Start(t, "../../..")
	s, running := launched(t, withFile)
	p, err := distribution.New(s.registry, s.process, s3Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	untagged, password := true, &schema.SecretRef{Env: providertest.SecretA}
	if err := write(t, p, []plan.Change{
		create(schema.KindUser, "dev", &schema.User{Password: password}),
		create(schema.KindGC, "", &schema.GC{Untagged: &untagged}),
	}); err != nil {
		t.Fatal(err)
	}
	values := inBucket(t, server, "images")
	changes, verdicts := settings(t, p, values...)
	if len(changes) != 1 || verdicts[0].Refused != "" || verdicts[0].Effect != plan.Restart || strings.Contains(fmt.Sprintf("%+v", changes), s3test.Secret) {
		t.Fatalf("%+v %+v", changes, verdicts)
	}
	if err := write(t, p, changes); err != nil {
		t.Fatalf("%v: %s", err, &running.log)
	}
	if changes, _ := settings(t, p, values...); len(changes) != 0 {
		t.Errorf("a second plan says %+v", changes)
	}
	secret, err := providertest.Secrets{}.Resolve(t.Context(), *password)
	if err != nil {
		t.Fatal(err)
	}
	login := remote.WithAuth(&authn.Basic{Username: "dev", Password: secret})
	of := "sha256-" + strings.Repeat("a", 64) // whether that was ever there a bucket does not tell
	var referrers reference.Reference
	for _, tag := range []string{of, "1", "1"} {
		ref, err := reference.NewTag(strings.TrimPrefix(s.registry.URL, "http://")+"/team/app:"+tag, reference.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if tag == of {
			referrers = ref
		}
		image, err := random.Image(10_000, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, image, login); err != nil {
			t.Fatalf("%v: %s", err, &running.log)
		}
		got, err := remote.Image(ref, login)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := got.Digest(); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(s.registry.Run.Data, "storage")); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v: content on the disk", entries, err)
	}
	for i, want := range []int{3, 3, 0} {
		report, err := p.Run(t.Context(), "gc", i == 0)
		if err != nil || report.Collected.Blobs != want {
			t.Errorf("collection %d: %+v, %v", i, report.Collected, err)
		}
	}
	if _, err := remote.Get(referrers, login); err != nil {
		t.Errorf("what may be kept apart from its image is gone: %v", err)
	}
	retained := create(schema.KindRetention, "team", &schema.Retention{Untagged: &untagged})
	if verdicts, err := p.Prepare(t.Context(), []plan.Change{retained}); err != nil || !strings.Contains(verdicts[0].Refused, "gc.untagged") {
		t.Errorf("%+v, %v", verdicts, err)
	}
	values = append(values, schema.Value{Path: "health.storagedriver.enabled", JSON: "true"})
	for i, v := range values {
		if v.Path == "storage.s3.chunksize" {
			values[i].JSON = "1" // less than there may be
		}
	}
	changes, _ = settings(t, p, values...)
	err = write(t, p, changes)
	if err == nil || !strings.Contains(err.Error(), "were put back and the registry runs") || !strings.Contains(err.Error(), "chunksize") || strings.Contains(err.Error(), s3test.Secret) {
		t.Errorf("error %v", err)
	}
}

// TestIntegrationTheRegistryReadsEverySettingOfItsDrivers: it says so of a value
// that is wrong, and starts with those that are right.
func TestIntegrationTheRegistryReadsEverySettingOfItsDrivers(t *testing.T) {
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@example.com", "private_key_id": "1", "token_uri": "http://127.0.0.1:9/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	keyfile := filepath.Join(dir, "key.json")
	if err := os.WriteFile(keyfile, account, 0o600); err != nil {
		t.Fatal(err)
	}
	// with a login it asks whose proxy it is when it starts, and dies if nobody is there
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="upstream"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer upstream.Close()
	right := map[string]map[string]string{
		"storage.filesystem": {"rootdirectory": quote(dir), "maxthreads": "25"},
		"storage.s3":         {"region": `"us-east-1"`, "bucket": `"b"`, "accesskey": `"a"`, "secretkey": `"s"`},
		"storage.gcs":        {"bucket": `"b"`, "keyfile": quote(keyfile), "rootdirectory": `"/r"`, "useragent": `"u"`, "chunksize": "5242880", "maxconcurrency": "50"},
		"storage.azure": {
			"accountname": `"a"`, "accountkey": `"a2V5"`, "container": `"c"`, "realm": `"core.windows.net"`, "serviceurl": `"https://a.blob.core.windows.net"`,
			"rootdirectory": `"/r"`, "max_retries": "3", "retry_delay": `"100ms"`, "skipverify": "false", "credentials.type": `"shared_key"`,
			"credentials.clientid": `"i"`, "credentials.tenantid": `"t"`, "credentials.secret": `"s"`, "connectionstring": `""`,
		},
		"proxy": {
			"remoteurl": quote(upstream.URL), "username": `"u"`, "password": `"p"`, "ttl": `"72h"`, "cachewritetimeout": `"5m"`,
		},
		"redis": {
			"addrs": `["127.0.0.1:9"]`, "clientname": `"n"`, "username": `"u"`, "password": `"p"`, "sentinelusername": `"u"`, "sentinelpassword": `"p"`, "mastername": `""`, "identitysuffix": `"x"`,
			"db": "1", "protocol": "3", "maxretries": "3", "poolsize": "5", "minidleconns": "0", "maxidleconns": "5", "maxactiveconns": "10", "maxredirects": "3",
			"minretrybackoff": `"8ms"`, "maxretrybackoff": `"500ms"`, "dialtimeout": `"1s"`, "readtimeout": `"1s"`, "writetimeout": `"1s"`, "pooltimeout": `"1s"`, "connmaxidletime": `"5m"`, "connmaxlifetime": `"1h"`,
			"contexttimeoutenabled": "true", "poolfifo": "true", "readonly": "false", "routebylatency": "false", "routerandomly": "false", "disableidentity": "true", "unstableresp3": "false",
		},
	}
	elsewhere := map[string]string{ // tried in other ways, or with files and programs of their own
		"storage.s3": "every", "proxy.exec.command": "", "proxy.exec.lifetime": "", "redis.tls.certificate": "", "redis.tls.key": "", "redis.tls.rootcas": "",
	}
	for section, values := range right {
		t.Run(section, func(t *testing.T) {
			if said, ended := serves(t, dir, section, values, "", ""); ended {
				t.Fatalf("it does not start with what is right: %s", said)
			}
			for path, is := range distribution.Keys(section) {
				name := strings.TrimPrefix(path, section+".")
				if _, tried := values[name]; !tried && elsewhere[section] == "" {
					if _, other := elsewhere[path]; !other {
						t.Errorf("%s is not tried", path)
					}
				}
				wrong := `"nonsense"`
				switch {
				case strings.HasPrefix(is, "a text, such as \"info\""):
					if strings.HasPrefix(section, "storage.") {
						continue // whatever stands there is one
					}
					wrong = `{"a":1}`
				case strings.HasPrefix(is, "a list"):
					wrong = `{"a":1}`
				}
				if said, ended := serves(t, dir, section, values, name, wrong); !ended {
					t.Errorf("it starts with %s = %s: %s", path, wrong, said)
				}
			}
		})
	}
}

// serves starts the registry with a section, of which one key may be wrong, and
// says whether it ended soon.
func serves(t *testing.T, dir, section string, values map[string]string, wrong, value string) (said string, ended bool) {
	t.Helper()
	b := "version: 0.1\nhttp: {addr: \"127.0.0.1:0\"}\n"
	body := map[string]any{}
	set := func(name, text string) {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		m := body
		first, rest, nested := strings.Cut(name, ".")
		if nested {
			if _, ok := m[first].(map[string]any); !ok {
				m[first] = map[string]any{}
			}
			m[first].(map[string]any)[rest] = v
			return
		}
		m[name] = v
	}
	for name, text := range values {
		set(name, text)
	}
	if wrong != "" {
		set(wrong, value)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if driver, ok := strings.CutPrefix(section, "storage."); ok {
		b += "storage: {" + driver + ": " + string(text) + "}\n"
	} else {
		b += "storage: {filesystem: {rootdirectory: \"" + dir + "\"}}\n" + section + ": " + string(text) + "\n"
	}
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(b), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), "serve", file)
	cmd.Env = []string{"OTEL_TRACES_EXPORTER=none", "AWS_EC2_METADATA_DISABLED=true"}
	var out ready
	cmd.Stdout, cmd.Stderr = &out, &out
	out.stop = cancel
	err = cmd.Run()
	return fmt.Sprint(err, ": ", string(out.text)), !out.listens
}

// ready is a log that stops who writes it once it listens.
type ready struct {
	text    []byte
	listens bool
	stop    func()
}

func (r *ready) Write(b []byte) (int, error) {
	r.text = append(r.text, b...)
	if strings.Contains(string(r.text), "listening on") && !r.listens {
		r.listens = true
		r.stop()
	}
	return len(b), nil
}

// TestIntegrationABucketThatIsNotThere: the registry starts with it, answers /v2/, and is
// put back where it was.
func TestIntegrationABucketThatIsNotThere(t *testing.T) {
	server := s3test.Start(t, "../../..")
	s, running := launched(t, withFile)
	p, err := distribution.New(s.registry, s.process, s3Secrets{}, nil, distribution.HashCost(bcrypt.MinCost))
	if err != nil {
		t.Fatal(err)
	}
	values := inBucket(t, server, "images")
	for i, v := range values {
		if v.Path == "storage.s3.bucket" {
			values[i].JSON = `"nowhere"`
		}
	}
	changes, _ := settings(t, p, values...)
	if err := write(t, p, changes); err == nil || !strings.Contains(err.Error(), "cannot read its content in s3 nowhere") {
		t.Fatalf("%v: %s", err, &running.log)
	}
	if changes, _ := settings(t, p, values...); len(changes) != 1 {
		t.Errorf("a second plan says %+v", changes)
	}
}
