// A network prepared for images of one size: packed weights, the layout of its workspace, its threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/graph.h"
#include "runtime/lkops.h"

namespace lkops {
namespace runtime {

// Why something was not done.
struct Refused {
  lkops_status status;
  std::string text;
};

class Plan {
 public:
  virtual ~Plan() = default;
  virtual int64_t bytes() const = 0;
  virtual int64_t workspace_bytes() const = 0;
  virtual void run(const float* lowres, float* image, void* workspace) = 0;
  virtual void run_strips(const float* lowres, lkops_put put, void* context, void* workspace) = 0;
};

// Throws Refused, std::bad_alloc, std::system_error.
std::unique_ptr<Plan> make_plan(const Graph& graph, const lkops_options& options);

}  // namespace runtime
}  // namespace lkops
