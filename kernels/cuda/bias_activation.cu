// z = (W a) + b, a = g(z), after the matrix product has written W a into z: one pass for both.
//   z, a, mask : (members, rows, columns)    b : (members, units)
// Columns beyond the units fill rows up, see padding.py.
// The mask, of dropout, may be null: a = g(z) * mask. z, a and mask are stored as `storage`, b is a `real`.
// Blocks of 32 x 8 threads; a thread stays in its columns, whose biases it holds, and goes down the rows. Grid: column
// tiles of all members, row slices; `width` columns a thread, 1 or as many as fill 16 bytes.
#include "shared/activation.cuh"
#include "cuda/pack.cuh"
#include "cuda/real.cuh"

template <class G, int N>
__device__ void down_the_rows(storage* z, const real* b, const storage* mask, storage* a, int rows, int columns,
                              int units, long long b_stride) {
    const int tiles = (columns + 32 * N - 1) / (32 * N), member = int(blockIdx.x) / tiles;
    const int column = ((int(blockIdx.x) - member * tiles) * 32 + threadIdx.x) * N;
    if (column >= columns) return;
    real bias[N];
    for (int j = 0; j < N; ++j) bias[j] = column + j < units ? b[member * b_stride + column + j] : real(0);
    const long long first = (long long)member * rows * columns;
    for (int row = blockIdx.y * 8 + threadIdx.y; row < rows; row += gridDim.y * 8) {
        const long long i = first + (long long)row * columns + column;
        Pack<storage, N> zi = load_pack<storage, N>(z + i), ai;
        for (int j = 0; j < N; ++j) {
            const real own = load(zi.entry[j]) + bias[j];
            zi.entry[j] = store(own);
            ai.entry[j] = store(G::value(own));
        }
        store_pack<storage, N>(z + i, zi);
        if (mask) {
            const Pack<storage, N> mu = load_pack<storage, N>(mask + i);
            for (int j = 0; j < N; ++j) ai.entry[j] = store(load(ai.entry[j]) * load(mu.entry[j]));
        }
        store_pack<storage, N>(a + i, ai);
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

#define DEFINE(NAME, G)                                                                                            \
    extern "C" __global__ void bias_activation_##NAME(storage* z, const real* b, const storage* mask, storage* a,  \
                                                      int rows, int columns, int units, long long b_stride,        \
                                                      int width) {                                                 \
        bias_activation<G>(z, b, mask, a, rows, columns, units, b_stride, width);                                  \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
