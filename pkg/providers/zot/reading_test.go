package zot

import "testing"

func TestTheSameConfigurationIsReadOnce(t *testing.T) {
	var r reading
	text := []byte(`{"storage":{"rootDirectory":"/a"}}`)
	first, _, err := r.config("config.json", text)
	if err != nil {
		t.Fatal(err)
	}
	if again, conf, err := r.config("config.json", append([]byte{}, text...)); again != first || conf.Storage.RootDirectory != "/a" || err != nil {
		t.Errorf("the same is read again: %v", err)
	}
	other, conf, err := r.config("config.json", []byte(`{"storage":{"rootDirectory":"/b"}}`))
	if other == first || conf.Storage.RootDirectory != "/b" || err != nil {
		t.Errorf("another is taken for the same: %v, %v", conf.Storage.RootDirectory, err)
	}
	if _, _, err := r.config("config.json", []byte(`{`)); err == nil {
		t.Error("what is none is read")
	}
}
