# The benchmark: what it measures with and against, and its targets. Included by the Makefile.
# Does not: say how C is compiled, or which servers there are.

## FULL 1: the long form of make bench
## ONLY one experiment of make bench or make fooled
## STAGES servers of make bench: make bench STAGES=stage3_select
## SAVE a folder for the report: make bench SAVE=docs/results

FLOOR := $(B)/bench/floor
EVHTTP := $(B)/bench/evhttp
CROWD := $(B)/bench/crowd
CLOSE_LISTENER := $(B)/bench/close_listener
SLOW_UPSTREAM := $(B)/bench/slow_upstream
SWITCH := $(B)/bench/switch
BENCH := $(FLOOR) $(EVHTTP) $(CROWD) $(CLOSE_LISTENER) $(SLOW_UPSTREAM) $(SWITCH)
$(FLOOR): $(call obj,bench/servers/floor.c)
$(CLOSE_LISTENER): $(call obj,bench/servers/close_listener.c)
$(EVHTTP): $(call obj,bench/servers/evhttp.c)
$(CROWD): $(call obj,$(wildcard bench/crowd/*.c)) $(B)/obj/common.a
$(SLOW_UPSTREAM): $(call obj,$(wildcard bench/servers/slow_*.c)) $(B)/obj/common.a

# The switch of the coroutines in all its forms, each under a name of its own.
SWITCH_FROM := $(wildcard stage*_coroutines)
SWITCH_FORM = -Dswitch_stack=switch_$(1) -Dswitch_prepare=prepare_$(1) -Dswitch_begin=begin_$(1)
SWITCH_OBJ := $(patsubst %,$(B)/obj/bench/switch/%.o,jmp ret prepare ucontext)
$(SWITCH): $(call obj,bench/switch/switch.c) $(SWITCH_OBJ)
$(B)/obj/bench/switch/jmp.o $(B)/obj/bench/switch/prepare.o: ALL_CFLAGS += $(call SWITCH_FORM,jmp)
$(B)/obj/bench/switch/ret.o: ALL_CFLAGS += $(call SWITCH_FORM,ret) -DSWITCH_RET
$(B)/obj/bench/switch/ucontext.o: ALL_CFLAGS += $(call SWITCH_FORM,ucontext) -DSWITCH_UCONTEXT
$(B)/obj/bench/switch/jmp.o $(B)/obj/bench/switch/ret.o: $(SWITCH_FROM)/switch.S
$(B)/obj/bench/switch/prepare.o: $(SWITCH_FROM)/switch_prepare.c
$(B)/obj/bench/switch/ucontext.o: $(SWITCH_FROM)/switch_ucontext.c
$(SWITCH_OBJ): $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,cc $(@F) of the switch)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $(filter $(SWITCH_FROM)/%,$^)

$(EVHTTP) $(CROWD) $(SLOW_UPSTREAM): BENCH_LIBS := $(EVENT_LIBS)
$(BENCH):
	@mkdir -p $(@D)
	$(call say,ld $@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(BENCH_LIBS)

.PHONY: bench bench-programs fooled close-listener

bench-programs: all $(BENCH) $(B)/tests/test_blackbox
	@:

bench: ## set up, build, measure: build/report/index.html
	@common/setup/setup.sh build test bench valgrind
	@$(MAKE) --no-print-directory $(PARALLEL) bench-programs
	@bench/run.py --build $(B) $(if $(FULL),--full) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(CHOSEN),--stages $(CHOSEN)) $(if $(SAVE),--save $(SAVE))

fooled: ## seven ways to misread a benchmark; one: ONLY=nagle
	@common/setup/setup.sh build test bench
	@$(MAKE) --no-print-directory $(PARALLEL) bench-programs
	@bench/fooled.py --build $(B) $(ONLY)

close-listener: $(CLOSE_LISTENER) ## show what closing a SO_REUSEPORT listener loses
	@$(CLOSE_LISTENER)
