# `make help` lists the targets. Go and make are all that build and test need; `make tools` installs the rest.

GO        ?= go
TOOL      := $(GO) tool -modfile=internal/tools/go.mod
TAGS      := acceptance,ansible,browser,packaging,prometheus,release,systemd
TESTFLAGS ?=
FUZZTIME  ?= 30s
GOLDFLAGS ?=
COMMITTED  = $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
VERSION   ?= 0.0.1~$(COMMITTED)

LAB        := bin/proxmox-realm-lab --
ACCEPTANCE  = $(GO) test -tags=acceptance -count=1 $(TESTFLAGS) ./internal/acceptance/...
PRODUCTS    = for product in pve pbs pdm; do bin/proxmox-realm-lab --product $$product -- $(ACCEPTANCE) || status=1; done
# What runs after this has a folder of its own for temporary files. The folder goes even if a test fails or is interrupted.
TIDY       := tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && trap 'exit 130' INT TERM && export TMPDIR="$$tmp" &&

# The version comes from the commit, where this is a checkout that git will read.
VCS := $(shell test -e .git && git rev-parse --quiet --verify HEAD >/dev/null 2>&1 && echo true || echo false)

export PATH := $(CURDIR)/bin:$(PATH):$(CURDIR)/.cache/tools/usr/bin
# Under the race detector every process that exits with 0 would otherwise linger for a second.
export GORACE ?= atexit_sleep_ms=0

.DEFAULT_GOAL := build
.PHONY: build demo package test tools test-all acceptance release-check faults kubernetes lint bench fuzz count clean help

build: ## build bin/proxmox-realm and bin/proxmox-realm-lab
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(VCS) -ldflags='$(GOLDFLAGS)' -o bin/ ./cmd/...

demo: build ## watch the agent at work, against the lab
	@bin/proxmox-realm-lab --seed bare -- sh examples/demo.sh

package: ## make deb, rpm and apk packages of this machine's architecture in dist/
	@mkdir -p dist
	$(GO) run -C deploy ./packaging/build -version '$(VERSION)' -time $(COMMITTED) -o '$(CURDIR)/dist'

test: build ## run the tests that need nothing but Go
	@$(TIDY) { set -x; status=0; \
		$(GO) test $(TESTFLAGS) ./... || status=1; \
		$(GO) test -C deploy $(TESTFLAGS) ./... || status=1; \
		$(PRODUCTS); \
		} && { set +x; } 2>/dev/null && \
		echo 'left out: the race detector; the tests with Ansible, a browser, packages, promtool and systemd (make tools, make test-all)' && \
		exit $$status

tools: ## install with apt-get what lint and the other tests need, after asking; CI=true does not ask
	@.ci/need tools
	@for tool in gofumpt golangci-lint; do $(TOOL) $$tool --version >/dev/null || exit 1; done

test-all: build ## run every test, with the race detector
	@race=$$(.ci/need race) && suites=$$(.ci/need suites) && $(TIDY) { set -x; status=0; \
		$(GO) test $$race -tags="$$suites" -timeout=30m $(TESTFLAGS) ./... || status=1; \
		$(GO) test -C deploy $$race -tags="$$suites" -timeout=30m $(TESTFLAGS) ./... || status=1; \
		$(PRODUCTS); \
		exit $$status; }

acceptance: build ## run the acceptance suite: against the lab, once for each product, or against the API that LAB_* names
	@$(TIDY) status=0; set -x; $(if $(LAB_ENDPOINT),$(ACCEPTANCE) -v || status=1,$(PRODUCTS)); exit $$status

release-check: ## build a release with goreleaser and check it; compiling goreleaser takes minutes and 2 GB
	$(TOOL) goreleaser check
	$(TOOL) cyclonedx-gomod version >/dev/null
	@$(TIDY) set -x && $(GO) test -C deploy -tags=release -count=1 -timeout=30m -run='^TestRelease' $(TESTFLAGS) .

faults: ## inject every fault into every request of every operation, and print how many
	FAULTS=all $(GO) test -count=1 -v -timeout=60m -run='^(TestFaults|TestInitGoesOnAfterFaults)$$' $(TESTFLAGS) ./cmd/proxmox-realm

kubernetes: ## run the manifests with the real API server and Job controller; the first build takes minutes
	$(GO) mod tidy -C deploy/kubernetes/cluster -diff
	$(GO) test -C deploy/kubernetes/cluster -vet=off -count=1 $(TESTFLAGS) ./...

lint: ## check formatting, vet, linters, go.mod and shell scripts
	@unformatted=$$($(TOOL) gofumpt -l .) && [ -z "$$unformatted" ] || \
		{ printf 'gofumpt would change: %s\n' $$unformatted >&2; exit 1; }
	$(GO) vet -tags=$(TAGS) ./...
	$(GO) vet -C deploy -tags=$(TAGS) ./...
	$(TOOL) golangci-lint run ./...
	cd deploy && $(GO) tool -modfile=../internal/tools/go.mod golangci-lint run --config ../.golangci.yml ./...
	$(GO) mod tidy -diff
	$(GO) mod tidy -C deploy -diff
	@! command -v shellcheck >/dev/null || \
		{ set -x; shellcheck .ci/need .ci/run $$(find examples deploy -name '*.sh' 2>/dev/null); }

bench: ## print time, memory and requests of 1 to 10,000 targets, beside a minimal client (FULL=1: every row)
	FLEET_TABLE_FULL=$(FULL) $(GO) test -C internal/fleet -run='^$$' -bench='^BenchmarkTable$$' -benchtime=1x -timeout=60m $(TESTFLAGS)

fuzz: ## run each fuzz target for FUZZTIME, one after another
	@listing=$$($(GO) test -list='^Fuzz' ./...) || { printf '%s\n' "$$listing"; exit 1; }; \
		printf '%s\n' "$$listing" | \
		awk '/^Fuzz/ { names = names " " $$1 } /^ok/ { count = split(names, n); for (i = 1; i <= count; i++) print $$2, n[i]; names = "" }' | \
		while read -r package target; do \
			echo "$$package $$target"; \
			$(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$package" </dev/null || exit 1; \
		done

count: ## count the lines of product code (without tests and the lab), room by room
	@find cmd internal -name '*.go' ! -name '*_test.go' ! -path '*lab/*' -exec awk \
		'{ room = FILENAME; sub("/[^/]*$$", "", room); lines[room]++; all++ } \
		END { for (room in lines) printf "%6d  %s\n", lines[room], room; printf "%6d  all\n", all }' {} + | sort -k2

clean: ## remove what the other targets made
	rm -rf bin dist .cache

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
