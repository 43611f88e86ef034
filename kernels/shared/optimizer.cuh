// The update rules: an entry of theta after a step by its gradient g. This file is the one home of that arithmetic in
// C++ and CUDA; NumPy's is in src/deltaprop/backends/numpy/optimizer.py.
//
// step(kept, g, first, second, numbers) returns the new entry, and moves `first` and `second`, the rule's moments at
// that entry. A rule with fewer moments leaves the others alone. `kept` is the entry as weight decay leaves it: only a
// rule that says `decays` knows weight decay, for the others it is the entry itself.
#pragma once

#ifndef __CUDACC__
#include <cmath>
#define __host__
#define __device__
using std::sqrt;
#endif

namespace optimizer {

// The learning rate of a step, for Adam with the bias corrections, and the constants of a rule.
template <typename T> struct Numbers {
    T rate, momentum, beta_1, beta_2, epsilon;
};

// theta - eta g
struct sgd {
    static constexpr int moments = 0;
    static constexpr bool decays = false;
    template <typename T> __host__ __device__ static T step(T theta, T g, T&, T&, const Numbers<T>& of) {
        return theta - of.rate * g;
    }
};

// v := mu v - eta g;  theta + v
struct momentum {
    static constexpr int moments = 1;
    static constexpr bool decays = false;
    template <typename T> __host__ __device__ static T step(T theta, T g, T& v, T&, const Numbers<T>& of) {
        const T down = of.rate * g;
        v = of.momentum * v - down;
        return theta + v;
    }
};

// v := mu v - eta g;  theta + mu v - eta g, which looks ahead to where v leads
struct nesterov {
    static constexpr int moments = 1;
    static constexpr bool decays = false;
    template <typename T> __host__ __device__ static T step(T theta, T g, T& v, T&, const Numbers<T>& of) {
        const T down = of.rate * g;
        v = of.momentum * v - down;
        return theta + (of.momentum * v - down);
    }
};

// Adam (Kingma and Ba, 2015) in the form at the end of their section 2, with the bias corrections in the rate; with
// weight decay, AdamW. m := beta_1 m + (1 - beta_1) g;  v := beta_2 v + (1 - beta_2) g^2;  theta - eta m / (sqrt(v) +
// epsilon)
struct adam {
    static constexpr int moments = 2;
    static constexpr bool decays = true;
    template <typename T> __host__ __device__ static T step(T kept, T g, T& m, T& v, const Numbers<T>& of) {
        m = of.beta_1 * m + (T(1) - of.beta_1) * g;
        v = of.beta_2 * v + (T(1) - of.beta_2) * g * g;
        return kept - of.rate * m / (sqrt(v) + of.epsilon);
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
