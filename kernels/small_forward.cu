// z = W a^(l) + b and a^(l+1) = g(z) in one launch, where the product is small.
//   x : (rows, inputs)   W : (units, inputs)   b : (units,)   z, a : (rows, units)
// Rows of x are x_columns apart, those of z and a z_columns: they may be filled up, see padding.py.
// A warp takes R rows and U units. Its lanes split the sum over the inputs, four at a time, and so do the warps of a
// block (32 x up to 8 threads). Sums have a fixed order.
#include "chosen_activation.cuh"
#include "dot_tile.cuh"

template <int R, int U, typename X>
__device__ void small_forward(const X* x, const real* W, const real* b, storage* z, storage* a, int rows, int inputs,
                              int units, int x_columns, int z_columns, int activation, bool packed) {
    __shared__ real partial[MOST_WARPS][R * U];
    const int warp = threadIdx.y, warps = blockDim.y, across = (units + U - 1) / U;
    const int first_row = int(blockIdx.x) / across * R, first_unit = int(blockIdx.x) % across * U;
    dot_tile<R, U>(x, W, first_row, first_unit, rows, inputs, x_columns, units, packed, partial[warp]);
    __syncthreads();
    for (int i = warp * 32 + threadIdx.x; i < R * U; i += warps * 32) {
        const int row = first_row + i / U, unit = first_unit + i % U;
        if (row >= rows || unit >= units) continue;
        real own = partial[0][i];
        for (int k = 1; k < warps; ++k) own += partial[k][i];
        own += b[unit];
        const long long place = (long long)row * z_columns + unit;
        z[place] = store(own);
        a[place] = store(chosen_value(activation, own));
    }
}

#define DEFINE(NAME, R, U, X)                                                                                         \
    extern "C" __global__ __launch_bounds__(256, 2) void NAME(const X* x, const real* W, const real* b, storage* z,   \
                                                              storage* a, int rows, int inputs, int units,            \
                                                              int x_columns, int z_columns, int activation,           \
                                                              int packed) {                                           \
        small_forward<R, U>(x, W, b, z, a, rows, inputs, units, x_columns, z_columns, activation, packed);            \
    }
DEFINE(small_forward_8x8, 8, 8, storage)
DEFINE(small_forward_8x4, 8, 4, storage)
DEFINE(small_forward_4x4, 4, 4, storage)
#ifdef DELTAPROP_BFLOAT16  // the first layer reads X, which is float
DEFINE(small_forward_8x8_from_real, 8, 8, real)
DEFINE(small_forward_8x4_from_real, 8, 4, real)
DEFINE(small_forward_4x4_from_real, 4, 4, real)
#endif
