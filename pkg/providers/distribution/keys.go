package distribution

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocisync/ocisync/schema"
)

// valueType is what a value must be.
type valueType string

const (
	textValue     valueType = `a text, such as "info"`
	quotedValue   valueType = "a text in quotes"
	numberValue   valueType = "a whole number"
	boolValue     valueType = "true or false"
	durationValue valueType = `a text with a number and its unit, such as "60s"`
	textsValue    valueType = `a list of texts, such as ["a"]`
	anyValue      valueType = "a value"
	tableValue    valueType = "a table, {} where nothing stands in it"
)

// key is one setting of Distribution. A part "*" of the path stands for any
// name; "[]" after a part says that it is a list of tables.
type key struct {
	path string
	is   valueType
	of   []string // the words it may be; nil for any
}

// keys are the settings of Distribution 3.1.2 that a mode may set, by its
// configuration package and the drivers' parameters. Others it ignores without
// a word; values of another type make it stop or panic when it starts. Those
// that are ocisync's own to set are checked before, by schema.OwnedSetting.
func keys() []key {
	out := []key{
		{path: "log.level", is: textValue, of: levels()},
		{path: "log.formatter", is: textValue, of: []string{"text", "json", "logstash"}},
		{path: "log.fields.*", is: anyValue},
		{path: "log.reportcaller", is: boolValue},
		{path: "log.accesslog.disabled", is: boolValue},
		{path: "log.hooks[].disabled", is: boolValue},
		{path: "log.hooks[].type", is: textValue, of: []string{"mail"}},
		{path: "log.hooks[].levels", is: textsValue},
		{path: "log.hooks[].options.smtp.addr", is: textValue},
		{path: "log.hooks[].options.smtp.username", is: textValue},
		{path: "log.hooks[].options.smtp.insecure", is: boolValue},
		{path: "log.hooks[].options.from", is: textValue},
		{path: "log.hooks[].options.to", is: textsValue},

		{path: "storage.inmemory", is: tableValue},
		{path: "storage.redirect.disable", is: boolValue},
		{path: "storage.cache.blobdescriptor", is: textValue, of: []string{"inmemory", "redis"}},
		{path: "storage.cache.blobdescriptorsize", is: numberValue},
		{path: "storage.tag.concurrencylimit", is: numberValue},
		{path: "storage.maintenance.uploadpurging.enabled", is: boolValue},
		{path: "storage.maintenance.uploadpurging.age", is: durationValue},
		{path: "storage.maintenance.uploadpurging.interval", is: durationValue},
		{path: "storage.maintenance.uploadpurging.dryrun", is: boolValue},

		{path: "http.net", is: textValue, of: []string{"tcp", "unix"}},
		{path: "http.draintimeout", is: durationValue},
		{path: "http.headers.*", is: textsValue},
		{path: "http.tls.clientcas", is: textsValue},
		{path: "http.tls.clientauth", is: textValue, of: []string{"request-client-cert", "require-any-client-cert", "verify-client-cert-if-given", "require-and-verify-client-cert"}},
		{path: "http.tls.minimumtls", is: textValue, of: []string{"tls1.2", "tls1.3"}},
		{path: "http.tls.ciphersuites", is: textsValue},
		{path: "http.tls.letsencrypt.hosts", is: textsValue},

		{path: "redis.addrs", is: textsValue},
		{path: "redis.tls.rootcas", is: textsValue},

		{path: "health.storagedriver.enabled", is: boolValue},
		{path: "health.storagedriver.interval", is: durationValue},
		{path: "health.storagedriver.threshold", is: numberValue},
		{path: "health.file[].file", is: textValue},
		{path: "health.http[].uri", is: textValue},
		{path: "health.http[].headers.*", is: textsValue},
		{path: "health.http[].statuscode", is: numberValue},
		{path: "health.tcp[].addr", is: textValue},
		{path: "health.http[].timeout", is: durationValue},
		{path: "health.tcp[].timeout", is: durationValue},

		{path: "proxy.ttl", is: durationValue},
		{path: "proxy.cachewritetimeout", is: durationValue},
		{path: "proxy.exec.lifetime", is: durationValue},

		{path: "catalog.maxentries", is: numberValue},
		{path: "tags.maxtags", is: numberValue},
		{path: "policy.repository.classes", is: textsValue},

		{path: "validation.disabled", is: boolValue},
		{path: "validation.manifests.urls.allow", is: textsValue},
		{path: "validation.manifests.urls.deny", is: textsValue},
		{path: "validation.manifests.indexes.platforms", is: textValue, of: []string{"all", "none", "list"}},
		{path: "validation.manifests.indexes.platformlist[].architecture", is: textValue},
		{path: "validation.manifests.indexes.platformlist[].os", is: textValue},
	}
	add := func(is valueType, prefix, names string) {
		for name := range strings.FieldsSeq(names) {
			out = append(out, key{path: prefix + name, is: is})
		}
	}
	add(textValue, "storage.filesystem.", "rootdirectory")
	add(numberValue, "storage.filesystem.", "maxthreads")
	add(textValue, "storage.s3.", "accesskey secretkey region regionendpoint redirectendpoint bucket keyid rootdirectory storageclass objectacl loglevel useragent")
	add(boolValue, "storage.s3.", "forcepathstyle accelerate encrypt secure skipverify v4auth usedualstack usefipsendpoint")
	add(numberValue, "storage.s3.", "chunksize multipartcopychunksize multipartcopymaxconcurrency multipartcopythresholdsize")
	add(textValue, "storage.gcs.", "bucket keyfile rootdirectory useragent")
	add(numberValue, "storage.gcs.", "chunksize maxconcurrency")
	add(textValue, "storage.azure.", "accountname accountkey connectionstring container realm serviceurl rootdirectory credentials.clientid credentials.tenantid credentials.secret")
	out = append(out, key{path: "storage.azure.credentials.type", is: textValue, of: []string{"client_secret", "shared_key", "default_credentials"}})
	add(numberValue, "storage.azure.", "max_retries")
	add(durationValue, "storage.azure.", "retry_delay")
	add(boolValue, "storage.azure.", "skipverify")
	for _, kind := range []string{"registry", "repository", "storage"} {
		add(textValue, "middleware."+kind+"[].", "name")
		add(boolValue, "middleware."+kind+"[].", "disabled")
		add(anyValue, "middleware."+kind+"[].options.", "*")
	}
	add(textValue, "http.", "addr host prefix secret debug.addr debug.prometheus.path tls.certificate tls.key tls.letsencrypt.cachefile tls.letsencrypt.email tls.letsencrypt.directoryurl")
	add(boolValue, "http.", "relativeurls debug.prometheus.enabled http2.disabled h2c.enabled")
	add(textValue, "redis.", "clientname username password sentinelusername sentinelpassword mastername identitysuffix tls.certificate tls.key")
	add(numberValue, "redis.", "db protocol maxretries poolsize minidleconns maxidleconns maxactiveconns maxredirects")
	add(durationValue, "redis.", "minretrybackoff maxretrybackoff dialtimeout readtimeout writetimeout pooltimeout connmaxidletime connmaxlifetime")
	add(boolValue, "redis.", "contexttimeoutenabled poolfifo readonly routebylatency routerandomly disableidentity unstableresp3")
	for _, check := range []string{"file", "http", "tcp"} {
		add(durationValue, "health."+check+"[].", "interval")
		add(numberValue, "health."+check+"[].", "threshold")
	}
	add(textValue, "proxy.", "remoteurl username password exec.command")
	return out
}

// levels are those of the log.
func levels() []string { return []string{"error", "warn", "info", "debug"} }

// drivers are the places that storage may name, one of them.
func drivers() []string { return []string{"filesystem", "s3", "gcs", "azure", "inmemory"} }

// tableKey reports whether a path without a value is an empty table.
func tableKey(path string) bool {
	return slices.ContainsFunc(keys(), func(k key) bool {
		return k.path == path && k.is == tableValue || strings.HasPrefix(k.path, path+".")
	})
}

// CheckSettings says what is wrong with native settings, all at once: a key
// that Distribution would ignore, a value of another type than it takes, two
// places for content, or a reference to a secret where no secret belongs.
func CheckSettings(values schema.Values) error {
	var problems []error
	known := keys()
	for _, v := range values {
		if v.Path == schema.OutsidePath {
			continue
		}
		parts := schema.SplitPath(v.Path)
		if _, secret := v.Secret(); secret {
			if k, ok := find(known, strings.Join(parts, ".")); !ok || k.is != textValue || !schema.SecretSetting(schema.TypeDistribution, v.Path) {
				problems = append(problems, fmt.Errorf("%s: a reference to a secret stands where Distribution has none", v.Path))
			}
			continue
		}
		problems = append(problems, check(known, v.Path, strings.Join(parts, "."), []byte(v.JSON))...)
	}
	problems = append(problems, onePlace(values))
	return errors.Join(problems...)
}

// placeOf is the place of content that a path speaks of, "" for none.
func placeOf(path string) string {
	parts := schema.SplitPath(path)
	if len(parts) > 1 && parts[0] == "storage" && slices.Contains(drivers(), parts[1]) {
		return parts[1]
	}
	return ""
}

// onePlace refuses more than one.
func onePlace(values schema.Values) error {
	var places []string
	for _, v := range values {
		if place := placeOf(v.Path); place != "" {
			places = append(places, place)
		}
	}
	slices.Sort(places)
	if places = slices.Compact(places); len(places) > 1 {
		return fmt.Errorf("storage: content has one place; keep one of %s", strings.Join(places, ", "))
	}
	return nil
}

// check compares a value with the keys; shown is its path for people.
func check(known []key, shown, path string, value []byte) []error {
	value = bytes.TrimSpace(value)
	switch {
	case len(value) > 1 && value[0] == '{' && string(value) != "{}":
		element := strings.HasSuffix(path, "[]") // { file = "…" } of health.file looks like a reference
		if _, secret := (schema.Value{JSON: string(value)}).Secret(); secret && !element {
			return []error{fmt.Errorf("%s: a reference to a secret is resolved in no list", shown)}
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(value, &m) != nil {
			return []error{fmt.Errorf("%s: that is no table", shown)}
		}
		var out []error
		for _, name := range sorted(m) {
			out = append(out, check(known, shown+"."+name, path+"."+name, m[name])...)
		}
		return out
	case len(value) > 0 && value[0] == '[' && listOfTables(known, path):
		var l []json.RawMessage
		if json.Unmarshal(value, &l) != nil {
			return []error{fmt.Errorf("%s: that is no list", shown)}
		}
		var out []error
		for i, item := range l {
			at := fmt.Sprintf("%s[%d]", shown, i)
			if item = bytes.TrimSpace(item); len(item) == 0 || item[0] != '{' {
				out = append(out, fmt.Errorf("%s: a table belongs there", at))
				continue
			}
			out = append(out, check(known, at, path+"[]", item)...)
		}
		return out
	}
	k, ok := find(known, path)
	if !ok && string(value) == "{}" && tableKey(path) {
		return nil
	}
	if around, is := find(known, strings.TrimSuffix(path, last(path))); !ok && is {
		return []error{fmt.Errorf("%s: write %s; nothing stands below it, and a reference only in the place of a secret, such as a password", strings.TrimSuffix(shown, last(shown)), around.is)}
	}
	if !ok {
		return []error{fmt.Errorf("%s: Distribution has no such setting, and would ignore it; %s", shown, neighbours(known, path))}
	}
	if err := k.takes(value); err != nil {
		return []error{fmt.Errorf("%s: %w", shown, err)}
	}
	return nil
}

// last is the last part of a path, with its dot.
func last(path string) string { return path[max(0, strings.LastIndexByte(path, '.')):] }

func sorted(m map[string]json.RawMessage) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func listOfTables(known []key, path string) bool {
	return slices.ContainsFunc(known, func(k key) bool { return strings.HasPrefix(k.path, path+"[].") })
}

func find(known []key, path string) (key, bool) {
	i := slices.IndexFunc(known, func(k key) bool {
		prefix, open := strings.CutSuffix(k.path, "*")
		return k.path == path || open && strings.HasPrefix(path, prefix) && len(path) > len(prefix)
	})
	if i < 0 {
		return key{}, false
	}
	return known[i], true
}

// neighbours tells what there is in the place of an unknown key.
func neighbours(known []key, path string) string {
	for at := path; ; {
		i := strings.LastIndexByte(at, '.')
		at = at[:max(i, 0)]
		prefix := at + "."
		if at == "" {
			prefix = ""
		}
		var names []string
		for _, k := range known {
			if rest, ok := strings.CutPrefix(k.path, prefix); ok {
				name, _, _ := strings.Cut(rest, ".")
				names = append(names, strings.TrimSuffix(name, "[]"))
			}
		}
		if len(names) > 0 || at == "" {
			slices.Sort(names)
			if at == "" {
				return "there is " + strings.Join(slices.Compact(names), ", ")
			}
			return at + " has " + strings.Join(slices.Compact(names), ", ")
		}
	}
}

// takes says why a value is not the key's.
func (k key) takes(value []byte) error {
	wrong := fmt.Errorf("write %s", k.is)
	var text string
	isText := json.Unmarshal(value, &text) == nil && len(value) > 0 && value[0] == '"'
	switch k.is {
	case textValue:
		switch {
		case !isText:
			return wrong
		case k.of != nil && !slices.Contains(k.of, text):
			return fmt.Errorf("write one of %s", strings.Join(k.of, ", "))
		}
	case durationValue:
		if !isText {
			return fmt.Errorf("%w; a number would be nanoseconds", wrong)
		}
		if d, err := time.ParseDuration(text); err != nil || d < 0 {
			return wrong
		}
	case numberValue:
		var n int64
		if json.Unmarshal(value, &n) != nil || n < 0 {
			return wrong
		}
	case boolValue:
		if s := string(value); s != "true" && s != "false" {
			return wrong
		}
	case textsValue:
		var l []string
		if len(value) == 0 || value[0] != '[' || json.Unmarshal(value, &l) != nil {
			return wrong
		}
	case tableValue:
		if string(value) != "{}" {
			return wrong
		}
	case anyValue:
	}
	return nil
}
