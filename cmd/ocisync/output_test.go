package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestJSONShowsWhatIsInIt(t *testing.T) {
	in := "a\u202eb\u009b\U000e0041<é\u00a0"
	var b bytes.Buffer
	if err := writeJSON(&b, in); err != nil {
		t.Fatal(err)
	}
	const want = `"a\u202eb\u009b\udb40\udc41<é\u00a0"` + "\n"
	if b.String() != want {
		t.Errorf("%s, want %s", b.String(), want)
	}
	var out string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out != in {
		t.Errorf("it reads back as %q, %v", out, err)
	}
}
