package load

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	cueerrors "cuelang.org/go/cue/errors"
)

// judge asks CUE about objects, each distinct one once. CUE only rejects:
// what is decoded is the tree.
type judge struct {
	defs *definitions
	root cue.Value
	ctx  *cue.Context
	left int // questions until the context is made anew
	seen map[string][]string
	key  []byte // of the question at hand
}

// questions is how many objects one CUE context is asked about. A context
// keeps what it compiled for as long as it lives, so the memory of a large mode
// and the collector's work would grow with it; a new one costs as much as some
// 15 questions.
const questions = 200

func newJudge(d *definitions) (*judge, error) {
	j := &judge{defs: d, seen: map[string][]string{}}
	return j, j.renew()
}

func (j *judge) renew() error {
	ctx := cuecontext.New()
	inst := build.NewContext().NewInstance("", nil)
	for _, f := range j.defs.files {
		if err := inst.AddSyntax(f); err != nil {
			return fmt.Errorf("definitions: %w", err)
		}
	}
	v := ctx.BuildInstance(inst)
	if err := v.Err(); err != nil {
		return fmt.Errorf("definitions: %w", err)
	}
	j.root, j.ctx, j.left = v, ctx, questions
	return nil
}

// ask returns the paths, each as parts joined by zero bytes, of what CUE
// rejects in an object of a definition.
//
// ok is false where the run has asked too much already.
func (j *judge) ask(definition string, text []byte) (rejected []string, ok bool) {
	j.key = append(append(append(j.key[:0], definition...), 0), text...)
	if paths, ok := j.seen[string(j.key)]; ok {
		return paths, true
	}
	if len(j.seen) >= maxForms {
		return nil, false
	}
	key := string(j.key)
	if j.left == 0 {
		_ = j.renew() // where that fails, the old one goes on
	}
	j.left--
	var paths []string
	value := j.ctx.CompileBytes(text)
	err := value.Err()
	if err == nil {
		err = j.definition(definition).Unify(value).Validate()
	}
	for _, e := range cueerrors.Errors(err) {
		path := cueerrors.Path(e)
		if len(path) > 0 && strings.HasPrefix(path[0], "#") {
			path = path[1:]
		}
		for i, p := range path {
			path[i] = unquoteLabel(p)
		}
		paths = append(paths, strings.Join(path, "\x00"))
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	paths = slices.DeleteFunc(paths, func(p string) bool { // a union fails as a whole besides its part
		return slices.ContainsFunc(paths, func(q string) bool { return q != p && (p == "" || strings.HasPrefix(q, p+"\x00")) })
	})
	j.seen[key] = paths
	return paths, true
}

// unquoteLabel undoes CUE's quoting of a label.
func unquoteLabel(s string) string {
	if len(s) > 1 && s[0] == '"' {
		if sels := cue.ParsePath(s).Selectors(); len(sels) == 1 {
			return sels[0].Unquoted()
		}
	}
	return s
}

// definition is a definition's value.
func (j *judge) definition(name string) cue.Value {
	return j.root.LookupPath(cue.MakePath(cue.Def(name)))
}
