// lkops.h for Python: what numpy hands over is checked in lkedge/network.py, errors become exceptions here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <string>

#include "runtime/lkops.h"

namespace py = pybind11;

namespace {

void check(lkops_status status, const lkops_error& error) {
  switch (status) {
    case LKOPS_OK: return;
    case LKOPS_CANNOT_READ: PyErr_SetString(PyExc_OSError, error.text); break;
    case LKOPS_NO_RESOURCES: PyErr_SetString(PyExc_MemoryError, error.text); break;
    default: PyErr_SetString(PyExc_ValueError, error.text);
  }
  throw py::error_already_set();
}

class Network {
 public:
  explicit Network(const std::string& path) {
    lkops_error error;
    lkops_network* network = nullptr;
    lkops_status status;
    {
      const py::gil_scoped_release released;
      status = lkops_open(path.c_str(), &network, &error);
    }
    check(status, error);
    network_.reset(network, lkops_close);
  }

  lkops_info info() const {
    lkops_info found;
    lkops_describe(network_.get(), &found);
    return found;
  }

  std::shared_ptr<lkops_network> handle() const { return network_; }

 private:
  std::shared_ptr<lkops_network> network_;
};

using Image = py::array_t<float, py::array::c_style>;

class Plan {
 public:
  Plan(const Network& network, int64_t batch, int64_t rows, int64_t columns, int64_t strip_rows, int32_t threads,
       bool pin)
      : network_(network.handle()) {
    const lkops_options options{batch, rows, columns, strip_rows, threads, pin};
    lkops_error error;
    lkops_plan* plan = nullptr;
    lkops_status status;
    {
      const py::gil_scoped_release released;
      status = lkops_prepare(network_.get(), &options, &plan, &error);
    }
    check(status, error);
    plan_.reset(plan);
    const lkops_info info = network.info();  // sizes that the plan has taken: no product overflows
    pixels_ = batch * info.bands * rows * columns, enlarged_ = pixels_ * info.scale * info.scale;
    batch_ = batch, bands_ = info.bands, columns_ = columns * info.scale;
  }

  int64_t bytes() const { return lkops_plan_bytes(plan_.get()); }
  int64_t workspace_bytes() const { return lkops_workspace_bytes(plan_.get()); }

  void run(const Image& lowres, Image& image) {
    if (lowres.size() != pixels_ || image.size() != enlarged_) throw py::value_error("arrays of another size");
    const float* from = lowres.data();
    float* to = image.mutable_data();
    lkops_error error;
    lkops_status status;
    reserve();
    {
      const py::gil_scoped_release released;
      status = lkops_run(plan_.get(), from, to, workspace_.get(), &error);
    }
    check(status, error);
  }

  // put(first row, array (batch, bands, rows, columns)), which is overwritten after the call, but stays memory.
  void run_strips(const Image& lowres, const py::function& put) {
    if (lowres.size() != pixels_) throw py::value_error("an array of another size");
    struct Context {
      const Plan& plan;
      const py::function& put;
      std::exception_ptr raised;
    } context{*this, put, nullptr};
    const auto take = [](void* opaque, int64_t first, int64_t rows, const float* strip, int64_t plane) {
      Context& own = *static_cast<Context*>(opaque);
      const py::gil_scoped_acquire held;
      try {
        const int64_t row = own.plan.columns_, size = sizeof(float);
        auto part = std::make_unique<std::shared_ptr<void>>(own.plan.workspace_);  // as long as the array
        const py::capsule owner(part.get(), [](void* p) { delete static_cast<std::shared_ptr<void>*>(p); });
        (void)part.release();
        const int64_t of_plane = plane * size;
        own.put(first, py::array_t<float>({own.plan.batch_, own.plan.bands_, rows, row},
                                          {own.plan.bands_ * of_plane, of_plane, row * size, size}, strip, owner));
        return 0;
      } catch (...) {
        own.raised = std::current_exception();
        return 1;
      }
    };
    const float* from = lowres.data();
    lkops_error error;
    lkops_status status;
    reserve();
    {
      const py::gil_scoped_release released;
      status = lkops_run_strips(plan_.get(), from, take, &context, workspace_.get(), &error);
    }
    if (context.raised) std::rethrow_exception(context.raised);
    check(status, error);
  }

 private:
  struct Release {
    void operator()(lkops_plan* plan) const { lkops_release(plan); }
  };

  void reserve() {
    if (workspace_ != nullptr) return;
    const int64_t bytes = workspace_bytes();
    workspace_.reset(std::aligned_alloc(64, static_cast<size_t>(bytes < 64 ? 64 : bytes)), std::free);
    if (workspace_ == nullptr) {
      PyErr_Format(PyExc_MemoryError, "the workspace takes %lld bytes", static_cast<long long>(bytes));
      throw py::error_already_set();
    }
  }

  std::shared_ptr<lkops_network> network_;
  std::unique_ptr<lkops_plan, Release> plan_;
  std::shared_ptr<void> workspace_;  // strips that Python holds have a part in it
  int64_t pixels_, enlarged_, batch_, bands_, columns_;
};

}  // namespace

PYBIND11_MODULE(_native, m) {
  py::class_<Network>(m, "Network")
      .def(py::init<const std::string&>())
      .def_property_readonly("bands", [](const Network& n) { return n.info().bands; })
      .def_property_readonly("scale", [](const Network& n) { return n.info().scale; })
      .def_property_readonly("operators", [](const Network& n) { return n.info().operators; })
      .def_property_readonly("parameters", [](const Network& n) { return n.info().parameters; })
      .def_property_readonly("file_bytes", [](const Network& n) { return n.info().file_bytes; })
      .def_property_readonly("dtype", [](const Network& n) { return std::string(n.info().dtype); })
      .def_property_readonly("metadata", [](const Network& n) {
        return py::bytes(n.info().metadata, static_cast<size_t>(n.info().metadata_bytes));
      });
  py::class_<Plan>(m, "Plan")
      .def(py::init<const Network&, int64_t, int64_t, int64_t, int64_t, int32_t, bool>())
      .def_property_readonly("bytes", &Plan::bytes)
      .def_property_readonly("workspace_bytes", &Plan::workspace_bytes)
      .def("run", &Plan::run, py::arg("lowres").noconvert(), py::arg("image").noconvert())
      .def("run_strips", &Plan::run_strips, py::arg("lowres").noconvert(), py::arg("put"));
  m.def("instruction_set", [] { return std::string(lkops_instruction_set()); });
}
