// Numbers that remember how they came about: the references are written forward once, in Vars, and gradients follow.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace lkops {

struct Var {
  double value = 0;
  int32_t node = -1;  // of the tape; -1: a constant
};
using Vars = std::vector<Var>;

class Tape {
 public:
  // A value that depends on up to two others, with these slopes.
  Var add(double value, Var a, double by_a, Var b = {}, double by_b = 0) {
    if (a.node < 0 && b.node < 0) return {value};
    nodes_.push_back({a.node, b.node, by_a, by_b});
    return {value, static_cast<int32_t>(nodes_.size()) - 1};
  }

  // New variables with these values.
  Vars variables(const std::vector<double>& values) {
    Vars result;
    for (double value : values) {
      nodes_.push_back({-1, -1, 0, 0});
      result.push_back({value, static_cast<int32_t>(nodes_.size()) - 1});
    }
    return result;
  }

  // From here on, slopes are those of the sum over i of outputs[i] * seeds[i].
  void run_back(const Vars& outputs, const std::vector<double>& seeds) {
    slopes_.assign(nodes_.size(), 0);
    for (size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i].node >= 0) slopes_[static_cast<size_t>(outputs[i].node)] += seeds[i];
    for (size_t i = nodes_.size(); i-- > 0;) {
      const Node& node = nodes_[i];
      if (node.a >= 0) slopes_[static_cast<size_t>(node.a)] += slopes_[i] * node.by_a;
      if (node.b >= 0) slopes_[static_cast<size_t>(node.b)] += slopes_[i] * node.by_b;
    }
  }

  std::vector<double> slopes(const Vars& variables) const {
    std::vector<double> result;
    for (const Var& variable : variables) result.push_back(slopes_[static_cast<size_t>(variable.node)]);
    return result;
  }

  void clear() { nodes_.clear(), slopes_.clear(); }

 private:
  struct Node {
    int32_t a, b;
    double by_a, by_b;
  };
  std::vector<Node> nodes_;
  std::vector<double> slopes_;
};

inline Tape tape;

inline Var operator+(Var a, Var b) { return tape.add(a.value + b.value, a, 1, b, 1); }
inline Var operator-(Var a, Var b) { return tape.add(a.value - b.value, a, 1, b, -1); }
inline Var operator*(Var a, Var b) { return tape.add(a.value * b.value, a, b.value, b, a.value); }
inline Var operator/(Var a, Var b) {
  return tape.add(a.value / b.value, a, 1 / b.value, b, -a.value / (b.value * b.value));
}
inline Var operator*(double a, Var b) { return tape.add(a * b.value, b, a); }
inline Var operator+(Var a, double b) { return tape.add(a.value + b, a, 1); }

inline Var square(Var a) { return a * a; }
inline Var root(Var a) { return tape.add(std::sqrt(a.value), a, 0.5 / std::sqrt(a.value)); }
inline Var relu(Var a) { return tape.add(a.value > 0 ? a.value : 0, a, a.value > 0); }
inline Var magnitude(Var a) { return tape.add(std::fabs(a.value), a, (a.value > 0) - (a.value < 0)); }
inline Var arccos(Var a) { return tape.add(std::acos(a.value), a, -1 / std::sqrt(1 - a.value * a.value)); }
inline Var sigmoid(Var a) {
  const double s = 1 / (1 + std::exp(-a.value));
  return tape.add(s, a, s * (1 - s));
}
inline Var gelu(Var a) {
  const double below = 0.5 * std::erfc(-a.value * std::sqrt(0.5));
  return tape.add(a.value * below, a, below + a.value * std::exp(-0.5 * a.value * a.value) * 0.3989422804014327);
}

inline std::vector<double> values_of(const Vars& variables) {
  std::vector<double> result;
  for (const Var& variable : variables) result.push_back(variable.value);
  return result;
}

}  // namespace lkops
