// 16-bit copies of the operands of a matrix product, for the matrix units: out[i] = x[i] * scale, rounded to nearest.
// bfloat16 has float's range; float16 has not, so that delta, which is small, is scaled up on its way in and the product
// down again, and what would still overflow is held at the largest number there is.
#include "bfloat16.cuh"
#include "pack.cuh"
#include "real.cuh"

__device__ inline unsigned short to_float16(float x) {
    const float held = x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x;
#ifdef __CUDACC__
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(held));
    return half;
#else
    return host_float16(held);
#endif
}

#define DEFINE(TYPE)                                                                                        \
    extern "C" __global__ void narrow_##TYPE(const real* x, real scale, unsigned short* out, long long n) { \
        map_entries(x, out, n, [=](real entry) { return to_##TYPE(float(entry * scale)); });                \
    }
DEFINE(bfloat16)
DEFINE(float16)
