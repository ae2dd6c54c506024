//! How a process that mostly waits keeps little memory.

use std::fs;
use std::io;
use std::ops::Range;

/// Lets all threads take memory from one heap: else each has one of its own, none of which shrinks. To be called before
/// there are threads.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    one_heap();
}

/// Gives what is free of the heap back to the kernel, however small the pieces are that lie between.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    trim();
}

/// The pages of the running program's own file in which nothing may be written and nothing was, not even by whoever
/// placed the program where it lies.
#[derive(Debug)]
pub struct Program(Vec<Range<usize>>);

impl Program {
    /// Finds them; they stay where they are.
    pub fn of_this_process() -> io::Result<Self> {
        let file = fs::read_link("/proc/self/exe")?;
        Ok(Self(clean(&fs::read_to_string("/proc/self/smaps")?, &file.to_string_lossy())))
    }

    /// Gives back what is free of the heap, and lets go of these pages: when they are needed they come again from the
    /// file, which the kernel keeps once for all who run it.
    pub fn rest(&self) -> io::Result<()> {
        give_back();
        self.0.iter().try_for_each(let_go)
    }
}

fn clean(smaps: &str, file: &str) -> Vec<Range<usize>> {
    let (mut found, mut of) = (Vec::new(), None);
    for line in smaps.lines() {
        if let Some(written) = line.strip_prefix("Anonymous:") {
            found.extend(of.take().filter(|_| written.trim() == "0 kB"));
        } else if let Some((range, rights)) = mapping(line) {
            let is_kept = matches!(rights, "r-xp" | "r--p") && line.ends_with(&format!(" {file}"));
            of = is_kept.then_some(range);
        }
    }
    found
}

/// The first line of a mapping: its place and its rights.
fn mapping(line: &str) -> Option<(Range<usize>, &str)> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?..number(end)?, words.next()?))
}

#[expect(
    unsafe_code,
    reason = "no library has a call that lets go of pages safely: it depends on what they hold"
)]
fn let_go(range: &Range<usize>) -> io::Result<()> {
    // SAFETY: nothing can be written to the mapping and nothing ever was, so what is read from it afterwards, from the
    // file, is what was read from it before.
    let answer = unsafe {
        libc::madvise(std::ptr::with_exposed_provenance_mut(range.start), range.len(), libc::MADV_DONTNEED)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "settings of the C library's heap")]
fn one_heap() {
    // SAFETY: sets a number within the C library, which takes its own lock for it.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's heap")]
fn trim() {
    // SAFETY: gives back pages that no allocation lies in; the C library takes its own locks for it.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::{Program, clean};

    #[test]
    fn only_pages_of_the_program_that_were_never_written_are_let_go() {
        let smaps = "\
00400000-00500000 r-xp 00000000 fe:00 17    /bin/a program
Rss:                1000 kB
Anonymous:             0 kB
00500000-00600000 r--p 00100000 fe:00 17    /bin/a program
Anonymous:             4 kB
00600000-00700000 r--p 00100000 fe:00 17    /bin/a program
Anonymous:             0 kB
00700000-00800000 rw-p 00200000 fe:00 17    /bin/a program
Anonymous:             0 kB
00800000-00900000 r-xp 00000000 00:00 0     [vdso]
Anonymous:             0 kB
00900000-00a00000 r-xp 00000000 fe:00 18    /lib/another
Anonymous:             0 kB
";
        assert_eq!(clean(smaps, "/bin/a program"), [0x0040_0000..0x0050_0000, 0x0060_0000..0x0070_0000]);
    }

    #[test]
    fn a_program_goes_on_after_it_has_rested() {
        let kept: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let program = Program::of_this_process().expect("found");
        assert!(!program.0.is_empty());
        program.rest().expect("rested");
        program.rest().expect("rested again");
        assert_eq!(kept.iter().map(String::len).sum::<usize>(), 10 + 90 * 2 + 900 * 3);
    }
}
