// The minibatch of a step that a CUDA graph replays: which step it is stands on the device.
//   x : (n, columns of x)   y : (n, columns of y)   w : (n,) or null, in the order of the epoch
//   order : (n,) or null    table : (steps, TERMS), what differs from step to step
// Rows order[first] ... order[first + rows - 1] of x and y, first = step * batch, go to to_x and to_y, their weights to
// to_w, and the numbers of this step to `current`, from where the kernels that follow take them. The kernel of
// the output layer counts the step.
// The first x_blocks blocks copy x, the others all else: 2^log2_x threads a row of x, 2^log2_y a row of y, x_bytes and
// y_bytes at a time.
#include "real.cuh"

struct alignas(16) Sixteen {
    unsigned word[4];
};
struct alignas(8) Eight {
    unsigned word[2];
};

// Pieces that a thread has on their way at a time.
constexpr int IN_FLIGHT = 4;

template <class Piece>
__device__ void copy_rows(const real* from, real* to, int columns, int log2_threads, const long long* order,
                          long long first, long long rows, long long block, long long blocks) {
    const int pieces = columns * (int)sizeof(real) / (int)sizeof(Piece), threads = 1 << log2_threads;
    const long long rows_a_block = 256 >> log2_threads;
#pragma unroll 1
    for (long long row = block * rows_a_block + (threadIdx.x >> log2_threads); row < rows; row += blocks * rows_a_block) {
        const long long place = order ? order[first + row] : first + row;
        const Piece* source = reinterpret_cast<const Piece*>(from) + place * pieces;
        Piece* target = reinterpret_cast<Piece*>(to) + row * pieces;
#pragma unroll 1
        for (int piece = threadIdx.x & (threads - 1); piece < pieces; piece += IN_FLIGHT * threads) {
            Piece held[IN_FLIGHT];
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; ++u)
                if (piece + u * threads < pieces) held[u] = source[piece + u * threads];
#pragma unroll
            for (int u = 0; u < IN_FLIGHT; ++u)
                if (piece + u * threads < pieces) target[piece + u * threads] = held[u];
        }
    }
}

__device__ void copy(int bytes, const real* from, real* to, int columns, int log2_threads, const long long* order,
                     long long first, long long rows, long long block, long long blocks) {
    if (bytes == 16)
        copy_rows<Sixteen>(from, to, columns, log2_threads, order, first, rows, block, blocks);
    else if (bytes == 8)
        copy_rows<Eight>(from, to, columns, log2_threads, order, first, rows, block, blocks);
    else
        copy_rows<real>(from, to, columns, log2_threads, order, first, rows, block, blocks);
}

extern "C" __global__ __launch_bounds__(256)
    void minibatch(const real* x, const real* y, const real* w, const long long* order, const real* table,
              const long long* step, real* to_x, real* to_y, real* to_w, real* current, int x_columns, int y_columns,
              int x_bytes, int y_bytes, int log2_x, int log2_y, int x_blocks, int terms, long long batch,
              long long rows) {
    const long long k = step[0], first = k * batch, block = blockIdx.x - (long long)x_blocks;
    if (block < 0) {
        copy(x_bytes, x, to_x, x_columns, log2_x, order, first, rows, blockIdx.x, x_blocks);
        return;
    }
    const long long blocks = gridDim.x - (long long)x_blocks;
    copy(y_bytes, y, to_y, y_columns, log2_y, order, first, rows, block, blocks);
    const long long thread = block * blockDim.x + threadIdx.x, all = blocks * blockDim.x;
    if (w)
        for (long long i = thread; i < rows; i += all) to_w[i] = w[first + i];
    if (thread < terms) current[thread] = table[k * terms + thread];
}
