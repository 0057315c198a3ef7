# The instruction sets that kernels are compiled for, from csrc/common/isas/*.h as setup.py has them
# (tests/lkops/build/test_sanitizers.py compares): ISAS, ISA_<name> (flags), ROOMS_<name> (rooms with a table for it) and
# BUILT (what common/isa.h wants to know).
MACHINE := $(patsubst amd64,x86_64,$(patsubst arm64,aarch64,$(firstword $(subst -, ,$(shell $(CXX) -dumpmachine)))))
LIST := $(firstword $(wildcard $(ROOT)/csrc/common/isas/$(MACHINE).h) $(ROOT)/csrc/common/isas/other.h)
ROOMS := $(patsubst $(ROOT)/csrc/%/cpu.cpp,%,$(wildcard $(ROOT)/csrc/*/cpu.cpp))
ISAS := $(shell sed -nE 's/^  X\((\w+), \w+, __VA_ARGS__\).*/\1/p' $(LIST))

# from each to the next: the features that it adds, and the rooms whose widest it is, which have no table for the next
added = $(shell sed -nE 's/^  X\((\w+), $(1), \w+, (builtin|own)\).*/\1/p' $(LIST))
code = $(shell sed -nE 's/^\#define LKOPS_WIDEST_OF_(\w+) $(1)$$/\1/p' $(LIST))
with = $(patsubst $(ROOT)/csrc/%/cpu.h,%,$(shell grep -l '^LKOPS_DECLARE_TABLES(.*, $(1));' $(ROOT)/csrc/*/cpu.h))
ending = $(foreach kind,$(code),$(call with,$(kind)))
empty :=
joined = $(subst $(empty) $(empty),$(2),$(strip $(1)))
ifeq ($(MACHINE),aarch64)
options = $(if $(1),-march=armv8.2-a+$(call joined,$(1),+))
else
options = $(addprefix -m,$(1))
endif
features :=
rooms := $(ROOMS)
define facts_of_isa
features += $(call added,$(1))
ISA_$(1) := $$(call options,$$(strip $$(features)))
ROOMS_$(1) := $$(rooms)
rooms := $$(filter-out $(call ending,$(1)),$$(rooms))
endef
$(foreach isa,$(ISAS),$(eval $(call facts_of_isa,$(isa))))

comma := ,
BUILT := -DLKOPS_BUILT=$(call joined,$(ISAS),$(comma))
