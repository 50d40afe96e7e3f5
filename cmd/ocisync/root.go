package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ocisync/ocisync/pkg/progress"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/runtime"
	"github.com/ocisync/ocisync/schema"
	"github.com/ocisync/ocisync/schema/load"
)

// The exit codes, in the words of every command's help.
const (
	exitDone        = 0
	exitFailed      = 1
	exitPending     = 2
	exitInvalid     = 3
	exitRefused     = 4
	exitPartly      = 5
	exitInterrupted = 130
)

const exitHelp = `
Exit codes: 0 done, or no changes; 1 failed; 2 changes pending (plan --detailed-exitcode);
3 the file is invalid; 4 refused or held by a guard or a missing capability;
5 partly applied, or not known; 130 interrupted.`

// codedError is an error with the exit code it stands for. A nil err is said
// by the exit code alone.
type codedError struct {
	code int
	err  error
}

func (e codedError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e codedError) Unwrap() error { return e.err }

// streams is where a run reads and writes, so that tests can stand in.
type streams struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) (string, bool)
}

// terminal reports whether a stream is one that a person looks at.
func terminal[T any](stream T) bool {
	_, ok := console(stream)
	return ok
}

// console is the file of a stream that a person looks at.
func console[T any](stream T) (*os.File, bool) {
	f, ok := any(stream).(*os.File)
	switch s := any(stream).(type) {
	case *results:
		f, ok = s.of.(*os.File)
	case *progress.Screen:
		f, ok = s.Under().(*os.File)
	}
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// color reports whether to colour what is written to w.
func (s streams) color(w io.Writer) bool {
	if v, ok := s.getenv("NO_COLOR"); ok && v != "" {
		return false
	}
	if v, _ := s.getenv("TERM"); v == "dumb" {
		return false
	}
	return terminal(w)
}

// env is a variable's value, "" where it is not set.
func (s streams) env(name string) string {
	v, _ := s.getenv(name)
	return v
}

// results is standard output. It keeps its first error, so that a result that
// could not be written is never taken for success.
type results struct {
	of  io.Writer // the stream itself
	w   io.Writer // how it is written to
	err error
}

func (r *results) Write(b []byte) (int, error) {
	n, err := r.w.Write(b)
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("writing the result: %w", err)
	}
	return n, err
}

// options are what the flags of the verbs say.
type options struct {
	streams
	modes    string
	mode     string
	hostFile string
	output   string
	verbose  bool

	screen  *progress.Screen // standard error
	told    string           // by which style the flag has it say how far it is
	shown   progress.Style   // by which it does
	metrics string           // the file that figures are written to
	watch   *progress.Watch  // nil where nothing is watched

	// waits says why a mirror or artifact is left for a later run, "" where it is not; nil:
	// none is.
	waits    func(schema.Resource) string
	restored map[string]map[string]v1.Hash // tags that a backup brought back, by repository
}

func (o *options) json() bool { return o.output == "json" }

// modeFlags are those of the verbs that load a mode.
func (o *options) modeFlags(cmd *cobra.Command) {
	o.modesFlags(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.mode, "mode", "m", o.env("OCISYNC_MODE"), "the `mode` to work on (or OCISYNC_MODE)")
	f.Lookup("mode").DefValue = ""
	complete(cmd, "mode", o.completeModes)
}

// modesFlags are those of the verbs that load several.
func (o *options) modesFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.modes, "modes", o.env("OCISYNC_MODES"), "`directory` that holds the modes (or OCISYNC_MODES; default modes)")
	f.StringVar(&o.hostFile, "host-file", o.env("OCISYNC_HOST_FILE"), "the operator's `file` (or OCISYNC_HOST_FILE)")
	for _, name := range []string{"modes", "host-file"} {
		f.Lookup(name).DefValue = "" // help is the same whatever the environment says
	}
	cmd.PreRunE = func(*cobra.Command, []string) error { return o.findModes() }
}

// outputFlag is of the verbs that print a result.
func (o *options) outputFlag(cmd *cobra.Command) {
	cmd.Flags().VarP(&choice{value: &o.output, of: []string{"text", "json"}}, "output", "o", "`form` of the result: text or json")
	complete(cmd, "output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o *options) verboseFlag(cmd *cobra.Command, usage string) {
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, usage)
}

func (o *options) newFlag(cmd *cobra.Command, fresh *bool) {
	cmd.Flags().BoolVar(fresh, "new", false, "take a registry for a new one that is blank although ocisync knew it before, or neither here nor answers")
}

// complete says what the shell offers for a flag.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) //nolint:forbidigo // the flag is not there: a mistake in this package, on every run
	}
}

func (o *options) completeModes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	if o.findModes() != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	modes, err := load.Modes(o.modes)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return modes, cobra.ShellCompDirectiveNoFileComp
}

// choice is a flag that takes one of a few words.
type choice struct {
	value *string
	of    []string
}

func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c *choice) Type() string { return "word" }

func (c *choice) Set(v string) error {
	if !slices.Contains(c.of, v) {
		last := len(c.of) - 1
		return fmt.Errorf("write %s or %s", strings.Join(c.of[:last], ", "), c.of[last])
	}
	*c.value = v
	return nil
}

// noArgs refuses arguments, and says where a mode belongs.
func noArgs(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case c.Flags().Lookup("mode") != nil:
		return fmt.Errorf("%s takes no arguments; leave out %s, or, if that is the mode, say --mode %[2]s", c.CommandPath(), quote(args[0]))
	}
	return fmt.Errorf("%s takes no arguments; leave out %s", c.CommandPath(), quote(args[0]))
}

// writeJSON writes a result for machines, indented. What does not show, or turns
// around what does, is escaped: people look at it too.
func writeJSON[T any](w io.Writer, v T) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, load.SafeJSON(b.String()))
	return err
}

// count says how many there are of something.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// tell writes a part of the result to standard output, which keeps its first
// error for run.
func (o *options) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(o.out, format, args...)
}

// say writes a remark for people to standard error; where that fails there is
// nowhere left to say so.
func (o *options) say(format string, args ...any) {
	_, _ = fmt.Fprintln(o.err, load.Safe(fmt.Sprintf(format, args...)))
}

// run is the whole program but for the process it runs in.
func run(ctx context.Context, args []string, s streams) int {
	screen, out := screens(s)
	s.out, s.err = out, screen
	o := &options{streams: s, output: "text", screen: screen}
	root := newRoot(o)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = out.err
	}
	return o.exit(ctx, err)
}

// exit prints an error and maps it to the exit code.
func (o *options) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	var coded codedError
	var invalid load.Errors
	switch {
	case errors.As(err, &coded):
		o.fail(coded.Error())
		return coded.code
	case errors.As(err, &invalid):
		o.problems(invalid)
		return exitInvalid
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		o.fail("interrupted")
		return exitInterrupted
	case ctx.Err() != nil:
		o.fail("interrupted: " + err.Error())
		return exitInterrupted
	case errors.Is(err, providers.ErrUnsupported), errors.Is(err, providers.ErrDisplaced), errors.Is(err, runtime.ErrDisplaced):
		o.fail(err.Error())
		return exitRefused
	}
	o.fail(err.Error())
	return exitFailed
}

// fail prints what went wrong.
func (o *options) fail(text string) {
	if text != "" {
		o.say("ocisync: %s", text)
	}
}

func newRoot(o *options) *cobra.Command {
	root := &cobra.Command{
		Use:   "ocisync",
		Short: "Keep OCI registries as git says they should be",
		Long: `ocisync keeps OCI registries as git says they should be.

A mode (modes/dev, modes/prod, ...) says in TOML what a registry is, who may do
what, what is kept for how long and what it holds. ocisync checks it, compares
it with the live registry, shows the difference as a plan, and makes it so.

What a mode may use of this machine (secret commands, directories) the operator
says in the host file: --host-file, OCISYNC_HOST_FILE, else ocisync/ocisync.toml
in the user's configuration directory, else /etc/ocisync/ocisync.toml. It is
never looked for in the working directory or beside a mode.
` + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; %s --help lists the flags", err, c.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: "author", Title: "Write a mode:"},
		&cobra.Group{ID: "loop", Title: "Compare and apply:"},
		&cobra.Group{ID: "run", Title: "Run the registry:"},
		&cobra.Group{ID: "content", Title: "Move content:"},
	)
	root.AddCommand(
		newInit(o), newValidate(o), newFmt(o), newExplain(o), newSchema(o),
		newPlan(o), newApply(o), newAdopt(o), newOutput(o), newRun(o),
		newUp(o), newDown(o), newRestart(o), newStatus(o), newLogs(o), newHealth(o), newTest(o), newAuth(o), newRetention(o), newGC(o),
		newCopy(o), newMigrate(o), newSync(o), newPush(o), newPull(o), newRepo(o), newTag(o), newManifest(o), newBackup(o), newRestore(o),
		newKey(o), newCapabilities(o), newVersion(o),
	)
	return root
}
