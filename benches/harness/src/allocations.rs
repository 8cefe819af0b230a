//! Counts heap allocations.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering},
};

/// The system's allocator, with a count of the allocations, growing ones included.
///
/// The count is a plain load and store: the benchmarks have one thread, and a locked instruction
/// an allocation would be added to the time of those that allocate much.
#[derive(Debug)]
pub struct CountingAllocator;

static COUNT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn allocations() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn count() {
    COUNT.store(allocations() + 1, Ordering::Relaxed);
}

// SAFETY: all of it is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}
