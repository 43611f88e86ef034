// delta^(l) = (W^T delta^(l+1)) * g'(z^(l)), after the matrix product has written W^T delta^(l+1) into delta,
// and in the same pass the bias gradient, which is the sum of delta^(l) over the samples.
//   delta, z, mask : (members, rows, columns)
// The mask, of dropout, may be null: delta^(l) is multiplied by it as a^(l) was.
// A block of 32 x 8 threads takes 32 columns and rows_per_block rows (grid: column tiles, row slices, members)
// and writes its sums to sums : (members, row slices, columns). With more than one slice column_sum adds them up.
// No atomics: the order of summation is fixed, so the same input gives the same bits.
#include "activation.cuh"
#include "real.cuh"

__device__ void reduce_columns(real sum, real* sums, int columns, long long sums_stride) {
    __shared__ real partial[8][33];
    const int column = blockIdx.x * 32 + threadIdx.x;
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < columns) {
        for (int k = 1; k < 8; ++k) sum += partial[k][threadIdx.x];
        sums[blockIdx.z * sums_stride + (long long)blockIdx.y * columns + column] = sum;
    }
}

template <class G>
__device__ void hidden_delta(real* delta, const real* z, const real* mask, real* sums, int rows, int columns,
                             int rows_per_block, long long sums_stride) {
    const int column = blockIdx.x * 32 + threadIdx.x;
    const long long member = (long long)blockIdx.z * rows * columns;
    const int first = blockIdx.y * rows_per_block;
    const int last = first + rows_per_block < rows ? first + rows_per_block : rows;
    real sum = 0;
    if (column < columns)
        for (int row = first + threadIdx.y; row < last; row += 8) {
            const long long i = member + (long long)row * columns + column;
            real d = delta[i] * G::gradient(z[i]);
            if (mask) d *= mask[i];
            delta[i] = d;
            sum += d;
        }
    reduce_columns(sum, sums, columns, sums_stride);
}

// The bias gradient alone: of the output layer, and of the slices left by the kernels above.
extern "C" __global__ void column_sum(const real* x, real* sums, int rows, int columns, int rows_per_block,
                                      long long sums_stride) {
    const int column = blockIdx.x * 32 + threadIdx.x;
    const long long member = (long long)blockIdx.z * rows * columns;
    const int first = blockIdx.y * rows_per_block;
    const int last = first + rows_per_block < rows ? first + rows_per_block : rows;
    real sum = 0;
    if (column < columns)
        for (int row = first + threadIdx.y; row < last; row += 8) sum += x[member + (long long)row * columns + column];
    reduce_columns(sum, sums, columns, sums_stride);
}

#define DEFINE(NAME, G)                                                                                   \
    extern "C" __global__ void hidden_delta_##NAME(real* delta, const real* z, const real* mask, real* sums, int rows, \
                                                   int columns, int rows_per_block, long long sums_stride) { \
        hidden_delta<G>(delta, z, mask, sums, rows, columns, rows_per_block, sums_stride);                \
    }
DELTAPROP_FOR_EACH_ACTIVATION(DEFINE)
