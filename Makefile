# What there is to do with the sources. `make test` needs nothing but Go.

GO      ?= go
# How long the random tests go on, and how many faults and acknowledged appends TestRandomFaults has at least: it ends when it has all three.
SOAK    ?= 10m
FAULTS  ?= 200
APPENDS ?= 1000000
LOAD    ?= 8
# How much each fuzz target runs: a number of inputs, like 1000x, or a time, like 1m. A time may end in "context deadline exceeded" of
# go test itself, without an input that failed.
FUZZ    ?= 1000x
# The same two for test-all, which runs both at once.
SHORTSOAK ?= 1m
SHORTFUZZ ?= 100x
# Arguments that leave tests out of test-all. The gate leaves out the end-to-end tests that make test has just run.
SKIP    ?=
BENCH   ?=
# Run by its version, so that go.mod does not get what only a check needs.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# By how many records a master is behind that comes back.
BEHIND  ?= 10000000

# The race detector needs a C compiler, nothing else here does: where there is none, the tests run without it, and say so.
RACE    := $(shell command -v "$$($(GO) env CC)" >/dev/null 2>&1 && echo -race)

.PHONY: build test test-short test-all test-long fmt vet fuzz bench bench-test lint lint-lines times behind soak soak-damage soak-short screenshots

build: ## the one binary
	$(GO) build -o chainstore ./cmd/chainstore

test: ## all unit tests with the race detector, and a short end-to-end run: at most five minutes on two cores
	@began=$$(date +%s); $(MAKE) --no-print-directory test-short && echo "make test took $$(($$(date +%s) - began)) s"

# Many tests wait for elections and disks: four packages at once keep two cores busy.
test-short: vet
	@test -n "$(RACE)" || echo "NO C COMPILER: the tests run without the race detector"
	$(GO) test $(RACE) -vet=off -short -p 4 -timeout 10m ./...

test-all: vet bench-test ## everything: all end-to-end tests, the browser, all seeds, random faults, a short turn of every fuzz target
	@began=$$(date +%s); $(MAKE) --no-print-directory test-long && echo "make test-all took $$(($$(date +%s) - began)) s"

test-long:
	@test -n "$(RACE)" || echo "NO C COMPILER: the tests run without the race detector"
	@for b in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$b >/dev/null && exit; done; echo "NO CHROMIUM: the console is not tested in a browser"
	@command -v npm >/dev/null || echo "NO NPM: the console's accessibility is not tested"
	@git cat-file -e b74b8ae 2>/dev/null || echo "NO HISTORY: upgrades from earlier versions are not tested (git fetch --unshallow)"
	$(GO) test $(RACE) -vet=off -timeout 30m $(SKIP) ./...
	$(MAKE) --no-print-directory -j 2 soak-short fuzz SOAK=$(SHORTSOAK) FUZZ=$(SHORTFUZZ)

fmt:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi

# With -race the compiled packages are the same as for the tests.
vet: fmt
	$(GO) vet $(RACE) ./...
	@$(GO) run .ci/lines.go

lint: ## staticcheck, in both modules
	$(GO) run $(STATICCHECK) ./...
	cd bench && $(GO) run $(STATICCHECK) ./...

lint-lines: ## lines over 120 columns in code, over 100 in Markdown (part of vet)
	@$(GO) run .ci/lines.go

fuzz: ## every fuzz target, FUZZ of each
	@for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ) $$pkg || exit 1; \
		done; \
	done

bench: build ## measure against the ceilings; BENCH='--runs 1 --only append' to measure less
	cd bench && $(GO) build -o ../chainstore-bench .
	./chainstore-bench $(BENCH)

bench-test: ## vet and test the module in bench/
	cd bench && $(GO) vet ./... && $(GO) test ./...

times: ## what must be quick, on a machine that does nothing else: failovers, restart with a full log, snapshots of much; docs/performance.md
	CHAINSTORE_TIMES=1 $(GO) test -p 1 -timeout 0 -count 1 -v -run 'TestFailoverGap|TestRestartWithFullLog|TestSnapshotHoldsUpShortly' ./e2e ./raftstore ./masterfsm

behind: ## a master comes back after BEHIND records and catches up by snapshot; docs/performance.md
	CHAINSTORE_BEHIND=$(BEHIND) $(GO) test -timeout 0 -count 1 -v -run TestMasterFarBehind ./e2e

soak: ## faults of all kinds among random load, on real processes: FAULTS of them and APPENDS; docs/faults.md
	CHAINSTORE_SOAK=$(SOAK) CHAINSTORE_FAULTS=$(FAULTS) CHAINSTORE_APPENDS=$(APPENDS) CHAINSTORE_LOAD=$(LOAD) \
		$(GO) test -timeout 0 -count 1 -v -run TestRandomFaults ./e2e

soak-damage: ## random damage to storage nodes among kills and pauses, for SOAK
	CHAINSTORE_SOAK=$(SOAK) $(GO) test $(RACE) -timeout 0 -count 1 -v -run TestRandomDamage ./e2e

soak-short: ## the same as soak with the race detector, for SOAK alone
	CHAINSTORE_SOAK=$(SOAK) $(GO) test $(RACE) -timeout 0 -count 1 -v -run TestRandomFaults ./e2e

screenshots: ## pictures of the console, in docs/images: a browser and a cluster that is made up
	mkdir -p docs/images
	CHAINSTORE_SCREENSHOTS=$(CURDIR)/docs/images $(GO) test -count 1 -v -run TestScreenshots ./e2e/console
