package load_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/schema/load"
)

// manyNamespaces writes a mode with n namespaces of 12 lines each.
func manyNamespaces(n int) []byte {
	var b strings.Builder
	b.WriteString("version = 1\n[registry]\ntype = \"harbor\"\nurl = \"https://registry.example.com\"\n[user.developer]\n[user.provisioning]\n")
	for i := range n {
		fmt.Fprintf(&b, `[namespace.team-%d]
description = "Images of team %d"
retention.keep = [{ newest = %d }, { pushed_within = "90d" }]
[namespace.team-%d.access]
anonymous          = []
authenticated      = ["pull", "push"]
users.provisioning = ["admin"]
users.developer    = ["pull", "push", "delete"]
[namespace.team-%d.webhook.ci]
url    = "https://ci.example.com/hooks/team-%d"
events = ["push", "delete"]
auth   = { env = "OCISYNC_HOOK_%d" }
`, i, i, 3+i%20, i, i, i, i)
	}
	return []byte(b.String())
}

func benchmarkValidate(b *testing.B, n int) {
	b.Helper()
	root := writeMode(b, "m", map[string][]byte{"m.toml": manyNamespaces(n)})
	for b.Loop() {
		cfg, err := load.Mode(root, "m")
		if err != nil {
			b.Fatal(err)
		}
		if len(cfg.Desired.Resources) != 4*n+2 {
			b.Fatalf("%d resources", len(cfg.Desired.Resources))
		}
	}
}

func BenchmarkValidate1000(b *testing.B) { benchmarkValidate(b, 1000) }
func BenchmarkValidate2000(b *testing.B) { benchmarkValidate(b, 2000) }
func BenchmarkValidate4000(b *testing.B) { benchmarkValidate(b, 4000) }

func BenchmarkValidateExample(b *testing.B) {
	root := "../../examples/modes"
	for b.Loop() {
		if _, err := load.Mode(root, "dev"); err != nil {
			b.Fatal(err)
		}
	}
}
