# eda: an event engine inside PostgreSQL
#
#   make check              install what is missing (Debian), build, run every test
#   make test T=late        build, and run the tests with "late" in their names, without root
#   make tests              every test, with the sentence that it proves
#   make installcheck       the SQL and isolation tests, by a superuser, on a running server that has eda
#                           installed, and in shared_preload_libraries, and dblink (postgresql-contrib);
#                           REGRESS="publish work" ISOLATION= runs only these
#   make demo [RIDES=20] [BROKER=nats]
#                           the ride-hailing example, until Ctrl-C or for so many rides
#   make && make install    for the PostgreSQL that PG_CONFIG belongs to
#   make gateway            the HTTP gateway; make install-gateway
#   make bench              eda against other queues, and itself with much in the log: a table
#                           and a chart in build/bench (settings: bench/run)
#   make format, make lint  clang-format, clang-tidy
#   make dist               build/eda-X.Y.Z.zip for PGXN, of the last commit

EXTENSION  = eda
MODULE_big = eda
EDA_VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" eda.control)

OBJS = src/eda.o \
	$(addprefix src/base/, relcache.o catalog.o event_type.o segment.o lifecycle.o json.o interval.o uuid.o array.o) \
	$(addprefix src/shared/, shmem.o ready_queue.o clock.o) \
	$(addprefix src/process/, launcher.o attach.o ddl.o wakeup.o) \
	$(addprefix src/log/, journal.o journal_read.o journal_rel.o journal_shape.o idempotency.o news.o lease.o refuse.o) \
	$(addprefix src/api/, publish.o item.o acquire.o queue.o report.o on_fail.o control.o args.o) \
	$(addprefix src/engine/, engine.o xact.o status.o todo.o cursor.o type.o tail.o see.o dispatch.o timers.o \
		decide.o move.o message.o nats.o delivery.o send.o feed.o counts.o timing.o state.o housekeeping.o) \
	$(addprefix src/broker/, broker.o courier.o stream.o link.o ring.o jetstream.o url.o text.o state.o settings.o)
SRC_H = $(addprefix src/, eda.h compat.h base/base.h shared/shared.h process/process.h log/log.h api/api.h \
	engine/engine.h broker/broker.h broker/status.h broker/broker_int.h)

SQL = $(addprefix sql/, \
	00_head.sql 10_tables.sql 20_publish.sql 30_work.sql 40_control.sql \
	50_views.sql 60_dashboard.sql 70_http.sql 71_http_read.sql 72_http_write.sql \
	73_http_changes.sql 75_metrics.sql 80_mcp.sql 82_mcp_tools.sql 84_mcp_explain.sql 90_grants.sql)
DATA_built = eda--$(EDA_VERSION).sql
# The install scripts of releases, which never change, and the steps from one version to the next.
DATA = $(filter-out sql/releases/$(DATA_built), $(wildcard sql/releases/eda--*.sql)) $(wildcard sql/upgrade/eda--*--*.sql)

# What -Wextra finds in PostgreSQL's own headers and macros is off; WERROR=1 is for CI.
WARNINGS = -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-declaration-after-statement
PG_CPPFLAGS = -I$(srcdir)/src -DEDA_VERSION='"$(EDA_VERSION)"'
PG_CFLAGS = $(WARNINGS) $(if $(WERROR),-Werror)
SHLIB_LINK = -lnats -ljansson -lpthread

PG_CONFIG ?= pg_config
# No bitcode: no function here is worth inlining into a query.
override with_llvm := no

# setup goes first, and moves, which judges what the others did, last; else the order is free.
REGRESS ?= $(filter-out setup moves,$(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))) moves
ISOLATION ?= $(filter-out iso_setup,$(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec))))
REGRESS_OPTS = --inputdir=test --outputdir=build/installcheck --encoding=UTF8 --no-locale setup
ISOLATION_OPTS = --inputdir=test --outputdir=build/installcheck --encoding=UTF8 --no-locale \
	--launcher=test/mask-ids iso_setup
REGRESS_PREP = preloaded

ifneq (,$(filter check test tests demo dist gateway install-gateway bench,$(MAKECMDGOALS)))

# These install PostgreSQL where it is missing, or have no need of it: they do not ask pg_config.
check:
	@test/run --install

test:
	@test/run $(T)

tests:
	@test/run --list

bench:
	bench/run

gateway:
	$(MAKE) -C gateway

install-gateway:
	$(MAKE) -C gateway install

demo:
	RIDES=$(RIDES) BROKER=$(BROKER) examples/ride-hailing/demo.sh

DIST := eda-$(shell sed -n 's/^	"version": "\(.*\)",$$/\1/p' META.json)
GIT = git -c safe.directory=$(CURDIR)
dist:
	@mkdir -p build
	@$(GIT) diff --quiet HEAD || echo "make dist: what is not committed is left out" >&2
	$(GIT) archive --format=zip --prefix=$(DIST)/ --output=build/$(DIST).zip HEAD

else

PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error "$(PG_CONFIG)" does not run; install the server's development package, or set PG_CONFIG)
endif
include $(PGXS)

$(OBJS): $(SRC_H) eda.control build/built-for

# What was compiled for another PostgreSQL is compiled again.
build/built-for: FORCE
	@mkdir -p build; echo '$(VERSION) $(pkglibdir)' | cmp -s - $@ || echo '$(VERSION) $(pkglibdir)' >$@
FORCE:

# make installcheck runs on the server that PGHOST, PGPORT and PGUSER lead to.
preloaded:
	@mkdir -p build/installcheck
	@$(bindir)/psql -XAtd postgres -c 'SHOW shared_preload_libraries' | grep -qw eda || { echo \
		"make installcheck needs a running server with shared_preload_libraries = 'eda'; see \"make test\" for one of its own" >&2; \
		exit 1; }

eda--$(EDA_VERSION).sql: $(SQL) eda.control
	cat $(SQL) > $@

CLIENTS = $(addprefix examples/ride-hailing/, worker.c worker.h source_pull.c source_nats.c) \
	$(addprefix bench/, bench.h bench-nats.h held-open.c latency.c nats-backlog.c nats-latency.c gateway-latency.c load.c) test/broker/driver.c test/gateway/crowd.c

format:
	clang-format -i $(OBJS:.o=.c) $(SRC_H) $(CLIENTS)
	$(MAKE) -C gateway format

lint:
	clang-format --dry-run -Werror $(OBJS:.o=.c) $(SRC_H) $(CLIENTS)
	clang -fsyntax-only -Werror $(WARNINGS) -Isrc -D_GNU_SOURCE -DEDA_VERSION='""' -isystem $(shell $(PG_CONFIG) --includedir-server) $(OBJS:.o=.c)
	clang-tidy --quiet $(OBJS:.o=.c) -- $(CPPFLAGS) 2>/dev/null
	test/lint-calls src $(OBJS:.o=.c) -- -Isrc -D_GNU_SOURCE -DEDA_VERSION='""' -I$(shell $(PG_CONFIG) --includedir-server)
	test/check-docs
	test/check-links
	$(MAKE) -s shadows
	$(MAKE) -s -C gateway lint

# A function of ours with the name of one of PostgreSQL's would be called in its place.
shadows: $(OBJS)
	@nm -D --defined-only $(bindir)/postgres | sed 's/.* //' | sort >build.exports
	@nm -g --defined-only $(OBJS) | sed -n 's/.* [TDBR] //p' | sort | comm -12 - build.exports >build.shadows
	@sed 's/$$/: PostgreSQL has a symbol of this name/' build.shadows; test ! -s build.shadows; s=$$?; \
		rm -f build.exports build.shadows; exit $$s

# For scripts: make -s print-OBJS
print-%:
	@echo $($*)

endif

.PHONY: check test tests preloaded FORCE demo dist bench gateway install-gateway format lint shadows
