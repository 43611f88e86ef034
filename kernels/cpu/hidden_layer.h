// The activations of a hidden layer, over many entries at once. The arithmetic stands in activation.cuh.
#pragma once
#include "cpu/fast_math.h"
#include "shared/dispatch.cuh"

#include <cstdint>

namespace hidden_layer {

// They are flattened: a loop around a function that is called, and not inlined, does not become vector instructions.

// a = g(z)
template <typename T>
__attribute__((flatten)) void value(int64_t activation, const T* __restrict__ z, T* __restrict__ a, int64_t n) {
    with_activation(int(activation), [=](auto g) {
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) a[i] = decltype(g)::value(z[i]);
    });
}

// a = g(z), and g'(z) in the place of z. The two share most of their arithmetic.
template <typename T>
__attribute__((flatten)) void value_and_slope(int64_t activation, T* __restrict__ z, T* __restrict__ a, int64_t n) {
    with_activation(int(activation), [=](auto g) {
#pragma GCC ivdep
        for (int64_t i = 0; i < n; ++i) {
            const T own = z[i];
            a[i] = decltype(g)::value(own);
            z[i] = decltype(g)::gradient(own);
        }
    });
}

// delta := delta g'(z)
template <typename T> void times(const T* __restrict__ slope, T* __restrict__ delta, int64_t n) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) delta[i] *= slope[i];
}

}  // namespace hidden_layer
