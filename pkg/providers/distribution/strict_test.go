package distribution

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
)

// deadly are what Distribution does not start with.
func deadly(t *testing.T, text string) (out []string) {
	t.Helper()
	for _, x := range parsed(t, text).strict() {
		if !x.ignored {
			out = append(out, fmt.Sprintf("%d: %s", x.line, x.text))
		}
	}
	return out
}

// at is a configuration in which a value stands at a setting's path.
func at(path, value string) string {
	for _, part := range slices.Backward(strings.Split(path, ".")) {
		name, list := strings.CutSuffix(part, "[]")
		if list {
			value = "[" + value + "]"
		}
		value = "{" + strings.Replace(name, "*", "x", 1) + ": " + value + "}"
	}
	text := value[1:len(value)-1] + "\n"
	if path != "version" {
		text = "version: 0.1\n" + text
	}
	switch {
	case !strings.HasPrefix(path, "storage."):
		text += "storage: {inmemory: {}}\n"
	case placeOf(path) == "":
		text = strings.Replace(text, "storage: {", "storage: {inmemory: {}, ", 1)
	}
	return text
}

// TestWhatDistributionDoesNotReadIsNamed asks the parser of Distribution itself of
// every setting with values of every type.
func TestWhatDistributionDoesNotReadIsNamed(t *testing.T) {
	values := []string{
		"ten", `"x"`, `"5"`, "5", "-5", "1.5", "0.1", "0.2", "1e3", "9223372036854775808", "true", "yes", "~", `""`,
		"2001-01-01", "5s", "[]", "[5]", "[a]", "[{a: b}]", "[[a]]", "{}", "{a: b}", "{a: [b]}",
	}
	asked, refused := 0, 0
	for _, k := range fileKeys() {
		for _, v := range values {
			text := at(k.path, v)
			asked++
			if _, err := configuration.Parse(strings.NewReader(text)); err != nil {
				refused++
				if len(deadly(t, text)) == 0 {
					t.Errorf("nothing is said of %q: %v", text, err)
				}
			}
		}
	}
	if asked < 1000 || refused < asked/10 {
		t.Errorf("asked %d times, %d refused", asked, refused)
	}
}

func TestWhatDistributionDiesOfIsNamed(t *testing.T) {
	const well = "version: 0.1\nstorage:\n  inmemory: {}\n"
	for text, want := range map[string]string{
		well: "",
		"storage: inmemory\nversion: \"0.1\"\nloglevel: DEBUG\nlog:\n  level: Warn\n": "",
		well + "auth: none\n": "",
		well + "http:\n  net: ''\n  tls: {minimumtls: ''}\nlog: {formatter: ''}\n":                                          "",
		well + "auth:\n  token: {realm: r, service: s, issuer: i, jwks: j, signingalgorithms: [ES256]}\n":                   "",
		"version: 0.1\nstorage:\n  s3aws: {region: eu, bucket: b}\n":                                                        "",
		"version: 0.1\nstorage:\n  filesystem: {maxthreads: \"30\"}\n  maintenance:\n    uploadpurging: {enabled: false}\n": "",

		"storage:\n  inmemory: {}\n":                                                                    "0: version: write 0.1",
		"version: 0.2\nstorage:\n  inmemory: {}\n":                                                      "1: version: write 0.1",
		"version: 0.10\nstorage:\n  inmemory: {}\n":                                                     "1: version: write 0.1",
		"version: 0.1\n":                                                                                "0: storage: it names no place",
		"version: 0.1\nstorage:\n  delete: {enabled: true}\n":                                           "2: storage: it names no place",
		"version: 0.1\nstorage:\n  inmemory: {}\n  s3: {region: eu}\n":                                  "2: storage: content has one place; keep one of inmemory, s3",
		"version: 0.1\nstorage:\n  inmemory: {}\n  ossfs: {}\n":                                         "keep one of inmemory, ossfs",
		"version: 0.1\nstorage:\n  swift: {}\n":                                                         "storage.swift: Distribution has no such place for content",
		well + "auth:\n  none: {}\n  token: {}\n":                                                       "4: auth: there is one way to log in; keep one of none, token",
		well + "auth:\n  ldap: {}\n":                                                                    "auth.ldap: Distribution has no such way to log in",
		well + "loglevel: bogus\n":                                                                      "4: loglevel: write one of error, warn, info, debug",
		well + "log:\n  level: trace\n":                                                                 "5: log.level: write one of",
		well + "log:\n  formatter: xml\n":                                                               "5: log.formatter: write one of",
		well + "http:\n  net: udp\n":                                                                    "5: http.net: write one of",
		well + "http:\n  tls: {minimumtls: tls1.1}\n":                                                   "http.tls.minimumtls: write one of",
		well + "auth:\n  token: {realm: 5, service: s, issuer: i, jwks: j}\n":                           "auth.token.realm: write a text in quotes",
		well + "auth:\n  token: {service: s, issuer: i, jwks: j}\n":                                     "5: auth.token: it needs realm",
		well + "auth:\n  token: {realm: r, service: s, issuer: i}\n":                                    "5: auth.token: it needs jwks or rootcertbundle",
		well + "auth:\n  token: {realm: r, service: s, issuer: i, jwks: j, signingalgorithms: [ES1]}\n": "auth.token.signingalgorithms: write some of",
		well + "auth:\n  htpasswd: {realm: r}\n":                                                        "5: auth.htpasswd: it needs path",
		"version: 0.1\nstorage:\n  inmemory: {}\n  redirect: {disable: \"true\"}\n":                     "storage.redirect.disable: write true or false",
		"version: 0.1\nstorage:\n  inmemory: {}\n  redirect: {}\n":                                      "4: storage.redirect: it needs disable",
		"version: 0.1\nstorage:\n  inmemory: {}\n  tag: {concurrencylimit: \"5\"}\n":                    "storage.tag.concurrencylimit: write a whole number",
		"version: 0.1\nstorage:\n  inmemory: {}\n  maintenance: {uploadpurging: {enabled: true, age: 1h, interval: 1h}}\n":               "storage.maintenance.uploadpurging: it needs dryrun",
		"version: 0.1\nstorage:\n  inmemory: {}\n  maintenance: {uploadpurging: {enabled: true, age: 5, interval: 1h, dryrun: false}}\n": "uploadpurging.age: write a text with a number and its unit",
		"version: 0.1\nstorage:\n  inmemory: {}\n  maintenance: {readonly: true}\n":                                                      "storage.maintenance.readonly: write a table",
		"version: 0.1\nstorage:\n  inmemory: {}\n  cache: {blobdescriptor: redis}\n":                                                     "storage.cache: redis needs redis.addrs",
		well + "notifications:\n  endpoints:\n    - timeout: ten\n":                                                                      "6: notifications.endpoints[].timeout: write a text with",
		well + "redis: {addrs: 5}\n": "4: redis.addrs: write a list of texts",
	} {
		got := strings.Join(deadly(t, text), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
	if list := parsed(t, well+"proxie: {}\n").strict(); len(list) != 1 || !list[0].ignored {
		t.Errorf("what is ignored: %+v", list)
	}
}
