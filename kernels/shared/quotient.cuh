// n / s where n lies between 0 and 4 and s between 1 and 4, as the sigmoid and its derivatives need it, or s is the sum
// of a softmax. The general quotient of floats looks for operands that overflow on its way and has a branch for them;
// here none can.
#pragma once

#ifndef __CUDACC__
#include <cmath>
using std::fma;
#endif

namespace activation {

// n / s from a reciprocal of s >= 1 that is off by a few units in its last place: within 0.50001 units of the true
// value, for what is left of n after the first attempt has no rounding error that matters. Below 2^-100 it is within 2
// units. Where n is subnormal and s is 1 it is n.
template <typename T> __host__ __device__ inline T refined_quotient(T n, T s, T reciprocal) {
    const T q = n * reciprocal;
    return fma(fma(-q, s, n), reciprocal, q);
}

template <typename T> __host__ __device__ inline T quotient(T n, T s) { return n / s; }

#ifdef __CUDACC__
// 1 / s within 1 unit in the last place, by one instruction; 0 where it would be subnormal.
__device__ inline float fast_reciprocal(float s) {
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(s));
    return reciprocal;
}
__device__ inline float quotient(float n, float s) { return refined_quotient(n, s, fast_reciprocal(s)); }
#else
inline float fast_reciprocal(float s) { return 1.0f / s; }
#endif

}  // namespace activation
