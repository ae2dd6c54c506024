//! What the compiler calls for moves of memory, which a libc would have. Volatile, lest the compiler see in them what
//! they are and have them call themselves.

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for offset in 0..length {
        // SAFETY: the caller vouches for `length` bytes at either place.
        let byte = unsafe { from.add(offset).read_volatile() };
        // SAFETY: likewise.
        unsafe { to.add(offset).write_volatile(byte) };
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    for offset in 0..length {
        // SAFETY: the caller vouches for `length` bytes.
        unsafe { to.add(offset).write_volatile(value.to_le_bytes()[0]) };
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    for offset in 0..length {
        // SAFETY: the caller vouches for `length` bytes at either place.
        let one = unsafe { left.add(offset).read_volatile() };
        // SAFETY: likewise.
        let other = unsafe { right.add(offset).read_volatile() };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(left, right, length) }
}
