// z = W a^(l) + b and a^(l+1) = g(z) in one launch, where the product is small.
//   x : (rows, inputs)   W : (units, inputs)   b : (units,)   z, a : (rows, units)
// Rows of x are x_columns apart, rows of z and a z_columns: they may be filled up, see padding.py.
// A block takes some rows and some units, and its warps (32 x up to Tile::most_warps threads) split the sum over the
// inputs. Sums have a fixed order.
#include "cuda/dot_tile.cuh"
#include "cuda/tensor_core.cuh"
#include "shared/dispatch.cuh"

// A tile whose products are exact in `real`.
template <int R, int U> struct Dots {
    static constexpr int rows = R, units = U, stride = U, most_warps = MOST_WARPS;
    static __device__ void product(const storage* x, const real* W, int first_row, int first_unit, int rows, int inputs,
                                   int x_columns, int units, bool packed, real* partial) {
        dot_tile<R, U>(x, W, first_row, first_unit, rows, inputs, x_columns, units, packed, partial);
    }
};

#ifdef DELTAPROP_TENSOR_CORES
// DEPTH times 16 terms of the sum are loaded at a time.
template <int M, int N, int DEPTH> struct Tensors {
    using Tile = TensorTile<M, N>;
    static constexpr int rows = Tile::rows, units = Tile::columns, stride = units + 4, most_warps = 16;
    static __device__ void product(const storage* x, const real* W, int first_row, int first_unit, int rows, int inputs,
                                   int x_columns, int units, bool packed, real* partial) {
        const int g = threadIdx.x / 4, t = threadIdx.x % 4;
        Tile tile;
        by_packing(packed, [&](auto as_packed) {
            for (int k = threadIdx.y * 16 * DEPTH; k < inputs; k += blockDim.y * 16 * DEPTH) {
                Four xs[DEPTH][2 * M], ws[DEPTH][N];
                for (int d = 0; d < DEPTH; ++d) {
                    const int at = k + 16 * d + 4 * t;
                    for (int i = 0; i < 2 * M; ++i)
                        xs[d][i] = along_row(as_packed, x, first_row + 8 * i + g, rows, x_columns, at, inputs);
                    for (int n = 0; n < N; ++n)
                        ws[d][n] = along_row(as_packed, W, first_unit + N * g + n, units, inputs, at, inputs);
                }
                for (int d = 0; d < DEPTH; ++d) tile.add(xs[d], ws[d]);
            }
        });
        tile.put(partial, stride, [&](int i) { return 8 * i + g; });
    }
};
#endif

template <class Tile>
__device__ void small_forward(const storage* x, const real* W, const real* b, storage* z, storage* a, int rows,
                              int inputs, int units, int x_columns, int z_columns, int activation, bool packed) {
    alignas(16) __shared__ real partial[Tile::most_warps][Tile::rows * Tile::stride];
    const int warp = threadIdx.y, warps = blockDim.y, across = (units + Tile::units - 1) / Tile::units;
    const int first_row = int(blockIdx.x) / across * Tile::rows, first_unit = int(blockIdx.x) % across * Tile::units;
    Tile::product(x, W, first_row, first_unit, rows, inputs, x_columns, units, packed, partial[warp]);
    const int thread = warp * 32 + threadIdx.x, of_unit = thread % Tile::units, unit = first_unit + of_unit;
    const real bias = unit < units ? b[unit] : real(0);  // loaded while the block waits
    __syncthreads();
    if (unit >= units) return;
    for (int of_row = thread / Tile::units; of_row < Tile::rows; of_row += warps * 32 / Tile::units) {
        const int row = first_row + of_row, at = of_row * Tile::stride + of_unit;
        if (row >= rows) return;
        real own = partial[0][at];
        for (int k = 1; k < warps; ++k) own += partial[k][at];
        own += bias;
        const long long place = (long long)row * z_columns + unit;
        z[place] = store(own);
        a[place] = store(chosen_value(activation, own));
    }
}

#define DEFINE(NAME, THREADS, BLOCKS, ...)                                                                            \
    extern "C" __global__ __launch_bounds__(THREADS, BLOCKS) void NAME(                                               \
        const storage* x, const real* W, const real* b, storage* z, storage* a, int rows, int inputs, int units,      \
        int x_columns, int z_columns, int activation, int packed) {                                                   \
        small_forward<__VA_ARGS__>(x, W, b, z, a, rows, inputs, units, x_columns, z_columns, activation, packed);     \
    }
DEFINE(small_forward_8x8, 256, 2, Dots<8, 8>)
DEFINE(small_forward_8x4, 256, 2, Dots<8, 4>)
DEFINE(small_forward_4x4, 256, 2, Dots<4, 4>)
#ifdef DELTAPROP_TENSOR_CORES
DEFINE(small_forward_tensor_32x16, 512, 1, Tensors<2, 2, 2>)
DEFINE(small_forward_tensor_16x16, 512, 1, Tensors<1, 2, 4>)
#endif
