/* Enlarges a raw float32 image (bands, rows, columns), divided by the peak, with a network of `lkca export`:
 *
 *     cc main.c -I../../build/edge/x86_64 -L../../build/edge/x86_64 -llkops -o enlarge
 *     ./enlarge net.lkops 64 64 lowres.raw image.raw 2
 */
#include <stdio.h>
#include <stdlib.h>

#include "lkops.h"

static int fail(const char* what) {
  fprintf(stderr, "enlarge: %s\n", what);
  return 1;
}

int main(int count, char** words) {
  if (count != 7) return fail("give NET ROWS COLUMNS LOWRES IMAGE THREADS");
  lkops_network* network = NULL;
  lkops_plan* plan = NULL;
  lkops_info info;
  lkops_error error;
  lkops_options options = {1, atoll(words[2]), atoll(words[3]), 0, atoi(words[6]), 0};
  if (lkops_open(words[1], &network, &error) || lkops_prepare(network, &options, &plan, &error))
    return fail(error.text);
  lkops_describe(network, &info);
  size_t pixels = (size_t)(info.bands * options.rows * options.columns);
  size_t enlarged = pixels * (size_t)(info.scale * info.scale);
  float *lowres = malloc(pixels * sizeof *lowres), *image = malloc(enlarged * sizeof *image);
  void* workspace = aligned_alloc(64, (size_t)lkops_workspace_bytes(plan));
  FILE *from = fopen(words[4], "rb"), *to = fopen(words[5], "wb");
  if (!lowres || !image || !workspace) return fail("out of memory");
  if (!from || fread(lowres, sizeof *lowres, pixels, from) != pixels) return fail("LOWRES is not of this size");
  if (lkops_run(plan, lowres, image, workspace, &error)) return fail(error.text);
  if (!to || fwrite(image, sizeof *image, enlarged, to) != enlarged || fclose(to)) return fail("IMAGE can't be written");
  printf("%lld bands, x%lld, %s\n", (long long)info.bands, (long long)info.scale, lkops_instruction_set());
  fclose(from);
  free(workspace), free(image), free(lowres);
  lkops_release(plan);
  lkops_close(network);
  return 0;
}
