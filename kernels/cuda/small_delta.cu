// delta^(l) = (W^T delta^(l+1)) * g'(z^(l)) in one launch, where the product is small. small_gradient.cu adds it
// up over the samples, since no other kernel waits for that.
//   delta : (rows, next)   W : (next, columns)   z, mask, out : (rows, columns)
// Rows of delta are delta_columns apart, rows of z, mask and out z_columns: they may be filled up, see padding.py.
// A block takes some rows and some columns, and its warps (32 x up to Tile::most_warps threads, one or more for every
// four results) split the sum over `next`. Sums have a fixed order.
#include "cuda/fragment.cuh"
#include "cuda/tensor_core.cuh"
#include "shared/dispatch.cuh"

// A tile of R rows and 128 columns, four a lane, whose products are exact in `real`.
template <int R> struct Dots {
    static constexpr int rows = R, columns = 128, stride = 128, most_warps = 32 / int(sizeof(real));
    static __device__ void product(const storage* delta, const real* W, int first_row, int first_column, int rows,
                                   int next, int columns, int delta_columns, bool packed, real* partial) {
        const int lane = threadIdx.x, warps = blockDim.y, column = first_column + lane * 4, left = columns - column;
        real sum[R][4] = {};
        by_packing(packed, [&](auto as_packed) {
#pragma unroll 2
            for (int j = threadIdx.y * 4; j < next; j += warps * 4) {
                real w[4][4], d[R][4];
                for (int q = 0; q < 4; ++q)
                    load_four(as_packed, W + (long long)(j + q) * columns + column, j + q < next ? left : 0, w[q]);
                for (int i = 0; i < R; ++i)
                    load_four(as_packed, delta + (long long)within(first_row + i, rows) * delta_columns + j, next - j,
                              d[i]);
                for (int i = 0; i < R; ++i)
                    for (int q = 0; q < 4; ++q)
                        for (int c = 0; c < 4; ++c) sum[i][c] += d[i][q] * w[q][c];
            }
        });
        for (int i = 0; i < R; ++i)
            for (int c = 0; c < 4; ++c) partial[i * stride + lane * 4 + c] = sum[i][c];
    }
};

#ifdef DELTAPROP_TENSOR_CORES
template <int M, int N> struct Tensors {
    using Tile = TensorTile<M, N>;
    static constexpr int rows = Tile::rows, columns = Tile::columns, stride = columns + 4, most_warps = M > 1 ? 8 : 16;
    static __device__ void product(const storage* delta, const real* W, int first_row, int first_column, int rows,
                                   int next, int columns, int delta_columns, bool packed, real* partial) {
        const int g = threadIdx.x / 4, t = threadIdx.x % 4, column = first_column + N * g;
        Tile tile;
        by_packing(packed, [&](auto as_packed) {
            for (int j = threadIdx.y * 32; j < next; j += blockDim.y * 32) {
                Four ds[2][2 * M], ws[2][N];
                for (int d = 0; d < 2; ++d) {  // both are loaded at a time
                    const int at = j + 16 * d + 4 * t;
                    real w[4][N / 4][4];
                    load_rows<N>(as_packed, W, at, next, column, columns, columns, w);
                    for (int i = 0; i < 2 * M; ++i)
                        ds[d][i] = along_row(as_packed, delta, first_row + 8 * i + g, rows, delta_columns, at, next);
                    for (int n = 0; n < N; ++n) ws[d][n] = down_column<N>(w, n);
                }
                for (int d = 0; d < 2; ++d) tile.add(ds[d], ws[d]);
            }
        });
        tile.put(partial, stride, [&](int i) { return 8 * i + g; });
    }
};
#endif

template <class Tile>
__device__ void small_delta(const storage* delta, const real* W, const storage* z, const storage* mask, storage* out,
                            int rows, int next, int columns, int delta_columns, int z_columns, int activation,
                            bool products_packed, bool packed) {
    alignas(16) __shared__ real partial[Tile::most_warps][Tile::rows * Tile::stride];
    constexpr int fours = Tile::columns / 4;  // groups of four in a row, one a thread
    const int warp = threadIdx.y, warps = blockDim.y, across = (columns + Tile::columns - 1) / Tile::columns;
    const int first_row = int(blockIdx.x) / across * Tile::rows,
              first_column = int(blockIdx.x) % across * Tile::columns;
    const int thread = warp * 32 + threadIdx.x, of_row = thread / fours, of_column = thread % fours * 4;
    const int row = first_row + of_row, column = first_column + of_column, left = columns - column;
    const bool there = of_row < Tile::rows && row < rows;
    const long long place = (long long)row * z_columns + column;
    real zs[4] = {}, mu[4] = {real(1), real(1), real(1), real(1)};
    by_packing(packed, [&](auto as_packed) {  // read before the product, so that nothing waits for it later
        load_four(as_packed, z + place, there ? left : 0, zs);
        if (mask) load_four(as_packed, mask + place, there ? left : 0, mu);
    });
    Tile::product(delta, W, first_row, first_column, rows, next, columns, delta_columns, products_packed,
                  partial[warp]);
    __syncthreads();
    if (!there) return;
    real own[4] = {};
    for (int k = 0; k < warps; ++k)
        for (int c = 0; c < 4; ++c) own[c] += partial[k][of_row * Tile::stride + of_column + c];
    for (int c = 0; c < 4; ++c) own[c] *= chosen_gradient(activation, zs[c]) * mu[c];
    by_packing(packed, [&](auto as_packed) { store_four(as_packed, out + place, left, own); });
}

#define DEFINE(NAME, THREADS, ...)                                                                                    \
    extern "C" __global__ __launch_bounds__(THREADS) void NAME(                                                       \
        const storage* delta, const real* W, const storage* z, const storage* mask, storage* out, int rows, int next, \
        int columns, int delta_columns, int z_columns, int activation, int products_packed, int packed) {             \
        small_delta<__VA_ARGS__>(delta, W, z, mask, out, rows, next, columns, delta_columns, z_columns, activation,   \
                                 products_packed, packed);                                                            \
    }
DEFINE(small_delta_4x128, 256, Dots<4>)
DEFINE(small_delta_2x128, 256, Dots<2>)
#ifdef DELTAPROP_TENSOR_CORES
DEFINE(small_delta_tensor_16x32, 512, Tensors<1, 4>)
DEFINE(small_delta_tensor_32x32, 256, Tensors<2, 4>)
#endif
