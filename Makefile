# Targets for building, testing and measuring ChainStore. `make test` needs only Go.

GO      ?= go
# Duration of the random tests, and the smallest number of faults and acknowledged appends of TestRandomFaults.
# TestRandomFaults ends when it has reached all three.
SOAK    ?= 10m
FAULTS  ?= 200
APPENDS ?= 1000000
LOAD    ?= 8
# The seeds of the random tests, for example SEEDS='1 2 3': one run for each. Without seeds there is one run with a
# random seed. The log of each run names its seed and what was done.
SEEDS   ?=
# The amount of fuzzing per target: a number of inputs (1000x) or a time (1m). With a time, go test itself may end in
# "context deadline exceeded" although no input failed; that is no failure here.
FUZZ    ?= 1000x
# The time of all fuzz targets together, in seconds, for example FUZZTOTAL=3600; instead of FUZZ.
FUZZTOTAL ?=
# The same settings for test-all. SHORTSOAK is the duration of TestRandomFaults and of TestRandomDamage.
SHORTSOAK ?= 1m
SHORTFUZZ ?= 100x
# Arguments that exclude end-to-end tests. The gate excludes those that make test has just run.
SKIP    ?=
BENCH   ?=
# Run by version, so that go.mod does not list modules that only a check needs.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
CYCLONEDX := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
# The number of records by which a restarted master is behind in `make behind`.
BEHIND  ?= 10000000
# The number of records of `make scale`, and the time after which it appends no more, such as 30m; without a time it
# appends all of them.
SCALE   ?= 50000000
SCALETIME ?=

# Only the race detector needs a C compiler. Without one the tests run without the race detector and say so.
RACE    := $(shell command -v "$$($(GO) env CC)" >/dev/null 2>&1 && echo -race)

# By default each program with the race detector sleeps for one second at its end.
export GORACE ?= atexit_sleep_ms=0

.PHONY: build sbom test test-short test-shortened test-same test-all test-long test-gate tools test-e2e test-packages fmt \
	vet fuzz bench bench-test lint lint-lines times behind scale soak soak-damage soak-short screenshots

# The tag leaves a decoder out that gin has and no route uses. With -trimpath the folder does not matter.
build: ## build the binary
	$(GO) build -trimpath -tags nomsgpack -o chainstore ./cmd/chainstore

sbom: build ## write the modules of the binary to sbom.cdx.json (CycloneDX)
	$(GO) run $(CYCLONEDX) bin -json -output sbom.cdx.json chainstore

test: ## all unit tests with the race detector, and a short end-to-end run: at most five minutes on two cores
	@began=$$(date +%s); $(MAKE) --no-print-directory test-short && echo "make test took $$(($$(date +%s) - began)) s"

# The packages with tests that -short shortens. All others run with the same flags in make test and in make test-all, so
# that the second one takes their results from the cache of go test.
ALL        = $(shell $(GO) list ./...)
SHORTENED  = $(shell $(GO) list $(sort $(dir $(shell grep -rl --include='*_test.go' 'testing\.Short()' .))))
TEST      := $(GO) test $(RACE) -vet=off -timeout 30m

# The slowest packages come first, so that none of them runs alone at the end.
SLOWEST   := storagenode raftstore e2e httpapi/masterapi internal/roles masternode masterfsm verify
ordered    = $(foreach p,$(SLOWEST),$(filter %/chainstore/$(p),$(1))) $(1)

# Many tests wait for elections and disks. Six packages at a time keep two cores busy.
test-short: vet
	@test -n "$(RACE)" || echo "NO C COMPILER: the tests run without the race detector"
	@$(MAKE) --no-print-directory -j 2 test-shortened test-same

test-shortened:
	@$(TEST) -short -p 4 $(call ordered,$(SHORTENED))

test-same:
	@$(TEST) -p 2 $(call ordered,$(filter-out $(SHORTENED),$(ALL)))

test-all: vet ## everything: all end-to-end tests, the browser, all seeds, random faults, a short run of every fuzz target
	@began=$$(date +%s); $(MAKE) --no-print-directory test-long && echo "make test-all took $$(($$(date +%s) - began)) s"

test-long: tools
	@$(MAKE) --no-print-directory -j 2 test-e2e test-packages bench-test fuzz FUZZ=$(SHORTFUZZ)

# What the gate runs after make test. The seeds and inputs that -short leaves out, and the race detector in all processes
# of the end-to-end tests, would take another half an hour on two cores: make test-all has them. One end-to-end test of
# make test has the race detector too. TestMasterFarBehind and TestScale need the machine for themselves: `make behind`
# and `make scale` run them.
test-gate: tools
	@$(MAKE) --no-print-directory -j 2 test-e2e bench-test lint RACE= SKIP="-skip '^Test(Short|CheckersNotice|MasterFarBehind|Scale)\b'"

# tools names the tests that are skipped on this machine.
tools:
	@test -n "$(RACE)" || echo "NO C COMPILER: the tests run without the race detector"
	@for b in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$b >/dev/null && exit; done; \
		echo "NO CHROMIUM: the console is not tested in a browser"
	@command -v npm >/dev/null || echo "NO NPM: the console's accessibility is not tested"
	@git cat-file -e b74b8ae 2>/dev/null || \
		echo "NO HISTORY: upgrades from earlier versions are not tested (git fetch --unshallow)"

# Most end-to-end tests wait, so other targets run next to them. Three of them at a time, next to the other packages,
# keep two cores busy.
test-e2e:
	CHAINSTORE_SOAK=$(SHORTSOAK) $(TEST) -parallel 3 $(SKIP) ./e2e ./e2e/console

test-packages:
	@$(TEST) -p 2 $(call ordered,$(filter-out %/e2e %/e2e/console,$(ALL)))

fmt:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi

# With -race, vet uses the same compiled packages as the tests.
vet: fmt
	$(GO) vet $(RACE) ./...
	@$(GO) run .ci/lines.go

lint: ## staticcheck, in both modules
	$(GO) run $(STATICCHECK) ./...
	cd bench && $(GO) run $(STATICCHECK) ./...

lint-lines: ## lines over 120 columns in code, over 100 in Markdown (part of vet)
	@$(GO) run .ci/lines.go

fuzz: ## run every fuzz target for FUZZ, or all of them for FUZZTOTAL seconds together
	@targets=$$(grep -ro --include='*_test.go' --exclude-dir=bench '^func Fuzz[[:alnum:]_]*' . | \
		sed 's,/[^/]*:func ,\,,' | sort); \
	count=$$(echo "$$targets" | wc -l); each=$(FUZZ); log=$$(mktemp); began=$$(date +%s); \
	if [ -n "$(FUZZTOTAL)" ]; then each=$$(( $(or $(FUZZTOTAL),0) / count ))s; fi; \
	for entry in $$targets; do \
		pkg=$${entry%,*}; target=$${entry#*,}; echo "$$pkg $$target: $$each"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $$each $$pkg >$$log 2>&1; failed=$$?; tail -3 $$log; \
		if [ $$failed != 0 ] && { grep -q 'Failing input' $$log || ! grep -q 'context deadline exceeded' $$log; }; then \
			cat $$log; exit 1; \
		fi; \
	done; \
	rm $$log; echo "$$count fuzz targets, $$each each, $$(( $$(date +%s) - began )) s in all"

bench: build ## measure against the ceilings and etcd; BENCH='--runs 1 --only append' measures less
	cd bench && $(GO) build -o ../chainstore-bench .
	./chainstore-bench $(BENCH)

bench-test: ## vet and test the module in bench/
	cd bench && $(GO) vet ./... && $(GO) test ./...

times: ## measure failovers, restarts and snapshots on an otherwise idle machine; docs/performance.md
	CHAINSTORE_TIMES=1 $(GO) test -p 1 -parallel 1 -timeout 0 -count 1 -v \
		-run 'TestFailoverGap|TestRestartWithFullLog|TestSnapshotHoldsUpShortly' ./e2e ./raftstore ./masterfsm

behind: ## restart a master that is BEHIND records behind, so that it catches up by snapshot; docs/performance.md
	CHAINSTORE_BEHIND=$(BEHIND) $(GO) test -timeout 0 -count 1 -v -run TestMasterFarBehind ./e2e

scale: ## measure memory, restarts, reads and appends at 1 million to SCALE records, for SCALETIME; docs/performance.md
	CHAINSTORE_SCALE=$(SCALE) CHAINSTORE_SCALE_TIME=$(SCALETIME) \
		$(GO) test -timeout 0 -count 1 -v -run 'TestScale$$' ./e2e

# each runs a random test once for each seed.
each = for seed in $(or $(SEEDS),random); do \
		if [ $$seed = random ]; then unset CHAINSTORE_SEED; else export CHAINSTORE_SEED=$$seed; fi; \
		echo "seed $$seed, $(SOAK)"; $(1) || exit 1; \
	done

soak: ## random faults under load, for each of SEEDS: FAULTS faults, APPENDS appends, SOAK; docs/faults.md
	@$(call each,CHAINSTORE_SOAK=$(SOAK) CHAINSTORE_FAULTS=$(FAULTS) CHAINSTORE_APPENDS=$(APPENDS) CHAINSTORE_LOAD=$(LOAD) \
		$(GO) test -timeout 0 -count 1 -v -run TestRandomFaults ./e2e)

soak-damage: ## random damage to storage nodes, with kills and pauses, for SOAK and each of SEEDS
	@$(call each,CHAINSTORE_SOAK=$(SOAK) $(GO) test $(RACE) -timeout 0 -count 1 -v -run TestRandomDamage ./e2e)

soak-short: ## soak with the race detector, limited by SOAK only
	@$(call each,CHAINSTORE_SOAK=$(SOAK) $(GO) test $(RACE) -timeout 0 -count 1 -v -run TestRandomFaults ./e2e)

screenshots: ## take pictures of the console in a browser, with a simulated cluster, for docs/images
	mkdir -p docs/images
	CHAINSTORE_SCREENSHOTS=$(CURDIR)/docs/images $(GO) test -count 1 -v -run TestScreenshots ./e2e/console
