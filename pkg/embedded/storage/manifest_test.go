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

// TestAnOddPropertyHidesNothing: what a manifest names is found, whatever else it says.
func TestAnOddPropertyHidesNothing(t *testing.T) {
	const (
		config  = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		layer   = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
		child   = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
		subject = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
	)
	for _, odd := range []string{
		`"blobs":5`, `"fsLayers":"x"`, `"artifactType":5`, `"annotations":{"a":5}`, `"annotations":[]`, `"mediaType":{}`, `"blobs":[5]`, `"fsLayers":[{"blobSum":5}]`,
	} {
		for _, first := range []bool{true, false} {
			body := `"config":{"digest":"` + config + `","size":"1"},"layers":[{"digest":"` + layer + `","size":1}],"manifests":[{"digest":"` + child + `","platform":"x"}],"subject":{"digest":"` + subject + `","data":"_-no base64"}`
			if first {
				body = odd + "," + body
			} else {
				body += "," + odd
			}
			m := storage.ParseManifest([]byte(`{"schemaVersion":2,` + body + `}`))
			if !m.Known() || len(m.Contents()) != 2 || m.Contents()[0] != config || m.Contents()[1] != layer || len(m.Children()) != 1 || m.About() != subject {
				t.Errorf("%s: %+v", body, m)
			}
		}
	}
	if m := storage.ParseManifest([]byte(`{"schemaVersion":2,"manifests":null,"subject":{"digest":"` + subject + `"}}`)); !m.Known() || !m.Index() || m.About() != subject {
		t.Errorf("an empty index, as Go writes it: %+v", m)
	}
	if m := storage.ParseManifest([]byte(`{"schemaVersion":2,"config":{"digest":"` + config + `"},"manifests":null}`)); m.Index() {
		t.Errorf("an image is taken for an index: %+v", m)
	}
	if err := storage.CheckManifest([]byte(`{"schemaVersion":2,"subject":{"digest":"` + subject + `"}}`)); err == nil || !strings.Contains(err.Error(), "no format is like that") {
		t.Errorf("of what names nothing: %v", err)
	}
	if m := storage.ParseManifest([]byte(`{"schemaVersion":2,"layers":[`)); m.Known() {
		t.Errorf("half of one: %+v", m)
	}
}

func TestALayerElsewhereHasAnAddress(t *testing.T) {
	const digest = `"digest":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1`
	for layer, right := range map[string]bool{
		`{` + digest + `,"urls":["https://example.com/l","http://example.com/l"]}`: true, `{` + digest + `}`: true,
		`{` + digest + `,"urls":["ftp://example.com/l"]}`: false, `{` + digest + `,"urls":["https://example.com/l","file:///l"]}`: false,
		`{` + digest + `,"urls":["https://example.com/l#x"]}`: false, `{` + digest + `,"urls":["%"]}`: false,
		`{` + digest + `,"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}`: false,
	} {
		if err := storage.CheckManifest([]byte(`{"schemaVersion":2,"layers":[` + layer + `]}`)); (err == nil) != right {
			t.Errorf("%s: %v", layer, err)
		}
	}
}
