// z = (W a) + b, a = g(z), after the matrix product has written W a into z: one pass for both.
//   z, a, mask : (members, rows, columns)    b : (members, units)
// Columns beyond the units fill rows up, see padding.py.
// The mask, of dropout, may be null: a = g(z) * mask. z, a and mask are stored as `storage`, b is a `real`.
// Blocks of 32 x 8 threads; a thread stays in its columns, whose biases it holds, and goes down the rows. Grid: column
// tiles of all members, row slices; `width` columns a thread, 1 or as many as fill 16 bytes.
#include "cuda/storage_activation.cuh"
#include "cuda/stored_pack.cuh"

// Rows that a thread has on their way at a time.
constexpr int IN_FLIGHT = 2;

template <class G, int N>
__device__ void down_the_rows(storage* z, const real* b, const storage* mask, storage* a, int rows, int columns,
                              int units, long long b_stride) {
    const int tiles = (columns + 32 * N - 1) / (32 * N), member = int(blockIdx.x) / tiles;
    const int column = ((int(blockIdx.x) - member * tiles) * 32 + threadIdx.x) * N;
    if (column >= columns) return;
    real bias[N];
    for (int j = 0; j < N; ++j) bias[j] = column + j < units ? b[member * b_stride + column + j] : real(0);
    const int step = gridDim.y * 8;
    const long long down = (long long)step * columns;
    int row = blockIdx.y * 8 + threadIdx.y;
    long long i = ((long long)member * rows + row) * columns + column;
#pragma unroll 1
    for (; row < rows; row += IN_FLIGHT * step, i += IN_FLIGHT * down) {
        StoredPack<N> affine[IN_FLIGHT];
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u)
            if (row + u * step < rows) affine[u] = load_stored<N>(z + i + u * down);
#pragma unroll
        for (int u = 0; u < IN_FLIGHT; ++u) {
            if (row + u * step >= rows) continue;
            Pack<real, N> zi, ai;
            for (int j = 0; j < N; ++j) {
                zi.entry[j] = affine[u].entry(j) + bias[j];
                ai.entry[j] = G::value(zi.entry[j]);
            }
            store_rounded<N>(z + i + u * down, zi);
            if (mask) {
                const StoredPack<N> mu = load_stored<N>(mask + i + u * down);
                for (int j = 0; j < N; ++j) ai.entry[j] *= mu.entry(j);
            }
            store_rounded<N>(a + i + u * down, ai);
        }
    }
}

template <class G>
__device__ void bias_activation(storage* z, const real* b, const storage* mask, storage* a, int rows, int columns,
                                int units, long long b_stride, int width) {
    if (width == 1)
        down_the_rows<G, 1>(z, b, mask, a, rows, columns, units, b_stride);
    else
        down_the_rows<G, 16 / sizeof(storage)>(z, b, mask, a, rows, columns, units, b_stride);
}

#define DEFINE(NAME, G)                                                                                              \
    extern "C" __global__ __launch_bounds__(256, 4) void bias_activation_##NAME(                                     \
        storage* z, const real* b, const storage* mask, storage* a, int rows, int columns, int units,                \
        long long b_stride, int width) {                                                                             \
        bias_activation<ForStorage<G>>(z, b, mask, a, rows, columns, units, b_stride, width);                        \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
