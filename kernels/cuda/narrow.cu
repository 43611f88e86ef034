// 16-bit copies of the operands of a matrix product, for the matrix units: out[i] = x[i] * scale, rounded to nearest.
// bfloat16 has float's range; float16 has not, so that delta, which is small, is scaled up on its way in and the
// product down again, and what would still overflow is held at the largest number there is.
//
//   x : (matrices, rows, columns)   out : (matrices, to_rows, to_columns), to_columns a multiple of 8
// Zeros fill up rows, and matrices with rows.
// 2^log2_threads threads take a row of out. `packed` says whether rows of x begin at multiples of 16 bytes.
#include "cuda/bfloat16.cuh"
#include "cuda/narrow_row.cuh"
#include "cuda/real.cuh"

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

__device__ inline unsigned to_float16_pair(float first, float second) {
    return to_float16(first) | unsigned(to_float16(second)) << 16;
}

template <class F>
__device__ void map_rows(const real* x, unsigned short* out, int rows, int columns, int to_rows, int to_columns,
                         int log2_threads, bool packed, long long all_rows, F f) {
    const int threads = 1 << log2_threads, thread = threadIdx.x & (threads - 1);
    const unsigned at_a_time = 256 >> log2_threads;
    // With 64 bits the compiler would not store a pack at once.
#pragma unroll 1
    for (unsigned line = blockIdx.x * at_a_time + (threadIdx.x >> log2_threads); line < all_rows;
         line += gridDim.x * at_a_time) {
        const long long matrix = to_rows == all_rows ? 0 : line / to_rows, row = line - matrix * to_rows;
        narrow_row(x + (matrix * rows + row) * columns, out + (long long)line * to_columns, row < rows ? columns : 0,
                   to_columns, thread, threads, packed, f);
    }
}

#define DEFINE(TYPE)                                                                                                   \
    extern "C" __global__ __launch_bounds__(256) void narrow_##TYPE(                                                   \
        const real* x, real scale, unsigned short* out, int rows, int columns, int to_rows, int to_columns,            \
        int log2_threads, int packed, long long all_rows) {                                                            \
        map_rows(x, out, rows, columns, to_rows, to_columns, log2_threads, packed, all_rows,                           \
                 [=](real a, real b) { return to_##TYPE##_pair(float(a * scale), float(b * scale)); });                \
    }
DEFINE(bfloat16)
DEFINE(float16)
