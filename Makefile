# The project's commands; `make` alone prints them.

.DEFAULT_GOAL := help
SHELL := /bin/sh
# SHELLS: built by `make shells`, judged by `make conformance`. JUDGED: judged by `make test`.
SHELLS := bash-5.3 bash-5.2 zsh-5.9
JUDGED := bash-5.3
ifdef SHELL_ONLY
SHELLS := $(SHELL_ONLY)
JUDGED := $(SHELL_ONLY)
endif
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
CONFORMANCE := $(TARGET)/release/conformance
SERVER := $(TARGET)/release/shell-escalation
WRAPPER := $(TARGET)/wrapper/execve-wrapper
# The same wrapper, built for platforms on which it can't start without the C library.
WRAPPER_ON_LIBC := $(TARGET)/release/execve-wrapper
LEVEL ?= hardened
# More options for the suite, such as ARGUMENTS="--only 'wrapper.deny.*' --trace".
ARGUMENTS ?=
# The suite's exit status when ARGUMENTS leave no case for a shell.
NOTHING_JUDGED := 4
# Required tools, each with its Debian package.
NEEDED := cargo:rustup cc:gcc patch:patch xz:xz-utils tar:tar sha256sum:coreutils
# Random scripts for each shell.
SCRIPTS ?= 300
# Cases that run at a time: most of their time they wait.
JOBS ?= $(shell echo $$(( 2 * $$(nproc) )))
# What `make mutants` changes: execve-wrapper, shell-escalation, or the files of shell-escalation-conformance that decide
# about cases and runs, tried by the tests that need no broken implementation.
MUTATED ?= execve-wrapper
ORACLE := case/expect.rs case/result.rs verdict.rs suite/*.rs runner/*.rs commands/judge.rs commands/run.rs report/files.rs report/progress.rs
MUTANTS_OF_shell-escalation-conformance := $(foreach file,$(ORACLE),--file 'conformance/src/$(file)') \
    --cargo-arg=--lib $(foreach test,specification runner command_line reports,--cargo-arg=--test=$(test))
# Which implementations `make implementations` judges: all, or only what needs no large download (small), or by NAMES.
PART ?= all
NAMES ?=
# With STRICT=1 an implementation that can't be obtained here fails the command.
STRICT ?=
# What `make fuzz` may take, in seconds, its builds apart.
SECONDS ?= 120
# What is off by default, and tested all the same.
TESTED := shell-escalation/rules
# Samples of each subject of a benchmark.
RUNS ?= 400
# The official clients of the Model Context Protocol that drive `shell-escalation mcp` in its test, and where they go.
MCP_PYTHON_VERSION := 2.3.0
MCP_PYTHON := target/mcp-clients/python
MCP_INSPECTOR_VERSION := 2.12.0
MCP_INSPECTOR := target/mcp-clients/inspector
# Days of `make like-stock`.
ROUNDS ?= 20
# Rounds of `make stress` in each of which one or more processes are killed.
KILLS ?= 200

.PHONY: help conformance conformance-sandboxed fuzz implementations differential shell-suites real-scripts pictures test bench stress like-stock shells judged-shells measured-shells proving-shells tests-built mcp-clients reference suite coverage lint mutants clean prerequisites

help:
	@echo "make conformance  build shells, server, wrapper and suite, run every case against them, report (SHELL_ONLY=zsh-5.9, LEVEL=core)"
	@echo "make test         run all tests"
	@echo "make mcp-clients  install the official MCP clients below target/, for the test of \`shell-escalation mcp\`"
	@echo "make lint         check formatting, clippy and the documentation; warnings are errors"
	@echo "make bench        measure the reference wrapper, the server, and commands in its shell, each against others in the same run (RUNS=400)"
	@echo "make conformance-sandboxed  run the e2e cases below the sandbox workspace-write, in $(JUDGED)"
	@echo "make implementations judge other implementations against their known failures, and write the matrix"
	@echo "                  (PART=small: no large download; NAMES=go-wrapper; STRICT=1)"
	@echo "make stress       requests, closings, kills and a siege by hostile clients against the reference server, two minutes each,"
	@echo "                  then SIGKILL at random moments (KILLS=200)"
	@echo "make like-stock   compare an interactive day on a terminal with the same one in the stock shells, again and again (ROUNDS=20)"
	@echo "make fuzz         try what parses hostile bytes on random ones (SECONDS=120; FUZZ_SEED=1 and FUZZ_INPUT=FILE repeat)"
	@echo "make differential compare each shell, patched and stock, on random scripts (SCRIPTS=300)"
	@echo "make shell-suites run each shell's own tests, without and with the reference"
	@echo "make real-scripts run configure, make, git and tar in each shell, patched and stock"
	@echo "make mutants      make a thousand small changes; a test must notice each, or SURVIVORS.md explain it: takes hours"
	@echo "                  (MUTATED=execve-wrapper, shell-escalation or shell-escalation-conformance; SHARD=0/4 for a quarter)"
	@echo "make shells       build only the patched shells (SHELL_ONLY=bash-5.3 for one)"
	@echo "make reference    build only the reference server and wrapper"
	@echo "make suite        build only the suite"
	@echo "make coverage     regenerate conformance/evidence/COVERAGE.md and conformance/schemas"
	@echo "make pictures     regenerate the README's pictures, in a browser"
	@echo "make clean        remove everything that was built"

# Wrapper and server are judged once, with the first shell; the shell and e2e cases run for each shell.
conformance: measured-shells reference suite
	@status=0; roles=; began=$$(date +%s); \
	for shell in $(SHELLS); do \
	    echo "== $$shell, level $(LEVEL)"; \
	    started=$$(date +%s); \
	    judged=0; \
	    $(CONFORMANCE) run --level $(LEVEL) --jobs $(JOBS) --shell "target/shells/$$shell/bin/$${shell%-*}" \
	        --stock-shell "target/shells/$$shell-stock/bin/$${shell%-*}" \
	        --wrapper $(WRAPPER) --server "$(abspath $(SERVER)) shim" $$roles $(ARGUMENTS) || judged=$$?; \
	    echo "== $$shell took $$(( $$(date +%s) - started )) s"; \
	    [ $$judged -eq 0 ] || [ -n "$$roles" -a $$judged -eq $(NOTHING_JUDGED) ] || status=$$judged; \
	    roles='--role shell --role e2e'; \
	done; \
	echo "== all took $$(( $$(date +%s) - began )) s"; \
	exit $$status

# The e2e cases below the reference's sandbox, against those that it makes impossible. Cases work in TMPDIR, which is writable.
conformance-sandboxed: judged-shells reference suite
	@folder=$$(mktemp -d) && status=0; \
	for shell in $(JUDGED); do \
	    TMPDIR="$$folder" $(CONFORMANCE) run --role e2e --jobs $(JOBS) --timeout-scale 6 --baseline fixtures/sandboxed-cases.toml \
	        --shell "target/shells/$$shell/bin/$${shell%-*}" --wrapper $(WRAPPER) \
	        --server "$(abspath $(SERVER)) shim --sandbox workspace-write --writable $$folder" $(ARGUMENTS) || status=$$?; \
	done; \
	rm -rf "$$folder"; exit $$status

# Other implementations, and examples in other languages. The judged bash is compared with a stock one.
implementations: suite
	@[ "$(PART)" = small ] || patches/build-shell --stock bash-5.3 || \
	    echo "make: NO STOCK BASH: what is measured by it is not judged" >&2
	@conformance/implementations/judge --part $(PART) --jobs $(JOBS) $(if $(STRICT),--strict) --suite $(abspath $(CONFORMANCE)) $(NAMES)

# Each shell against the stock shell of its version, on random scripts.
differential: measured-shells suite
	@status=0; \
	for shell in $(SHELLS); do \
	    echo "== $$shell, $(SCRIPTS) random scripts"; \
	    $(CONFORMANCE) run --only shell.transparent/random-scripts --cases $(SCRIPTS) --timeout-scale 4 \
	        --shell "target/shells/$$shell/bin/$${shell%-*}" \
	        --stock-shell "target/shells/$$shell-stock/bin/$${shell%-*}" $(ARGUMENTS) || status=$$?; \
	done; \
	exit $$status

# A shell's configure uses one core, so shells and cargo's targets are built at the same time.
test: prerequisites
	@$(MAKE) --no-print-directory --jobs=2 proving-shells tests-built
	@command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1 || \
	    echo "make: no browser, so the HTML report is NOT TESTED (Debian: apt-get install chromium chromium-driver)" >&2
	@command -v ssh-keygen >/dev/null 2>&1 && test -x /usr/sbin/sshd || \
	    echo "make: no sshd, so \`git push\` over ssh is NOT TESTED (Debian: apt-get install openssh-server openssh-client)" >&2
	@test -x $(MCP_PYTHON)/bin/python3 && test -x $(MCP_INSPECTOR)/node_modules/.bin/mcp-inspector || \
	    echo "make: no MCP clients, so \`shell-escalation mcp\` is NOT TESTED with them (make mcp-clients)" >&2
	cargo test --quiet --workspace --features $(TESTED) --doc
	@# The cases also run as tests, here on the wrapper that needs the C library.
	@export CONFORMANCE_WRAPPER="$(abspath $(WRAPPER_ON_LIBC))"; \
	if cargo nextest --version >/dev/null 2>&1; then \
	    echo "cargo nextest run --workspace"; cargo nextest run --workspace --features $(TESTED); \
	else \
	    echo "cargo test --workspace --lib --bins --tests"; cargo test --workspace --features $(TESTED) --lib --bins --tests; \
	fi

# Interactive days, one after the other, in the stock shells and the patched ones.
like-stock: reference
	@for shell in bash-5.3 zsh-5.9; do \
	    patches/build-shell "$$shell" && patches/build-shell --stock "$$shell" || exit 1; \
	done
	LIKE_STOCK_ROUNDS=$(ROUNDS) cargo test --package shell-escalation --test like_stock a_day

# Needs python3 with venv, and npm.
mcp-clients:
	@test -x $(MCP_PYTHON)/bin/python3 || python3 -m venv $(MCP_PYTHON)
	@$(MCP_PYTHON)/bin/python3 -m pip install --quiet --disable-pip-version-check mcp==$(MCP_PYTHON_VERSION)
	@mkdir -p $(MCP_INSPECTOR)
	@npm install --silent --no-audit --no-fund --prefix $(MCP_INSPECTOR) \
	    @modelcontextprotocol/inspector@$(MCP_INSPECTOR_VERSION)

tests-built: reference
	cargo test --quiet --workspace --features $(TESTED) --no-run

# The shells that tests need: the judged ones, zsh, the stock shells to compare them with, and bash 5.3 faulty, and faulty with
# sanitizers.
proving-shells: judged-shells
	@patches/build-shell zsh-5.9
	@patches/build-shell --stock bash-5.3
	@patches/build-shell --stock zsh-5.9
	@patches/build-shell --faulty never-wrapped bash-5.3
	@patches/build-shell --sanitize --faulty never-wrapped bash-5.3

bench: reference suite
	$(CONFORMANCE) bench --wrapper $(WRAPPER) --runs $(RUNS)
	$(CONFORMANCE) bench --server "'$(abspath $(SERVER))' shim" --runs $(RUNS)
	@patches/build-shell bash-5.3 && patches/build-shell --stock bash-5.3
	$(CONFORMANCE) bench --runs $(RUNS) --stock-shell target/shells/bash-5.3-stock/bin/bash \
	    --launcher "'$(abspath $(SERVER))' run --no-login --sandbox full-access --policy fixtures/policies/run.toml \
	        --shell target/shells/bash-5.3/bin/bash --wrapper '$(abspath $(WRAPPER))' --"

# What takes ten seconds as a case, for two minutes each, with counts; and SIGKILL at as many random moments.
stress: reference suite
	$(CONFORMANCE) case server.leak/stress --cases 768 --server "'$(abspath $(SERVER))' shim"
	$(CONFORMANCE) case server.hostile/siege --cases 768 --server "'$(abspath $(SERVER))' shim"
	SHELL_ESCALATION_KILLS=$(KILLS) cargo test --quiet --package shell-escalation --test command_line -- --nocapture a_sigkill_at_any_moment

# The parsers of wrapper, server and suite, one package after the other, the targets of each at the same time.
fuzz: prerequisites
	@for package in execve-wrapper shell-escalation shell-escalation-conformance; do \
	    FUZZ_SECONDS=$$(( $(SECONDS) / 3 )) cargo test --quiet --package $$package --lib fuzz:: -- --nocapture --test-threads=8 || exit 1; \
	done

shells: prerequisites
	@for shell in $(SHELLS); do patches/build-shell "$$shell" || exit 1; done

judged-shells: prerequisites
	@for shell in $(JUDGED); do patches/build-shell "$$shell" || exit 1; done

# The patched shells, and the stock shells of the same versions to compare them with.
measured-shells: shells
	@for shell in $(SHELLS); do patches/build-shell --stock "$$shell" || exit 1; done

# Each shell's own tests, without and with the reference.
shell-suites: shells reference
	@status=0; \
	for shell in $(SHELLS); do \
	    patches/shell-suites "$$shell" $(abspath $(SERVER)) $(abspath $(WRAPPER)) || status=$$?; \
	done; \
	exit $$status

# Real work in each shell: unpatched, with every command Run, and with every command Escalated.
real-scripts: measured-shells reference
	@status=0; \
	for shell in $(SHELLS); do \
	    patches/real-scripts "$$shell" $(abspath $(SERVER)) $(abspath $(WRAPPER)) || status=$$?; \
	done; \
	exit $$status

reference: prerequisites
	cargo build --quiet --release --package shell-escalation
	cargo build --quiet --profile wrapper --package execve-wrapper
	cargo build --quiet --release --package execve-wrapper --features libc

# The suite alone needs none of the tools that shells are built with.
suite: NEEDED := cargo:rustup cc:gcc
suite: prerequisites
	cargo build --quiet --release --package shell-escalation-conformance --bin conformance --bin conformance-probe

coverage: prerequisites
	cargo run --quiet --package shell-escalation-conformance --bin conformance -- list --coverage >conformance/evidence/COVERAGE.md.new
	mv conformance/evidence/COVERAGE.md.new conformance/evidence/COVERAGE.md
	for name in report baseline harness; do \
	    cargo run --quiet --package shell-escalation-conformance --bin conformance -- schema $$name >conformance/schemas/$$name.json || exit 1; \
	done

pictures: prerequisites
	CONFORMANCE_PICTURES="$(CURDIR)/conformance/pictures" cargo test --package shell-escalation-conformance --test browser

# Each small change must be noticed by a unit test or a case, or be explained in conformance/evidence/SURVIVORS.md.
mutants: prerequisites suite
	command -v cargo-mutants >/dev/null 2>&1 || cargo install --locked cargo-mutants
	cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest
	@# Statuses 2 and 3 mean that some mutants survive or hang; `judge` decides about those.
	NEXTEST_PROFILE=mutants CONFORMANCE="$(abspath $(CONFORMANCE))" \
	    CARGO_TARGET_$$(rustc -vV | sed -n 's/host: //p' | tr a-z- A-Z_)_RUNNER="$(abspath conformance/mutants/confined)" \
	    cargo mutants --config .config/mutants.toml \
	    --package $(MUTATED) $(MUTANTS_OF_$(MUTATED)) --output $(TARGET)/mutants-$(MUTATED) --jobs 2 \
	    $(if $(SHARD),--shard $(SHARD) --sharding round-robin) || [ $$? -eq 2 -o $$? -eq 3 ]
	conformance/mutants/judge $(TARGET)/mutants-$(MUTATED) $(if $(SHARD),part)

lint: prerequisites
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps

clean:
	cargo clean --quiet
	rm -rf target

# Prints in one line which tools are missing. patches/build-shell checks for what the shells' sources need.
prerequisites:
	@missing=; \
	for tool in $(NEEDED); do \
	    command -v $${tool%%:*} >/dev/null 2>&1 || missing="$$missing $${tool#*:}"; \
	done; \
	[ -z "$$missing" ] || { echo "make: missing tools:$$missing (on Debian: apt-get install$$missing)" >&2; exit 1; }

# Prints a variable of this file; for tests.
print-%:
	@echo "$($*)"
