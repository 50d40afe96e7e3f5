package storage_test

import (
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/embedded/storage"
)

// TestAManifestSaysOneThingToEveryReader: encoding/json takes the last of two keys,
// in whatever case, and most clients the one that is spelled right. What only they see
// would be collected.
func TestAManifestSaysOneThingToEveryReader(t *testing.T) {
	const blob = `{"digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":1}`
	for _, body := range []string{
		`"layers":[` + blob + `],"LAYERS":[]`, `"LAYERS":[],"layers":[` + blob + `]`, `"layers":[` + blob + `],"layers":[]`,
		`"config":` + blob + `,"layers":[],"config":null`, `"layers":[` + blob + `],"layer\u017f":[]`, `"layers":[` + blob + `],"layerſ":[]`,
		`"layers":[` + strings.Replace(blob, `"size"`, `"Digest":"sha256:bb","size"`, 1) + `]`,
		`"manifests":[],"annotations":{},"Annotations":{}`,
	} {
		err := storage.CheckManifest([]byte(`{"schemaVersion":2,` + body + `}`))
		if err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, body := range []string{
		`"layers":[` + blob + `,` + blob + `],"config":` + blob,
		`"manifests":[` + strings.Replace(blob, `}`, `,"annotations":{"a":"layers","A":"","annotations":"x"},"platform":{"os":"linux"}}`, 1) + `],"annotations":{"Digest":"1","digest":"2"}`,
		`"layers":[],"unknown":{"a":1,"A":2,"layers":[],"Layers":{}},"Unknown":[{"digest":1,"Digest":2}]`, `"config":` + strings.Replace(blob, `}`, `,"x":{"size":1,"Size":2},"y":1,"Y":2}`, 1),
		`"LAYERS":[` + blob + `]`, `"layers":[],"":{},"x":{"":[{"":""}]}`,
	} {
		if err := storage.CheckManifest([]byte(`{"schemaVersion":2,` + body + `}`)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}
