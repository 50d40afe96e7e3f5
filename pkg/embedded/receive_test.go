package embedded

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOfWhatDistributionPostsManifestsAreEvents(t *testing.T) {
	r := &Registry{options: Options{Tokens: &Tokens{Service: "registry.example.com"}}}
	const manifest, digest = `"mediaType":"application/vnd.oci.image.manifest.v1+json",`, `"digest":"sha256:f38875cc11774dbe2648993916714637f4a3dc4428dc9cc2194076872aba6edc",`
	event := func(action, method, target string) string {
		return `{"id":"x","action":"` + action + `","target":{` + target + `"repository":"team/app"},"request":{"method":"` + method + `"},"actor":{"name":"ann"}}`
	}
	events, err := r.notified(nil, []byte(`{"events":[`+strings.Join([]string{
		event("push", "PUT", manifest+digest+`"tag":"1",`),
		event("push", "PUT", `"mediaType":"application/octet-stream",`+digest),
		event("pull", "GET", manifest+digest),
		event("pull", "HEAD", manifest+digest),
		event("mount", "POST", digest),
		event("delete", "DELETE", `"tag":"1",`),
		event("delete", "DELETE", digest),
		event("delete", "DELETE", ""), // of a repository
	}, ",")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		what := e.Action + " " + e.Target.Repository + ":" + e.Target.Tag
		if e.Target.Digest != "" {
			what += "@"
		}
		got = append(got, what)
		if e.Actor.Name != "ann" || e.ID != "x" || e.Source.Addr != "registry.example.com" {
			t.Errorf("%+v", e)
		}
	}
	if d := cmp.Diff([]string{"push team/app:1@", "pull team/app:@", "delete team/app:1", "delete team/app:@"}, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "[]", `{"events":[{"action":"delete","target":{"tag":"1","repository":"../x"}}]}`} {
		if got, err := r.notified(nil, []byte(bad)); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}
