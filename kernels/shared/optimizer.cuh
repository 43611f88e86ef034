// The update rules: an entry of theta after a step by its gradient g. This file is the one home of that arithmetic in
// C++ and CUDA; NumPy's is in src/deltaprop/backends/numpy/optimizer.py.
//
// step(kept, g, first, second, rate, of) returns the new entry, and moves `first` and `second`, the rule's moments at
// that entry. A rule with fewer moments leaves the others alone. `kept` is the entry as weight decay leaves it, `rate`
// the learning rate of the step, and `of` holds the constants of the rule.
#pragma once

// The table of all constants: DO(name). A constant's number is its place here, see names.cuh.
#define DELTAPROP_FOR_EACH_CONSTANT(DO) \
    DO(momentum)                        \
    DO(beta_1)                          \
    DO(beta_2)                          \
    DO(epsilon)

#ifndef __CUDACC__
#include <cmath>
#define __host__
#define __device__
using std::sqrt;
#endif

namespace optimizer {

// The constants of all rules. A rule reads its own; the others are 0.
#define DELTAPROP_CONSTANT(NAME) T NAME;
template <typename T> struct Constants {
    DELTAPROP_FOR_EACH_CONSTANT(DELTAPROP_CONSTANT)
};
#undef DELTAPROP_CONSTANT

// The same constants in another type.
#define DELTAPROP_CONSTANT(NAME) T(of.NAME),
template <typename T, typename From> __host__ __device__ inline Constants<T> constants_as(const Constants<From>& of) {
    return {DELTAPROP_FOR_EACH_CONSTANT(DELTAPROP_CONSTANT)};
}
#undef DELTAPROP_CONSTANT

// What a rule says of itself: how many moments it has, at most two; whether it knows weight decay; whether its step is
// theta - eta g, which a matrix product may do by itself.
struct Rule {
    static constexpr int moments = 0;
    static constexpr bool decays = false, descends = false;
};

// theta - eta g
struct sgd : Rule {
    static constexpr bool descends = true;
    template <typename T> __host__ __device__ static T step(T theta, T g, T&, T&, T rate, const Constants<T>&) {
        return theta - rate * g;
    }
};

// v := mu v - eta g;  theta + v
struct momentum : Rule {
    static constexpr int moments = 1;
    template <typename T> __host__ __device__ static T step(T theta, T g, T& v, T&, T rate, const Constants<T>& of) {
        const T down = rate * g;
        v = of.momentum * v - down;
        return theta + v;
    }
};

// v := mu v - eta g;  theta + mu v - eta g, which looks ahead to where v leads
struct nesterov : Rule {
    static constexpr int moments = 1;
    template <typename T> __host__ __device__ static T step(T theta, T g, T& v, T&, T rate, const Constants<T>& of) {
        const T down = rate * g;
        v = of.momentum * v - down;
        return theta + (of.momentum * v - down);
    }
};

// Adam (Kingma and Ba, 2015) in the form at the end of their section 2, with the bias corrections in the rate; with
// weight decay, AdamW. m := beta_1 m + (1 - beta_1) g;  v := beta_2 v + (1 - beta_2) g^2;  theta - eta m / (sqrt(v) +
// epsilon)
struct adam : Rule {
    static constexpr int moments = 2;
    static constexpr bool decays = true;
    template <typename T> __host__ __device__ static T step(T kept, T g, T& m, T& v, T rate, const Constants<T>& of) {
        m = of.beta_1 * m + (T(1) - of.beta_1) * g;
        v = of.beta_2 * v + (T(1) - of.beta_2) * g * g;
        return kept - rate * m / (sqrt(v) + of.epsilon);
    }
};

// An entry, less the share `decay` of it.
template <typename T> __host__ __device__ inline T decayed(T theta, T decay) { return theta - decay * theta; }

}  // namespace optimizer

// The table of all update rules: DO(name, moments). A rule's number is its place here, see names.cuh. `moments` says
// how many vectors as long as the parameters the rule carries from step to step.
#define DELTAPROP_FOR_EACH_OPTIMIZER(DO) \
    DO(sgd, 0)                           \
    DO(momentum, 1)                      \
    DO(nesterov, 1)                      \
    DO(adam, 2)
