package providertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ocisync/ocisync/pkg/plan"
	"github.com/ocisync/ocisync/pkg/providers"
	"github.com/ocisync/ocisync/pkg/providers/memory"
	"github.com/ocisync/ocisync/schema"
)

func TestTheGeneralChecksFindEachFault(t *testing.T) {
	for check, faults := range map[string]map[string]func(*faulty){
		"the capability table": {
			"a kind without row": func(f *faulty) { f.table = func() schema.Table { return memory.Table()[1:] } },
			"no reason": func(f *faulty) {
				f.table = func() schema.Table {
					return append(memory.Table(), schema.Capability{Kind: schema.KindUser, Field: "email", Support: schema.Emulated})
				}
			},
			"no such field": without(schema.KindUser, "emial"),
		},
		"Normalize": {
			"changes its input": func(f *faulty) {
				f.normalize = func(s schema.State) (schema.State, []plan.Note, error) {
					for _, r := range s.Resources {
						spoil(r.Spec)
					}
					return f.Provider.Normalize(s)
				}
			},
			"not idempotent": func(f *faulty) {
				f.normalize = func(s schema.State) (schema.State, []plan.Note, error) {
					s, notes, err := f.Provider.Normalize(s)
					for _, r := range s.Resources {
						if l, ok := r.Spec.(*schema.Label); ok && l.Color != nil {
							*l.Color += "x"
						}
					}
					return s, notes, err
				}
			},
		},
		"Read stays": {
			"objects outside the scope": func(f *faulty) {
				f.read = func(ctx context.Context, scope schema.Scope) (schema.State, error) {
					s, err := f.Provider.Read(ctx, schema.ScopeOf(schema.Kinds()...))
					s.Scope = scope
					return s, err
				}
			},
			"claims more": onRead(func(s *schema.State) { s.Scope = schema.ScopeOf(schema.Kinds()...) }),
			"not sorted":  onRead(func(s *schema.State) { slices.Reverse(s.Resources) }),
			"leaves out": onRead(func(s *schema.State) {
				s.Resources = slices.DeleteFunc(s.Resources, func(r schema.Resource) bool { return r.Key.Kind == schema.KindLabel })
			}),
		},
		"Read gives copies": {
			"always the same": func(f *faulty) {
				var kept schema.State
				f.read = func(ctx context.Context, scope schema.Scope) (s schema.State, err error) {
					if len(scope.Kinds) < len(schema.Kinds()) || len(kept.Resources) == 0 {
						if s, err = f.Provider.Read(ctx, scope); len(scope.Kinds) == len(schema.Kinds()) {
							kept = s
						}
						return s, err
					}
					return kept, nil
				}
			},
		},
		"Prepare": {
			"writes": func(f *faulty) {
				f.prepare = func(ctx context.Context, c []plan.Change) ([]providers.Verdict, error) {
					return make([]providers.Verdict, len(c)), f.Provider.Write(ctx, c, func(schema.Key, error) {})
				}
			},
			"forgets one": func(f *faulty) {
				f.prepare = func(_ context.Context, c []plan.Change) ([]providers.Verdict, error) {
					return make([]providers.Verdict, len(c)-1), nil
				}
			},
		},
		"Write takes the same": {
			"absent is an error": func(f *faulty) {
				f.write = func(ctx context.Context, c []plan.Change, report func(schema.Key, error)) error {
					s, err := f.Provider.Read(ctx, schema.ScopeOf(c[0].Key.Kind))
					if _, ok := s.Get(c[0].Key); c[0].Action == plan.Delete && !ok {
						return providers.ErrNotFound
					}
					return errors.Join(err, f.Provider.Write(ctx, c, report))
				}
			},
			"deletes nothing": onWrite(func(c *plan.Change) {
				if c.Action == plan.Delete {
					c.Key.Name += "x"
				}
			}),
		},
		"Write reports": {
			"twice": func(f *faulty) {
				f.write = func(ctx context.Context, c []plan.Change, report func(schema.Key, error)) error {
					return f.Provider.Write(ctx, c, func(k schema.Key, err error) { report(k, err); report(k, err) })
				}
			},
			"failures not": func(f *faulty) {
				f.write = func(ctx context.Context, c []plan.Change, report func(schema.Key, error)) error {
					return f.Provider.Write(ctx, c, func(k schema.Key, err error) {
						if err == nil {
							report(k, nil)
						}
					})
				}
			},
			"failures as done": func(f *faulty) {
				f.write = func(ctx context.Context, c []plan.Change, report func(schema.Key, error)) error {
					return f.Provider.Write(ctx, c, func(k schema.Key, _ error) { report(k, nil) })
				}
			},
		},
		"a done context": {
			"writes on": func(f *faulty) {
				f.write = func(ctx context.Context, c []plan.Change, report func(schema.Key, error)) error {
					return f.Provider.Write(context.WithoutCancel(ctx), c, report)
				}
			},
			"reads on": func(f *faulty) {
				f.read = func(ctx context.Context, s schema.Scope) (schema.State, error) {
					return f.Provider.Read(context.WithoutCancel(ctx), s)
				}
			},
		},
		"no secret": {
			"in a field": onRead(func(s *schema.State) {
				for _, r := range s.Resources {
					if u, ok := r.Spec.(*schema.User); ok {
						u.Comment = new("password: " + canary)
					}
				}
			}),
			"in an error": func(f *faulty) {
				f.write = func(ctx context.Context, c []plan.Change, report func(schema.Key, error)) error {
					return f.Provider.Write(ctx, c, func(k schema.Key, err error) {
						if err != nil {
							err = fmt.Errorf("setting %s: %w", canary, err)
						}
						report(k, err)
					})
				}
			},
			"not listed": onRead(func(s *schema.State) {
				for i := range s.Resources {
					s.Resources[i].Unread = nil
				}
			}),
		},
		"a secret is written only": {
			"always": onWrite(func(c *plan.Change) {
				for _, f := range schema.Secrets(afterSpec(c)) {
					c.Fields = append(c.Fields, plan.Field{Path: f.Path})
				}
			}),
		},
		"what somebody else changed": {
			"one version for all": onRead(func(s *schema.State) {
				for i := range s.Resources {
					s.Resources[i].Version = "1"
				}
			}),
		},
	} {
		i := slices.IndexFunc(checks(), func(c checkOf) bool { return strings.HasPrefix(c.name, check) })
		if i < 0 {
			t.Errorf("there is no check %q", check)
			continue
		}
		for name, fault := range faults {
			t.Run(check+"/"+name, func(t *testing.T) {
				if r := record(t, func(t testing.TB) { checks()[i].run(t, harness(fault)) }); len(r.failed) == 0 {
					t.Error("the check passed")
				}
			})
		}
	}
}

func TestARegistryThatForgetsFailsTheSuite(t *testing.T) {
	h := harness(nil)
	h.Reopen = func(t testing.TB, _ providers.Provider) providers.Provider { return newFaulty(t, nil) }
	if r := record(t, func(t testing.TB) { checkReopen(t, h) }); len(r.failed) == 0 {
		t.Error("the check passed")
	}
}

func runField(t *testing.T, name string, fault func(*faulty)) *recorder {
	t.Helper()
	h := harness(fault)
	for _, c := range h.cases() {
		if c.name() == name {
			return record(t, func(t testing.TB) { c.run(t, h) })
		}
	}
	t.Fatalf("there is no case %s", name)
	return nil
}

func TestAFieldCaseFindsEachFault(t *testing.T) {
	resets := onWrite(func(c *plan.Change) {
		if w, ok := afterSpec(c).(*schema.Webhook); ok && c.Action == plan.Update {
			copied := *w
			copied.Description = nil
			c.After.Spec = &copied
		}
	})
	for name, tc := range map[string]struct {
		field string
		fault func(*faulty)
	}{
		"the field is not kept":              {"webhook/team-a/ci/format", onWrite(withoutFormat)},
		"another field is reset":             {"webhook/team-a/ci/format", resets},
		"unsupported by the table, yet done": {"webhook/team-a/ci/format", without(schema.KindWebhook, "format")},
		"a secret is not written": {"user/tester/password", onWrite(func(c *plan.Change) {
			if c.Action == plan.Update {
				c.Fields = nil
			}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			if r := runField(t, tc.field, tc.fault); len(r.failed) == 0 {
				t.Errorf("the case passed (skipped: %q)", r.skipped)
			}
		})
	}
}

func TestACaseIsSkippedForAnUnsupportedRowAndNamesIt(t *testing.T) {
	r := runField(t, "webhook/team-a/ci/format", func(f *faulty) {
		onWrite(withoutFormat)(f)
		without(schema.KindWebhook, "format")(f)
	})
	if len(r.failed) > 0 || !strings.Contains(r.skipped, "webhook.format") || !strings.Contains(r.skipped, "a test says so") {
		t.Errorf("failed %q, skipped %q", r.failed, r.skipped)
	}
}

func TestEveryFieldOfEveryKindHasACase(t *testing.T) {
	tried := map[string]bool{}
	for _, c := range (Harness{}).cases() {
		tried[string(c.subject.key.Kind)+"/"+c.field.path] = true
		if c.field.Valid == "" || c.field.Other == "" || c.field.Valid == c.field.Other {
			t.Errorf("%s has no two values", c.name())
		}
	}
	for _, k := range schema.Kinds() {
		if k == schema.KindSettings {
			continue // an open table; the harness gives its cases
		}
		all, err := paths(k)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range slices.Sorted(maps.Keys(all)) {
			if all[path] != "local" && all[path] != "seen" && !tried[string(k)+"/"+path] {
				t.Errorf("%s/%s has no case", k, path)
			}
		}
	}
}
