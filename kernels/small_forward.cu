// z = W a^(l) + b and a^(l+1) = g(z) in one launch, where the product is small.
//   x : (rows, inputs)   W : (units, inputs)   b : (units,)   z, a : (rows, units)
// A warp takes T rows and T units. Its lanes split the sum over the inputs, four at a time, and so do the warps of a
// block (32 x up to 8 threads). Sums have a fixed order.
#include "chosen_activation.cuh"
#include "fragment.cuh"

#define MOST_WARPS 8

template <int T, typename X>
__device__ void small_forward(const X* x, const real* W, const real* b, storage* z, storage* a, int rows, int inputs,
                              int units, int activation, bool x_packed, bool W_packed) {
    __shared__ real partial[MOST_WARPS][T * T];
    const int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y, across = (units + T - 1) / T;
    const int first_row = int(blockIdx.x) / across * T, first_unit = int(blockIdx.x) % across * T;
    real sum[T * T] = {};
    for (int k = (warp * 32 + lane) * 4; k < inputs; k += warps * 128) {
        real xs[T][4], ws[T][4];
        for (int i = 0; i < T; ++i)
            load_four(x + (long long)within(first_row + i, rows) * inputs + k, inputs - k, x_packed, xs[i]);
        for (int j = 0; j < T; ++j)
            load_four(W + (long long)within(first_unit + j, units) * inputs + k, inputs - k, W_packed, ws[j]);
        for (int i = 0; i < T; ++i)
            for (int j = 0; j < T; ++j)
                for (int q = 0; q < 4; ++q) sum[i * T + j] += xs[i][q] * ws[j][q];
    }
    add_lanes(sum);
    constexpr int each = T * T < 32 ? 1 : T * T / 32, lanes_each = T * T < 32 ? 32 / (T * T) : 1;
    if (lane % lanes_each == 0)
        for (int i = 0; i < each; ++i) partial[warp][lane / lanes_each * each + i] = sum[i];
    __syncthreads();
    for (int i = warp * 32 + lane; i < T * T; i += warps * 32) {
        const int row = first_row + i / T, unit = first_unit + i % T;
        if (row >= rows || unit >= units) continue;
        real own = partial[0][i];
        for (int k = 1; k < warps; ++k) own += partial[k][i];
        own += b[unit];
        const long long place = (long long)row * units + unit;
        z[place] = store(own);
        a[place] = store(chosen_value(activation, own));
    }
}

#define DEFINE(NAME, T, X)                                                                                           \
    extern "C" __global__ __launch_bounds__(256) void NAME(const X* x, const real* W, const real* b, storage* z,     \
                                                           storage* a, int rows, int inputs, int units,             \
                                                           int activation, int x_packed, int W_packed) {             \
        small_forward<T>(x, W, b, z, a, rows, inputs, units, activation, x_packed, W_packed);                        \
    }
DEFINE(small_forward_8, 8, storage)
DEFINE(small_forward_4, 4, storage)
#ifdef DELTAPROP_BFLOAT16  // the first layer reads X, which is float
DEFINE(small_forward_8_from_real, 8, real)
DEFINE(small_forward_4_from_real, 4, real)
#endif
