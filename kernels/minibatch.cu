// The minibatch of a step that a CUDA graph replays: which step it is stands on the device.
//   x : (n, columns of x)   y : (n, columns of y)   w : (n,) or null, in the order of the epoch
//   order : (n,) or null    table : (steps, TERMS), what differs from step to step
// Rows order[first] ... order[first + rows - 1] of x and y, first = step * batch, go to to_x and to_y, their weights to
// to_w, and the numbers of this step to `current`, from where the kernels that follow take them. accumulate_cost counts
// the step.
#include "real.cuh"

struct alignas(16) Sixteen {
    unsigned word[4];
};

template <class Piece>
__device__ void copy_rows(const real* from, real* to, int columns, const long long* order, long long first, long long rows) {
    const int pieces = columns * (int)sizeof(real) / (int)sizeof(Piece);
    const Piece* source = reinterpret_cast<const Piece*>(from);
    Piece* target = reinterpret_cast<Piece*>(to);
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < rows * pieces; i += step) {
        const long long row = i / pieces, place = first + row;
        target[i] = source[(order ? order[place] : place) * pieces + (i - row * pieces)];
    }
}

extern "C" __global__ void minibatch(const real* x, const real* y, const real* w, const long long* order,
                                     const real* table, const long long* step, real* to_x, real* to_y, real* to_w,
                                     real* current, int x_columns, int y_columns, int x_bytes, int y_bytes, int terms,
                                     long long batch, long long rows) {
    const long long k = step[0], first = k * batch;
    if (x_bytes == 16)
        copy_rows<Sixteen>(x, to_x, x_columns, order, first, rows);
    else
        copy_rows<real>(x, to_x, x_columns, order, first, rows);
    if (y_bytes == 16)
        copy_rows<Sixteen>(y, to_y, y_columns, order, first, rows);
    else
        copy_rows<real>(y, to_y, y_columns, order, first, rows);
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x, all = (long long)gridDim.x * blockDim.x;
    if (w)
        for (long long i = thread; i < rows; i += all) to_w[i] = w[first + i];
    if (thread < terms) current[thread] = table[k * terms + thread];
}
