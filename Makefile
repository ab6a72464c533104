# One Makefile for the whole suite. `make help` says what there is.
# Flavours build in folders of their own: SANITIZE=address,undefined and VALGRIND=1.

STAGES := stage1_blocking stage2_prefork stage3_select stage4_epoll_reuseport
CC ?= gcc
PREFIX ?= /usr/local
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
HARNESS_SRC := $(wildcard tests/harness*.c)
BENCH_SRC := $(wildcard bench/*.c bench/peers/*.c)
C_SRC := $(COMMON_SRC) $(STAGE_SRC) $(wildcard tests/*.c) $(BENCH_SRC)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
BIN := $(STAGES:%=$(B)/%)
TESTS := $(UNIT_SRC:tests/%.c=$(B)/tests/%)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all

all: $(BIN)

$(B)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# common/ as one archive: a program takes what it needs.
$(B)/obj/common.a: $(call obj,$(COMMON_SRC))
	rm -f $@ && ar rcs $@ $^

define stage_rule
$(B)/$(1): $(call obj,$(wildcard $(1)/*.c)) $(B)/obj/common.a
	$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^
endef
$(foreach s,$(STAGES),$(eval $(call stage_rule,$(s))))

$(B)/tests/%: $(B)/obj/tests/%.o $(call obj,$(HARNESS_SRC)) $(B)/obj/common.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(CHECK_LIBS) -lhttp_parser $(EVENT_LIBS)

-include $(patsubst %.c,$(B)/obj/%.d,$(C_SRC))
