// The Python module lkops._C_cpu. Operators register themselves when it is loaded (the other files here); what is left
// is `facts()`. Limited API, so that one build serves every Python from 3.10 on; pybind11 does not compile under it.
#include <Python.h>

#include "common/isa.h"

namespace {

PyObject* facts(PyObject*, PyObject*) { return PyUnicode_FromString(lkops::cpu_facts_json().c_str()); }

PyMethodDef methods[] = {
    {"facts", facts, METH_NOARGS, "The chosen instruction set, what was compiled in, CPU features: a JSON object."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C_cpu", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C_cpu(void) {
  if (!lkops::isa_choice().error.empty()) {
    PyErr_SetString(PyExc_ImportError, lkops::isa_choice().error.c_str());
    return nullptr;
  }
  return PyModule_Create(&module);
}
