# The instruction sets that kernels are compiled for, as setup.py has them (tests/lkops/build/test_sanitizers.py compares).
ISAS := Portable
ISA_Portable :=
ifneq ($(filter x86_64 amd64,$(shell uname -m)),)
ISAS += Avx2 Avx512 Avx512Bf16
ISA_Avx2 := -mavx2 -mfma -mf16c
ISA_Avx512 := $(ISA_Avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl
ISA_Avx512Bf16 := $(ISA_Avx512) -mavx512bf16
endif
upper = $(shell echo $(1) | tr a-z A-Z)
HAVE := $(foreach isa,$(ISAS),-DLKOPS_HAVE_$(call upper,$(isa)))
