# What a developer does with this tree. `make` alone lists it.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
TOOL    := $(GO) tool -modfile=tools/go.mod
BIN     := bin/ocisync
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
TAGS    ?=

FUZZTIME   ?= 20000x
BENCHFLAGS ?=
BENCHCOUNT ?= 1
BENCH      ?=
BASE       ?=
MUTANT     ?=

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/ocisync; TAGS=objectstorage adds S3, GCS and Azure as places for content, TAGS=keyless the check of identities
	$(GO) build -tags "$(TAGS)" -trimpath -ldflags "$(LDFLAGS)" -o $(BIN) ./cmd/ocisync

.PHONY: test
test: ## all tests; needs Go and nothing else
	$(GO) test ./... ./testdata/harbor

.PHONY: race
race: ## all tests under the race detector; needs a C compiler
	@# Hashing passwords shares no memory, and watched it takes fifteen times as long.
	CGO_ENABLED=1 $(GO) test -race -gcflags=golang.org/x/crypto/blowfish=-race=false -timeout 40m ./...

.PHONY: lint
lint: ## the linters and formatters of .golangci.yml
	$(TOOL) golangci-lint run ./... ./testdata/bench/... ./testdata/demo/... ./testdata/harbor/...

.PHONY: generate
generate: ## remake what is made from other files
	$(GO) generate ./...

.PHONY: tidy
tidy: ## both module files list what is needed and no more
	$(GO) mod tidy
	cd tools && $(GO) mod tidy

.PHONY: check
check: generate tidy lint test ## what must hold of a commit: generated, tidy, linted, tested
	@changed=$$(git status --porcelain); \
	if [ -n "$$changed" ]; then \
		printf 'not committed, or made anew just now; commit it:\n%s\n' "$$changed" >&2; exit 1; \
	fi

.PHONY: demo
demo: ## plan, apply, plan again, drift and a held deletion on an embedded registry
	$(GO) run ./testdata/demo

.PHONY: demo-prod
demo-prod: ## examples/modes/prod on a stand-in for Harbor: plan, apply, drift, and what is held
	$(GO) run ./testdata/demo -prod

# With BENCH or BASE it runs Go benchmarks instead, and keeps what they print.
.PHONY: bench
bench: ## docs/benchmarks.md's figures and limits, Harbor's too (BENCHFLAGS=-quick -write -cold); Go benchmarks alone: BENCH=regexp BENCHCOUNT=n BASE=older.txt
ifeq ($(BENCH)$(BASE),)
	$(GO) run ./testdata/bench $(BENCHFLAGS)
	$(GO) run ./testdata/bench -harbor $(BENCHFLAGS)
else
	@mkdir -p bin
	$(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem -count=$(BENCHCOUNT) ./... | tee bin/bench.txt
	@grep -q '^Benchmark' bin/bench.txt || { echo 'no benchmark matches $(or $(BENCH),.)' >&2; exit 1; }
	$(if $(BASE),$(TOOL) benchstat $(BASE) bin/bench.txt)
endif

.PHONY: bench-embedded
bench-embedded: servers ## the embedded registry's figures beside Distribution and Zot (BENCHFLAGS=-quick -write)
	$(GO) run ./testdata/bench -beside $(BENCHFLAGS)

.PHONY: bench-zot
bench-zot: bin/servers/zot ## the figures of applying to a Zot (BENCHFLAGS=-quick -write); OCISYNC_ZOT=program takes another Zot
	$(GO) run ./testdata/bench -zot $(BENCHFLAGS)

.PHONY: bench-harbor
bench-harbor: ## the figures of applying to a stand-in for Harbor (BENCHFLAGS=-quick -write)
	$(GO) run ./testdata/bench -harbor $(BENCHFLAGS)

.PHONY: bench-content
bench-content: bin/servers/distribution bin/servers/crane bin/servers/regsync ## the figures of copying a registry, beside those of others (BENCHFLAGS=-quick -write)
	$(GO) run ./testdata/bench -content $(BENCHFLAGS)

.PHONY: servers
servers: bin/servers/distribution bin/servers/zot ## the registries of others that ours is compared with and tested against, in bin/servers

bin/servers/zot: TAGS = -tags events,sync
bin/servers/%: tools/%.mod tools/%.sum
	CGO_ENABLED=0 $(GO) build -modfile=$< -mod=readonly -trimpath $(TAGS) -ldflags '-s -w' -o $@ $$(sed -n 's/^tool //p' $<)
	@touch $@

# go test -list prints a package's targets, then its name. FUZZTIME counts inputs:
# at the end of a time, go test now and then takes its own end for a failure
# ("context deadline exceeded").
.PHONY: fuzz
fuzz: ## every fuzz target with FUZZTIME inputs (20000x)
	@targets=$$($(GO) test -list '^Fuzz' ./... | awk '/^Fuzz/ { names[n++] = $$1 } \
		/^ok/ { for (i = 0; i < n; i++) print $$2, names[i]; n = 0 }'); \
	if [ -z "$$targets" ]; then echo 'no fuzz target found' >&2; exit 1; fi; \
	while read -r pkg name; do \
		echo "$$pkg $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$pkg" </dev/null; \
	done <<<"$$targets"

# The tests of a file with the build tag, by name, so that what ran is told and
# the other tests of those packages do not run a second time. They run with
# object stores, which some of them are about. Where no Docker engine answers, the
# tests that need one start it, as root, and end it (pkg/runtime/enginetest).
.PHONY: integration
integration: servers ## tests against real servers: those with the build tag integration
	@files=$$(git ls-files -co --exclude-standard '*_test.go' | xargs grep -lE '^//go:build .*\bintegration\b' || true); \
	if [ -z "$$files" ]; then echo 'no test has the build tag integration: nothing to run' >&2; exit 1; fi; \
	names=$$(grep -hoE '^func Test[A-Za-z0-9_]*' $$files | sed 's/^func //' | sort -u | paste -sd '|'); \
	dirs=$$(dirname $$files | sort -u | sed 's|^|./|'); \
	echo "$(GO) test -tags=integration,objectstorage -run '^($$names)\$$'" $$dirs; \
	$(GO) test -tags=integration,objectstorage -count=1 -v -timeout 40m -run "^($$names)\$$" $$dirs

.PHONY: mutants
mutants: ## break each promise and see its test fail (MUTANT=name for one)
	testdata/mutants/run.sh $(MUTANT)
