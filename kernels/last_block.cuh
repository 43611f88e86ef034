// Which block of a launch is the last to be done: it sees what all others have written, and adds up their parts, always
// in the same order. So one launch does what would take two.
#pragma once

// Whether this is the last of `blocks` blocks to come here. All threads of a block have to call it. *ticket is 0 at the
// launch, and 0 again after it.
__device__ inline bool is_last_block(unsigned* ticket, unsigned blocks) {
    __shared__ bool last;
    __threadfence();  // what this thread has written is seen by whoever sees the ticket taken
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
        last = atomicAdd(ticket, 1u) == blocks - 1;
        if (last) *ticket = 0;
    }
    __syncthreads();
    if (last) __threadfence();
    return last;
}
