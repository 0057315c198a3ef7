// The C interface: nothing is thrown across it.
#include "runtime/lkops.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>

#include "common/isa.h"
#include "runtime/plan.h"

using lkops::runtime::BadFile;
using lkops::runtime::Graph;
using lkops::runtime::Plan;
using lkops::runtime::Refused;

namespace {

// A file, mapped as long as this lives.
class Mapped {
 public:
  explicit Mapped(const char* path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe does not block
    if (file < 0) fail(path);
    struct stat facts;
    if (fstat(file, &facts) != 0 || !S_ISREG(facts.st_mode)) {
      close(file);
      throw Refused{LKOPS_CANNOT_READ, std::string(path) + ": not a file"};
    }
    bytes_ = facts.st_size;
    if (bytes_ > 0) data_ = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (data_ == MAP_FAILED) data_ = nullptr, fail(path);
  }
  ~Mapped() {
    if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
  }
  Mapped(const Mapped&) = delete;

  const void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  [[noreturn]] static void fail(const char* path) {
    throw Refused{LKOPS_CANNOT_READ, std::string(path) + ": " + std::generic_category().message(errno)};
  }
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

lkops_status fail(lkops_error* error, lkops_status status, const char* text) {
  if (error != nullptr) std::snprintf(error->text, sizeof error->text, "%s", text);
  return status;
}

// Calls body(); what it throws becomes a status and words.
template <class Body>
lkops_status guarded(lkops_error* error, const Body& body) noexcept {
  if (error != nullptr) error->text[0] = 0;
  try {
    body();
    return LKOPS_OK;
  } catch (const Refused& refused) {
    return fail(error, refused.status, refused.text.c_str());
  } catch (const BadFile& bad) {
    return fail(error, LKOPS_BAD_FILE, bad.text.c_str());
  } catch (const std::bad_alloc&) {
    return fail(error, LKOPS_NO_RESOURCES, "out of memory");
  } catch (const std::system_error& refused) {
    return fail(error, LKOPS_NO_RESOURCES, (std::string("a thread could not be started: ") + refused.what()).c_str());
  } catch (const std::exception& other) {
    return fail(error, LKOPS_NO_RESOURCES, other.what());
  }
}

void needed(const char* name, const void* pointer) {
  if (pointer == nullptr) throw Refused{LKOPS_BAD_ARGUMENT, std::string(name) + " must not be null"};
}

}  // namespace

struct lkops_network {
  std::unique_ptr<Mapped> mapped;
  Graph graph;
};

struct lkops_plan {
  std::unique_ptr<Plan> plan;
};

lkops_status lkops_open(const char* path, lkops_network** network, lkops_error* error) {
  return guarded(error, [&] {
    needed("network", network), *network = nullptr, needed("path", path);
    auto opened = std::make_unique<lkops_network>();
    opened->mapped = std::make_unique<Mapped>(path);
    opened->graph = lkops::runtime::read_graph(opened->mapped->data(), opened->mapped->bytes(), path);
    *network = opened.release();
  });
}

lkops_status lkops_open_memory(const void* file, int64_t bytes, lkops_network** network, lkops_error* error) {
  return guarded(error, [&] {
    needed("network", network), *network = nullptr, needed("file", file);
    if (bytes < 0 || reinterpret_cast<uintptr_t>(file) % 64 != 0)
      throw Refused{LKOPS_BAD_ARGUMENT, "file must lie on a 64-byte line, and bytes be 0 or more"};
    auto opened = std::make_unique<lkops_network>();
    opened->graph = lkops::runtime::read_graph(file, bytes, "the network in memory");
    *network = opened.release();
  });
}

void lkops_close(lkops_network* network) { delete network; }

void lkops_describe(const lkops_network* network, lkops_info* info) {
  const Graph& graph = network->graph;
  int64_t parameters = 0;
  for (const auto& tensor : graph.tensors)
    if (tensor.type != lkops::runtime::Type::kFloat32) parameters += tensor.count();
  const bool is_int8 = std::any_of(graph.operators.begin(), graph.operators.end(),
                                   [](const auto& op) { return op.is_int8(); });
  *info = {graph.bands,
           graph.scale,
           static_cast<int64_t>(graph.operators.size()),
           parameters,
           graph.bytes,
           is_int8 ? "int8" : graph.dtype == lkops::runtime::Dtype::kFloat32 ? "float32" : "bfloat16",
           graph.metadata,
           graph.metadata_bytes};
}

lkops_status lkops_prepare(const lkops_network* network, const lkops_options* options, lkops_plan** plan,
                           lkops_error* error) {
  return guarded(error, [&] {
    needed("plan", plan), *plan = nullptr, needed("network", network), needed("options", options);
    if (!lkops::isa_choice().error.empty()) throw Refused{LKOPS_BAD_ARGUMENT, lkops::isa_choice().error};
    auto prepared = std::make_unique<lkops_plan>();
    prepared->plan = lkops::runtime::make_plan(network->graph, *options);
    *plan = prepared.release();
  });
}

void lkops_release(lkops_plan* plan) { delete plan; }

int64_t lkops_plan_bytes(const lkops_plan* plan) { return plan->plan->bytes(); }

int64_t lkops_workspace_bytes(const lkops_plan* plan) { return plan->plan->workspace_bytes(); }

lkops_status lkops_run(lkops_plan* plan, const float* lowres, float* image, void* workspace, lkops_error* error) {
  return guarded(error, [&] {
    needed("plan", plan);
    plan->plan->run(lowres, image, workspace);
  });
}

lkops_status lkops_run_strips(lkops_plan* plan, const float* lowres, lkops_put put, void* context, void* workspace,
                              lkops_error* error) {
  return guarded(error, [&] {
    needed("plan", plan);
    plan->plan->run_strips(lowres, put, context, workspace);
  });
}

const char* lkops_instruction_set(void) {
  const char* name = "";
  guarded(nullptr, [&] {
    if (lkops::isa_choice().error.empty()) name = lkops::name_of(lkops::isa_choice().isa);
  });
  return name;
}
