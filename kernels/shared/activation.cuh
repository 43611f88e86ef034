// The activations g and their derivatives: value is g, gradient g', curvature g''. This file is the one home of that
// arithmetic in CUDA; its twin for NumPy is src/deltaprop/backends/numpy/activation.py.
//
// Every derivative is a function of z, not of a = g(z): it keeps its relative accuracy where a has
// already rounded to its limit. T is float or double; the file also compiles as plain C++.
#pragma once

#ifndef __CUDACC__
#include <cmath>
#define __host__
#define __device__
using std::erfc;
using std::exp;
using std::fabs;
using std::log1p;
using std::tanh;
#endif
#include "shared/quotient.cuh"

namespace activation {

// e^x for x <= 0. On the CPU fast_math.h, which comes before, has one that takes fewer instructions.
#ifndef DELTAPROP_EXP_OF_NEGATIVE
template <typename T> __host__ __device__ inline T exp_of_negative(T x) { return exp(x); }
#endif

// 1 / (1 + e^-z), with an exponent that is never positive: no overflow for any z,
// and e^z itself (subnormal results included) for very negative z.
struct sigmoid {
    template <typename T> __host__ __device__ static T value(T z) {
        const T e = exp_of_negative(-fabs(z));
        return quotient(z < T(0) ? e : T(1), T(1) + e);
    }
    // e^-|z| / (1 + e^-|z|)^2
    template <typename T> __host__ __device__ static T gradient(T z) {
        const T e = exp_of_negative(-fabs(z));
        const T s = T(1) + e;
        return quotient(e, s * s);
    }
    // -g'(z) tanh(z/2), where the textbook's g' (1 - 2g) would cancel next to 0
    template <typename T> __host__ __device__ static T curvature(T z) { return -gradient(z) * tanh(T(0.5) * z); }
};

struct tanh_ {
    template <typename T> __host__ __device__ static T value(T z) { return tanh(z); }
    // 1 - tanh(z)^2 = 4 e^-2|z| / (1 + e^-2|z|)^2
    template <typename T> __host__ __device__ static T gradient(T z) {
        const T e = exp_of_negative(T(-2) * fabs(z));
        const T s = T(1) + e;
        return quotient(T(4) * e, s * s);
    }
    // -2 tanh(z) g'(z)
    template <typename T> __host__ __device__ static T curvature(T z) { return T(-2) * tanh(z) * gradient(z); }
};

// z < 0 ? 0 : z rather than max(z, 0): a NaN stays one.
struct relu {
    template <typename T> __host__ __device__ static T value(T z) { return z < T(0) ? T(0) : z; }
    template <typename T> __host__ __device__ static T gradient(T z) { return z > T(0) ? T(1) : T(0); }
    template <typename T> __host__ __device__ static T curvature(T) { return T(0); }
};

struct leaky_relu {
    template <typename T> __host__ __device__ static T value(T z) { return z < T(0) ? T(0.01) * z : z; }
    template <typename T> __host__ __device__ static T gradient(T z) { return z > T(0) ? T(1) : T(0.01); }
    template <typename T> __host__ __device__ static T curvature(T) { return T(0); }
};

struct identity {
    template <typename T> __host__ __device__ static T value(T z) { return z; }
    template <typename T> __host__ __device__ static T gradient(T) { return T(1); }
    template <typename T> __host__ __device__ static T curvature(T) { return T(0); }
};

// log(1 + e^z) = max(z, 0) + log1p(e^-|z|)
struct softplus {
    template <typename T> __host__ __device__ static T of_minus_abs(T z) { return log1p(exp_of_negative(-fabs(z))); }
    template <typename T> __host__ __device__ static T value(T z) { return (z < T(0) ? T(0) : z) + of_minus_abs(z); }
    template <typename T> __host__ __device__ static T gradient(T z) { return sigmoid::value(z); }
    template <typename T> __host__ __device__ static T curvature(T z) { return sigmoid::gradient(z); }
};

// z * sigmoid(z)
struct silu {
    template <typename T> __host__ __device__ static T value(T z) { return z * sigmoid::value(z); }
    template <typename T> __host__ __device__ static T gradient(T z) {
        return sigmoid::value(z) + z * sigmoid::gradient(z);
    }
    // 2 s'(z) + z s''(z) = s'(z) (2 - z tanh(z/2)), s the sigmoid
    template <typename T> __host__ __device__ static T curvature(T z) {
        return sigmoid::gradient(z) * (T(2) - z * tanh(T(0.5) * z));
    }
};

// The standard normal distribution, Phi(z) = erfc(-z / sqrt(2)) / 2, and its density. On the CPU fast_math.h has them.
#ifndef DELTAPROP_NORMAL
template <typename T> __host__ __device__ inline T normal_cdf(T z) {
    return T(0.5) * erfc(-z * T(0.70710678118654752440));
}
template <typename T> __host__ __device__ inline T normal_density(T z) {
    return T(0.39894228040143267794) * exp(T(-0.5) * z * z);
}
#endif

// z * Phi(z)
struct gelu {
    template <typename T> __host__ __device__ static T value(T z) { return z * normal_cdf(z); }
    template <typename T> __host__ __device__ static T gradient(T z) { return normal_cdf(z) + z * normal_density(z); }
    // (2 - z^2) phi(z), in the order in which nothing overflows
    template <typename T> __host__ __device__ static T curvature(T z) {
        const T density = normal_density(z);
        return T(2) * density - z * (z * density);
    }
};

// The inverse link of counts: output layers under the Poisson loss.
struct exp_ {
    template <typename T> __host__ __device__ static T value(T z) { return exp(z); }
    template <typename T> __host__ __device__ static T gradient(T z) { return exp(z); }
    template <typename T> __host__ __device__ static T curvature(T z) { return exp(z); }
};

}  // namespace activation

// The table of all activations that act on one element at a time: DO(WITH, name, type). An activation's number is its
// place here, see names.cuh.
#define DELTAPROP_ACTIVATIONS(DO, WITH)          \
    DO(WITH, sigmoid, activation::sigmoid)       \
    DO(WITH, tanh, activation::tanh_)            \
    DO(WITH, relu, activation::relu)             \
    DO(WITH, leaky_relu, activation::leaky_relu) \
    DO(WITH, identity, activation::identity)     \
    DO(WITH, softplus, activation::softplus)     \
    DO(WITH, silu, activation::silu)             \
    DO(WITH, gelu, activation::gelu)             \
    DO(WITH, exp, activation::exp_)

// DO(name, type) for each of them.
#define DELTAPROP_FOR_EACH_ACTIVATION(DO) DELTAPROP_ACTIVATIONS(DELTAPROP_WITHOUT, DO)
#define DELTAPROP_WITHOUT(DO, NAME, G) DO(NAME, G)
