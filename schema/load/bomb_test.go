//go:build unix

package load_test

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocisync/ocisync/schema/load"
)

// processor is the processor time this process has used; unlike the clock it
// does not depend on what else the machine does.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestBombsFailInUnderASecond(t *testing.T) {
	for name, data := range map[string][]byte{
		"bytes":    bytes.Repeat([]byte("# x\n"), 2<<20),
		"brackets": append([]byte("a = "), bytes.Repeat([]byte("["), 4<<20-10)...),
		"inline":   append([]byte("a = "), bytes.Repeat([]byte("{a="), 1<<20)...),
		"dotted":   []byte(strings.Repeat("a.", 1<<20) + "a = 1"),
		"header":   []byte("[" + strings.Repeat("a.", 1<<20) + "a]"),
		"key":      []byte(strings.Repeat("a", 1<<20) + " = 1"),
		"items":    []byte("a = [" + strings.Repeat("1,", 2<<20-10) + "]"),
		"tables":   []byte(strings.Repeat("[[a]]\n", 600_000)),
		"same":     []byte(strings.Repeat("[a]\n", 1_000_000)),
		"unknown":  unknownKeys(100_000),
		"keys":     []byte(strings.Repeat("a=1\n", 1_000_000)),
	} {
		t.Run(name, func(t *testing.T) {
			root := writeMode(t, "m", map[string][]byte{"m.toml": data})
			var took time.Duration
			for range 3 { // what shares the processor's caches may slow one run, and never speeds one up
				start := processor(t)
				if _, err := load.Mode(root, "m"); err == nil {
					t.Error("it passes")
				} else if len(err.Error()) > 200_000 {
					t.Errorf("the error has %d bytes", len(err.Error()))
				}
				if took = processor(t) - start; took <= slowdown*time.Second {
					return
				}
			}
			t.Errorf("it takes %s of the processor", took)
		})
	}
}

// unknownKeys is a namespace of nothing but keys that do not exist.
func unknownKeys(n int) []byte {
	var b bytes.Buffer
	b.WriteString("version = 1\n[registry]\ntype = \"zot\"\nurl = \"https://h.example\"\n[namespace.x]\n")
	for i := range n {
		fmt.Fprintf(&b, "a%d.b%d.c%d=1\n", i, i, i)
	}
	return b.Bytes()
}
