//! The allocator for programs that train: mimalloc, told to keep what is freed.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

/// The global allocator of a program whose tensors come and go at every step.
pub use mimalloc::MiMalloc as Allocator;

/// `mi_option_purge_delay` of mimalloc 2 and 3, the option before one that the bindings name.
const PURGE_DELAY: c_int = libmimalloc_sys::mi_option_use_numa_nodes - 1;
const NEVER: c_long = -1;

/// Freed memory stays with the process; by itself mimalloc gives it back to the system after a second. A step of training frees
/// what the next one takes, and memory that went back meanwhile comes anew, page by page, cleared. Of no effect where
/// [`Allocator`] is not the global allocator.
pub fn keep_freed_memory() {
    // SAFETY: the call stores one word in mimalloc's own table of options, as mimalloc does itself whenever an option is first
    // read, on whatever thread that is; a number that the table does not hold is ignored.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, NEVER) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_delay() {
        // SAFETY: reads one integer of the same table.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "mimalloc's own delay, in milliseconds");
        keep_freed_memory();
        assert_eq!(delay(), NEVER);
    }
}
