// Finds the last block of a launch to finish: it sees what all others have written, and adds up their parts, always in
// the same order. So one launch is enough where two would be needed.
#pragma once

// Sets *ticket to *ticket + 1, or to 0 after `last`; returns the old value. Later callers see what was written before.
__device__ inline unsigned take_ticket(unsigned* ticket, unsigned last) {
#ifdef __CUDACC__
    unsigned before;
    asm volatile("atom.acq_rel.gpu.inc.u32 %0, [%1], %2;" : "=r"(before) : "l"(ticket), "r"(last) : "memory");
    return before;
#else
    return host_increment(ticket, last);
#endif
}

// Whether this is the last of `blocks` blocks to come here. All threads of a block must call it. *ticket is 0 at the
// launch, and 0 again after it. One thread takes the ticket for its block; barriers order the others around it.
__device__ inline bool is_last_block(unsigned* ticket, unsigned blocks) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) last = take_ticket(ticket, blocks - 1) == blocks - 1;
    __syncthreads();
    return last;
}
