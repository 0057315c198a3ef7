# The instruction sets that kernels are compiled for, from csrc/common/isas.h as setup.py has them
# (tests/lkops/build/test_sanitizers.py compares): ISAS, ISA_<name> (flags), ROOMS_<name> (rooms with a table for it) and
# BUILT (what common/isa.h wants to know).
LIST := $(ROOT)/csrc/common/isas.h
ROOMS := $(patsubst $(ROOT)/csrc/%/cpu.cpp,%,$(wildcard $(ROOT)/csrc/*/cpu.cpp))
ISAS := $(shell sed -nE 's/^  X\((\w+), \w+, __VA_ARGS__\).*/\1/p' $(LIST))
ifeq ($(filter x86_64% amd64%,$(shell $(CXX) -dumpmachine)),)
ISAS := $(firstword $(ISAS))
endif

# from each to the next: the features that it adds, and the rooms whose widest it is, which have no table for the next
added = $(shell sed -nE 's/^  X\((\w+), $(1), (builtin|own)\).*/-m\1/p' $(LIST))
ending = $(patsubst $(ROOT)/csrc/%/cpu.h,%,$(shell grep -l '^LKOPS_DECLARE_TABLES(.*, $(1));' $(ROOT)/csrc/*/cpu.h))
flags :=
rooms := $(ROOMS)
define facts_of_isa
flags += $(call added,$(1))
ISA_$(1) := $$(strip $$(flags))
ROOMS_$(1) := $$(rooms)
rooms := $$(filter-out $(call ending,$(1)),$$(rooms))
endef
$(foreach isa,$(ISAS),$(eval $(call facts_of_isa,$(isa))))

comma := ,
empty :=
BUILT := -DLKOPS_BUILT=$(subst $(empty) $(empty),$(empty),$(foreach isa,$(ISAS),$(if $(filter-out $(firstword $(ISAS)),$(isa)),$(comma))$(isa)))
