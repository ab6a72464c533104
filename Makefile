# One Makefile for the whole suite. `make help` says what there is.
# Flavours build in folders of their own: SANITIZE=address,undefined and VALGRIND=1; any other
# with B=build/NAME, for example `make CC=clang B=build/clang`.

# STAGES="..." chooses for `make bench`; what is built is always the same.
ifeq ($(origin STAGES),command line)
CHOSEN := $(STAGES)
endif
override STAGES := stage1_blocking stage2_prefork stage3_select stage4_epoll_reuseport
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
SECONDS ?= 60
NPROC := $(shell nproc)
comma := ,

ifdef SANITIZE
B := build/sanitize-$(subst $(comma),-,$(SANITIZE))
CFLAGS ?= -O1 -g -fno-omit-frame-pointer
FLAVOUR := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
else ifdef VALGRIND
B := build/valgrind
CFLAGS ?= -O1 -g
else
B := build
CFLAGS ?= -O2 -g
endif

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -Icommon -MMD -MP $(FLAVOUR) $(CFLAGS)
ALL_LDFLAGS = $(FLAVOUR) $(LDFLAGS)
CHECK_LIBS = $(shell pkg-config --libs check)
EVENT_LIBS = -levent_core -levent_extra

COMMON_SRC := $(wildcard common/*.c)
STAGE_SRC := $(foreach s,$(STAGES),$(wildcard $(s)/*.c))
UNIT_SRC := $(wildcard tests/test_*.c)
FUZZ_SRC := $(wildcard tests/fuzz_*.c)
HARNESS_SRC := $(wildcard tests/harness*.c)
BENCH_SRC := $(wildcard bench/*/*.c)
C_SRC := $(COMMON_SRC) $(STAGE_SRC) $(wildcard tests/*.c) $(BENCH_SRC)
C_HDR := $(wildcard */*.h */*/*.h)
SH_SRC := $(wildcard */*.sh .ci/run)
PY_SRC := $(wildcard */*.py bench/*/*.py docs/tools/*.py)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
BIN := $(STAGES:%=$(B)/%)
TESTS := $(UNIT_SRC:tests/%.c=$(B)/tests/%)

# What is being made, in a word; the whole command with V=1.
say = @$(if $(V),:,echo '  $(1)')
Q := $(if $(V),,@)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all FORCE

all: $(BIN) ## build the four servers into build/; the same as make alone
	@:

# What was compiled with other flags, or by another compiler, is made anew.
FLAGS_FILE := $(B)/obj/flags
FLAGS_NOW := $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)
ifneq ($(file <$(FLAGS_FILE)),$(FLAGS_NOW))
$(FLAGS_FILE): FORCE
endif
$(FLAGS_FILE):
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' >$@

$(B)/obj/%.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,cc $<)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# common/ as one archive: a program takes what it needs.
$(B)/obj/common.a: $(call obj,$(COMMON_SRC))
	$(call say,ar $@)
	$(Q)rm -f $@ && ar rcs $@ $^

define stage_rule
$(B)/$(1): $(call obj,$(wildcard $(1)/*.c)) $(B)/obj/common.a
	$$(call say,ld $$@)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^
endef
$(foreach s,$(STAGES),$(eval $(call stage_rule,$(s))))

$(B)/tests/%: $(B)/obj/tests/%.o $(call obj,$(HARNESS_SRC)) $(B)/obj/common.a
	@mkdir -p $(@D)
	$(call say,ld $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(CHECK_LIBS) -lhttp_parser $(EVENT_LIBS)

include bench/bench.mk

# Put into a server with LD_PRELOAD, by tests/counts.py.
COUNTER := $(B)/tests/count_malloc.so
$(B)/obj/tests/count_malloc.o: ALL_CFLAGS += -fPIC
$(COUNTER): $(B)/obj/tests/count_malloc.o
	@mkdir -p $(@D)
	$(call say,ld $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -o $@ $^

# ---- Use ----------------------------------------------------------------------------------

.PHONY: help setup demo install uninstall clean

help: ## print this
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | \
	  awk -F '\t' '{ printf "make %-16s %s\n", $$1, $$2 }'
	@echo
	@sed -n 's/^## \([A-Z]*\) /  \1\t/p' $(MAKEFILE_LIST) | \
	  awk -F '\t' '{ printf "%-21s %s\n", $$1, $$2 }'

## CC compiler: gcc (default) or clang
## SANITIZE of gcc and clang: make test SANITIZE=address,undefined
## VALGRIND 1: make test VALGRIND=1
## B folder that is built into: make CC=clang B=build/clang
## V 1: show the commands that are run
## SECONDS how long to fuzz: make fuzz SECONDS=600
## CHAPTER of make predict: make predict CHAPTER=3
## DOC one document: make docs-check DOC=docs/3-select.md
## PREFIX where to install: make install PREFIX=$HOME/.local
## DESTDIR put before PREFIX, for makers of packages

setup: ## install all that the targets here need
	@common/setup.sh build test valgrind lint fuzz bench docs

# What needs set-up gets it first, and then a make of its own: this one has asked pkg-config
# before there was any. It works in parallel unless the user said how.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(NPROC))

demo: ## set up, build, show each server answering a client
	@common/setup.sh build test
	@$(MAKE) --no-print-directory $(PARALLEL) all
	@common/demo.sh $(BIN)

UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system
install: all ## install the servers into DESTDIR/PREFIX/bin
	install -d $(DESTDIR)$(PREFIX)/bin
	install $(BIN) $(DESTDIR)$(PREFIX)/bin
	install -d $(UNITS)
	sed 's,@BINDIR@,$(PREFIX)/bin,' common/stage4_epoll_reuseport.service.in \
	  >$(UNITS)/stage4_epoll_reuseport.service
	install -m 644 common/stage4_epoll_reuseport.socket $(UNITS)

uninstall: ## remove what install installed
	rm -f $(STAGES:%=$(DESTDIR)$(PREFIX)/bin/%) $(UNITS)/stage4_epoll_reuseport.s*

clean: ## remove all that was made
	rm -rf build compile_commands.json

# ---- Tests --------------------------------------------------------------------------------

.PHONY: test soak programs run-tests counts fuzz run-fuzz diff-1-2 diff-2-3 diff-3-4 diff-select-poll

test: ## set up, build, run all tests
	@common/setup.sh build test bench $(if $(SANITIZE),,valgrind) $(if $(findstring clang,$(CC)),fuzz)
	@$(MAKE) --no-print-directory $(PARALLEL) programs
	@$(MAKE) --no-print-directory run-tests

programs: all $(TESTS) $(COUNTER) $(BENCH) ## build all that the tests and the tutorial use
	@:

# Black-box tests drive servers from outside: the servers go under valgrind, not the tests.
BLACK_BOX := $(patsubst tests/%.c,%,$(shell grep -l '"harness.h"' $(UNIT_SRC) /dev/null))
run-tests: export BUILD_DIR := $(abspath $(B))
ifdef VALGRIND
MEMCHECK := valgrind -q --vgdb=no --error-exitcode=99 --leak-check=full
run-tests: export WRAPPER := $(MEMCHECK)
run-tests: export SERVER_WRAPPER := $(MEMCHECK) --trace-children=yes
run-tests: export UNWRAPPED := $(BLACK_BOX)
run-tests: export TIME_SCALE := 5
run-tests: export CK_TIMEOUT_MULTIPLIER := 5
endif
ifdef SANITIZE
run-tests: export UBSAN_OPTIONS := print_stacktrace=1:$(UBSAN_OPTIONS)
run-tests: export TIME_SCALE := 2
endif

# The black-box tests first: they take longest, and two programs run at a time. What a request
# costs is counted for the servers as they are, neither sanitized nor under valgrind.
PLAIN_TESTS := "python3 tests/counts.py $(B)" "python3 tests/test_bench.py" tests/bench_smoke.sh \
  "python3 tests/test_docs.py" "python3 docs/tools/check.py --static"
run-tests:
	@tests/run.sh $(BLACK_BOX:%=$(B)/tests/%) \
	  $(filter-out $(BLACK_BOX:%=$(B)/tests/%),$(TESTS)) \
	  -- tests/diff.sh $(if $(SANITIZE)$(VALGRIND),,$(PLAIN_TESTS))

counts: ## count system calls, allocations, instructions, bytes of a request
	@common/setup.sh build test valgrind
	@$(MAKE) --no-print-directory $(PARALLEL) all $(COUNTER)
	@python3 tests/counts.py $(B)

soak: ## the long tests of process control, some minutes
	@common/setup.sh build test bench
	@$(MAKE) --no-print-directory $(PARALLEL) programs
	@tests/soak.sh $(B)

diff-1-2: ## what stage 2 changes in stage 1; so diff-2-3, diff-3-4
	@tests/diff.sh 1 2
diff-2-3:
	@tests/diff.sh 2 3
diff-3-4:
	@tests/diff.sh 3 4
diff-select-poll: ## the difference between stage 3's two ways to wait
	@tests/diff.sh select poll

# libFuzzer is clang's; the code under test is compiled for it once more, with both sanitizers.
FUZZ_CFLAGS := -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -Icommon -MMD -MP -g -O1 \
  -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
FUZZERS := $(FUZZ_SRC:tests/fuzz_%.c=build/fuzz/fuzz_%)
fuzz_obj = $(patsubst %.c,build/fuzz/obj/%.o,$(1))

build/fuzz/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,clang $<)
	$(Q)clang $(FUZZ_CFLAGS) -c -o $@ $<

build/fuzz/obj/common.a: $(call fuzz_obj,$(COMMON_SRC))
	$(call say,ar $@)
	$(Q)rm -f $@ && ar rcs $@ $^

build/fuzz/fuzz_%: build/fuzz/obj/tests/fuzz_%.o build/fuzz/obj/common.a
	$(call say,ld $@)
	$(Q)clang $(FUZZ_CFLAGS) -o $@ $^

fuzz: ## set up, build, feed nonsense to the parsers and to conn
	@common/setup.sh build fuzz
	@$(MAKE) --no-print-directory $(PARALLEL) $(FUZZERS)
	@$(MAKE) --no-print-directory -k run-fuzz

run-fuzz: $(FUZZERS:build/fuzz/fuzz_%=run-fuzz-%)

# libFuzzer writes new finds into the first folder only; the corpus in the tree is just read.
run-fuzz-%: build/fuzz/fuzz_%
	@mkdir -p build/fuzz/corpus/$*
	@echo "fuzz_$*: $$(($(SECONDS) / $(words $(FUZZERS)))) seconds"
	@$< -max_total_time=$$(($(SECONDS) / $(words $(FUZZERS)))) -timeout=10 -print_final_stats=1 \
	  -artifact_prefix=build/fuzz/$*- build/fuzz/corpus/$* $(wildcard tests/corpus/$*) \
	  >build/fuzz/$*.log 2>&1 </dev/null || \
	  { grep -v '^#' build/fuzz/$*.log | tail -n 60; \
	    echo "fuzz_$*: FAILED; the input:" \
	      "$$(sed -n 's/.*Test unit written to //p' build/fuzz/$*.log)"; exit 1; }
	@awk '/^stat::number_of_executed_units/ { runs = $$2 } / cov: / { line = $$0 } \
	  END { sub(/.* cov: /, "", line); split(line, w, " "); \
	        printf "fuzz_$*: %d executions, %d edges covered, nothing found\n", runs, w[1] }' \
	  build/fuzz/$*.log

# ---- Documents ----------------------------------------------------------------------------

.PHONY: docs pictures docs-check docs-update predict

docs: ## make a site of the tutorial: build/docs/index.html
	@common/setup.sh docs
	@python3 docs/tools/website.py

pictures: ## draw docs/pictures/ anew
	@python3 docs/tools/pictures.py

docs-check: ## run every command of docs/; compare excerpts, figures
	@common/setup.sh build test bench docs
	@$(MAKE) --no-print-directory $(PARALLEL) programs
	@python3 docs/tools/check.py $(DOC)

docs-update: ## pull excerpts and figures into docs/ anew
	@python3 docs/tools/check.py --update $(DOC)

predict: ## ask what the chapters ask, measure, score the answers
	@common/setup.sh build test bench
	@$(MAKE) --no-print-directory $(PARALLEL) bench-programs
	@python3 docs/tools/predict.py --build $(B) $(if $(CHAPTER),--chapter $(CHAPTER))

# ---- Style --------------------------------------------------------------------------------

.PHONY: lint format lint-format lint-tidy lint-cppcheck lint-sh lint-python dry-compile
LINTS := lint-format lint-tidy lint-cppcheck lint-sh $(if $(PY_SRC),lint-python)

lint: ## set up; clang-format, clang-tidy, cppcheck, shellcheck, pyflakes, mypy
	@common/setup.sh build test lint
	@$(MAKE) --no-print-directory compile_commands.json
	@$(MAKE) --no-print-directory -k $(LINTS)
	@echo 'lint: nothing to complain about'

lint-format:
	@echo 'clang-format: $(words $(C_SRC) $(C_HDR)) files'
	@printf '%s\n' $(C_SRC) $(C_HDR) | xargs -P $(NPROC) -n 1 sh -c \
	  'clang-format --dry-run -Werror "$$0" 2>/dev/null || { echo "$$0: see make format"; exit 1; }'

# One file at a time and all processors; what is wrong with a file is printed in one piece.
TIDY_TESTS := -cert-err34-c,-bugprone-suspicious-missing-comma,-bugprone-macro-parentheses,$\
  -bugprone-reserved-identifier,-readability-inconsistent-declaration-parameter-name,$\
  -clang-analyzer-security.insecureAPI.strcpy,-readability-function-size
lint-tidy:
	@echo 'clang-tidy: $(words $(C_SRC)) files'
	@printf '%s\n' $(C_SRC) | xargs -P $(NPROC) -n 1 sh -c ' \
	  case $$0 in tests/*) spare=$(TIDY_TESTS) ;; esac; \
	  out=$$(clang-tidy -p . --quiet --checks="$$spare" "$$0" 2>&1) || \
	  { printf "%s\n" "$$out" | grep -v "warnings.* generated"; exit 1; }'

lint-cppcheck:
	@echo 'cppcheck: $(words $(C_SRC)) files'
	@cppcheck -q -j $(NPROC) --error-exitcode=1 --enable=warning,performance,portability \
	  --inline-suppr --std=c11 --suppress=missingIncludeSystem \
	  --suppress='memleakOnRealloc:tests/*' \
	  -D_GNU_SOURCE -Icommon $(C_SRC)

lint-sh:
	@echo 'shellcheck: $(words $(SH_SRC)) files'
	@shellcheck $(SH_SRC)

# As on Debian and Ubuntu: pyflakes and mypy are commands there, and no modules of any other python.
lint-python:
	@echo 'pyflakes, mypy: $(words $(PY_SRC)) files'
	@pyflakes3 $(PY_SRC)
	@mypy --no-error-summary

format: ## format all C files
	@common/setup.sh lint
	clang-format -i $(C_SRC) $(C_HDR)

# For clang-tidy and editors: the very commands that make would run, read from a dry run.
dry-compile: $(call obj,$(filter-out $(FUZZ_SRC),$(C_SRC))) $(call fuzz_obj,$(FUZZ_SRC))
compile_commands.json: FORCE
	@$(MAKE) -Bn --no-print-directory dry-compile | sed -e '/ -c -o /!d' -e 's/[\\"]/\\&/g' \
	  -e 's|.* \([^ ]*\.c\)$$|{ "directory": "$(CURDIR)", "file": "\1", "command": "&" },|' | \
	  sed -e '1s/^/[/' -e '$$s/,$$/]/' >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

-include $(patsubst %.c,$(B)/obj/%.d,$(C_SRC)) $(patsubst %.c,build/fuzz/obj/%.d,$(COMMON_SRC) $(FUZZ_SRC))
