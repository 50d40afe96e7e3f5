package schema_test

import (
	"regexp"
	"testing"

	"github.com/ocisync/ocisync/schema"
)

// TestAStarOfASubjectStaysInItsPart, and all else is taken as it is.
func TestAStarOfASubjectStaysInItsPart(t *testing.T) {
	const release = "https://github.com/team/app/.github/workflows/release.yml@refs/tags/"
	for _, tt := range []struct {
		subject, is string
		want        bool
	}{
		{release + "*", release + "v1.2.3", true},
		{release + "*", release, false},
		{release + "*", release + "a/b", false},
		{release + "*", release + "v1@refs", false},
		{release + "*", "https://evil.example/?" + release + "v1", false},
		{release + "*", "https://github.com/team/app/.github/workflows/release_yml@refs/tags/v1", false},
		{"https://github.com/team/*/.github/workflows/release.yml@refs/heads/main", "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main", true},
		{"https://github.com/team/*/.github/workflows/release.yml@refs/heads/main", "https://github.com/team/app/x/.github/workflows/release.yml@refs/heads/main", false},
		{"https://github.com/team/app/.github/workflows/*@refs/heads/main", "https://github.com/team/app/.github/workflows/x.yml@refs/heads/evil@refs/heads/main", false},
		{release + "v1", release + "v1", true},
		{release + "v1", release + "v1.2", false},
		{"dev@example.com", "dev@example.com", true},
		{"dev@example.com", "dev@example_com", false},
		{"dev@example.com", "dev@example.com\nx", false},
	} {
		pattern, err := schema.SubjectPattern(tt.subject)
		if err != nil {
			t.Errorf("%s: %v", tt.subject, err)
			continue
		}
		if got := regexp.MustCompile(pattern).MatchString(tt.is); got != tt.want {
			t.Errorf("%s of %q: %v", tt.subject, tt.is, got)
		}
	}
	for _, subject := range []string{
		"", "*", "*@example.com", "dev@*", "dev @example.com", "dev@example.com\n", "https://*", "https://*.example.com/team/app/x", "https://github.com/*",
		"https://github.com/*/app/.github/workflows/release.yml@refs/heads/main", "https://github.com/te*/app/x",
		"https://github.com//*", "://a/b/*", "https:///team/*", release + "**",
	} {
		if pattern, err := schema.SubjectPattern(subject); err == nil {
			t.Errorf("%q is taken as %s", subject, pattern)
		}
	}
}
