// Machines that nothing is known of: common/isas.h says what the macros are.
#define LKOPS_ISAS(X, ...) \
  X(Portable, portable, __VA_ARGS__)

#define LKOPS_WIDEST_OF_Floats Portable
#define LKOPS_WIDEST_OF_Products Portable

#define LKOPS_FEATURES(X)
