//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// harborSite is a stand-in for Harbor in a process of its own, and the mode that is
// applied to it.
type harborSite struct {
	*site
	stand  *exec.Cmd
	log    bytes.Buffer // what it says beside its address
	client http.Client
}

// traffic is how busy the stand-in says it was.
type traffic struct {
	Requests, Writes int
	Written          int // requests until the last write
	MostInFlight     int
	InFlight         float64 // the mean while there was any
}

// The login of the mode: a robot that may do whatever robots may.
const harborRobot, harborSecret = "ocisync", "Robot12345"

// harborHeading is how a mode begins that is applied to a Harbor.
func harborHeading(b *bufio.Writer, work, address string) {
	fmt.Fprintf(b, `version = 1
[registry]
type  = "harbor"
url   = "http://%s"
login = { robot = %q, password = { env = "OCISYNC_ROBOT" } }
[state]
store = "dir"
dir   = %q
key   = { env = "OCISYNC_STATE_KEY" }
`, address, harborRobot, filepath.Join(work, "inventory"))
	for i := range 3 {
		fmt.Fprintf(b, "[user.user-%[1]d]\nemail = \"user-%[1]d@example.com\"\npassword = { env = \"OCISYNC_USER\" }\n", i)
	}
}

// delivered has a robot's secret brought to a file, and given has the mode give it.
func delivered(work string, i int) string {
	return fmt.Sprintf("secret.deliver = { file = %q }", filepath.Join(work, "secrets", fmt.Sprintf("team-%d", i)))
}

func given(string, int) string { return `secret.value = { env = "OCISYNC_USER" }` }

// harborTeam is a project with three members, retention, a webhook and a robot with
// that secret.
func harborTeam(b *bufio.Writer, i int, secret string) {
	fmt.Fprintf(b, `[namespace.team-%[1]d]
[namespace.team-%[1]d.access]
users.user-0 = ["admin"]
users.user-1 = ["pull", "push"]
users.user-2 = ["pull"]
[namespace.team-%[1]d.retention]
keep     = [{ newest = %[2]d }, { pushed_within = "90d" }]
schedule = "0 3 * * *"
[namespace.team-%[1]d.webhook.ci]
url    = "https://ci.example.com/hooks/team-%[1]d"
events = ["push", "delete"]
[namespace.team-%[1]d.robot.ci]
expires        = "90d"
access.team-%[1]d = ["pull", "push"]
%[3]s
`, i, 5+i%20, secret)
}

// harborMode is n projects of five objects each, and three users.
func harborMode(n int) func(b *bufio.Writer, work, address string) {
	return func(b *bufio.Writer, work, address string) {
		harborHeading(b, work, address)
		for i := range n {
			harborTeam(b, i, delivered(work, i))
		}
	}
}

// harborFull is n projects of ten objects each, whose robots have such secrets, and three
// users.
func harborFull(n int, secret func(work string, i int) string) func(b *bufio.Writer, work, address string) {
	return func(b *bufio.Writer, work, address string) {
		harborHeading(b, work, address)
		for i := range n {
			harborTeam(b, i, secret(work, i))
			fmt.Fprintf(b, `[namespace.team-%[1]d.label.reviewed]
color = "#2E7D32"
[namespace.team-%[1]d.label.frozen]
color = "#1565C0"
[namespace.team-%[1]d.label.broken]
color = "#C62828"
[[namespace.team-%[1]d.immutable]]
tags = "v*"
`, i)
		}
		fmt.Fprint(b, "[defaults.namespace]\nquota = \"10GiB\"\n")
	}
}

// harborLoop is the samples of some rounds, and what the stand-in counted of each.
type harborLoop struct {
	first, plan, second     samples
	applied, planned, again []float64 // requests
	written, flying, most   []float64 // of the first apply
}

// bareRead is what a read of 100 projects of ten objects each takes of a real
// Harbor, in requests, and share is how much more an empty plan may take.
const (
	bareRead = 607
	share    = 1.15
)

const harborSaid = `A stand-in for Harbor v2.15.2 (testdata/harbor), a process of its own that waits 5 ms
before each answer and counts the requests: %s projects, each with three members,
retention, a webhook and a robot whose secret is delivered to a file, and three
users. ocisync logs in as a robot. A first apply is its plan, the writes, and reading
them back, all of which is held to 9 requests per project. The writes take 8. What was
made alike is read back for 10 projects, and stands for the others
([ADR 0026](adr/0026-what-a-run-made-alike-is-proved-by-samples.md)); an empty plan reads
all, one request for each list of a project that the mode has something in. In flight is
the mean over the time in which there was any request, from the start to the end. No plan
and no second apply made a write, and no round took other requests than the first:
that is checked.`

const harborFullSaid = `The same with 100 projects of ten objects each: besides those, a quota, three labels and
an immutable rule. A bare read of such a state, each list once, takes 607 requests
of a real Harbor; an empty plan is held to 1.15 times that, and so is one where the mode
gives the robots' secrets itself
([ADR 0033](adr/0033-a-robots-secret-is-tried-where-the-robot-changed-since.md)).`

// harbors measures first apply, empty plan and second apply on a stand-in.
func (b *bench) harbors(ctx context.Context) error {
	stand := filepath.Join(b.dir, "harbor")
	if _, err := words(ctx, "go", "build", "-trimpath", "-o", stand, "./testdata/harbor"); err != nil {
		return err
	}
	n := namespaces
	if b.quick {
		n = 200
	}
	var l, full, giving harborLoop
	for range b.times(5) {
		if err := b.harborRound(ctx, stand, harborMode(n), 3+5*n, &l); err != nil {
			return err
		}
		if err := b.harborRound(ctx, stand, harborFull(100, delivered), 3+10*100, &full); err != nil {
			return err
		}
		if err := b.harborRound(ctx, stand, harborFull(100, given), 3+10*100, &giving); err != nil {
			return err
		}
	}
	b.add(section{
		title: "Harbor", command: "make bench-harbor", text: fmt.Sprintf(harborSaid, thousands(n)),
		rows: []row{
			row{what: "first apply, elapsed", unit: seconds, values: l.first.elapsed()}.atMost(20),
			{what: "first apply, CPU", unit: seconds, values: l.first.cpu()},
			{what: "first apply, memory", unit: mebibytes, values: l.first.memory()},
			{what: "first apply, requests until the last write", unit: count, values: l.written},
			row{what: "first apply, requests", unit: count, values: l.applied}.atMost(float64(9 * n)),
			row{what: "first apply, in flight", unit: mean, values: l.flying}.atLeast(8),
			row{what: "first apply, most in flight", unit: count, values: l.most}.atMost(16),
			row{what: "empty plan, elapsed", unit: seconds, values: l.plan.elapsed()}.atMost(5),
			{what: "empty plan, CPU", unit: seconds, values: l.plan.cpu()},
			row{what: "empty plan, memory", unit: mebibytes, values: l.plan.memory()}.atMost(100 << 20),
			{what: "empty plan, requests", unit: count, values: l.planned},
			{what: "second apply, elapsed", unit: seconds, values: l.second.elapsed()},
			{what: "second apply, requests", unit: count, values: l.again},
		},
	})
	b.add(section{
		title: "Harbor, ten objects in each project", command: "make bench-harbor", text: harborFullSaid,
		rows: []row{
			{what: "first apply, elapsed", unit: seconds, values: full.first.elapsed()},
			{what: "first apply, requests", unit: count, values: full.applied},
			{what: "empty plan, elapsed", unit: seconds, values: full.plan.elapsed()},
			{what: "empty plan, CPU", unit: seconds, values: full.plan.cpu()},
			row{what: "empty plan, memory", unit: mebibytes, values: full.plan.memory()}.atMost(60e6),
			row{what: "empty plan, requests", unit: count, values: full.planned}.atMost(share * bareRead),
			row{what: "empty plan, secrets in the mode, requests", unit: count, values: giving.planned}.atMost(share * bareRead),
		},
	})
	return nil
}

// harborRound fails if a plan or a second apply wrote anything, or if a step took
// other requests than in the first round.
func (b *bench) harborRound(ctx context.Context, stand string, write func(b *bufio.Writer, work, address string), objects int, l *harborLoop) (err error) {
	s, err := b.harborSite(ctx, stand, write)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	steps := []struct {
		verb, promise string
		to            *samples
		requests      *[]float64
	}{
		{"apply", fmt.Sprintf("applied %d changes and read them back", objects), &l.first, &l.applied},
		{"plan", fmt.Sprintf("no changes, %d unchanged", objects), &l.plan, &l.planned},
		{"apply", saysNothing, &l.second, &l.again},
	}
	for i, step := range steps {
		if _, err := s.traffic(ctx, http.MethodDelete); err != nil {
			return err
		}
		took, err := b.ocisync(ctx, s.work, step.promise, append(s.args(step.verb), "--host-file", filepath.Join(s.work, "host.toml"))...)
		if err != nil {
			return err
		}
		counted, err := s.traffic(ctx, http.MethodGet)
		if err != nil {
			return err
		}
		*step.to, *step.requests = append(*step.to, took), append(*step.requests, float64(counted.Requests))
		if i == 0 {
			l.written, l.most = append(l.written, float64(counted.Written)), append(l.most, float64(counted.MostInFlight))
			l.flying = append(l.flying, counted.InFlight)
		} else if counted.Writes > 0 {
			return fmt.Errorf("%s, with nothing to do, wrote to Harbor: %d of %d requests", step.verb, counted.Writes, counted.Requests)
		}
		if list := *step.requests; list[0] != list[len(list)-1] {
			return fmt.Errorf("%s took %.0f requests at first and %d now, of the same", step.verb, list[0], counted.Requests)
		}
	}
	return nil
}

// harborSite starts a stand-in with nothing in it.
func (b *bench) harborSite(ctx context.Context, stand string, write func(b *bufio.Writer, work, address string)) (*harborSite, error) {
	made, err := b.site(ctx, write)
	if err != nil {
		return nil, err
	}
	s := &harborSite{site: made, client: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	secrets := filepath.Join(s.work, "secrets")
	host := fmt.Sprintf("[secrets]\ndeliver = [%q]\n", secrets)
	if err := errors.Join(os.Mkdir(secrets, 0o700), os.WriteFile(filepath.Join(s.work, "host.toml"), []byte(host), 0o600)); err != nil {
		return nil, err
	}
	s.stand = exec.CommandContext(ctx, stand, "-listen", s.address, "-latency", "5ms", "-robot", harborRobot+":"+harborSecret)
	s.stand.Stderr = &s.log
	s.stand.Cancel = func() error { return s.stand.Process.Signal(syscall.SIGTERM) }
	s.stand.WaitDelay = 10 * time.Second
	said, err := s.stand.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.stand.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || !strings.Contains(line, s.address) {
		return nil, errors.Join(fmt.Errorf("the stand-in for Harbor said %q: %w", line, err), s.stop())
	}
	return s, nil
}

func (s *harborSite) stop() error {
	err := errors.Join(s.stand.Process.Signal(syscall.SIGTERM), s.stand.Wait())
	if err != nil {
		err = fmt.Errorf("the stand-in for Harbor: %w\n%s", err, s.log.String())
	}
	return errors.Join(err, os.RemoveAll(s.work))
}

// traffic asks the stand-in how busy it was, or, with DELETE, to count anew.
func (s *harborSite) traffic(ctx context.Context, method string) (traffic, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+"/stand-in/traffic", nil)
	if err != nil {
		return traffic{}, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return traffic{}, err
	}
	defer resp.Body.Close()
	if method == http.MethodDelete {
		return traffic{}, nil
	}
	var t traffic
	return t, json.NewDecoder(resp.Body).Decode(&t)
}

// thousands writes a number as the document does.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
