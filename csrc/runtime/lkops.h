/* Super-resolution networks without PyTorch: a file that `lkca export` wrote, opened and run.
 *
 *     lkops_network* network;  lkops_plan* plan;  lkops_error error;
 *     if (lkops_open("net.lkops", &network, &error)) ...
 *     lkops_options options = {.batch = 1, .rows = 64, .columns = 64, .threads = 2};
 *     if (lkops_prepare(network, &options, &plan, &error)) ...
 *     void* workspace = aligned_alloc(64, lkops_workspace_bytes(plan));
 *     if (lkops_run(plan, lowres, image, workspace, &error)) ...
 *
 * Images are float32, dense (batch, bands, rows, columns), divided by the peak that the network was trained with.
 *
 * A network never changes: any number of threads may prepare plans of it. A plan runs one image at a time; a second
 * thread that runs it waits, so threads that are to run at the same time have a plan each. There is no state besides
 * these two but the instruction set, chosen once: the widest that the CPU has, or what LKOPS_CPU_ISA in the environment
 * names. The same bits come out for any number of threads.
 *
 * Every function that can fail returns LKOPS_OK, 0, or why not, with words in `error`, which may be null. Nothing is
 * thrown. The file must stay as it is while it is open: it is mapped, not read. After fork(), the child prepares plans of
 * its own.
 */
#ifndef LKOPS_H
#define LKOPS_H

#include <stdint.h>

#if defined(__GNUC__)
#define LKOPS_API __attribute__((visibility("default")))
#else
#define LKOPS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  LKOPS_OK = 0,
  LKOPS_BAD_ARGUMENT,  /* a size, a pointer, or an instruction set that can't be had */
  LKOPS_BAD_FILE,      /* no network, a damaged one, or of a version that this library does not read */
  LKOPS_CANNOT_READ,   /* the file is not there, or may not be read */
  LKOPS_NO_RESOURCES,  /* memory or threads that the system does not give */
  LKOPS_NOT_FINITE,    /* a pixel is NaN or infinite: the channel attention would spread it over the whole image */
  LKOPS_STOPPED        /* the function that takes strips said so */
} lkops_status;

typedef struct {
  char text[512];
} lkops_error;

typedef struct lkops_network lkops_network;
typedef struct lkops_plan lkops_plan;

typedef struct {
  int64_t bands, scale;           /* an image (bands, rows, columns) becomes (bands, scale * rows, scale * columns) */
  int64_t operators, parameters;  /* of the graph; numbers in its weights */
  int64_t file_bytes;
  const char* dtype;              /* "float32" or "bfloat16": of weights and features, or "int8": bfloat16 but for the
                                     inputs and weights of products; images are float32 always */
  const char* metadata;           /* a JSON object, ended by a zero byte that metadata_bytes does not count */
  int64_t metadata_bytes;
} lkops_info;

typedef struct {
  int64_t batch, rows, columns;  /* of the low-resolution images */
  int64_t strip_rows;            /* 0, or rows of a strip for lkops_run_strips; rounded up to an even number */
  int32_t threads;               /* 1 or more, the caller's included */
  int32_t pin;                   /* 1: each of the plan's threads, not the caller's, stays on a CPU of its own */
} lkops_options;

/* Opens a file, or what lies in memory on a 64-byte line and stays there until it is closed. */
LKOPS_API lkops_status lkops_open(const char* path, lkops_network** network, lkops_error* error);
LKOPS_API lkops_status lkops_open_memory(const void* file, int64_t bytes, lkops_network** network, lkops_error* error);
/* After all its plans. Null is nothing to close. */
LKOPS_API void lkops_close(lkops_network* network);
/* Texts live as long as the network. */
LKOPS_API void lkops_describe(const lkops_network* network, lkops_info* info);

/* Fits a network to images of one size: packs weights, starts threads. They sleep when there is nothing to run. */
LKOPS_API lkops_status lkops_prepare(const lkops_network* network, const lkops_options* options, lkops_plan** plan,
                                     lkops_error* error);
LKOPS_API void lkops_release(lkops_plan* plan);
/* What the plan holds itself, packed weights above all. */
LKOPS_API int64_t lkops_plan_bytes(const lkops_plan* plan);
/* What a run needs beside image and result, a multiple of 64. Runs allocate nothing. */
LKOPS_API int64_t lkops_workspace_bytes(const lkops_plan* plan);

/* image (batch, bands, scale * rows, scale * columns). The workspace lies on a 64-byte line; what it holds before and
 * after has no meaning. The three may not overlap. */
LKOPS_API lkops_status lkops_run(lkops_plan* plan, const float* lowres, float* image, void* workspace,
                                 lkops_error* error);

/* The same image in strips, from top to bottom, bit for bit: with a plan of strip_rows the whole is never in memory.
 * Plane b of sample n of a strip begins at strip + (n * bands + b) * plane and holds `rows` rows of scale * columns
 * numbers, of which the first is row `first` of the image. What `put` returns but 0 ends the run. */
typedef int (*lkops_put)(void* context, int64_t first, int64_t rows, const float* strip, int64_t plane);
LKOPS_API lkops_status lkops_run_strips(lkops_plan* plan, const float* lowres, lkops_put put, void* context,
                                        void* workspace, lkops_error* error);

/* "portable", "avx2" ...: what plans run with; "" where LKOPS_CPU_ISA asks for what can't be had. */
LKOPS_API const char* lkops_instruction_set(void);

#ifdef __cplusplus
}
#endif

#endif
