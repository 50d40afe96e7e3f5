package load_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

func TestReferenceTellsEveryKeyOfAPart(t *testing.T) {
	have, err := load.Reference("namespace.quota")
	if err != nil {
		t.Fatal(err)
	}
	want := `namespace.quota: a text in quotes, such as "500GiB", or a table, such as { limit = "500GiB" }
The limit of its bytes.
Limits the bytes of a namespace.

  limit   a text in quotes, such as "500GiB"; required
          The limit, or "unlimited".
  paused  a table
          Leaves the object alone until a day.
`
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("(-want +have)\n%s", diff)
	}
	for _, k := range schema.Kinds() {
		if k == schema.KindSettings {
			continue
		}
		text, err := load.Reference(string(k))
		if err != nil || strings.Count(text, "\n") < 4 {
			t.Errorf("%s: %v\n%s", k, err, text)
		}
	}
	if text, err := load.Reference("user.password.env"); err != nil || !strings.Contains(text, "environment variable") {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := load.Reference(""); err != nil || !strings.Contains(text, "namespace") {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := load.Reference("namespace.retentoin"); err == nil || !strings.Contains(err.Error(), `did you mean "namespace.retention"?`) {
		t.Errorf("%v", err)
	}
}

func TestJSONSchemaOfTheRepositoryIsUpToDate(t *testing.T) {
	have, err := load.JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(have) {
		t.Fatal("not JSON")
	}
	upToDate(t, "../ocisync.schema.json", have)
}

func TestReferencePageOfTheRepositoryIsUpToDate(t *testing.T) {
	have, err := load.Page()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range schema.Kinds() {
		if k != schema.KindSettings && !bytes.Contains(have, []byte("`"+string(k)+"`")) {
			t.Errorf("the page does not name %s", k)
		}
	}
	upToDate(t, "../../docs/format.md", have)
}

// upToDate compares a generated file with what is committed.
func upToDate(t *testing.T, file string, have []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, have, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(want, have) {
		t.Errorf("%s differs from the definitions (%v); run go generate ./schema/load", file, err)
	}
}
