// ForStorage<G> is the activation G as it is computed for arrays of `storage`: G itself, but in bfloat16 less exact and
// faster where the time shows. bfloat16 keeps 8 bits; these functions are right to 17 bits, relative to their value,
// and 0 where that is below 2^-126.
#pragma once
#include "shared/activation.cuh"
#include "shared/quotient.cuh"

template <class G> struct ForStorage : G {};

#ifdef DELTAPROP_BFLOAT16
// 2^x, on a device by one instruction: off by 2 units in the last place at most, and never subnormal.
__device__ inline float fast_power_of_two(float x) {
#ifdef __CUDACC__
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
#else
    return std::exp2(x);
#endif
}
using activation::fast_reciprocal;
constexpr float LOG2_E = 1.44269504f;

template <> struct ForStorage<activation::sigmoid> : activation::sigmoid {
    // Where e^-z is infinite, its reciprocal is 0.
    __device__ static float value(float z) { return fast_reciprocal(1.0f + fast_power_of_two(-LOG2_E * z)); }
    // e^-|z| / (1 + e^-|z|)^2
    __device__ static float gradient(float z) {
        const float e = fast_power_of_two(-LOG2_E * fabs(z)), s = 1.0f + e;
        return e * fast_reciprocal(s * s);
    }
};

template <> struct ForStorage<activation::tanh_> : activation::tanh_ {
    // 4 e^-2|z| / (1 + e^-2|z|)^2. The power has the factor 4 in it: without, it would be 0 too soon.
    __device__ static float gradient(float z) {
        const float four_e = fast_power_of_two(2.0f - 2.0f * LOG2_E * fabs(z)), s = 1.0f + 0.25f * four_e;
        return four_e * fast_reciprocal(s * s);
    }
};
#endif
