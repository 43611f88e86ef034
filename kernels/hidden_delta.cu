// delta^(l) = (W^T delta^(l+1)) * g'(z^(l)), after the matrix product has written W^T delta^(l+1) into delta,
// and in the same pass the bias gradient, which is the sum of delta^(l) over the samples.
//   delta, z, mask : (members, rows, columns)
// The mask, of dropout, may be null: delta^(l) is multiplied by it as a^(l) was. delta, z and mask are stored as
// `storage`; sums are `real`, of delta before it is rounded to that.
// A block of 32 x 8 threads takes 32 `width` columns and rows_per_block rows (grid: column tiles, row slices, members)
// and writes its sums to sums : (members, row slices, columns); width is 1 or as many as fill 16 bytes. With more than
// one slice column_sum adds them up. What sums held before is kept `keep` times: 0 writes them, 1 adds.
// No atomics: the order of summation is fixed, so the same input gives the same bits.
#include "activation.cuh"
#include "pack.cuh"
#include "real.cuh"

#define SIZES int rows, int columns, int rows_per_block, long long sums_stride, real keep, int width

// f(place, sum) for each row of this thread's columns; `sum` is written out, added up over the block.
template <int N, class F>
__device__ void down_the_rows(real* sums, int rows, int columns, int rows_per_block, long long sums_stride, real keep,
                              F f) {
    __shared__ real partial[8][32 * N + 1];
    const int column = (blockIdx.x * 32 + threadIdx.x) * N;
    const long long member = (long long)blockIdx.z * rows * columns;
    const int first = blockIdx.y * rows_per_block;
    const int last = first + rows_per_block < rows ? first + rows_per_block : rows;
    Pack<real, N> sum = {};
    if (column < columns)
        for (int row = first + threadIdx.y; row < last; row += 8) f(member + (long long)row * columns + column, sum);
    for (int j = 0; j < N; ++j) partial[threadIdx.y][threadIdx.x * N + j] = sum.entry[j];
    __syncthreads();
    for (int j = threadIdx.y; j < N; j += 8) {
        const int here = j * 32 + threadIdx.x, to = blockIdx.x * 32 * N + here;
        if (to >= columns) continue;
        real total = partial[0][here];
        for (int k = 1; k < 8; ++k) total += partial[k][here];
        const long long i = blockIdx.z * sums_stride + (long long)blockIdx.y * columns + to;
        sums[i] = keep == real(0) ? total : keep * sums[i] + total;
    }
}

template <class G, int N>
__device__ void hidden_delta(storage* delta, const storage* z, const storage* mask, real* sums, SIZES) {
    down_the_rows<N>(sums, rows, columns, rows_per_block, sums_stride, keep, [&](long long i, Pack<real, N>& sum) {
        Pack<storage, N> d = load_pack<storage, N>(delta + i), mu = {};
        const Pack<storage, N> zi = load_pack<storage, N>(z + i);
        if (mask) mu = load_pack<storage, N>(mask + i);
        for (int j = 0; j < N; ++j) {
            real own = load(d.entry[j]) * G::gradient(load(zi.entry[j]));
            if (mask) own *= load(mu.entry[j]);
            sum.entry[j] += own;
            d.entry[j] = store(own);
        }
        store_pack<storage, N>(delta + i, d);
    });
}

template <int N> __device__ void sum_columns(const storage* x, real* sums, SIZES) {
    down_the_rows<N>(sums, rows, columns, rows_per_block, sums_stride, keep, [&](long long i, Pack<real, N>& sum) {
        const Pack<storage, N> xi = load_pack<storage, N>(x + i);
        for (int j = 0; j < N; ++j) sum.entry[j] += load(xi.entry[j]);
    });
}

// The bias gradient alone: of the output layer, and of the slices left by the kernels above.
extern "C" __global__ void column_sum(const storage* x, real* sums, SIZES) {
    if (width == 1)
        sum_columns<1>(x, sums, rows, columns, rows_per_block, sums_stride, keep, width);
    else
        sum_columns<16 / sizeof(storage)>(x, sums, rows, columns, rows_per_block, sums_stride, keep, width);
}

#define DEFINE(NAME, G)                                                                                             \
    extern "C" __global__ void hidden_delta_##NAME(storage* delta, const storage* z, const storage* mask, real* sums, \
                                                   SIZES) {                                                           \
        if (width == 1)                                                                                               \
            hidden_delta<G, 1>(delta, z, mask, sums, rows, columns, rows_per_block, sums_stride, keep, width);        \
        else                                                                                                          \
            hidden_delta<G, 16 / sizeof(storage)>(delta, z, mask, sums, rows, columns, rows_per_block, sums_stride,   \
                                                  keep, width);                                                       \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
