# Tests: the programs, running them, fuzzers, the diffs between stages. Included by the Makefile.
# Does not: say what is tested; docs/architecture.md draws the rooms below tests/.

## T a test program of make one: make one T=conn
## N of it one test, or one case: make one T=conn N=cut_anywhere
## CASE of it one case, beside N: make one T=blackbox N=route_root CASE=stage3-poll
## SECONDS how long to fuzz: make fuzz SECONDS=600

SECONDS ?= 60
TESTS := $(patsubst %.c,$(B)/tests/%,$(notdir $(TEST_SRC)))
CHECK_LIBS = $(shell pkg-config --libs check)

# The coroutines without their stage's main(), tested by themselves: with the processor's own
# switch, and with the one for all others.
COROUTINES := $(wildcard stage*_coroutines)
COROUTINE_SRC := $(filter-out %/main.c,$(wildcard $(COROUTINES)/*.c $(COROUTINES)/*.S))
UCONTEXT := $(B)/tests/test_coroutine_ucontext
UCONTEXT_OBJ := $(patsubst %,$(B)/obj/ucontext/%.o,$(basename $(COROUTINE_SRC)))
TESTS += $(UCONTEXT)
$(B)/tests/test_coroutine: $(call obj,$(COROUTINE_SRC))
$(UCONTEXT): $(call obj,tests/coroutines/test_coroutine.c $(HARNESS_SRC)) $(UCONTEXT_OBJ) $(B)/obj/common.a
$(B)/tests/test_coroutine $(UCONTEXT): STAGE_LINK = $(call link,$(COROUTINES))
$(B)/obj/ucontext/%.o: ALL_CFLAGS += -DSWITCH_UCONTEXT
$(B)/obj/ucontext/%.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,cc $< with ucontext)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<
$(B)/obj/ucontext/%.o: %.S $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,as $< with ucontext)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<
-include $(UCONTEXT_OBJ:.o=.d)

# The stage with handlers that no user gets: tests/coroutines/unsafe.c.
UNSAFE := $(B)/tests/stage7_unsafe
$(UNSAFE): $(call obj,tests/coroutines/unsafe.c $(wildcard $(COROUTINES)/*.c $(COROUTINES)/*.S)) $(B)/obj/common.a
	@mkdir -p $(@D)
	$(call say,ld $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(call link,$(COROUTINES)) -Wl,--wrap=gateway_relay

define test_rule
$(B)/tests/$(basename $(notdir $(1))): $(call obj,$(1) $(HARNESS_SRC)) $(B)/obj/common.a
endef
$(foreach t,$(TEST_SRC),$(eval $(call test_rule,$(t))))
$(TESTS):
	@mkdir -p $(@D)
	$(call say,ld $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -Wl,--wrap=_tcase_add_test $(STAGE_LINK) -o $@ $^ $(CHECK_LIBS) -lhttp_parser $(EVENT_LIBS)

$(B)/tests/test_queue: $(call obj,$(wildcard stage5_*/queue.c))

# Put into a server with LD_PRELOAD, by tests/counts/counts.py.
COUNTER := $(B)/tests/count_malloc.so
$(B)/obj/tests/counts/count_malloc.o: ALL_CFLAGS += -fPIC
$(COUNTER): $(B)/obj/tests/counts/count_malloc.o
	@mkdir -p $(@D)
	$(call say,ld $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -o $@ $^

# Stage 5 with a cure taken away, for tests/server/test_races.c: its own objects, and functions
# that the linker puts before some of theirs. The second of each pair is made without the
# assertions that catch the race.
RACES := $(basename $(notdir $(wildcard tests/races/*.c)))
RACY := $(RACES:%=$(B)/tests/races/%) $(RACES:%=$(B)/tests/races/%_unnoticed)
RACY_OBJ := $(call obj,$(wildcard stage5_*/*.c))
UNNOTICED := $(B)/obj/tests/races/unnoticed_conn.o
$(UNNOTICED): common/conn/conn.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,cc $< -DNDEBUG)
	$(Q)$(CC) $(ALL_CFLAGS) -DNDEBUG -c -o $@ $<
$(RACES:%=$(B)/tests/races/%_unnoticed): $(UNNOTICED)
define race_rule
$(B)/tests/races/$(1) $(B)/tests/races/$(1)_unnoticed: $(B)/obj/tests/races/$(1).o $(RACY_OBJ) $(B)/obj/common.a
	@mkdir -p $$(@D)
	$$(call say,ld $$@)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) $(shell sed -n 's/^ \* link: \(.*\) \*\/$$/\1/p' tests/races/$(1).c) \
	  -o $$@ $$(filter %.o,$$^) $(B)/obj/common.a
endef
$(foreach r,$(RACES),$(eval $(call race_rule,$(r))))

.PHONY: test one one-program programs run-tests counts soak


test: ## set up, build, run all tests
	@common/setup/setup.sh build test bench $(if $(SANITIZE),,valgrind) $(if $(findstring clang,$(CC)),fuzz)
	@$(MAKE) --no-print-directory $(PARALLEL) programs
	@$(MAKE) --no-print-directory run-tests

programs: all $(TESTS) $(UNSAFE) $(RACY) $(COUNTER) $(BENCH) ## build all that the tests and the tutorial use
	@:

# Under gdb a test must not run in a child.
ONE := $(B)/tests/test_$(T)
IS_TEST = $(shell grep -ls 'START_TEST($(N))' tests/*/test_$(T).c)
ONE_ENV = $(if $(N),$(if $(IS_TEST),TEST_ONE,CK_RUN_CASE)=$(N)) $(if $(CASE),CK_RUN_CASE=$(CASE))
one: ## build and run one test program, or one test of it: T=conn N=cut_anywhere
	@$(if $(T),,echo 'make one T=NAME, one of:' $(patsubst test_%,%,$(notdir $(TESTS))); exit 2)
	@$(MAKE) --no-print-directory $(PARALLEL) one-program
	@env $(ONE_ENV) $(ONE) >$(ONE).log 2>&1; status=$$?; cat $(ONE).log; \
	  grep -q 'Checks: [1-9]' $(ONE).log || { echo 'nothing ran: no test or case $(N) $(CASE)'; exit 1; }; \
	  echo 'under gdb: $(strip $(ONE_ENV) CK_FORK=no) gdb $(ONE)'; exit $$status

one-program: all $(UNSAFE) $(RACY) $(BENCH) $(ONE)
	@:

# Black-box tests drive servers from outside: the servers go under valgrind, not the tests.
BLACK_BOX := $(basename $(notdir $(wildcard tests/server/*.c tests/control/*.c)))
run-tests: export BUILD_DIR := $(abspath $(B))
ifdef VALGRIND
# Where a signal ends a process with threads, their stacks are "possibly lost".
MEMCHECK := valgrind -q --vgdb=no --error-exitcode=99 --leak-check=full \
  --show-leak-kinds=definite,indirect
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

# ThreadSanitizer finds what threads do to each other, and so only what has some is run under it:
# of the stages' tests those of stage 5. (It also calls a handler of signals late, if the process
# is in none of the system calls that it knows: a stage without threads would not end in time.)
ifeq ($(SANITIZE),thread)
OF_STAGE := $(addprefix test_,blackbox stages upstream clients control control_status control_reload)
OF_MODULES := $(addprefix test_,races queue share stats turn)
RUN_TESTS := $(OF_STAGE:%="env CK_RUN_CASE=stage5 $(B)/tests/%") $(OF_MODULES:%=$(B)/tests/%)
else
RUN_TESTS := $(BLACK_BOX:%=$(B)/tests/%) $(filter-out $(BLACK_BOX:%=$(B)/tests/%),$(TESTS))
endif

# The black-box tests first: they take longest, and two programs run at a time. What a request
# costs is counted for the servers as they are, neither sanitized nor under valgrind.
PLAIN_TESTS := "tests/coroutines/switch.sh $(B)" "python3 tests/counts/counts.py $(B)" "python3 tests/test_bench.py" tests/bench_smoke.sh \
  "python3 tests/test_docs.py" "python3 docs/tools/check.py --static" "python3 tests/rooms.py"
run-tests:
	@tests/run.sh $(RUN_TESTS) \
	  -- tests/diff.sh $(if $(SANITIZE)$(VALGRIND),,$(PLAIN_TESTS))

counts: ## count system calls, allocations, instructions, bytes of a request
	@common/setup/setup.sh build test valgrind
	@$(MAKE) --no-print-directory $(PARALLEL) all $(COUNTER)
	@python3 tests/counts/counts.py $(B)

soak: ## the long tests of process control, some minutes
	@common/setup/setup.sh build test bench
	@$(MAKE) --no-print-directory $(PARALLEL) programs
	@tests/soak.sh $(B)

# The diffs between neighbours: diff-2-3 for stage 3, whose neighbour is 2.
DIFFS := $(shell awk -F ': ' '$$1 == "neighbour" { split(FILENAME, to, /stage|_/); \
  print "diff-" $$2 "-" to[2] }' $(STAGES:%=%/facts))
.PHONY: $(DIFFS) diff-select-poll
diff-1-2: ## what stage 2 changes in stage 1; so with each stage and its neighbour
$(DIFFS): diff-%:
	@tests/diff.sh $(subst -, ,$*)
diff-select-poll: ## the difference between stage 3's two ways to wait
	@tests/diff.sh select poll

# ---- Fuzzers ------------------------------------------------------------------------------

.PHONY: fuzz run-fuzz

# libFuzzer is clang's; the code under test is compiled for it once more, with both sanitizers.
FUZZ_CFLAGS := -std=gnu17 -D_GNU_SOURCE $(WARNINGS) -Icommon -Itests -MMD -MP -g -O1 \
  -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
FUZZERS := $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%)
fuzz_obj = $(patsubst %.c,build/fuzz/obj/%.o,$(1))

build/fuzz/obj/%.o: %.c Makefile tests/tests.mk
	@mkdir -p $(@D)
	$(call say,clang $<)
	$(Q)clang $(FUZZ_CFLAGS) -c -o $@ $<

build/fuzz/obj/common.a: $(call fuzz_obj,$(COMMON_SRC))
	$(call say,ar $@)
	$(Q)rm -f $@ && ar rcs $@ $^

build/fuzz/fuzz_%: build/fuzz/obj/tests/fuzz/fuzz_%.o build/fuzz/obj/common.a
	$(call say,ld $@)
	$(Q)clang $(FUZZ_CFLAGS) -o $@ $^

fuzz: ## set up, build, feed nonsense to the parsers and to conn
	@common/setup/setup.sh build fuzz
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
